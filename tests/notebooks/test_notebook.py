"""The start of a notebook: only what is missing is installed, and the Drive is what it says."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import packaging
import pytest

from s2i_lib import notebook

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed here"
)


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    """``start`` changes the environment of the whole process."""
    for name in ("PYTHONPATH", "S2I_DRIVE"):
        monkeypatch.setenv(name, os.environ.get(name, ""))


@needs_torch
def test_nothing_is_missing_where_the_tests_run():
    assert notebook.missing_requirements() == []


def test_what_is_missing_is_found_by_name_whatever_its_range(tmp_path, monkeypatch):
    (tmp_path / "requirements.txt").write_text(
        "# words\nnumpy>=2.0,<3\nno-such-package-s2i>=1.2  # why\n"
        f'other-missing>=1; sys_platform == "{sys.platform}"\n'
        'not-for-us>=1; sys_platform == "elsewhere"\n'
    )
    monkeypatch.setattr(notebook, "REPOSITORY", tmp_path)
    assert notebook.missing_requirements() == ["no-such-package-s2i>=1.2", "other-missing>=1"]


@pytest.mark.parametrize("has_cuda", [True, False])
def test_what_a_gpu_alone_needs_is_asked_for_where_there_is_one(tmp_path, monkeypatch, has_cuda):
    line = 'eight-bits-s2i>=0.48; sys_platform != "elsewhere" and extra == "cuda"\n'
    (tmp_path / "requirements.txt").write_text(line)
    monkeypatch.setattr(notebook, "REPOSITORY", tmp_path)
    monkeypatch.setattr(notebook, "_has_cuda", lambda: has_cuda)
    assert notebook.missing_requirements() == (["eight-bits-s2i>=0.48"] if has_cuda else [])


def test_versions_outside_the_range_are_named_and_no_others(tmp_path, monkeypatch):
    (tmp_path / "requirements.txt").write_text("numpy>=999\npytest>=7\nno-such-package-s2i>=1\n")
    monkeypatch.setattr(notebook, "REPOSITORY", tmp_path)
    version = importlib.metadata.version("numpy")
    assert notebook.outside_range() == [f"numpy {version}, expected >=999"]


@pytest.mark.parametrize(
    ("tested", "found", "is_doubted"),
    [
        ("0.42.1", "0.43.0", True),
        ("0.42.1", "0.42.9", False),
        ("5.24.0", "5.30.1", False),
        ("5.24.0", "6.0.0", True),
        ("5.24.0", "6.0.0rc1+cu128", True),
        ("5.24.0", "4.57.6", False),
        ("5.24.0", "5.odd", False),
    ],
)
def test_a_later_release_line_than_was_tested_is_doubted_aloud(
    tmp_path, monkeypatch, tested, found, is_doubted
):
    (tmp_path / "newest.txt").write_text(f"# the newest\nnamed=={tested}\nnot-there==1.0\n")
    (tmp_path / "requirements.txt").write_text("other-s2i>=1\n")
    monkeypatch.setattr(notebook, "REPOSITORY", tmp_path)
    monkeypatch.setattr(notebook, "NEWEST", tmp_path / "newest.txt")
    versions = {"named": found}
    monkeypatch.setattr(notebook, "_installed_version", versions.get)
    said = [f"named {found}, tested up to {tested}"] if is_doubted else []
    assert notebook.newer_than_tested() == said
    assert notebook.outside_range() == []


def test_nothing_is_outside_its_range_where_the_tests_run():
    assert notebook.outside_range() == []
    assert notebook.newer_than_tested() == []


def wheel(folder: Path, name: str, version: str, *needs: str) -> None:
    """An empty package, as a wheel."""
    info = f"{name}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        f"{info}/METADATA": head + "".join(f"Requires-Dist: {need}\n" for need in needs),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        for path, text in files.items():
            file.writestr(path, text)


@pytest.fixture(scope="module")
def like_colab(tmp_path_factory):
    """``install(*lines)`` is install_missing() with these lines, in a Python like Colab's.

    It has a torch of a local version, and behind its own packages the system's: an older copy of
    one, and one whose version pip cannot read. Wheels of newer ones are at hand.
    """
    root = tmp_path_factory.mktemp("like_colab")
    venv.create(root / "venv", with_pip=True)
    python = root / "venv" / "bin" / "python"
    wheels, system = root / "wheels", root / "system"
    wheels.mkdir()
    for version in ("1.0+cu1", "2.0"):
        wheel(wheels, "tuned", version)
    for version in ("1.0", "2.0", "3.0"):
        wheel(wheels, "shadowed", version)
    wheel(wheels, "wanted", "1.0", "shadowed>=1", "tuned>=1")
    wheel(wheels, "hungry", "1.0", "tuned>=2")
    home = Path(packaging.__file__).parent
    code = (
        "import json, sys; from pathlib import Path; from s2i_lib import notebook\n"
        "notebook.REPOSITORY = Path(sys.argv[1])\nprint(notebook.install_missing())"
    )
    environment = {
        **os.environ,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }

    def pip(*words: object) -> str:
        done = subprocess.run(
            [python, "-m", "pip", *words],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    pip("install", "tuned==1.0+cu1", "shadowed==2.0")
    pip("install", "--target", system, "shadowed==1.0")
    (odd := system / "odd-0.1.43ubuntu1.dist-info").mkdir()
    (odd / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 0.1.43ubuntu1\n")
    [site] = (root / "venv").glob("lib/*/site-packages")
    (site / "system.pth").write_text(f"{system}\n")
    shutil.copytree(home, site / "packaging")

    def install(*lines: str) -> tuple[subprocess.CompletedProcess, dict[str, str]]:
        (root / "requirements.txt").write_text("\n".join(lines))
        done = subprocess.run(
            [python, "-c", code, root], env=environment, capture_output=True, text=True
        )
        own = json.loads(pip("list", "--path", site, "--format", "json"))
        return done, {one["name"]: one["version"] for one in own if one["name"] != "pip"}

    return install


@pytest.mark.slow
def test_installation_adds_what_is_missing_and_changes_nothing_else(like_colab):
    done, versions = like_colab("tuned>=1", "wanted>=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Installed what was missing: wanted>=1.\n"
    versions.pop("setuptools", None)
    assert versions == {"tuned": "1.0+cu1", "shadowed": "2.0", "wanted": "1.0"}


@pytest.mark.slow
def test_installation_fails_aloud_rather_than_replace_what_is_there(like_colab):
    """A package that needs a newer torch than Colab's must not bring it along."""
    done, versions = like_colab("hungry>=1")
    assert done.returncode != 0
    assert "S2iError: These packages are missing and could not be installed: hungry" in done.stderr
    assert versions["tuned"] == "1.0+cu1" and "hungry" not in versions


@needs_torch
def test_named_folder_wins_and_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("S2I_DRIVE", str(tmp_path / "x"))
    said = []
    drive = notebook.start(said.append)
    assert drive.root == tmp_path / "x" and drive.root.is_dir()
    assert "S2I_DRIVE says so" in said[-2]


@needs_torch
def test_local_folder_is_said_and_lies_beside_the_notebooks(tmp_path, monkeypatch):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    monkeypatch.setenv("S2I_DRIVE", "")
    monkeypatch.setattr(notebook, "REPOSITORY", tmp_path)
    (tmp_path / "notebooks").mkdir()
    said = []
    drive = notebook.start(said.append)
    assert drive.root == tmp_path / "s2i_drive"
    assert "This is not Colab" in said[-2]


@needs_torch
def test_running_the_cell_again_asks_again_and_still_heeds_the_users_own_folder(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    monkeypatch.setenv("S2I_DRIVE", "")
    monkeypatch.setattr(notebook, "REPOSITORY", tmp_path)
    monkeypatch.setattr(notebook, "_set_here", "")
    (tmp_path / "notebooks").mkdir()
    said = []
    first, second = notebook.start(said.append), notebook.start(said.append)
    assert first.root == second.root and said[1] == said[4]
    assert "This is not Colab" in said[4], "it took its own choice for the user's"
    monkeypatch.setenv("S2I_DRIVE", str(tmp_path / "mine"))
    assert notebook.start(said.append).root == tmp_path / "mine"
    assert notebook.start(said.append).root == tmp_path / "mine"


@needs_torch
def test_the_table_says_what_there_is_to_work_with(tmp_path, monkeypatch):
    import torch

    monkeypatch.setenv("S2I_DRIVE", str(tmp_path / "x"))
    said = []
    notebook.start(said.append)
    rows = dict(line.split(maxsplit=1) for line in said[-1].splitlines())
    assert list(rows) == ["GPU", "CPU", "Versions", "Drive", "Model", "Whisper", "Scorer"]
    assert len({line.index(rows[line.split()[0]]) for line in said[-1].splitlines()}) == 1, "ragged"
    version = f"Python {sys.version_info[0]}.{sys.version_info[1]}."
    assert rows["Versions"].startswith(version)
    for name in ("torch", "diffusers", "transformers"):
        assert f"{name} {importlib.metadata.version(name)}" in rows["Versions"]
    assert re.fullmatch(rf"{tmp_path}/x, \d+ GB free", rows["Drive"])
    if not torch.cuda.is_available():
        assert rows["GPU"] == "none" and rows["Model"].startswith("auto takes pocket, since")
        assert rows["Scorer"].startswith("pocket/scorer")


@needs_torch
def test_the_table_of_a_t4_names_its_memory_and_stable_diffusion(drive, monkeypatch):
    import torch

    gib = 1024**3
    for name, value in (
        ("is_available", True),
        ("mem_get_info", (14 * gib, 15 * gib)),
        ("get_device_name", "Tesla T4"),
    ):
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    rows = notebook.overview(drive)
    assert rows["GPU"] == "Tesla T4, 15.0 GiB of memory, 14.0 free"
    assert "sd2.1-base" in rows["Model"] and rows["Scorer"] == "openai/clip-vit-large-patch14"


@needs_torch
def test_commands_in_cells_find_the_library_and_what_the_user_had_on_the_path(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("S2I_DRIVE", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    for _ in range(2):
        notebook.start(lambda line: None)
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(notebook.REPOSITORY), "/theirs"]


def test_loading_it_loads_nothing_heavy():
    code = "import sys, s2i_lib.notebook; print({'torch', 'numpy', 'diffusers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"

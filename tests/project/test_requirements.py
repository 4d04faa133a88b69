"""What is installed: Colab keeps its packages, and the pinned set is Colab's where it has one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.colab_python import COLAB, IMAGES, ROOT, canonical, pins, requirement_lines
from tests.twin.torchao import write_torchao

# Where the tests' own environment leaves Colab's versions: torch (the CPU build of a newer
# release), JupyterLab 4 with ipywidgets 8, which is what people have at home (Colab's widgets are
# tested apart), and tools that nothing of ours imports.
LOCAL = """
    torch ipywidgets widgetsnbextension jupyterlab-widgets ipykernel ipython traitlets
    tornado pyzmq jupyter-client jupyter-server nbclient nbconvert mistune debugpy anyio
    websocket-client rpds-py send2trash argon2-cffi-bindings wcwidth psutil setuptools
    triton tifffile
"""

NEWEST = ROOT / "s2i_lib" / "newest.txt"


def test_constraints_are_colabs_versions_where_colab_ships_the_package():
    colab, ours = pins(COLAB), pins(ROOT / "constraints.txt")
    other = {
        name: (version, colab[name])
        for name, version in ours.items()
        if name in colab and version != colab[name] and name not in LOCAL.split()
    }
    assert other == {}
    needless = [name for name in LOCAL.split() if ours[name] == colab.get(name)]
    assert needless == []


@pytest.mark.slow
@pytest.mark.parametrize("image", IMAGES)
def test_requirements_change_nothing_that_colab_ships(tmp_path, image):
    """Resolved for Colab's Python with Colab's whole list as constraints: there is a solution."""
    path, python = IMAGES[image]
    colab = pins(path)
    # CUDA's own packages come with torch from an index that is not everybody's.
    own = re.compile(r"nvidia|triton|cuda|cu\d+$|^torch|^cu[dpfm]|rapids|^lib(cu|raft|ucx|kvikio)")
    names = {re.split(r"[<>=!;\s]", line)[0] for line in requirement_lines()}
    kept = {name: v for name, v in colab.items() if not own.search(name) and "+" not in v}
    listed = tmp_path / "colab.txt"
    listed.write_text("".join(f"{name}=={version}\n" for name, version in kept.items()))
    wanted = tmp_path / "wanted.txt"
    # torch's own range is compared below: its CUDA build cannot be resolved from a plain index
    lines = [line.replace(' and extra == "cuda"', "") for line in requirement_lines()]
    wanted.write_text("\n".join(line for line in lines if "torch" not in line))
    done = subprocess.run(
        [
            sys.executable, "-m", "uv", "pip", "compile", wanted, "--constraint", listed,
            "--python-version", python, "--no-python-downloads", "--no-header", "--no-annotate",
            "--quiet", "--override", overridden(tmp_path),
        ],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    solution = tmp_path / "solution.txt"
    solution.write_text(done.stdout)
    resolved = pins(solution)
    changed = {n: (v, kept[n]) for n, v in resolved.items() if n in kept and v != kept[n]}
    assert changed == {}
    added = sorted(set(resolved) - set(colab))
    print("added to Colab:", ", ".join(added))
    # Without bitsandbytes the T4's own defaults would need more memory than it has.
    assert {"faster-whisper", "openai-whisper", "av", "rapidfuzz", "bitsandbytes"} <= set(added)
    assert {canonical(name) for name in names} <= set(resolved) | {"torch"}


def overridden(folder: Path) -> Path:
    """torch as Colab has it, whoever asks: any build will do to see what else would change."""
    path = folder / "override.txt"
    path.write_text("torch>=2.11\n")
    return path


@pytest.mark.parametrize("image", IMAGES)
def test_what_colab_ships_lies_in_our_ranges(image):
    path, _ = IMAGES[image]
    colab, wanted = pins(path), [Requirement(line) for line in requirement_lines()]
    shipped = {one: colab[canonical(one.name)] for one in wanted if canonical(one.name) in colab}
    assert {"torch", "diffusers", "transformers", "peft"} <= {one.name for one in shipped}
    outside = [f"{one}: {v}" for one, v in shipped.items() if v not in one.specifier]
    assert outside == []


@pytest.mark.parametrize("image", IMAGES)
def test_colabs_torchao_is_the_one_that_the_twin_has(image, tmp_path):
    version = pins(IMAGES[image][0])["torchao"]
    assert (write_torchao(tmp_path) / f"torchao-{version}.dist-info" / "METADATA").is_file()


def test_no_version_is_too_new():
    """pip takes a bound for a wish: it would put an older version in place of Colab's newer one."""
    wanted = [Requirement(line) for line in requirement_lines()]
    assert [str(one) for one in wanted if not one.specifier.contains("99999999.9")] == []


def test_the_newest_versions_that_were_tested_are_known_of_every_requirement():
    """`make newest` writes them; the set-up cell says where something newer is installed."""
    newest, constraints = pins(NEWEST), pins(ROOT / "constraints.txt")
    assert set(newest) == {canonical(Requirement(line).name) for line in requirement_lines()}
    older = [n for n, v in newest.items() if Version(v) < Version(constraints[n].split("+")[0])]
    assert older == []


def test_requirements_never_name_what_colab_must_keep_exactly():
    """Ranges only: an exact pin would make pip replace Colab's own on its next image."""
    wanted = [line.split(";")[0] for line in requirement_lines()]
    assert [line for line in wanted if "==" in line or "torchvision" in line] == []

"""What every notebook keeps to, and that each runs from top to bottom without a click."""

from __future__ import annotations

import ast
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import papermill
import PIL.Image
import psutil
import pytest
import torch
from tiny_model import make_pipeline
from tiny_run import digest

from s2i_lib.drawing.draw import draw
from s2i_lib.drawing.gallery import read_record
from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.templates import with_article
from s2i_lib.storage.layout import Drive
from s2i_lib.storage.run_card import EDITIONS
from s2i_lib.training.run import choose_run
from tools.pocket import words

REPOSITORY = Path(__file__).parents[2]
START = REPOSITORY / "notebooks" / "0_start_here.ipynb"  # one page, without forms
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("[1-9]*.ipynb"))
FAKE_COLAB = REPOSITORY / "tests" / "fake_colab"
MOST_LINES = 15


def read(path: Path):
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def tagged(path: Path) -> list:
    return [c for c in code_cells(path) if "parameters" in c.metadata.get("tags", [])]


def set_up(path: Path) -> str:
    return "\n".join(cell.source for cell in code_cells(path)[:2])


SET_UP = set_up(NOTEBOOKS[0])
every_notebook = pytest.mark.parametrize("path", [START, *NOTEBOOKS], ids=lambda path: path.stem)
every_step = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@every_notebook
def test_nothing_of_a_run_is_stored(path):
    for cell in code_cells(path):
        assert cell.outputs == [] and cell.execution_count is None
    assert "widgets" not in read(path).metadata


@every_notebook
def test_format_is_valid_and_kernel_is_python(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"


def test_colab_opens_those_that_draw_or_train_with_a_gpu():
    """As Colab writes it into a notebook's metadata when somebody picks a T4 and saves."""
    asking = [
        path for path in [START, *NOTEBOOKS] if read(path).metadata.get("accelerator") == "GPU"
    ]
    assert [path.name[0] for path in asking] == ["0", "2", "3", "4"]
    assert all(read(path).metadata.colab.gpuType == "T4" for path in asking)


def test_notebook_2_ends_by_waiting_until_google_has_all_of_it():
    """What a mounted Drive acknowledges goes with Colab's machine (colabtools issues 659, 287)."""
    [path] = [path for path in NOTEBOOKS if path.name.startswith("2_")]
    names = [
        node.func.id
        for node in ast.walk(ast.parse(code_cells(path)[-1].source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert "finish_upload" in names


@every_notebook
def test_begins_with_title_badge_and_four_lines(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith(f"# {path.name[0]} ")
    assert f"/notebooks/{path.name})" in first.source, "the badge opens another notebook"
    for word in ("What for", "Reads", "Writes", "Minutes"):
        assert f"- **{word}:**" in first.source


@every_step
def test_set_up_is_short_and_the_same_everywhere(path):
    """A cell that finds the library, and one that begins with it."""
    find, begin = (cell.source for cell in code_cells(path)[:2])
    assert f"{find}\n{begin}" == SET_UP
    assert len(find.splitlines()) <= 8
    assert begin == "import s2i_lib as s2i\n\ndrive = s2i.start()"


def test_the_page_is_two_cells_of_which_colab_shows_the_titles():
    set_up, page = code_cells(START)
    title, _, source = set_up.source.partition("\n")
    assert title.startswith("# @title ") and source == SET_UP.replace(
        "\nimport s2i", "\n\nimport s2i"
    )
    assert page.source.startswith("# @title ") and len(page.source.splitlines()) <= 4
    assert all(cell.metadata.cellView == "form" for cell in (set_up, page))


@every_notebook
def test_the_library_is_its_face_and_three_modules_at_most(path):
    source = "\n".join(cell.source for cell in code_cells(path))
    assert len(set(re.findall(r"^from (s2i_lib\S+) import", source, re.MULTILINE))) <= 3
    assert set(re.findall(r"^import (s2i_lib.*)$", source, re.MULTILINE)) == {"s2i_lib as s2i"}


@every_notebook
def test_cells_are_short(path):
    for cell in code_cells(path):
        assert len(cell.source.splitlines()) <= MOST_LINES, cell.source


@every_step
def test_forms_are_one_literal_a_line_in_one_tagged_cell(path):
    (cell,) = tagged(path)
    with_forms = [c for c in code_cells(path)[1:] if "@param" in c.source]
    assert with_forms == [cell]
    for line in cell.source.splitlines():
        if line.startswith("#"):
            continue
        assert re.search(r"  # @param [\[{]", line), line
        (statement,) = ast.parse(line).body
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)


@every_step
def test_papermill_knows_every_parameter_and_its_default(path):
    (cell,) = tagged(path)
    wanted = {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in ast.parse(cell.source).body
    }
    known = papermill.inspect_notebook(str(path))
    assert {name: ast.literal_eval(one["default"]) for name, one in known.items()} == wanted


@every_step
def test_every_form_is_explained_above_it(path):
    cells = read(path).cells
    [at] = [i for i, c in enumerate(cells) if "parameters" in c.metadata.get("tags", [])]
    names = re.findall(r"^([A-Z_]+) = ", cells[at].source, re.MULTILINE)
    assert [name for name in names if f"`{name}`" not in cells[at - 1].source] == []


@every_notebook
def test_no_stale_habits(path):
    source = "\n".join(cell.source for cell in code_cells(path)[1:])  # the first finds the library
    for habit in ("pip install", "hf_", "exec(", "import *", "%%capture"):
        assert habit not in source


@every_notebook
def test_functions_are_display_glue_only(path):
    for cell in code_cells(path):
        assert not re.search(r"^(def|class) ", cell.source, re.MULTILINE), cell.source


@every_notebook
def test_links_between_notebooks_lead_somewhere(path):
    planned = {
        "0_start_here", "1_capture_dataset", "2_finetune_dreambooth", "3_speech_to_image",
        "4_evaluate", "5_inside_latent_diffusion",
    }  # fmt: skip
    for cell in read(path).cells:
        for target in re.findall(r"\]\((\w+)\.ipynb\)", cell.source):
            assert target in planned


def launch(
    path: Path, tmp_path: Path, environment: dict[str, str], **parameters
) -> subprocess.Popen:
    """Begin to run a notebook as papermill does; it writes what came of it into ran.ipynb."""
    code = (
        "import sys, json, papermill\n"
        "papermill.execute_notebook(sys.argv[1], sys.argv[2], parameters=json.loads(sys.argv[3]),"
        " cwd=sys.argv[4], progress_bar=False, kernel_name='python3')\n"
    )
    output = tmp_path / "ran.ipynb"
    (tmp_path / "elsewhere").mkdir(exist_ok=True)
    home = {"PYTHONPATH": str(REPOSITORY), "IPYTHONDIR": str(tmp_path)}
    return subprocess.Popen(
        [sys.executable, "-c", code, path, output, json.dumps(parameters), tmp_path / "elsewhere"],
        env={**os.environ, **home, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(path: Path, tmp_path: Path, environment: dict[str, str], **parameters) -> str:
    """Run a notebook to its end; everything that it printed."""
    running = launch(path, tmp_path, environment, **parameters)
    _, complaints = running.communicate()
    assert running.returncode == 0, complaints[-3000:]
    outputs = [o for c in code_cells(tmp_path / "ran.ipynb") for o in c.outputs]
    return "".join(o.text for o in outputs if o.output_type == "stream")


def colab(tmp_path: Path, answer: str = "allow") -> tuple[dict[str, str], Path]:
    """The environment of a kernel in Colab, as near as it can be had, and its MyDrive."""
    content = tmp_path / "content"
    content.mkdir(exist_ok=True)
    environment = {
        "PYTHONPATH": f"{FAKE_COLAB}:{REPOSITORY}",
        "COLAB_RELEASE_TAG": "release-colab_20260819",
        "FAKE_COLAB_CONTENT": str(content),
        "FAKE_COLAB_MOUNT": answer,
        "S2I_DRIVE": "",
        "S2I_LOCAL": str(tmp_path / "local"),
    }
    return environment, content / "drive" / "MyDrive"


def set_up_twice(tmp_path: Path, source: str) -> Path:
    """A notebook of the set-up alone (it is the same everywhere), run and run again."""
    cells = [nbformat.v4.new_code_cell(source) for _ in range(2)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "x.ipynb")
    return tmp_path / "x.ipynb"


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["allow", "refuse", "hang"])
def test_set_up_in_colab_says_where_everything_is_kept_each_time(answer, tmp_path):
    """Twice in one runtime, then in the next one, whatever the user answers."""
    environment, mydrive = colab(tmp_path, answer)
    notebook = set_up_twice(tmp_path, SET_UP)
    for _ in range(2):
        said = run(notebook, tmp_path, environment)
        assert said.count("Model     auto takes") == 2
        if answer == "allow":
            assert said.count("Everything is kept on your Google Drive") == 2
            assert (mydrive / "s2i").is_dir()
        else:
            assert said.count("Google Drive was not opened") == said.count("DELETED") == 2
            assert not mydrive.exists() and (tmp_path / "content" / "s2i_drive").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["allow", "refuse"])
def test_folder_of_the_users_own_on_google_drive_is_mounted_or_nothing_goes_on(answer, tmp_path):
    """It was made on the runtime's own disk, which is deleted, and said to be on the Drive."""
    environment, mydrive = colab(tmp_path, answer)
    environment["S2I_DRIVE"] = str(mydrive / "mine")
    running = launch(set_up_twice(tmp_path, SET_UP), tmp_path, environment)
    _, complaints = running.communicate()
    assert (mydrive / "mine").is_dir() == (answer == "allow")
    if answer == "allow":
        assert running.returncode == 0, complaints[-3000:]
    else:
        assert running.returncode and "which was not opened (MessageError" in complaints


@pytest.mark.slow
def test_set_up_mounts_a_drive_anew_whose_mount_has_died(tmp_path):
    """The real thing: a FUSE file system whose process was killed gives errno 107 to everybody."""
    if not (Path("/dev/fuse").exists() and shutil.which("fusermount3")):
        pytest.skip("FUSE is missing here, so a mount cannot die")
    environment, mydrive = colab(tmp_path)
    mydrive.parent.mkdir()
    (tmp_path / "behind" / "MyDrive").mkdir(parents=True)
    (tmp_path / "fault").write_text("")
    script = REPOSITORY / "tests" / "twin" / "google_drive.py"
    command = [sys.executable, script, tmp_path / "behind", mydrive.parent, tmp_path / "fault"]
    mounted = subprocess.Popen(command)
    try:
        while not os.path.ismount(mydrive.parent):
            assert mounted.poll() is None
            time.sleep(0.05)
        mounted.kill()
        mounted.wait()
        with pytest.raises(OSError, match="not connected"):
            mydrive.is_dir()
        said = run(set_up_twice(tmp_path, SET_UP), tmp_path, environment)
        assert said.count("Everything is kept on your Google Drive") == 2
        assert (mydrive / "s2i").is_dir() and not (tmp_path / "behind" / "MyDrive" / "s2i").exists()
    finally:
        mounted.kill()
        subprocess.run(
            ["fusermount3", "-u", "-z", mydrive.parent], check=False, capture_output=True
        )


@pytest.mark.slow
def test_notebook_0_shows_its_page_and_does_nothing_unasked(tmp_path):
    """Run all makes no sample and trains nothing: whoever is there is asked first."""
    said = run(START, tmp_path, {"S2I_DRIVE": str(tmp_path / "drive")})
    assert "Everything is kept in" in said
    [page] = code_cells(tmp_path / "ran.ipynb")[1:]
    [shown] = page.outputs
    assert "application/vnd.jupyter.widget-view+json" in shown.data
    assert [path for path in (tmp_path / "drive").rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_notebook_1_without_photos_goes_on_with_the_sample_and_says_so(tmp_path):
    root = tmp_path / "drive"
    said = run(NOTEBOOKS[0], tmp_path, {"S2I_DRIVE": str(root)})
    assert "Nobody has taken photos of Rex yet." in said
    assert "The subject is Racer, a car." in said
    assert (root / "subjects/racer/manifest.json").is_file()
    assert not (root / "subjects/rex").exists()


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["allow", "refuse", "hang"])
def test_notebook_1_in_colab_with_photos_on_the_drive(tmp_path, answer):
    """The set-up cell as Colab sees it; the photos of the sample stand for a user's own."""
    environment, mydrive = colab(tmp_path, answer)
    photos = Drive(mydrive / "s2i").subject("Racer") / "photos"
    if answer == "allow":  # what an earlier session left
        photos.mkdir(parents=True)
        for path in (REPOSITORY / "s2i_lib/samples/rc_car").glob("*.jpg"):
            shutil.copy(path, photos)
    said = run(NOTEBOOKS[0], tmp_path, environment, NAME="Racer", CLASS_NOUN="car", KIND="object")
    if answer == "allow":
        assert "Everything is kept on your Google Drive" in said
        assert "Nobody has taken" not in said and "5 crops of Racer are ready." in said
        assert (mydrive / "s2i/subjects/racer/dataset").is_dir()
    else:
        assert "Google Drive was not opened" in said and "DELETED" in said
        assert "Nobody has taken photos of Racer yet." in said


@pytest.mark.slow
def test_notebook_3_draws_a_first_picture_and_a_page_without_a_click(tmp_path):
    root = tmp_path / "drive"
    path = REPOSITORY / "notebooks" / "3_speech_to_image.ipynb"
    said = run(path, tmp_path, {"S2I_DRIVE": str(root)}, MODEL="pocket", STEPS=3)
    heard = re.search(r"^Heard: (.*)$", said, re.MULTILINE)[1].lower()
    assert "red car" in heard and "yellow background" in heard
    pictures, pages = sorted(root.glob("creations/*.png")), list(root.glob("creations/*.html"))
    assert len(pictures) == 1 and len(pages) == 1
    assert pages[0].read_text().count("data:image/png") == 1
    outputs = [o for c in code_cells(tmp_path / "ran.ipynb") for o in c.outputs]
    shown = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(shown) == 4, "picture, conversation, the bar chart of how it went, all that was made"
    assert "give it a hat: Taken as a change: with “with a hat”." in said


@pytest.mark.slow
def test_notebook_3_takes_a_folder_of_recordings_and_keeps_nothing_where_told_so(tmp_path):
    """Among the recordings lie their words and records, which are not heard."""
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("one", "two"):
        shutil.copy(REPOSITORY / "s2i_lib/samples/red_car.wav", clips / f"{name}.wav")
        (clips / f"{name}.txt").write_text("a red car on a yellow background")
    (clips / "one.json").write_text("{}")
    root = tmp_path / "drive"
    forms = {"MODEL": "pocket", "STEPS": 2, "RECORDINGS": str(clips), "KEEP_PICTURES": False}
    said = run(NOTEBOOKS[2], tmp_path, {"S2I_DRIVE": str(root)}, **forms)
    heard = re.findall(r"^(\S+\.\w+): (.*)$", said, re.MULTILINE)
    assert [name for name, _ in heard] == ["one.wav", "two.wav"]
    assert all("red car" in words.lower() for _, words in heard)
    assert "No picture of this session has been kept" in said
    assert [path for path in root.rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_notebook_3_says_why_nothing_was_drawn_and_runs_to_its_end(tmp_path):
    """The weights cannot be had here: that is what stands there, and no traceback of a follower."""
    said = run(NOTEBOOKS[2], tmp_path, {"S2I_DRIVE": str(tmp_path / "drive")}, MODEL="sd2.1-base")
    assert said.count("The weights of sd2.1-base (2.6 GiB) could not be found.") == 1
    assert "Asked for: nothing that could be drawn" in said
    assert "No picture of this session has been kept" in said
    outputs = [o for c in code_cells(tmp_path / "ran.ipynb") for o in c.outputs]
    assert [o.text for o in outputs if o.get("name") == "stderr"] == []


@pytest.mark.slow
def test_notebook_3_draws_with_a_model_that_somebody_shared(tmp_path, pocket):
    """A diffusers folder behind a shortcut in the user's Drive, named in one parameter."""
    environment, mydrive = colab(tmp_path)
    shared = mydrive.parent / ".shortcut-targets-by-id" / "1aBcD" / "Model Files"
    tuned = copy.deepcopy(pocket.pipeline.unet)
    with torch.no_grad():
        tuned.conv_out.bias.add_(0.05)
    pipeline = type(pocket.pipeline)(**{**pocket.pipeline.components, "unet": tuned})
    pipeline.save_pretrained(shared)
    mydrive.mkdir(parents=True)
    (mydrive / "Model Files").symlink_to(shared, target_is_directory=True)
    path = REPOSITORY / "notebooks" / "3_speech_to_image.ipynb"
    said = run(path, tmp_path, environment, MODEL=str(mydrive / "Model Files"), STEPS=3)
    assert "Everything is kept on your Google Drive" in said
    pictures = sorted((mydrive / "s2i" / "creations").glob("*.png"))
    assert len(pictures) == 1
    record = read_record(pictures[0])
    assert record["model"] == "Model Files" and record["size_px"] == pocket.base.size_px
    before = draw(pocket, record["prompt"], DrawOptions(steps=3, seed=record["seed"]))
    assert before[0].image.tobytes() != PIL.Image.open(pictures[0]).tobytes()


@pytest.mark.slow
def test_notebook_4_measures_a_first_try_where_there_is_no_run_yet(tmp_path):
    root = tmp_path / "drive"
    path = REPOSITORY / "notebooks" / "4_evaluate.ipynb"
    said = run(path, tmp_path, {"S2I_DRIVE": str(root)}, PROMPTS=2, SEEDS=1, STEPS=3)
    assert "heard  A red car on a yellow background" in said
    [page] = root.glob("runs/racer/first-try-*/evaluations/*.html")
    [numbers] = page.parent.glob("*.json")
    before, after = json.loads(numbers.read_text())["runs"]
    assert "not fine-tuned" in before["name"]
    assert {"clip_i", "clip_t", "pres_clip"} <= set(after["scores"])
    assert after["speech"]["word_error_rate"]["mean"] == 0
    outputs = [o for c in code_cells(tmp_path / "ran.ipynb") for o in c.outputs]
    shown = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(shown) == 2, "the chart of the scores, and the worst pictures"


def test_notebook_4_passes_over_a_first_try_of_an_earlier_model_and_makes_another_once(
    drive, capsys
):
    """What it made before has its name, which no other run may take."""
    write_card(drive.runs / "racer" / "first-try", {"name": "pocket"})
    sources = [cell.source for cell in read(NOTEBOOKS[3]).cells]
    begin, end = (
        next(i for i, source in enumerate(sources) if source.startswith(title))
        for title in ("## The run", "## Before and after")
    )
    cells = [c.source for c in read(NOTEBOOKS[3]).cells[begin:end] if c.cell_type == "code"]
    trained = []

    class Training:
        """Takes its folder as a training does, and leaves what one does."""

        def __init__(self, drive, dataset, *, name, **options):
            setup = SimpleNamespace(drive=drive, dataset=dataset)
            self.folder = choose_run(setup, name).folder

        def train(self):
            trained.append(self.folder)
            write_card(self.folder, {"name": "pocket", "edition": EDITIONS["pocket"]})
            return self.folder

    sample = Subject("Racer", "car")
    library = SimpleNamespace(
        sample_subject=lambda drive: sample,
        build_dataset=lambda subject, drive: SimpleNamespace(subject=subject),
        FinetuneRun=Training,
    )
    for _ in range(2):
        scope = {"s2i": library, "drive": drive, "RUN": ""}
        for source in cells:
            exec(source, scope)
        assert trained == [Path(scope["run"])]
        [line] = [line for line in capsys.readouterr().out.splitlines() if "Passed over" in line]
        assert "racer/first-try (of the 64 px pocket model of an earlier version)" in line
        assert "train its subject again with notebook 2" in line


def write_card(folder: Path, base: dict) -> None:
    """A finished run, as far as its card tells."""
    (folder / "weights").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"status": "finished", "base": base}))


ADDRESS = "https://github.invalid/OWNER/s2i/archive/main.zip"


def moved(tmp_path: Path, address: str | None = None) -> str:
    """The set-up with Colab's /content in a folder of the test, and another address."""
    source = SET_UP.replace("/content", str(tmp_path / "content"))
    assert source.count(ADDRESS) == 1
    source = source.replace(ADDRESS, address or ADDRESS)
    source += "\nfrom pathlib import Path\nprint('library', Path(s2i.__file__).resolve())"
    return source + "\n!{sys.executable} -m s2i_lib runs"


def copy_library(folder: Path) -> Path:
    """The library without its weights, as somebody has it who copied or installed it."""
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder)
    return shutil.copytree(
        REPOSITORY / "s2i_lib", folder / "s2i_lib",
        ignore=shutil.ignore_patterns("pocket", "__pycache__"),
    )  # fmt: skip


def without_library(tmp_path: Path) -> dict[str, str]:
    """An environment made by `make test` has the library as an editable install: hidden here.

    What pip installs goes into a folder of the test.
    """
    for folder in ("hide", "installed"):
        (tmp_path / folder).mkdir()
    (tmp_path / "hide" / "sitecustomize.py").write_text(
        "import sys\nsys.meta_path = [f for f in sys.meta_path if '__editable__' not in repr(f)]\n"
    )
    return {
        "PYTHONPATH": f"{tmp_path / 'hide'}:{tmp_path / 'installed'}",
        "S2I_DRIVE": str(tmp_path / "drive"),
        "PIP_TARGET": str(tmp_path / "installed"),
        "PIP_NO_BUILD_ISOLATION": "0",  # so pip spells "yes": what builds it is there already
    }


@pytest.mark.slow
def test_set_up_installs_the_library_from_its_address_where_it_is_nowhere(tmp_path):
    """The cells themselves, in a kernel that cannot see the library; so do commands in cells.

    An archive as GitHub packs it: all in one folder that is named after the branch.
    """
    copy_library(tmp_path / "origin" / "s2i-main")
    archive = shutil.make_archive(str(tmp_path / "main"), "zip", tmp_path / "origin")
    notebook = set_up_twice(tmp_path, moved(tmp_path, f"file://{archive}"))
    said = run(notebook, tmp_path, without_library(tmp_path))
    installed = (tmp_path / "installed" / "s2i_lib" / "__init__.py").resolve()
    assert said.count(f"library {installed}") == 2
    assert said.count("All packages are there.") == 2  # by the list that was installed with it
    assert said.count("There are no runs yet.") == 2
    assert said.count("you may need to restart the kernel") == 1, "it was installed again"


@pytest.mark.slow
def test_set_up_mounts_the_drive_to_find_a_copy_of_the_library_there(tmp_path):
    """With the placeholder as address, below .invalid, which nobody can own (RFC 2606)."""
    environment, mydrive = colab(tmp_path)
    hidden = without_library(tmp_path)
    copied = copy_library(mydrive / "s2i" / "code") / "storage/layout.py"
    copied.write_text(copied.read_text().replace("/content", str(tmp_path / "content")))
    kept = mydrive.rename(tmp_path / "kept")  # it appears when the Drive is mounted
    path = f"{hidden['PYTHONPATH']}:{FAKE_COLAB}"  # the first sitecustomize counts
    environment |= hidden | {"PYTHONPATH": path, "FAKE_COLAB_MYDRIVE": str(kept), "S2I_DRIVE": ""}
    said = run(set_up_twice(tmp_path, moved(tmp_path)), tmp_path, environment)
    assert said.count(f"library {kept.resolve()}/s2i/code/s2i_lib/__init__.py") == 2
    assert said.count("Everything is kept on your Google Drive") == 2
    assert said.count("There are no runs yet.") == 2
    assert not list((tmp_path / "installed").iterdir())


@pytest.mark.slow
def test_set_up_takes_the_library_beside_the_notebook_before_any_other(tmp_path):
    copy_library(tmp_path)
    notebook = set_up_twice(tmp_path, moved(tmp_path))
    said = run(notebook, tmp_path, {**without_library(tmp_path), "PYTHONPATH": str(REPOSITORY)})
    assert said.count(f"library {(tmp_path / 's2i_lib').resolve()}/__init__.py") == 2


@pytest.mark.slow
def test_set_up_says_what_to_do_where_there_is_nothing(tmp_path):
    """What it says stands above the cell; its last words and pip's are explained there."""
    environment, _ = colab(tmp_path)
    hidden = without_library(tmp_path)
    environment |= hidden | {"PYTHONPATH": f"{hidden['PYTHONPATH']}:{FAKE_COLAB}"}
    notebook = set_up_twice(tmp_path, moved(tmp_path, f"file://{tmp_path}/nowhere.zip"))
    with pytest.raises(AssertionError, match="No module named 's2i_lib'"):
        run(notebook, tmp_path, environment)
    above = [cell.source for cell in read(NOTEBOOKS[0]).cells if "## Set up" in cell.source]
    assert "write the project's address into the cell, or copy the project" in above[0]


def with_few_images(path: Path, folder: Path) -> Path:
    """Copy notebook 2 with eight class images and ten grounds, for which no form asks."""
    if path.name[0] != "2":
        return path
    text, begin = path.read_text(), '"choices = {\\n",'
    assert text.count(begin) == 1
    few = '\\"class_image_count\\": 8, \\"background_count\\": 20,'
    copy = folder / path.name
    copy.write_text(text.replace(begin, f'{begin}\n    "    {few}\\n",'))
    return copy


# Short settings, in place of what the form says.
SHORT = {
    "1": {},
    "2": {"MODEL": "pocket", "STEPS": 6},
    "3": {"MODEL": "pocket", "STEPS": 3},
    "4": {"PROMPTS": 2, "SEEDS": 1, "STEPS": 3},
    "5": {"STEPS": 5, "TRAIN_STEPS": 10},
}


@pytest.fixture(scope="module")
def in_colab(tmp_path_factory) -> tuple[Path, dict[str, str], Path]:
    """One Drive for all that follow: what a notebook leaves is there for the next."""
    folder = tmp_path_factory.mktemp("colab")
    return folder, *colab(folder)


# Notebook 5 takes minutes and keeps nothing: a second time is for `make full`.
ROUNDS = [
    pytest.param(path, id=f"{path.stem} {time}", marks=marks if path.name[0] == "5" else ())
    for path in NOTEBOOKS
    for time, marks in (("first", ()), ("second", pytest.mark.full))
]


@pytest.mark.slow
@pytest.mark.parametrize("path", ROUNDS)
def test_every_notebook_runs_in_colab_and_once_more_on_what_it_left(in_colab, path, full):
    folder, environment, mydrive = in_colab
    notebook = path if full else with_few_images(path, folder)
    said = run(notebook, folder, environment, **SHORT[path.name[0]])
    assert "Everything is kept on your Google Drive" in said
    if path.name[0] == "5":  # as it is handed out, no exercise is solved
        assert (said.count("Solved."), said.count("Not yet.")) == (0, len(ANSWERS)), said
    if path.name[0] == "3":  # the second time the sample is drawn, and not kept once more
        assert len(list((mydrive / "s2i" / "creations").glob("*.png"))) == 1
    written = [file for file in (mydrive / "s2i").rglob("*") if file.is_file()]
    assert written and not [file.name for file in written if file.name.endswith((".part", ".old"))]
    assert not (folder / "content" / "s2i_drive").exists() and not list(
        (folder / "elsewhere").iterdir()
    )


@pytest.mark.slow
def test_notebook_2_trains_on_the_sample_and_a_second_run_all_trains_nothing(tmp_path, full):
    root = tmp_path / "drive"
    notebook = NOTEBOOKS[1] if full else with_few_images(NOTEBOOKS[1], tmp_path)
    environment = {"S2I_DRIVE": str(root), "S2I_LOCAL": str(tmp_path / "local")}
    forms = {"MODEL": "pocket", "STEPS": 12}
    said = run(notebook, tmp_path, environment, **forms)
    assert "goes on with the sample photos" in said
    assert "runs/racer/pocket-01 is finished." in said
    assert "Racer can be drawn now, as “a ohwx car”." in said
    assert (root / "runs/racer/pocket-01/weights/unet").is_dir()
    again = run(notebook, tmp_path, environment, **forms)
    assert "is finished already" in again

    [named] = re.findall(r'^In notebook 3: MODEL = "(.*)"$', again, re.MULTILINE)
    run(NOTEBOOKS[2], tmp_path, environment, MODEL=named, STEPS=2)
    records = [read_record(path) for path in (root / "creations").glob("*.png")]
    assert {record["run"] for record in records} == {named} == {"racer/pocket-01"}


@pytest.mark.slow
def test_notebook_2_shows_no_class_images_of_other_runs(tmp_path):
    """Where it was trained without any, sheets lie there of this kind and of a longer name."""
    sheets = [
        tmp_path / "drive/class_images" / f"a-car{more}-0123456789ab" for more in ("", "-wash")
    ]
    for folder in sheets:
        folder.mkdir(parents=True)
        PIL.Image.new("RGB", (8, 8)).save(folder / "sheet.png")
    tiny = make_pipeline(is_like_pocket=True)
    tiny.unet.register_to_config(sample_size=64)
    tiny.save_pretrained(tmp_path / "tiny")
    environment = {"S2I_DRIVE": str(tmp_path / "drive"), "S2I_LOCAL": str(tmp_path / "local")}
    forms = {"MODEL": str(tmp_path / "tiny"), "STEPS": 2, "WITH_PRIOR": False}
    said = run(NOTEBOOKS[1], tmp_path, environment, **forms)
    assert "Without prior preservation there are no class images." in said
    [card] = (tmp_path / "drive/runs").glob("*/*/run.json")
    assert json.loads(card.read_text())["class_images"] is None


@pytest.mark.slow
def test_notebook_2_trains_no_toy_car_where_the_subjects_own_crops_are_damaged(tmp_path):
    home = Drive(tmp_path / "drive").subject("Rex")
    home.mkdir(parents=True)
    (home / "manifest.json").write_text("{}")
    with pytest.raises(AssertionError, match=r"The manifest .*rex/manifest\.json cannot be read"):
        run(NOTEBOOKS[1], tmp_path, {"S2I_DRIVE": str(tmp_path / "drive")}, MODEL="pocket")
    assert not (tmp_path / "drive" / "runs").exists()


@pytest.mark.slow
def test_notebook_2_whose_kernel_was_killed_goes_on_and_ends_as_if_it_had_not(tmp_path):
    """As when Colab takes the runtime away while it trains: SIGKILL, and Run all once more."""
    tiny = make_pipeline(is_like_pocket=True)
    tiny.unet.register_to_config(sample_size=16)  # 32 px: a kill asks for no size
    tiny.save_pretrained(tmp_path / "tiny")
    # Photos as they are: that a run with grounds of its own ends to the same bits is for
    # tests/training/test_backgrounds.py.
    forms = {"MODEL": str(tmp_path / "tiny"), "STEPS": 120, "RECIPE": "whole"}
    notebook = with_few_images(NOTEBOOKS[1], tmp_path)

    def home(name: str) -> dict[str, str]:
        folder = tmp_path / name
        return {"S2I_DRIVE": str(folder / "drive"), "S2I_LOCAL": str(folder / "local")}

    killed = launch(notebook, tmp_path, home("killed"), **forms)
    trained = tmp_path / "killed/drive/runs/racer/tiny-01"
    while not list(trained.glob("state-*")):
        assert killed.poll() is None, killed.stderr.read()[-3000:]
        time.sleep(0.05)
    [kernel] = [child for child in psutil.Process(killed.pid).children(recursive=True)
                if "ipykernel_launcher" in " ".join(child.cmdline())]  # fmt: skip
    kernel.kill()
    _, complaints = killed.communicate()
    assert killed.returncode != 0 and "DeadKernelError" in complaints
    assert not (trained / "weights").exists(), "it was killed too late to prove anything"
    shutil.rmtree(tmp_path / "killed" / "local")  # Colab's own disk goes with the runtime

    said = run(notebook, tmp_path, home("killed"), **forms)
    assert re.search(r"racer/tiny-01 goes on at step 100 of 120", said)
    assert "runs/racer/tiny-01 is finished." in said
    run(notebook, tmp_path, home("whole"), **forms)
    ends = [digest(tmp_path / name / "drive/runs/racer/tiny-01") for name in ("killed", "whole")]
    assert ends[0] == ends[1]


def test_notebook_5_asks_for_grounds_that_the_pocket_model_was_shown_with_their_article():
    """A red car was never on a red ground, and it is "an orange background"."""
    source = "\n".join(cell.source for cell in code_cells(NOTEBOOKS[4]))
    [wish] = re.findall(r'plain = \{\}, "([^"]+)"', source)
    noun = wish.removeprefix("a ").partition(" on ")[0]
    assert words.BY_NOUN[noun].colour == "", "it has a colour of its own"
    for colour in words.COLOUR_NAMES:
        assert wish.format(with_article(colour)) == words.on_background(noun, colour)
        assert not words.is_held_out(noun, "on", colour)
    assert set(re.findall(r"plain\.format\((\w+)", source)) == {"with_article"}


# One answer to each exercise of notebook 5, in place of what its cell begins with.
ANSWERS = {
    "coarseness = 0.01": "coarseness = next(c for c in np.geomspace(0.02, 8, 60) if 4.5 < "
    "difference(decode(model, (latents[:1] / c).round() * c)[0], back[0]) < 9.5)",
    "t = 100": "t = min(range(1000), key=lambda t: abs(snr(model, t) - 1))",
    '"a dog wearing a hat in the snow", "dog"': "PROMPT, max(words, key=lambda w: "
    "(lambda m: np.mean([m[0], m[-1], m[:, 0], m[:, -1]]) / m.mean())(looked.of(w)))",
    "guidance, colour = 0.0, BACKGROUND": "colour, guidance = 'blue', next(g for g in "
    "(0.25, 0.5, 1, 2, 4, 8) if np.mean([border_share(one.image, 'blue') for one in "
    "s2i.draw(model, plain.format('a blue'), "
    "DrawOptions(12, g, count=4, seed=SEED + 50))]) >= 0.9)",
    'scheduler, steps = "euler", 3': "steps, scheduler = min(((n, s) for s, n in kinds if "
    "difference(by_kind[s, n], goal) < 4), default=(60, 'dpm++')); steps = next(n for n in "
    "range(steps // 2 + 1, steps + 1) if 4 > difference(s2i.draw(model, PROMPT, DrawOptions(n, "
    "seed=SEED, scheduler=scheduler))[0].image, goal))",
    'way = "overfitted"': 'way = "with prior"',
    'colour = "which"': "colour = max(gains, key=gains.get)",
    "from_s, to_s = 0.0, 1.0": "[(from_s, to_s)] = "
    '[(w.start_s, w.end_s) for w in heard.words if "yellow" in w.text]',
}


@pytest.mark.slow
def test_notebook_5_runs_through_leaves_nothing_and_its_exercises_can_be_solved(tmp_path, full):
    path = REPOSITORY / "notebooks" / "5_inside_latent_diffusion.ipynb"
    notebook = read(path)
    exercises = [c for c in notebook.cells if c.cell_type == "code" and "check(" in c.source]
    assert len(exercises) == len(ANSWERS)
    for cell, (question, answer) in zip(exercises, ANSWERS.items(), strict=True):
        assert cell.source.count(question) == 1
        cell.source = cell.source.replace(question, answer)
    nbformat.write(notebook, tmp_path / "answered.ipynb")
    (tmp_path / "tmp").mkdir()
    environment = {
        "S2I_DRIVE": str(tmp_path / "drive"),
        "S2I_LOCAL": str(tmp_path / "local"),
        "TMPDIR": str(tmp_path / "tmp"),
    }
    forms = {} if full else {"STEPS": 10, "TRAIN_STEPS": 20}
    said = run(tmp_path / "answered.ipynb", tmp_path, environment, **forms)
    assert (said.count("Solved."), said.count("Not yet.")) == (len(ANSWERS), 0), said
    kept = [*(tmp_path / "drive").rglob("*"), *(tmp_path / "local").rglob("*")]
    kept += (tmp_path / "tmp").glob("lesson-*")
    assert [path.name for path in kept if path.is_file() or path.name.startswith("lesson-")] == []
    for cell in code_cells(tmp_path / "ran.ipynb")[1:]:  # the first finds the library, in silence
        kinds = {kind for o in cell.outputs for kind in o.get("data", {"stream": 0})}
        is_form = "parameters" in cell.metadata.get("tags", []) or "# Parameters" in cell.source
        assert kinds or is_form, f"this cell ends in nothing to look at:\n{cell.source}"
        assert not [o for o in cell.outputs if o.get("name") == "stderr"], cell.outputs

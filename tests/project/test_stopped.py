"""Killed at any step on the disk, a command leaves nothing half that counts, and the next mends it.

All commands that write but `finetune` (test_finetune_killed has its phases), at every step in
`make full` and at some otherwise; how it is done: tests/stopped.py.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image, ImageFilter, ImageOps
from stopped import Shell, check_whole, content
from tiny_run import write_run

from s2i_lib.drawing.gallery import list_pictures, read_record, save
from s2i_lib.drawing.pages import Section, write_page
from s2i_lib.drawing.records import Picture
from s2i_lib.models.folder import check_model
from s2i_lib.models.registry import PACKAGE
from s2i_lib.photos.manifest import load_dataset
from s2i_lib.photos.own_png import open_png
from s2i_lib.photos.reading import read_photo
from s2i_lib.photos.subject import Subject, list_subjects, save_subject
from s2i_lib.speech.audio import read_audio
from s2i_lib.storage.json_file import load_object
from s2i_lib.storage.layout import Drive
from s2i_lib.storage.run_card import finished_runs
from s2i_lib.storage.tensor_file import read_head
from s2i_lib.training.run import list_runs
from tests.models.test_original_layout import SMALL, make_sd2

pytestmark = pytest.mark.slow

CLIP = PACKAGE / "samples" / "red_car.wav"


def check_page(path: Path) -> None:
    assert path.read_text().rstrip().endswith("</html>"), path


KINDS = {
    ".json": load_object, ".png": open_png, ".jpg": read_photo, ".wav": read_audio,
    ".safetensors": read_head, ".html": check_page,
    ".yaml": lambda path: yaml.safe_load(path.read_text()),
}  # fmt: skip


@pytest.fixture
def shell(tmp_path) -> Shell:
    return Shell(tmp_path / "root")


@pytest.fixture
def drive(shell) -> Drive:
    return Drive(shell.root / "drive")


@pytest.fixture
def run(drive, tiny) -> Path:
    """A finished run of the tiny model: violet/full."""
    write_run(drive, tiny, "full", method="full")
    save_subject(drive, Subject("Violet", "cat"))
    return drive.runs / "violet" / "full"


@pytest.fixture(scope="session")
def bases(tiny, tmp_path_factory) -> dict[str, Path]:
    """What a run is exported from: one file has room for Stable Diffusion 2's shapes alone."""
    sd2 = tmp_path_factory.mktemp("base") / "sd2"
    make_sd2(SMALL, "epsilon").save_pretrained(sd2)
    return {"diffusers": tiny, "lora": tiny, "single-file": sd2}


def check_clean(shell: Shell) -> None:
    left = [*shell.root.glob("*/**/.*"), *(shell.root / "tmp").iterdir()]
    assert not left, left


def photo(path: Path, number: int) -> None:
    """A sharp photo, small, so that a look at it takes little."""
    path.parent.mkdir(exist_ok=True)
    name = sorted((PACKAGE / "samples" / "rc_car").glob("*.jpg"))[number]
    with Image.open(name) as image:
        small = ImageOps.contain(image, (760, 760))
        small.filter(ImageFilter.SHARPEN).save(path, quality=95)


def test_what_a_kill_leaves_is_the_copy_made_before(shell, drive, run):
    add_states(run)
    copy = shell.kill(7, "runs", "--prune", "--yes")
    assert content(shell.root) == content(copy) != {}
    assert list(run.glob(".state-*.part")), "in the midst of a deletion"


def test_dataset(shell, drive, full):
    """A photo is added, one is gone, one gets another crop; every other time the new one goes."""
    for number in (0, 1):
        photo(shell.root / "one" / f"{number}.jpg", number)
    photo(shell.root / "two" / "2.jpg", 2)
    who = ("--subject", "Racer", "--class-noun", "car")
    shell.run("dataset", "one", *who)
    home = drive.subject("Racer")
    (home / "photos" / "1.jpg").unlink()
    command = ("dataset", "two", *who, "--crop", "0.jpg=10,10,500")
    given = content(home / "photos") | content(shell.root / "two")
    shas = set()
    for number, _ in enumerate(shell.stops(*command, every=1 if full else 30)):
        check_whole(drive.root, KINDS)
        assert given.items() >= content(home / "photos").items() or number
        if is_odd := number % 2:
            (home / "photos" / "2.jpg").unlink(missing_ok=True)
        shell.run(*(("dataset", *who, *command[-2:]) if is_odd else command))
        dataset = load_dataset(drive, "Racer")
        assert {path.name for path in dataset.images} == {"0.png"} if is_odd else {"0.png", "2.png"}
        assert dataset.verdicts[0].crop.size == 500 and not (home / "set_aside").exists()
        there = {path.name for path in (home / "dataset").rglob("*.png")}
        assert there == {path.name for path in dataset.images}
        shas.add((is_odd, dataset.sha256))
        check_clean(shell)
    assert len(shas) == 2


def kept_picture(drive: Drive) -> dict[str, bytes]:
    """A picture and a page that were there before."""
    drive.creations.mkdir(parents=True)
    record = {"prompt": "a dog", "negative": "", "seed": 1, "run": None, "subjects": []}
    path = save(Picture(Image.new("RGB", (8, 8)), record), drive.creations)
    write_page([Section("a dog", [path])], path.with_suffix(".html"), title="Page")
    return content(drive.creations)


def test_speak(shell, drive, run, tiny, full):
    kept = kept_picture(drive)
    command = ("speak", CLIP, "--run", "violet/full", "--model", tiny, "--steps", 1,
               "--keep-recordings", "--subject", "Violet")  # fmt: skip
    for number, _ in enumerate(shell.stops(*command, every=1 if full else 14)):
        check_whole(drive.root, KINDS)
        before = list_pictures(drive.creations)
        if number % 3 == 0:
            shell.run(*command)
            assert len(list_pictures(drive.creations)) == len(before) + 1
        else:  # another command, too, sweeps what nobody is at work on
            shell.run("draw", "a cat", *command[2:-3])
            shell.run("dataset", "--subject", "Violet", expected=2)
        assert content(drive.creations).items() >= kept.items()
        for path in list_pictures(drive.creations):
            assert read_record(path)["prompt"]
        shutil.rmtree(drive.recordings, ignore_errors=True)
        check_clean(shell)


@pytest.mark.parametrize("form", ["diffusers", "single-file", "lora"])
def test_export(shell, drive, bases, full, form):
    which = "lora" if form == "lora" else "full"
    write_run(drive, bases[form], which, method=which)
    command = ("export", f"violet/{which}", "--format", form, "--model", bases[form])
    before = content(drive.root)
    made = drive.runs / "violet" / which / "export"
    for copy in shell.stops(*command, every=1 if full else 17):
        check_whole(drive.root, KINDS)
        assert content(drive.root).items() >= before.items()
        targets = [path for path in made.glob("[!.]*") if path.suffix != ".yaml"]
        shell.run(*command, expected=2 if targets else 0)  # it was whole: that is said
        [target] = [path for path in made.iterdir() if path.suffix != ".yaml"]
        check_model(target) if form == "diffusers" else read_head(target)
        assert target.with_suffix(".yaml").is_file() == (form == "single-file"), copy
        check_clean(shell)


def add_states(run: Path) -> None:
    """Two states and a pointer, as a run leaves that was finished by an older version."""
    for step in (4, 8):
        state = run / f"state-{step:08}"
        state.mkdir()
        for name in ("trained.safetensors", "optimizer.safetensors"):
            shutil.copy(next(run.rglob("unet/*.safetensors")), state / name)
        (state / "state.json").write_text(json.dumps({"step": step}))
    (run / "latest.json").write_text(json.dumps({"state": "state-00000008"}))


def test_prune(shell, drive, run, full):
    kept = content(run)
    add_states(run)
    for _ in shell.stops("runs", "--prune", "--yes", every=1 if full else 4):
        check_whole(drive.root, KINDS)
        assert [one.name for one in list_runs(drive)] == ["violet/full"]
        shell.run("runs", "--prune", "--yes")
        assert content(run) == kept
        check_clean(shell)


def test_deleting_a_run(shell, drive, run, tiny, full):
    write_run(drive, tiny, "other", method="full")
    kept = content(drive.runs / "violet" / "other")
    delete = ("runs", "--delete", "violet/full", "--yes")
    for _ in shell.stops(*delete, every=1 if full else 6):
        for one in finished_runs(drive):
            assert one.name in ("full", "other")
        check_whole(drive.root, KINDS)
        is_there = run.exists()
        shell.run(*delete, expected=0 if is_there else 2)
        shell.run("runs", "--prune", "--yes")
        assert content(drive.runs / "violet" / "other") == kept and not run.exists()
        check_clean(shell)


def test_evaluate(shell, drive, run, tiny, full):
    command = ("evaluate", "violet/full", "--model", tiny, "--prompts", 1, "--seeds", 1,
               "--steps", 1)  # fmt: skip
    before = content(drive.root)
    for _ in shell.stops(*command, every=1 if full else 12):
        check_whole(drive.root, KINDS)
        shell.run(*command)
        assert content(drive.root).items() >= before.items()
        assert list((run / "evaluations").glob("*.html"))
        check_clean(shell)


def test_redo_and_share(shell, drive, run, tiny, full):
    shell.run("draw", "a cat", "--run", "violet/full", "--model", tiny, "--steps", 1)
    before = content(drive.root)
    [picture] = list_pictures(drive.creations)
    for command in (("redo", picture, "--model", tiny), ("gallery", "--share", "given")):
        for _ in shell.stops(*command, every=1 if full else 9):
            check_whole(shell.root, KINDS)
            shell.run(*command)
            assert content(drive.root).items() >= before.items()
            check_clean(shell)


def test_forget(shell, drive, run, full):
    save_subject(drive, Subject("Luna", "cat"))
    for _ in shell.stops("forget", "Violet", "--yes", every=1 if full else 6):
        check_whole(drive.subject("Luna"), KINDS)
        assert "Luna" in [subject.name for subject in list_subjects(drive)]
        assert all(one.name == "full" for one in finished_runs(drive))
        is_left = any("violet" in str(path) for path in drive.root.rglob("*"))
        shell.run("forget", "Violet", "--yes", expected=0 if is_left else 2)
        assert not [path for path in drive.root.rglob("*") if "violet" in str(path)]
        check_clean(shell)

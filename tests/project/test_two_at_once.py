"""Two processes at once on each command that writes: nothing of either is lost or mixed.

They are of one machine, as two notebooks of one computer are. Each waits a little before it changes
the disk (tests/stopped.py), so that they come between each other.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from stopped import Shell, check_whole, content
from test_stopped import CLIP, KINDS, add_states, check_clean, kept_picture, photo
from test_stopped import bases as bases
from test_stopped import drive as drive
from test_stopped import run as run
from test_stopped import shell as shell
from tiny_run import write_run

from s2i_lib.drawing.gallery import list_pictures, read_record
from s2i_lib.models.folder import check_model
from s2i_lib.photos.manifest import load_dataset
from s2i_lib.photos.subject import Subject, list_subjects, save_subject
from s2i_lib.storage.layout import Drive
from s2i_lib.storage.run_card import read_card
from s2i_lib.training.checkpoint import verify_weights

pytestmark = pytest.mark.slow


def check(shell: Shell) -> str:
    check_whole(shell.root, KINDS)
    check_clean(shell)
    return " ".join(shell.log.read_text().split())


def test_dataset(shell: Shell, drive: Drive):
    """Of one subject, from other photos of the same names: one waits, and takes those of both."""
    for number in (0, 1):
        photo(shell.root / "one" / f"{number}.jpg", number)
        photo(shell.root / "two" / f"{number}.jpg", number + 2)
    who = ("--subject", "Racer", "--class-noun", "car")
    assert shell.run_two(["dataset", "one", *who], ["dataset", "two", *who]) == [0, 0]
    dataset = load_dataset(drive, "Racer")
    assert len(list((drive.subject("Racer") / "photos").iterdir())) == 4
    assert len(dataset.verdicts) == 4
    assert "Another process is at work" in check(shell)


def test_draw_and_redo_and_share(shell: Shell, drive: Drive, run: Path, tiny: Path):
    """The same words and the same seed, in the same second: names that are alike."""
    kept = kept_picture(drive)
    draw = ("draw", "a cat", "--run", "violet/full", "--model", tiny, "--steps", 1, "--seed", 1)
    assert shell.run_two(draw, draw) == [0, 0]
    pictures = list_pictures(drive.creations)
    assert len(pictures) == 3 and len(list(drive.creations.glob("*.html"))) == 3
    assert all(path.with_suffix(".json").is_file() for path in pictures)
    cat = next(path for path in pictures if "cat" in path.name)
    again = ("redo", cat, "--model", tiny)
    assert shell.run_two(again, again) == [0, 0]
    pictures = list_pictures(drive.creations)
    assert len(pictures) == 5 and {read_record(path)["seed"] for path in pictures} == {1}
    share = ("gallery", "--share", "given", "--grid", "grid.png")
    assert shell.run_two(share, share) == [0, 0]
    assert len(list((shell.root / "given").iterdir())) == 10
    assert len(list(shell.root.glob("grid*.png"))) == 2
    assert content(drive.creations).items() >= kept.items()
    check(shell)


@pytest.mark.full  # `draw` above is the shorter version
def test_speak(shell: Shell, drive: Drive, run: Path, tiny: Path):
    speak = ("speak", CLIP, "--run", "violet/full", "--model", tiny, "--steps", 1, "--seed", 1,
             "--keep-recordings")  # fmt: skip
    assert shell.run_two(speak, speak) == [0, 0]
    assert len(list_pictures(drive.creations)) == 2
    kinds = sorted(path.suffix for path in drive.recordings.iterdir())
    assert kinds == [".json", ".json", ".wav", ".wav"]
    check(shell)


@pytest.mark.parametrize("form", ["diffusers", "single-file", "lora"])
def test_export(shell: Shell, drive: Drive, bases: dict[str, Path], form: str):
    """To one place: the second finds it taken, and says so."""
    which = "lora" if form == "lora" else "full"
    write_run(drive, bases[form], which, method=which)
    export = ("export", f"violet/{which}", "--format", form, "--model", bases[form])
    assert shell.run_two(export, export) == [0, 2]
    folder = drive.runs / "violet" / which / "export"
    [made] = [path for path in folder.iterdir() if path.suffix != ".yaml"]
    assert form != "diffusers" or check_model(made)
    assert "exists already" in check(shell)


def test_prune_delete_and_forget(shell: Shell, drive: Drive, run: Path):
    """Both delete the same: what one has deleted is no error to the other."""
    kept = content(run)
    add_states(run)
    save_subject(drive, Subject("Luna", "cat"))
    prune = ("runs", "--prune", "--yes")
    assert shell.run_two(prune, prune) == [0, 0]
    assert content(run) == kept
    for words in (("runs", "--delete", "violet/full", "--yes"), ("forget", "Violet", "--yes")):
        assert shell.run_two(words, words) in ([0, 0], [0, 2])
    assert not [path for path in drive.root.rglob("*") if "violet" in path.name]
    assert [subject.name for subject in list_subjects(drive)] == ["Luna"]
    check(shell)


def test_evaluate(shell: Shell, drive: Drive, run: Path, tiny: Path):
    words = ("evaluate", "violet/full", "--model", tiny, "--prompts", 1, "--seeds", 1,
             "--steps", 1)  # fmt: skip
    assert shell.run_two(words, words) == [0, 0]
    made = sorted((run / "evaluations").iterdir())
    assert [path.suffix for path in made] == [".html", ".json"] * 2
    assert len({path.stem for path in made}) == 2
    check(shell)


def test_finetune(shell: Shell, drive: Drive, tiny: Path):
    """One trains; the other says that it does, and by which process."""
    for number in (0, 1):
        photo(shell.root / "one" / f"{number}.jpg", number)
    shell.run("dataset", "one", "--subject", "Racer", "--class-noun", "car")
    words = ("finetune", "--subject", "Racer", "--model", tiny, "--steps", 2, "--class-images", 2,
             "--batch-size", 1, "--option", "sample_every=0")  # fmt: skip
    assert shell.run_two(words, words) in ([0, 1], [0, 0])
    runs = sorted((drive.runs / "racer").iterdir())
    for one in runs:
        assert read_card(one)["status"] == "finished" and verify_weights(one / "weights")
    check_whole(drive.root, KINDS)
    said = " ".join(shell.log.read_text().split())
    assert len(runs) == 2 or "is being trained by process" in said or "finished" in said

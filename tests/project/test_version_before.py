"""What a version before wrote is read, listed, told apart and forgotten.

Its pocket model was another one, so what its runs learned is refused, in a sentence.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s2i_lib.__main__ import main
from s2i_lib.photos.manifest import load_dataset
from s2i_lib.storage.layout import Drive

WRITTEN = Path(__file__).parents[1] / "data" / "version_before" / "drive"
# The command that was killed (tests/data/version_before/make.sh).
CUT_SHORT = [
    "finetune", "--subject", "Racer", "--model", "pocket", "--method", "lora",
    "--class-images", "2", "--option", "lora_rank=1", "--option", "sample_every=0",
    "--option", "save_every=2",
    "--option", "lora_targets=mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
    "--steps", "8", "--name", "cut-short",
]  # fmt: skip


@pytest.fixture
def drive(tmp_path, monkeypatch) -> Drive:
    monkeypatch.setenv("S2I_DRIVE", str(tmp_path / "drive"))
    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "local"))
    return Drive(shutil.copytree(WRITTEN, tmp_path / "drive"))


@pytest.fixture
def call(drive, monkeypatch, capsys):
    """Run a command in this process; return its status, the records it prints, and what it says."""

    def _call(*words: object) -> tuple[int | str, list[dict], str]:
        monkeypatch.setattr(sys, "argv", ["s2i_lib", *map(str, words), "--json"])
        try:
            status = main()
        except SystemExit as stop:
            status = stop.code or 0
        out, err = capsys.readouterr()
        return status, [json.loads(line) for line in out.splitlines()], err

    return _call


@pytest.fixture
def run(call):
    """Run a command that works; return the records that it prints."""

    def _run(*words: object) -> list[dict]:
        status, records, err = call(*words)
        assert status == 0, err
        return records

    return _run


@pytest.fixture
def refuse(call, drive):
    """Run a command that is refused since a run is old; the Drive stays as it is."""

    def _refuse(*words: object) -> None:
        before = files_of(drive.root)
        status, _, err = call(*words)
        assert status == 2, err
        said = " ".join(err.split())
        assert "was trained on the 64 px pocket model of an earlier version" in said
        assert "notebooks/2_finetune_dreambooth.ipynb" in said and "Traceback" not in said
        assert files_of(drive.root) == before

    return _refuse


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
def test_a_dataset_is_read_and_built_again_around_the_crop_made_by_hand(drive, run):
    before = load_dataset(drive, "Racer")
    assert [path.name for path in before.images] == ["00.png", "01.png", "02.png"]
    assert before.subject.identifier == "sks"
    assert before.verdicts[3].verdict == "too dark"
    crop = np.asarray(Image.open(before.images[1]))

    run("dataset", "--subject", "Racer", "--class-noun", "car", "--identifier", "sks")
    again = load_dataset(drive, "Racer")
    by_hand = again.verdicts[1]
    assert by_hand.method == "by hand" and by_hand.crop.corners == (16, 20, 272, 276)
    assert np.array_equal(np.asarray(Image.open(again.folder / by_hand.image)), crop)
    assert not (drive.subject("Racer") / "set_aside").exists(), "our own crops are taken for ours"


def test_runs_are_listed_with_what_they_say_of_themselves_and_as_of_the_old_model(run):
    found = {one["run"]: one for one in run("runs")}
    told = {name: (one["status"], one["step"]) for name, one in found.items()}
    assert told == {"racer/pocket-01": ("finished", 4), "racer/cut-short": ("training", 2)}
    assert {one["outdated"] for one in found.values()} == {
        "the 64 px pocket model of an earlier version"
    }


def test_pictures_are_listed(drive, run):
    [listed] = run("gallery", "--subject", "Racer")
    assert listed["prompt"] == "a sks car on a yellow background"
    assert Path(listed["picture"]) == next(drive.creations.glob("*.png"))


WEIGHTS = "pocket-01/weights/pytorch_lora_weights.safetensors"


@pytest.mark.parametrize("name", ["racer", "racer/pocket-01", "pocket-01", WEIGHTS])
def test_a_run_draws_nothing_by_whatever_name(drive, refuse, name):
    is_path = not name.startswith("racer")
    refuse("draw", "Racer", "--run", drive.runs / "racer" / name if is_path else name)


def test_a_run_is_not_evaluated_or_exported_and_its_picture_not_made_again(drive, refuse):
    refuse("evaluate", "racer")
    for form in ("diffusers", "single-file", "lora"):
        refuse("export", "racer/pocket-01", "--format", form)
    refuse("redo", next(drive.creations.glob("*.png")))


@pytest.mark.slow
def test_a_killed_run_does_not_go_on(refuse):
    refuse(*CUT_SHORT)


def test_one_run_is_deleted_by_its_name(drive, run):
    run("runs", "--delete", "racer/pocket-01", "--yes")
    assert not (drive.runs / "racer" / "pocket-01").exists()
    assert [one["run"] for one in run("runs")] == ["racer/cut-short"]


def test_all_of_a_subject_is_found_and_forgotten(drive, run):
    run("forget", "Racer", "--yes")
    assert files_of(drive.root) == {}

"""What the version before wrote is read, drawn with, resumed and forgotten."""

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
# The command that was killed (tests/data/version_before/make.sh): given again, it goes on.
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
def run(drive, monkeypatch, capsys):
    """Run a command in this process; return the records that it prints."""

    def _run(*words: object) -> list[dict]:
        monkeypatch.setattr(sys, "argv", ["s2i_lib", *map(str, words), "--json"])
        try:
            status = main()
        except SystemExit as stop:
            status = stop.code or 0
        out, err = capsys.readouterr()
        assert status == 0, err
        return [json.loads(line) for line in out.splitlines()]

    return _run


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


def test_runs_are_listed_with_what_they_say_of_themselves(run):
    found = {one["run"]: (one["status"], one["step"]) for one in run("runs")}
    assert found == {"racer/pocket-01": ("finished", 4), "racer/cut-short": ("training", 2)}


@pytest.mark.slow
def test_a_picture_is_listed_and_made_again_with_its_run(drive, run):
    [listed] = run("gallery", "--subject", "Racer")
    picture = next(drive.creations.glob("*.png"))
    assert listed["prompt"] == "a sks car on a yellow background"
    [done] = run("redo", picture, "--out", drive.root / "again")
    assert done["weights"] == "same"
    before, again = (np.asarray(Image.open(p), float) for p in (picture, done["picture"]))
    # Equal bits are promised on one machine; on others they differ by rounding.
    assert np.abs(before - again).mean() < 2


@pytest.mark.slow
def test_a_run_draws_under_the_name_of_its_subject(drive, run):
    records = run("draw", "Racer on a red background", "--run", "racer", "--steps", 1)
    [path] = set(drive.creations.glob("*red-background*.json"))
    record = json.loads(path.read_text())
    assert record["run"] == "racer/pocket-01" and record["prompt"].startswith("a sks car")
    assert records


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_state_with_its_class_images(drive, run):
    class_images = files_of(drive.class_images)
    run(*CUT_SHORT)
    assert files_of(drive.class_images) == class_images
    folder = drive.runs / "racer" / "cut-short"
    card = json.loads((folder / "run.json").read_text())
    assert (card["status"], card["step"]) == ("finished", 8)
    assert (folder / "weights" / "pytorch_lora_weights.safetensors").is_file()
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").open()]
    assert steps == sorted(set(steps)) and steps[-1] == 8


def test_all_of_a_subject_is_found_and_forgotten(drive, run):
    run("forget", "Racer", "--yes")
    assert files_of(drive.root) == {}

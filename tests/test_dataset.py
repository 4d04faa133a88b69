"""From photos to a dataset: what is written, the same twice, and that nothing is lost."""

import json

import pytest
from PIL import Image

from s2i_lib.dataset import Box, build_dataset, load_dataset, sample_subject
from s2i_lib.drive import Drive


@pytest.fixture
def drive(tmp_path) -> Drive:
    return Drive(tmp_path / "drive")


def snapshot(drive: Drive) -> dict[str, bytes]:
    return {
        str(path.relative_to(drive.root)): path.read_bytes()
        for path in sorted(drive.root.rglob("*"))
        if path.is_file()
    }


def test_building_twice_gives_the_same_bytes(drive):
    subject = sample_subject(drive)
    first = build_dataset(subject, drive)
    before = snapshot(drive)
    second = build_dataset(subject, drive)
    assert first == second == load_dataset(drive, subject.name)
    assert snapshot(drive) == before
    assert len(first.images) == 5


def test_crops_are_square_rgb_and_as_large_as_the_manifest_says(drive):
    dataset = build_dataset(sample_subject(drive), drive)
    manifest = json.loads(dataset.manifest.read_text())
    for path, entry in zip(dataset.images, manifest["photos"], strict=True):
        with Image.open(path) as image:
            assert image.mode == "RGB"
            assert image.size == (entry["image_px"],) * 2
            assert image.width == min(entry["crop"]["size"], 1024)


def test_crop_by_hand_lasts_until_it_is_taken_back(drive):
    subject = sample_subject(drive)
    found = build_dataset(subject, drive).verdicts[0].crop
    wanted = Box(100, 200, 600)
    assert build_dataset(subject, drive, crops={"00.jpg": wanted}).verdicts[0].crop == wanted
    assert build_dataset(subject, drive).verdicts[0].crop == wanted
    assert build_dataset(subject, drive, crops={"00.jpg": None}).verdicts[0].crop == found

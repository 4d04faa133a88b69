"""Masks beside the crops: kept, chosen, doubted, lost."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from s2i_lib.errors import InputError
from s2i_lib.models.registry import PACKAGE
from s2i_lib.photos.dataset import build_dataset
from s2i_lib.photos.manifest import inspect_dataset
from s2i_lib.photos.subject import Subject

pytestmark = pytest.mark.slow  # each needs what takes seconds to make
CAR = Subject("Racer", "car")
PHOTOS = PACKAGE / "samples" / "rc_car"


@pytest.fixture
def built(drive):
    return build_dataset(CAR, drive, photos=PHOTOS)


def test_each_crop_has_a_mask_of_its_own_frame(built, drive):
    assert len(built.images) == 5
    for image in built.images:
        with Image.open(built.mask_of(image)) as mask, Image.open(image) as crop:
            assert mask.mode == "L" and mask.width == mask.height == min(512, crop.width)
            alpha = np.asarray(mask) / 255
        middle = alpha[alpha.shape[0] // 4 : -alpha.shape[0] // 4]
        assert alpha[:8].mean() < 0.2 < middle.mean() < 0.9, "the toy is in the middle"
    assert inspect_dataset(drive, "Racer")[0].masks == built.masks


def test_choice_to_use_a_photo_whole_lasts_and_can_be_taken_back(built, drive):
    first = built.images[0]
    whole = build_dataset(CAR, drive, cut_out={"00.jpg": False})
    assert whole.mask_of(first) is None and "Used whole: as chosen." in whole.verdicts[0].reason
    assert whole.sha256 != built.sha256, "it is not the same to train on"
    again = build_dataset(CAR, drive)
    assert again.mask_of(first) is None and again.sha256 == whole.sha256
    back = build_dataset(CAR, drive, cut_out={"00.jpg": True})
    assert back.mask_of(first) is not None and back.sha256 == built.sha256


def test_photo_that_was_half_copied_is_cut_out_once_it_is_whole(built, drive):
    """It was "used whole: as chosen" for ever, though nobody had chosen anything."""
    photo = drive.subject("Racer") / "photos" / "00.jpg"
    data = photo.read_bytes()
    photo.write_bytes(data[:2000])
    assert build_dataset(CAR, drive).verdicts[0].verdict == "unreadable"
    photo.write_bytes(data)
    again = build_dataset(CAR, drive)
    assert again.verdicts[0].cut_out and again.sha256 == built.sha256


def test_damaged_copy_of_a_photo_that_is_there_says_that_it_is_damaged(built, drive, tmp_path):
    source = tmp_path / "camera"
    source.mkdir()
    data = (PHOTOS / "00.jpg").read_bytes()
    (source / "00.jpg").write_bytes(data[:2000])
    shutil.copy(PHOTOS / "00.jpg", source / "twin.jpg")
    found = build_dataset(CAR, drive, photos=source).verdicts
    said = [(one.photo, one.verdict) for one in found if one.photo == "00.jpg"]
    assert ("00.jpg", "unreadable") in said


def test_unknown_photo_is_refused_with_the_known_ones(built, drive):
    with pytest.raises(InputError, match=r"no photo 'nine.jpg'.*00\.jpg"):
        build_dataset(CAR, drive, cut_out={"nine.jpg": False})


def test_photo_with_nothing_in_it_is_used_whole_and_says_why(drive):
    # A shaded wall: light enough, sharp enough by its grain, and without a thing on it.
    rng = np.random.default_rng(0)
    shade = np.linspace(150, 235, 700)[:, None, None] + rng.normal(0, 14, (700, 700, 1))
    wall = Image.fromarray(np.repeat(shade, 3, axis=2).clip(0, 255).astype("uint8"))
    folder = drive.root.parent / "wall"
    folder.mkdir()
    wall.save(folder / "wall.png")
    [verdict] = build_dataset(CAR, drive, photos=folder).verdicts
    assert not verdict.cut_out and "nothing stands out" in verdict.doubt
    assert "Used whole: nothing stands out" in verdict.reason


def test_mask_that_is_gone_or_was_changed_is_not_used(built, drive):
    one, other = built.images[:2]
    built.mask_of(one).unlink()
    Image.new("L", (512, 512), 255).save(built.mask_of(other))
    found, damaged = inspect_dataset(drive, "Racer")
    assert damaged == [], "the crops are whole"
    assert [found.mask_of(image) is None for image in built.images] == [True, True] + [False] * 3
    assert f"2 photos ({one.name}, {other.name}) are gone or were changed" in found.lost_masks
    assert built.mask_of(built.images[2]) and "learned whole" in found.lost_masks
    again = build_dataset(CAR, drive)
    assert again.lost_masks == "" and all(again.mask_of(image) for image in again.images)
    [aside] = (drive.subject("Racer") / "set_aside").iterdir()
    assert aside.name == other.name, "what somebody drew is not lost"


def test_manifest_of_before_has_no_masks(built, drive):
    manifest = json.loads(built.manifest.read_text())
    for entry in manifest["photos"]:
        for key in ("cut_out", "doubt", "mask_sha256"):
            del entry[key]
    built.manifest.write_text(json.dumps(manifest))
    found, damaged = inspect_dataset(drive, "Racer")
    assert damaged == [] and found.images == built.images
    assert not any(found.mask_of(image) for image in found.images)

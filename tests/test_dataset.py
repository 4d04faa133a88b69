"""From photos to a dataset: what is written, the same twice, and that nothing is lost."""

import json

import pytest
from PIL import Image

from s2i_lib.dataset import Box, Subject, build_dataset, load_dataset, sample_subject
from s2i_lib.drive import Drive
from s2i_lib.errors import InputError
from s2i_lib.subject import check_identifier


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


@pytest.mark.slow
def test_crop_by_hand_lasts_until_it_is_taken_back(drive):
    subject = sample_subject(drive)
    found = build_dataset(subject, drive).verdicts[0].crop
    wanted = Box(100, 200, 600)
    assert build_dataset(subject, drive, crops={"00.jpg": wanted}).verdicts[0].crop == wanted
    assert build_dataset(subject, drive).verdicts[0].crop == wanted
    assert build_dataset(subject, drive, crops={"00.jpg": None}).verdicts[0].crop == found


def test_an_identifier_that_a_tokenizer_cuts_up_is_refused(drive):
    kept = drive.models / "sd2.1-base" / "tokenizer"
    kept.mkdir(parents=True)
    (kept / "vocab.json").write_text('{"sks</w>": 0, "r": 1, "ex</w>": 2}')
    check_identifier("SKS", drive)
    with pytest.raises(InputError, match="Take sks"):
        check_identifier("rex", drive)


@pytest.mark.slow
def test_people_are_cropped_only_with_consent_which_is_asked_for_once(drive):
    sample_subject(drive)
    person = Subject("Racer", "man", kind="person")
    with pytest.raises(InputError, match="--consent"):
        build_dataset(person, drive)
    sentence = "I, Racer, agree to this. 2026-08-19"
    assert build_dataset(person, drive, consent=sentence).consent == sentence
    assert build_dataset(person, drive).consent == sentence
    assert load_dataset(drive, "Racer").consent == sentence


@pytest.mark.slow
def test_a_changed_crop_is_noticed_and_what_a_user_changed_is_set_aside(drive):
    subject = sample_subject(drive)
    crop = build_dataset(subject, drive).images[0]
    ours = crop.read_bytes()
    crop.write_bytes(b"edited by hand")
    with pytest.raises(InputError, match="not what the manifest says"):
        load_dataset(drive, subject.name)
    build_dataset(subject, drive)
    assert crop.read_bytes() == ours
    assert (crop.parent.parent / "set_aside" / crop.name).read_bytes() == b"edited by hand"


def test_a_photo_taken_away_takes_only_its_own_crop_away(drive):
    subject = sample_subject(drive)
    before = build_dataset(subject, drive)
    (drive.subject(subject.name) / "photos" / "03.jpg").unlink()
    after = build_dataset(subject, drive)
    assert [path.name for path in after.images] == ["00.png", "01.png", "02.png", "04.png"]
    assert not (before.folder / "03.png").exists() and before.sha256 != after.sha256


def test_without_photos_or_with_unknown_crops_the_error_says_what_to_do(drive):
    with pytest.raises(InputError, match="found 0, need 4 to 30"):
        build_dataset(Subject("Nobody", "dog"), drive)
    subject = sample_subject(drive)
    with pytest.raises(InputError, match="There are: 00"):
        build_dataset(subject, drive, crops={"99.jpg": Box(0, 0, 10)})
    with pytest.raises(InputError, match="does not lie in the photo"):
        build_dataset(subject, drive, crops={"00.jpg": Box(900, 900, 500)})

"""From photos to a dataset: what is written, the same twice, and that nothing is lost."""

import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from s2i_lib.errors import InputError
from s2i_lib.photos.consent import Consent
from s2i_lib.photos.crop import Box
from s2i_lib.photos.dataset import build_dataset, sample_subject
from s2i_lib.photos.manifest import load_dataset, read_earlier
from s2i_lib.photos.subject import Subject, check_identifier, load_subject, save_subject
from s2i_lib.storage.files import make_folder
from s2i_lib.storage.layout import Drive

SAMPLE = Path(__file__).parents[2] / "s2i_lib" / "samples" / "rc_car" / "00.jpg"


@pytest.fixture
def drive(tmp_path) -> Drive:
    return Drive(tmp_path / "drive")


def snapshot(drive: Drive) -> dict[str, bytes]:
    return {
        str(path.relative_to(drive.root)): path.read_bytes()
        for path in sorted(drive.root.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_building_twice_gives_the_same_bytes(drive):
    subject = sample_subject(drive)
    first = build_dataset(subject, drive)
    before = snapshot(drive)
    second = build_dataset(subject, drive)
    assert first == second == load_dataset(drive, subject.name)
    assert snapshot(drive) == before
    assert len(first.images) == 5


@pytest.mark.slow
def test_crops_are_square_rgb_and_as_large_as_the_manifest_says(drive):
    dataset = build_dataset(sample_subject(drive), drive)
    manifest = json.loads(dataset.manifest.read_text())
    for path, entry in zip(dataset.images, manifest["photos"], strict=True):
        with Image.open(path) as image:
            assert image.mode == "RGB"
            assert image.size == (entry["image_px"],) * 2
            assert image.width == min(entry["crop"]["size"], 1024)


@pytest.mark.slow
def test_a_folder_among_the_crops_is_left_alone(drive):
    theirs = drive.subject("Racer") / "dataset" / "old.png"
    theirs.mkdir(parents=True)
    assert len(build_dataset(sample_subject(drive), drive).images) == 5 and theirs.is_dir()


@pytest.mark.slow
def test_crop_by_hand_lasts_until_it_is_taken_back(drive):
    subject = sample_subject(drive)
    found = build_dataset(subject, drive).verdicts[0].crop
    wanted = Box(100, 200, 600)
    assert build_dataset(subject, drive, crops={"00.jpg": wanted}).verdicts[0].crop == wanted
    assert build_dataset(subject, drive).verdicts[0].crop == wanted
    assert build_dataset(subject, drive, crops={"00.jpg": None}).verdicts[0].crop == found


@pytest.mark.parametrize("noun", ["mug", "car"])
def test_the_sample_is_not_put_among_photos_of_anothers_subject_of_its_name(drive, noun):
    save_subject(drive, Subject("Racer", noun))
    if noun == "car":
        Image.new("RGB", (9, 9)).save(make_folder(drive.subject("Racer") / "photos") / "own.png")
    before = snapshot(drive)
    with pytest.raises(InputError, match="subject of your own"):
        sample_subject(drive)
    assert snapshot(drive) == before and not (drive.subject("Racer") / "photos" / "00.jpg").exists()
    assert noun == "car" or not (drive.subject("Racer") / "photos").exists()


def test_the_sample_is_itself_again_with_photos_that_were_added_or_taken_away(drive):
    photos = drive.subject(sample_subject(drive).name) / "photos"
    (photos / "00.jpg").unlink()
    Image.new("RGB", (9, 9)).save(photos / "mine.png")
    assert sample_subject(drive) == Subject("Racer", "car")
    assert len(list(photos.iterdir())) == 6


def test_an_identifier_that_a_tokenizer_cuts_up_is_refused(drive):
    kept = drive.models / "sd2.1-base" / "tokenizer"
    kept.mkdir(parents=True)
    (kept / "vocab.json").write_text('{"ohwx</w>": 0, "r": 1, "ex</w>": 2}')
    check_identifier("OHWX", drive)
    with pytest.raises(InputError, match="Take one of ohwx"):
        check_identifier("rex", drive)


@pytest.mark.slow
def test_people_are_cropped_only_with_consent_which_is_asked_for_once(drive):
    sample_subject(drive)
    person = Subject("Racer", "man", kind="person")
    with pytest.raises(InputError, match="--consent-by 'Racer' --consent-on"):
        build_dataset(person, drive)
    consent = Consent("Ada Lovelace", "2026-01-19")
    built = build_dataset(person, drive, consent=consent)
    assert built == build_dataset(person, drive) == load_dataset(drive, "Racer")
    assert built.consent == consent
    assert json.loads(built.manifest.read_text())["consent"] == {
        "by": "Ada Lovelace",
        "on": "2026-01-19",
        "sentence": "I, Ada Lovelace, agree that photos of Racer are used to train a model that "
        "draws Racer. 2026-01-19",
    }


@pytest.mark.slow
def test_a_consent_without_name_or_date_in_the_manifest_is_asked_for_again(drive):
    sample_subject(drive)
    person = Subject("Racer", "man", kind="person")
    manifest = build_dataset(person, drive, consent=Consent("Ada", "2026-01-19")).manifest
    record = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(record | {"consent": "yes"}))
    (manifest.parent / "choices.json").unlink()  # where it is kept a second time
    with pytest.raises(InputError, match="consent is needed"):
        build_dataset(person, drive)


def test_consent_has_a_name_and_a_day_that_has_come():
    assert Consent.given(" ", None) is None
    assert Consent("Ada  Lovelace ", "19.1.2026") == Consent("Ada Lovelace", "2026-01-19")
    assert "photos of me" in Consent("ada", "2026-01-19").sentence("Ada")
    for by in ("", "?", "yes", "I agree.", "me", "12"):
        with pytest.raises(InputError, match="name of who agrees"):
            Consent(by, "2026-01-19")
    for on in ("", "yesterday", "01/02/2026", "2026-13-01", "31.2.2026"):
        with pytest.raises(InputError, match="the date on which"):
            Consent("Ada", on)
    with pytest.raises(InputError, match="still to come"):
        Consent("Ada", "2999-01-01")


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


@pytest.mark.slow
def test_a_photo_taken_away_takes_only_its_own_crop_away(drive):
    subject = sample_subject(drive)
    before = build_dataset(subject, drive)
    (drive.subject(subject.name) / "photos" / "03.jpg").unlink()
    after = build_dataset(subject, drive)
    assert [path.name for path in after.images] == ["00.png", "01.png", "02.png", "04.png"]
    assert not (before.folder / "03.png").exists() and before.sha256 != after.sha256


def test_a_source_without_photos_is_named_and_nothing_is_made(drive, tmp_path):
    empty, notes, packed = tmp_path / "empty", tmp_path / "notes.txt", tmp_path / "packed.zip"
    empty.mkdir()
    notes.write_text("hello")
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("notes.txt", "hello")
    for source in (empty, notes, packed):
        with pytest.raises(InputError, match=f"no photos in .*{source.name}"):
            build_dataset(Subject("Rex", "dog"), drive, photos=source)
    assert not drive.subject("Rex").exists()


@pytest.mark.slow
def test_what_is_no_photo_in_a_zip_is_listed_and_not_judged(drive, tmp_path):
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(SAMPLE, "album/00.jpg")
        archive.writestr("album/notes.txt", "hello")
        archive.writestr("album/broken.jpg", "hello")
    built = build_dataset(Subject("Racer", "car"), drive, photos=packed)
    assert built.ignored == ("album/notes.txt",)
    assert {v.photo: v.verdict for v in built.verdicts} == {
        "00.jpg": "fine", "broken.jpg": "unreadable",
    }  # fmt: skip


@pytest.mark.slow
def test_two_names_of_one_folder_do_not_mix_their_photos(drive):
    build_dataset(sample_subject(drive), drive)
    for put in (lambda who: build_dataset(who, drive), lambda who: save_subject(drive, who)):
        with pytest.raises(InputError, match="is that of 'Racer'"):
            put(Subject("Racer!", "cat"))
    assert load_subject(drive, "Racer").class_noun == "car"


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"schema_version": 1, "photos": [{}]}', '{"schema_version": 1}']
)
def test_a_damaged_manifest_is_named(drive, text, caplog):
    """It is built again, from what people chose (test_attacks_files)."""
    subject = sample_subject(drive)
    path = drive.subject(subject.name) / "manifest.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json cannot be read"):
        load_dataset(drive, subject.name)
    assert read_earlier(path.parent) == {}
    assert "manifest.json cannot be read" in caplog.text


@pytest.mark.slow
def test_without_photos_or_with_unknown_crops_the_error_says_what_to_do(drive):
    with pytest.raises(InputError, match="found 0, need 1; 4 to 30 are best"):
        build_dataset(Subject("Nobody", "dog"), drive)
    subject = sample_subject(drive)
    with pytest.raises(InputError, match="There are: 00"):
        build_dataset(subject, drive, crops={"99.jpg": Box(0, 0, 10)})
    with pytest.raises(InputError, match="does not lie in the photo"):
        build_dataset(subject, drive, crops={"00.jpg": Box(900, 900, 500)})

"""Names that are longer than a file's may be, or no text: shortened by bytes, and never a crash."""

import os
import subprocess
import sys
import zipfile

import photo_files as made
import pytest

from s2i_lib.photos.dataset import build_dataset
from s2i_lib.photos.importing import import_zip, keep_photo
from s2i_lib.photos.subject import Subject, load_subject
from s2i_lib.storage.files import free_path, write_file
from s2i_lib.storage.layout import Drive, folder_name
from s2i_lib.storage.removal import remove

# Linux's limit of a name (limits.h, NAME_MAX), which the Drive's mount in Colab has, too.
NAME_MAX = 255
LONG = {
    "letters": "x" * 300,
    "bytes": "x" * 254,
    "emoji": "\N{DOG FACE}" * 62,
    "skin": "\N{WAVING HAND SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-5}" * 31,
    "accents": "é" * 127,
    "hangul": "강아지" * 40,
    "devanagari": "राम" * 40,
}


def on_disk(name: str) -> str:
    """As long as the disk takes it, suffix and all."""
    return name.encode()[: NAME_MAX - 4].decode(errors="ignore") + ".jpg"


@pytest.mark.parametrize("kind", LONG)
def test_a_long_name_is_kept_short_twice_over_and_is_not_mixed_up(kind, tmp_path):
    one, other = (made.encode(made.photo(300, n), "JPEG") for n in (1, 2))
    paths = [keep_photo(data, f"{LONG[kind]}.jpg", tmp_path) for data in (one, other, one)]
    assert paths[0] == paths[2] and len(set(paths)) == 2
    for path in paths:
        write_file(path.parent / f"{path.stem}-999.png", b"crop")
        assert path.suffix == ".jpg" and path.stem[0] == LONG[kind][0]


@pytest.mark.parametrize("kind", [kind for kind in LONG if kind not in ("emoji", "skin")])
def test_the_folder_of_a_long_name_can_be_made_and_deleted_and_is_its_own(kind, drive):
    name = LONG[kind]
    folders = {drive.subject(name + tail) for tail in ("", "a", "b" * 100)}
    assert len(folders) == 3
    for folder in folders:
        folder.mkdir(parents=True)
        remove(folder)  # under another, longer name first
        assert not folder.exists()
    assert folder_name(name) == folder_name(name.upper())
    assert folder_name("y" * 249) == "y" * 249, "as before, where that was possible"


@pytest.mark.slow
def test_long_names_in_folder_zip_and_subject_become_a_dataset(tmp_path):
    source, drive = tmp_path / "album", Drive(tmp_path / "drive")
    source.mkdir()
    number = iter(range(1, 99))
    data = [made.encode(made.photo(480, n), "JPEG", quality=90) for n in range(1, 4)]
    (source / on_disk(LONG["emoji"])).write_bytes(data[0])
    (source / on_disk(LONG["bytes"])).write_bytes(data[1])
    (source / os.fsdecode(b"\xe9t\xe9.jpg")).write_bytes(data[2])  # Latin-1, as old zips unpack
    (source / os.fsdecode(b"\xff.txt")).write_bytes(b"no photo")
    with zipfile.ZipFile(tmp_path / "album.zip", "w") as archive:
        for each in data:
            archive.writestr(f"{LONG['letters']}/{LONG['hangul']}{next(number)}.jpg", each)
    result = import_zip(tmp_path / "album.zip", tmp_path / "kept")
    assert len(result.kept) == 3 and not result.refused
    subject = Subject("Max " + LONG["letters"], "car")
    dataset = build_dataset(subject, drive, photos=source)
    assert len(dataset.verdicts) == 3 and not any(
        v.verdict == "unreadable" for v in dataset.verdicts
    )
    assert load_subject(drive, subject.name) == subject
    # and those that somebody put there by hand
    photos = drive.subject(subject.name) / "photos"
    (photos / on_disk(LONG["accents"])).write_bytes(made.encode(made.photo(480, 4), "JPEG"))
    (photos / os.fsdecode(b"\xe8.jpg")).write_bytes(made.encode(made.photo(500, 1), "JPEG"))
    dataset = build_dataset(subject, drive)
    assert len(dataset.verdicts) == 5 and all(path.is_file() for path in dataset.images)


@pytest.mark.slow
def test_a_path_that_is_too_long_is_said_in_one_sentence(tmp_path):
    for words in (["dataset", "x" * 300, "--subject", "Rex", "--class-noun", "dog"],
                  ["hear", "x" * 300], ["draw", "a dog", "--run", "x" * 300],
                  ["draw", "a dog", "--model", "x" * 300],
                  ["draw", "a dog", "--subject", "x" * 300],
                  ["draw", "a dog", "--out", str(tmp_path / ("x" * 300))]):  # fmt: skip
        ended = subprocess.run(
            [sys.executable, "-m", "s2i_lib", *words, "--drive", str(tmp_path)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 2, (words, ended.stderr)
        assert "Traceback" not in ended.stderr and "Free some space" not in ended.stderr
        assert "Error:" in ended.stderr


def test_a_free_path_keeps_within_the_limit(tmp_path):
    path = tmp_path / f"{'x' * 251}.png"
    path.write_bytes(b"")
    free = free_path(path)
    free.write_bytes(b"")
    assert free != path

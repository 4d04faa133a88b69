"""What the widgets fill and show: a folder of photos that never loses or invents one."""

from __future__ import annotations

import io
import os
import zipfile

import pytest
from PIL import Image

from s2i_lib.errors import InputError
from s2i_lib.storage.layout import Drive
from s2i_lib.widgets.capture import photo_folder
from s2i_lib.widgets.photos.folder import PhotoFolder
from s2i_lib.widgets.upload import Upload


def jpeg(colour: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (640, 480), colour).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path) -> PhotoFolder:
    return photo_folder(Drive(tmp_path), "Rex")


def test_asking_creates_nothing(folder):
    assert folder.names() == [] and not folder.path.exists()


def test_two_photos_of_one_name_are_both_kept(folder):
    first, second = folder.add("a.jpg", jpeg("red")), folder.add("a.jpg", jpeg("blue"))
    assert first != second and len(folder.names()) == 2


def test_hidden_and_other_files_are_not_shown(folder):
    folder.add("a.jpg", jpeg("red"))
    (folder.path / ".ipynb_checkpoints").mkdir()
    (folder.path / ".b.jpg").write_bytes(jpeg("blue"))
    (folder.path / "notes.txt").write_text("x")
    assert folder.names() == ["a.jpg"]


def test_order_is_that_of_arrival(folder):
    for time_s, name in enumerate(["z.jpg", "a.jpg"]):
        folder.add(name, jpeg(["red", "blue"][time_s]))
        os.utime(folder.path / name, (time_s, time_s))
    assert folder.names() == ["z.jpg", "a.jpg"]


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_other_formats_than_jpeg_are_taken(folder, format_):
    stream = io.BytesIO()
    Image.new("RGB", (640, 480), "red").save(stream, format_)
    (name,) = folder.add(f"a.{format_.lower()}", stream.getvalue())
    assert Image.open(io.BytesIO(folder.thumbnail(name))).size == (192, 144)


def test_removed_photo_comes_back_as_it_was(folder):
    folder.add("a.jpg", jpeg("red"))
    kept = (folder.path / "a.jpg").read_bytes()
    folder.add("a.jpg", folder.remove("a.jpg"))
    assert (folder.path / "a.jpg").read_bytes() == kept


@pytest.mark.slow
def test_photo_that_a_full_drive_does_not_take_back_is_kept_for_another_try(faulty_drive):
    folder = PhotoFolder(faulty_drive.path / "photos")
    widget = Upload(folder)
    folder.add("a.jpg", jpeg("red"))
    folder.add("b.jpg", jpeg("blue"))
    widget._told({"type": "remove", "name": "b.jpg"})
    faulty_drive.fault("full")
    widget._told({"type": "undo"})
    assert folder.names() == ["a.jpg"]
    faulty_drive.fault("")
    widget._told({"type": "undo"})
    assert folder.names() == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("name", ["../subject.json", "/etc/hostname", "missing.jpg", ""])
def test_nothing_outside_of_the_folder_can_be_shown_or_deleted(folder, name):
    folder.add("a.jpg", jpeg("red"))
    (folder.path.parent / "subject.json").write_text("{}")
    for action in (folder.remove, folder.thumbnail):
        with pytest.raises(InputError, match="There is no photo"):
            action(name)
    assert (folder.path.parent / "subject.json").exists()


def test_thumbnail_is_small_and_upright(folder):
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (640, 480), "red").save(stream, "JPEG", exif=exif)
    folder.add("a.jpg", stream.getvalue())
    assert Image.open(io.BytesIO(folder.thumbnail("a.jpg"))).size == (144, 192)


def test_zip_without_photos_says_what_was_in_it(folder):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("notes.txt", "x")
    with pytest.raises(InputError, match=r"No photo was found in x\.zip\. notes"):
        folder.add("x.zip", stream.getvalue())


def test_folder_that_is_not_there_lists_what_was_tried(folder):
    with pytest.raises(InputError, match=r"tried nowhere.*MyDrive/nowhere"):
        folder.add_folder("nowhere")


def test_one_bad_photo_of_many_is_said_and_the_others_are_kept(tmp_path):
    source, folder = tmp_path / "album", PhotoFolder(tmp_path / "photos")
    source.mkdir()
    for name, data in {"a.jpg": jpeg("red"), "b.jpg": b"no photo", "d.jpg": jpeg("blue")}.items():
        (source / name).write_bytes(data)
    (source / "c.jpg").symlink_to(tmp_path / "gone.jpg")
    assert folder.add_folder(str(source)) == ["a.jpg", "d.jpg"]
    assert [why.split()[0] for why in folder.refused] == ["b.jpg", "c.jpg"]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("b.jpg", "a.jpg"):
            archive.write(source / name, name)
    assert folder.add("album.zip", stream.getvalue()) == ["a.jpg"]
    assert len(folder.refused) == 1 and "b.jpg" in folder.refused[0]
    folder.add("a.jpg", jpeg("red"))
    assert folder.refused == []

"""What a disk holds and has room for, and its faults in words."""

import errno
import os
import time

import pytest

from s2i_lib.errors import S2iError
from s2i_lib.storage import disk


def test_free_space_is_known_before_the_folder_exists(tmp_path):
    assert disk.free_bytes(tmp_path / "not" / "there") == pytest.approx(
        disk.free_bytes(tmp_path), rel=0.1
    )


def test_a_folder_that_is_not_there_is_empty_and_one_that_cannot_be_listed_is_an_error(tmp_path):
    assert disk.list_folder(tmp_path / "not there") == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="directory"):
        disk.list_folder(tmp_path / "file")
    with pytest.raises(OSError, match="directory"):
        disk.list_matching(tmp_path / "file", "*/*")
    assert [path.name for path in disk.list_matching(tmp_path, "f*")] == ["file"]


def test_sizes_are_of_all_files_below_and_links_count_for_themselves(tmp_path):
    (tmp_path / "one" / "deep").mkdir(parents=True)
    (tmp_path / "one" / "deep" / "a").write_bytes(b"12345")
    (tmp_path / "one" / "b").write_bytes(b"123")
    (tmp_path / "link").symlink_to(tmp_path / "one" / "b")
    assert disk.size_of(tmp_path / "one") == 8
    assert disk.size_of(tmp_path / "link") == len(os.fsencode(tmp_path / "one" / "b"))
    assert [file.name for file in disk.files_in(tmp_path / "one")] == ["b", "a"]


def test_what_another_process_deletes_meanwhile_has_no_size(tmp_path, monkeypatch):
    """A run is listed while it is trained: its older states go."""
    (tmp_path / "a").write_bytes(b"12345")
    monkeypatch.setattr(os, "walk", lambda path, **_: [(path, ["gone"], ["a", "deleted"])])
    assert disk.size_of(tmp_path) == 5
    monkeypatch.setattr(disk, "is_uploaded_later", lambda path: True)
    assert disk.upload_left_s(tmp_path / "deleted") == 0
    os.utime(tmp_path / "a", (time.time() + 60,) * 2)
    assert disk.upload_left_s(tmp_path) > 0, "of the file that is there"


def test_only_a_mounted_drive_uploads_later_and_a_large_file_takes_its_time(tmp_path, faulty_drive):
    for folder, is_mounted in ((tmp_path, False), (faulty_drive.path, True)):
        large = folder / "large"
        with large.open("wb") as file:
            file.truncate(300_000_000)  # takes no space: a hole
        assert disk.is_uploaded_later(large) is is_mounted
        assert disk.has_had_time(large) is not is_mounted
        os.utime(large, (time.time() - 3600,) * 2)
        assert disk.has_had_time(large)


def test_a_fault_is_named_by_its_number_and_with_what_helps():
    full = OSError(errno.ENOSPC, "No space left on device")
    assert disk.name_fault(full).endswith("empty its bin") and "errno 28" in disk.name_fault(full)
    assert disk.name_fault(OSError("no image")) == "no image"
    wrapped = S2iError("The page could not be written.")
    assert disk.name_fault(wrapped) == "The page could not be written"
    wrapped.__cause__ = full
    assert disk.name_fault(wrapped) == disk.name_fault(full)

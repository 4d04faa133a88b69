"""Strangers' pictures, records, pages and folders: each test is the attack, on own files."""

import json
import os
from pathlib import Path

import pytest

from s2i_lib.storage.files import remove

SECRET = b"somebody's only copy"


# ---- Deleting ----


def test_deleting_follows_no_link_and_empties_no_file_that_has_another_name(tmp_path):
    outside = tmp_path / "outside"
    (outside / "run").mkdir(parents=True)
    (outside / "run" / "weights").write_bytes(SECRET)
    (outside / "file").write_bytes(SECRET)
    (outside / "backup").write_bytes(SECRET)
    own = tmp_path / "drive" / "rex"
    (own / "sub").mkdir(parents=True)
    (own / "sub" / "mine").write_bytes(b"to be deleted")
    (own / "file").symlink_to(outside / "file")
    (own / "folder").symlink_to(outside / "run")
    (own / "nowhere").symlink_to(outside / "not there")
    os.link(outside / "backup", own / "hard")
    os.mkfifo(own / "pipe")
    linked = tmp_path / "drive" / "linked"
    linked.symlink_to(outside / "run")
    for path in (own, linked):
        remove(path)
    assert list((tmp_path / "drive").iterdir()) == []
    kept = (outside / "run" / "weights", outside / "file", outside / "backup")
    assert [path.read_bytes() for path in kept] == [SECRET] * 3


@pytest.mark.parametrize("name", ["rex", "n" * 255])
def test_a_folder_goes_although_one_that_was_killed_left_its_half(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "new").write_bytes(b"new")
    if len(name) < 200:
        (tmp_path / f".{name}.part").mkdir()
        (tmp_path / f".{name}.part" / "old").write_bytes(b"old")
    remove(tmp_path / name)
    assert list(tmp_path.iterdir()) == []

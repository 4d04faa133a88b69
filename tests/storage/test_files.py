"""Files are written whole, under a name that is free, and what was half written is found."""

import os

import pytest

from s2i_lib.errors import InputError
from s2i_lib.storage.files import (
    PART_LIVES_S,
    abandoned_parts,
    files_beside,
    free_path,
    make_folder,
    part_of,
    whole_name,
    write_new,
    written_whole,
)


def test_nothing_is_written_over_whatever_case_its_name_has(tmp_path):
    written = [write_new(tmp_path / name, b"x").name for name in ("a.png", "A.png", "a.png")]
    assert written == ["a.png", "A-2.png", "a-3.png"]
    (tmp_path / "b.json").write_bytes(b"x")
    assert free_path(tmp_path / "b.png").name == "b.png"
    assert free_path(tmp_path / "b.png", ".json").name == "b-2.png", "its record has to fit, too"


def test_what_belongs_to_a_picture_lies_beside_it_under_its_name(tmp_path):
    for name in ("a[1].png", "a[1].json", "a[1].glb", "a.png", "a1.png", "a[1].room.html"):
        (tmp_path / name).write_bytes(b"x")
    beside = [path.name for path in files_beside(tmp_path / "a[1].png")]
    assert beside == ["a[1].glb", "a[1].json", "a[1].png"]


def test_a_half_written_file_says_what_it_is_of(tmp_path):
    for name in ("run.json", ".hidden", "ü" * 100 + ".png"):
        assert whole_name(part_of(tmp_path / name)) == tmp_path / name
    assert whole_name(tmp_path / ".plain.part") == tmp_path / ".plain.part"


def test_what_a_killed_process_left_goes_when_nobody_can_be_at_work_on_it(tmp_path):
    old, new = part_of(tmp_path / "old"), part_of(tmp_path / "new")
    for part in (old, new):
        part.mkdir()
        (part / "file").write_bytes(b"half")
    for path in (old, old / "file"):
        os.utime(path, (path.stat().st_mtime - PART_LIVES_S - 60,) * 2)
    assert list(abandoned_parts(tmp_path)) == [old]
    make_folder(tmp_path)
    assert not old.exists() and new.exists()


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "made"
    with pytest.raises(RuntimeError), written_whole(target) as part:
        part.mkdir()
        (part / "half").write_bytes(b"x")
        raise RuntimeError
    assert list(target.parent.iterdir()) == []
    with written_whole(target) as part:
        part.write_bytes(b"whole")
    assert target.read_bytes() == b"whole"
    with pytest.raises(InputError, match="exists already"), written_whole(target):
        pass

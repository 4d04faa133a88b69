"""Files are written whole, under a name that is free, and what was half written is found."""

import os
import tempfile
from pathlib import Path

import pytest

from s2i_lib.errors import InputError
from s2i_lib.storage.files import (
    PART_LIVES_S,
    abandoned_parts,
    files_beside,
    free_path,
    make_folder,
    part_of,
    scratch_folder,
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
    own = ["a[1].glb", "a[1].json", "a[1].png", "a[1].room.html", "a[1].stereo.jpg"]
    for name in (*own, "a.png", "a1.png", "a[1].loom.html", "a[1].stereo.png"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in files_beside(tmp_path / "a[1].png")] == own


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


def test_half_a_file_of_another_program_stays_however_old_it_is(tmp_path):
    for name in (".holiday.mkv.part", ".notes.12345678.old.part", ".0a1b2c3d.part"):
        (tmp_path / name).write_bytes(b"theirs")
        os.utime(tmp_path / name, (0, 0))
    make_folder(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_scratch_of_dead_processes_goes_and_folders_that_only_look_like_it_stay(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = 99999999  # above the highest number that Linux gives
    ours = tmp_path / f"s2i-dataset-mr-whiskers-{dead}-a_c4e6g8"
    alive = tmp_path / f"s2i-weights-{os.getpid()}-a_c4e6g8"
    numbers = ("²", 10**30)
    names = ("s2i-2026-08-19", f"s2i-backup-{dead}-photos")
    theirs = [tmp_path / name for name in (*names, *(f"s2i-x-{n}-a_c4e6g8" for n in numbers))]
    for folder in (ours, alive, *theirs):
        folder.mkdir()
    with scratch_folder("weights") as new:
        assert set(tmp_path.iterdir()) == {alive, *theirs, Path(new)}


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

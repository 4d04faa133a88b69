"""Files reach a Drive whole or not at all."""

import errno
from pathlib import Path

import pytest

from s2i_lib.storage import publishing
from s2i_lib.storage.publishing import NotTakenError, publish, tidy


def test_a_file_arrives_whole_and_replaces_the_old_one(tmp_path):
    source, target = tmp_path / "a", tmp_path / "deep" / "b"
    for content in (b"one", b"two" * 5_000_000):
        source.write_bytes(content)
        phases = []
        publish(source, target, phases.append)
        assert target.read_bytes() == content
        assert phases == ["publishing", "verifying", "renaming"]
    assert [path.name for path in target.parent.iterdir()] == ["b"]


def test_a_folder_arrives_whole_and_replaces_the_old_one(tmp_path):
    source, target = tmp_path / "a", tmp_path / "b"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "x").write_bytes(b"1")
    publish(source, target)
    (source / "deep" / "x").rename(source / "y")
    publish(source, target)
    assert [p.name for p in target.rglob("*") if p.is_file()] == ["y"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_what_reads_back_different_is_not_taken_and_the_old_one_stays(tmp_path, monkeypatch):
    source, target = tmp_path / "a", tmp_path / "b"
    target.write_bytes(b"good")
    source.write_bytes(b"new")

    def spoil(phase):
        if phase == "verifying":
            (tmp_path / ".b.part").write_bytes(b"nex")

    with pytest.raises(NotTakenError, match="reads back different"):
        publish(source, target, spoil)
    assert target.read_bytes() == b"good"


def test_tidy_clears_half_done_work_and_puts_back_what_stood_aside(tmp_path):
    (tmp_path / ".weights.old").mkdir()
    (tmp_path / ".weights.old" / "x").write_bytes(b"good")
    (tmp_path / ".state.part").mkdir()
    (tmp_path / ".state.part" / "x").write_bytes(b"half")
    (tmp_path / ".run.json.part").write_bytes(b"half")
    (tmp_path / "mine.txt").write_text("not ours to touch")
    tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "weights"]
    assert (tmp_path / "weights" / "x").read_bytes() == b"good"


def test_tidy_drops_what_stood_aside_once_its_successor_is_there(tmp_path):
    for name in (".weights.old", "weights"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text(name)
    tidy(tmp_path)
    assert (tmp_path / "weights" / "x").read_text() == "weights"
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_what_does_not_fit_on_a_full_drive_leaves_its_room_to_smaller_files(tmp_path, monkeypatch):
    source, target = tmp_path / "state", tmp_path / "drive" / "state"
    source.write_bytes(b"large")

    def fill(source, target):
        target.write_bytes(b"lar")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(publishing, "_copy", fill)
    with pytest.raises(OSError, match="No space left"):
        publish(source, target)
    assert list(target.parent.iterdir()) == []


def test_a_folder_that_stepped_aside_is_back_where_its_successor_gets_no_name(
    tmp_path, monkeypatch
):
    source, target = tmp_path / "a", tmp_path / "drive" / "weights"
    for folder, content in ((source, b"new"), (target, b"good")):
        folder.mkdir(parents=True)
        (folder / "x").write_bytes(content)
    rename = Path.rename

    def fail(path, to):
        if path.name == ".weights.part":
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="Input/output"):
        publish(source, target)
    assert (target / "x").read_bytes() == b"good"
    assert [path.name for path in target.parent.iterdir()] == ["weights"]

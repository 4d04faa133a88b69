"""Publishing whole or not at all, a queue that never gives up, one writer a run."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
import weakref

import pytest

from s2i_lib.errors import S2iError
from s2i_lib.storage.files import (
    NotTakenError,
    NotYetError,
    free_bytes,
    publish,
    remove,
    tidy,
)
from s2i_lib.storage.layout import local_folder, open_drive
from s2i_lib.storage.lease import Lease
from s2i_lib.storage.publisher import Publisher


def wait_until(is_true, seconds=20):
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---- publish ----


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


def test_removed_files_give_their_space_back_even_from_a_bin(tmp_path):
    """A bin is a second name for the same file: it must be empty."""
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "x").write_bytes(b"0" * 1000)
    os.link(folder / "x", tmp_path / "bin")
    remove(folder)
    assert not folder.exists() and (tmp_path / "bin").stat().st_size == 0
    remove(folder)  # gone already: no error


def test_two_drives_never_share_a_local_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "local"))
    one, two = open_drive(tmp_path / "one"), open_drive(tmp_path / "two")
    assert local_folder(one, one.runs / "rex") != local_folder(two, two.runs / "rex")
    assert local_folder(one, one.runs / "rex").parts[-2:] == ("runs", "rex")


def test_free_space_is_known_before_the_folder_exists(tmp_path):
    assert free_bytes(tmp_path / "not" / "there") == pytest.approx(free_bytes(tmp_path), rel=0.1)


# ---- Publisher ----


def test_what_has_been_written_is_let_go_of():
    """What a job holds is not held until the next one comes."""

    class State:
        pass

    publisher, state = Publisher(pytest.fail), State()
    seen = weakref.ref(state)
    publisher.submit("state", lambda state=state: None)
    del state
    wait_until(lambda: seen() is None)
    publisher.close()


def test_submitting_never_waits_and_a_newer_job_takes_an_older_ones_place(tmp_path):
    gate, done = threading.Event(), []
    publisher = Publisher(pytest.fail)
    began = time.monotonic()
    publisher.submit("slow", gate.wait)
    for number in range(3):
        publisher.submit("state", lambda number=number: done.append(number))
    assert time.monotonic() - began < 0.5
    gate.set()
    assert publisher.close() == []
    assert done == [2]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "The Drive is full"),
        (OSError(errno.ENOTCONN, "Transport endpoint is not connected"), "mount has died"),
        (NotTakenError("x reads back different."), "reads back different"),
    ],
)
def test_a_job_that_fails_is_reported_once_kept_and_done_when_the_drive_is_back(error, words):
    said, tries = [], []

    def job():
        tries.append(None)
        if len(tries) < 4:
            raise error

    publisher = Publisher(said.append, retry_s=0.01, limit_s=0.02)
    publisher.submit("state", job)
    assert publisher.close() == []
    assert len(tries) == 4 and len(said) == 2
    assert "did not take state" in said[0] and words in said[0]
    assert "takes files again" in said[1]


def test_what_could_not_be_written_in_time_is_named():
    def fail():
        raise OSError(errno.EIO, "Input/output error")

    publisher = Publisher(lambda text: None, retry_s=0.01)
    publisher.submit("the weights", fail)
    assert publisher.close(patience_s=0.2) == ["the weights"]


def test_a_mistake_of_ours_is_raised_not_retried():
    publisher = Publisher(pytest.fail)
    publisher.submit("state", lambda: {}["typo"])
    with pytest.raises(KeyError, match="typo"):
        publisher.close()


# ---- Lease ----

HOLDER = """
import sys, time
from pathlib import Path
from s2i_lib.storage.lease import Lease
lease = Lease(Path(sys.argv[1]), print, beat_s=0.1).acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_told_who_holds_the_run_and_writes_nothing(holder, tmp_path):
    with pytest.raises(S2iError, match=rf"process {holder.pid} on .* since .*--name"):
        Lease(tmp_path, pytest.fail).acquire()
    assert json.loads((tmp_path / "lease.json").read_text())["pid"] == holder.pid


def test_the_lease_of_a_killed_process_is_free_at_once(holder, tmp_path):
    holder.kill()
    holder.wait()
    began = time.monotonic()
    lease = Lease(tmp_path, pytest.fail).acquire()
    assert time.monotonic() - began < 1
    lease.release()
    assert not (tmp_path / "lease.json").exists()


def test_a_holder_on_another_machine_is_watched_for_a_beat(holder, tmp_path):
    said = []
    with pytest.raises(S2iError, match="is being trained"):
        Lease(tmp_path, said.append, stale_s=5, machine="another").acquire()
    assert "sign of life" in said[0]


def test_a_lease_without_beats_goes_stale_and_its_late_owner_writes_no_more(tmp_path):
    said = []
    sleeper = Lease(tmp_path, said.append, beat_s=1.0).acquire()
    successor = Lease(tmp_path, said.append, stale_s=0.3, machine="another").acquire()
    wait_until(lambda: sleeper.is_lost)
    assert any("taken over" in line for line in said)
    sleeper.release()
    assert json.loads((tmp_path / "lease.json").read_text())["token"] == successor.token
    successor.release()


def test_a_lease_file_that_cannot_be_read_holds_nobody_up(tmp_path):
    (tmp_path / "lease.json").write_text("{")
    Lease(tmp_path, pytest.fail).acquire().release()


def test_a_job_that_has_to_wait_is_tried_again_without_a_word_and_holds_up_no_other(tmp_path):
    said, tries = [], []
    publisher = Publisher(said.append, retry_s=0.01)

    def waits():
        tries.append(None)
        if len(tries) < 3:
            raise NotYetError("until the one before it is uploaded")

    publisher.submit("a state", waits)
    done = threading.Event()
    publisher.submit("a sample", done.set)
    assert done.wait(10)
    while len(tries) < 3:
        time.sleep(0.01)
    assert publisher.close() == [] and said == []


def test_a_job_that_still_has_to_wait_at_the_end_is_named_at_once():
    def waits():
        raise NotYetError("until the one before it is uploaded")

    publisher = Publisher(pytest.fail, retry_s=0.01)
    publisher.submit("a state", waits)
    began = time.monotonic()
    assert publisher.close(patience_s=60) == ["a state"] and time.monotonic() - began < 30

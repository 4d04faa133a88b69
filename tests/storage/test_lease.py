"""One writer a run, on this machine and on others."""

import json
import subprocess
import sys
import time

import pytest

from s2i_lib.errors import S2iError
from s2i_lib.storage.lease import Lease

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


@pytest.mark.slow
def test_a_lease_without_beats_goes_stale_and_its_late_owner_writes_no_more(tmp_path):
    said = []
    sleeper = Lease(tmp_path, said.append, beat_s=1.0).acquire()
    successor = Lease(tmp_path, said.append, stale_s=0.3, machine="another").acquire()
    deadline = time.monotonic() + 20
    while not sleeper.is_lost:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert any("taken over" in line for line in said)
    sleeper.release()
    assert json.loads((tmp_path / "lease.json").read_text())["token"] == successor.token
    successor.release()


def test_a_lease_file_that_cannot_be_read_holds_nobody_up(tmp_path):
    (tmp_path / "lease.json").write_text("{")
    Lease(tmp_path, pytest.fail).acquire().release()
    (tmp_path / "lease.json").mkdir()
    Lease(tmp_path, pytest.fail).refuse_if_held()

"""What the keeper of a run promises of the Drive, whatever waits in its queue."""

import threading
import time

import pytest

from s2i_lib.errors import S2iError
from s2i_lib.storage import files as drive_module
from s2i_lib.storage.lease import Lease
from s2i_lib.storage.run_card import WEIGHTS, read_card
from s2i_lib.training import checkpoint
from s2i_lib.training.checkpoint_manager import Keeper
from s2i_lib.training.run import Run

CARD = {"base": {"name": "tiny", "fingerprint": "f"}, "dataset": {"sha256": "d"}}


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "drive" / "runs" / "violet" / "tiny-01", tmp_path / "local" / "tiny-01")


@pytest.fixture
def keeper(run):
    return Keeper(run, lambda text: None, lambda event, info: None, 0.3, is_main=True)


def test_a_card_that_waited_for_the_drive_does_not_say_finished_before_the_weights(run, keeper):
    """The Drive takes small files again, but not the weights: a file has their name there."""
    gate = threading.Event()
    keeper.submit("what holds up the queue", gate.wait)
    keeper.begin(CARD | {"status": "training"})
    weights = run.local / WEIGHTS
    weights.mkdir()
    (weights / "unet.safetensors").write_bytes(b"learnt")
    (run.folder / WEIGHTS).write_bytes(b"in the way")
    keeper.end(weights, CARD | {"status": "finished"})
    gate.set()
    keeper.close()
    assert read_card(run.folder)["status"] == "training"
    assert (weights / "unet.safetensors").read_bytes() == b"learnt", "it is to be copied later"


def save_state(folder, step):
    state = checkpoint.State({}, {"format": checkpoint.FORMAT, "step": step})
    return checkpoint.save_state(state, folder)


def test_states_reach_a_drive_that_is_slower_than_they_are_saved(run, monkeypatch):
    said, copy = [], drive_module._copy

    def copy_slowly(source, target):
        time.sleep(1.5)
        return copy(source, target)

    monkeypatch.setattr(drive_module, "_copy", copy_slowly)
    keeper = Keeper(run, said.append, lambda event, info: None, 20, is_main=True)
    for step in range(1, 19):
        state = checkpoint.State({}, {"format": checkpoint.FORMAT, "step": step})
        keeper.save(state, pytest.fail)
        time.sleep(0.3)
    assert checkpoint.states(run.folder), "killed now, all would be lost"
    assert len(checkpoint.states(run.local)) <= checkpoint.MAX_SLOTS + 2
    keeper.close()
    assert checkpoint.newest_save([run.folder], pytest.fail).name == "state-00000018"
    assert said == []


def test_a_state_that_another_machine_has_overtaken_is_not_copied(run, keeper):
    save_state(run.local, 10)
    for step in (20, 30):
        save_state(run.folder, step)
    keeper.catch_up(last_step=40)
    keeper.close()
    assert [state.name[-2:] for state in checkpoint.states(run.folder)] == ["20", "30"]


def wait_until_lost(keeper):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            keeper.check()
        except S2iError:
            return
        time.sleep(0.01)
    raise AssertionError("the lease was never noticed to be lost")


def test_what_is_queued_when_another_takes_the_run_over_is_never_written(run, monkeypatch):
    """A laptop that slept: its states must not push out those of the notebook that went on."""
    monkeypatch.setattr(Lease.__init__, "__defaults__", (0.5, 0.1))  # beats and goes stale soon
    keeper = Keeper(run, lambda text: None, lambda event, info: None, 20, is_main=True)
    gate = threading.Event()
    keeper.submit("what holds up the queue", gate.wait)
    keeper.begin(CARD | {"status": "training"})
    save_state(run.local, 30)
    keeper.publish_saves(30)
    keeper.end(save_state(run.local, 40), CARD | {"status": "finished"})

    successor = Lease(run.folder, lambda text: None, beat_s=60, machine="another").acquire()
    for step in (10, 20):
        save_state(run.folder, step)
    (run.folder / "run.json").write_text('{"status": "finished"}')
    wait_until_lost(keeper)
    theirs = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    gate.set()
    keeper.close()
    assert theirs == {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    assert checkpoint.states(run.local)[0].name == "state-00000030"
    successor.release()

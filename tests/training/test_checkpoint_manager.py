"""What the manager of a run promises of the Drive, whatever waits in its queue."""

import json
import threading
import time
from types import SimpleNamespace

import pytest

from s2i_lib.errors import S2iError
from s2i_lib.storage import disk
from s2i_lib.storage.lease import LEASE
from s2i_lib.storage.publisher import NotYetError
from s2i_lib.storage.run_card import WEIGHTS, read_card
from s2i_lib.training import checkpoint, saves
from s2i_lib.training.checkpoint_manager import ROOMY, CheckpointManager, Waits
from s2i_lib.training.run import Run, ignore
from s2i_lib.training.storage_plan import Storage

CARD = {"base": {"name": "tiny", "fingerprint": "f"}, "dataset": {"sha256": "d"}}


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "drive" / "runs" / "violet" / "tiny-01", tmp_path / "local" / "tiny-01")


def make_keeper(run, waits, report=lambda text: None, storage=ROOMY):
    """As the main process has it."""
    setup = SimpleNamespace(report=report, callback=ignore, is_main=True)
    return CheckpointManager(run, setup, storage, waits)


@pytest.fixture
def manager(run):
    return make_keeper(run, Waits(patience_s=0.3))


@pytest.mark.slow
def test_a_card_that_waited_for_the_drive_does_not_say_finished_before_the_weights(run, manager):
    """The Drive takes small files again, but not the weights: a file has their name there."""
    gate = threading.Event()
    manager.submit("what holds up the queue", gate.wait)
    manager.begin(CARD | {"status": "training"})
    weights = run.local / WEIGHTS
    weights.mkdir()
    (weights / "unet.safetensors").write_bytes(b"learnt")
    (run.folder / WEIGHTS).write_bytes(b"in the way")
    manager.end(weights, CARD | {"status": "finished"})
    gate.set()
    manager.close()
    assert read_card(run.folder)["status"] == "training"
    assert (weights / "unet.safetensors").read_bytes() == b"learnt", "it is to be copied later"


@pytest.mark.slow
@pytest.mark.parametrize(("here", "there", "is_kept"), [(800, 400, True), (300, 400, False)])
def test_looking_at_a_run_keeps_what_this_disk_alone_has_of_it(run, here, there, is_kept):
    """A finished run that was trained on while the Drive was away; notebook 2 looks first.

    What another machine has trained further is not kept here.
    """
    training = make_keeper(run, Waits(patience_s=5))
    training.begin(CARD | {"status": "training"})
    training.close()
    (run.folder / "run.json").write_text(json.dumps(CARD | {"status": "finished", "step": there}))
    save_state(run.local, here)
    make_keeper(run, Waits(patience_s=5)).close()
    assert run.local.exists() == is_kept and len(saves.list_states(run.local)) == is_kept


def test_a_run_whose_disk_failed_as_it_began_can_be_started_again(run):
    """In the same notebook, whose process lives on."""
    run.local.parent.write_bytes(b"a file in the place of a folder")
    with pytest.raises(OSError, match="directory"):
        make_keeper(run, Waits(patience_s=0.3))
    run.local.parent.unlink()
    make_keeper(run, Waits(patience_s=0.3)).close()


def save_state(folder, step):
    state = checkpoint.Snapshot({}, {"format": checkpoint.FORMAT, "step": step})
    return checkpoint.save_state(state, folder)


@pytest.mark.slow
@pytest.mark.parametrize(("keeps_state", "left"), [(False, []), (True, ["state-00000020"])])
def test_states_go_once_the_weights_are_there_whole_and_a_small_one_stays(run, keeps_state, left):
    """At first a file has the weights' name on the Drive, so that they cannot be written."""
    for step in (10, 20):
        save_state(run.folder, step)
    (run.folder / WEIGHTS).write_bytes(b"in the way")
    weights = run.local / WEIGHTS
    for is_in_the_way in (True, False):
        storage = Storage(keeps_state=keeps_state)
        manager = make_keeper(run, Waits(patience_s=0.3), storage=storage)
        manager.begin(CARD | {"status": "training"})
        weights.mkdir(exist_ok=True)
        (weights / "unet.safetensors").write_bytes(b"learnt")
        manager.end(weights, CARD | {"status": "finished"})
        manager.close()
        states = [state.name for state in saves.list_states(run.folder)]
        assert states[-1:] == ["state-00000020"] if is_in_the_way else states == left
        if is_in_the_way:
            (run.folder / WEIGHTS).unlink()


@pytest.mark.slow
def test_states_reach_a_drive_that_is_slower_than_they_are_saved(run, faulty_drive):
    run = Run(faulty_drive.path / "runs" / "violet" / "tiny-01", run.local)
    said: list[str] = []
    faulty_drive.fault("slow")
    manager = make_keeper(run, Waits(patience_s=20), said.append)
    for step in range(1, 19):
        state = checkpoint.Snapshot({}, {"format": checkpoint.FORMAT, "step": step})
        manager.save(state, pytest.fail)
        time.sleep(0.3)
    assert saves.list_states(run.folder), "killed now, all would be lost"
    assert len(saves.list_states(run.local)) <= saves.MAX_SLOTS + 2
    manager.close()
    assert saves.newest_save([run.folder], pytest.fail).name == "state-00000018"
    assert said == []


def test_older_saves_stay_until_the_newer_has_had_time_to_get_to_google(
    google_drive, tmp_path, monkeypatch
):
    """Two lie there, or three where the upload is slow; none goes but for one that is uploaded."""
    folder, local = google_drive(at_once=1).path / "run", tmp_path / "local"
    (folder / WEIGHTS).mkdir(parents=True)
    (folder / WEIGHTS / "unet.safetensors").write_bytes(b"learnt")

    def there():
        return [saves.age(save)[0] for save in saves.list_saves(folder)]

    monkeypatch.setattr(disk, "UPLOAD_BYTES_S", 1e-3)
    for step in (10, 20, 30):
        saves.publish_save(save_state(local, step), folder)
    assert there() == [10, 20, 30]
    newest = save_state(local, 40)
    with pytest.raises(NotYetError):
        saves.publish_save(newest, folder, is_tight=True)
    assert saves.drop_saves(folder, 0) == 0 and there() == [10, 20, 30]
    monkeypatch.setattr(disk, "UPLOAD_BYTES_S", 1e12)
    saves.publish_save(newest, folder, is_tight=True)
    assert there() == [30, 40]
    assert saves.drop_saves(folder, 0) > 0 and there() == []


def test_a_state_that_another_machine_has_overtaken_is_not_copied(run, manager):
    save_state(run.local, 10)
    for step in (20, 30):
        save_state(run.folder, step)
    manager.catch_up(last_step=40)
    manager.close()
    assert [state.name[-2:] for state in saves.list_states(run.folder)] == ["20", "30"]


def wait_until_lost(manager):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            manager.check()
        except S2iError:
            return
        time.sleep(0.01)
    raise AssertionError("the lease was never noticed to be lost")


@pytest.mark.slow
def test_what_is_queued_when_another_takes_the_run_over_is_never_written(run):
    """A laptop that slept: its states must not push out those of the notebook that went on."""
    manager = make_keeper(run, Waits(patience_s=20, beat_s=0.5))
    gate = threading.Event()
    manager.submit("what holds up the queue", gate.wait)
    manager.begin(CARD | {"status": "training"})
    save_state(run.local, 30)
    manager.publish_saves(30)
    manager.end(save_state(run.local, 40), CARD | {"status": "finished"})

    card = json.loads((run.folder / LEASE).read_text())  # what another machine puts in its place
    (run.folder / LEASE).write_text(json.dumps(card | {"machine": "another", "token": "theirs"}))
    for step in (10, 20):
        save_state(run.folder, step)
    (run.folder / "run.json").write_text('{"status": "finished"}')
    wait_until_lost(manager)
    theirs = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    gate.set()
    manager.close()
    assert theirs == {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    assert saves.list_states(run.local)[0].name == "state-00000030"
    assert json.loads((run.folder / LEASE).read_text())["token"] == "theirs"

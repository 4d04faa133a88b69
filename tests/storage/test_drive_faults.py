"""Under each fault of the Drive training finishes, what was good stays, the copy catches up."""

import functools
import json
import threading
import time

import pytest
from tiny_run import KilledError, digest, kill_at
from tiny_run import start as start_run

from s2i_lib.errors import S2iError
from s2i_lib.storage.layout import Drive
from s2i_lib.storage.run_card import read_card
from s2i_lib.training import saves

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_disk")]

start = functools.partial(start_run, retry_s=0.1)

# The fault, and what the user must be told of it.
FAULTS = {
    "full": "No space left on device (errno 28)",
    "io error": "Input/output error (errno 5)",
    "dead mount": "(errno 107)",
    "cut short": "reads back different",
    "rename fails": "Input/output error (errno 5)",
}


@pytest.fixture
def mount(faulty_drive):
    return faulty_drive


@pytest.fixture
def whole(tmp_path, dataset, tiny):
    """The digest of the run's weights on a Drive without faults."""
    run, _, _ = start(Drive(tmp_path / "sound"), dataset, tiny)
    return digest(run)


@pytest.mark.parametrize("fault", FAULTS)
def test_training_goes_on_through_a_fault_and_the_copy_catches_up(
    mount, dataset, tiny, whole, fault
):
    """It begins after the first state is safe, and ends when training does."""
    drive = Drive(mount.path / "s2i")
    run = drive.runs / "violet" / "tiny-01"
    during = []

    def note(event, info):
        if event == "pointed" and not during:
            mount.fault(fault)
            during.append(None)
        if event == "samples" and info["step"] == 8:
            time.sleep(1)  # for the copy to be tried
            behind = Drive(mount.behind / "s2i").runs / "violet" / "tiny-01"
            during.append(saves.newest_save([behind], pytest.fail))
            mount.fault("")

    def slow_steps(event, info):
        note(event, info)
        if event == "step":
            time.sleep(0.5)  # the first state shall be on the Drive before the second is saved

    finished, said, _ = start(drive, dataset, tiny, callback=slow_steps)
    assert finished == run and digest(run) == whole
    assert during[1] is not None and during[1].name == "state-00000003"
    assert any(FAULTS[fault] in line for line in said), said
    assert any("takes files again" in line for line in said), said
    assert read_card(run)["status"] == "finished"
    assert saves.newest_save([run], pytest.fail).name == "state-00000008"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_leaves_the_good_state_and_a_later_start_only_copies(
    mount, dataset, tiny, whole, fault
):
    drive = Drive(mount.path / "s2i")
    begun = []

    def note(event, info):
        if event == "step":
            time.sleep(0.5)
        if event == "pointed" and not begun:
            begun.append(event)
            mount.fault(fault)

    run, said, _ = start(drive, dataset, tiny, callback=note, patience_s=2)
    behind = Drive(mount.behind / "s2i").runs / "violet" / "tiny-01"
    assert saves.newest_save([behind], pytest.fail).name == "state-00000003"
    assert not (behind / "weights").exists()
    assert any("Not on the Drive yet" in line for line in said), said
    mount.fault("")
    again, said, events = start(drive, dataset, tiny)
    assert again == run and digest(run) == whole
    assert not [event for event, _ in events if event == "step"]
    assert saves.newest_save([run], pytest.fail).name == "state-00000008"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_from_before_the_first_step_leaves_all_to_be_copied_by_a_later_start(
    mount, dataset, tiny, whole, fault
):
    """Nothing of the run is on the Drive then, perhaps not even what it is."""
    drive = Drive(mount.path / "s2i")

    def note(event, info):
        if event == "class_images":
            mount.fault(fault)

    run, said, _ = start(drive, dataset, tiny, callback=note, patience_s=2)
    behind = Drive(mount.behind / "s2i").runs / "violet" / "tiny-01"
    assert not saves.list_states(behind) and not (behind / "weights").exists()
    assert read_card(behind).get("status") != "finished"
    assert any(FAULTS[fault] in line for line in said), said
    mount.fault("")
    again, said, events = start(drive, dataset, tiny)
    assert again == run and digest(run) == whole
    assert not [event for event, _ in events if event == "step"]
    assert read_card(run)["status"] == "finished"
    assert saves.newest_save([run], pytest.fail).name == "state-00000008"
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 9))
    (kept,) = drive.class_images.iterdir()
    files = {path.name for path in kept.iterdir()}
    assert files == {"card.json", "sheet.png", "latents-000.safetensors"}


def test_a_run_whose_card_came_to_the_drive_half_goes_on(mount, dataset, tiny, whole):
    """What is on this machine's disk says what it is; it was trained a second time."""
    drive = Drive(mount.path / "s2i")

    def note(event, info):
        if event == "class_images":
            mount.fault("cut short")

    run, _, _ = start(drive, dataset, tiny, callback=note, patience_s=2)
    mount.fault("")
    run.mkdir(parents=True, exist_ok=True)
    (run / "run.json").write_text('{"status": "trai')
    (run / "metrics.jsonl").write_text("")
    again, _, events = start(drive, dataset, tiny)
    assert again == run and digest(run) == whole
    assert not [event for event, _ in events if event == "step"]
    assert read_card(run)["status"] == "finished"


def test_a_run_is_not_started_over_since_the_mount_died_before_its_states_were_read(
    mount, dataset, tiny
):
    drive = Drive(mount.path / "s2i")
    with pytest.raises(KilledError):
        start(drive, dataset, tiny, callback=kill_at(6))
    run = drive.runs / "violet" / "tiny-01"
    good = saves.newest_save([run], pytest.fail)

    def dies_after_it_was_listed():
        yield run
        mount.fault("dead mount")

    for places in (dies_after_it_was_listed(), [run]):
        with pytest.raises(S2iError, match=r"errno 107.*goes on where it was"):
            saves.newest_save(places, lambda text: None)
    mount.fault("")
    assert good is not None and saves.newest_save([run], pytest.fail) == good


def test_a_slow_drive_holds_nothing_up(mount, dataset, tiny, whole):
    drive = Drive(mount.path / "s2i")
    stepped, went_on = threading.Event(), []

    def note(event, info):
        if event == "step":
            stepped.set()
        if event == "publishing" and not went_on:
            mount.fault("slow")
            stepped.clear()
            went_on.append(stepped.wait(60))  # it trains on while this one publishes

    run, _, _ = start(drive, dataset, tiny, callback=note)
    assert digest(run) == whole and went_on == [True]


@pytest.mark.parametrize("event", ["pointed", "saving"])
def test_a_full_local_disk_ends_the_run_with_a_sentence_and_loses_nothing_saved(
    mount, dataset, tiny, whole, tmp_path, monkeypatch, event
):
    monkeypatch.setenv("S2I_LOCAL", str(mount.path / "local"))
    drive, seen = Drive(tmp_path / "drive"), []

    def note(name, info):
        if name == "step":
            time.sleep(0.5)
        seen.append(name)
        if "pointed" in seen and name == event:
            mount.fault("full")

    with pytest.raises(S2iError, match=r"[Dd]isk does not take .*No space left") as error:
        start(drive, dataset, tiny, callback=note, patience_s=2)
    assert "start the same again" in str(error.value)
    mount.fault("")
    run, said, _ = start(drive, dataset, tiny)
    assert digest(run) == whole and any("goes on at step" in line for line in said)

"""Saves on the disks: which counts, that two at most lie on the Drive, and when an old one goes."""

import json
import os
import time

import pytest
import torch

from s2i_lib.storage.publisher import NotYetError
from s2i_lib.storage.run_card import WEIGHTS
from s2i_lib.training import checkpoint, saves


def make_state(folder, step):
    snapshot = checkpoint.Snapshot(
        {"trained.safetensors": {"weight": torch.full((8,), float(step))}},
        {"format": checkpoint.FORMAT, "step": step},
    )
    return checkpoint.save_state(snapshot, folder)


def make_weights(folder, content=b"weights"):
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "one.safetensors").write_bytes(content)
    return folder


def as_if_uploading(save):
    """Make it large and new: on a mounted Drive, minutes until Google has it."""
    with (save / "large").open("wb") as file:
        file.truncate(300_000_000)  # takes no space: a hole
    return save


def as_if_uploaded(save):
    hour_ago = time.time() - 3600
    for file in save.iterdir():
        os.utime(file, (hour_ago, hour_ago))


def names(folder):
    return [save.name for save in saves.list_saves(folder)]


def test_saves_are_listed_by_age_and_nothing_else_is_taken_for_one(tmp_path):
    own = ["so-far-00000002", "so-far-00000010", "state-00000010", "state-00000011"]
    for name in (*own, ".state-00000012.part", "state-last", "weights", "state-00000001-copy"):
        (tmp_path / name).mkdir()
    (tmp_path / "state-00000099").write_text("a file")
    assert names(tmp_path) == own, "of one step the state is worth more"
    assert [state.name for state in saves.list_states(tmp_path)] == own[2:]
    assert saves.list_saves(tmp_path / "nowhere") == []


def test_the_newest_of_two_places_counts_and_of_equals_that_of_the_first(tmp_path):
    places = [tmp_path / "drive", tmp_path / "local"]
    same = [make_state(place, 1) for place in places]
    assert saves.newest_save(places, pytest.fail) == same[0]
    newer = make_state(places[1], 2)
    assert saves.newest_save(places, pytest.fail) == newer
    assert saves.newest_save(places[::-1], pytest.fail) == newer
    assert saves.newest_save([tmp_path / "nowhere"], pytest.fail) is None


def test_a_damaged_save_is_passed_over_and_where_all_are_the_run_begins_again(tmp_path):
    said = []
    for step in (1, 2):
        (make_state(tmp_path, step) / "trained.safetensors").write_bytes(b"cut")
    assert saves.newest_save([tmp_path], said.append) is None
    assert said[-1].endswith("so it begins at step 0 again.")
    said.clear()
    whole = make_state(tmp_path, 1)
    assert saves.newest_save([tmp_path], said.append) == whole
    [sentence] = said
    assert "state-00000002/trained.safetensors" in sentence and "before it is used" in sentence


def test_a_state_takes_the_place_of_a_damaged_one_of_its_step(tmp_path):
    """A run that went on from the state before the damaged one comes to that step again."""
    (make_state(tmp_path, 2) / "trained.safetensors").write_bytes(b"cut")
    again = make_state(tmp_path, 2)
    assert saves.newest_save([tmp_path], pytest.fail) == again
    assert [path.name for path in tmp_path.iterdir()] == ["state-00000002"]


def test_two_states_at_most_lie_on_the_drive_and_the_newest_is_pointed_to(tmp_path):
    local, drive = tmp_path / "local", tmp_path / "drive"
    for step in range(1, 6):
        state = make_state(local, step)
        seen = []
        saves.publish_save(state, drive, seen.append)
        assert len(saves.list_states(drive)) == min(step, 2)
        pointer = json.loads((drive / "latest.json").read_text())
        assert pointer["state"] == state.name == saves.list_states(drive)[-1].name
        assert saves.newest_save([drive], pytest.fail).name == state.name
        assert seen[-4:] == ["verifying", "renaming", "pointing", "pointed"]
        assert ("removing" in seen) == (step > 2)
    assert names(local) == ["state-00000005"]
    seen = []
    saves.publish_save(state, drive, seen.append)
    assert seen[0] == "pointing", "what is there already is not copied again"


def test_a_save_is_not_deleted_while_the_one_after_it_may_be_on_its_way(tmp_path, faulty_drive):
    """What was written to a mounted Drive is Google's only after minutes."""
    local, drive = tmp_path / "local", faulty_drive.path / "run"
    states = [make_state(local, step) for step in (1, 2, 3, 4)]
    for state in states[:2]:
        saves.publish_save(state, drive)
    as_if_uploading(drive / states[1].name)
    make_weights(drive / WEIGHTS)
    assert saves.drop_saves(drive, 1) == 0
    with pytest.raises(NotYetError, match="state-00000003 waits until the one before it"):
        saves.publish_save(states[2], drive, is_tight=True)
    assert names(drive) == ["state-00000001", "state-00000002"]
    saves.publish_save(states[2], drive)
    assert len(names(drive)) == 3, "with room for it, it is written beside them"
    as_if_uploaded(drive / states[1].name)
    saves.publish_save(states[3], drive)
    assert "state-00000001" not in names(drive) and "state-00000004" in names(drive)


def test_the_last_state_goes_after_what_points_to_it(tmp_path):
    for step in (1, 2):
        saves.publish_save(make_state(tmp_path / "local", step), tmp_path)
    older, newer = saves.list_states(tmp_path)
    saves.remove_save(older)
    assert (tmp_path / "latest.json").exists()
    saves.remove_save(newer)
    assert not (tmp_path / "latest.json").exists() and names(tmp_path) == []


def test_what_a_finished_run_does_not_keep_is_dropped_and_counted(tmp_path):
    made = [make_state(tmp_path, step) for step in (1, 2, 3)]
    assert saves.drop_saves(tmp_path, 4) == 0 and len(names(tmp_path)) == 3, "an odd card asks so"
    each = sum(file.stat().st_size for file in made[0].iterdir())
    make_weights(tmp_path / WEIGHTS)
    assert saves.drop_saves(tmp_path, 1) == pytest.approx(2 * each, abs=20)
    assert names(tmp_path) == ["state-00000003"]
    assert saves.drop_saves(tmp_path, 1) == 0
    assert saves.drop_saves(tmp_path, 0) > 0 and names(tmp_path) == []


def test_weights_are_there_when_every_listed_file_is(tmp_path):
    weights = make_weights(tmp_path / WEIGHTS)
    assert saves.has_weights(weights), "of an earlier version, which listed none"
    listed = {"unet/one.safetensors": "1", "unet/two.safetensors": "2"}
    (weights / checkpoint.STEP).write_text(json.dumps({"step": 1, "sha256": listed}))
    assert not saves.has_weights(weights), "the other one went with its machine"
    (weights / "unet" / "two.safetensors").write_bytes(b"")
    assert saves.has_weights(weights)
    assert not saves.has_weights(tmp_path / "nowhere")

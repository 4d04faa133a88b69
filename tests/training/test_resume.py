"""A run that ended before its end goes on, and ends as if it had not; what it refuses."""

import dataclasses
import errno
import json
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from tiny_run import SHORT, KilledError, digest, kill_at, setup_of, start

from s2i_lib.errors import InputError, S2iError
from s2i_lib.photos.subject import Subject
from s2i_lib.storage import json_file
from s2i_lib.storage.layout import Drive, local_folder
from s2i_lib.storage.lease import LEASE, Lease
from s2i_lib.storage.run_card import EDITIONS, read_card
from s2i_lib.training import checkpoint, plan, resources, resume, saves
from s2i_lib.training import run as run_module
from s2i_lib.training.checkpoint_manager import CheckpointManager
from s2i_lib.training.config import FinetuneOptions, as_json
from s2i_lib.training.finetune import FinetuneRun
from s2i_lib.training.run import Run, choose_run, steps_to_train_on
from s2i_lib.training.storage_plan import Storage
from s2i_lib.training.train_state import find_8bit_fault

pytestmark = pytest.mark.usefixtures("local_disk")


@pytest.mark.slow
def test_a_run_of_before_an_option_was_there_is_still_the_same_run(drive, dataset, tiny):
    run, _, _ = start(drive, dataset, tiny)
    card = json.loads((run / "run.json").read_text())
    for options in (card["options"], card["wanted"]):
        del options["class_dropout"]
    (run / "run.json").write_text(json.dumps(card))
    again, said, events = start(drive, dataset, tiny)
    assert again == run and "finished already" in said[-1] and not events
    other, _, _ = start(drive, dataset, tiny, class_dropout=0.5)
    assert other != run


@pytest.mark.slow
def test_a_run_of_another_edition_of_its_base_does_not_go_on_and_is_not_written_over(
    drive, dataset, tiny, monkeypatch
):
    with pytest.raises(KilledError):
        start(drive, dataset, tiny, callback=kill_at(5))
    [old] = (drive.runs / "violet").iterdir()
    before = (old / "run.json").read_bytes()
    assert read_card(old)["base"]["edition"] == 1
    monkeypatch.setitem(EDITIONS, "tiny", 2)
    with pytest.raises(InputError, match=r"violet/tiny-01 was trained on edition 1 of the tiny m"):
        start(drive, dataset, tiny, name=old.name)
    assert (old / "run.json").read_bytes() == before
    new, said, _ = start(drive, dataset, tiny)
    assert new.name == "tiny-02" and read_card(new)["base"]["edition"] == 2
    assert "violet/tiny-01 is unfinished, but of other base weights: a new run begins." in said


@pytest.mark.slow
def test_a_run_killed_before_its_first_file_leaves_its_name_free(drive, dataset, tiny):
    husk = drive.runs / "violet" / "tiny-01"
    husk.mkdir(parents=True)
    held = {
        "machine": Lease(husk, pytest.fail).machine,
        "pid": os.getpid(),
        "token": "of somebody who was killed",
    }
    (husk / LEASE).write_text(json.dumps(held))
    run, _, _ = start(drive, dataset, tiny)
    assert run == husk and not (husk / LEASE).exists()


@pytest.mark.parametrize(
    ("names", "new"),
    [((), "pocket-01"), (("pocket-1", "pocket-02"), "pocket-03"), (("pocket-²",), "pocket-01"),
     (("pocket-99", "pocket-100"), "pocket-101"), (("pocket-base-07",), "pocket-01")],
)  # fmt: skip
def test_a_new_run_has_a_number_that_no_other_has(drive, model, names, new):
    for name in names:
        weights = drive.runs / "violet" / name / "weights"
        weights.mkdir(parents=True)
        (weights / "unet.safetensors").write_bytes(b"weights")
        (weights.parent / "run.json").write_text('{"status": "finished"}')
    subject = SimpleNamespace(subject=Subject("Violet", "cat"))
    setup = dataclasses.replace(setup_of(model, FinetuneOptions(), drive), dataset=subject)
    assert choose_run(setup, None).folder.name == new


def test_a_run_whose_card_the_drive_does_not_read_is_not_begun_anew(drive, model, monkeypatch):
    """The Drive lists it, and gives an error of its own for what is in it; it often passes."""
    (drive.runs / "violet" / "pocket-01" / "weights").mkdir(parents=True)
    (drive.runs / "violet" / "pocket-01" / "run.json").write_text('{"status": "finished"}')

    def fail(path):
        raise OSError(errno.EIO, "Input/output error")

    for module in (json_file, run_module):
        monkeypatch.setattr(module, "read_limited", fail)
    subject = SimpleNamespace(subject=Subject("Violet", "cat"))
    setup = dataclasses.replace(setup_of(model, FinetuneOptions(), drive), dataset=subject)
    with pytest.raises(
        S2iError, match="What violet/pocket-01 is cannot be read: Input/output error"
    ):
        choose_run(setup, None)


@pytest.mark.slow
def test_starting_a_finished_run_again_does_nothing(drive, dataset, tiny):
    run, _, _ = start(drive, dataset, tiny)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    again, said, events = start(drive, dataset, tiny)
    assert again == run and events == [] and any("finished already" in line for line in said)
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}


@pytest.mark.slow
def test_what_a_finished_run_could_not_copy_is_copied_by_starting_it_again(drive, dataset, tiny):
    """The Drive had room for the weights and not for the last state: a file has its name there."""
    in_the_way = drive.runs / "violet" / "tiny-01" / "state-00000008"

    def callback(event, info):
        if event == "samples":
            in_the_way.touch()

    run, said, _ = start(drive, dataset, tiny, callback=callback, patience_s=2, retry_s=0.1)
    assert read_card(run)["status"] == "finished"
    assert any("Not on the Drive yet: the run's state." in line for line in said)
    before = digest(run)
    in_the_way.unlink()
    again, said, events = start(drive, dataset, tiny)
    assert again == run and digest(run) == before
    assert not [event for event, _ in events if event == "step"]
    assert saves.newest_save([run], pytest.fail).name == "state-00000008"
    assert read_card(run)["status"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 5, 8])
def test_an_interrupted_run_goes_on_by_itself_and_ends_the_same(drive, dataset, tiny, step):
    whole, _, _ = start(drive, dataset, tiny)
    other = Drive(drive.root.with_name("other"))
    with pytest.raises(KilledError):
        start(other, dataset, tiny, callback=kill_at(step))
    run, said, _ = start(other, dataset, tiny)
    assert run.name == "tiny-01" and digest(run) == digest(whole)
    assert (run / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    assert any("goes on at step" in line for line in said) == (step > 3)


@pytest.mark.slow
def test_a_run_of_the_version_before_goes_on_with_the_recipe_it_began_with(drive, dataset, tiny):
    """Its run.json names no recipe; that of today's is another one, and would be another run."""
    if find_8bit_fault("cpu"):
        pytest.skip("bitsandbytes does not work here")
    whole, _, _ = start(drive, dataset, tiny, recipe="classic")
    assert read_card(whole)["recipe"]["name"] == "classic"
    other = Drive(drive.root.with_name("other"))
    with pytest.raises(KilledError):
        start(other, dataset, tiny, recipe="classic", callback=kill_at(5))
    cards = [run / "run.json" for run in (other.runs / "violet").iterdir()]
    cards += other.root.with_name("local").glob("*/runs/violet/*/run.json")
    for path in cards:
        card = json.loads(path.read_text())
        assert card["options"]["with_checkpointing"]
        del card["recipe"]
        path.write_text(json.dumps(card))
    planned = FinetuneRun(other, dataset, model=str(tiny), **SHORT).plan()
    assert "Recipe  classic: " in str(planned) and planned.options.with_checkpointing
    run, said, _ = start(other, dataset, tiny)
    assert run.name == "tiny-01" and digest(run) == digest(whole)
    assert "violet/tiny-01 goes on at step 3 of 8." in said
    assert not any("from this step on" in line for line in said)
    again, said, _ = start(other, dataset, tiny, name="tiny-01")
    assert again == run and "finished already" in said[-1]
    new, said, _ = start(other, dataset, tiny)
    assert new.name == "tiny-02" and read_card(new)["recipe"]["name"] == "animal"
    assert any("Recipe  animal: https://huggingface.co/blog/dreambooth" in line for line in said)


@pytest.mark.slow
def test_it_goes_on_from_the_drive_alone_when_the_local_disk_is_lost(
    drive, dataset, tiny, monkeypatch, tmp_path
):
    """As in Colab, where a new session has a new machine."""
    whole, _, _ = start(drive, dataset, tiny)
    other = Drive(drive.root.with_name("other"))
    with pytest.raises(KilledError):
        start(other, dataset, tiny, callback=kill_at(7))
    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "new machine"))
    run, said, _ = start(other, dataset, tiny)
    assert digest(run) == digest(whole)
    assert "violet/tiny-01 goes on at step 6 of 8." in said


@pytest.mark.slow
def test_more_steps_continue_a_finished_run_that_is_named(drive, dataset, tiny):
    whole, _, _ = start(drive, dataset, tiny, steps=12, name="long")
    run, _, _ = start(drive, dataset, tiny, name="short")
    again, said, _ = start(drive, dataset, tiny, steps=12, name="short")
    assert again == run and digest(run) == digest(whole)
    assert "steps was 8 and is 12: training now ends at step 12." in said


@pytest.mark.slow
def test_other_options_begin_a_new_run_beside_a_finished_one(drive, dataset, tiny):
    first, _, _ = start(drive, dataset, tiny)
    second, _, _ = start(drive, dataset, tiny, seed=1)
    assert second.name == "tiny-02" and digest(first) != digest(second)


@pytest.mark.slow
def test_other_photos_begin_a_new_run_and_that_is_said(drive, dataset, tiny):
    with pytest.raises(KilledError):
        start(drive, dataset, tiny, callback=kill_at(5))
    run, said, _ = start(drive, dataclasses.replace(dataset, sha256="new"), tiny)
    assert run.name == "tiny-02" and any("photos have changed" in line for line in said)


@pytest.mark.slow
def test_an_unfinished_run_does_not_go_on_with_another_method(drive, dataset, tiny):
    with pytest.raises(KilledError):
        start(drive, dataset, tiny, callback=kill_at(5))
    with pytest.raises(InputError, match=r"method 'full' -> 'lora'.*--name"):
        start(drive, dataset, tiny, method="lora")


@pytest.mark.slow
def test_a_run_from_a_gpu_in_fp16_goes_on_in_fp32_without_one(drive, dataset, tiny):
    wish = {"method": "lora", "precision": "fp16"}
    whole, _, _ = start(drive, dataset, tiny, **wish)
    other = Drive(drive.root.with_name("other"))
    with pytest.raises(KilledError):
        start(other, dataset, tiny, callback=kill_at(5), **wish)
    cards = [run / "run.json" for run in (other.runs / "violet").iterdir()]
    cards += other.root.with_name("local").glob("*/runs/violet/*/run.json")
    assert len(cards) == 2
    for path in cards:  # what a T4 leaves there
        card = json.loads(path.read_text())
        assert card["options"]["precision"] == "fp32"
        card["options"]["precision"] = "fp16"
        path.write_text(json.dumps(card))
    run, said, _ = start(other, dataset, tiny, **wish)
    assert digest(run) == digest(whole) and any("needs a CUDA GPU" in line for line in said)
    assert "violet/tiny-01 goes on at step 3 of 8." in said


@pytest.mark.slow
def test_a_refused_attempt_to_go_on_changes_nothing(drive, dataset, tiny, monkeypatch):
    """bitsandbytes that broke meanwhile: nothing of its 8-bit state can be taken over."""
    if find_8bit_fault("cpu"):
        pytest.skip("bitsandbytes does not work here")
    wish = {"with_8bit_adam": True}
    whole, _, _ = start(drive, dataset, tiny, **wish)
    other = Drive(drive.root.with_name("other"))
    with pytest.raises(KilledError):
        start(other, dataset, tiny, callback=kill_at(5), **wish)
    card = other.runs / "violet" / "tiny-01" / "run.json"
    before = card.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(resources, "find_8bit_fault", lambda device: "OSError: libcudart not found")
        with pytest.raises(InputError, match=r"with_8bit_adam True -> False.*where it began"):
            start(other, dataset, tiny, **wish)
    assert card.read_bytes() == before
    run, said, _ = start(other, dataset, tiny, **wish)
    assert digest(run) == digest(whole) and "violet/tiny-01 goes on at step 3 of 8." in said


@pytest.mark.slow
def test_a_damaged_state_is_passed_over_for_the_one_before(
    drive, dataset, tiny, monkeypatch, tmp_path
):
    whole, _, _ = start(drive, dataset, tiny)
    other = Drive(drive.root.with_name("other"))
    with pytest.raises(KilledError):
        start(other, dataset, tiny, callback=kill_at(7))
    path = other.runs / "violet" / "tiny-01" / "state-00000006" / "trained.safetensors"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "new machine"))
    run, said, _ = start(other, dataset, tiny)
    assert digest(run) == digest(whole)
    assert any("a byte differs. The state before it is used." in line for line in said)
    assert "violet/tiny-01 goes on at step 3 of 8." in said


@pytest.mark.slow
def test_a_card_that_lacks_a_field_is_an_error_that_names_it(drive, dataset, tiny, local_disk):
    """As a card is that was copied in part, or cut down by hand."""
    with pytest.raises(KilledError):
        start(drive, dataset, tiny, callback=kill_at(4))
    [on_drive] = drive.runs.glob("*/*/run.json")
    whole = json.loads(on_drive.read_text())
    cards = [on_drive, *local_disk.rglob("run.json")]
    for lacks in (("options",), ("base",), ("base", "fingerprint"), ("dataset", "sha256")):
        card = json.loads(json.dumps(whole))
        *way, field = lacks
        inside = card[way[0]] if way else card
        del inside[field]
        for path in cards:
            path.write_text(json.dumps(card))
        with pytest.raises(InputError, match=f"run.json does not say '{field}'"):
            start(drive, dataset, tiny, name=on_drive.parent.name)
    for path in cards:
        path.write_text(json.dumps(whole))
    run, _, _ = start(drive, dataset, tiny)
    assert read_card(run)["status"] == "finished"


@pytest.mark.parametrize("step", ["{", "[]", "{}", '{"step": "3"}'])
def test_weights_whose_step_cannot_be_read_are_of_the_step_on_the_card(tmp_path, step):
    from s2i_lib.training.resume import weights_step
    from s2i_lib.training.run import Run

    weights = tmp_path / "rex" / "a" / "weights"
    weights.mkdir(parents=True)
    (weights / checkpoint.STEP).write_text(step)
    (weights.parent / "run.json").write_text('{"kept_step": 5}')
    assert weights_step(weights, Run(weights.parent, tmp_path / "local")) == 5


# ---- Runs that end, and are trained on ----

TIGHT = Storage(keeps_state=False, states=0, slots_so_far=1)  # as Stable Diffusion has it


@pytest.fixture
def keeps_no_state(monkeypatch):
    monkeypatch.setattr(plan, "choose_storage", lambda *_, **__: TIGHT)


@pytest.mark.slow
def test_training_on_that_dies_before_its_first_save_goes_on_from_the_finished_weights(
    drive, dataset, tiny, keeps_no_state
):
    run, _, _ = start(drive, dataset, tiny)
    before, card = digest(run), read_card(run)
    assert not saves.list_saves(run)
    more = {"name": run.name, "steps": 16, "save_every": 8}
    with pytest.raises(KilledError):
        start(drive, dataset, tiny, callback=kill_at(10), **more)
    killed = read_card(run)
    assert killed["status"] == "training" and digest(run) == before
    assert killed["step"] == card["step"] == 8 and killed["kept_step"] == card["kept_step"]
    training = FinetuneRun(drive, dataset, model=str(tiny))
    assert training.longer(run).changes["steps"] == 16, "pressed once more it is the same goal"
    again, said, _ = start(drive, dataset, tiny, **more)
    assert again == run and any("goes on at step 8 of 16, from that" in line for line in said)
    assert read_card(run)["step"] == 16


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again_as_somebody_looked_at_its_grounds(
    drive, dataset, tiny, keeps_no_state
):
    run, _, _ = start(drive, dataset, tiny)
    local = local_folder(drive, run)
    local.mkdir(parents=True)  # as looking at its grounds leaves it
    _, said, events = start(drive, dataset, tiny)
    assert "finished already" in said[-1] and not events


@pytest.mark.slow
def test_what_a_machine_had_of_a_run_that_another_one_ended_does_not_count(
    drive, dataset, tiny, keeps_no_state, monkeypatch, tmp_path
):
    monkeypatch.setattr(plan, "choose_storage", lambda *_, **__: replace(TIGHT, save_every=3))
    with pytest.raises(KilledError):
        start(drive, dataset, tiny, callback=kill_at(5))
    with monkeypatch.context() as patch:
        patch.setenv("S2I_LOCAL", str(tmp_path / "another"))
        run, said, _ = start(drive, dataset, tiny)
    assert any("goes on at step 3 of 8" in line for line in said)
    assert saves.list_states(local_folder(drive, run))[-1].name == "state-00000003"
    _, said, events = start(drive, dataset, tiny)
    assert "finished already" in said[-1] and not events
    _, said, _ = start(drive, dataset, tiny, name=run.name, steps=10)
    assert any("goes on at step 8 of 10" in line for line in said)


@pytest.mark.slow
def test_training_on_from_an_early_best_step_goes_on_from_its_own_saves(
    drive, dataset, tiny, keeps_no_state, monkeypatch
):
    """The weights are of step 4, the run has had 8: a save at step 6 is of what trains it on."""
    run, _, _ = start(drive, dataset, tiny)
    step = run / "weights" / "step.json"
    step.write_text(json.dumps(json.loads(step.read_text()) | {"step": 4}))
    monkeypatch.setattr(plan, "choose_storage", lambda *_, **__: replace(TIGHT, save_every=3))
    more = {"name": run.name, "steps": 16}
    with pytest.raises(KilledError):
        start(drive, dataset, tiny, callback=kill_at(7), **more)
    _, said, _ = start(drive, dataset, tiny, **more)
    assert any("goes on at step 6 of 16" in line for line in said)


@pytest.mark.slow
def test_a_finished_run_is_not_said_to_have_learned_what_it_has_not(
    drive, dataset, tiny, keeps_no_state
):
    run, _, _ = start(drive, dataset, tiny)
    before, card = digest(run), (run / "run.json").read_bytes()
    subject = dataclasses.replace(dataset.subject, class_noun="dog")
    for other in (dataclasses.replace(dataset, subject=subject), replace(dataset, sha256="new")):
        with pytest.raises(InputError, match=r"all its 8 steps.*--steps, or another --name"):
            start(drive, other, tiny, name=run.name)
        assert digest(run) == before and (run / "run.json").read_bytes() == card
    with pytest.raises(KilledError):  # until there are other weights, run.json is of these
        start(drive, other, tiny, callback=kill_at(10), name=run.name, steps=16)
    killed = read_card(run)
    assert killed["dataset"] == json.loads(card)["dataset"] and digest(run) == before
    assert killed["learns"]["dataset"] == "new"
    again, said, _ = start(drive, other, tiny, name=run.name, steps=16)
    assert again == run and not any("photos have changed" in line for line in said)
    assert read_card(run)["dataset"]["sha256"] == "new" and "learns" not in read_card(run)


@pytest.mark.slow
def test_a_run_killed_as_its_card_says_that_it_goes_on_goes_on(drive, dataset, tiny, monkeypatch):
    """Its state says so first; the card comes after it."""
    longer = {"steps": 4, "most_steps": 7, "save_every": 2, "rises": lambda points: True}
    write = CheckpointManager.write_card

    def die(self, card):
        if card["options"]["steps"] == 7:
            raise KilledError
        write(self, card)

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(CheckpointManager, "write_card", die)
        start(drive, dataset, tiny, **longer)
    run, said, _ = start(drive, dataset, tiny, **longer)
    assert any("goes on at step 4 of 7" in line for line in said)
    assert read_card(run)["step"] == 7


@pytest.mark.parametrize("was_asked", [True, False])
def test_with_other_steps_a_run_keeps_the_optimizer_that_its_states_are_of(was_asked):
    """The memory ladder took 8 bits to it, or bitsandbytes did not work there."""
    asked = FinetuneOptions(with_8bit_adam=was_asked)
    used = replace(asked, with_8bit_adam=not was_asked)
    earlier = {"wanted": as_json(asked), "options": as_json(used)}
    wanted = replace(asked, steps=2 * asked.steps)
    assert resume.begun(earlier, wanted) == replace(wanted, with_8bit_adam=not was_asked)
    said_anew = replace(wanted, with_8bit_adam=not was_asked)
    assert resume.begun(earlier, said_anew) == said_anew
    assert resume.begun({}, wanted) == wanted


def test_a_file_that_is_called_as_a_run_is_passed_over(drive, model):
    (drive.runs / "violet").mkdir(parents=True)
    (drive.runs / "violet" / "pocket-01").write_bytes(b"somebody's own")
    subject = SimpleNamespace(subject=Subject("Violet", "cat"))
    setup = dataclasses.replace(setup_of(model, FinetuneOptions(), drive), dataset=subject)
    assert choose_run(setup, None).folder.name == "pocket-02"


def test_a_drive_that_deletes_nothing_stops_no_training(drive, monkeypatch, caplog):
    """What finished runs would go on from goes first, to make room."""

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    folder = drive.runs / "violet" / "tiny-01"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "unet.safetensors").write_bytes(b"")
    (folder / "run.json").write_text('{"status": "finished", "keeps_state": false}')
    monkeypatch.setattr(run_module, "drop_saves", fail)
    assert run_module.drop_finished(drive) == 0
    assert "could not be deleted: Input/output error" in caplog.text


def test_a_log_that_a_full_disk_cut_short_counts_up_to_there(tmp_path):
    lines = '{"step": 1}\n{"step": 2}\n{"ste'
    (tmp_path / "metrics.jsonl").write_text(lines)
    found = run_module.read_lines([tmp_path / "gone", tmp_path], "metrics.jsonl")
    assert [line["step"] for line in found] == [1, 2]


def test_a_plan_is_made_where_the_drive_has_gone(drive, monkeypatch):
    """As a mount that has died answers: what cannot be looked at is not there."""
    run = Run(drive.runs / "violet" / "tiny-01", drive.root / "local")

    def dead(folder):
        raise OSError(107, "Transport endpoint is not connected")

    monkeypatch.setattr(resume, "has_weights", dead)
    monkeypatch.setattr(saves, "list_folder", dead)
    assert resume.newest_step(run) == 0


def test_a_run_is_trained_on_to_twice_its_steps_or_to_those_it_was_to_have():
    finished = {"status": "finished", "step": 8, "options": {"steps": 8}}
    assert steps_to_train_on(finished) == 16
    begun = {"status": "training", "step": 8, "options": {"steps": 40}}
    assert steps_to_train_on(begun) == 40


@pytest.mark.slow
def test_another_noun_or_identifier_begins_a_new_run_and_that_is_said(drive, dataset, tiny):
    old = start(drive, dataset, tiny)[0]
    subject = dataclasses.replace(dataset.subject, class_noun="dog")
    other = dataclasses.replace(dataset, subject=subject)
    with pytest.raises(KilledError):
        start(drive, other, tiny, callback=kill_at(5))
    new, said, _ = start(drive, dataclasses.replace(
        dataset, subject=dataclasses.replace(subject, identifier="flwx")), tiny)  # fmt: skip
    assert (old.name, new.name) == ("tiny-01", "tiny-03")
    assert read_card(new)["instance_prompt"] == "a flwx dog"
    assert any("tiny-02 is unfinished, but it learns 'a sks dog'" in line for line in said)
    _, said, _ = start(drive, dataset, tiny, name=new.name, steps=9)
    assert any("has learned 'a flwx dog', which is now 'a sks cat'" in line for line in said)


@pytest.mark.slow
def test_a_run_that_was_deleted_by_hand_begins_at_its_beginning(drive, dataset, tiny):
    with pytest.raises(KilledError):
        start(drive, dataset, tiny, callback=kill_at(5))
    [run] = (drive.runs / "violet").iterdir()
    shutil.rmtree(run)
    again, said, _ = start(drive, dataset, tiny)
    assert again.name == "tiny-02" and "violet/tiny-02 begins." in said

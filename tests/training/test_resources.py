"""The estimate against real parameter counts, the ladder, and what is refused early."""

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from tiny_model import make_pipeline

from benchmarks import memory
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.loading import Model
from s2i_lib.models.registry import REGISTRY
from s2i_lib.training import plan, resources, storage_plan, trial
from s2i_lib.training.config import LORA_RATE, FinetuneOptions, parse_options
from s2i_lib.training.recipes import RECIPES
from s2i_lib.training.run import Setup
from s2i_lib.training.storage_plan import Room
from s2i_lib.training.train_state import find_8bit_fault, make_train_state

OPTIONS = FinetuneOptions(batch_size=4)
CPU = torch.device("cpu")


@pytest.fixture
def model():
    return Model(REGISTRY["pocket"], make_pipeline(), "made here")


def setup_of(model, options, drive=None, report=pytest.fail):
    """A run's setup, as far as what it needs depends on it: not on its photos."""
    return Setup(drive, None, model, options, Accelerator(cpu=True), report=report)


def out_of_memory_until(is_enough, tried):
    """A probe that fails as CUDA does, until the options need little enough."""

    def probe(options):
        tried.append(options)
        if not is_enough(options):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return 0.5

    return probe


RUNGS = {
    "nothing": lambda o: True,
    "checkpointing": lambda o: o.with_checkpointing,
    "8-bit": lambda o: o.with_8bit_adam,
    "one photo at a time": lambda o: o.accumulation == 4,
    "LoRA": lambda o: o.method == "lora",
}


@pytest.mark.parametrize("rung", RUNGS)
def test_the_ladder_goes_down_as_far_as_it_must_and_announces_each_rung(rung):
    if find_8bit_fault("cpu"):
        pytest.skip("bitsandbytes does not work here, so its rung is left out")
    tried, said = [], []
    probe = out_of_memory_until(RUNGS[rung], tried)
    options, seconds = trial.descend(OPTIONS, probe, Accelerator(cpu=True), said.append)
    n_rungs = list(RUNGS).index(rung)
    assert len(said) == n_rungs and len(tried) == n_rungs + 1
    assert options == tried[-1] and seconds == 0.5
    assert options.batch_size == 4, "the result of a step stays the same"
    if rung == "nothing":
        assert options == OPTIONS
    if rung == "LoRA":
        assert "LoRA of rank 8 with learning rate 0.0001" in said[-1]


def test_the_text_encoder_is_let_go_before_the_u_net_is():
    options = dataclasses.replace(
        OPTIONS, with_text_encoder=True, with_checkpointing=True, with_8bit_adam=True, batch_size=1
    )
    rung, said = resources.next_rung(options, CPU)
    assert rung == dataclasses.replace(options, with_text_encoder=False)
    assert "text encoder" in said
    lora, _ = resources.next_rung(rung, CPU)
    assert lora.method == "lora"


@pytest.mark.parametrize(
    ("free_gb", "what"),
    [(6.0, ""), (4.5, "the U-Net but not the text encoder"), (3.0, "LoRA of rank 8")],
)
def test_where_the_drive_is_small_the_text_encoder_is_let_go_before_the_u_net_is(
    model, drive, monkeypatch, free_gb, what
):
    """A person, with Stable Diffusion 2.1's parameters: in fp16, which has to be there twice for
    a run to go on from, its U-Net takes 1.7 GB and its text encoder 0.7."""
    parameters = {"unet": 865_910_724, "both": 865_910_724 + 340_387_840, "lora": 1_659_904}

    def count(pipe, options):
        part = "both" if options.with_text_encoder else "unet"
        found = parameters["lora" if options.method == "lora" else part]
        return found, found

    monkeypatch.setattr(resources, "count_parameters", count)
    room = Room(free_gb * 1e9 / resources.GIB, 70.0)
    monkeypatch.setattr(resources, "room_for", lambda drive, folder: room)
    recipe = RECIPES[REGISTRY["sd2.1-base"].family]["person"]
    options, said = FinetuneOptions(**recipe.as_options(5)), []
    fitting = resources.fit_drive(setup_of(model, options, drive), drive.runs, said.append)
    assert fitting.with_text_encoder == (what == "")
    assert fitting.method == ("lora" if "LoRA" in what else "full")
    assert said == [] if not what else what in said[0]


def test_a_step_that_would_fit_too_narrowly_is_not_tried_without_checkpointing(model, monkeypatch):
    """A run that passed two trial steps would end in a full GPU an hour later."""
    needed = sum(
        resources.estimate_memory(
            *resources.count_parameters(model.pipeline, OPTIONS), OPTIONS, 64
        ).values()
    )
    tried = []
    monkeypatch.setattr(
        trial, "probe_steps", lambda model, options, _: tried.append(options) or 1.0
    )
    for room, is_tried in ((0.9, False), (1.1, True)):
        said = []
        free = int((needed + room * trial.ROOM_GIB) * resources.GIB)
        monkeypatch.setattr(trial, "free_memory", lambda device, free=free: free)
        tried_with, _ = trial.try_steps(setup_of(model, OPTIONS, report=said.append))
        options = tried_with.options
        assert options.with_checkpointing != is_tried and tried == [options]
        assert said == [] or "would leave less than 1 GiB" in said[0]
        tried.clear()


def test_on_a_t4_a_person_is_learnt_with_the_text_encoder_and_without_checkpointing():
    """Parameters of Stable Diffusion 2.1's U-Net and text encoder (OpenCLIP ViT-H, 23 layers), one
    photo and one class image of 512 px; a T4 has 14.7 GiB, CUDA itself takes half a GiB."""
    recipe = RECIPES[REGISTRY["sd2.1-base"].family]["person"]
    options = FinetuneOptions(**recipe.as_options(5))
    total = 865_910_724 + 340_387_840
    needed = sum(resources.estimate_memory(total, total, options, 512).values())
    assert needed + trial.ROOM_GIB < 14.2


def test_below_the_last_rung_it_gives_up_with_what_to_do():
    with pytest.raises(S2iError, match="smaller model"):
        probe = out_of_memory_until(lambda o: False, [])
        trial.descend(OPTIONS, probe, Accelerator(cpu=True), lambda text: None)


def test_8bit_adamw_is_no_rung_where_it_only_works_on_another_device(monkeypatch):
    """bitsandbytes with a broken CUDA library still works on the CPU."""
    tried = []

    def fault_on(device):
        tried.append(device)
        return "no kernel image is available"

    monkeypatch.setattr(resources, "find_8bit_fault", fault_on)
    checkpointed = dataclasses.replace(OPTIONS, with_checkpointing=True)
    rung = resources.next_rung(checkpointed, torch.device("cuda"))
    assert rung is not None and rung[0].accumulation == 4 and not rung[0].with_8bit_adam
    assert tried == [torch.device("cuda")]


def test_other_errors_than_memory_are_not_swallowed():
    def probe(options):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        trial.descend(OPTIONS, probe, Accelerator(cpu=True), pytest.fail)


def test_a_probe_of_real_steps_leaves_the_model_as_it_was(model):
    before = {k: v.clone() for k, v in model.pipeline.unet.state_dict().items()}
    seconds = trial.probe_steps(model, OPTIONS, Accelerator(cpu=True))
    assert seconds > 0
    after = model.pipeline.unet.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_trial_on_another_device_takes_no_memory_of_this_one(model, method):
    """On the meta device, which here stands for a GPU, weights take none there either."""
    place, options = torch.device("meta"), dataclasses.replace(OPTIONS, method=method)
    unet, before = model.pipeline.unet, dict(model.pipeline.unet.named_parameters())
    copied = trial.trial_copy(unet, place)
    for name, weight in copied.named_parameters():
        assert weight is not before[name] and weight.data_ptr() == before[name].data_ptr()
    pipe = SimpleNamespace(
        unet=copied,
        text_encoder=trial.trial_copy(model.pipeline.text_encoder, place),
        scheduler=model.pipeline.scheduler,
    )
    train_state = make_train_state(pipe, options, place)
    assert {p.device for p in train_state.unet.parameters()} == {place}
    assert {p.device for p in unet.parameters()} == {CPU}, "the model stays where it was"
    assert dict(unet.named_parameters()).keys() == before.keys()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_counted_parameters_are_those_that_the_learner_trains(model, method):
    options = dataclasses.replace(OPTIONS, method=method)
    trained, total = resources.count_parameters(model.pipeline, options)
    train_state = make_train_state(model.pipeline, options)
    assert trained == sum(p.numel() for p in train_state.parameters.values())
    assert total == sum(p.numel() for p in train_state.unet.parameters())


def test_lora_targets_that_match_no_layer_are_named_with_those_there_are(pocket, model):
    wrong = dataclasses.replace(OPTIONS, method="lora", lora_targets=("to_q", "to_z", "o_k"))
    for refuse, pipe in (
        (resources.count_parameters, pocket.pipeline),
        (make_train_state, model.pipeline),
    ):
        with pytest.raises(InputError, match="names to_z, o_k, and no linear layer") as error:
            refuse(pipe, wrong)
        assert "to_k, to_out.0, to_q, to_v" in str(error.value)


def test_the_space_on_the_drive_is_that_of_the_files(model, tmp_path):
    from s2i_lib.training import checkpoint

    train_state = make_train_state(model.pipeline, OPTIONS)
    for parameter in train_state.parameters.values():
        parameter.grad = torch.ones_like(parameter)
    train_state.optimizer.step()
    state = checkpoint.save_state(checkpoint.take_snapshot(train_state, {}), tmp_path)
    weights = checkpoint.save_weights(train_state, OPTIONS, tmp_path / "weights")
    one, kept = (
        sum(p.stat().st_size for p in folder.rglob("*.safetensors")) for folder in (state, weights)
    )
    trained, _ = resources.count_parameters(model.pipeline, OPTIONS)
    # of so small a model a fifth is names
    estimate = resources.estimate_files(trained, OPTIONS, with_best=True)
    assert estimate.state * resources.GIB == pytest.approx(one, rel=0.25)
    assert estimate.weights * resources.GIB == pytest.approx(kept, rel=0.25)
    assert estimate.best == estimate.weights


def test_the_best_steps_weights_are_counted_where_a_scorer_keeps_them(model, drive):
    def made(base, **changes):
        options = dataclasses.replace(OPTIONS, **changes)
        one = Model(base, model.pipeline, "made here")
        return plan.make_plan(setup_of(one, options, drive), drive.runs / "rex" / "1")

    pocket = REGISTRY["pocket"]  # its scorer ships with it; that of the others is fetched
    kept = made(pocket)
    for other in (kept, made(REGISTRY["sd2.1"])):
        assert other.sizes.best == other.sizes.weights > 0
    unscored = dataclasses.replace(pocket, scorer=None)
    for plain in (made(pocket, keep="last"), made(pocket, sample_every=0), made(unscored)):
        assert plain.sizes.best == 0
        assert plain.storage.drive_gib < kept.storage.drive_gib


def test_what_a_run_has_on_the_drive_already_is_free_for_it(model, drive):
    """Two states of SD 2.1 fill a free Drive; the run that they are of has to go on."""
    folder = drive.runs / "rex" / "1"
    before = plan.make_plan(setup_of(model, OPTIONS, drive), folder).room.drive
    (folder / "state-00000100").mkdir(parents=True)
    with (folder / "state-00000100" / "trained.safetensors").open("wb") as file:
        file.truncate(40 * resources.GIB)  # takes no space: a hole
    after = plan.make_plan(setup_of(model, OPTIONS, drive), folder).room.drive
    assert after - before == pytest.approx(40, abs=5)


def test_a_full_drive_is_refused_before_training(model, drive):
    made = plan.make_plan(setup_of(model, OPTIONS, drive), drive.runs / "rex" / "1")
    made.check()
    with pytest.raises(InputError, match="runs --prune"):
        dataclasses.replace(made, room=Room(drive=0.0, local=1.0)).check()


def test_a_full_local_disk_is_refused_before_training(model, drive, tmp_path, monkeypatch):
    """Where the Drive's folder is on the same disk, both copies have to fit."""
    folder = drive.runs / "rex" / "1"
    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "local"))
    monkeypatch.setattr(storage_plan, "free_bytes", lambda path: 100 * resources.GIB)
    monkeypatch.setattr(storage_plan, "disk_of", lambda path: drive.root in path.parents)
    assert storage_plan.room_for(drive, folder).local_beside(40) == 100, "two disks"
    monkeypatch.setattr(storage_plan, "disk_of", lambda path: 1)
    assert storage_plan.room_for(drive, folder).local_beside(40) == 60
    folder.mkdir(parents=True)
    with (folder / "state").open("wb") as file:
        file.truncate(30 * resources.GIB)  # takes no space: a hole
    room = storage_plan.room_for(drive, folder)
    assert room.local_beside(40) == 90, "30 of the 40 are there already"
    assert room.local_beside(20) == 100
    monkeypatch.setattr(storage_plan, "free_bytes", lambda path: 0)
    with pytest.raises(InputError, match=r"on this disk .* 0\.0 are free .* S2I_LOCAL"):
        plan.make_plan(setup_of(model, OPTIONS, drive), folder).check()


def test_too_little_memory_is_refused_with_a_change_that_needs_less(model, drive, monkeypatch):
    """On a CPU nothing may try whether it fits: the system would kill the process."""
    monkeypatch.setattr(plan, "free_memory", lambda device: 0)
    if find_8bit_fault("cpu"):
        pytest.skip("bitsandbytes does not work here, so its rung is left out")
    options, offered = OPTIONS, []
    while True:
        with pytest.raises(InputError, match=r"needs about .* on cpu and 0\.0 are free") as refused:
            plan.make_plan(setup_of(model, options, drive), drive.runs / "rex" / "1").check()
        words = re.findall(r"--option (\S+=[^\s)]+)", str(refused.value))
        if not words:
            break
        offered.append(words)
        options = dataclasses.replace(options, **parse_options(words))
    assert [words[0] for words in offered] == [
        "with_checkpointing=True",
        "with_8bit_adam=True",
        "accumulation=4",
        "method=lora",
    ]
    assert options.learning_rate == LORA_RATE and "smaller model" in str(refused.value)


def test_on_a_gpu_the_estimate_does_not_overrule_the_trial_steps(model, drive):
    made = plan.make_plan(setup_of(model, OPTIONS, drive), drive.runs / "rex" / "1")
    dataclasses.replace(made, is_tried=True, device_free_gib=0.0).check()


def test_the_plan_says_what_will_happen(model, drive):
    said = str(plan.make_plan(setup_of(model, OPTIONS, drive), drive.runs / "rex" / "1"))
    for words in ("pocket on cpu", "full", "learning rate 1e-06", "4 photos + 4 class", "free"):
        assert words in said
    assert "Time    said after the first steps" in said


def test_the_plan_says_the_time_that_measured_steps_add_up_to(model, drive):
    made = plan.make_plan(setup_of(model, OPTIONS, drive), drive.runs / "rex" / "1")
    assert OPTIONS.steps == 400
    assert "about 10 minutes for all steps, 1.5 s each" in str(
        dataclasses.replace(made, seconds_a_step=1.5)
    )
    assert "about 8 s for" in dataclasses.replace(made, seconds_a_step=0.02).time


def test_the_second_step_tells_the_time_where_no_trial_did(model, drive, monkeypatch):
    clock = iter([100.0, 102.0, 200.0, 300.0])  # the callback of step 2 begins 2 s after step 1
    monkeypatch.setattr(plan.time, "monotonic", lambda: next(clock))
    made = plan.make_plan(setup_of(model, OPTIONS, drive), drive.runs / "rex" / "1")
    seen, said = [], []
    callback = plan.SayTime(made, lambda step, losses: seen.append(step), said.append)
    for step in (1, 2, 3):
        callback(step, None)
    assert seen == [1, 2, 3]
    assert said == [f"Time    {dataclasses.replace(made, seconds_a_step=2.0).time}"]
    tried = dataclasses.replace(made, seconds_a_step=1.0)
    clock = iter(range(100))
    callback = plan.SayTime(tried, lambda step, losses: None, said.append)
    for step in (1, 2, 3):
        callback(step, None)
    assert len(said) == 1, "a trial has told it before"


def test_half_precision_without_a_gpu_becomes_fp32_and_that_is_said():
    said = []
    options = dataclasses.replace(OPTIONS, precision="fp16")
    assert resources.settle_options(options, CPU, said.append).precision == "fp32"
    assert "CUDA" in said[0]


def test_a_gpu_that_only_claims_bf16_computes_in_fp16(monkeypatch):
    """A T4: compute capability 7.5, and is_bf16_supported() is true."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    said = []
    options = dataclasses.replace(OPTIONS, precision="bf16")
    settled = resources.settle_options(options, torch.device("cuda"), said.append)
    assert settled.precision == "fp16" and "capability" in said[0]


def test_8bit_adamw_that_does_not_work_is_replaced_and_that_is_said(monkeypatch):
    monkeypatch.setattr(resources, "find_8bit_fault", lambda device: "OSError: libcudart not found")
    said = []
    options = dataclasses.replace(OPTIONS, with_8bit_adam=True)
    assert not resources.settle_options(options, CPU, said.append).with_8bit_adam
    assert "libcudart" in said[0]


def read_memory_table():
    """GiB counted, and measured on a GPU, for each setting, from benchmarks/README.md."""
    text = (Path(__file__).parents[2] / "benchmarks" / "README.md").read_text()
    number = r"(\d+\.\d+)"
    row = rf"^\| (\S.*?) \| {number} \| {number} \| {number} \| {number} \| {number} \|$"
    rows = re.findall(row, text, re.MULTILINE)
    return {
        name: (float(counted), float(on_gpu))
        for name, counted, _, _, on_gpu, _ in rows
        if name in memory.SETTINGS
    }


def estimate(options):
    """For the U-Net of Stable Diffusion 2.1, with LoRA of rank 8 on its attention."""
    total = 865_910_724
    trained = 1_659_904 if options.method == "lora" else total
    total += trained if options.method == "lora" else 0
    return sum(resources.estimate_memory(trained, total, options, 512).values())


def test_the_estimate_is_within_15_percent_of_what_was_counted_and_of_a_gpu():
    table = read_memory_table()
    assert table.keys() == memory.SETTINGS.keys()
    for name, (counted, on_gpu) in table.items():
        assert estimate(memory.SETTINGS[name]) == pytest.approx(counted, rel=0.15), name
        assert estimate(memory.SETTINGS[name]) == pytest.approx(on_gpu, rel=0.15), name


@pytest.mark.full
@pytest.mark.parametrize("name", memory.SETTINGS)
def test_fake_tensors_still_count_what_the_table_says(name):
    gib, trained, total = memory.measure(memory.SETTINGS[name])
    assert gib == pytest.approx(read_memory_table()[name][0], rel=0.02)
    parts = resources.estimate_memory(trained, total, memory.SETTINGS[name], 512)
    assert sum(parts.values()) == pytest.approx(gib, rel=0.15)

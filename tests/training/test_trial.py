"""Trial steps: how far down the ladder they go, and that they leave everything as it was."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from tiny_run import setup_of

from s2i_lib.errors import S2iError
from s2i_lib.models.registry import REGISTRY
from s2i_lib.training import resources, trial
from s2i_lib.training.config import FinetuneOptions
from s2i_lib.training.recipes import RECIPES
from s2i_lib.training.train_state import find_8bit_fault, make_train_state

OPTIONS = FinetuneOptions(batch_size=4)
CPU = torch.device("cpu")


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
    if find_8bit_fault("cpu"):  # it has no build for every processor and system; CI's has it
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


def test_a_step_that_would_fit_too_narrowly_is_not_tried_without_checkpointing(model):
    """A run that passed two trial steps would end in a full GPU an hour later."""
    counts = resources.count_parameters(model.pipeline, OPTIONS)
    needed = sum(resources.estimate_memory(*counts, OPTIONS, 64).values())
    checkpointed = dataclasses.replace(OPTIONS, with_checkpointing=True)
    for room, is_tight in ((0.9, True), (1.1, False)):
        free = int((needed + room * trial.ROOM_GIB) * resources.GIB)
        assert trial.is_tight(model, OPTIONS, free) is is_tight
        assert not trial.is_tight(model, checkpointed, free), "the trial steps alone decide"


def test_a_step_that_is_not_tried_is_a_rung_down_and_that_is_said():
    said = []

    def probe(options):
        if not options.with_checkpointing:
            raise trial.TightError
        return 1.0

    options, _ = trial.descend(OPTIONS, probe, Accelerator(cpu=True), said.append)
    assert options == dataclasses.replace(OPTIONS, with_checkpointing=True)
    [sentence] = said
    assert "A step would leave less than 1 GiB of memory" in sentence


@pytest.mark.slow
def test_steps_are_tried_with_what_this_machine_has_free(model):
    setup = setup_of(model, OPTIONS)
    tried, seconds = trial.try_steps(setup)
    assert seconds > 0 and tried == setup, "a tiny model fits anywhere"


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


def test_other_errors_than_memory_are_not_swallowed():
    def probe(options):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        trial.descend(OPTIONS, probe, Accelerator(cpu=True), pytest.fail)


@pytest.mark.slow
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

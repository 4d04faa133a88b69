"""The estimate against real parameter counts, the ladder, and what is refused early."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch

from benchmarks import memory
from s2i_lib.errors import InputError
from s2i_lib.training import resources
from s2i_lib.training.config import FinetuneOptions
from s2i_lib.training.train_state import find_8bit_fault, make_train_state

OPTIONS = FinetuneOptions(batch_size=4)


CPU = torch.device("cpu")
# These say what happens where a GPU is asked for and is none: with one, it may work.
without_gpu = pytest.mark.skipif(
    torch.cuda.is_available(), reason="8-bit AdamW may work on the GPU that is here"
)


def test_the_text_encoder_is_let_go_before_the_u_net_is():
    options = dataclasses.replace(
        OPTIONS, with_text_encoder=True, with_checkpointing=True, with_8bit_adam=True, batch_size=1
    )
    rung, said = resources.next_rung(options, CPU)
    assert rung == dataclasses.replace(options, with_text_encoder=False)
    assert "text encoder" in said
    lora, _ = resources.next_rung(rung, CPU)
    assert lora.method == "lora"


@without_gpu
def test_8bit_adamw_is_no_rung_where_it_only_works_on_another_device():
    """bitsandbytes with a broken CUDA library still works on the CPU."""
    checkpointed = dataclasses.replace(OPTIONS, with_checkpointing=True)
    rung = resources.next_rung(checkpointed, torch.device("cuda"))
    assert rung is not None and rung[0].accumulation == 4 and not rung[0].with_8bit_adam
    if not find_8bit_fault(CPU):
        rung = resources.next_rung(checkpointed, CPU)
        assert rung is not None and rung[0].with_8bit_adam


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


@without_gpu
def test_8bit_adamw_that_does_not_work_is_replaced_and_that_is_said():
    said, cuda = [], torch.device("cuda")
    options = dataclasses.replace(OPTIONS, with_8bit_adam=True)
    assert not resources.settle_options(options, cuda, said.append).with_8bit_adam
    assert f"({find_8bit_fault(cuda)})" in said[0]


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

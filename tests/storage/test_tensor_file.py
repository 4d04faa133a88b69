"""What is written is read by safetensors' own reader, and costs no second copy in memory."""

import hashlib
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from s2i_lib.storage.tensor_file import _NAMES, write_tensors

SHAPES = st.lists(st.integers(0, 4), max_size=3)


def make(kind, shape, seed):
    numbers = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed))
    return numbers.to(kind)


TENSORS = st.tuples(st.sampled_from(list(_NAMES)), SHAPES)


@pytest.mark.slow
@given(st.dictionaries(st.text(min_size=1, max_size=8), TENSORS))
def test_safetensors_reads_back_what_was_written(tmp_path_factory, made):
    path = tmp_path_factory.mktemp("file") / "a.safetensors"
    tensors = {name: make(kind, shape, i) for i, (name, (kind, shape)) in enumerate(made.items())}
    digest = write_tensors(tensors, path, metadata={"format": "pt"})
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_tensors_are_converted_on_the_way_and_may_be_strided(tmp_path):
    turned = torch.arange(6.0).reshape(2, 3).t()
    write_tensors({"turned": turned}, tmp_path / "a", torch.float16)
    found = load_file(tmp_path / "a")["turned"]
    assert found.dtype == torch.float16 and torch.equal(found.float(), turned)


MEASURE = """
import resource, sys, tempfile, torch
from pathlib import Path
from types import SimpleNamespace
from s2i_lib.training import checkpoint
from s2i_lib.training.config import FinetuneOptions

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

weights = {f"unet.{i}": torch.nn.Parameter(torch.ones(1 << 20)) for i in range(64)}  # 256 MiB
network = SimpleNamespace(save_config=lambda folder: None)
train_state = SimpleNamespace(
    parameters=weights, ema={}, step=3, unet=network, text_encoder=None,
    optimizer=SimpleNamespace(state={p: {"exp_avg": p.detach()} for p in weights.values()}),
)
before = peak_mib()
with tempfile.TemporaryDirectory() as folder:
    if sys.argv[1] == "state":
        checkpoint.save_state(checkpoint.take_snapshot(train_state, {}), Path(folder))
    else:
        checkpoint.save_weights(train_state, FinetuneOptions(), Path(folder, "weights"))
print(peak_mib() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("what", ["state", "weights"])
def test_saving_holds_a_few_tensors_in_memory_and_not_a_second_model(what):
    command = [sys.executable, "-c", MEASURE, what]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 40, "MiB; the weights in fp16 would be 128, the state 512"

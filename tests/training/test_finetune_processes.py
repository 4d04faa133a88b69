"""One process and two see the same global batches, so they end with the same weights."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_model import make_pipeline

from s2i_lib.photos.dataset import build_dataset, sample_subject
from s2i_lib.photos.manifest import load_dataset
from s2i_lib.storage.layout import Drive
from s2i_lib.storage.run_card import read_card
from s2i_lib.training import saves
from s2i_lib.training.class_images import image_seed
from s2i_lib.training.config import FinetuneOptions
from s2i_lib.training.finetune import FinetuneRun
from s2i_lib.training.train_state import make_train_state

MACHINE = Path(__file__).parents[1] / "machine.py"
pytestmark = pytest.mark.slow

COMMON = {
    "batch_size": 4,
    "accumulation": 2,
    "learning_rate": 1e-4,
    "class_image_count": 16,  # two batches: one for each of two processes
    "sample_every": 0,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A Drive with the sample's dataset, and a model."""
    root = tmp_path_factory.mktemp("made")
    build_dataset(sample_subject(Drive(root / "drive")), Drive(root / "drive"))
    make_pipeline().save_pretrained(root / "tiny")
    return root


@pytest.fixture
def train_alone(made, tmp_path, monkeypatch):
    """Train in this process, its local disk below ``tmp_path/NAME/0``; the run's folder.

    With one thread, as each of two processes has: sums in another order differ in their last bits.
    """

    def train(name: str, **changes) -> Path:
        root = tmp_path / name
        shutil.copytree(made / "drive", root / "drive", dirs_exist_ok=True)
        monkeypatch.setenv("S2I_LOCAL", str(root / "0" / "local"))
        drive = Drive(root / "drive")
        options = {"model": str(made / "tiny"), "name": "one", **COMMON, **changes}
        return FinetuneRun(drive, load_dataset(drive, "Racer"), **options).train()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield train
    torch.set_num_threads(threads)


@pytest.fixture
def train_on_two(made, tmp_path):
    """Train with ``accelerate launch`` on two processes with a local disk each, as on two machines.

    Gives the run's folder, and what was said.
    """

    def train(name: str, **changes) -> tuple[Path, str]:
        root = tmp_path / name
        shutil.copytree(made / "drive", root / "drive", dirs_exist_ok=True)
        command = [MACHINE, root]
        command += ["finetune", "--subject", "Racer", "--model", made / "tiny", "--name", "one"]
        for key, value in {**COMMON, **changes}.items():
            command += ["--option", f"{key}={value}"]
        done = launch(*command, S2I_DRIVE=str(root / "drive"), S2I_LOCAL="local")
        return root / "drive" / "runs" / "racer" / "one", done.stderr

    return train


def launch(*command: str | Path, **environment: str) -> subprocess.CompletedProcess:
    """Run a script with ``accelerate launch`` in two processes on the CPU."""
    start = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    # accelerate finds a free port for 0. torch.distributed.run does not: with --master_port=0
    # the store listens on one, but the processes are told port 0 and wait for it for ever.
    start += ["--mixed_precision", "no", "--num_processes", "2", "--main_process_port", "0"]
    environment |= {
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run(
        [*start, *map(str, command)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Run ") <= 1, "one reports for all"
    return done


def check_same(one: Path, two: Path, **changes) -> None:
    """The runs' last weights are the same to rounding, which training changed by much more."""
    base = make_train_state(make_pipeline(), FinetuneOptions(**changes)).parameters
    ends = [load_file(saves.list_states(run)[-1] / "trained.safetensors") for run in (one, two)]
    assert ends[0].keys() == ends[1].keys() == base.keys()
    flat = [torch.cat([w[k].detach().flatten() for k in base]) for w in (*ends, base)]
    difference = float((flat[0] - flat[1]).norm() / flat[0].norm())
    change = float((flat[0] - flat[2]).norm() / flat[0].norm())
    assert difference < 1e-4 < 10 * difference + 1e-4 < change, (difference, change)
    assert all(read_card(run)["status"] == "finished" for run in (one, two))


def test_two_processes_end_with_the_weights_of_one_and_share_the_class_images(
    train_alone, train_on_two, tmp_path
):
    one = train_alone("one", steps=20)
    two, _ = train_on_two("two", steps=20)
    check_same(one, two)
    caches = [sorted((run.parents[2] / "class_images").rglob("latents-*")) for run in (one, two)]
    assert [p.read_bytes() for p in caches[0]] == [p.read_bytes() for p in caches[1]]

    seeds = [image_seed(0, index) for index in range(16)]
    first, second = (
        [json.loads(line) for line in (tmp_path / "two" / rank / "sampled.jsonl").open()]
        for rank in "01"
    )
    assert seeds[:8] in first and seeds[8:] not in first
    assert second == [seeds[8:]], "the pictures to look at are the first one's work alone"


@pytest.mark.parametrize("changes", [{"method": "lora"}, {"with_text_encoder": True}])
def test_two_machines_go_on_from_what_both_see(train_alone, train_on_two, tmp_path, changes):
    """A state on the disk of the first one is nothing that the second could read."""
    whole = train_alone("whole", steps=8, **changes)
    [state] = saves.list_states(train_alone("parts", steps=4, **changes))
    own = tmp_path / "parts" / "0" / "local"
    [key] = own.iterdir()
    shutil.copytree(state, key / "runs" / "racer" / "one" / state.name)
    run, said = train_on_two("parts", steps=8, **changes)
    assert "racer/one goes on at step 4 of 8." in said and "on several machines" in said
    check_same(whole, run, **changes)


LADDER = """
import sys
import torch
from pathlib import Path
from s2i_lib.models.registry import choose
from s2i_lib.training import trial
from s2i_lib.training.finetune import load_for_training, make_accelerator
from s2i_lib.training.config import FinetuneOptions
from s2i_lib.training.run import Setup

accelerator = make_accelerator("fp32")
rank, real, said = accelerator.process_index, trial.probe_steps, []

def probe(model, options, accelerator):
    if rank == 1 and options.accumulation == 1:  # the second GPU is the smaller one
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return real(model, options, accelerator)

trial.probe_steps = probe
model = load_for_training(choose(sys.argv[1]), None)
options = FinetuneOptions(batch_size=4, with_checkpointing=True, with_8bit_adam=True)
setup = Setup(None, None, model, options, accelerator, report=said.append)
changed, _ = trial.try_steps(setup)
Path(sys.argv[2], f"{rank}.txt").write_text(f"{changed.options.accumulation} {len(said)}")
accelerator.end_training()
"""


def test_the_smaller_of_two_gpus_decides_and_neither_waits_for_the_other(made, tmp_path):
    (tmp_path / "ladder.py").write_text(LADDER)
    launch(tmp_path / "ladder.py", made / "tiny", tmp_path)
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in "01"] == ["2 1", "2 1"]


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_slow(made, tmp_path):
    root = tmp_path / "odd"
    shutil.copytree(made / "drive", root / "drive")
    command = [
        MACHINE,
        root,
        "finetune",
        "--subject",
        "Racer",
    ]
    command += ["--model", made / "tiny", "--batch-size", "3"]
    with pytest.raises(AssertionError, match=r"batch of 3 cannot be shared by 2"):
        launch(*command, S2I_DRIVE=str(root / "drive"), S2I_LOCAL="local")
    assert not (root / "drive" / "class_images").exists()

"""A run of the tiny model: start it, kill it, and tell whether two of them ended the same."""

import hashlib
import json

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from s2i_lib.models import loading
from s2i_lib.storage import run_card
from s2i_lib.training.checkpoint import save_weights
from s2i_lib.training.config import FinetuneOptions, as_json
from s2i_lib.training.finetune import FinetuneRun
from s2i_lib.training.run import Setup
from s2i_lib.training.train_state import make_train_state

SHORT = {
    "steps": 8,
    "batch_size": 1,
    "class_image_count": 8,
    "save_every": 3,
    "sample_every": 0,
    "sample_prompts": ("a {subject}",),
    "learning_rate": 1e-3,
}


class KilledError(Exception):
    """Ends a run from within; tests/training/test_finetune_killed.py does the same with SIGKILL."""


class WatchedRun(FinetuneRun):
    """A run whose model a test may look at, or break, while it trains."""

    loaded = ()

    def load_base(self, base):
        model = super().load_base(base)
        self.loaded.append(model)
        return model


def start(drive, dataset, tiny, *, loaded=None, rises=FinetuneRun.rises, **changes):
    """Run once; the run's folder, what was said, and the events. The model goes to ``loaded``."""
    said, events = [], []
    callback = changes.pop("callback", lambda event, info: None)

    def note(event, info):
        events.append((event, info))
        callback(event, info)

    changes = {"model": str(tiny), "report": said.append, **SHORT, **changes}
    run = WatchedRun(drive, dataset, callback=note, **changes)
    run.loaded = [] if loaded is None else loaded
    run.rises = rises
    return run.train(), said, events


def setup_of(model, options, drive=None, report=pytest.fail):
    """A run's setup, as far as what it needs depends on it: not on its photos."""
    return Setup(drive, None, model, options, Accelerator(cpu=True), report=report)


def kill_at(wanted):
    """A callback that ends the run once the lines of step ``wanted`` have been read."""

    def callback(event, info):
        if event == "step" and info["lines"][-1]["step"] >= wanted:
            raise KilledError

    return callback


def digest(run):
    """Of all that was trained: the U-Net, and the text encoder where that is the default."""
    files = sorted((run / "weights").rglob("*.safetensors"))
    assert files
    # Not of the files: safetensors writes two entries of metadata, as a LoRA has, in any order.
    return [
        (path.name, name, hashlib.sha256(weight.numpy().tobytes()).hexdigest())
        for path in files
        for name, weight in sorted(load_file(path).items())
    ]


def write_run(drive, base, name, **options):
    """A run that ends with weights of its own, without the time that training takes."""
    options = FinetuneOptions(**options)
    model = loading.load(str(base), drive=drive)
    train_state = make_train_state(model.pipeline, options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in train_state.parameters.values():
            weight += 0.03 * torch.randn(weight.shape, generator=generator)
    folder = drive.runs / "violet" / name
    save_weights(train_state, options, folder / run_card.WEIGHTS)
    card = {
        "status": "finished",
        "subject": {"name": "Violet", "class_noun": "cat", "identifier": "sks", "kind": "animal"},
        "instance_prompt": "a sks cat",
        "base": {
            "name": model.base.name,
            "edition": run_card.EDITIONS.get(model.base.name, 1),
            "source": model.source,
            "licence": "none",
        },
        "options": as_json(options),
    }
    (folder / run_card.RUN_CARD).write_text(json.dumps(card))

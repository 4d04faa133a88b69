"""A fine-tuning process that can be killed at a given moment.

The fork server imports this once, so that twenty processes need not load the libraries each."""

import collections
import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import diffusers  # noqa: F401  (loaded before the fork)
import peft  # noqa: F401
import torch
import transformers  # noqa: F401
from tiny_model import draw_dataset
from tiny_run import SHORT

from s2i_lib.models.registry import PACKAGE, REGISTRY
from s2i_lib.storage.layout import Drive, folder_name
from s2i_lib.training.finetune import FinetuneRun

# Two batches of class images, and samples that are scored: the run ends with the weights of step 4.
OPTIONS = {**SHORT, "class_image_count": 16, "sample_every": 4}


def lay_out(root: Path) -> Drive:
    """A Drive with the scorer that a model like the tiny one is scored by: the pocket model's."""
    drive = Drive(root / "drive")
    place = drive.models / folder_name(REGISTRY["sd2.1-base"].scorer or "")
    if not place.exists():
        shutil.copytree(PACKAGE / "pocket" / "scorer", place)
    return drive


def run(root: str, tiny: Path, phase: str = "", count: int = 1) -> None:
    """Train below ``root``; SIGKILL itself when ``phase`` comes a ``count``-th time."""
    torch.set_num_threads(1)
    os.environ["S2I_LOCAL"] = f"{root}/local"
    left = count
    seen = collections.Counter()

    def note(event, info):
        nonlocal left
        seen[event] += 1
        left -= event == phase
        while event == "step" and seen["saving"] > seen["pointed"]:
            time.sleep(0.01)  # each state is on the Drive before the next: every phase does come
        if event == phase and not left:
            os.kill(os.getpid(), signal.SIGKILL)

    with Path(root, "log").open("a") as log, contextlib.redirect_stderr(log):
        FinetuneRun(
            lay_out(Path(root)),
            draw_dataset(Path(root) / "photos"),
            model=str(tiny),
            callback=note,
            report=lambda text: print(text, file=sys.stderr, flush=True),
            **OPTIONS,
        ).train()

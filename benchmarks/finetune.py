"""A step of the training loop against the bare U-Net step, in turns in one process.

    python benchmarks/finetune.py [--rounds 10]

The bare step is forward, backward, clipping and AdamW on a batch that lies ready: 1 photo + 1 class
image of the pocket model.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from pathlib import Path

N_CLASS_IMAGES = 48
RATE = 1e-4


def compare_steps(rounds: int = 12, each: int = 5) -> dict[str, float]:
    """Our loop and the bare step in turns, so that a busy machine slows both alike."""
    import torch
    from accelerate import Accelerator

    from s2i_lib.drawing.sampling import encode_prompts, token_ids
    from s2i_lib.models import loading
    from s2i_lib.storage.layout import Drive
    from s2i_lib.training import dreambooth
    from s2i_lib.training.config import FinetuneOptions
    from s2i_lib.training.data import Moments, TrainingData
    from s2i_lib.training.train_state import make_train_state

    with tempfile.TemporaryDirectory() as folder:
        drive = Drive(Path(folder))
        model = loading.load("pocket", drive=drive, device=torch.device("cpu"))
    pipe = model.pipeline
    options = FinetuneOptions(learning_rate=RATE, steps=rounds * each, batch_size=1)
    size, channels = pipe.unet.config.sample_size, pipe.unet.config.in_channels
    some = torch.randn(5, channels, size, size)
    data = TrainingData(
        Moments(some, some.abs()),
        None,
        torch.randn(N_CLASS_IMAGES, channels, size, size),
        token_ids(model, ["a ohwx car", "a car"]),
        encode_prompts(model, ["a ohwx car", "a car"]),
    )
    train_state = make_train_state(pipe, options)
    accelerator = Accelerator(cpu=True)
    weights = list(train_state.parameters.values())
    noisy, wanted = torch.randn(2, 2, channels, size, size)
    times = torch.tensor([100, 900])

    def bare() -> None:
        for _ in range(each):
            loss = (train_state.unet(noisy, times, data.embeddings).sample - wanted).square().mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            train_state.optimizer.step()
            train_state.optimizer.zero_grad(set_to_none=True)

    def stop_after(step: int, losses: object) -> None:
        if step % each == 0:
            raise StopIteration

    def ours() -> None:
        with contextlib.suppress(StopIteration):
            dreambooth.train(train_state, data, options, accelerator, stop_after)

    seconds: dict[str, list[float]] = {"bare": [], "ours": []}
    bare()
    for _ in range(rounds):
        for name, function in (("bare", bare), ("ours", ours)):
            began = time.perf_counter()
            function()
            seconds[name].append((time.perf_counter() - began) / each)
    # The least of many is what the machine can do; on a busy one the median is what others left.
    return {name: min(values) for name, values in seconds.items()} | {
        "median ratio": statistics.median(
            o / b for o, b in zip(seconds["ours"], seconds["bare"], strict=True)
        )
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    print(json.dumps(compare_steps(parser.parse_args().rounds)))

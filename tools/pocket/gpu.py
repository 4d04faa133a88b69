"""Train the U-Net and the text encoder on one GPU for some minutes, while scenes are painted.

    python -m tools.pocket.gpu OUT --minutes 8 [--channels 160,320] [--from FILE]

The other cores paint; latents are taken onto the device as they come. A step is recorded once as a
CUDA graph, batch and optimizer included, and replayed: it has some two thousand kernels of a few
microseconds, which Python cannot launch as fast as an H200 is done with them. The rate falls to
zero over the last part of the time. Written to OUT: `ema.safetensors` (fp16, what is shipped),
`raw.safetensors` (fp16, to go on from) and `run.json`.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.pool import IMapIterator
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from tools.pocket import data, places, unet, vae, world
from tools.pocket.training import work_folder

FALL = 0.6  # share of the time in which the rate falls to zero
PLAIN_UNTIL = 0.1  # share of the time in which plain scenes (one thing) come more often
SAVE_EVERY_S = 60
SHARD = 4_000  # scenes
SHARDS = data.PIXELS.start  # from there on they are painted otherwise
NAMES = {"unet": "unet.", "text": "text."}
WARM_STEPS = 3  # before a step is recorded, as torch asks for


def orthogonalised(stack: torch.Tensor, steps: int = 4) -> torch.Tensor:
    """Return nearly U V^T of each matrix of a stack (n, rows, columns); see `unet.py`."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = stack.bfloat16()
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.mT
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT


class Optimizer:
    """Muon for matrices, equal shapes together, and Adam for the rest, as in `unet.py`.

    Rates are numbers on the device, so that a recorded step can be given others.
    """

    def __init__(self, modules: torch.nn.ModuleDict, device: torch.device):
        groups: dict[tuple[int, int], list[torch.nn.Parameter]] = {}
        rates: dict[float, list[torch.nn.Parameter]] = {unet.EMBEDDING_LR: [], unet.VECTOR_LR: []}
        for name, p in modules.named_parameters():
            kind = unet.kind_of(name, p)
            if kind == "matrix":
                groups.setdefault((len(p), p[0].numel()), []).append(p)
            else:
                rates[unet.EMBEDDING_LR if kind == "embedding" else unet.VECTOR_LR].append(p)
        self.share = torch.zeros((), device=device)
        self.groups = list(groups.values())
        self.momentum = [
            torch.zeros(len(g), *_flat(g[0]).shape, device=device) for g in self.groups
        ]
        self.adam = torch.optim.AdamW(
            [
                {"params": some, "lr": torch.zeros((), device=device), "peak": rate}
                for rate, some in rates.items()
            ],
            betas=(0.9, 0.98), weight_decay=0.0, fused=True, capturable=device.type == "cuda",
        )  # fmt: skip

    def set_share(self, share: float) -> None:
        """Say which share of the rates the steps from now on have."""
        self.share.fill_(share)
        for group in self.adam.param_groups:
            group["lr"].fill_(share * group["peak"])

    @torch.no_grad()
    def step(self) -> None:
        self.adam.step()
        for parameters, mean in zip(self.groups, self.momentum, strict=True):
            gradient = torch.stack([_flat(p.grad) for p in parameters]).float()
            mean.lerp_(gradient, 0.05)
            direction = orthogonalised(gradient.lerp(mean, 0.95)).float()
            direction *= unet.MATRIX_LR * 0.2 * max(direction.shape[1:]) ** 0.5 * self.share
            kept = 1 - unet.MATRIX_LR * unet.DECAY * self.share
            for p, d in zip(parameters, direction, strict=True):
                p.mul_(kept).sub_(d.reshape(p.shape))


def _flat(p: torch.Tensor) -> torch.Tensor:
    return p.reshape(len(p), -1)


@functools.cache
def _tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(work_folder() / "tokenizer")


def tokens_of(captions: list[str]) -> np.ndarray:
    return np.array(_tokenizer()(captions, padding="max_length", truncation=True)["input_ids"])


def painted(shard: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return latents and tokens of a shard, and which of its scenes have a mark."""
    torch.set_num_threads(1)
    pictures, records = data.draw(shard, SHARD)
    marks = {mark: np.flatnonzero([bool(r[mark]) for r in records]) for mark in unet.MARKS}
    return vae.latents(pictures).numpy(), tokens_of([r["caption"] for r in records]), marks


class Scenes:
    """All latents and captions painted so far, on the device."""

    def __init__(self, device: torch.device, limit: int, coming: IMapIterator):
        self.device, self.factor, self.coming = device, vae.scaling_factor(), coming
        self.no_prompt = torch.tensor(tokens_of([""]), device=device)
        length = self.no_prompt.shape[1]
        self.latents = torch.zeros(limit, vae.LATENTS, 8, 8, dtype=torch.float16, device=device)
        self.tokens = torch.zeros(limit, length, dtype=torch.long, device=device)
        self.rows = {m: torch.zeros(limit, dtype=torch.long, device=device) for m in unet.MARKS}
        self.counts = {m: torch.zeros((), device=device) for m in ("all", *unet.MARKS)}
        self.shares = {m: torch.zeros((), device=device) for m in unet.MARKS}
        self.count = 0

    def refill(self, timeout_s: float = 0.0) -> None:
        """Take in what has been painted."""
        while True:
            try:
                latents, tokens, marks = self.coming.next(timeout_s)
            except (multiprocessing.TimeoutError, StopIteration):
                return
            at, end = self.count, self.count + len(tokens)
            self.latents[at:end] = torch.from_numpy(latents).to(self.device)
            self.tokens[at:end] = torch.from_numpy(tokens).to(self.device)
            for mark, rows in marks.items():
                found = torch.from_numpy(rows + at).to(self.device)
                known = int(self.counts[mark])
                self.rows[mark][known : known + len(found)] = found
                self.counts[mark] += len(found)
            self.counts["all"].fill_(end)
            self.count, timeout_s = end, 0.0

    def set_shares(self, part: float) -> None:
        """Say which scenes come more often when this part of the time is over."""
        is_early = part < PLAIN_UNTIL
        wanted = {"plain": 1 - part / PLAIN_UNTIL} if is_early else unet.RARE
        for mark, share in self.shares.items():
            share.fill_(wanted.get(mark, 0.0))

    def batch(self, size: int) -> dict[str, torch.Tensor]:
        """Return a random batch, as `unet.Examples` does."""

        def uniform(*shape: int) -> torch.Tensor:
            return torch.rand(shape, device=self.device, dtype=torch.float64)

        chosen = (uniform(size) * self.counts["all"]).long()
        for mark, rows in self.rows.items():
            some = rows[(uniform(size) * self.counts[mark]).long()]
            chosen = torch.where(uniform(size) < self.shares[mark], some, chosen)
        drop = uniform(size, 1) < unet.NO_PROMPT
        share = (torch.arange(size, device=self.device) + uniform(size)) / size
        x = self.latents[chosen].float() * self.factor
        return {
            "latents": x,
            "tokens": torch.where(drop, self.no_prompt, self.tokens[chosen]),
            "noise": torch.randn_like(x),
            "timesteps": (share**0.75 * 1000).long().clamp(max=999),
        }


def recorded(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Return the step as a graph of its kernels, on a GPU; it has been made a few times then."""
    if device.type != "cuda":
        return step
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_STEPS):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            step()
    except RuntimeError as error:
        print(f"A step could not be recorded, so Python launches each: {error}", flush=True)
        return step
    return graph.replay


def _write(out: Path, name: str, tensors: dict[str, torch.Tensor]) -> None:
    halves = {k: v.detach().half().contiguous().cpu() for k, v in tensors.items()}
    save_file(halves, out / f"{name}.tmp")
    (out / f"{name}.tmp").replace(out / f"{name}.safetensors")


class Training:
    """The models, their averages and one step of them."""

    def __init__(self, o: argparse.Namespace, device: torch.device, scenes: Scenes):
        models = unet.make_models(o.channels)
        self.modules = torch.nn.ModuleDict(dict(zip(NAMES, models, strict=True)))
        if o.begin_from:
            self.modules.load_state_dict(load_file(o.begin_from))
        self.modules.to(device, memory_format=torch.channels_last)
        self.scheduler = DDPMScheduler(**unet.SCHEDULE)
        self.scheduler.alphas_cumprod = self.scheduler.alphas_cumprod.to(device)
        self.optimizer, self.scenes, self.size = Optimizer(self.modules, device), scenes, o.batch
        self.parameters = list(self.modules.parameters())
        self.ema = [p.detach().clone() for p in self.parameters]
        self.moved = torch.ones((), device=device)  # how far the averages follow a step
        self.loss = torch.zeros((), device=device)  # a sum, since it was read last

    def step(self) -> None:
        for p in self.parameters:
            p.grad = None
        batch = self.scenes.batch(self.size)
        loss = unet.losses(self.modules, batch, self.scheduler).mean()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.loss += loss.detach()
            for average, p in zip(self.ema, self.parameters, strict=True):
                average.lerp_(p, self.moved)

    def averages(self) -> dict[str, torch.Tensor]:
        named = self.modules.named_parameters()
        return {n: e for (n, _), e in zip(named, self.ema, strict=True)}


def train(o: argparse.Namespace) -> None:
    began = time.time()
    world.icons(), places.bank()  # once, before the painters are forked
    with multiprocessing.Pool(o.cores) as painters:
        shards = range(min(SHARDS, o.limit // SHARD))
        learn(o, began, len(shards) * SHARD, painters.imap_unordered(painted, shards))


def learn(o: argparse.Namespace, began: float, limit: int, coming: IMapIterator) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    torch.set_autocast_cache_enabled(False)  # a graph is to have the casts of weights, too
    torch.manual_seed(1)
    scenes = Scenes(device, limit, coming)
    training = Training(o, device, scenes)
    scenes.refill(timeout_s=300)
    step_once = recorded(training.step, device)
    step, saved = 0, time.time()
    end, learning = began + o.minutes * 60, time.time()
    print(f"{learning - began:.0f} s until the first step", flush=True)
    o.out.mkdir(parents=True, exist_ok=True)
    while time.time() < end:
        part = (time.time() - learning) / max(end - learning, 1e-9)
        share = min(1.0, (step + 1) / unet.WARMUP, max(0.0, 1 - part) / FALL)
        training.optimizer.set_share(share)
        training.moved.fill_(1 - min(0.999, (1 + step) / (10 + step)))
        scenes.set_shares(part)
        step_once()
        step += 1
        if step % o.log_every == 0:
            scenes.refill()
            mean = float(training.loss) / o.log_every  # waits for the device
            training.loss.zero_()
            seconds = time.time() - learning
            print(
                f"step {step} loss {mean:.4f} {step * o.batch / seconds:.0f} pictures/s, "
                f"{step * o.batch} pictures of {scenes.count} scenes, {scenes.count / seconds:.0f} "
                f"painted a second, rate {share:.2f}, {end - time.time():.0f} s left",
                flush=True,
            )
        if time.time() - saved > SAVE_EVERY_S:
            _write(o.out, "ema", training.averages())
            saved = time.time()
    named = dict(training.modules.named_parameters())
    _write(o.out, "ema", training.averages())
    _write(o.out, "raw", named)
    with torch.no_grad():
        for name, average in training.averages().items():
            named[name].copy_(average)
    held_back = unet.Examples([data.HELD_BACK], vae.scaling_factor())
    said = unet.validate(training.modules, held_back, training.scheduler)
    run = {"step": step, "pictures": step * o.batch, "scenes": scenes.count, "held back": said}
    run |= {"seconds": time.time() - began, "channels": o.channels, "batch": o.batch}
    run["torch"] = torch.__version__
    (o.out / "run.json").write_text(json.dumps(run, indent=1) + "\n")
    print(run, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument(
        "--channels", type=lambda s: tuple(map(int, s.split(","))), default=unet.CHANNELS
    )
    parser.add_argument("--from", dest="begin_from", help="raw.safetensors of an earlier run")
    parser.add_argument("--limit", type=int, default=SHARDS * SHARD, help="scenes to paint at most")
    parser.add_argument("--log-every", type=int, default=50)
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="that paint")
    train(parser.parse_args())


if __name__ == "__main__":
    main()

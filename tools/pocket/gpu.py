"""Train the U-Net and the text encoder on one GPU for some minutes, while scenes are rendered.

    python -m tools.pocket.gpu OUT --minutes 8 [--channels 160,320] [--from FILE]

`on_gpu.sh` renders beside it. Latents are taken onto the device as shards appear; the rate falls
to zero over the last part of the time. Written to OUT: `ema.safetensors` (fp16, what is shipped),
`raw.safetensors` (fp16, to go on from) and `run.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from diffusers import DDPMScheduler
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from tools.pocket import data, unet, vae
from tools.pocket.training import work_folder

FALL = 0.3  # share of the time in which the rate falls to zero
SAVE_EVERY_S = 60
NAMES = {"unet": "unet.", "text": "text."}


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
    """Muon for matrices, equal shapes together, and Adam for the rest, as in `unet.py`."""

    def __init__(self, modules: torch.nn.ModuleDict):
        groups: dict[tuple[int, int], list[torch.nn.Parameter]] = {}
        self.embeddings, self.others = [], []
        for name, p in modules.named_parameters():
            kind = unet.kind_of(name, p)
            if kind == "matrix":
                groups.setdefault((len(p), p[0].numel()), []).append(p)
            else:
                (self.embeddings if kind == "embedding" else self.others).append(p)
        self.groups = list(groups.values())
        self.momentum = [
            torch.zeros(len(g), *_flat(g[0]).shape, device=g[0].device) for g in self.groups
        ]
        self.adam = torch.optim.AdamW(
            [
                {"params": self.embeddings, "lr": unet.EMBEDDING_LR, "base": unet.EMBEDDING_LR},
                {"params": self.others, "lr": unet.VECTOR_LR, "base": unet.VECTOR_LR},
            ],
            betas=(0.9, 0.98), weight_decay=0.0,
        )  # fmt: skip

    @torch.no_grad()
    def step(self, share: float) -> None:
        """Move all parameters at this share of their rates, and forget their gradients."""
        for group in self.adam.param_groups:
            group["lr"] = group["base"] * share
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        for parameters, mean in zip(self.groups, self.momentum, strict=True):
            gradient = torch.stack([_flat(p.grad) for p in parameters]).float()
            mean.lerp_(gradient, 0.05)
            direction = orthogonalised(gradient.lerp(mean, 0.95))
            rate = unet.MATRIX_LR * share * 0.2 * max(direction.shape[1:]) ** 0.5
            for p, d in zip(parameters, direction, strict=True):
                p.mul_(1 - unet.MATRIX_LR * share * unet.DECAY)
                p.add_(d.reshape(p.shape).to(p.dtype), alpha=-rate)
                p.grad = None


def _flat(p: torch.Tensor) -> torch.Tensor:
    return p.reshape(len(p), -1)


class Pool:
    """All latents and captions rendered so far, on the device."""

    def __init__(self, device: torch.device, factor: float, limit: int):
        self.device, self.factor, self.shards, self.count = device, factor, 0, 0
        self.tokenizer = CLIPTokenizer.from_pretrained(work_folder() / "tokenizer")
        self.latents = torch.zeros(limit, vae.LATENTS, 8, 8, dtype=torch.float16, device=device)
        self.tokens = torch.zeros(
            limit, self.tokenizer.model_max_length, dtype=torch.long, device=device
        )
        self.plain = torch.zeros(limit, dtype=torch.bool, device=device)
        self.no_prompt = self._tokens([""])

    def _tokens(self, captions: list[str]) -> torch.Tensor:
        made = self.tokenizer(captions, padding="max_length", truncation=True)["input_ids"]
        return torch.tensor(made, device=self.device)

    def refill(self) -> None:
        """Take in the shards that have appeared; at the limit, in place of the oldest."""
        ready = len(data.ready())
        while self.shards < ready:
            latents, records = data.shard(self.shards)
            size = len(records)
            at = self.shards * size % max(size, len(self.latents) // size * size)
            self.latents[at : at + size] = torch.from_numpy(latents.copy()).to(self.device)
            self.tokens[at : at + size] = self._tokens([r["caption"] for r in records])
            self.plain[at : at + size] = torch.tensor([r["plain"] for r in records])
            self.count = max(self.count, at + size)
            self.shards += 1

    def batch(self, size: int, plain_share: float) -> dict[str, torch.Tensor]:
        """Return a random batch; at first plain scenes are taken more often."""
        chosen = torch.randint(self.count, (size,), device=self.device)
        again = torch.randint(self.count, (size,), device=self.device)
        swap = ~self.plain[chosen] & self.plain[again]
        swap &= torch.rand(size, device=self.device) < plain_share
        chosen = torch.where(swap, again, chosen)
        drop = torch.rand(size, 1, device=self.device) < unet.NO_PROMPT
        strata = torch.arange(size, device=self.device)
        share = (strata + torch.rand(size, device=self.device)) / size
        x = self.latents[chosen].float() * self.factor
        return {
            "latents": x,
            "tokens": torch.where(drop, self.no_prompt, self.tokens[chosen]),
            "noise": torch.randn_like(x),
            "timesteps": (share**0.75 * 1000).long().clamp(max=999),
        }


def _write(out: Path, name: str, tensors: dict[str, torch.Tensor]) -> None:
    halves = {k: v.detach().half().contiguous().cpu() for k, v in tensors.items()}
    save_file(halves, out / f"{name}.tmp")
    (out / f"{name}.tmp").replace(out / f"{name}.safetensors")


def train(o: argparse.Namespace) -> None:
    began = time.time()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(1)
    models = unet.make_models(o.channels)
    modules = torch.nn.ModuleDict(dict(zip(NAMES, models, strict=True)))
    if o.begin_from:
        modules.load_state_dict(load_file(o.begin_from))
    modules.to(device, memory_format=torch.channels_last)
    ema = {k: v.detach().clone().float() for k, v in modules.named_parameters()}
    scheduler = DDPMScheduler(**unet.SCHEDULE)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(device)
    optimizer = Optimizer(modules)
    pool = Pool(device, vae.scaling_factor(), o.limit)
    while not pool.count:
        pool.refill()
        time.sleep(0.2)
    step, seen, saved, recent = 0, 0, time.time(), []
    end = began + o.minutes * 60
    learning = time.time()
    o.out.mkdir(parents=True, exist_ok=True)
    while time.time() < end:
        part = (time.time() - learning) / max(end - learning, 1e-9)
        share = min(1.0, (step + 1) / unet.WARMUP, max(0.0, 1 - part) / FALL)
        loss = unet.losses(modules, pool.batch(o.batch, max(0.0, 1 - part * 4)), scheduler).mean()
        loss.backward()
        optimizer.step(share)
        keep = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(ema.values()), [p.float() for p in modules.parameters()], 1 - keep
            )
        step, seen = step + 1, seen + o.batch
        recent.append(loss.detach())
        if step % o.log_every == 0:
            pool.refill()
            mean = float(torch.stack(recent).mean())
            rate = seen / (time.time() - learning)
            print(
                f"step {step} loss {mean:.4f} {rate:.0f} pictures/s, {seen} pictures of "
                f"{pool.count} scenes, rate {share:.2f}, {end - time.time():.0f} s left",
                flush=True,
            )
            recent = []
        if time.time() - saved > SAVE_EVERY_S or time.time() >= end:
            _write(o.out, "ema", ema)
            saved = time.time()
    _write(o.out, "ema", ema)
    _write(o.out, "raw", dict(modules.named_parameters()))
    run = {"step": step, "pictures": seen, "scenes": pool.count, "seconds": time.time() - began}
    run |= {"channels": o.channels, "batch": o.batch, "torch": torch.__version__}
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
    parser.add_argument("--limit", type=int, default=1_000_000, help="scenes held on the device")
    parser.add_argument("--log-every", type=int, default=50)
    train(parser.parse_args())


if __name__ == "__main__":
    main()

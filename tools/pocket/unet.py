"""Train the U-Net and the text encoder together on the PCA latents (v-prediction).

The schedule is warm-up, stable, decay: a trunk at a constant learning rate that can be resumed and
prolonged for ever (`unet.py trunk --until STEP`), and short branches in which the rate falls to
zero, each of which gives a model to ship (`unet.py branch --steps N`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tools.pocket import data, vae
from tools.pocket.tokenizer import MAX_LENGTH
from tools.pocket.training import load_state, save_state, work_folder

CHANNELS, TEXT_WIDTH, TEXT_LAYERS = (128, 256), 192, 2
BATCH = 64
MATRIX_LR, VECTOR_LR, EMBEDDING_LR = 1e-3, 6e-4, 2e-3
WARMUP, PLAIN_UNTIL = 60, 600  # steps; until then plain scenes (one, as it is) come more often
NO_PROMPT = 0.1  # share of captions dropped, for classifier-free guidance
EMA = 0.998
SCHEDULE = {  # SD 2's own noise schedule; trailing steps begin where training ends, at t = 999
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: every matrix moves equally in all its directions.

    torch.optim.Muon takes 2-D parameters only, and here most weights are convolutions: each is
    seen as a matrix (out, in * height * width). Source: Jordan et al. 2024, scaled as in Moonlight
    (arXiv:2502.16982) so that learning rates are AdamW's.
    """

    def __init__(
        self, parameters: Iterable, lr: float, momentum: float = 0.95, decay: float = 0.01
    ):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                mean = state.setdefault("momentum", torch.zeros_like(p))
                mean.lerp_(p.grad, 1 - group["momentum"])
                direction = p.grad.lerp(mean, group["momentum"]).reshape(len(p), -1)
                update = orthogonalised(direction)
                scale = 0.2 * max(update.shape) ** 0.5
                p.mul_(1 - group["lr"] * group["decay"])
                p.add_(update.reshape(p.shape).to(p.dtype), alpha=-group["lr"] * scale)


def orthogonalised(matrix: torch.Tensor, steps: int = 4) -> torch.Tensor:
    """Return nearly U V^T of the matrix's singular value decomposition (Newton-Schulz, bf16)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16()
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.T


def make_models() -> tuple[UNet2DConditionModel, CLIPTextModel]:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=vae.LATENTS,
        out_channels=vae.LATENTS,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=tuple(c // 32 for c in CHANNELS),
        norm_num_groups=16,
        use_linear_projection=True,
    )
    tokenizer = CLIPTokenizer.from_pretrained(work_folder() / "tokenizer")
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=TEXT_LAYERS,
            num_attention_heads=6,
            max_position_embeddings=MAX_LENGTH,
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    for name, parameter in text.named_parameters():
        if "token_embedding" in name:  # far enough apart that even unseen words differ
            torch.nn.init.normal_(parameter, std=0.05)
    return unet, text


def make_optimizers(modules: torch.nn.Module) -> list[torch.optim.Optimizer]:
    matrices, embeddings, others = [], [], []
    for name, p in modules.named_parameters():
        if "embedding" in name and "time" not in name:
            embeddings.append(p)
        elif p.ndim >= 2 and "conv_in" not in name and "conv_out" not in name:
            matrices.append(p)
        else:
            others.append(p)
    adam = torch.optim.AdamW(
        [
            {"params": others, "lr": VECTOR_LR, "weight_decay": 0.0},
            {"params": embeddings, "lr": EMBEDDING_LR, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
        fused=True,
    )
    return [Muon(matrices, lr=MATRIX_LR), adam]


class Examples:
    """All latents and captions of some shards, in memory."""

    def __init__(self, shards: Iterable[int], scaling_factor: float):
        tokenizer = CLIPTokenizer.from_pretrained(work_folder() / "tokenizer")
        latents, captions, plain = [], [], []
        for number in shards:
            pictures, records = data.shard(number)
            latents.append(vae.latents(pictures))
            captions += [r["caption"] for r in records]
            plain += [r["count"] == 1 and not r["size"] and not r["painted"] for r in records]
        self.latents = torch.cat(latents) * scaling_factor
        tokens = tokenizer(["", *captions], padding="max_length", truncation=True)["input_ids"]
        self.no_prompt, self.tokens = torch.tensor(tokens[:1]), torch.tensor(tokens[1:])
        self.plain = torch.tensor(plain).nonzero()[:, 0]

    def batch(self, step: int, size: int, plain_share: float) -> dict[str, torch.Tensor]:
        """Return the batch of a step, which depends on nothing but the step."""
        g = torch.Generator().manual_seed(step * 2 + 1)
        chosen = torch.randint(len(self.latents), (size,), generator=g)
        plain = self.plain[torch.randint(len(self.plain), (size,), generator=g)]
        chosen = torch.where(torch.rand(size, generator=g) < plain_share, plain, chosen)
        drop = torch.rand(size, 1, generator=g) < NO_PROMPT
        # One timestep from each of `size` equal strata: less noise in the loss and its gradient.
        share = (torch.arange(size) + torch.rand(size, generator=g)) / size
        x = self.latents[chosen].float()
        return {
            "latents": x,
            "tokens": torch.where(drop, self.no_prompt, self.tokens[chosen]),
            "noise": torch.randn(x.shape, generator=g),
            "timesteps": (share * 1000).long().clamp(max=999),
        }


def losses(modules: torch.nn.ModuleDict, batch: dict, scheduler: DDPMScheduler) -> torch.Tensor:
    """Return the mean squared error of v for each example of the batch."""
    x, noise, t = batch["latents"], batch["noise"], batch["timesteps"]
    noisy = scheduler.add_noise(x, noise, t).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        words = modules["text"](batch["tokens"]).last_hidden_state
        made = modules["unet"](noisy, t, words).sample
    return (made.float() - scheduler.get_velocity(x, noise, t)).pow(2).mean((1, 2, 3))


@torch.no_grad()
def validate(modules: torch.nn.ModuleDict, examples: Examples, scheduler: DDPMScheduler) -> str:
    each = []
    for k in range(4):
        batch = examples.batch(10**6 + k, 100, 0.0)
        each.append(losses(modules, batch, scheduler).reshape(5, 20).mean(1))
    fifths = torch.stack(each).mean(0)
    said = " ".join(f"{x:.3f}" for x in fifths.tolist())
    return f"v-MSE {float(fifths.mean()):.4f}, by fifths of t: {said}"


def save_models(modules: torch.nn.ModuleDict, ema: list[torch.Tensor], folder: Path) -> None:
    """Write the averaged weights as two ordinary model folders."""
    unet, text = make_models()
    clean = torch.nn.ModuleDict({"unet": unet, "text": text})
    with torch.no_grad():
        for p, average in zip(clean.parameters(), ema, strict=True):
            p.copy_(average)
    unet.save_pretrained(folder / "unet")
    text.save_pretrained(folder / "text_encoder")


def train(until: int, branch_steps: int, minutes: float, name: str, shards: int) -> None:
    """Train the trunk until a step, or a branch of `branch_steps` from where the trunk is."""
    work = work_folder()
    trunk_file, branch_file = work / "unet_trunk.pt", work / "unet_branch.pt"
    unet, text = make_models()
    modules = torch.nn.ModuleDict({"unet": unet, "text": text})
    modules.to(memory_format=torch.channels_last)
    optimizers = make_optimizers(modules)
    ema = [p.detach().clone() for p in modules.parameters()]
    rates = [[g["lr"] for g in o.param_groups] for o in optimizers]
    step, end, own_file = 0, until, trunk_file
    if branch_steps:
        own_file = branch_file
    state = load_state(own_file) or load_state(trunk_file)
    if state:
        modules.load_state_dict(state["modules"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        ema, step = state["ema"], state["step"]
    fork = state.get("fork", step) if state else 0
    if branch_steps:
        end = fork + branch_steps
    factor = vae.load().config.scaling_factor
    examples, held_back = Examples(range(shards), factor), Examples([data.HELD_BACK], factor)
    scheduler = DDPMScheduler(**SCHEDULE)
    count = sum(p.numel() for p in unet.parameters()) / 1e6
    print(f"U-Net {count:.1f} M, {len(examples.latents)} scenes, step {step} to {end}", flush=True)
    began, first, recent, saved_at = time.time(), step, [], time.time()

    def save() -> None:
        state = {
            "modules": modules.state_dict(),
            "optimizers": [o.state_dict() for o in optimizers],
            "ema": ema,
            "step": step,
            "fork": fork,
        }
        save_state(state, own_file)
        save_models(modules, ema, work / name)

    while step < end and time.time() - began < minutes * 60:
        warm = min(1.0, (step + 1) / WARMUP)
        share = (end - step) / branch_steps if branch_steps else warm
        for optimizer, base in zip(optimizers, rates, strict=True):
            for group, rate in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = rate * share
        batch = examples.batch(step, BATCH, max(0.0, 1 - step / PLAIN_UNTIL))
        loss = losses(modules, batch, scheduler).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        recent.append(float(loss.detach()))
        step += 1
        keep = min(EMA, (1 + step) / (10 + step))
        torch._foreach_lerp_(ema, [p.detach() for p in modules.parameters()], 1 - keep)
        if step % 50 == 0:
            rate = (step - first) * BATCH / (time.time() - began)
            mean = np.mean(recent[-50:])
            print(f"step {step} loss {mean:.4f} {rate:.1f} pictures/s", flush=True)
        if step % 250 == 0:
            print("  ", validate(modules, held_back, scheduler), flush=True)
        if time.time() - saved_at > 300:
            save()
            saved_at = time.time()
    print("  ", validate(modules, held_back, scheduler), flush=True)
    save()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["trunk", "branch"])
    parser.add_argument("--until", type=int, default=100_000, help="last step of the trunk")
    parser.add_argument("--steps", type=int, default=600, help="length of the branch")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop (and save) after this")
    parser.add_argument("--shards", type=int, default=8, help="how many shards of scenes to use")
    options = parser.parse_args()
    branch_steps = options.steps if options.mode == "branch" else 0
    name = "unet_" + options.mode
    train(options.until, branch_steps, options.minutes, name, options.shards)


if __name__ == "__main__":
    main()

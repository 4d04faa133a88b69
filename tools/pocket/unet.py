"""Train the U-Net and the text encoder together on the PCA latents (v-prediction).

The schedule is warm-up, stable, decay: a trunk at a constant learning rate that can be resumed and
prolonged for ever (`unet.py trunk --until STEP`), and short branches in which the rate falls to
zero, each of which gives a model to ship (`unet.py branch --steps N`). A file named `stop` in the
work folder ends either at its next step, saved. Weights that a GPU trained are gone on from with
`unet.py branch --from ema.safetensors --rate 0.5 --first 100`, on scenes that it has not seen.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tools.pocket import data, vae
from tools.pocket.tokenizer import MAX_LENGTH
from tools.pocket.training import load_state, save_state, work_folder

CHANNELS, TEXT_WIDTH, TEXT_LAYERS = (160, 256), 256, 2
BATCH = 128
MATRIX_LR, VECTOR_LR, EMBEDDING_LR = 1e-3, 6e-4, 2e-3
DECAY = 0.01  # weight decay of the matrices
WARMUP, PLAIN_UNTIL = 60, 1500  # steps; until then plain scenes (one thing) come more often
# Shares of a batch, beside what chance brings (17 and 31 %), of what it was worst at: 0.77 of what
# is worn and 0.82 of colours came out, where nouns, places and numbers did in more than 0.96.
RARE_FROM, RARE = 4200, {"painted": 0.2, "accessory": 0.25}
NO_PROMPT = 0.1  # share of captions dropped, for classifier-free guidance
EMA = {"trunk": 0.998, "branch": 0.99}  # a branch ends where its rate is 0: look back less far
SCHEDULE = {  # SD 2's own noise schedule; trailing steps begin where training ends, at t = 999
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}


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


def make_models(
    channels: tuple[int, ...] = CHANNELS,
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Return the U-Net and the text encoder with random weights."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=vae.LATENTS,
        out_channels=vae.LATENTS,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=tuple(c // 32 for c in channels),
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
            num_attention_heads=8,
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


@dataclass
class Shared:
    """Everything that training changes, in memory that all workers share."""

    modules: torch.nn.ModuleDict
    gradients: list[list[torch.Tensor]]  # of each worker, for each parameter
    momentum: list[torch.Tensor]
    squares: list[torch.Tensor]  # second moments, for what Adam trains; else empty
    ema: list[torch.Tensor]
    loss: torch.Tensor  # of each worker, at this step
    seen: torch.Tensor  # pictures so far
    shards: torch.Tensor  # how many are in use: more are taken in as they are drawn


def make_shared(workers: int) -> Shared:
    unet, text = make_models()
    modules = torch.nn.ModuleDict({"unet": unet, "text": text})
    modules.to(memory_format=torch.channels_last).share_memory()
    parameters = [p.detach() for p in modules.parameters()]
    names = [name for name, _ in modules.named_parameters()]
    zeros = [torch.zeros_like(p) for p in parameters]
    return Shared(
        modules=modules,
        gradients=[[z.clone().share_memory_() for z in zeros] for _ in range(workers)],
        momentum=[z.clone().share_memory_() for z in zeros],
        squares=[
            (z.clone() if kind_of(n, z) != "matrix" else torch.zeros(0)).share_memory_()
            for n, z in zip(names, zeros, strict=True)
        ],
        ema=[p.clone().share_memory_() for p in parameters],
        loss=torch.zeros(workers).share_memory_(),
        seen=torch.zeros((), dtype=torch.long).share_memory_(),
        shards=torch.zeros((), dtype=torch.long).share_memory_(),
    )


def kind_of(name: str, parameter: torch.Tensor) -> str:
    """Say how a parameter is trained: matrices by Muon, embeddings and the rest by Adam."""
    if "token_embedding" in name or "position_embedding" in name:
        return "embedding"
    inner = parameter.ndim >= 2 and "unet.conv_in" not in name and "unet.conv_out" not in name
    return "matrix" if inner else "other"


@torch.no_grad()
def update(
    shared: Shared, p: torch.Tensor, index: int, kind: str, share: float, step: int, ema: float
) -> None:
    """Move one parameter by its gradient, the mean over the workers, and its running average.

    Muon (momentum, then orthogonalised, so that a matrix moves equally in all directions) takes a
    convolution as a matrix (out, in * height * width); torch.optim.Muon takes 2-D parameters only.
    Source: Jordan et al. 2024, scaled as in arXiv:2502.16982 so that learning rates are Adam's.
    """
    gradient = sum(g[index] for g in shared.gradients[1:]) + shared.gradients[0][index]
    gradient /= len(shared.gradients)
    mean = shared.momentum[index]
    if kind == "matrix":
        mean.lerp_(gradient, 0.05)
        direction = orthogonalised(gradient.lerp(mean, 0.95).reshape(len(p), -1))
        rate = MATRIX_LR * share * 0.2 * max(direction.shape) ** 0.5
        p.mul_(1 - MATRIX_LR * share * DECAY)
        p.add_(direction.reshape(p.shape).to(p.dtype), alpha=-rate)
    else:
        rate = (EMBEDDING_LR if kind == "embedding" else VECTOR_LR) * share
        square = shared.squares[index]
        mean.lerp_(gradient, 0.1)
        square.lerp_(gradient.square(), 0.02)
        size = (square / (1 - 0.98 ** (step + 1))).sqrt_().add_(1e-8)
        p.addcdiv_(mean, size, value=-rate / (1 - 0.9 ** (step + 1)))
    shared.ema[index].lerp_(p, 1 - min(ema, (1 + step) / (10 + step)))


MARKS = ("plain", "accessory", "painted")


def shares_at(step: int) -> dict[str, float]:
    """Return which scenes come more often at a step, as shares of its batch by their mark."""
    if step >= RARE_FROM:
        return RARE
    return {"plain": max(0.0, 1 - step / PLAIN_UNTIL)}


class Examples:
    """All latents and captions of some shards; the latents stay on the disk, in its cache."""

    def __init__(self, shards: Iterable[int], scaling_factor: float):
        self.tokenizer = CLIPTokenizer.from_pretrained(work_folder() / "tokenizer")
        self.factor, self.latents, self.starts = scaling_factor, [], [0]
        self.no_prompt = self.tokens = self._tokens([""])
        self.tokens = self.tokens[:0]
        self.marked = {mark: torch.zeros(0, dtype=torch.long) for mark in MARKS}
        for number in shards:
            self.add(number)

    def _tokens(self, captions: list[str]) -> torch.Tensor:
        made = self.tokenizer(captions, padding="max_length", truncation=True)["input_ids"]
        return torch.tensor(made)

    def add(self, number: int) -> None:
        """Take a shard in."""
        found, records = data.shard(number)
        self.latents.append(vae.latents(found).numpy() if found.shape[-1] == 3 else found)
        for mark, rows in self.marked.items():
            marked = torch.tensor([bool(r[mark]) for r in records]).nonzero()[:, 0]
            self.marked[mark] = torch.cat([rows, marked + self.starts[-1]])
        self.starts.append(self.starts[-1] + len(records))
        self.tokens = torch.cat([self.tokens, self._tokens([r["caption"] for r in records])])

    def __len__(self) -> int:
        return len(self.tokens)

    def scaled(self, chosen: torch.Tensor) -> torch.Tensor:
        """Return the scaled latents of some scenes."""
        rows = []
        for i in chosen.tolist():
            shard = int(np.searchsorted(self.starts, i, side="right")) - 1
            rows.append(self.latents[shard][i - self.starts[shard]])
        return torch.from_numpy(np.stack(rows)).float() * self.factor

    def batch(self, step: int, size: int, shares: Mapping[str, float]) -> dict[str, torch.Tensor]:
        """Return the batch of a step, which depends on nothing but the step and the shards.

        ``shares`` of it are scenes with a mark, beside those that chance brings.
        """
        g = torch.Generator().manual_seed(step * 2 + 1)
        chosen = torch.randint(len(self), (size,), generator=g)
        for mark, share in shares.items():
            rows = self.marked[mark]
            some = rows[torch.randint(len(rows), (size,), generator=g)]
            chosen = torch.where(torch.rand(size, generator=g) < share, some, chosen)
        drop = torch.rand(size, 1, generator=g) < NO_PROMPT
        # One timestep from each of `size` equal strata: less noise in the loss and its gradient.
        share = (torch.arange(size) + torch.rand(size, generator=g)) / size
        return {
            "chosen": chosen,
            "tokens": torch.where(drop, self.no_prompt, self.tokens[chosen]),
            "noise": torch.randn((size, vae.LATENTS, 8, 8), generator=g),
            # Leaning to high noise, where it is settled what the object is.
            "timesteps": (share**0.75 * 1000).long().clamp(max=999),
        }

    def part(self, batch: dict[str, torch.Tensor], rank: int, workers: int) -> dict:
        """Return a worker's share of a batch, with its latents read."""
        mine = {key: value[rank::workers] for key, value in batch.items()}
        return mine | {"latents": self.scaled(mine["chosen"])}


def losses(modules: torch.nn.ModuleDict, batch: dict, scheduler: DDPMScheduler) -> torch.Tensor:
    """Return the mean squared error of v for each example of the batch."""
    x, noise, t = batch["latents"], batch["noise"], batch["timesteps"]
    noisy = scheduler.add_noise(x, noise, t).contiguous(memory_format=torch.channels_last)
    with torch.autocast(x.device.type, torch.bfloat16):
        words = modules["text"](batch["tokens"]).last_hidden_state
        made = modules["unet"](noisy, t, words).sample
    return (made.float() - scheduler.get_velocity(x, noise, t)).pow(2).mean((1, 2, 3))


@torch.no_grad()
def validate(modules: torch.nn.ModuleDict, examples: Examples, scheduler: DDPMScheduler) -> str:
    each, device = [], next(modules.parameters()).device
    for k in range(4):
        made = examples.part(examples.batch(10**6 + k, 100, {"plain": 0.0}), 0, 1)
        batch = {name: value.to(device) for name, value in made.items()}
        each.append(losses(modules, batch, scheduler).reshape(5, 20).mean(1))
    fifths = torch.stack(each).mean(0)
    said = " ".join(f"{x:.3f}" for x in fifths.tolist())
    return f"v-MSE {float(fifths.mean()):.4f}, by fifths of t: {said}"


def save_models(averages: list[torch.Tensor], folder: Path) -> None:
    """Write the averaged weights as two ordinary model folders."""
    unet, text = make_models()
    clean = torch.nn.ModuleDict({"unet": unet, "text": text})
    with torch.no_grad():
        for p, average in zip(clean.parameters(), averages, strict=True):
            p.copy_(average)
    unet.save_pretrained(folder / "unet")
    text.save_pretrained(folder / "text_encoder")


@dataclass(frozen=True)
class Plan:
    """A run: the trunk until a step, or a branch of some steps from where the trunk is."""

    mode: str = "trunk"
    until: int = 6_000
    branch_steps: int = 600
    minutes: float = 1e6
    shards: int = 0  # of latents to use; 0: all that are there, and those to come
    first: int = 0  # of the shards
    rate: float = 1.0  # share of the rates that it begins with
    begin_from: str = ""  # weights, where there is no state yet
    batch: int = BATCH
    workers: int = 2

    def end(self, fork: int) -> int:
        """Return the step at which the run is finished."""
        return fork + self.branch_steps if self.mode == "branch" else self.until

    def share(self, step: int, fork: int) -> float:
        """Return the share of the learning rate at a step."""
        warm = min(1.0, (step + 1 - (fork if self.begin_from else 0)) / WARMUP)
        fall = 1 - (step - fork) / self.branch_steps if self.mode == "branch" else 1.0
        return self.rate * warm * fall

    def ready(self) -> int:
        """Return how many shards are to be used by now."""
        return self.shards or len(data.ready(self.first))


def restore(shared: Shared, plan: Plan) -> tuple[int, int]:
    """Load the newest state; return the step it is at and the step at which a branch left.

    A finished branch is left alone; where the trunk has gone on since, a new one begins.
    """
    work = work_folder()
    trunk = load_state(work / "unet_trunk.pt") if not plan.begin_from else {"step": RARE_FROM}
    branch = load_state(work / "unet_branch.pt") if plan.mode == "branch" else None
    is_begun = branch and branch["step"] < plan.end(branch["fork"])
    is_newest = branch and trunk and branch["fork"] == trunk["step"]
    state = branch if is_begun or is_newest else trunk
    if plan.begin_from and state is trunk:
        shared.modules.load_state_dict(load_file(plan.begin_from))
        for average, p in zip(shared.ema, shared.modules.parameters(), strict=True):
            average.copy_(p.detach())
        return RARE_FROM, RARE_FROM  # past what only a beginning needs
    if not state:
        return 0, 0
    shared.modules.load_state_dict(state["modules"])
    for key in ("momentum", "squares", "ema"):
        for mine, saved in zip(getattr(shared, key), state[key], strict=True):
            mine.copy_(saved)
    shared.seen.fill_(state["seen"])
    return state["step"], state["fork"] if state is branch else state["step"]


def save(shared: Shared, plan: Plan, step: int, fork: int) -> None:
    state = {"modules": shared.modules.state_dict(), "step": step, "fork": fork}
    state["seen"] = int(shared.seen)
    state |= {key: getattr(shared, key) for key in ("momentum", "squares", "ema")}
    # The state last: one that says "finished" is not gone on from, so its models must be there.
    save_models(shared.ema, work_folder() / f"unet_{plan.mode}")
    save_state(state, work_folder() / f"unet_{plan.mode}.pt")


def work(rank: int, shared: Shared, plan: Plan, step: int, fork: int, meet: Barrier) -> None:
    """Train as one of several single-thread workers: half of each batch, half of the updates.

    They meet twice a step. Threads that meet at every operation stand still whenever one of the
    cores is busy with something else.
    """
    torch.set_num_threads(1)
    factor = vae.scaling_factor()
    held_back = Examples([data.HELD_BACK] if rank == 0 else [], factor)
    examples = Examples(range(plan.first, plan.first + int(shared.shards)), factor)
    scheduler = DDPMScheduler(**SCHEDULE)
    # Torch's fused attention took a third of a step: in bf16 its backward pass is slow here.
    shared.modules["unet"].set_attn_processor(AttnProcessor())
    shared.modules["text"].set_attn_implementation("eager")
    named = list(shared.modules.named_parameters())
    for (_, parameter), gradient in zip(named, shared.gradients[rank], strict=True):
        parameter.grad = gradient
    costs = [p.numel() * min(p.shape[0], 256) if p.ndim >= 2 else 1 for _, p in named]
    mine, loads = [], [0] * plan.workers
    for i in sorted(range(len(named)), key=lambda i: -costs[i]):
        least = loads.index(min(loads))
        loads[least] += costs[i]
        if least == rank:
            mine.append((i, kind_of(*named[i])))
    end, stop_file = plan.end(fork), work_folder() / "stop"
    began = saved_at = time.time()
    first, recent = step, []
    if rank == 0:
        size = sum(p.numel() for p in shared.modules["unet"].parameters()) / 1e6
        print(f"U-Net {size:.1f} M, {len(examples)} scenes, step {step} to {end}", flush=True)
    while step < end:
        batch = examples.batch(step, plan.batch, shares_at(step))
        part = examples.part(batch, rank, plan.workers)
        for gradient in shared.gradients[rank]:
            gradient.zero_()
        loss = losses(shared.modules, part, scheduler).mean()
        loss.backward()
        shared.loss[rank] = loss.detach()
        meet.wait()
        for i, kind in mine:
            update(shared, named[i][1], i, kind, plan.share(step, fork), step, EMA[plan.mode])
        step += 1
        stop = time.time() - began > plan.minutes * 60 or stop_file.exists()
        if rank == 0:
            recent.append(float(shared.loss.mean()))
            shared.seen += plan.batch
            shared.loss[0] = float("nan") if stop else 0.0  # how rank 0 tells the others to stop
        meet.wait()
        stop = bool(shared.loss[0].isnan())
        if rank == 0 and step % 50 == 0:
            rate = (step - first) * plan.batch / (time.time() - began)
            print(
                f"step {step} loss {np.mean(recent[-50:]):.4f} {rate:.1f} pictures/s, "
                f"{int(shared.seen)} pictures",
                flush=True,
            )
        if rank == 0 and (step % 500 == 0 or step == end or stop):
            print("  ", validate(shared.modules, held_back, scheduler), flush=True)
        if rank == 0 and (time.time() - saved_at > 300 or step == end or stop):
            save(shared, plan, step, fork)
            shared.shards.fill_(plan.ready())
            saved_at = time.time()
        meet.wait()  # nobody changes what is being written
        while len(examples.latents) < int(shared.shards):
            examples.add(plan.first + len(examples.latents))
        if stop:
            return


def watch(crew: list[BaseProcess]) -> None:
    """Wait until all workers are done; when one dies, end the others, which wait for it for ever.

    Raises
    ------
    RuntimeError
        A worker ended with an exit code other than 0.
    """
    try:
        while True:
            # In this order: who dies after it is listed wakes the wait, who died before has a code.
            running = [worker for worker in crew if worker.exitcode is None]
            for rank, worker in enumerate(crew):
                if worker.exitcode:
                    raise RuntimeError(
                        f"Worker {rank} died with exit code {worker.exitcode} (expected 0; -9 is "
                        "often want of memory), so the others were ended. If it said why, that "
                        "stands above. The same command goes on from what was saved last."
                    )
            if not running:
                return
            wait([worker.sentinel for worker in running])
    finally:
        for worker in crew:
            worker.terminate()
            worker.join()


def train(plan: Plan) -> None:
    shared = make_shared(plan.workers)
    step, fork = restore(shared, plan)
    shared.shards.fill_(plan.ready())
    if step >= plan.end(fork):
        print(f"unet_{plan.mode} is at step {step} of {plan.end(fork)}: nothing left to train.")
        return
    (work_folder() / "stop").unlink(missing_ok=True)
    context = torch.multiprocessing.get_context("spawn")
    meet = context.Barrier(plan.workers)
    crew = [
        context.Process(target=work, args=(rank, shared, plan, step, fork, meet))
        for rank in range(plan.workers)
    ]
    for worker in crew:
        worker.start()
    watch(crew)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["trunk", "branch"])
    parser.add_argument("--until", type=int, default=Plan.until, help="last step of the trunk")
    parser.add_argument("--steps", type=int, default=Plan.branch_steps, help="of the branch")
    parser.add_argument("--minutes", type=float, default=Plan.minutes, help="then save and stop")
    parser.add_argument("--shards", type=int, default=Plan.shards, help="to use; 0: all drawn")
    parser.add_argument("--first", type=int, default=Plan.first, help="number of the first shard")
    parser.add_argument("--rate", type=float, default=Plan.rate, help="share of the usual rates")
    parser.add_argument("--from", dest="begin_from", default="", help="weights that gpu.py wrote")
    parser.add_argument("--batch", type=int, default=Plan.batch, help="pictures a step")
    parser.add_argument("--workers", type=int, default=Plan.workers, help="processes")
    o = parser.parse_args()
    train(
        Plan(
            o.mode, o.until, o.steps, o.minutes, o.shards, o.first, o.rate, o.begin_from,
            o.batch, o.workers,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()

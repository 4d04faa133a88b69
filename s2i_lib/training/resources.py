"""What a fine-tuning run will need, said and checked before it begins."""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from s2i_lib.distributed import from_main
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.devices import free_memory, name_device
from s2i_lib.training.best_checkpoint import keeps_best
from s2i_lib.training.config import FinetuneOptions, lora_rate
from s2i_lib.training.data import Moments, TrainingData
from s2i_lib.training.dreambooth import Losses, deterministic, train
from s2i_lib.training.duration import explain
from s2i_lib.training.run import Report, Setup
from s2i_lib.training.storage_plan import GIB, Room, Sizes, Storage, choose_storage, room_for
from s2i_lib.training.train_state import find_8bit_fault, find_lora_layers, make_train_state

if TYPE_CHECKING:
    from accelerate import Accelerator

    from s2i_lib.models.loading import Model

ROOM_GIB = 1.0  # for fragments and cuDNN's workspaces; on an H200 both took 0.2 above the estimate
PROBE_STEPS = 2  # AdamW makes its state in the first, so that the second is the peak


@dataclass(frozen=True)
class Plan:
    """What will happen; ``str`` of it is what the user reads."""

    model: str
    device: str
    options: FinetuneOptions
    trained: int
    """Parameters that are trained ..."""
    total: int
    """... of those of the U-Net and, if it is trained, the text encoder."""
    memory_gib: dict[str, float]
    """On the device, by what holds it."""
    device_free_gib: float
    is_tried: bool
    """Whether trial steps decide what fits (a GPU); else the estimate does, as nothing may try."""
    sizes: Sizes
    """Of what is saved."""
    room: Room
    storage: Storage
    """What is kept where while it trains."""
    seconds_a_step: float | None = None
    """Measured; None before any step was made."""
    size_px: int = 512
    recipe: str = ""
    """Which one the options are from, and where it has its numbers from."""
    notes: tuple[str, ...] = ()
    """Sentences that come before: what was changed so that it fits."""

    @property
    def peak_gib(self) -> float:
        return sum(self.memory_gib.values())

    @property
    def problems(self) -> list[str]:
        """Why it cannot work, each with what to change; empty if it can."""
        found = []
        if self.peak_gib > self.device_free_gib and not self.is_tried:
            found.append(
                f"Training needs about {self.peak_gib:.1f} GiB on {self.device} and "
                f"{self.device_free_gib:.1f} are free. {self.remedy}"
            )
        if not self.storage.fits_drive(self.room):
            found.append(
                f"The run takes {self.storage.drive_gib:.1f} GiB on the Drive even if nothing but "
                f"the finished weights goes there, and {self.room.drive:.1f} are free. Delete old "
                "states (`python -m s2i_lib runs --prune`) or whole runs (`--delete SUBJECT/RUN` "
                "there), empty the Drive's bin, or choose method lora, whose files are small."
            )
        if not self.storage.fits_local(self.room):
            found.append(
                f"The run takes {self.storage.local_gib:.1f} GiB on this disk while it trains, and "
                f"{self.room.local_beside(self.storage.drive_gib):.1f} are free for that. Delete "
                "what is not needed, or have the environment variable S2I_LOCAL name a folder on "
                "another disk."
            )
        return found

    @property
    def time(self) -> str:
        if known := explain(self.options, self.size_px, self.device, self.seconds_a_step):
            return known
        if self.seconds_a_step is None:
            return "said after the first steps"
        seconds = self.options.steps * self.seconds_a_step
        whole = f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{seconds:.0f} s"
        return (
            f"about {whole} for all steps, {self.seconds_a_step:.2g} s each; "
            "class images and samples come on top"
        )

    @property
    def remedy(self) -> str:
        """What needs less memory, as the command line has it."""
        rung = next_rung(self.options, "cpu")
        if rung is None:
            return "End other programs, or take a smaller model or a GPU."
        changed, sentence = rung
        before = asdict(self.options)
        words = [f"--option {k}={v}" for k, v in asdict(changed).items() if v != before[k]]
        return f"End other programs, take a GPU, or choose {sentence} ({' '.join(words)})."

    def check(self) -> None:
        """Refuse early.

        Raises
        ------
        InputError
            With everything that stands in the way, and what to change.
        """
        if self.problems:
            raise InputError(" ".join(self.problems))

    def __str__(self) -> str:
        o = self.options
        parts = ", ".join(f"{name} {gib:.1f}" for name, gib in self.memory_gib.items())
        storage, room = self.storage, self.room
        adam = "8-bit AdamW" if o.with_8bit_adam else "AdamW"
        images = f"{o.batch_size} photos" + (f" + {o.batch_size} class images" * o.with_prior)
        rows = {
            "Model": f"{self.model} on {self.device}, {o.precision}",
            "Trains": f"{self.trained / 1e6:.1f} of {self.total / 1e6:.1f} million parameters "
            f"({o.method}), {adam}, learning rate {o.learning_rate:g}"
            + ", falling to 0"
            * (o.schedule != "constant"),
            "Steps": f"{o.steps} of {images}"
            + f"; up to {o.most_steps} while likeness still rises"
            * (o.most_steps > o.steps and o.keep == "best"),
            "Memory": f"about {self.peak_gib:.1f} GiB ({parts}); {self.device_free_gib:.1f} free",
            "Drive": f"up to {storage.drive_gib:.2f} GiB (a state {self.sizes.state:.2f}, weights "
            f"{self.sizes.weights:.2f}); {room.drive:.1f} free",
            "Disk": f"up to {storage.local_gib:.2f} GiB, more where the Drive is slow; "
            f"{room.local_beside(storage.drive_gib):.1f} free",
            "Saves": str(storage),
            "Time": self.time,
        }
        rows |= {"Recipe": self.recipe} if self.recipe else {}
        return "\n".join([*self.notes, *(f"{name:8}{text}" for name, text in rows.items())])


def make_plan(setup: Setup, folder: Path) -> Plan:
    """Count the parameters and say what a run in ``folder`` needs."""
    model, options, device = setup.model, setup.options, setup.device
    trained, total = count_parameters(model.pipeline, options)
    sizes = estimate_files(trained, options, keeps_best(model.base, options))
    room = room_for(setup.drive, folder)
    return Plan(
        model=model.base.name,
        device=name_device(device),
        options=options,
        trained=trained,
        total=total,
        memory_gib=estimate_memory(trained, total, options, model.base.size_px),
        device_free_gib=free_memory(device) / GIB,
        is_tried=device.type == "cuda",
        sizes=sizes,
        room=room,
        storage=choose_storage(sizes, room, options.steps, options.save_every),
        size_px=model.base.size_px,
    )


def count_parameters(pipe: Any, options: FinetuneOptions) -> tuple[int, int]:
    """Count the parameters that are trained, and all those on the device."""
    total = sum(p.numel() for p in pipe.unet.parameters())
    if options.with_text_encoder:
        total += sum(p.numel() for p in pipe.text_encoder.parameters())
    if options.method == "full":
        return total, total
    layers = find_lora_layers(pipe.unet, options.lora_targets)
    additions = options.lora_rank * sum(m.in_features + m.out_features for m in layers)
    return additions, total + additions


# Activations of one image of 512 px in Stable Diffusion's U-Net, in bytes a parameter of the U-Net.
# Fitted to what benchmarks/memory.py counts with fake tensors; benchmarks/README.md has the table.
ACTIVATION_BYTES = {
    # (method, computed in half precision)
    ("full", False): 2.67,
    ("full", True): 1.46,
    ("lora", False): 2.67,  # not counted; frozen layers keep less
    ("lora", True): 1.3,
}
# ... and with gradient checkpointing: what is kept of all blocks, and one block at a time.
CHECKPOINTED_BYTES = {False: 0.33, True: 0.18}


def estimate_memory(
    trained: int, total: int, options: FinetuneOptions, size_px: int
) -> dict[str, float]:
    """Estimate the peak memory of a step on the device in GiB, by what holds it.

    Weights 4 bytes each (frozen ones under half precision: 2), AdamW 8 (in 8 bits: 2) of each that
    is trained. Activations, in proportion to the model, the images and their area, are at their
    most before there are gradients (4 bytes each), and have gone when these are whole: the larger
    of the two counts, except that the gradients of a step's earlier parts are there all along.
    Autocast holds a half-precision copy of trained weights until the backward pass.
    """
    is_half = options.precision != "fp32"
    frozen_bytes = 2 if is_half and options.method == "lora" else 4
    images = options.batch_size // options.accumulation * (2 if options.with_prior else 1)
    area = (size_px / 512) ** 2
    gradients = 4 * trained
    checkpointed = images * area * CHECKPOINTED_BYTES[is_half] * total
    copies = 2 * trained if is_half else 0
    each = ACTIVATION_BYTES[options.method, is_half]
    forward = copies + (
        checkpointed if options.with_checkpointing else images * area * each * total
    )
    there_already = gradients if options.accumulation > 1 else 0
    holders = {
        "weights": 4 * trained + frozen_bytes * (total - trained),
        "optimizer": (2 if options.with_8bit_adam else 8) * trained,
        "mean of weights": 4 * trained * bool(options.ema_decay) * (options.ema_device == "model"),
        "gradients": gradients,
        "activations": max(checkpointed, forward + there_already - gradients),
    }
    return {name: value / GIB for name, value in holders.items() if value}


def estimate_files(trained: int, options: FinetuneOptions, with_best: bool = False) -> Sizes:
    """Estimate what a state takes, and the weights in fp16 of the last and the best step."""
    each = 4 + (2 if options.with_8bit_adam else 8) + (4 if options.ema_decay else 0)
    size = trained / GIB
    return Sizes(state=each * size, weights=2 * size, best=2 * size * with_best)


# ---- What the machine cannot do is replaced before training, and said ----


def settle_options(
    options: FinetuneOptions, device: torch.device, report: Report
) -> FinetuneOptions:
    """Replace what this device cannot do by what it can."""
    if options.precision != "fp32" and device.type != "cuda":
        report(f"Precision {options.precision} needs a CUDA GPU, so this computes in fp32.")
        options = replace(options, precision="fp32")
    if options.precision == "bf16" and torch.cuda.get_device_capability(device) < (8, 0):
        # A T4 says that it supports bf16 and computes it in software, many times slower.
        report("bf16 needs compute capability 8 or more, so this computes in fp16.")
        options = replace(options, precision="fp16")
    if options.with_8bit_adam and (fault := find_8bit_fault(device)):
        report(f"bitsandbytes does not work here ({fault}), so AdamW keeps its state in fp32.")
        options = replace(options, with_8bit_adam=False)
    return options


Rung = tuple[FinetuneOptions, str] | None


def next_rung(options: FinetuneOptions, device: torch.device | str, n_processes: int = 1) -> Rung:
    """Return the next way to need less memory, and its announcement; None at the ladder's foot."""
    n_parts = options.batch_size // n_processes  # of one photo each
    if not options.with_checkpointing:
        return replace(options, with_checkpointing=True), (
            "gradient checkpointing: activations are computed twice, a third more time"
        )
    if options.method == "full" and not options.with_8bit_adam and not find_8bit_fault(device):
        return replace(options, with_8bit_adam=True), "8-bit AdamW"
    if options.accumulation < n_parts:
        return replace(options, accumulation=n_parts), (
            f"one photo at a time, {options.batch_size} in a step: the result stays the same"
        )
    if options.with_text_encoder:
        return replace(options, with_text_encoder=False), (
            "the text encoder is not trained: faces become less alike"
        )
    if options.method == "full":
        return as_lora(options), describe_lora(options)
    return None


def as_lora(options: FinetuneOptions) -> FinetuneOptions:
    """Return the options with LoRA in place of all weights."""
    return replace(
        options,
        method="lora",
        learning_rate=lora_rate(options.learning_rate),
        with_text_encoder=False,
        with_8bit_adam=False,
    )


def describe_lora(options: FinetuneOptions) -> str:
    rate = as_lora(options).learning_rate
    return f"LoRA of rank {options.lora_rank} with learning rate {rate:g}"


def fit_drive(setup: Setup, folder: Path, report: Report) -> FinetuneOptions:
    """Train less where the Drive has no room for it, or none for anything to go on from.

    The text encoder is left out first, then LoRA takes the place of all weights.
    """
    model, options = setup.model, setup.options
    if options.method == "lora":
        return options
    room = room_for(setup.drive, folder)

    def is_safe(wanted: FinetuneOptions) -> bool:
        trained, _ = count_parameters(model.pipeline, wanted)
        sizes = estimate_files(trained, wanted, keeps_best(model.base, wanted))
        storage = choose_storage(sizes, room, wanted.steps, wanted.save_every)
        return storage.fits(room) and storage.is_safe

    lora, unet_alone = as_lora(options), replace(options, with_text_encoder=False)
    fitting = next((way for way in (options, unet_alone, lora) if is_safe(way)), options)
    if fitting == options:
        return options
    what = "all weights of the U-Net but not the text encoder"
    if fitting == lora:
        what = f"{describe_lora(options)}, whose files are small"
    report(
        f"What was to be trained needs more room than the {room.drive:.1f} GiB that are free on "
        f"the Drive and {room.local:.1f} on this disk, if nothing is to be lost when this machine "
        f"goes. So this trains {what}. Free some space first, or ask for method full, to train all."
    )
    return fitting


def try_steps(setup: Setup) -> tuple[Setup, float]:
    """Find by real steps what fits every process's device, and the seconds that one takes."""

    def probe(trial: FinetuneOptions) -> float:
        if is_tight(setup.model, trial, free_memory(setup.device)):
            raise TightError
        return probe_steps(setup.model, trial, setup.accelerator)

    options, seconds = descend(setup.options, probe, setup.accelerator, setup.report)
    return replace(setup, options=options), seconds


class TightError(torch.OutOfMemoryError):
    """A step is not tried, since it would fit too narrowly."""


def is_tight(model: Model, options: FinetuneOptions, free: int) -> bool:
    """Return whether a step without gradient checkpointing would leave less than ``ROOM_GIB`` free.

    Such a run may pass two trial steps and end in a full GPU an hour later. With checkpointing the
    trial steps alone decide: there is little left to change.
    """
    if options.with_checkpointing:
        return False
    counts = count_parameters(model.pipeline, options)
    needed = sum(estimate_memory(*counts, options, model.base.size_px).values())
    return needed + ROOM_GIB > free / GIB


def descend(
    options: FinetuneOptions,
    probe: Callable[[FinetuneOptions], float],
    accelerator: Accelerator,
    report: Report,
) -> tuple[FinetuneOptions, float]:
    """Try real steps, one rung down whenever memory runs out; what works, seconds a step.

    Raises
    ------
    S2iError
        When even the last rung does not fit.
    """
    from accelerate.utils import gather_object

    while True:
        seconds, failure = 0.0, None
        try:
            seconds = probe(options)
        except torch.OutOfMemoryError as error:
            failure = error.with_traceback(None)  # its frames would keep what filled the memory
        # The GPU with the least memory decides, and none waits for one that has gone down alone.
        if not any(gather_object([failure is not None])):
            return options, seconds
        rung = next_rung(options, accelerator.device, accelerator.num_processes)
        rung = from_main(accelerator, rung)  # bitsandbytes may work in one process only
        if rung is None:
            raise S2iError(
                "Memory runs out even with LoRA, gradient checkpointing and one photo at a time. "
                "End other programs on this GPU (Runtime > Restart session), or choose a smaller "
                "model."
            ) from failure
        options, sentence = rung
        why = (
            f"A step would leave less than {ROOM_GIB:g} GiB of memory"
            if isinstance(failure, TightError)
            else "A trial step ran out of memory"
        )
        report(f"{why}. Before training begins: {sentence}.")


def probe_steps(model: Model, options: FinetuneOptions, accelerator: Accelerator) -> float:
    """Train a copy for two steps on noise; return the seconds that the second one took."""
    pipe, device = model.pipeline, accelerator.device
    trial = SimpleNamespace(
        unet=trial_copy(pipe.unet, device),
        text_encoder=trial_copy(pipe.text_encoder, device),
        scheduler=pipe.scheduler,
    )
    data = trial_data(pipe, options)
    stamps: list[float] = []

    def stamp(step: int, losses: Losses) -> None:
        losses.instance.item()
        stamps.append(time.monotonic())

    state = None
    try:
        state = make_train_state(trial, options, device)
        with deterministic(options.is_deterministic):
            train(state, data, replace(options, steps=PROBE_STEPS), accelerator, stamp)
    finally:
        del state, trial
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return stamps[-1] - stamps[-2]


def trial_data(pipe: Any, options: FinetuneOptions) -> TrainingData:
    """Make data that say nothing, in the shapes of the run's: for steps that tell a time."""
    size = pipe.unet.config.sample_size
    latents = torch.zeros(1, pipe.unet.config.in_channels, size, size)
    # At most as many prompts as a batch of the run may have: each is encoded in a step.
    n = min(options.batch_size, sum(row.count("|") + 1 for row in options.class_prompts))
    tokens = torch.zeros(n + 2, pipe.tokenizer.model_max_length, dtype=torch.long)
    return TrainingData(
        instances=Moments(latents, latents),
        mirrored=None,
        class_latents=latents.repeat(n, 1, 1, 1) if options.with_prior else None,
        tokens=tokens,
        embeddings=torch.zeros(*tokens.shape, pipe.unet.config.cross_attention_dim),
        class_rows=range(1, n + 1),
    )


def trial_copy(module: torch.nn.Module, device: torch.device) -> Any:
    """Make a copy to train on ``device``, which has no weights of its own until they move there.

    Stable Diffusion a second time in fp32 would leave little of the 12.7 GiB that Colab has.
    """
    shared = {}
    for weight in module.parameters():
        data = weight.detach().clone() if weight.device == device else weight.detach()
        shared[id(weight)] = torch.nn.Parameter(data, weight.requires_grad)
    return copy.deepcopy(module, shared)


class SayTime:
    """The training loop's callback; where no trial was made, the second step tells the time.

    A trial on the CPU would take a copy of the model and a hundredth of a short run. The first step
    is slower than those after it. (No closure: the frame of one keeps what it closes over even when
    it is emptied.)
    """

    def __init__(self, plan: Plan, callback: Callable[[int, Losses], None], report: Report):
        self.plan, self.callback, self.report = plan, callback, report
        self._ended: float | None = None
        self._is_said = plan.seconds_a_step is not None

    def __call__(self, step: int, losses: Losses) -> None:
        if self._ended is not None and not self._is_said:
            seconds = time.monotonic() - self._ended
            self.report(f"Time    {replace(self.plan, seconds_a_step=seconds).time}")
            self._is_said = True
        self.callback(step, losses)
        self._ended = time.monotonic()

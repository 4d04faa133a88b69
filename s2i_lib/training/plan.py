"""What a run will need and take, in words: said and checked before it begins."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from s2i_lib.errors import InputError
from s2i_lib.models.devices import free_memory, name_device
from s2i_lib.training.best_checkpoint import keeps_best
from s2i_lib.training.config import FinetuneOptions
from s2i_lib.training.dreambooth import Losses
from s2i_lib.training.duration import explain
from s2i_lib.training.resources import (
    count_parameters,
    estimate_files,
    estimate_memory,
    next_rung,
)
from s2i_lib.training.run import Report, Setup
from s2i_lib.training.storage_plan import GIB, Room, Sizes, Storage, choose_storage, room_for


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
    from_step: int = 0
    """That of the newest save, or of the weights that it has ended with once; 0: it begins."""
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
        known = explain(
            self.options, self.size_px, self.device, self.seconds_a_step, self.from_step
        )
        if known:
            return known
        if self.seconds_a_step is None:
            return "said after the first steps"
        seconds = max(0, self.options.steps - self.from_step) * self.seconds_a_step
        whole = f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{seconds:.0f} s"
        return (
            f"about {whole} for {'the steps left' if self.from_step else 'all steps'}, "
            f"{self.seconds_a_step:.2g} s each; class images and samples come on top"
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


class SayTime:
    """The training loop's callback; where no trial was made, the second step tells the time.

    A trial on the CPU would take a copy of the model and a hundredth of a short run. The first step
    is slower than those after it. (No closure: the frame of one keeps what it closes over even when
    it is emptied.)
    """

    def __init__(
        self,
        plan: Plan,
        callback: Callable[[int, Losses], None],
        report: Report,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.plan, self.callback, self.report, self.clock = plan, callback, report, clock
        self._ended: float | None = None
        self._is_said = plan.seconds_a_step is not None

    def __call__(self, step: int, losses: Losses) -> None:
        if self._ended is not None and not self._is_said:
            seconds = self.clock() - self._ended
            self.report(f"Time    {replace(self.plan, seconds_a_step=seconds).time}")
            self._is_said = True
        self.callback(step, losses)
        self._ended = self.clock()

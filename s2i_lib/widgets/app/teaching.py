"""Teaches subjects on a thread of its own, and says how far it is in words for everybody."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.registry import REGISTRY
from s2i_lib.photos.manifest import load_dataset
from s2i_lib.photos.own_png import open_png
from s2i_lib.photos.reading import encode_image
from s2i_lib.pipeline import Cancelled
from s2i_lib.storage.disk import say_fault, upload_left_s
from s2i_lib.storage.files import data_uri, write_json
from s2i_lib.storage.json_file import read_json
from s2i_lib.storage.layout import Drive, folder_name
from s2i_lib.storage.run_card import (
    WEIGHTS,
    best_run,
    finished_runs,
    fits,
    outdated_runs,
    read_card,
)
from s2i_lib.widgets.app.part import Message, drop_what_is_displayed
from s2i_lib.widgets.studio.worker import Worker

if TYPE_CHECKING:
    from PIL.Image import Image

    from s2i_lib.photos.manifest import Dataset
    from s2i_lib.training.finetune import FinetuneRun
    from s2i_lib.training.plan import Plan

log = logging.getLogger(__name__)

NOTE = "teaching.json"  # beside the subject's card: whether its training goes on by itself
NOTE_SHAPE = {"goes_on": bool, "run": str, "steps": int}
COLUMNS = 4  # of a grid of samples; its first row is shown
SAMPLE_PX = 256  # at most, of a sample on the page
LOG_LINES = 20


@dataclass(frozen=True)
class Progress:
    """How far a subject is with being taught, as the page shows it."""

    state: str = "none"
    """none, planning, ready, training, stopping, stopped, done or failed."""
    messages: tuple[Message, ...] = ()
    share: float | None = None
    """How much of the way is done, 0 to 1; None where nobody knows."""
    likeness: tuple[float, ...] = ()
    """Before the first step, and of the best so far."""
    before: tuple[str, ...] = ()
    """Samples as addresses, before the first step ..."""
    now: tuple[str, ...] = ()
    """... and the newest."""
    complaint: str = ""
    log: tuple[str, ...] = ()
    """Sentences of the library, for those who look behind "More"."""
    chosen: dict[str, str] = field(default_factory=dict)
    """What was chosen for the user: words of the library, and what they are here."""
    is_taught: bool = False
    """Whether a run of it is there to draw with, of these photos or of earlier ones."""
    is_outdated: bool = False
    """Whether there are runs of it, and all of them are of an earlier version's model."""

    @property
    def is_busy(self) -> bool:
        return self.state in ("training", "stopping")

    @property
    def waits(self) -> bool:
        """Whether it can only be taught after another one."""
        return any(key == "app_busy" for key, _ in self.messages)


class Teaching:
    """Plans and trains one subject at a time; each ends, or goes on in the next session.

    Parameters
    ----------
    changed : callable
        ``changed(name)`` is called whenever a subject's `Progress` is another, on any thread.
    **options
        Arguments of `FinetuneRun` that differ from the defaults.
    """

    def __init__(self, drive: Drive, changed: Callable[[str], None], **options: Any) -> None:
        self.drive, self.options = drive, options
        self._changed = changed
        self._progress: dict[str, Progress] = {}
        self._worker = Worker(lambda error: log.error("Teaching has failed", exc_info=error))
        self._first: tuple[int, float] | None = None
        self.busy = ""
        """Name of the subject that is being taught just now."""

    def of(self, name: str) -> Progress:
        """Return how far a subject is."""
        return self._progress.get(name, Progress())

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is planned or trained; never in a cell that the page needs."""
        return self._worker.wait(timeout_s)

    # ---- What is pressed ----

    def look(self, name: str) -> None:
        """Say what there is of a subject with a dataset: a run that knows its photos, or a plan."""
        if self.of(name).is_busy:
            return
        try:
            dataset = load_dataset(self.drive, name)
            own = self._runs_of(name)
            has_old = bool(outdated_runs(self.drive, folder_name(name)))
            self._set(name, is_taught=bool(own), is_outdated=has_old and not own)
            if run := _best_that_knows(dataset, own):
                self._show_done(name, run)
                return
        except (S2iError, OSError) as error:
            self._set(name, state="failed", messages=(), complaint=say_fault(error))
            return
        if self.busy:
            self._set(name, state="ready", messages=(("app_busy", {"name": self.busy}),))
        else:
            self._set(name, state="planning", messages=(("app_planning", {}),), complaint="")
            self._worker.submit(lambda: self._plan(dataset))

    def start(self, name: str, run: str = "", steps: int = 0) -> None:
        """Teach a subject, or go on where an earlier session stopped.

        Parameters
        ----------
        run, steps
            Name of a run to train further, and to how many steps; without, the newest that is not
            finished goes on, or one begins.

        Raises
        ------
        InputError
            When another subject is being taught.
        """
        if self.busy == name:
            return  # pressed twice
        if self.busy:
            raise InputError(
                f"{self.busy} is being taught just now. Wait until that is done, or stop it there."
            )
        self._write_note(name, goes_on=True, run=run, steps=steps)
        self.busy = name
        self._first = None
        self._set(
            name, state="training", messages=(("app_preparing", {}),), share=None, complaint=""
        )
        self._worker.submit(lambda: self._train(name, run, steps))

    def train_on(self, name: str) -> None:
        """Teach a subject that has been learned for as long again."""
        from s2i_lib.training.run import steps_to_train_on

        run = _best_that_knows(load_dataset(self.drive, name), self._runs_of(name))
        if run is None:
            raise InputError(f"{name} has not been learned yet, so nothing can go on. Press Start.")
        self.start(name, run.name, steps_to_train_on(read_card(run)))

    def stop(self, name: str, *, for_good: bool = True) -> None:
        """Stop at the next step; what was saved before stays, to go on from.

        Without ``for_good`` it goes on by itself in the next session.
        """
        if self.busy != name:
            return
        if for_good:
            self._note_end(name)
        self._set(name, state="stopping", messages=(("app_stopping", {}),))
        self._worker.cancel()

    def go_on(self, name: str) -> bool:
        """Go on with what a session that ended in the middle was at; whether there is such."""
        note = self._note(name)
        if self.busy or not note.get("goes_on"):
            return False
        run = note.get("run", "")
        if run and not fits(read_card(self.drive.runs / folder_name(name) / run)):
            self._note_end(name)  # it is of a model that is no longer there
            return False
        try:
            self.start(name, run, note.get("steps", 0))
        except (S2iError, OSError) as error:
            self._set(name, state="failed", messages=(), complaint=say_fault(error))
        return True

    def forget(self, name: str) -> None:
        """Stop a subject's training and wait until its thread holds nothing of it."""
        if self.busy == name:
            self.stop(name, for_good=False)
            self._worker.wait()
        self._progress.pop(name, None)

    # ---- What the thread does ----

    def _plan(self, dataset: Dataset) -> None:
        name = dataset.subject.name
        drop_what_is_displayed()
        try:
            plan = self._training(dataset).plan()
            plan.check()
        except (S2iError, OSError) as error:
            self._set(name, state="failed", messages=(), complaint=say_fault(error))
            return
        if self.of(name).state == "planning":  # Start may have been pressed meanwhile
            before: list[Message] = []
            if plan.from_step:
                before.append(("app_was_stopped", {}))
            elif self.of(name).is_outdated:
                before.append(("app_outdated", {"name": name}))
            self._set(
                name,
                state="ready",
                messages=(*before, *describe(plan, dataset)),
                chosen=choices_of(plan, dataset),
            )

    def _train(self, name: str, run: str, steps: int) -> None:
        drop_what_is_displayed()
        try:
            dataset = load_dataset(self.drive, name)
            more = {"name": run or None, **({"steps": steps} if steps else {})}
            folder = self._training(dataset, **more).train()
            self._note_end(name)
            self._show_done(name, folder)
        except Cancelled:
            self._end(name, state="stopped", messages=(("app_stopped", {}),))
        except (S2iError, OSError) as error:
            if isinstance(error, InputError):  # it would fail again
                self._note_end(name)
            self._end(name, state="failed", messages=(), complaint=say_fault(error))
        except Exception as error:
            log.exception("Training has failed")
            self._end(name, state="failed", complaint=f"{type(error).__name__}: {error}")
        finally:
            self.busy = ""
        waiting = [one for one, how in self._progress.items() if how.waits]
        for one in waiting:
            self.look(one)

    def _end(self, name: str, **changes: Any) -> None:
        self.busy = ""
        self._set(name, share=None, **changes)

    def _training(self, dataset: Dataset, **more: Any) -> FinetuneRun:
        from s2i_lib.training.finetune import FinetuneRun

        name = dataset.subject.name

        def happened(event: str, info: dict[str, Any]) -> None:
            self._worker.check()
            self._happened(name, event, info)

        def said(sentence: str) -> None:
            self._set(name, log=(*self.of(name).log, sentence)[-LOG_LINES:])

        options = {**self.options, **more}
        return FinetuneRun(self.drive, dataset, callback=happened, report=said, **options)

    def _happened(self, name: str, event: str, info: dict[str, Any]) -> None:
        if self.of(name).state == "stopping":
            return
        if event == "class_images":
            values = {"done": str(info["done"]), "total": str(info["total"])}
            self._set(name, messages=(("app_practising", values),))
        elif event == "step":
            self._set(name, **self._how_far(info["lines"][-1]["step"], info["steps"]))
        elif event == "samples":
            shown = tuple(first_row(info["path"]))
            self._set(name, **({"now": shown} if info["step"] else {"before": shown}))
        elif event == "scores":
            likeness = [p["likeness"] for p in info["curve"] if p["likeness"] is not None]
            self._set(name, likeness=span_of(likeness))

    def _how_far(self, step: int, steps: int) -> dict[str, Any]:
        now = time.monotonic()
        self._first = self._first or (step, now)
        done, share = step - self._first[0], step / steps
        values = {"percent": str(round(100 * share))}
        if not done:
            return {"share": share, "messages": (("app_learning", values),)}
        left_s = (now - self._first[1]) / done * (steps - step)
        key = "app_learning_last" if left_s < 60 else "app_learning_left"
        minutes = str(round(left_s / 60))
        return {"share": share, "messages": ((key, values | {"minutes": minutes}),)}

    # ---- What is kept ----

    def _runs_of(self, name: str) -> list[Path]:
        """The finished runs of a subject, whatever photos they were taught."""
        return [run for run in finished_runs(self.drive) if run.parent.name == folder_name(name)]

    def _show_done(self, name: str, run: Path) -> None:
        from s2i_lib.training.checkpoint_manager import SCORES
        from s2i_lib.training.run import read_lines

        samples = sorted((run / "samples").glob("step-*.png"))
        lines = read_lines([run], SCORES)
        card = read_card(run)
        self._set(
            name,
            state="done",
            messages=(("app_learned", {"name": name}), *say_upload(run)),
            share=1.0,
            complaint="",
            is_taught=True,
            is_outdated=False,
            before=tuple(first_row(samples[0])) if samples else (),
            now=tuple(first_row(samples[-1])) if samples else (),
            likeness=span_of([p["likeness"] for p in lines if p.get("likeness") is not None]),
            chosen={
                "model": str(card.get("base", {}).get("name", "")),
                "run": f"{run.parent.name}/{run.name}",
                **{key: str(card.get("options", {}).get(key, "")) for key in SHOWN_OPTIONS},
            },
        )

    def _note(self, name: str) -> dict[str, Any]:
        return read_json(self.drive.subject(name) / NOTE, NOTE_SHAPE)

    def _write_note(self, name: str, **note: Any) -> None:
        write_json(self.drive.subject(name) / NOTE, note)

    def _note_end(self, name: str) -> None:
        """Have nothing go on by itself; a Drive that is away keeps nobody from stopping."""
        try:
            self._write_note(name, **{**self._note(name), "goes_on": False})
        except (S2iError, OSError) as error:
            log.warning("%s", error)

    def _set(self, name: str, **changes: Any) -> None:
        self._progress[name] = replace(self.of(name), **changes)
        self._changed(name)


SHOWN_OPTIONS = ("method", "steps", "learning_rate", "seed")


def describe(plan: Plan, dataset: Dataset) -> list[Message]:
    """Say a plan in a sentence for everybody, and what draws where that is the small model."""
    from s2i_lib.training.views import count_learned

    n, n_learned = len(dataset.images), count_learned(dataset, plan.options)
    photos, minutes = str(n) if n_learned == n else f"{n_learned}/{n}", minutes_of(plan)
    key = "app_plan_one" if minutes == "1" else "app_plan"
    said: list[Message] = [(key, {"photos": photos, "minutes": minutes})]
    base = REGISTRY.get(plan.model)
    if base and not base.gpu_gib:
        said.append(("app_small", {"size": str(plan.size_px)}))
    return said


def minutes_of(plan: Plan) -> str:
    """Return how many minutes a plan takes, as "2" or "17 to 29"; without a measured step, "?"."""
    from s2i_lib.training import duration

    speed = duration.SPEEDS.get(plan.device)
    if speed is None:
        if plan.seconds_a_step is None:
            return "?"
        # A step is photo and class image, each forward and, at twice the price, backward.
        evaluation, step = (plan.seconds_a_step / 6,) * 2, (plan.seconds_a_step,) * 2
        speed = duration.Speed(evaluation, step, step, step, (0.0, 0.0), evaluation)
        parts = duration.seconds_of_run(
            plan.options, 512, speed, plan.seconds_a_step, plan.from_step
        )
        parts.pop("saves", None)
    else:
        parts = duration.seconds_of_run(
            plan.options, plan.size_px, speed, plan.seconds_a_step, plan.from_step
        )
    return duration.in_minutes(duration.total(*parts.values())).partition(" minute")[0]


def say_upload(run: Path) -> list[Message]:
    """Say how long a run's weights are still on their way from this machine to Google."""
    minutes = math.ceil(upload_left_s(run / WEIGHTS) / 60)
    return [("app_uploading", {"minutes": str(minutes)})] if minutes else []


def choices_of(plan: Plan, dataset: Dataset) -> dict[str, str]:
    """Return what was chosen for the user, for those who look behind "More"."""
    options = asdict(plan.options)
    return {
        "model": f"{plan.model} ({plan.device})",
        "photos": str(len(dataset.images)),
        "recipe": plan.recipe.partition(":")[0],
        **{key: str(options[key]) for key in SHOWN_OPTIONS},
    }


def _best_that_knows(dataset: Dataset, runs: Sequence[Path]) -> Path | None:
    """The best of a subject's runs that was taught these photos."""
    of = {run: read_card(run).get("dataset", {}).get("sha256") for run in runs}
    known = [run for run in runs if of[run] == dataset.sha256]
    return best_run(known, folder_name(dataset.subject.name))


def span_of(likeness: Sequence[float]) -> tuple[float, ...]:
    """Return the likeness before the first step, and the best of all."""
    return (round(likeness[0], 3), round(max(likeness), 3)) if likeness else ()


def first_row(path: Path) -> list[str]:
    """Return the first row of a grid of samples, each picture as an address."""
    grid = open_png(path).convert("RGB")
    side = grid.width // COLUMNS
    return [_as_uri(grid.crop((i * side, 0, (i + 1) * side, side))) for i in range(COLUMNS)]


def _as_uri(image: Image) -> str:
    image.thumbnail((SAMPLE_PX, SAMPLE_PX))
    return data_uri("image/jpeg", encode_image(image, "JPEG", quality=85))

"""One fine-tuning run: its folders, its card, and which one goes on."""

from __future__ import annotations

import itertools
import logging
import math
import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib import __version__
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.digests import fingerprint
from s2i_lib.models.loading import Model
from s2i_lib.photos.manifest import Dataset
from s2i_lib.photos.subject import Subject
from s2i_lib.storage.disk import list_folder, list_matching, name_fault, size_of
from s2i_lib.storage.json_file import parse_object, read_limited
from s2i_lib.storage.layout import Drive, folder_name, local_folder
from s2i_lib.storage.lease import LEASE, Lease
from s2i_lib.storage.removal import remove
from s2i_lib.storage.run_card import (
    EDITIONS,
    RUN_CARD,
    WEIGHTS,
    check_edition,
    fits,
    name_base,
    name_run,
    read_card,
)
from s2i_lib.training.class_images import ClassImages
from s2i_lib.training.config import FinetuneOptions, as_json
from s2i_lib.training.recipes import Wanted
from s2i_lib.training.saves import age, drop_saves, has_weights, list_saves, remove_save

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

log = logging.getLogger(__name__)

Report = Callable[[str], None]
"""Gets sentences for the user."""
Callback = Callable[[str, dict[str, Any]], None]
"""Gets events as they happen, a name and what belongs to it: for a live panel, for a test."""


def ignore(event: str, info: dict[str, Any]) -> None:
    """Do nothing: the callback of those who want to know of no event."""


@dataclass(frozen=True)
class Setup:
    """What a run is made from, where it computes, and who is told."""

    drive: Drive
    dataset: Dataset
    model: Model
    options: FinetuneOptions
    accelerator: Accelerator
    callback: Callback = ignore
    report: Report = log.info

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that saves and speaks for all."""
        return self.accelerator.is_main_process


@dataclass(frozen=True)
class Run:
    """A fine-tuning run on the Drive, and where on the local disk it is worked on."""

    folder: Path
    local: Path

    @property
    def name(self) -> str:
        return name_run(self.folder)

    def card(self) -> dict[str, Any]:
        return read_card(self.folder)

    @property
    def is_over(self) -> bool:
        """Whether it says that it is finished and has all its weights.

        Where a machine went before Google had them, the small card may be there without them.
        """
        return self.card().get("status") == "finished" and has_weights(self.folder / WEIGHTS)

    @property
    def is_ahead_here(self) -> bool:
        """Whether this disk has what the Drive, where the run is over, has not.

        Not where class images or grounds were looked at, nor what was saved here before another
        machine ended the run.
        """
        card = read_card(self.local)
        if not card or card.get("status") == "finished":
            return bool(card)
        return any(age(save)[0] > self.card().get("step", 0) for save in list_saves(self.local))


def choose_run(setup: Setup, name: str | None) -> Run:
    """Choose the run to work on: the named one, else the newest that can go on, else a new one.

    Raises
    ------
    InputError
        When the named one is of another edition of its base model.
    """
    subject = setup.dataset.subject.name
    parent = setup.drive.runs / setup.drive.subject(subject).name

    def run_at(folder: Path) -> Run:
        return Run(folder, local_folder(setup.drive, folder))

    if name is not None:
        named = run_at(parent / folder_name(name))
        check_edition(named.folder, named.card() or read_card(named.local))
        return named
    stem = folder_name(setup.model.base.name)
    try:
        there = list_folder(parent)
    except OSError as error:  # no new run: the one that is there must not be started over
        raise S2iError(
            f"The runs of {subject} cannot be listed: {name_fault(error)}. "
            "Nothing was changed. When the Drive is back, start the same again."
        ) from error
    taken = sorted((n, path) for path in there if (n := _number_of(path, stem)) is not None)
    for _, folder in reversed(taken):
        run = run_at(folder)
        card = run.card() or read_card(run.local)  # a Drive that failed may have a cut one, or none
        if is_finished(run, setup) or _is_empty(folder):
            return run
        if not card:
            _refuse_unread(run)
        if run.is_over or not card:
            continue
        has_photos = bool(card.get("dataset", {}).get("sha256"))
        if not has_photos or learned_by(card)["dataset"] != setup.dataset.sha256:
            why = "its photos have changed"
        elif not _teaches(card, setup):
            why = f"it learns {learned_by(card)['instance_prompt']!r}"
        elif not _is_of_base(card, setup.model):
            why = "of other base weights"
        else:
            return run
        setup.report(f"{run.name} is unfinished, but {why}: a new run begins.")
    newest, _ = taken[-1] if taken else (0, None)
    new = (run_at(parent / f"{stem}-{number:02}") for number in itertools.count(newest + 1))
    # What this disk has of a run that somebody deleted from the Drive is not of the next one.
    return next(run for run in new if not read_card(run.local))


def _number_of(run: Path, stem: str) -> int | None:
    """The number in a run's name, pocket-07 or pocket-7; None where it is called otherwise."""
    before, _, number = run.name.rpartition("-")
    return int(number) if before == stem and number.isdecimal() else None


def _refuse_unread(run: Run) -> None:
    """Raise if there is a card that the Drive does not read: its run must not be started over."""
    try:
        read_limited(run.folder / RUN_CARD)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return
    except OSError as error:
        raise S2iError(
            f"What {run.name} is cannot be read: {name_fault(error)}. Nothing was changed. Start "
            "the same again when it can be read, or give another --name."
        ) from error


def _is_empty(folder: Path) -> bool:
    """Whether a session was killed here before it wrote anything but its lease."""
    return folder.is_dir() and all(
        path.name == LEASE or path.name.startswith(".") for path in folder.iterdir()
    )


def is_finished(run: Run, setup: Setup) -> bool:
    """Return whether the run ended with the same options on the same photos and base weights."""
    card = run.card()
    return (
        run.is_over
        and wants(card, setup.options)
        and card.get("dataset", {}).get("sha256") == setup.dataset.sha256
        and _teaches(card, setup)
        and _is_of_base(card, setup.model)
    )


def instance_prompt(subject: Subject) -> str:
    """Return what photos of a subject are shown with, as the paper has it: "a ohwx dog"."""
    return f"a {subject.phrase}"


def _teaches(card: dict[str, Any], setup: Setup) -> bool:
    """Whether a run learns the subject under the words that it has now."""
    wanted = instance_prompt(setup.dataset.subject)
    return (learned_by(card)["instance_prompt"] or wanted) == wanted


def learned_by(card: dict[str, Any]) -> dict[str, Any]:
    """Return what a run learns from: the photos, the words for them, what it is scored by.

    While it is trained on that is told apart, as run.json goes on to describe the weights it has.
    """
    return card.get("learns") or {
        "dataset": card["dataset"]["sha256"],
        "instance_prompt": card.get("instance_prompt"),
        "sample_prompts": [*card.get("options", {}).get("sample_prompts", ())],
    }


def steps_to_train_on(card: dict[str, Any]) -> int:
    """Return the steps to train a run on to: twice those it has, or those it was to have."""
    return 2 * card["step"] if card["status"] == "finished" else card["options"]["steps"]


def _is_of_base(card: dict[str, Any], model: Model) -> bool:
    """Whether a run was made from these base weights."""
    return fits(card) and card.get("base", {}).get("fingerprint") == fingerprint(model.pipeline)


def run_card(setup: Setup, wanted: Wanted) -> dict[str, Any]:
    """Write down what run.json says: all that is needed to know a run, and to make it again."""
    dataset, model, options = setup.dataset, setup.model, setup.options
    subject = dataset.subject
    images = ClassImages.for_run(model, subject, options)
    return {
        "status": "training",
        "step": 0,
        "subject": subject.to_record(),
        "instance_prompt": instance_prompt(subject),
        "class_prompt": images.card["prompt"],
        "class_images": images.name if options.with_prior else None,
        "dataset": {"sha256": dataset.sha256, "images": len(dataset.images)},
        "base": {
            "name": model.base.name,
            "edition": EDITIONS.get(model.base.name, 1),
            "source": model.source,
            "fingerprint": fingerprint(model.pipeline),
            "licence": model.base.licence,
        },
        "options": asdict(options),
        "wanted": asdict(wanted.options),  # before the machine's limits changed some of them
        "recipe": wanted.to_json(),  # what it keeps when recipes change
        "scores": {},
        "versions": versions(),
    }


def versions() -> dict[str, str | None]:
    """List the versions that a run's numbers depend on; None for what is not installed."""
    found: dict[str, str | None] = {"s2i_lib": __version__, "python": platform.python_version()}
    for name in ("torch", "diffusers", "transformers", "peft", "accelerate", "bitsandbytes"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def read_lines(folders: Sequence[Path], name: str, up_to: float = math.inf) -> list[dict[str, Any]]:
    """Read the lines of a run's metrics or scores, from the folder whose copy came farthest.

    That need not be this disk's: another machine may have trained on since. A copy counts up to its
    first damaged line, as a full disk leaves one; lines of a step after ``up_to`` are left out.
    """
    found: list[list[dict[str, Any]]] = [[]]
    for folder in folders:
        found.append([])
        with suppress(OSError, ValueError, KeyError, TypeError):
            for text in read_limited(folder / name).splitlines():
                line = parse_object(text)
                if line["step"] <= up_to:
                    found[-1].append(line)
    return max(found, key=lambda lines: lines[-1]["step"] if lines else -1)


def wants(card: dict[str, Any], options: FinetuneOptions) -> bool:
    """Check whether a run was begun with these options; older cards lack later ones.

    How often it is saved changes nothing of what it learns, nor how grounds would be asked for
    where there are none.
    """
    wanted = card.get("wanted")
    own: dict[str, Any] = {"save_every": options.save_every}
    if not options.background_prompts:
        own["ground_prompt"] = options.ground_prompt
    return wanted is not None and as_json(FinetuneOptions()) | wanted | own == as_json(options)


@dataclass(frozen=True)
class RunSummary:
    """One run, as far as its folder tells."""

    folder: Path
    status: str
    """finished, training (begun and not ended) or unreadable."""
    step: int
    size_bytes: int
    scores: dict[str, Any]
    states: tuple[Path, ...]
    outdated: str = ""
    """What it was made from, if this version has another edition of that and cannot use the run."""

    @property
    def name(self) -> str:
        return name_run(self.folder)

    @property
    def state_bytes(self) -> int:
        return sum(size_of(state) for state in self.states)


def list_runs(drive: Drive) -> list[RunSummary]:
    """List all runs on the Drive, by name; whatever else lies there is passed over."""
    summaries = []
    for folder in list_matching(drive.runs, "[!.]*/[!.]*"):
        if not folder.is_dir():
            continue
        card, own = read_card(folder), tuple(list_saves(folder))
        if not (card or own or (folder / WEIGHTS).is_dir()):
            continue
        said, scores = card.get("step"), card.get("scores")
        step = max([said if isinstance(said, int) else 0, *(age(state)[0] for state in own)])
        summaries.append(
            RunSummary(
                folder,
                str(card.get("status", "unreadable")),
                step,
                size_of(folder),
                {
                    name: value
                    for name, value in (scores.items() if isinstance(scores, dict) else ())
                    if isinstance(value, int | float)
                },
                own,
                "" if fits(card) else name_base(card),
            )
        )
    return summaries


def prunable(runs: list[RunSummary], with_unfinished: bool = False) -> list[tuple[Path, str]]:
    """List what could be deleted, each with what that means; the user decides.

    States only serve to train on; weights and pictures are never offered. An unfinished run has
    nothing but its states: they are offered where the user is asked about each.
    """
    meaning = {"finished": "is finished; without {} more steps go on from its weights alone"}
    if with_unfinished:
        meaning["training"] = "is unfinished; without {} it cannot go on from there"
    outdated = "is of {}, so it cannot go on here with or without {}"

    def say(run: RunSummary, state: str) -> str:
        if run.outdated:
            return outdated.format(run.outdated, state)
        return meaning[run.status].format(state)

    return [
        (state, f"{run.name} {say(run, state.name)}")
        for run in runs
        if run.status in meaning
        for state in run.states
    ]


def select_runs(runs: list[RunSummary], names: Sequence[str]) -> list[RunSummary]:
    """Find the runs called SUBJECT/RUN.

    Raises
    ------
    InputError
        When there is none of that name.
    """
    by_name = {run.name: run for run in runs}
    for name in names:
        if name not in by_name:
            raise InputError(
                f"There is no run {name!r} (there are: {', '.join(by_name) or 'none'}). "
                "Give SUBJECT/RUN as listed."
            )
    return [by_name[name] for name in dict.fromkeys(names)]


def delete_runs(drive: Drive, runs: Sequence[RunSummary]) -> int:
    """Delete whole runs, on the Drive and on this computer's own disk; return the bytes freed.

    Raises
    ------
    S2iError
        When one is being trained; nothing has been deleted then.
    """
    for run in runs:
        Lease(run.folder, log.info).refuse_if_held()
    for run in runs:
        for folder in (local_folder(drive, run.folder), run.folder):
            remove(folder)
    return sum(run.size_bytes for run in runs)


def prune(drive: Drive, paths: list[Path], report: Callable[[str], None] = log.info) -> int:
    """Delete states, and what is left of any whose deletion was killed; return the bytes freed.

    Raises
    ------
    S2iError
        When one is of a run that is being trained; nothing has been deleted then.
    """
    for folder in {path.parent for path in paths}:
        Lease(folder, report).refuse_if_held()
    halves = [part for places in ("*", "*/*") for part in drive.runs.glob(f"{places}/.*.part")
              if not Lease(part.parent, report).living_holder()]  # fmt: skip
    freed = sum(map(size_of, [*halves, *paths]))
    for part in halves:
        remove(part)
    for path in paths:
        remove_save(path)
    return freed


def drop_finished(drive: Drive, *, is_uploaded: bool = False) -> int:
    """Delete what finished runs saved to go on from, where that was to go at their end.

    At that end it may have had to wait: for the upload of the weights. States of runs from before
    this was so are the user's to delete (``prunable``); so is one that was small enough to stay.

    Returns
    -------
    int
        The bytes that this freed.
    """
    freed = 0
    try:
        for card_path in list_matching(drive.runs, f"*/*/{RUN_CARD}"):
            run = card_path.parent
            card = read_card(run)
            is_over = card.get("status") == "finished" and "keeps_state" in card
            if is_over and has_weights(run / WEIGHTS) and not (run / LEASE).exists():
                freed += drop_saves(run, max(0, int(card["keeps_state"])), is_uploaded=is_uploaded)
    except OSError as error:  # it is only room: no reason to train nothing
        log.warning("States of finished runs could not be deleted: %s.", name_fault(error))
    return freed

"""One fine-tuning run: its folders, its card, and which one goes on."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from s2i_lib import __version__, prior
from s2i_lib.checkpoint import has_weights
from s2i_lib.drive import LEASE, Drive, folder_name, list_folder, local_folder, name_fault
from s2i_lib.errors import S2iError
from s2i_lib.models import WEIGHTS, Model, fingerprint, read_card
from s2i_lib.options import FinetuneOptions, as_json
from s2i_lib.recipes import Wanted
from s2i_lib.subject import Subject


class Dataset(Protocol):
    """What a run needs of a subject's dataset (``dataset.load_dataset``)."""

    @property
    def images(self) -> Sequence[Path]: ...
    @property
    def subject(self) -> Subject: ...
    @property
    def sha256(self) -> str: ...
    @property
    def mirror(self) -> bool: ...


@dataclass(frozen=True)
class Run:
    """A fine-tuning run on the Drive, and where on the local disk it is worked on."""

    folder: Path
    local: Path

    @property
    def name(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"

    def card(self) -> dict[str, Any]:
        return read_card(self.folder)

    @property
    def is_over(self) -> bool:
        """Whether it says that it is finished and has all its weights.

        Where a machine went before Google had them, the small card may be there without them.
        """
        return self.card().get("status") == "finished" and has_weights(self.folder / WEIGHTS)


def choose_run(
    drive: Drive,
    dataset: Dataset,
    model: Model,
    options: FinetuneOptions,
    name: str | None,
    report: Callable[[str], None],
) -> Run:
    """The run to work on: the named one, else the newest that can go on, else a new one."""
    parent = drive.runs / folder_name(dataset.subject.name)

    def run_at(folder: Path) -> Run:
        return Run(folder, local_folder(drive, folder))

    if name is not None:
        return run_at(parent / folder_name(name))
    stem = folder_name(model.base.name)
    try:
        there = list_folder(parent)
    except OSError as error:  # no new run: the one that is there must not be started over
        raise S2iError(
            f"The runs of {dataset.subject.name} cannot be listed: {name_fault(error)}. "
            "Nothing was changed. When the Drive is back, start the same again."
        ) from error
    taken = sorted(
        path
        for path in there
        if path.name.startswith(f"{stem}-") and path.name[len(stem) + 1 :].isdigit()
    )
    for folder in reversed(taken):
        run = run_at(folder)
        card = run.card()
        if is_finished(run, dataset, model, options) or _is_empty(folder):
            return run
        if run.is_over or not card:
            continue
        if card["dataset"]["sha256"] != dataset.sha256:
            report(f"{run.name} is unfinished, but its photos have changed: a new run begins.")
        elif card["base"]["fingerprint"] != fingerprint(model.pipeline):
            report(f"{run.name} is unfinished, but of other base weights: a new run begins.")
        else:
            return run
    number = int(taken[-1].name[len(stem) + 1 :]) + 1 if taken else 1
    return run_at(parent / f"{stem}-{number:02}")


def _is_empty(folder: Path) -> bool:
    """Whether a session was killed here before it wrote anything but its lease."""
    return all(path.name == LEASE or path.name.startswith(".") for path in folder.iterdir())


def is_finished(run: Run, dataset: Dataset, model: Model, options: FinetuneOptions) -> bool:
    """Whether the run ended with the same options on the same photos and base weights."""
    card = run.card()
    return (
        run.is_over
        and wants(card, options)
        and card["dataset"]["sha256"] == dataset.sha256
        and card["base"]["fingerprint"] == fingerprint(model.pipeline)
    )


def run_card(
    dataset: Dataset, model: Model, options: FinetuneOptions, wanted: Wanted
) -> dict[str, Any]:
    """run.json: all that is needed to know what a run is, and to make it again."""
    subject = dataset.subject
    class_card = prior.card_for_run(model, subject, options)
    return {
        "status": "training",
        "step": 0,
        "subject": asdict(subject),
        "instance_prompt": f"a {subject.phrase}",
        "class_prompt": class_card["prompt"],
        "class_images": prior.class_folder(class_card) if options.with_prior else None,
        "dataset": {"sha256": dataset.sha256, "images": len(dataset.images)},
        "base": {
            "name": model.base.name,
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
    """Of what a run's numbers depend on; None for what is not installed."""
    found: dict[str, str | None] = {"s2i_lib": __version__, "python": platform.python_version()}
    for name in ("torch", "diffusers", "transformers", "peft", "accelerate", "bitsandbytes"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def read_lines(folders: Sequence[Path], name: str, up_to: float = math.inf) -> list[dict[str, Any]]:
    """The lines of a run's metrics or scores, from the folder whose copy came farthest.

    That need not be this disk's: another machine may have trained on since. A copy that is missing
    or damaged counts for nothing; lines of a step after ``up_to`` are left out.
    """
    found: list[list[dict[str, Any]]] = [[]]
    for folder in folders:
        try:
            lines = [json.loads(line) for line in (folder / name).read_text().splitlines()]
            found.append([line for line in lines if line["step"] <= up_to])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return max(found, key=lambda lines: lines[-1]["step"] if lines else -1)


def wants(card: dict[str, Any], options: FinetuneOptions) -> bool:
    """Whether a run was begun with these options; older cards lack the options that came later.

    How often it is saved changes nothing of what it learns.
    """
    wanted = card.get("wanted")
    own = {"save_every": options.save_every}
    return wanted is not None and as_json(FinetuneOptions()) | wanted | own == as_json(options)

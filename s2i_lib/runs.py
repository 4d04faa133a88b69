"""What fine-tuning has left on the Drive: list it, and delete what the user agrees to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2i_lib.checkpoint import age, drop_saves, has_weights, remove_save, saves
from s2i_lib.drive import LEASE, Drive, Lease, local_folder, remove, size_of
from s2i_lib.errors import InputError
from s2i_lib.models import RUN_CARD, WEIGHTS, read_card

log = logging.getLogger(__name__)


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

    @property
    def name(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def state_bytes(self) -> int:
        return sum(size_of(state) for state in self.states)


def list_runs(drive: Drive) -> list[RunSummary]:
    """All runs on the Drive, by name; whatever else lies there is passed over."""
    summaries = []
    for folder in sorted(drive.runs.glob("*/*")):
        card, own = read_card(folder), tuple(saves(folder))
        if not folder.is_dir() or not (card or own or (folder / WEIGHTS).is_dir()):
            continue
        step = max([card.get("step", 0), *(age(state)[0] for state in own)])
        summaries.append(
            RunSummary(
                folder,
                card.get("status", "unreadable"),
                step,
                size_of(folder),
                card.get("scores", {}),
                own,
            )
        )
    return summaries


def prunable(runs: list[RunSummary], with_unfinished: bool = False) -> list[tuple[Path, str]]:
    """What could be deleted, each with what that means; the user decides.

    States only serve to train on; weights and pictures are never offered. An unfinished run has
    nothing but its states: they are offered where the user is asked about each.
    """
    meaning = {"finished": "is finished; without {} more steps go on from its weights alone"}
    if with_unfinished:
        meaning["training"] = "is unfinished; without {} it cannot go on from there"
    return [
        (state, f"{run.name} {meaning[run.status].format(state.name)}")
        for run in runs
        if run.status in meaning
        for state in run.states
    ]


def select_runs(runs: list[RunSummary], names: Sequence[str]) -> list[RunSummary]:
    """The runs called SUBJECT/RUN.

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
    """Delete whole runs, on the Drive and on this computer's own disk; the bytes that this freed.

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


def prune(paths: list[Path], report: Callable[[str], None] = log.info) -> int:
    """Delete states; the bytes that this freed.

    Raises
    ------
    S2iError
        When one is of a run that is being trained; nothing has been deleted then.
    """
    for folder in {path.parent for path in paths}:
        Lease(folder, report).refuse_if_held()
    freed = 0
    for path in paths:
        freed += size_of(path)
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
    for card_path in sorted(drive.runs.glob(f"*/*/{RUN_CARD}")):
        run = card_path.parent
        card = read_card(run)
        is_over = card.get("status") == "finished" and "keeps_state" in card
        if is_over and has_weights(run / WEIGHTS) and not (run / LEASE).exists():
            freed += drop_saves(run, int(card["keeps_state"]), is_uploaded=is_uploaded)
    return freed

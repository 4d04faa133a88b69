"""What fine-tuning has left on the Drive: list it, and delete what the user agrees to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2i_lib.checkpoint import states
from s2i_lib.drive import Drive, remove
from s2i_lib.models import WEIGHTS, read_card


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
        card, own = read_card(folder), tuple(states(folder))
        if not folder.is_dir() or not (card or own or (folder / WEIGHTS).is_dir()):
            continue
        step = max([card.get("step", 0), *(int(state.name[6:]) for state in own)])
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


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def prunable(runs: list[RunSummary]) -> list[tuple[Path, str]]:
    """What could be deleted, each with what that means; the user decides.

    States of finished runs only serve to train on; weights and pictures are never offered.
    """
    return [
        (state, f"{run.name} is finished; without {state.name} it cannot go on with more steps")
        for run in runs
        if run.status == "finished"
        for state in run.states
    ]


def prune(paths: list[Path]) -> int:
    """Delete states; the bytes that this freed."""
    freed = 0
    for path in paths:
        freed += size_of(path)
        remove(path)
        if not states(path.parent):
            (path.parent / "latest.json").unlink(missing_ok=True)
    return freed

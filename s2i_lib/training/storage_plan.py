"""What of a run is kept where while it trains, and how often it is saved: one decision, by size.

A free Google Drive has 15 GB, shared with mail and photos, and a state of Stable Diffusion takes 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from s2i_lib.storage.disk import GIB, disk_of, free_bytes, size_of
from s2i_lib.storage.layout import Drive, local_folder

USABLE = 0.95  # of what is free on the Drive: samples, class images and pictures want some, too
LARGE_STATE_GIB = 1.0  # from here on a state is saved every quarter of a run
SAVE_EVERY = 100  # steps between states that are not large
SMALL_SHARE = 0.02  # of what is free on the Drive: so small a state stays when the run has ended


@dataclass(frozen=True)
class Sizes:
    """Sizes of what a run saves, in GiB."""

    state: float
    weights: float
    """In fp16, to draw with."""
    best: float = 0.0
    """The best step's weights; 0 where none are kept."""


@dataclass(frozen=True)
class Room:
    """GiB that a run may take; what it has there already counts as free."""

    drive: float
    local: float
    shared: float | None = None
    """What the run has on the Drive, where the Drive's folder is on this same disk."""

    def local_beside(self, on_drive: float) -> float:
        """Return what is left of the local disk when so much lies on the Drive."""
        if self.shared is None:
            return self.local
        return max(0.0, self.local - max(0.0, on_drive - self.shared))


@dataclass(frozen=True)
class Storage:
    """What lies on the Drive while a run trains, and the most that this takes."""

    states: int = 2
    """States on the Drive at a time."""
    slots_so_far: int = 0
    """Weights in fp16 on the Drive at a time, to go on from where states are not enough."""
    with_best: bool = True
    """Whether the best step's weights are on the Drive while it trains, or on this disk only."""
    keeps_state: bool = True
    """Whether the last state stays when the run has ended."""
    save_every: int = SAVE_EVERY
    drive_gib: float = 0.0
    local_gib: float = 0.0

    @property
    def is_safe(self) -> bool:
        """Whether a run goes on when this machine is gone."""
        return bool(self.states or self.slots_so_far)

    def fits(self, room: Room) -> bool:
        return self.fits_drive(room) and self.fits_local(room)

    def fits_drive(self, room: Room) -> bool:
        return self.drive_gib <= USABLE * room.drive

    def fits_local(self, room: Room) -> bool:
        return self.local_gib <= room.local_beside(self.drive_gib)

    def __str__(self) -> str:
        each = f"every {self.save_every} steps"
        if self.states > 1:
            said = f"{each} a state to go on from, the last two on the Drive"
        elif self.states:
            said = (
                f"{each} a state to go on from, one on the Drive, as there is no room for two; "
                "while it is replaced, that step's weights in fp16 stand in for it"
            )
        elif self.slots_so_far:
            said = (
                f"{each} a state on this disk and the weights in fp16 on the Drive, which has no "
                "room for a state: if this machine goes, a new one goes on from those weights "
                "with a fresh optimizer"
            )
        else:
            said = (
                f"{each} a state on this disk. The Drive has room for the finished weights alone: "
                "IF THIS MACHINE GOES BEFORE THE END, THE RUN BEGINS AGAIN"
            )
        if not self.with_best:
            said += "; the best step's weights are on this disk until the end"
        return said + (
            "; the last state stays" if self.keeps_state else "; deleted when the run has ended"
        )


def levels(sizes: Sizes, steps: int, save_every: int, drive_gib: float) -> Iterator[Storage]:
    """List the ways to keep a run, the safest first, each with less on the Drive.

    Parameters
    ----------
    save_every : int
        Steps between states; 0 leaves it to the size of one.
    """
    keeps_state = sizes.state <= SMALL_SHARE * drive_gib
    quarter = -(-steps // 4) if sizes.state >= LARGE_STATE_GIB else 0
    every = save_every or max(SAVE_EVERY, quarter)
    n_saved = -(-steps // every) - (not keeps_state)  # the last one only serves to train further
    for states, so_far, with_best in ((2, 0, True), (2, 0, False), (1, 1, False), (0, 2, False),
                                      (0, 0, False)):  # fmt: skip
        best = sizes.best if with_best else 0.0
        # A better step's weights are written beside the last one's.
        training = min(states, n_saved) * sizes.state + min(so_far, n_saved) * sizes.weights
        # Before the weights come, all saves but the newest go.
        newest = (sizes.state if states else sizes.weights * bool(so_far)) * bool(n_saved)
        yield Storage(
            states,
            so_far,
            with_best or not sizes.best,
            keeps_state,
            every,
            drive_gib=max(training + 2 * best, newest + best + sizes.weights),
            # On this disk one more of each, which is being written.
            local_gib=2 * sizes.state + sizes.weights * (1 + 2 * bool(so_far)) + 2 * sizes.best,
        )


def choose_storage(sizes: Sizes, room: Room, steps: int, save_every: int = 0) -> Storage:
    """Choose the safest way that fits; where none does, the one that needs least."""
    found = list(levels(sizes, steps, save_every, room.drive))
    return next((storage for storage in found if storage.fits(room)), found[-1])


def room_for(drive: Drive, folder: Path) -> Room:
    """Measure the room for a run in ``folder`` of the Drive."""
    local, own = local_folder(drive, folder), size_of(folder) / GIB
    return Room(
        drive=free_bytes(drive.root) / GIB + own,
        local=(free_bytes(local) + size_of(local)) / GIB,
        shared=own if disk_of(local) == disk_of(folder) else None,
    )

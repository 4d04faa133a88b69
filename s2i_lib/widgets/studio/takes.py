"""Recordings that are still being made, as their pieces come from the page."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from s2i_lib.live import Live

if TYPE_CHECKING:
    import numpy as np

MOST_PIECES = 600  # of a quarter of a second: whoever sends more is no recording that is accepted


class Takes:
    """Gives the pieces of one recording at a time to what hears it, in order.

    The whole recording comes after them and is what is heard in the end: a piece that is lost, or
    late, is missing in a draft at most.
    """

    def __init__(self, begin: Callable[[], Live]) -> None:
        self._begin = begin
        self._lock = threading.Lock()
        self._key, self._live = "", None  # type: str, Live | None
        self._waiting: dict[int, np.ndarray] = {}
        self._next = 0

    def add(self, key: str, index: int, samples: np.ndarray) -> None:
        """Take a piece; the first of a recording ends the one before."""
        with self._lock:
            if key != self._key:
                if index:  # its beginning was given up, or has ended
                    return
                self._end()
                self._key, self._live, self._next = key, self._begin(), 0
            if index >= MOST_PIECES:
                return
            self._waiting[index] = samples
            while self._next in self._waiting and self._live is not None:
                self._live.add(self._waiting.pop(self._next))
                self._next += 1

    def pop(self, key: str) -> Live | None:
        """Return what hears a recording, to end it; None where no piece of it has come."""
        with self._lock:
            live = self._live if key and key == self._key else None
            if live is not None:
                live.close(wait=False)
                self._live = None
            return live

    def _end(self) -> None:
        if self._live is not None:
            self._live.close(wait=False)
        self._live = None
        self._waiting.clear()

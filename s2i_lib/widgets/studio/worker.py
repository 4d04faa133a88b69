"""A thread with a queue of one: a new wish takes the place of the one that runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from s2i_lib.pipeline import Cancelled

log = logging.getLogger(__name__)


class Worker:
    """Runs one wish at a time, the newest first; older ones that wait are dropped.

    A wish is a function without arguments that calls ``check`` often; there it ends with
    `Cancelled` when a newer wish has come or ``cancel`` was called.
    """

    def __init__(self, on_error: Callable[[Exception], object]) -> None:
        self._on_error = on_error
        self._condition = threading.Condition()
        self._next: Callable[[], object] | None = None
        self._is_running = False
        self._is_cancelled = False
        self._thread: threading.Thread | None = None

    def submit(self, wish: Callable[[], object]) -> None:
        """Run ``wish`` as soon as the one that runs has stopped."""
        with self._condition:
            self._next = wish
            self._is_cancelled = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="studio", daemon=True)
                self._thread.start()
            self._condition.notify_all()

    def cancel(self) -> None:
        """Stop the running wish between two steps, and drop the one that waits."""
        with self._condition:
            self._next = None
            self._is_cancelled = True

    @property
    def is_busy(self) -> bool:
        """Whether a wish runs or waits."""
        with self._condition:
            return self._is_running or self._next is not None

    @property
    def is_mine(self) -> bool:
        """Whether the thread that asks is the one that runs wishes."""
        return threading.current_thread() is self._thread

    @property
    def is_overtaken(self) -> bool:
        """Whether a newer wish waits."""
        with self._condition:
            return self._next is not None

    def check(self) -> None:
        """Raise `Cancelled` in a wish that is no longer wanted; on other threads do nothing."""
        if self._is_cancelled and self.is_mine:
            raise Cancelled

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing runs or waits; whether that came to be in time."""
        with self._condition:
            return self._condition.wait_for(
                lambda: self._next is None and not self._is_running, timeout_s
            )

    def _work(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._next is not None)
                wish, self._next = self._next, None
                self._is_running, self._is_cancelled = True, False
            try:
                assert wish is not None
                wish()
            except Exception as error:  # the thread must outlive any wish
                self._on_error(error)
            finally:
                with self._condition:
                    self._is_running = False
                    self._condition.notify_all()

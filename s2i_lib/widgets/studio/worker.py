"""A thread with a queue: a new wish takes the place of the one that runs."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from s2i_lib.pipeline import Cancelled

log = logging.getLogger(__name__)


class Worker:
    """Runs one wish at a time; a newer one takes the place of those that run or wait.

    A wish is a function without arguments that calls ``check`` often; there it ends with
    `Cancelled` when a newer wish has come or ``cancel`` was called.
    """

    def __init__(self, on_error: Callable[[Exception], object]) -> None:
        self._on_error = on_error
        self._condition = threading.Condition()
        self._waiting = deque[Callable[[], object]]()
        self._is_running = False
        self._is_cancelled = False
        self._thread: threading.Thread | None = None

    def submit(self, wish: Callable[[], object], *, drops: bool = True) -> None:
        """Run ``wish`` as soon as the one that runs has stopped.

        Parameters
        ----------
        wish : what to run
        drops : forget those that wait; else each is begun, to end at its first ``check``
        """
        with self._condition:
            if drops:
                self._waiting.clear()
            self._waiting.append(wish)
            self._is_cancelled = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="studio", daemon=True)
                self._thread.start()
            self._condition.notify_all()

    def cancel(self) -> None:
        """Stop the running wish between two steps, and drop those that wait."""
        with self._condition:
            self._waiting.clear()
            self._is_cancelled = True

    @property
    def is_busy(self) -> bool:
        """Whether a wish runs or waits."""
        with self._condition:
            return self._is_running or bool(self._waiting)

    @property
    def is_mine(self) -> bool:
        """Whether the thread that asks is the one that runs wishes."""
        return threading.current_thread() is self._thread

    @property
    def is_overtaken(self) -> bool:
        """Whether a newer wish waits."""
        with self._condition:
            return bool(self._waiting)

    def check(self) -> None:
        """Raise `Cancelled` in a wish that is no longer wanted; on other threads do nothing."""
        if self._is_cancelled and self.is_mine:
            raise Cancelled

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing runs or waits; whether that came to be in time."""
        with self._condition:
            return self._condition.wait_for(
                lambda: not self._waiting and not self._is_running, timeout_s
            )

    def _work(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting)
                wish = self._waiting.popleft()
                self._is_running, self._is_cancelled = True, bool(self._waiting)
            try:
                wish()
            except Exception as error:  # the thread must outlive any wish
                self._on_error(error)
            finally:
                with self._condition:
                    self._is_running = False
                    self._condition.notify_all()

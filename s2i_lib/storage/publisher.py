"""Write to the Drive in the background, and try again until it has taken it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from s2i_lib.errors import S2iError
from s2i_lib.storage.disk import name_fault


class NotYetError(S2iError):
    """A job that has to wait, and is tried again without a word: nothing has failed."""


class Publisher:
    """Run jobs that write to the Drive in one background thread, and never give up on them.

    A job that fails is reported, kept and tried again, waiting longer each time; a newer job of the
    same name takes its place. Whatever calls ``submit`` never waits for the Drive.
    """

    def __init__(
        self,
        report: Callable[[str], None],
        retry_s: float = 5.0,
        limit_s: float = 60.0,
    ):
        self.report = report
        self.retry_s, self.limit_s = retry_s, limit_s
        self._jobs: dict[str, Callable[[], object]] = {}
        self._changed = threading.Condition()
        self._is_closing = False
        self._failing = ""  # why the last try failed
        self._postponed: list[str] = []  # jobs that still had to wait at its closing
        self._bug: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="publisher", daemon=True)
        self._thread.start()

    def submit(self, name: str, job: Callable[[], object]) -> None:
        """Queue ``job``; one of the same name that has not begun is dropped."""
        if self._bug:
            raise self._bug
        with self._changed:
            self._jobs[name] = job
            self._changed.notify_all()

    def withdraw(self, name: str) -> None:
        """Drop a job that has not begun: nobody needs it any more."""
        with self._changed:
            self._jobs.pop(name, None)

    def close(self, patience_s: float = 120.0) -> list[str]:
        """Wait until all is written, at most ``patience_s``; return the names of what was not."""
        deadline = time.monotonic() + patience_s
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
            while self._jobs and not self._bug and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            unwritten = [*self._postponed, *self._jobs]
            self._jobs.clear()
            self._changed.notify_all()
        if self._bug:
            raise self._bug
        return unwritten

    def _work(self) -> None:
        wait_s = self.retry_s
        while True:
            with self._changed:
                while not self._jobs:
                    if self._is_closing:
                        return
                    self._changed.wait()
                name, job = next(iter(self._jobs.items()))
            try:
                job()
            except NotYetError:
                with self._changed:  # closing must find the name among the jobs or the postponed
                    if self._is_closing and self._drop(name, job):
                        self._postponed.append(name)
                    else:
                        self._put_last(name, self.retry_s)
            except (OSError, S2iError) as error:
                fault = name_fault(error)
                if fault != self._failing:
                    self.report(
                        f"The Drive did not take {name}: {fault}. Work goes on, what was there "
                        "before is untouched, and the copy is tried again."
                    )
                self._failing = fault
                self._put_last(name, wait_s)
                wait_s = min(2 * wait_s, self.limit_s)
            except BaseException as error:
                with self._changed:
                    self._bug = error
                    self._changed.notify_all()
                return
            else:
                if self._failing:
                    self.report(f"The Drive takes files again: {name} reads back whole.")
                self._failing, wait_s = "", self.retry_s
                self._drop(name, job)
            del job  # with what it holds

    def _drop(self, name: str, job: Callable[[], object]) -> bool:
        """Take a job out of the queue; return False where a newer one has taken its place."""
        with self._changed:
            if is_newest := self._jobs.get(name) is job:
                del self._jobs[name]
            self._changed.notify_all()
        return is_newest

    def _put_last(self, name: str, wait_s: float) -> None:
        """Let the others go first, where this one does not fit, and wait for news."""
        with self._changed:
            if name in self._jobs:
                self._jobs[name] = self._jobs.pop(name)
            self._changed.wait(wait_s)

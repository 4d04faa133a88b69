"""One session at a time works on a run: a lease with a heartbeat."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import psutil

from s2i_lib.errors import S2iError
from s2i_lib.storage.files import alone_in, write_json
from s2i_lib.storage.json_file import load_object

LEASE = "lease.json"  # in a run's folder, while somebody trains it
BEAT_S = 20.0
STALE_S = 90.0  # a Drive mount shows another machine's writes with up to a minute's delay


class Lease:
    """The right to write into a run's folder: a file there whose beat shows that its holder lives.

    Parameters
    ----------
    folder : Path
        The run's folder.
    report : callable
        Is told when it has to wait for a holder that may have died.
    beat_s, stale_s : float
        Seconds between beats, and without one until a holder elsewhere counts as dead.
    machine : str, optional
        What tells this machine from others; default: its host and when it started.
    """

    def __init__(
        self,
        folder: Path,
        report: Callable[[str], None],
        beat_s: float = BEAT_S,
        stale_s: float = STALE_S,
        *,
        machine: str | None = None,
    ):
        self.path = folder / LEASE
        self.report, self.beat_s, self.stale_s = report, beat_s, stale_s
        self.machine = machine or _machine()
        self.token = secrets.token_hex(8)
        self.is_lost = False
        self._beat = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    _live: ClassVar[set[str]] = set()
    """Tokens that this process holds, but for what a dead mount kept it from giving back."""

    def refuse_if_held(self) -> None:
        """Raise if somebody else holds the run and is alive."""
        if holder := self.living_holder():
            raise S2iError(
                f"{self.path.parent} is being trained by process {holder.get('pid')} on "
                f"{holder.get('host')} since {holder.get('since')}. Nothing was written. "
                "Stop the other notebook (Runtime > Disconnect), or train another run with --name."
            )

    def acquire(self) -> Lease:
        """Take the lease and keep it beating.

        Raises
        ------
        S2iError
            When somebody else holds the run and is alive; it says who.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with alone_in(self.path.parent):  # two of this machine would both find it free
            self.refuse_if_held()
            self._write()
        if (now := self._read()) and now.get("token") != self.token:
            raise S2iError(
                f"Another process took {self.path.parent} at the same moment. "
                "Nothing was written. Start one of the two again."
            )
        self._live.add(self.token)
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()
        return self

    def living_holder(self) -> dict | None:
        """Return who holds the run and is alive, as the lease says; None when nobody does."""
        holder = self._read()
        return holder if holder and self._is_alive(holder) else None

    def release(self) -> None:
        """Give the lease back, if it is still ours."""
        self._live.discard(self.token)
        self._stop.set()
        if self._thread:
            self._thread.join()
        try:
            if not self.is_lost and (self._read() or {}).get("token") == self.token:
                self.path.unlink()
        except OSError:
            self.report("The lease could not be removed; it goes stale by itself.")

    def _is_alive(self, holder: dict) -> bool:
        """Return whether a holder lives: known at once on this machine, else if a beat comes."""
        if holder.get("machine") == self.machine:
            if holder.get("pid") == os.getpid():
                return holder.get("token") in self._live
            return _is_running(holder.get("pid", 0), holder.get("start"))
        self.report(
            f"{self.path.parent.name} was last held by {holder.get('host')}. "
            f"Waiting up to {self.stale_s:.0f} s for a sign of life."
        )
        deadline = time.monotonic() + self.stale_s
        while time.monotonic() < deadline:
            time.sleep(min(1.0, self.stale_s / 20))
            now = self._read()
            if now is None:
                return False
            if (now.get("token"), now.get("beat")) != (holder.get("token"), holder.get("beat")):
                return True
        return False

    def _read(self) -> dict | None:
        try:
            return load_object(self.path)
        except FileNotFoundError:
            return None
        except ValueError:
            return {}

    def _write(self) -> None:
        self._beat += 1
        if self._beat == 1:
            self._since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        card = {
            "token": self.token,
            "host": socket.gethostname(),
            "machine": self.machine,
            "pid": os.getpid(),
            "start": _started_s(psutil.Process()),
            "since": self._since,
            "beat": self._beat,
        }
        write_json(self.path, card)

    def _keep(self) -> None:
        while not self._stop.wait(self.beat_s):
            try:
                holder = self._read()
                if holder and holder.get("token") != self.token:
                    self.is_lost = True
                    self.report(
                        f"Another process has taken over {self.path.parent}; "
                        "this one writes nothing there any more."
                    )
                    return
                self._write()
            except (OSError, S2iError):
                continue  # the publisher reports a Drive that fails; the lease just beats on


def _machine() -> str:
    """Name this machine since its start: a Colab session that comes back is another one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + socket.gethostname()
    except OSError:  # macOS
        return socket.gethostname()


def _is_running(pid: int, start: Any) -> bool:
    """Return whether the process that began at ``start`` runs, and not another under its number."""
    try:
        process = psutil.Process(pid)
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        return not is_zombie and abs(_started_s(process) - start) < 2  # both clocks are rounded
    except (psutil.Error, TypeError, ValueError):
        return False


def _started_s(process: psutil.Process) -> float:
    """Return how long after the machine a process began: a clock that is set changes neither."""
    return process.create_time() - psutil.boot_time()

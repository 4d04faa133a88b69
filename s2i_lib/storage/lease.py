"""One session at a time works on a run: a lease with a heartbeat."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from s2i_lib.errors import S2iError
from s2i_lib.storage.files import write_json

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

    Raises
    ------
    S2iError
        From ``acquire``, when somebody else holds the run and is alive; it says who.
    """

    def __init__(
        self,
        folder: Path,
        report: Callable[[str], None],
        beat_s: float = BEAT_S,
        stale_s: float = STALE_S,
    ):
        self.path = folder / LEASE
        self.report, self.beat_s, self.stale_s = report, beat_s, stale_s
        self.token = secrets.token_hex(8)
        self.is_lost = False
        self._beat = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    _live: ClassVar[set[str]] = set()
    """Tokens that this process holds: what a dead mount would not let it give back is not one."""

    def refuse_if_held(self) -> None:
        """Raise if somebody else holds the run and is alive."""
        if holder := self.living_holder():
            raise S2iError(
                f"{self.path.parent} is being trained by process {holder.get('pid')} on "
                f"{holder.get('host')} since {holder.get('since')}. Nothing was written. "
                "Stop the other notebook (Runtime > Disconnect), or train another run with --name."
            )

    def acquire(self) -> Lease:
        self.path.parent.mkdir(parents=True, exist_ok=True)
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
        """Who holds the run and is alive, as its lease says; None when nobody does."""
        holder = self._read()
        return holder if holder and self._is_alive(holder) else None

    def release(self) -> None:
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
        """Whether the holder still lives: at once on this machine, else by watching for a beat."""
        if holder.get("machine") == _machine():
            if holder.get("pid") == os.getpid():
                return holder.get("token") in self._live
            return _start_of(holder.get("pid", 0)) == holder.get("start") is not None
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
            return json.loads(self.path.read_text())
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
            "machine": _machine(),
            "pid": os.getpid(),
            "start": _start_of(os.getpid()),
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
    """This machine since it started: a Colab session that comes back is another one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + socket.gethostname()
    except OSError:
        return socket.gethostname()


def _start_of(pid: int) -> str | None:
    """When process ``pid`` began, in clock ticks, so that a pid used anew is not mistaken."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]

"""Where everything that lasts is kept: one folder, on Google Drive in Colab, else beside you."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from s2i_lib.errors import InputError, S2iError

COLAB_MOUNT = Path("/content/drive/MyDrive")
FOLDER = "s2i"
LOCAL_ROOT = Path("s2i_drive")


@dataclass(frozen=True)
class Drive:
    """The layout below ``root``; see drive_layout.md. Nothing is created by asking for a path."""

    root: Path

    @property
    def subjects(self) -> Path:
        return self.root / "subjects"

    @property
    def class_images(self) -> Path:
        return self.root / "class_images"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def creations(self) -> Path:
        return self.root / "creations"

    @property
    def recordings(self) -> Path:
        return self.root / "recordings"

    @property
    def classroom_words(self) -> Path:
        return self.root / "classroom_words.txt"

    def subject(self, name: str) -> Path:
        """The folder of the subject that is called ``name`` ("Rex" and "rex" are one)."""
        return self.subjects / folder_name(name)


def folder_name(name: str) -> str:
    """``name`` as a folder: lower case, letters, digits, dashes ("Mr. Whiskers" is "mr-whiskers").

    Raises
    ------
    InputError
        When nothing is left of the name.
    """
    slug = re.sub(r"[^\w]+", "-", name.strip().lower()).strip("-_")
    if not slug:
        raise InputError(
            f"The name {name!r} has no letters or digits, so no folder can be named after it. "
            "Give a name such as Rex."
        )
    return slug


def is_folder(path: Path) -> bool:
    """Whether there is a folder; False also where a mount has died, for which pathlib raises."""
    try:
        return path.is_dir()
    except OSError:
        return False


def open_drive(root: str | Path | None = None) -> Drive:
    """The Drive at ``root``, else at ``$S2I_DRIVE``, else mounted in Colab, else ./s2i_drive."""
    if root is None:
        root = os.environ.get("S2I_DRIVE") or (
            COLAB_MOUNT / FOLDER if is_folder(COLAB_MOUNT) else LOCAL_ROOT
        )
    path = Path(root).expanduser()
    if path.exists() and not path.is_dir():
        raise InputError(
            f"{path} is a file, but a folder is needed to keep photos, weights and pictures in. "
            "Name a folder with --drive or the variable S2I_DRIVE."
        )
    return Drive(path)


def make_folder(path: Path) -> Path:
    """Make ``path`` and prove that it can be written to, before any work is done for it.

    Raises
    ------
    InputError
        When it is a file, or cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "Name another one, or change its permissions")
        raise InputError(
            f"The folder {path} cannot be written to ({error.strerror or error}). {remedy}."
        ) from error
    return path


def list_folder(folder: Path) -> list[Path]:
    """What lies in a folder; nothing if it is not there.

    Raises
    ------
    OSError
        When it cannot be listed. From Python 3.13 on, ``Path.glob`` finds nothing then.
    """
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def free_path(path: Path) -> Path:
    """``path``, or path-2, path-3, ... where something is already called so (in any case).

    Raises
    ------
    S2iError
        When the folder cannot be listed.
    """
    try:
        taken = {other.name.lower() for other in list_folder(path.parent)}
    except OSError as error:
        raise _not_written(path, error) from error
    free, number = path, 2
    while free.name.lower() in taken:
        free, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return free


def write_file(path: Path, data: bytes) -> Path:
    """Write a new file whole or not at all: under a temporary name, flushed, then renamed.

    Raises
    ------
    S2iError
        When the disk does not take it. Nothing is left behind then.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):  # a dead mount does not take that either
            part.unlink(missing_ok=True)
        raise _not_written(path, error) from error
    return path


def _not_written(path: Path, error: OSError) -> S2iError:
    remedy = REMEDIES.get(error.errno or 0, "Free some space or name another folder")
    return S2iError(
        f"{path} could not be written ({error.strerror or error}). Nothing was changed there. "
        f"{remedy}, then try again."
    )


# ---- Publishing: what is on the local disk gets to a Drive that may fail at any moment ----

COPY_CHUNK = 1 << 22  # 4 MiB
REMEDIES = {
    errno.ENOSPC: "The Drive is full: delete something and empty its bin",
    errno.EDQUOT: "The Drive is full: delete something and empty its bin",
    errno.ENOTCONN: "The mount has died: run the set-up cell again to mount the Drive anew",
    errno.EIO: "The Drive reports an error of its own; it often passes",
}


class NotTakenError(S2iError):
    """The Drive holds something else than what was written to it."""


class NotYetError(S2iError):
    """A job that has to wait, and is tried again without a word: nothing has failed."""


def local_folder(drive: Drive, folder: Path) -> Path:
    """Where on the local disk work for ``folder`` of this Drive is done before it is published.

    Below ``$S2I_LOCAL``, else ~/.cache/s2i; two Drives never share a folder there.
    """
    root = Path(os.environ.get("S2I_LOCAL") or Path.home() / ".cache" / "s2i")
    key = hashlib.sha256(str(drive.root.absolute()).encode()).hexdigest()[:12]
    return root / key / folder.relative_to(drive.root)


def free_bytes(path: Path) -> int:
    """Bytes that are free where ``path`` is or is going to be."""
    return shutil.disk_usage(_existing(path)).free


def size_of(folder: Path) -> int:
    """Bytes of all files below ``folder``."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def disk_of(path: Path) -> int:
    """A number for the disk or mount that ``path`` is on or is going to be."""
    return _existing(path).stat().st_dev


def _existing(path: Path) -> Path:
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return place


# What is written to a mounted Google Drive is acknowledged by a cache on this machine, and uploaded
# later. Users saw 3.1 GB take 24 minutes and 5 GB more than 30 (googlecolab/colabtools issues 2607
# and 287): about 2 to 3 MB a second, where others have ten times that.
UPLOAD_BYTES_S = 3e6


def is_uploaded_later(path: Path) -> bool:
    """Whether what is written to ``path`` gets where it lasts only later: a mount by FUSE.

    Colab's is of the type fuse.drive (google/colab/drive.py looks for that).
    """
    place = _existing(path).resolve()
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return False  # not Linux, so not Colab
    kinds = {Path(where.replace("\\040", " ")): kind for _, where, kind, *_ in mounts}
    kind = next((kinds[p] for p in (place, *place.parents) if p in kinds), "")
    return kind == "fuse" or kind.startswith("fuse.")


def has_had_time(path: Path) -> bool:
    """Whether a file or folder was written so long ago that it is uploaded by now.

    That is an estimate from its size; only Google knows.
    """
    if not is_uploaded_later(path):
        return True
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    facts = [file.stat() for file in files]
    written = max((fact.st_mtime for fact in facts), default=0.0)
    return time.time() - written >= sum(fact.st_size for fact in facts) / UPLOAD_BYTES_S


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, read from the disk and not from the page cache."""
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(file, "sha256").hexdigest()


def publish(source: Path, target: Path, phase: Callable[[str], None] = lambda name: None) -> Path:
    """Copy a file or a folder so that ``target`` is whole or as it was, never in between.

    Written under a temporary name, flushed, read back and compared by SHA-256, then renamed.

    Parameters
    ----------
    source, target : Path
        A file or a folder of files; what it is going to be called on the Drive.
    phase : callable
        Is told "publishing", "verifying", "renaming" as each begins.

    Raises
    ------
    NotTakenError
        When what is read back differs from what was written.
    OSError
        What the Drive raised. ``target`` is untouched in both cases.
    """
    part = target.with_name(f".{target.name}.part")
    remove(part)
    phase("publishing")
    target.parent.mkdir(parents=True, exist_ok=True)
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    copies = {file: part / file.relative_to(source) for file in files}
    if source.is_file():
        copies = {source: part}
    digests = {copy: _copy(file, copy) for file, copy in copies.items()}
    phase("verifying")
    for copy, digest in digests.items():
        if (found := sha256_of(copy)) != digest:
            raise NotTakenError(
                f"{target.name} reads back different from what was written "
                f"(SHA-256 {found[:12]}, expected {digest[:12]})."
            )
    phase("renaming")
    if target.is_dir():  # a folder cannot be renamed over another: one step aside, then in
        aside = target.with_name(f".{target.name}.old")
        remove(aside)
        target.rename(aside)
        part.rename(target)
        remove(aside)
    else:
        part.replace(target)
    return target


def _copy(source: Path, target: Path) -> str:
    """Copy and flush one file; the SHA-256 of what was read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(COPY_CHUNK):
            digest.update(chunk)
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return digest.hexdigest()


def tidy(folder: Path) -> None:
    """Clear away what a killed process left half done in ``folder``; put back what it set aside."""
    for aside in folder.glob(".*.old"):
        target = aside.with_name(aside.name[1:-4])
        if target.exists():
            remove(aside)
        else:
            aside.rename(target)
    for part in folder.glob(".*.part"):
        remove(part)


def remove(path: Path) -> None:
    """Delete a file or a folder for good, so that its space is free at once.

    Google Drive keeps deleted files in its bin, where they still count: emptied first, they do not.
    """
    if not path.exists():
        return
    if path.is_dir() and not path.name.startswith("."):
        # Whole under its name or gone: a process killed in between leaves no half folder to trust.
        path = path.rename(path.with_name(f".{path.name}.part"))
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        os.truncate(file, 0)
        file.unlink()
    if path.is_dir():
        shutil.rmtree(path)


class Publisher:
    """Runs jobs that write to the Drive in one background thread, and never gives up on them.

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
        self._failing = ""  # what the last try failed of
        self._postponed: list[str] = []  # jobs that still had to wait when it closed
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
        """Wait until all is written, for at most ``patience_s``; the names of what was not."""
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
                with self._changed:
                    is_newest = self._jobs.get(name) is job
                    if is_newest and self._is_closing:
                        self._postponed.append(name)
                        del self._jobs[name]
                        self._changed.notify_all()
                    else:
                        if name in self._jobs:
                            self._jobs[name] = self._jobs.pop(name)
                        self._changed.wait(self.retry_s)
            except (OSError, S2iError) as error:
                fault = name_fault(error)
                if fault != self._failing:
                    self.report(
                        f"The Drive did not take {name}: {fault}. Work goes on, what was there "
                        "before is untouched, and the copy is tried again."
                    )
                self._failing = fault
                with self._changed:
                    if name in self._jobs:  # to the end: another file may fit where this does not
                        self._jobs[name] = self._jobs.pop(name)
                    self._changed.wait(wait_s)
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
                with self._changed:
                    if self._jobs.get(name) is job:
                        del self._jobs[name]
                    del job  # with what it holds
                    self._changed.notify_all()


def name_fault(error: OSError | S2iError) -> str:
    """What is wrong, by its number and with what helps, for use within a sentence."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if not isinstance(cause, OSError):
        return str(error).rstrip(".")
    remedy = REMEDIES.get(cause.errno or 0)
    named = f"{cause.strerror or cause} (errno {cause.errno})"
    return f"{named}. {remedy}" if remedy else named


# ---- Lease: one writer a run ----

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
        write_file(self.path, (json.dumps(card, indent=2) + "\n").encode())

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

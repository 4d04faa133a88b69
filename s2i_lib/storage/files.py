"""Files that last: written whole or not at all, published to a Drive that may fail, verified."""

from __future__ import annotations

import base64
import errno
import glob
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from s2i_lib.errors import InputError, S2iError
from s2i_lib.storage.layout import NAME_BYTES, cut_name

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # Windows has no such lock: one process at a time there

log = logging.getLogger(__name__)

GIB = 1024**3
PART_LIVES_S = 3600.0  # what is half written and untouched for so long, a killed process left


def make_folder(path: Path) -> Path:
    """Make ``path`` and prove that it can be written to, before any work is done for it.

    What a killed process left half written there goes, once nobody can be at work on it any more.

    Raises
    ------
    InputError
        When it is a file, or cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path, prefix=".", suffix=".part"):
            pass
        sweep(path)
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "Name another one, or change its permissions")
        raise InputError(
            f"The folder {path} cannot be written to ({error.strerror or error}). {remedy}."
        ) from error
    return path


def sweep(folder: Path) -> None:
    """Remove what was half written in a folder by processes that have been killed."""
    for part in abandoned_parts(folder):
        remove(part)


def abandoned_parts(folder: Path) -> Iterator[Path]:
    """Find what was half written in a folder by processes that have been killed."""
    for part in folder.glob(".*.part"):
        newest = time.time()
        with suppress(OSError):  # another process deletes it, too
            newest = max(file.lstat().st_mtime for file in (part, *part.rglob("*")))
        if time.time() - newest > PART_LIVES_S:
            yield part


def list_folder(folder: Path) -> list[Path]:
    """Return what lies in a folder; nothing if it is not there.

    Raises
    ------
    OSError
        When it cannot be listed. From Python 3.13 on, ``Path.glob`` finds nothing then.
    """
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def files_beside(path: Path) -> list[Path]:
    """Return a file and those of the same name with other endings: a picture's record, figure."""
    found = path.parent.glob(f"{glob.escape(path.stem)}.*")
    return sorted(file for file in found if file.stem == path.stem and file.is_file())


def free_path(path: Path, beside: str = "") -> Path:
    """Return ``path``, or path-2, path-3, ... where that name is taken (in any case).

    With a suffix ``beside`` the same name with that has to be free, too. Another process may take
    what was free: ask and write in `alone_in`.

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
    while taken & {free.name.lower(), free.with_suffix(beside or path.suffix).name.lower()}:
        tail = f"-{number}{path.suffix}"
        stem = cut_name(path.stem, NAME_BYTES - len(tail.encode()))
        free, number = path.with_name(stem + tail), number + 1
    return free


def part_of(path: Path) -> Path:
    """Return a name beside ``path`` to write it under, which no other process takes."""
    tail = f".{secrets.token_hex(4)}.part"
    return path.with_name(f".{cut_name(path.name, NAME_BYTES - 1 - len(tail))}{tail}")


def whole_name(path: Path) -> Path:
    """Return what a half-written file is going to be called; of any other one its own name."""
    return path.with_name(re.sub(r"^\.(.+)\.[0-9a-f]{8}\.part$", r"\1", path.name))


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Have a folder to oneself among the processes of this machine: another one waits.

    The lock is the kernel's and goes with its process, so a kill leaves none behind. Where there is
    none (Windows, some networks' disks) nobody waits.
    """
    place = None
    with suppress(OSError):
        place = os.open(folder, os.O_RDONLY) if fcntl else None
    try:
        if place is not None:
            _lock(place, folder)
        yield
    finally:
        if place is not None:
            os.close(place)


def _lock(place: int, folder: Path) -> None:
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning("Another process is at work in %s: waiting until it is done.", folder)
        fcntl.flock(place, fcntl.LOCK_EX)
    except OSError as error:
        log.debug("%s cannot be locked (%s)", folder, error)


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Have a name to write a new file or folder under, which is called ``target`` at the end.

    Raises
    ------
    InputError
        When something is called so already, or is by then: nothing is written over.
    """
    part = part_of(target)
    refuse_taken(target)
    make_folder(target.parent)
    try:
        yield part
        with alone_in(target.parent):
            refuse_taken(target)
            part.rename(target)
    except BaseException:
        remove(part)
        raise


def refuse_taken(target: Path) -> None:
    """Raise `InputError` where there is something under that name."""
    if os.path.lexists(target):
        raise InputError(
            f"{target} exists already and is not overwritten. Name another place with --out."
        )


def write_new(path: Path, data: bytes) -> Path:
    """Write a file under the name of ``path`` or, where that is taken, path-2 ...; return it."""
    with alone_in(path.parent):
        return write_file(free_path(path), data)


def write_file(path: Path, data: bytes) -> Path:
    """Write a file whole or not at all: under a temporary name, flushed, then renamed.

    Raises
    ------
    S2iError
        When the disk does not take it. Nothing is left behind then.
    """
    part = part_of(path)
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


def write_json(path: Path, record: dict[str, Any]) -> Path:
    """Write a new file of JSON to read, as `write_file` does."""
    return write_file(path, (json.dumps(record, indent=2) + "\n").encode())


SCRATCH = "s2i-"


def scratch_folder(name: str) -> tempfile.TemporaryDirectory[str]:
    """Make a temporary folder s2i-NAME-PROCESS-...; what killed processes left of theirs goes."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        if is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=f"{SCRATCH}{name}-{os.getpid()}-")


def is_abandoned(scratch: Path) -> bool:
    """Return whether the process is dead that made a scratch folder; False where none is named."""
    import psutil

    pid = scratch.name.split("-")[-2]
    return pid.isdigit() and not psutil.pid_exists(int(pid))


def data_uri(media_type: str, data: bytes) -> str:
    """Return data as an address, such as data:image/png;base64,..., for a page without files."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


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
    errno.ENOTCONN: "The mount has died: run the set-up cell again to mount the Drive again",
    errno.EIO: "The Drive reports an error of its own; it often passes",
}


class NotTakenError(S2iError):
    """The Drive holds something else than what was written to it."""


class NotYetError(S2iError):
    """A job that has to wait, and is tried again without a word: nothing has failed."""


def free_bytes(path: Path) -> int:
    """Return the bytes that are free where ``path`` is or is going to be."""
    return shutil.disk_usage(_existing(path)).free


def files_in(path: Path) -> list[Path]:
    """Return a file itself, or all files below a folder, by name."""
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; of a link its own few."""
    files = [path] if path.is_symlink() else files_in(path)
    return sum(file.lstat().st_size for file in files)


def disk_of(path: Path) -> int:
    """Return a number for the disk or mount that ``path`` is on or is going to be."""
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
    """Return whether what is written to ``path`` lasts only later: a mount by FUSE.

    Colab's is of the type fuse.drive (google/colab/drive.py looks for that).
    """
    import psutil

    place = _existing(path).resolve()
    kinds = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    kind = next((kinds[p] for p in (place, *place.parents) if p in kinds), "")
    return kind == "fuse" or kind.startswith("fuse.")


def upload_left_s(path: Path) -> float:
    """Return the seconds until a file or folder is uploaded; 0 where nothing has to be.

    That is an estimate from its size and age; only Google knows.
    """
    if not is_uploaded_later(path):
        return 0.0
    facts = [file.stat() for file in files_in(path)]
    written = max((fact.st_mtime for fact in facts), default=0.0)
    needed_s = sum(fact.st_size for fact in facts) / UPLOAD_BYTES_S
    return max(0.0, written + needed_s - time.time())


def has_had_time(path: Path) -> bool:
    """Return whether a file or folder was written so long ago that it is uploaded by now."""
    return not upload_left_s(path)


def sha256_of(content: Path | bytes) -> str:
    """Return the SHA-256 of bytes or of a file, read from the disk and not from the page cache."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
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
    written = {
        copy: _copy(file, copy)
        for file in files_in(source)
        for copy in [part / file.relative_to(source)]  # of a file itself that is ".": the part
    }
    phase("verifying")
    for copy, digest in written.items():
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
    """Copy and flush one file; return the SHA-256 of what was read."""
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
    A link is deleted and never followed, and a file that has another name (a hard link) loses only
    this one: what lies elsewhere is not ours to empty.
    """
    if not os.path.lexists(path):
        return
    if not path.is_dir() or path.is_symlink():
        _empty_and_unlink(path)
        return
    if not path.name.startswith("."):
        path = _set_aside(path)
    # Links to folders are not followed. The cards at the top say whose it is: they go last.
    for folder, _, names in os.walk(path, topdown=False):
        for name in sorted(names):
            _empty_and_unlink(Path(folder, name))
    with suppress(FileNotFoundError):  # another process deletes it, too
        shutil.rmtree(path)


def _set_aside(folder: Path) -> Path:
    """Rename a folder that is deleted: whole under its name or gone, so that none trusts a half."""
    part = folder.with_name(f".{folder.name}.part")
    remove(part)  # of one that was killed before
    try:
        return folder.rename(part)
    except FileNotFoundError:  # another process has done so
        return part
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return folder


def _empty_and_unlink(file: Path) -> None:
    with suppress(FileNotFoundError):
        _unlink_emptied(file)


def _unlink_emptied(file: Path) -> None:
    facts = file.lstat()
    if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:
        with suppress(PermissionError):  # a file that may not be written may still be deleted
            place = os.open(file, os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0))
            try:
                os.truncate(place, 0)
            finally:
                os.close(place)
    file.unlink()


def name_fault(error: OSError | S2iError) -> str:
    """Return what is wrong, by its number and with what helps, for use within a sentence."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if not isinstance(cause, OSError):
        return str(error).rstrip(".")
    remedy = REMEDIES.get(cause.errno or 0)
    named = f"{cause.strerror or cause} (errno {cause.errno})"
    return f"{named}. {remedy}" if remedy else named

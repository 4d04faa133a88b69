"""Files that last: written whole or not at all, under a name that nobody else takes."""

from __future__ import annotations

import base64
import glob
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from s2i_lib.errors import InputError, S2iError
from s2i_lib.storage.disk import REMEDIES, list_folder
from s2i_lib.storage.layout import NAME_BYTES, cut_name
from s2i_lib.storage.removal import remove

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # Windows has no such lock: one process at a time there

log = logging.getLogger(__name__)

STEREO, ROOM = ".stereo.jpg", ".room.html"  # a picture's two views, its room: with two endings
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
    """Find what was half written in a folder by processes of ours that have been killed."""
    for part in folder.glob(".*.part"):
        if whole_name(part) == part:
            continue  # another program's, such as a download: not called as `part_of` does
        newest = time.time()
        with suppress(OSError):  # another process deletes it, too
            newest = max(file.lstat().st_mtime for file in (part, *part.rglob("*")))
        if time.time() - newest > PART_LIVES_S:
            yield part


def files_beside(path: Path) -> list[Path]:
    """Return a file and those of the same name with other endings: a picture's record, figure."""
    whole, found = without_ending(path), path.parent.glob(f"{glob.escape(path.stem)}.*")
    return sorted(file for file in found if without_ending(file) == whole and file.is_file())


def without_ending(path: Path) -> Path:
    """Return what a file is called without its ending: of X.png and of X.stereo.jpg it is X."""
    for ending in (STEREO, ROOM):
        if path.name.endswith(ending):
            return path.with_name(path.name.removesuffix(ending))
    return path.with_suffix("")


def free_path(path: Path, *beside: str) -> Path:
    """Return ``path``, or path-2, path-3, ... where that name is taken (in any case).

    With suffixes ``beside`` the same name with those has to be free, too. Another process may take
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
    while any(free.with_suffix(one).name.lower() in taken for one in (path.suffix, *beside)):
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

    # What tempfile adds is eight letters; a folder of another form is somebody's own.
    found = re.fullmatch(rf"{SCRATCH}.+-([0-9]{{1,9}})-[a-z0-9_]{{8}}", scratch.name)
    return found is not None and not psutil.pid_exists(int(found[1]))


def data_uri(media_type: str, data: bytes) -> str:
    """Return data as an address, such as data:image/png;base64,..., for a page without files."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _not_written(path: Path, error: OSError) -> S2iError:
    remedy = REMEDIES.get(error.errno or 0, "Free some space or name another folder")
    return S2iError(
        f"{path} could not be written ({error.strerror or error}). Nothing was changed there. "
        f"{remedy}, then try again."
    )


def sha256_of(content: Path | bytes) -> str:
    """Return the SHA-256 of bytes or of a file, read from the disk and not from the page cache."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(file, "sha256").hexdigest()

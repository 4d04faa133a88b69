"""What a disk holds and has room for, and what is wrong with it in words that help."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from s2i_lib.errors import S2iError

GIB = 1024**3
REMEDIES = {
    errno.ENOSPC: "The Drive is full: delete something and empty its bin",
    errno.EDQUOT: "The Drive is full: delete something and empty its bin",
    errno.ENOTCONN: "The mount has died: run the set-up cell again to mount the Drive again",
    errno.EIO: "The Drive reports an error of its own; it often passes",
}


def fault_of(error: BaseException) -> OSError | None:
    """Return what the disk raised, where that is what lies behind an error."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return cause if isinstance(cause, OSError) else None


def name_fault(error: OSError | S2iError) -> str:
    """Return what is wrong, by its number and with what helps, for use within a sentence."""
    cause = fault_of(error)
    if cause is None:
        return str(error).rstrip(".")
    remedy = REMEDIES.get(cause.errno or 0)
    number = f" (errno {cause.errno})" if cause.errno else ""  # a library's own error has none
    named = f"{cause.strerror or cause}{number}"
    return f"{named}. {remedy}" if remedy else named


def say_fault(error: OSError | S2iError) -> str:
    """Return an error as a sentence for users, of the disk's own errors, too."""
    if isinstance(error, S2iError):
        return str(error)
    return f"{error.filename or 'A file'} cannot be read or written: {name_fault(error)}."


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


def list_matching(folder: Path, pattern: str) -> list[Path]:
    """Return what matches a pattern below a folder, by name; OSError as `list_folder` raises it."""
    list_folder(folder)
    return sorted(folder.glob(pattern))


def free_bytes(path: Path) -> int:
    """Return the bytes that are free where ``path`` is or is going to be."""
    return shutil.disk_usage(_existing(path)).free


def files_in(path: Path) -> list[Path]:
    """Return a file itself, or all files below a folder, by name."""
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; of a link its own few."""
    return sum(facts.st_size for facts in _facts_of(path, Path.lstat))


def _facts_of(path: Path, look: Callable[[Path], os.stat_result]) -> list[os.stat_result]:
    """Return what a file, or each below a folder, is.

    Not of what another process deletes meanwhile, nor of what may not be looked at.
    """

    def fail(error: OSError) -> None:
        if not isinstance(error, (FileNotFoundError, PermissionError)):
            raise error

    is_one = path.is_symlink() or path.is_file()
    files = (
        [path]
        if is_one
        else [
            Path(folder, name) for folder, _, names in os.walk(path, onerror=fail) for name in names
        ]
    )
    found = []
    for file in files:
        with suppress(FileNotFoundError, PermissionError):
            found.append(look(file))
    return found


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
    facts = _facts_of(path, Path.stat)
    written = max((fact.st_mtime for fact in facts), default=0.0)
    needed_s = sum(fact.st_size for fact in facts) / UPLOAD_BYTES_S
    return max(0.0, written + needed_s - time.time())


def has_had_time(path: Path) -> bool:
    """Return whether a file or folder was written so long ago that it is uploaded by now."""
    return not upload_left_s(path)

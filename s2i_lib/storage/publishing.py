"""What is on the local disk gets to a Drive that may fail at any moment: whole, or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from s2i_lib.errors import S2iError
from s2i_lib.storage.disk import files_in
from s2i_lib.storage.files import sha256_of
from s2i_lib.storage.removal import remove

COPY_CHUNK = 1 << 22  # 4 MiB


class NotTakenError(S2iError):
    """The Drive holds something else than what was written to it."""


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
    aside = target.with_name(f".{target.name}.old")
    remove(part)
    try:
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
            remove(aside)
            target.rename(aside)
            part.rename(target)
            remove(aside)
        else:
            part.replace(target)
    except (OSError, NotTakenError):
        with suppress(OSError):  # a dead mount takes nothing at all
            if aside.exists() and not target.exists():
                aside.rename(target)
            remove(part)  # on a full Drive it would keep the room that smaller files wait for
        raise
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

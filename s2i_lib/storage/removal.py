"""Deleting for good: the space is free at once, and a folder is whole under its name or gone."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path


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

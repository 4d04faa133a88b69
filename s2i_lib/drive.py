"""Where everything that lasts is kept: one folder, on Google Drive in Colab, else beside you."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

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


def open_drive(root: str | Path | None = None) -> Drive:
    """The Drive at ``root``, else at ``$S2I_DRIVE``, else mounted in Colab, else ./s2i_drive."""
    if root is None:
        root = os.environ.get("S2I_DRIVE") or (
            COLAB_MOUNT / FOLDER if COLAB_MOUNT.is_dir() else LOCAL_ROOT
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
        raise InputError(
            f"The folder {path} cannot be written to ({error.strerror or error}). "
            "Name another one, or change its permissions."
        ) from error
    return path


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
        part.unlink(missing_ok=True)
        raise S2iError(
            f"{path} could not be written ({error.strerror or error}). Nothing was changed there. "
            "Free some space or name another folder, then try again."
        ) from error
    return path

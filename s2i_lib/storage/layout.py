"""Say what lies where below one folder, and where that folder is."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from s2i_lib.errors import InputError

COLAB_MOUNT = Path("/content/drive/MyDrive")
FOLDER = "s2i"  # below it
LOCAL_ROOT = Path("s2i_drive")


@dataclass(frozen=True)
class Drive:
    """Layout below ``root``; see drive_layout.md. Nothing is created by asking for a path."""

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
        """Return the folder of the subject that is called ``name`` ("Rex" and "rex" are one)."""
        return self.subjects / folder_name(name)


def folder_name(name: str) -> str:
    """Return ``name`` as a folder: lower case, letters, digits, dashes (mr-whiskers).

    Raises
    ------
    InputError
        When nothing is left of the name.
    """
    slug = _slug(composed(name))
    if not slug:
        raise InputError(
            f"The name {name!r} has no letters or digits, so no folder can be named after it. "
            "Give a name such as Rex."
        )
    return slug


def composed(text: str) -> str:
    """Return ``text`` with composed letters (NFC): macOS takes "é" apart, and it is one name."""
    return unicodedata.normalize("NFC", text)


def older_folder_names(name: str) -> set[str]:
    """Return what older versions called the folder, who did not compose letters."""
    return {_slug(unicodedata.normalize(form, name)) for form in ("NFC", "NFD")} - {""}


def _slug(name: str) -> str:
    return re.sub(r"[^\w]+", "-", name.strip().lower()).strip("-_")


def is_folder(path: Path) -> bool:
    """Return whether there is a folder; False, too, where a mount has died and pathlib raises."""
    try:
        return path.is_dir()
    except OSError:
        return False


def open_drive(root: str | Path | None = None) -> Drive:
    """Return the Drive at ``root``, else ``$S2I_DRIVE``, else Colab's mount, else ./s2i_drive."""
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


def local_folder(drive: Drive, folder: Path) -> Path:
    """Return where on the local disk work for ``folder`` of this Drive is done first.

    Below ``$S2I_LOCAL``, else ~/.cache/s2i; two Drives never share a folder there.
    """
    root = Path(os.environ.get("S2I_LOCAL") or Path.home() / ".cache" / "s2i")
    key = hashlib.sha256(str(drive.root.absolute()).encode()).hexdigest()[:12]
    return root / key / folder.relative_to(drive.root)

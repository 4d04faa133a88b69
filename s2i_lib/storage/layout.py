"""Say what lies where below one folder, and where that folder is."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from s2i_lib.errors import InputError
from s2i_lib.storage.json_file import load_object

COLAB_MOUNT = Path("/content/drive/MyDrive")
FOLDER = "s2i"  # below it
LOCAL_ROOT = Path("s2i_drive")
# Disks and the mounted Drive count a name in bytes, not letters: an emoji has 4, one with a skin
# colour 8. A folder is called .NAME.part while it is written.
NAME_BYTES = 255
FOLDER_BYTES = NAME_BYTES - len("..part")


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
        """Return the folder of the subject that is called ``name`` ("Rex" and "rex" are one).

        Its runs have one of the same name. What an older version wrote, which took a letter's signs
        for gaps between words, keeps its folder.
        """
        folder = self.subjects / folder_name(name)
        older = self.subjects / _older_folder_name(name)
        if older != folder and not is_folder(folder) and _name_on_card(older) == composed(name):
            return older
        return folder


def folder_name(name: str) -> str:
    """Return ``name`` as a folder: lower case, letters, digits, dashes (mr-whiskers).

    One that is too long for a folder is cut, and ends in a key of the whole, so that two names
    never share a folder.

    Raises
    ------
    InputError
        When nothing is left of the name.
    """
    import regex  # the set-up cell, which adds packages that are missing, comes here before

    slug = regex.sub(r"[^\w]+", "-", composed(as_text(name)).strip().lower()).strip("-_")
    if not any(map(str.isalnum, slug)):
        raise InputError(
            f"The name {name!r} has no letters or digits, so no folder can be named after it. "
            "Give a name such as Rex."
        )
    if cut_name(slug, FOLDER_BYTES) == slug:
        return slug
    key = hashlib.sha256(slug.encode()).hexdigest()[:12]
    return f"{cut_name(slug, FOLDER_BYTES - len(key) - 1)}-{key}"


def as_text(name: str) -> str:
    """Return a file's name with "?" for bytes that are no letters, as old zips and disks have."""
    return name.encode(errors="replace").decode()


def cut_name(name: str, most_bytes: int) -> str:
    """Return as much of the beginning of ``name`` as has at most so many bytes in UTF-8."""
    return as_text(name).encode()[:most_bytes].decode(errors="ignore")


def _older_folder_name(name: str) -> str:
    return re.sub(r"[^\w]+", "-", name.strip().lower()).strip("-_")


def _name_on_card(folder: Path) -> str | None:
    """Return the name of the subject whose folder it is, if its card can be read."""
    try:
        return composed(load_object(folder / "subject.json")["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def composed(text: str) -> str:
    """Return ``text`` with composed letters (NFC): macOS takes "é" apart, and it is one name."""
    return unicodedata.normalize("NFC", text)


def older_folder_names(name: str) -> set[str]:
    """Return what older versions called the folder, who did not compose letters."""
    return {_older_folder_name(unicodedata.normalize(form, name)) for form in ("NFC", "NFD")} - {""}


def is_folder(path: Path) -> bool:
    """Return whether there is a folder; False, too, where a mount has died and pathlib raises."""
    return os.path.isdir(path)  # noqa: PTH112


def is_there(path: Path) -> bool:
    """Return whether there is such a file; False, too, where pathlib raises: a name too long."""
    return os.path.exists(path)  # noqa: PTH110


def at_home(path: str | Path) -> Path:
    """Return a path with the home folder for its ~; a file ~x, where pathlib raises, stays."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def open_drive(root: str | Path | None = None) -> Drive:
    """Return the Drive at ``root``, else ``$S2I_DRIVE``, else Colab's mount, else ./s2i_drive."""
    if root is None:
        root = os.environ.get("S2I_DRIVE") or (
            COLAB_MOUNT / FOLDER if is_folder(COLAB_MOUNT) else LOCAL_ROOT
        )
    path = at_home(root)
    if path.exists() and not path.is_dir():
        raise InputError(
            f"{path} is a file, but a folder is needed to keep photos, weights and pictures in. "
            "Name a folder with --drive or the variable S2I_DRIVE."
        )
    return Drive(path)


def cache_root() -> Path:
    """Return this computer's folder for work and caches: ``$S2I_LOCAL``, else ~/.cache/s2i."""
    return Path(os.environ.get("S2I_LOCAL") or Path.home() / ".cache" / "s2i")


def local_folder(drive: Drive, folder: Path) -> Path:
    """Return where on the local disk work for ``folder`` of this Drive is done first.

    Below `cache_root`; two Drives never share a folder there.
    """
    key = hashlib.sha256(str(drive.root.absolute()).encode()).hexdigest()[:12]
    return cache_root() / key / folder.relative_to(drive.root)

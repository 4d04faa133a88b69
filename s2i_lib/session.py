"""The start of a notebook: add what is missing, open the Drive, say where everything is kept."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import s2i_lib
from s2i_lib import drive as drive_module
from s2i_lib.drive import FOLDER, LOCAL_ROOT, Drive, make_folder, open_drive
from s2i_lib.errors import S2iError

log = logging.getLogger(__name__)

REPOSITORY = Path(s2i_lib.__file__).parents[1]
_set_here = ""  # what ``start`` put into S2I_DRIVE: not the user's choice when the cell runs again


def start(say: Callable[[str], None] = print) -> Drive:
    """Make a notebook ready: safe to run twice.

    Returns
    -------
    Drive
        ``$S2I_DRIVE`` if that is set; in Colab the mounted Google Drive, or the runtime's own disk
        where the mount was refused; else s2i_drive beside the project's folders.
    """
    global _set_here
    for line in install_missing():
        say(line)
    if os.environ.get("S2I_DRIVE") == _set_here:
        os.environ.pop("S2I_DRIVE", None)
    drive, where = _open(in_colab="COLAB_RELEASE_TAG" in os.environ)
    make_folder(drive.root)
    if not os.environ.get("S2I_DRIVE"):
        # So that a command in a cell finds the same place.
        os.environ["S2I_DRIVE"] = _set_here = str(drive.root)
    free_gb = shutil.disk_usage(drive.root).free / 1e9
    say(f"{where} {free_gb:.0f} GB are free there.")
    return drive


def _open(*, in_colab: bool) -> tuple[Drive, str]:
    """The Drive, and a sentence that says what it is."""
    if os.environ.get("S2I_DRIVE"):
        drive = open_drive()
        return drive, f"Everything is kept in {drive.root} (the variable S2I_DRIVE says so)."
    if in_colab:
        if (reason := mount_google_drive()) is None:
            drive = open_drive(drive_module.COLAB_MOUNT / FOLDER)
            return drive, f"Everything is kept on your Google Drive, in {drive.root}."
        scratch = drive_module.COLAB_MOUNT.parents[1] / LOCAL_ROOT  # on the runtime's own disk
        return open_drive(scratch), (
            f"Google Drive was not opened ({reason}). Everything is kept in {scratch}, which "
            "is DELETED when this runtime ends: run this cell again and allow the Drive."
        )
    is_clone = (REPOSITORY / "notebooks").is_dir()
    drive = open_drive(REPOSITORY / LOCAL_ROOT if is_clone else LOCAL_ROOT.resolve())
    return drive, (
        f"This is not Colab: everything is kept in {drive.root}, and no Google Drive is needed. "
        "To keep it elsewhere, set the variable S2I_DRIVE."
    )


def mount_google_drive() -> str | None:
    """Ask for the user's Google Drive; None when it is there, else why not, in Colab's words."""
    from google.colab import drive as colab_drive  # only there in Colab

    mountpoint = drive_module.COLAB_MOUNT.parent
    # Colab raises ValueError, NotImplementedError, or its own MessageError when somebody says no.
    try:
        colab_drive.mount(str(mountpoint))
    except Exception as error:
        return f"{type(error).__name__}: {error}".rstrip(".")
    if not drive_module.COLAB_MOUNT.is_dir():
        return f"{drive_module.COLAB_MOUNT} is not there after mounting"
    return None


def missing_requirements() -> list[str]:
    """The lines of requirements.txt whose packages are not installed, in any version."""
    path = REPOSITORY / "requirements.txt"
    if not path.is_file():  # installed as a package: its installer has seen to it
        return []
    missing = []
    for line in path.read_text(encoding="utf-8").splitlines():
        requirement, _, condition = line.partition("#")[0].partition(";")
        match = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
        if not match or ("linux" in condition and sys.platform != "linux"):
            continue
        try:
            importlib.metadata.version(match[1])
        except importlib.metadata.PackageNotFoundError:
            missing.append(requirement.strip())
    return missing


def install_missing() -> list[str]:
    """Install what requirements.txt asks for and is not there; change nothing that is.

    Every installed package is pinned while pip runs, so Colab's torch and widgets stay as they are.

    Raises
    ------
    S2iError
        When pip fails: its last words.
    """
    missing = missing_requirements()
    if not missing:
        return ["All packages are there."]
    installed = {
        f"{dist.metadata['Name']}=={dist.version}"
        for dist in importlib.metadata.distributions()
        if dist.metadata["Name"] and "+" not in dist.version
    }
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
        pins.write("\n".join(sorted(installed)))
        pins.flush()
        command = [sys.executable, "-m", "pip", "install", "--quiet", "-c", pins.name, *missing]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        last = " ".join(done.stderr.strip().splitlines()[-3:])
        raise S2iError(
            f"These packages are missing and could not be installed: {', '.join(missing)}. pip "
            f"says: {last}. Check the network, then run this cell again."
        )
    return [f"Installed what was missing: {', '.join(missing)}."]

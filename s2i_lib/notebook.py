"""The start of a notebook: open the Drive, add what is missing, say what there is to work with."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

import s2i_lib
from s2i_lib.errors import S2iError
from s2i_lib.storage import layout
from s2i_lib.storage.disk import GIB, free_bytes
from s2i_lib.storage.files import make_folder
from s2i_lib.storage.layout import FOLDER, LOCAL_ROOT, Drive, is_folder, open_drive

REPOSITORY = Path(s2i_lib.__file__).resolve().parents[1]  # or site-packages, where it is installed
NEWEST = Path(__file__).with_name("newest.txt")
_set_here = ""  # what ``start`` put into S2I_DRIVE: not the user's choice when the cell runs again


def start(say: Callable[[str], None] = print) -> Drive:
    """Make a notebook ready, and return the Drive: safe to run twice.

    Returns
    -------
    Drive
        ``$S2I_DRIVE`` if that is set; in Colab the mounted Google Drive, or the runtime's own disk
        where the mount was refused; else s2i_drive beside the project's folders.
    """
    global _set_here
    if os.environ.get("S2I_DRIVE") == _set_here:
        os.environ.pop("S2I_DRIVE", None)
    # First of all: this file itself may lie on a Drive whose mount has died.
    drive, where = _open(in_colab="COLAB_RELEASE_TAG" in os.environ)
    make_folder(drive.root)
    # So that `!python -m s2i_lib` in a cell finds the same place and the same library.
    if not os.environ.get("S2I_DRIVE"):
        os.environ["S2I_DRIVE"] = _set_here = str(drive.root)
    paths = [str(REPOSITORY), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    say(install_missing())
    if odd := outside_range() + newer_than_tested():
        say(
            f"Found versions that this was not tested with: {'; '.join(odd)}. They stay as they "
            "are, and most likely work. Where something fails, look here first."
        )
    say(where)
    rows = overview(drive)
    width = max(map(len, rows))
    say("\n".join(f"{name:{width}}  {what}" for name, what in rows.items()))
    return drive


def overview(drive: Drive) -> dict[str, str]:
    """Return what a notebook has to work with: GPU, CPU, versions, room on the Drive, the model."""
    import psutil
    import torch

    from s2i_lib.models.registry import choose_for_machine
    from s2i_lib.speech.transcribe import best_model

    gpu = "none"
    if torch.cuda.is_available():
        free, total = (size / GIB for size in torch.cuda.mem_get_info())
        gpu = f"{torch.cuda.get_device_name()}, {total:.1f} GiB of memory, {free:.1f} free"
    shown = ("torch", "diffusers", "transformers", "numpy", "ipywidgets")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in shown]
    base, why = choose_for_machine()
    return {
        "GPU": gpu,
        "CPU": f"{os.cpu_count()} cores, {psutil.virtual_memory().total / GIB:.0f} GiB of memory",
        "Versions": ", ".join([f"Python {platform.python_version()}", *versions]),
        "Drive": f"{drive.root}, {free_bytes(drive.root) / 1e9:.0f} GB free",
        "Model": f"auto takes {base.name}, since {why}",
        "Whisper": f"{best_model()}, or the best one that can be had",
        "Scorer": f"{base.name}/scorer, ships with it" if base.folder else f"{base.scorer}",
    }


def _open(*, in_colab: bool) -> tuple[Drive, str]:
    """Return the Drive, and a sentence that says what it is."""
    if os.environ.get("S2I_DRIVE"):
        drive = open_drive()
        is_googles = in_colab and layout.COLAB_MOUNT in drive.root.absolute().parents
        # Without the mount the runtime's own disk would be written to, and be gone with it.
        if is_googles and (reason := mount_google_drive()):
            raise S2iError(
                f"S2I_DRIVE says that all is kept in {drive.root}, on Google Drive, which was not "
                f"opened ({reason}). Run this cell again and allow the Drive, or take the variable "
                "away."
            )
        return drive, f"Everything is kept in {drive.root} (the variable S2I_DRIVE says so)."
    if in_colab:
        if (reason := mount_google_drive()) is None:
            drive = open_drive(layout.COLAB_MOUNT / FOLDER)
            return drive, f"Everything is kept on your Google Drive, in {drive.root}."
        scratch = layout.COLAB_MOUNT.parents[1] / LOCAL_ROOT  # on the runtime's own disk
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
    """Ask for the user's Google Drive; None when it is there, else why not, in Colab's words.

    One whose mount has died is mounted again: Colab unmounts what is left of it.
    """
    if is_folder(layout.COLAB_MOUNT):
        return None
    from google.colab import drive as colab_drive  # only there in Colab

    mountpoint = layout.COLAB_MOUNT.parent
    # Colab raises ValueError, NotImplementedError, or its own MessageError when somebody says no.
    try:
        colab_drive.mount(str(mountpoint))
    except Exception as error:
        return f"{type(error).__name__}: {error}".rstrip(".")
    if not is_folder(layout.COLAB_MOUNT):
        return f"{layout.COLAB_MOUNT} is not there after mounting"
    return None


def finish_upload(drive: Drive, say: Callable[[str], None] = print) -> bool:
    """Wait until Google has all that was written to a mounted Google Drive; elsewhere do nothing.

    What is written there is acknowledged by a cache on Colab's machine, and what was not uploaded
    is gone with that. Colab can only flush by unmounting, so the Drive is mounted again afterwards.

    Returns
    -------
    bool
        Whether all that was written is where it lasts.
    """
    from s2i_lib.training.run import drop_finished

    mydrive = layout.COLAB_MOUNT
    if "COLAB_RELEASE_TAG" not in os.environ or mydrive not in drive.root.parents:
        return True
    from google.colab import drive as colab_drive

    say("Still uploading: leave this tab open until this cell says that all is on Google Drive.")
    failure = ""
    try:
        colab_drive.flush_and_unmount()
    except Exception as error:  # ValueError, or whatever the system says
        failure = f"{type(error).__name__}: {error}".rstrip(".")
    if reason := mount_google_drive():
        say(f"The Drive could not be mounted again ({reason}): run the set-up cell again.")
    if failure:
        say(
            f"Colab could not say that all is uploaded ({failure}). Leave this tab open for half "
            "an hour, and look at drive.google.com whether the weights are there."
        )
        return False
    if reason is None and (freed := drop_finished(drive, is_uploaded=True)):
        say(f"Deleted what finished runs would go on from: {freed / 1e9:.1f} GB.")
    say("All is on Google Drive now. This tab may be closed.")
    return True


def requirements() -> list[tuple[Requirement, str | None]]:
    """Return what this system needs, each with the version that is installed, or None.

    With the extra "cuda" where there is such a GPU. Of an installed package its own list counts,
    and of a folder, such as a clone or a copy on the Drive, requirements.txt.
    """
    extra = "cuda" if _has_cuda() else ""
    return [
        (one, _installed_version(one.name))
        for one in map(Requirement, _listed_requirements())
        if one.marker is None or one.marker.evaluate({"extra": extra})
    ]


def _listed_requirements() -> list[str]:
    listed = REPOSITORY / "requirements.txt"
    if listed.is_file():
        return _lines(listed)
    try:
        return importlib.metadata.requires("s2i_lib") or []
    except importlib.metadata.PackageNotFoundError:
        return []  # somebody has copied the library alone


def _lines(path: Path) -> list[str]:
    """Return the lines of a list of packages, without comments."""
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line]


def _has_cuda() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False  # it is among what is missing
    import torch

    return torch.cuda.is_available()


def missing_requirements() -> list[str]:
    """Return what is needed and is not installed, in any version."""
    return [str(one).partition(";")[0] for one, version in requirements() if version is None]


def outside_range() -> list[str]:
    """Return what is installed in a version older than what is needed."""
    return [
        f"{one.name} {version}, expected {one.specifier}"
        for one, version in requirements()
        if version and not one.specifier.contains(version, prereleases=True)
    ]


def newer_than_tested() -> list[str]:
    """Return what is installed of a later release line than the tests have seen (newest.txt).

    A line is what may break by semantic versioning: 5 of 5.24.0, and 0.42 of 0.42.1.
    """
    tested = dict(line.split("==") for line in _lines(NEWEST))
    found = {name: _installed_version(name) for name in tested}
    return [
        f"{name} {version}, tested up to {tested[name]}"
        for name, version in found.items()
        if version and _is_valid(version) and _release_line(version) > _release_line(tested[name])
    ]


def _release_line(version: str) -> tuple[int, ...]:
    found = Version(version)
    return (found.major,) if found.major else (0, found.minor)


def _installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def install_missing() -> str:
    """Install what is needed and not there, change nothing that is, and say what was done.

    Every installed package is pinned while pip runs, so Colab's torch and widgets stay as they are.

    Raises
    ------
    S2iError
        When pip fails: its last words.
    """
    missing = missing_requirements()
    if not missing:
        return "All packages are there."
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
        pins.write("\n".join(installed_pins()))
        pins.flush()
        command = [sys.executable, "-m", "pip", "install", "--quiet", "-c", pins.name, *missing]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        last = " ".join(done.stderr.strip().splitlines()[-3:])
        raise S2iError(
            f"These packages are missing and could not be installed: {', '.join(missing)}. pip "
            f"says: {last}. Check the network, then run this cell again."
        )
    return f"Installed what was missing: {', '.join(missing)}."


def installed_pins() -> list[str]:
    """Return an exact pin for every package in the version that is imported, the first on the path.

    Colab's path also has the system's older copies of some: two pins of one name have no solution.
    """
    found: dict[str, str] = {}
    for one in importlib.metadata.distributions():
        if name := one.metadata["Name"]:
            found.setdefault(canonicalize_name(name), one.version)
    return sorted(f"{name}=={version}" for name, version in found.items() if _is_valid(version))


def _is_valid(version: str) -> bool:
    """Return whether pip can read it, unlike 0.1.43ubuntu1 of the system's own packages."""
    try:
        Version(version)
    except (InvalidVersion, TypeError):
        return False
    return True

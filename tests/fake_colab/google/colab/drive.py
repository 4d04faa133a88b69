"""google.colab.drive: the same checks and the same errors, over a plain folder."""

import contextlib
import os
import subprocess
from pathlib import Path

from google.colab.errors import MessageError


def mount(mountpoint, force_remount=False, timeout_ms=120000, readonly=False):
    if " " in mountpoint:
        raise ValueError("Mountpoint must not contain a space.")
    path = Path(mountpoint).expanduser()
    if os.path.isdir(path / "MyDrive") and not force_remount:  # noqa: PTH112
        print(
            f"Drive already mounted at {mountpoint}; to attempt to forcibly remount, "
            f'call drive.mount("{mountpoint}", force_remount=True).'
        )
        return
    # Google's own calls `umount -f` here: what a dead mount leaves would be in the way.
    with contextlib.suppress(FileNotFoundError):
        subprocess.run(["fusermount3", "-u", "-z", path], stderr=subprocess.DEVNULL, check=False)
    if path.is_symlink():
        raise ValueError("Mountpoint must not be a symlink")
    if path.is_dir() and any(path.iterdir()):
        raise ValueError("Mountpoint must not already contain files")
    if path.exists() and not path.is_dir():
        raise ValueError("Mountpoint must either be a directory or not exist")
    if not path.parent.exists():
        raise ValueError("Mountpoint must be in a directory that exists")
    answer = os.environ.get("FAKE_COLAB_MOUNT", "allow")
    if answer == "refuse":
        raise MessageError("Error: credential propagation was unsuccessful")
    if answer == "hang":  # the real one waits timeout_ms first
        raise ValueError(
            "mount failed: timeout during initial read of root folder; for more info: "
            "https://research.google.com/colaboratory/faq.html#drive-timeout"
        )
    path.mkdir(exist_ok=True)
    if kept := os.environ.get("FAKE_COLAB_MYDRIVE"):  # what an earlier session left there
        (path / "MyDrive").symlink_to(kept)
    else:
        (path / "MyDrive").mkdir()
    print(f"Mounted at {mountpoint}")


def flush_and_unmount(timeout_ms=24 * 60 * 60 * 1000):
    print("Drive not mounted, so nothing to flush and unmount.")

"""google.colab.drive: the same checks and errors, over a plain folder or the twin's Drive.

$FAKE_COLAB_CACHE names a folder, with MyDrive in it: then a mount is tests/twin/google_drive.py
over it, with $FAKE_COLAB_CLOUD as its cloud and what $FAKE_COLAB_DRIVE says ("--quota 15000000").
Its process lives on when the kernel has ended, as Colab's does, until somebody unmounts it.
"""

import contextlib
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

from google.colab.errors import MessageError

TWIN = Path(__file__).parents[3] / "twin" / "google_drive.py"


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
    if cache := os.environ.get("FAKE_COLAB_CACHE"):
        _mount_twin(Path(cache), path)
    elif kept := os.environ.get("FAKE_COLAB_MYDRIVE"):  # what an earlier session left there
        (path / "MyDrive").symlink_to(kept)
    else:
        (path / "MyDrive").mkdir()
    print(f"Mounted at {mountpoint}")


def _mount_twin(cache, path):
    (cache / "MyDrive").mkdir(parents=True, exist_ok=True)
    cloud = Path(os.environ["FAKE_COLAB_CLOUD"])
    cloud.mkdir(exist_ok=True)
    control = cache.with_suffix(".fault")
    control.touch()
    more = os.environ.get("FAKE_COLAB_DRIVE", "").split()
    command = [sys.executable, TWIN, cache, path, control, "--cloud", cloud, *more]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # nobody waits for its end
    process = subprocess.Popen(command, start_new_session=True, **quiet)
    while not os.path.ismount(path):
        if process.poll() is not None:
            raise ValueError("mount failed")
        time.sleep(0.05)


def flush_and_unmount(timeout_ms=24 * 60 * 60 * 1000):
    path = Path(os.environ["FAKE_COLAB_CONTENT"], "drive")
    if not os.path.ismount(path):
        print("Drive not mounted, so nothing to flush and unmount.")
        return
    if os.environ.get("FAKE_COLAB_FLUSH") == "fails":
        raise ValueError("flush_and_unmount failed")
    subprocess.run(["fusermount3", "-u", path], check=True)
    folders = (Path(os.environ[f"FAKE_COLAB_{name}"]) for name in ("CACHE", "CLOUD"))
    runpy.run_path(str(TWIN))["upload"](*folders)

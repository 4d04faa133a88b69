"""A Google Drive as Colab mounts it: a FUSE file system, a cloud behind it, and faults.

    python tests/twin/google_drive.py CACHE MOUNTPOINT CONTROL [--cloud FOLDER] [--quota BYTES]
                                      [--taken BYTES] [--at-once BYTES] [--bytes-a-second RATE]

CONTROL is a file with the name of the fault that is on, or nothing. What it does, and from where:

- Its type is fuse.drive; ``flush_and_unmount`` uploads what waits (googlecolab/colabtools,
  google/colab/drive.py: "type fuse.drive", "--push_changes_and_quit").
- Data is first written to the machine's own disk and uploaded afterwards; what was not uploaded is
  gone with the machine (colabtools issues 659, 287). Small files are there at once, while 3.1 GB
  take 24 minutes and 5 GB more than 30 (issues 2607, 287): files above --at-once wait as long as
  --bytes-a-second says, 0 being for ever, as the fault "uploads stall" is.
- What becomes of deleting and renaming meanwhile is written nowhere. The worst is taken: they are
  done in the cloud at once, so that what a file took the place of is gone before it is there.
- A free account has 15 GB for mail, photos and files, and what lies in the bin counts
  (support.google.com/drive/answer/6374270): writes beyond it fail with ENOSPC, and a file that is
  deleted while it has content still takes its room.
- A mount may die in the middle (errno 107: colabtools issue 5970), and many new files in a short
  time are refused as "quota exceeded" although there is room ("burst of N": N in 10 seconds).

Not known: whether the real statfs counts what is not uploaded yet; in which order it uploads.
"""

import argparse
import contextlib
import errno
import os
import shutil
import threading
import time
from pathlib import Path

import mfusepy

BURST_S = 10.0
BLOCK = 512


def size_of(folder) -> int:
    """Bytes below ``folder``; what goes away meanwhile counts for nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.path.getsize(os.path.join(place, name))
    return total


def upload(cache: Path, cloud: Path) -> None:
    """All that waits: the cloud is what the cache is."""
    shutil.rmtree(cloud)
    shutil.copytree(cache, cloud)


class GoogleDrive(mfusepy.Operations):
    use_ns = True

    def __init__(self, chosen: argparse.Namespace):
        self.root, self.control, self.cloud = chosen.cache, Path(chosen.control), chosen.cloud
        self.quota, self.taken = chosen.quota, chosen.taken
        self.at_once, self.rate = chosen.at_once, chosen.bytes_a_second
        self._bin = 0
        self._created: list[float] = []
        self._waiting: set[str] = set()
        self._open: dict[int, str] = {}
        self._lock = threading.RLock()  # of the cloud
        if self.cloud:
            threading.Thread(target=self.keep_uploading, daemon=True).start()

    # ---- The cloud ----

    def keep_uploading(self):
        while True:
            time.sleep(0.02)
            with self._lock:
                for path in sorted(self._waiting):
                    with contextlib.suppress(OSError):  # renamed or deleted meanwhile
                        self.upload_if_due(path)

    def upload_if_due(self, path):
        if path in self._open.values():
            return
        try:
            found = os.stat(self.root + path)
        except FileNotFoundError:
            self._waiting.discard(path)
            return
        is_small = found.st_size <= self.at_once
        rate = 0 if self.fault() == "uploads stall" else self.rate
        if is_small or (rate and time.time() - found.st_mtime >= found.st_size / rate):
            part = self.cloud + path + ".uploading"
            os.makedirs(os.path.dirname(part), exist_ok=True)
            shutil.copy2(self.root + path, part)
            os.replace(part, self.cloud + path)
            self._waiting.discard(path)

    def wait_for_upload(self, path):
        if self.cloud:
            with self._lock:
                self._waiting.add(path)

    def in_cloud(self, function, *paths):
        """Done there at once, if it is there."""
        if self.cloud:
            with contextlib.suppress(OSError):
                function(*(self.cloud + path for path in paths))

    def rename_in_cloud(self, old, new):
        if not self.cloud:
            return
        with self._lock:
            if os.path.exists(self.cloud + old):
                self.in_cloud(os.replace, old, new)
            else:  # what it takes the place of has gone there
                self.in_cloud(os.unlink, new)
            moved = {p for p in self._waiting if p == old or p.startswith(old + "/")}
            self._waiting -= moved
            self._waiting |= {new + path[len(old) :] for path in moved}

    # ---- Room ----

    def free(self) -> int:
        return max(0, self.quota - self.taken - self._bin - size_of(self.root))

    def throw_away(self, path):
        with contextlib.suppress(FileNotFoundError):
            self._bin += os.path.getsize(self.root + path)

    def refuse_burst(self):
        fault = self.fault()
        if fault.startswith("burst of "):
            now = time.monotonic()
            self._created = [t for t in self._created if now - t < BURST_S] + [now]
            if len(self._created) > int(fault.split()[-1]):
                raise mfusepy.FuseOSError(errno.EDQUOT)

    # ---- What a file system does ----

    def fault(self) -> str:
        return self.control.read_text().strip()

    def place(self, path: str) -> str:
        if self.fault() == "dead mount":
            raise mfusepy.FuseOSError(errno.ENOTCONN)
        return self.root + path

    def getattr(self, path, fh=None):
        found = os.lstat(self.place(path))
        names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid")
        times = {
            f"st_{kind}": getattr(found, f"st_{kind}_ns") for kind in ("atime", "mtime", "ctime")
        }
        return {name: getattr(found, name) for name in names} | times

    def readdir(self, path, fh):
        if self.fault() == f"cannot list {os.path.basename(path)}":
            raise mfusepy.FuseOSError(errno.EIO)
        return [".", "..", *os.listdir(self.place(path))]

    def statfs(self, path):
        found = os.statvfs(self.place(path))
        names = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_files", "f_ffree", "f_frsize")
        facts = {name: getattr(found, name) for name in names}
        if self.quota:
            free = self.free() // BLOCK
            facts |= {"f_bsize": BLOCK, "f_frsize": BLOCK, "f_blocks": self.quota // BLOCK}
            facts |= {"f_bavail": free, "f_bfree": free}
        return facts

    def mkdir(self, path, mode):
        os.mkdir(self.place(path), mode)
        self.in_cloud(os.mkdir, path)

    def rmdir(self, path):
        os.rmdir(self.place(path))
        self.in_cloud(shutil.rmtree, path)

    def unlink(self, path):
        self.throw_away(path)
        os.unlink(self.place(path))
        self.in_cloud(os.unlink, path)

    def rename(self, old, new):
        if self.fault() == "rename fails":
            raise mfusepy.FuseOSError(errno.EIO)
        if os.path.isfile(self.place(new)):
            self.throw_away(new)
        with self._lock:
            os.rename(self.place(old), self.place(new))
            self.rename_in_cloud(old, new)

    def truncate(self, path, length, fh=None):
        os.truncate(self.place(path), length)
        self.wait_for_upload(path)

    def chmod(self, path, mode):
        os.chmod(self.place(path), mode)

    def utimens(self, path, times=None):
        os.utime(self.place(path), ns=times)

    def create(self, path, mode, fi=None):
        self.refuse_burst()
        return self.opened(
            path, os.open(self.place(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)
        )

    def open(self, path, flags):
        return self.opened(path, os.open(self.place(path), flags))

    def opened(self, path, fh):
        self._open[fh] = path
        return fh

    def read(self, path, size, offset, fh):
        self.place(path)
        return os.pread(fh, size, offset)

    def write(self, path, data, offset, fh):
        self.place(path)
        fault = self.fault()
        if fault.startswith("room for "):  # so many files in a folder
            is_full = len(os.listdir(os.path.dirname(self.place(path)))) > int(fault.split()[-1])
            fault = "full" if is_full else ""
        if self.quota:
            growth = offset + len(data) - os.fstat(fh).st_size
            fault = "full" if growth > 0 and growth > self.free() else fault
        if fault == "full":
            raise mfusepy.FuseOSError(errno.ENOSPC)
        if fault == "io error":
            raise mfusepy.FuseOSError(errno.EIO)
        if fault == "slow":
            time.sleep(0.2)
        if fault == "cut short":  # the worst kind: it says that all is well
            os.pwrite(fh, data[: len(data) // 2], offset)
            return len(data)
        self.wait_for_upload(path)
        return os.pwrite(fh, data, offset)

    def flush(self, path, fh):
        return 0

    def fsync(self, path, datasync, fh):
        self.place(path)
        os.fsync(fh)

    def release(self, path, fh):
        self._open.pop(fh, None)
        os.close(fh)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("cache", "mountpoint", "control"):
        parser.add_argument(name)
    parser.add_argument("--cloud", default="", help="a folder; without it nothing is uploaded")
    parser.add_argument("--quota", type=int, default=0, help="bytes; 0: as much as the disk has")
    parser.add_argument("--taken", type=int, default=0, help="bytes of mail and photos")
    parser.add_argument("--at-once", type=int, default=0, help="bytes: larger files wait")
    parser.add_argument("--bytes-a-second", type=float, default=0.0, help="of those that wait")
    chosen = parser.parse_args()
    mfusepy.FUSE(
        GoogleDrive(chosen), chosen.mountpoint, foreground=True, nothreads=True, subtype="drive"
    )

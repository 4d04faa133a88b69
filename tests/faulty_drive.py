"""A Drive that misbehaves: a FUSE file system that passes through and fails when it is told to.

    python tests/faulty_drive.py ROOT MOUNTPOINT CONTROL

CONTROL is a file with the name of the fault that is on, or nothing.
"""

import errno
import os
import sys
import time
from pathlib import Path

import mfusepy


class FaultyDrive(mfusepy.Operations):
    use_ns = True

    def __init__(self, root: str, control: str):
        self.root, self.control = root, Path(control)

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
        return [".", "..", *os.listdir(self.place(path))]

    def statfs(self, path):
        found = os.statvfs(self.place(path))
        names = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_files", "f_ffree", "f_frsize")
        return {name: getattr(found, name) for name in names}

    def mkdir(self, path, mode):
        os.mkdir(self.place(path), mode)

    def rmdir(self, path):
        os.rmdir(self.place(path))

    def unlink(self, path):
        os.unlink(self.place(path))

    def rename(self, old, new):
        if self.fault() == "rename fails":
            raise mfusepy.FuseOSError(errno.EIO)
        os.rename(self.place(old), self.place(new))

    def truncate(self, path, length, fh=None):
        os.truncate(self.place(path), length)

    def chmod(self, path, mode):
        os.chmod(self.place(path), mode)

    def utimens(self, path, times=None):
        os.utime(self.place(path), ns=times)

    def create(self, path, mode, fi=None):
        return os.open(self.place(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)

    def open(self, path, flags):
        return os.open(self.place(path), flags)

    def read(self, path, size, offset, fh):
        self.place(path)
        return os.pread(fh, size, offset)

    def write(self, path, data, offset, fh):
        self.place(path)
        fault = self.fault()
        if fault.startswith("room for "):  # so many files in a folder
            is_full = len(os.listdir(os.path.dirname(self.place(path)))) > int(fault.split()[-1])
            fault = "full" if is_full else ""
        if fault == "full":
            raise mfusepy.FuseOSError(errno.ENOSPC)
        if fault == "io error":
            raise mfusepy.FuseOSError(errno.EIO)
        if fault == "slow":
            time.sleep(0.2)
        if fault == "cut short":  # the worst kind: it says that all is well
            os.pwrite(fh, data[: len(data) // 2], offset)
            return len(data)
        return os.pwrite(fh, data, offset)

    def flush(self, path, fh):
        return 0

    def fsync(self, path, datasync, fh):
        self.place(path)
        os.fsync(fh)

    def release(self, path, fh):
        os.close(fh)


if __name__ == "__main__":
    root, mountpoint, control = sys.argv[1:]
    mfusepy.FUSE(FaultyDrive(root, control), mountpoint, foreground=True, nothreads=True)

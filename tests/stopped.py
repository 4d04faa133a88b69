"""The command line, stopped at every step that it takes on the disk.

What a process leaves that is killed with SIGKILL is what the disk holds at that moment. So one run
of a command shows all that a kill can leave: before each change of the disk, the folder in which it
works is copied; and once more with what was written since the last change cut in half, as by a kill
in the midst of writing. `run` can also be killed in earnest at a step, which shows that a copy and
a kill are one.

The processes come from a fork server (`fork_server.py`), so that a hundred of them need not load
the libraries each.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from fork_server import processes

from s2i_lib.cli import main as command_line

CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.link")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
AGE_S = 2 * 3600  # nobody is at work any more on what is so old


def is_change(root: Path, event: str, args: tuple) -> bool:
    """Return whether an event of Python's audit changes something on the disk below ``root``."""
    if event == "open":
        is_change = isinstance(args[2], int) and args[2] & WRITING
    else:
        is_change = event in CHANGES
    path = os.fsdecode(args[0]) if is_change and not isinstance(args[0], int) else ""
    return bool(path) and (not path.startswith("/") or path.startswith(str(root)))


class Pauses:
    """An audit hook that waits a little before each change: what others do comes between."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.random = root, random.Random(seed)

    def __call__(self, event: str, args: tuple) -> None:
        if is_change(self.root, event, args):
            time.sleep(self.random.choice((0, 0.001, 0.03)))


class Steps:
    """An audit hook that copies ``root`` to numbered folders in ``copies`` before each change."""

    def __init__(self, root: Path, copies: Path, kill_at: int | None = None) -> None:
        self.root, self.copies, self.kill_at = root, copies, kill_at
        self.number, self.is_busy = 0, False
        self.written: dict[int, tuple[int, int]] = {}
        self.look()

    def __call__(self, event: str, args: tuple) -> None:
        if self.is_busy or not is_change(self.root, event, args):
            return
        self.is_busy = True
        self.note()
        self.is_busy = False

    def note(self) -> None:
        """Keep what a kill would leave now, and what it would have left while this was written."""
        copy = self.copies / f"{self.number:03}"
        shutil.copytree(self.root, copy, symlinks=True)
        for path in self.look():
            half = self.copies / f"{self.number:03}-{path.name}"
            shutil.copytree(self.root, half, symlinks=True)
            os.truncate(half / path.relative_to(self.root), path.stat().st_size // 2)
        if self.number == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.number += 1

    def look(self) -> list[Path]:
        """Return the files that have been written since the last look; a new name is none."""
        changed = []
        for path in self.root.rglob("*"):
            if path.is_file() and not path.is_symlink():
                facts = path.stat()
                now = (facts.st_size, facts.st_mtime_ns)
                if self.written.get(facts.st_ino) != now and facts.st_size > 1:
                    changed.append(path)
                self.written[facts.st_ino] = now
        return changed


def work(root: Path, words: list[str], log: Path, hook: Callable | None) -> None:
    """Run a command below ``root``, in this process, which ends with it."""
    torch.set_num_threads(1)
    sys.stdout = sys.stderr = log.open("a")  # pytest has put its own there
    logging.getLogger().handlers.clear()
    os.environ |= {"S2I_DRIVE": str(root / "drive"), "S2I_LOCAL": str(root / "local")}
    tempfile.tempdir = str(root / "tmp")
    os.chdir(root)
    sys.argv = ["s2i_lib", *words]
    if hook:
        sys.addaudithook(hook)
    try:
        status = command_line.main()
    except SystemExit as stop:
        status = stop.code or 0
    except BaseException:
        traceback.print_exc()
        status = 70
    sys.stdout.flush()
    os._exit(int(status))


class Shell:
    """Runs commands in processes of their own, in one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log, self.copies = root.with_name("log"), root.with_name("copies")
        for folder in (root / "drive", root / "tmp"):
            folder.mkdir(parents=True)

    def start(self, *words, hook: Callable | None = None):
        options = (self.root, list(map(str, words)), self.log, hook)
        process = processes().Process(target=work, args=options)
        process.start()
        return process

    def run(self, *words, expected: int = 0, hook: Callable | None = None) -> str:
        """Run a command to its end; return all that was said so far."""
        process = self.start(*words, hook=hook)
        process.join(600)
        said = self.log.read_text()
        assert process.exitcode == expected, said[-3000:]
        return said

    def run_two(self, *commands: Sequence) -> list[int]:
        """Run commands at the same time, each slowed down at its steps; return how each ended."""
        pauses = [Pauses(self.root, number) for number in range(len(commands))]
        both = [self.start(*words, hook=hook) for words, hook in zip(commands, pauses, strict=True)]
        for process in both:
            process.join(600)
        assert "Traceback" not in self.log.read_text(), self.log.read_text()[-3000:]
        return sorted(process.exitcode for process in both)

    def stops(self, *words, every: int = 1) -> Iterator[Path]:
        """Have the disk as a kill would leave it at every so many-th step of a command, in turn.

        What is there is two hours old then. At the end it is as the command leaves it, done.
        """
        self.copies.mkdir()
        self.run(*words, hook=Steps(self.root, self.copies))
        done = self.root.rename(self.root.with_name("done"))
        for copy in sorted(self.copies.iterdir())[::every]:
            shutil.rmtree(self.root, ignore_errors=True)
            copy.rename(self.root)
            make_old(self.root)
            yield copy
        shutil.rmtree(self.root)
        done.rename(self.root)
        shutil.rmtree(self.copies)

    def kill(self, number: int, *words) -> Path:
        """Kill a command at a step; return the copy that was made of the disk before."""
        self.copies.mkdir()
        self.run(*words, hook=Steps(self.root, self.copies, number), expected=-signal.SIGKILL)
        return self.copies / f"{number:03}"


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()}  # fmt: skip


def make_old(folder: Path) -> None:
    then = time.time() - AGE_S
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (then, then), follow_symlinks=False)


def check_whole(folder: Path, kinds: dict[str, Callable[[Path], object]]) -> None:
    """Open each file that is not hidden, or below something hidden, by what reads its kind."""
    for path in folder.rglob("*"):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not is_hidden and path.suffix in kinds:
            kinds[path.suffix](path)

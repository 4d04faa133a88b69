"""A busy laptop: a training step, a picture and a clip, alone and beside busy programs.

    python -m benchmarks.busy            # two minutes on two cores
    python -m benchmarks.busy --write    # into benchmarks/README.md

Each way to use the processors is a process of its own, as OpenMP reads its variables when it is
loaded. All have the same model, and work in turn, so that a machine that others use is so for all.
A busy program is a loop that never waits. Where other people's programs run, too, start this with
``nice -n -15`` (as root): what it starts inherits that, so that only they share the processors.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.hearing import README
from s2i_lib.storage.layout import Drive

MARKS = ("<!-- a busy laptop: made by benchmarks/busy.py -->", "<!-- end of a busy laptop -->")
N_PROCESSORS = os.cpu_count() or 1
WAYS = {
    "all processors": {"OMP_NUM_THREADS": f"{N_PROCESSORS}", "GOMP_SPINCOUNT": "300000"},
    "all, short waits": {"OMP_NUM_THREADS": f"{N_PROCESSORS}", "GOMP_SPINCOUNT": "10000"},
    "s2i_lib's": {},
}
"""The first is what torch and CTranslate2 do by themselves: OpenMP's own number of spins."""
Work = Callable[[], object]


# ---- What is measured: each returns what does it once ----


def training_step(drive: Drive) -> Work:
    """A step of the pocket model as its recipe for an animal has it; the photos say nothing."""
    import torch
    from accelerate import Accelerator

    from s2i_lib.models.loading import load
    from s2i_lib.training.dreambooth import train
    from s2i_lib.training.recipes import AUTO, RECIPES, want
    from s2i_lib.training.train_state import make_train_state
    from s2i_lib.training.trial import trial_data

    pipe = load("pocket", drive=drive, device=torch.device("cpu"), dtype=torch.float32).pipeline
    options = want(RECIPES["pocket"], AUTO, "animal", 5, True, {}).options
    data, state = trial_data(pipe, options), make_train_state(pipe, options)
    accelerator = Accelerator(cpu=True)

    def step() -> None:
        one_more = replace(options, steps=state.step + 1)
        train(state, data, one_more, accelerator, lambda number, losses: None)

    return step


def picture(drive: Drive) -> Work:
    """A picture of the pocket model, 20 steps."""
    from s2i_lib.drawing.draw import draw
    from s2i_lib.models.loading import load

    model = load("pocket", drive=drive)
    return lambda: draw(model, "a red car on a yellow background")


def clip(drive: Drive, engine: str = "faster-whisper") -> Work:
    """The sample clip, 3 s, heard by tiny.en."""
    import s2i_lib
    from s2i_lib.speech.transcribe import HearOptions, Listener

    listener = Listener(HearOptions(engine=engine, model="tiny.en"), drive).load()
    recording = Path(s2i_lib.__file__).parent / "samples" / "red_car.wav"
    return lambda: listener.hear(recording)


def clip_by_torch(drive: Drive) -> Work:
    """The same, heard by openai-whisper."""
    return clip(drive, "openai-whisper")


WORKS = {
    "training step": training_step,
    "picture": picture,
    "clip, faster-whisper": clip,
    "clip, openai-whisper": clip_by_torch,
}


# ---- The measurement ----


class Worker:
    """A process that works in one way when it is asked."""

    def __init__(self, work: str, way: dict[str, str], folder: str):
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        kept = dict(os.environ)
        for name in ("OMP_NUM_THREADS", "GOMP_SPINCOUNT"):  # s2i_lib has set them in this process
            os.environ.pop(name, None)
        os.environ.update(way)
        try:
            context.Process(target=_serve, args=(theirs, work, folder), daemon=True).start()
        finally:
            os.environ.clear()
            os.environ.update(kept)

    def wait(self) -> list[float]:
        """Return the seconds of each time that it worked."""
        return self._pipe.recv()

    def ask(self, seconds: float) -> list[float]:
        """Have it work for so long, but twice at least; the seconds of each time."""
        self._pipe.send(seconds)
        return self.wait()


def _serve(pipe: Connection, work: str, folder: str) -> None:
    do = WORKS[work](Drive(Path(folder)))
    asked = 0.0  # the first calls warm up
    while True:
        began, taken = time.perf_counter(), []
        while len(taken) < 2 or time.perf_counter() - began < asked:
            start = time.perf_counter()
            do()
            taken.append(time.perf_counter() - start)
        pipe.send(taken)
        try:
            asked = pipe.recv()
        except EOFError:  # who asked has ended
            return


@contextmanager
def busy_programs(count: int) -> Iterator[None]:
    """Have ``count`` programs beside this one that never wait."""
    programs = [subprocess.Popen([sys.executable, "-c", "while 1: 0"]) for _ in range(count)]
    time.sleep(0.5)
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def measure(work: str, n_busy: int, rounds: int, seconds: float) -> dict[str, tuple[float, float]]:
    """Return the median seconds of a work alone and beside busy programs, for each of the ways."""
    alone: dict[str, list[float]] = {name: [] for name in WAYS}
    beside: dict[str, list[float]] = {name: [] for name in WAYS}
    with TemporaryDirectory() as folder:
        workers = {name: Worker(work, way, folder) for name, way in WAYS.items()}
        for worker in workers.values():
            worker.wait()
        for _ in range(rounds):
            for name, worker in workers.items():
                alone[name] += worker.ask(seconds)
            with busy_programs(n_busy):
                for name, worker in workers.items():
                    beside[name] += worker.ask(seconds)
    return {
        name: (statistics.median(alone[name]), statistics.median(beside[name])) for name in WAYS
    }


def row(work: str, way: str, seconds: tuple[float, float], usual: float) -> str:
    """Make a row of the table, from the seconds alone and beside others; ``usual`` is alone."""
    alone, beside = seconds
    return (
        f"| {work} | {way} | {alone:.3f} | {alone / usual:.2f} | {beside:.3f} | "
        f"{beside / alone:.1f} |"
    )


def table(works: list[str], n_busy: int, rounds: int, seconds: float) -> str:
    """Make the README's table."""
    head = ["", "processors", "alone, s", "of all alone", f"beside {n_busy} busy, s", "of itself"]
    rows = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for work in works:
        found = measure(work, n_busy, rounds, seconds)
        usual, _ = next(iter(found.values()))
        rows += [row(work, name, seconds, usual) for name, seconds in found.items()]
        print("\n".join(rows[-len(found) :]), flush=True)
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"of {', '.join(WORKS)}")
    parser.add_argument("--busy", type=int, default=2, help="programs beside it")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each way and round")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    made = table(options.works or list(WORKS), options.busy, options.rounds, options.seconds)
    if options.write:
        before, rest = README.read_text().split(MARKS[0])
        text, after = rest.split(MARKS[1])
        words = text.split("|", 1)[0]  # what is said above the table stays
        below = text.rsplit("|\n", 1)[1]
        README.write_text(f"{before}{MARKS[0]}{words}{made}\n{below}{MARKS[1]}{after}")


if __name__ == "__main__":
    main()

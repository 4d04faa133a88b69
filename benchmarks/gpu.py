"""What a run takes of a GPU and of main memory: a gauge, the limits of a T4, and a run measured.

benchmarks/gpu_card.sh uses this, and tests/training/test_cuda.py. The base model is what the hub
has: a twin of it (tests/twin) with random weights of the real widths, so that nothing is said of
the pictures.
"""

from __future__ import annotations

import itertools
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:  # a notebook's kernel loads this first and should find nothing else loaded
    from s2i_lib.storage.layout import Drive

GIB = 1024**3
T4_GIB = 14.0  # of the 14.7 that Colab's T4 has, CUDA itself takes half a GiB
HAS_GPU = torch.cuda.is_available()


def own_gib() -> float:
    """Main memory of this process, without what files stand behind, as behind mapped weights."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("RssAnon:")[1].split()[0]) / 2**20


class Gauge:
    """Seconds and peaks by stage: of the GPU's memory, and of this process's own."""

    def __init__(self, stage: str) -> None:
        self.stage, self.is_over = stage, threading.Event()
        self.stages: dict[str, dict[str, float]] = {}
        self.step_stamps: list[tuple[int, float]] = []
        self._since = time.perf_counter()
        if HAS_GPU:
            torch.cuda.reset_peak_memory_stats()
        threading.Thread(target=self._watch_ram, daemon=True).start()

    def enter(self, stage: str) -> None:
        """Note what the stage before took; the same one may go on."""
        self._raise("GPU, GiB", torch.cuda.max_memory_reserved() / GIB if HAS_GPU else 0.0)
        now = time.perf_counter()
        figures = self._figures()
        figures["seconds"] = figures.get("seconds", 0.0) + now - self._since
        self._since = now
        if stage != self.stage:
            self.stage = stage
            if HAS_GPU:
                torch.cuda.reset_peak_memory_stats()

    def note(self, event: str, info: dict) -> None:
        """What ``finetune`` tells."""
        if event == "class_images":
            self.enter("class images, first samples")
        elif event == "samples":
            self.enter("training, samples, saving")
        elif event == "step":
            if HAS_GPU:
                torch.cuda.synchronize()
            self.step_stamps.append((info["lines"][-1]["step"], time.perf_counter()))

    @property
    def seconds_a_step(self) -> float | None:
        """The median; losses are read in tens, and what comes sooner ends at a picture or state."""
        between = [
            (then - now) / (b - a)
            for (a, now), (b, then) in itertools.pairwise(self.step_stamps)
            if b - a == 10
        ]
        return round(statistics.median(between), 4) if between else None

    def rounded(self) -> dict[str, dict[str, float]]:
        return {
            stage: {name: round(value, 2) for name, value in dict(figures).items()}
            for stage, figures in list(self.stages.items())
        }

    def _figures(self) -> dict[str, float]:
        return self.stages.setdefault(self.stage, {})

    def _raise(self, name: str, value: float) -> None:
        figures = self._figures()
        figures[name] = max(value, figures.get(name, 0.0))

    def _watch_ram(self) -> None:
        while not self.is_over.wait(0.05):
            self._raise("main memory, GiB", own_gib())


def hold_to(gib: float) -> Callable[[], None]:
    """Be a card of that memory and of a T4's generation, whose attention is the older one.

    Also what the card says that it has free, since that decides what is tried. Its speed cannot be
    had that way. Nothing is held where there is no GPU.

    Returns
    -------
    Callable
        Ends it.
    """
    if not HAS_GPU:
        return lambda: None
    cuda: Any = torch.cuda
    asked, total = cuda.mem_get_info, cuda.get_device_properties(0).total_memory / GIB

    def what_a_t4_says(device: Any = None) -> tuple[int, int]:
        mine, free = int(gib * GIB), asked(device)[0]
        return max(0, min(free, mine - cuda.memory_reserved(device))), mine

    def set_all(fraction: float, has_newer_attention: bool) -> None:
        cuda.set_per_process_memory_fraction(fraction)
        torch.backends.cuda.enable_flash_sdp(has_newer_attention)
        torch.backends.cuda.enable_cudnn_sdp(has_newer_attention)

    def end() -> None:
        cuda.mem_get_info = asked
        set_all(1.0, True)

    cuda.mem_get_info = what_a_t4_says
    set_all(min(1.0, gib / total), False)
    return end


@contextmanager
def held_to(gib: float) -> Iterator[None]:
    end = hold_to(gib)
    try:
        yield
    finally:
        end()


def watch_cells(path: Path, headings: dict[str, str]) -> None:
    """In a notebook's kernel: be a T4, and write after every cell what each heading's cells took.

    Parameters
    ----------
    path : Path
        The JSON whose "stages" are written.
    headings : dict
        By a cell's source, the heading that it stands below.
    """
    from IPython.core.getipython import get_ipython

    hold_to(T4_GIB)
    shell, gauge = get_ipython(), Gauge("start")

    def begin(cell: Any) -> None:
        gauge.enter(headings.get(cell.raw_cell.strip(), "parameters"))

    def end(_: Any) -> None:
        gauge.enter("between cells")
        write_json(path, stages=gauge.rounded())

    shell.events.register("pre_run_cell", begin)
    shell.events.register("post_run_cell", end)


def write_json(path: Path, **changes: Any) -> dict[str, Any]:
    """Change some of what a JSON file holds, so that it is whole at any time."""
    content = (json.loads(path.read_text()) if path.exists() else {}) | changes
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(path)
    return content


def measure(
    drive: Drive, changes: dict[str, Any], draw_steps: int = 20
) -> Iterator[dict[str, Any]]:
    """Train on the sample photos, then draw: photos to weights, weights to pictures.

    Yields
    ------
    dict
        Figures, as soon as there are some: of the run, then of drawing.
    """
    from s2i_lib.drawing.draw import draw
    from s2i_lib.drawing.sampling import DrawOptions
    from s2i_lib.models.loading import load
    from s2i_lib.photos.dataset import build_dataset, sample_subject
    from s2i_lib.storage.disk import size_of
    from s2i_lib.training.finetune import FinetuneRun

    dataset = build_dataset(sample_subject(drive), drive)
    gauge, said = Gauge("photos encoded, trial steps"), []
    began = time.perf_counter()
    run = FinetuneRun(
        drive, dataset, model="sd2.1-base", callback=gauge.note, report=said.append, **changes
    ).train()
    gauge.enter("drawing")
    options = json.loads((run / "run.json").read_text())["options"]
    named = ("method", "precision", "with_8bit_adam", "with_checkpointing", "steps")
    yield {
        "said": said,
        "options": {name: options[name] for name in named},
        "seconds a step": gauge.seconds_a_step,
        "photos to weights, s": round(time.perf_counter() - began, 1),
        "left on the GPU after the run, GiB": round(torch.cuda.memory_reserved() / GIB, 2),
        "run on the Drive, GiB": round(size_of(run) / GIB, 2),
        "stages": gauge.rounded(),
    }
    model = load("auto", run=str(run), drive=drive)
    model.hashes()
    gauge.enter("drawing")
    drawn = {}
    for count in (1, 4):
        settings = DrawOptions(count=count, seed=0, steps=draw_steps)
        draw(model, "a ohwx car on a beach", settings)
        began = time.perf_counter()
        draw(model, "a ohwx car on a beach", settings)
        drawn[count] = round(time.perf_counter() - began, 2)
        gauge.enter(f"drawing {count} at a time")
    gauge.is_over.set()
    yield {"seconds to draw as many pictures": drawn, "stages": gauge.rounded()}

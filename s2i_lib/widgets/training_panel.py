"""A panel that shows a run while it trains: progress, losses, scores, samples before and now."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.drawing.marks import Mark, encode_marked
from s2i_lib.errors import S2iError
from s2i_lib.photos.own_png import open_png
from s2i_lib.storage.files import data_uri

if TYPE_CHECKING:
    from s2i_lib.training.finetune import FinetuneRun

WIDTH, HEIGHT = 560, 160  # of the curve, in px
COLOURS = {
    "instance_loss": "#1f6feb", "prior_loss": "#b35900",
    "likeness": "#1f6feb", "prompt fidelity": "#1a7f37", "prior drift": "#b35900",
    "leak": "#8250df",
}  # fmt: skip
GRID_PX = 320  # width of a grid of samples on the page
SMOOTHING = 0.9  # of the running mean: one loss says more about its timestep than about training


class LivePanel:
    """Give it to ``FinetuneRun`` as ``callback``; it redraws itself in the cell that made it.

    Plain HTML, so that what is left in the notebook after training shows without a widget.
    """

    def __init__(self) -> None:
        self.losses: dict[str, list[tuple[int, float]]] = {}
        self.curve: list[dict[str, Any]] = []
        self.samples: list[tuple[int, str]] = []
        self.prompts: Sequence[str] = ()
        self.status = "Preparing."
        self.note = ""
        self._handle: Any = None
        self._first: tuple[int, float] | None = None

    def __call__(self, event: str, info: dict[str, Any]) -> None:
        if event == "class_images":
            self.status = f"Class images: {info['done']} of {info['total']}."
        elif event == "step":
            self._add(info["lines"], info["steps"])
        elif event == "scores":
            self.curve = info["curve"]
        elif event == "longer":
            self.note = info["sentence"]
        elif event == "samples":
            # The first and the newest are shown; what is between them is on the Drive.
            self.samples = [*self.samples[:1], (info["step"], _small(info["path"]))]
            self.prompts = info["prompts"]
        else:
            return  # phases of saving, from another thread
        self.show()

    def show(self) -> None:
        """Draw, or redraw in place."""
        from IPython.display import HTML, display

        if self._handle is None:
            self._handle = display(HTML(self.html()), display_id=True)
        else:
            self._handle.update(HTML(self.html()))

    def html(self) -> str:
        """Return the whole panel."""
        return (
            f"<div role='group' aria-label='Training'><p>{html.escape(self.status)} "
            f"{html.escape(self.note)}</p>{self._losses()}{self._scores()}{self._grids()}</div>"
        )

    def _add(self, lines: list[dict[str, Any]], steps: int) -> None:
        step, now = lines[-1]["step"], time.monotonic()
        self._first = self._first or (step, now)
        for line in lines:
            for name in ("instance_loss", "prior_loss"):
                if name in line:
                    points = self.losses.setdefault(name, [])
                    before = points[-1][1] if points else line[name]
                    mean = SMOOTHING * before + (1 - SMOOTHING) * line[name]
                    points.append((line["step"], mean))
        done = step - self._first[0]
        left = (now - self._first[1]) / done * (steps - step) if done else None
        loss = self.losses["instance_loss"][-1][1]
        self.status = f"Step {step} of {steps}, loss {loss:.3f}" + (
            f", {left / 60:.1f} minutes left." if left is not None else "."
        )

    def _losses(self) -> str:
        if not self.losses:
            return ""
        top = max(loss for points in self.losses.values() for _, loss in points) or 1.0
        return (
            _chart(self.losses, "Loss over steps", 0.0, top)
            + f"<p>{_legend(self.losses)}, running means from 0 to {top:.2f}</p>"
        )

    def _scores(self) -> str:
        """How alike and faithful, how far the class has drifted, how much of the surroundings has
        leaked, and which step is the best."""
        names = {
            "likeness": "likeness",
            "fidelity": "prompt fidelity",
            "prior_drift": "prior drift",
            "leak": "leak",
        }
        scores = {
            name: points
            for key, name in names.items()
            if (points := [(p["step"], p[key]) for p in self.curve if p[key] is not None])
        }
        if not scores:
            return ""
        values = [score for points in scores.values() for _, score in points]
        low, top = min(0.0, *values), max(values)
        best = next((p for p in self.curve if p["is_best"]), None)
        said = ""
        if best is not None and best["step"]:
            named = ", ".join(
                f"{name} {best[key]:.3f}" for key, name in names.items() if best[key] is not None
            )
            said = f"<p>Best so far (dashed): step {best['step']}, {named}.</p>"
        mark = best["step"] if said and best is not None else None
        return (
            _chart(scores, "Scores over steps", low, top, mark)
            + f"<p>{_legend(scores)}, from {low:.2f} to {top:.2f}</p>{said}"
        )

    def _grids(self) -> str:
        if not self.samples:
            return ""
        figures = "".join(
            "<figure style='display:inline-block;margin:4px'>"
            f"<img width='{GRID_PX}' alt='Samples at step {step}' src='{source}'>"
            f"<figcaption>Step {step}</figcaption></figure>"
            for step, source in self.samples
        )
        rows = "; ".join(html.escape(prompt) for prompt in self.prompts)
        return f"{figures}<p>Rows: {rows}</p>"


def _small(path: Path) -> str:
    """A grid as a data URL, no larger than a sharp screen shows it: the panel is sent to the
    browser at every redraw, and the grid of Stable Diffusion has megabytes."""
    image = open_png(path)
    if image.width <= 2 * GRID_PX:
        return data_uri("image/png", path.read_bytes())
    image.thumbnail((2 * GRID_PX, 2 * GRID_PX * image.height // image.width))
    return data_uri("image/jpeg", encode_marked(image.convert("RGB"), "JPEG", Mark(), quality=85))


Lines = dict[str, list[tuple[int, float]]]


def _chart(lines: Lines, label: str, low: float, top: float, mark: int | None = None) -> str:
    """An SVG of values from ``low`` to ``top`` by step; ``mark`` is a step to draw a line at."""
    last = max(step for points in lines.values() for step, _ in points) or 1
    span = top - low or 1.0

    def place(step: int, value: float) -> str:
        return f"{step / last * WIDTH:.1f},{HEIGHT - (value - low) / span * (HEIGHT - 10):.1f}"

    drawn = "".join(
        f"<polyline fill='none' stroke='{COLOURS[name]}' stroke-width='2' points='"
        + " ".join(place(step, value) for step, value in points)
        + "'/>"
        for name, points in lines.items()
    )
    if mark is not None:
        x = mark / last * WIDTH
        drawn += (
            f"<line x1='{x:.1f}' x2='{x:.1f}' y1='0' y2='{HEIGHT}' stroke='#666' "
            "stroke-dasharray='4'/>"
        )
    return (
        f"<svg width='{WIDTH}' height='{HEIGHT}' role='img' aria-label='{label}' "
        f"style='background:#fff;border:1px solid #999'>{drawn}</svg>"
    )


def _legend(lines: Lines) -> str:
    return ", ".join(
        f"<span style='color:{COLOURS[name]}'>{name.replace('_', ' ')}</span>" for name in lines
    )


def train_on_button(training: FinetuneRun, run: Path) -> Any:
    """Return a button that trains a finished run on, to twice its steps; the panel is below it.

    The notebook is busy meanwhile. What goes wrong is said there, too.
    """
    import ipywidgets

    button = ipywidgets.Button(description="Train on", tooltip="to twice the steps")
    output = ipywidgets.Output()

    def train_on(_: object) -> None:
        button.disabled = True
        output.clear_output()
        try:
            with output:
                longer = training.longer(run)
                longer.callback = LivePanel()
                longer.train()
                print(f"{run.name} has been trained on.")
        except S2iError as error:
            output.append_stdout(f"{error}\n")
        finally:
            button.disabled = False

    button.on_click(train_on)
    return ipywidgets.VBox([button, output])


def side_by_side(paths: Sequence[Path], captions: Sequence[str]) -> str:
    """Return pictures next to each other as HTML; what each shows is below it."""
    return "".join(
        "<figure style='display:inline-block;margin:4px'>"
        f"<img width='400' alt='{html.escape(caption)}' "
        f"src='{data_uri('image/png', path.read_bytes())}'>"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for path, caption in zip(paths, captions, strict=True)
    )

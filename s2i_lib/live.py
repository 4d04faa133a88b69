"""A panel that shows a run while it trains: progress, loss curve, samples before and now."""

from __future__ import annotations

import base64
import html
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 560, 160  # of the curve, in px
SMOOTHING = 0.9  # of the running mean: one loss says more about its timestep than about training


class LivePanel:
    """Give it to ``finetune`` as ``watch``; it redraws itself in the cell that made it.

    Plain HTML, so that what is left in the notebook after training shows without a widget.
    """

    def __init__(self) -> None:
        self.losses: dict[str, list[tuple[int, float]]] = {}
        self.samples: list[tuple[int, str]] = []
        self.prompts: Sequence[str] = ()
        self.status = "Preparing."
        self._handle: Any = None
        self._first: tuple[int, float] | None = None

    def __call__(self, event: str, info: dict[str, Any]) -> None:
        if event == "class_images":
            self.status = f"Class images: {info['done']} of {info['total']}."
        elif event == "step":
            self._add(info["lines"], info["steps"])
        elif event == "samples":
            data = base64.b64encode(info["path"].read_bytes()).decode()
            self.samples.append((info["step"], data))
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
        """The whole panel."""
        return (
            f"<div role='group' aria-label='Training'><p>{html.escape(self.status)}</p>"
            f"{self._curve()}{self._grids()}</div>"
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

    def _curve(self) -> str:
        if not self.losses:
            return ""
        everything = [point for points in self.losses.values() for point in points]
        last = max(step for step, _ in everything)
        top = max(loss for _, loss in everything) or 1.0
        colours = {"instance_loss": "#1f6feb", "prior_loss": "#b35900"}
        lines = "".join(
            f"<polyline fill='none' stroke='{colours[name]}' stroke-width='2' points='"
            + " ".join(
                f"{step / last * WIDTH:.1f},{HEIGHT - loss / top * (HEIGHT - 10):.1f}"
                for step, loss in points
            )
            + "'/>"
            for name, points in self.losses.items()
        )
        legend = ", ".join(
            f"<span style='color:{colours[name]}'>{name.replace('_', ' ')}</span>"
            for name in self.losses
        )
        return (
            f"<svg width='{WIDTH}' height='{HEIGHT}' role='img' aria-label='Loss over steps' "
            f"style='background:#fff;border:1px solid #999'>{lines}</svg>"
            f"<p>{legend}, running means from 0 to {top:.2f}</p>"
        )

    def _grids(self) -> str:
        if not self.samples:
            return ""
        shown = [self.samples[0], self.samples[-1]] if len(self.samples) > 1 else self.samples
        figures = "".join(
            "<figure style='display:inline-block;margin:4px'>"
            f"<img width='320' alt='Samples at step {step}' src='data:image/png;base64,{data}'>"
            f"<figcaption>Step {step}</figcaption></figure>"
            for step, data in shown
        )
        rows = "; ".join(html.escape(prompt) for prompt in self.prompts)
        return f"{figures}<p>Rows: {rows}</p>"


def side_by_side(paths: Sequence[Path], captions: Sequence[str]) -> str:
    """Pictures next to each other, as HTML."""
    return "".join(
        "<figure style='display:inline-block;margin:4px'>"
        f"<img width='400' alt='{html.escape(caption)}' src='data:image/png;base64,"
        f"{base64.b64encode(path.read_bytes()).decode()}'>"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for path, caption in zip(paths, captions, strict=True)
    )

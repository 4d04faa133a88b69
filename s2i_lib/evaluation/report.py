"""Evaluations as one HTML page to look at and one JSON file to compute with."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from s2i_lib.drawing.marks import Mark, encode_marked, mark_of_record
from s2i_lib.drawing.pages import fill_in
from s2i_lib.errors import InputError
from s2i_lib.evaluation.evaluate import MEANING, Evaluation, PictureScore
from s2i_lib.evaluation.metrics import LEVEL, Score, caption
from s2i_lib.photos.reading import encode_image
from s2i_lib.storage.files import alone_in, data_uri, free_path, make_folder, write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

TEMPLATE = Path(__file__).with_name("report_page.html")
THUMB_PX = 256  # on the page: twice what it is shown at, for screens of double density
NAMES = {
    "dino": "DINO", "clip_i": "CLIP-I", "subject_dino": "subject (DINO)",
    "subject_clip": "subject (CLIP)", "leak_dino": "leak (DINO)", "leak_clip": "leak (CLIP)",
    "clip_t": "CLIP-T", "pres_dino": "PRES (DINO)",
    "pres_clip": "PRES (CLIP)", "div_lpips": "DIV (LPIPS)", "div_clip": "DIV (CLIP)",
    "class_div_lpips": "class DIV (LPIPS)", "class_div_clip": "class DIV (CLIP)",
    "copies": "copies",
}  # fmt: skip


def write_report(evaluations: Sequence[Evaluation], folder: Path) -> tuple[Path, Path]:
    """Write the page and the JSON of one evaluation, or of several side by side.

    Returns
    -------
    page, data : Path
        New files; nothing is written over.

    Raises
    ------
    InputError
        When there is nothing to report.
    """
    if not evaluations:
        raise InputError("There is no evaluation to report (found 0, need 1 or more).")
    now = datetime.now(UTC)
    made_at = now.isoformat(timespec="seconds")
    records = [evaluation.to_json() for evaluation in evaluations]
    text = json.dumps({"made_at": made_at, "runs": records}, indent=1, ensure_ascii=False)
    with alone_in(make_folder(folder)):
        data = free_path(folder / f"evaluation-{now:%Y%m%d-%H%M%S}.json", ".html")
        write_file(data, (text + "\n").encode())
    page = render_page(evaluations, made_at)
    return write_file(data.with_suffix(".html"), page.encode()), data


def render_page(evaluations: Sequence[Evaluation], made_at: str) -> str:
    """Return the page as HTML, with every picture inside."""
    keys = [key for key in MEANING if any(key in e.scores for e in evaluations)]
    names = " against ".join(e.name for e in evaluations)
    networks = dict.fromkeys(
        f"{kind.upper()}: {'/'.join(Path(found['name']).parts[-2:])}"
        for e in evaluations
        for kind, found in e.scorers.items()
        if kind != "missing"
    )
    models = sorted({mark.model for e in evaluations if (mark := _mark_of(e)).model})
    return fill_in(
        TEMPLATE,
        Mark(", ".join(models), is_composite=True),  # there are photos on it, too
        title=f"How good is {names}?",
        made_at=made_at,
        level=round(100 * LEVEL),
        networks=", ".join(networks) or "none available",
        rows=[
            {
                "name": NAMES[key],
                "meaning": MEANING[key],
                "cells": [str(e.scores.get(key, "not scored")) for e in evaluations],
            }
            for key in keys
        ],
        chart=figure_uri(draw_scores(evaluations)) if keys else None,
        runs=[_run(e) for e in evaluations],
    )


def _mark_of(evaluation: Evaluation) -> Mark:
    """Return the mark of the pictures that were scored."""
    is_base = evaluation.name.partition(",")[0] == evaluation.base
    return mark_of_record({"model": evaluation.base, "run": not is_base})


def _run(evaluation: Evaluation) -> dict[str, Any]:
    """What the page shows of one run, beside what the evaluation says itself."""
    has_curve = len(evaluation.curve) > 1
    recipe = evaluation.to_json()
    for key in ("pictures", "scores", "notes", "speech", "curve"):
        del recipe[key]
    return {
        "evaluation": evaluation,
        "curve": figure_uri(draw_curve(evaluation.curve)) if has_curve else None,
        "photos": [
            {"uri": image_uri(image), "name": photo["name"]}
            for image, photo in zip(evaluation.real_images, evaluation.photos, strict=True)
        ],
        "grid": _grid(evaluation),
        "class_prompt": caption(f"a {evaluation.subject.phrase}", evaluation.subject),
        "class_images": [
            image_uri(image, _mark_of(evaluation)) for image in evaluation.class_images
        ],
        "recipe": json.dumps(recipe, indent=1, ensure_ascii=False),
    }


def _grid(evaluation: Evaluation) -> list[dict[str, Any]]:
    """A row for each prompt with its pictures, the worst prompt first."""
    lines, seeds = [], evaluation.options.seeds
    for i in range(0, len(evaluation.pictures), seeds):
        scored, images = evaluation.pictures[i : i + seeds], evaluation.images[i : i + seeds]
        each = [_scores_of(picture) for picture in scored]
        pictures = [
            {
                "score": picture,
                "uri": image_uri(image, _mark_of(evaluation)),
                "summary": _in_words(own),
            }
            for picture, image, own in zip(scored, images, each, strict=True)
        ]
        means = {name: float(np.mean([scores[name] for scores in each])) for name in each[0]}
        badness = float(np.mean([picture.badness for picture in scored]))
        lines.append((badness, {"summary": _in_words(means), "pictures": pictures}))
    return [line for _, line in sorted(lines, key=lambda one: -one[0])]


def _scores_of(picture: PictureScore) -> dict[str, float]:
    keys = ("dino", "clip_i", "clip_t")
    return {NAMES[key]: v for key in keys if (v := getattr(picture, key)) is not None}


def _in_words(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {score:.2f}" for name, score in scores.items())


# --- figures ------------------------------------------------------------------------------------


def draw_scores(evaluations: Sequence[Evaluation]) -> Figure:
    """Draw each score of each run as a point with its interval; rows of one score lie together."""
    from matplotlib.figure import Figure

    keys = [key for key in MEANING if any(key in e.scores for e in evaluations)]
    figure = Figure(figsize=(9, 1.2 + 0.34 * len(keys) * (1 + len(evaluations) / 3)))
    axes = figure.add_subplot()
    for number, evaluation in enumerate(evaluations):
        shift = (number - (len(evaluations) - 1) / 2) * 0.7 / len(evaluations)
        own = [(row, evaluation.scores[k]) for row, k in enumerate(keys) if k in evaluation.scores]
        axes.errorbar(
            [score.mean for _, score in own],
            [row + shift for row, _ in own],
            xerr=np.array([_arms(score) for _, score in own]).T,
            fmt="o",
            capsize=4,
            label=evaluation.name,
        )
    axes.set_yticks(range(len(keys)), [f"{NAMES[k]} {MEANING[k][0]}" for k in keys])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("score, with its 95 % confidence interval")
    if len(evaluations) > 1:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, frameon=False)
    return figure


def _arms(score: Score) -> tuple[float, float]:
    """Lengths of the interval's two sides; not-a-numbers, which are not drawn, without one."""
    if score.low is None or score.high is None:
        return np.nan, np.nan
    return max(0.0, score.mean - score.low), max(0.0, score.high - score.mean)


def draw_curve(lines: Sequence[dict[str, Any]]) -> Figure:
    """Draw losses by step, smoothed, and below them the scores of the sampled pictures, if any."""
    from matplotlib.figure import Figure

    keys = {
        "likeness": "likeness ↑", "fidelity": "prompt fidelity ↑", "prior_drift": "prior drift ↓",
        "leak": "leak ↓",
    }  # fmt: skip
    scored = [line for line in lines if any(line.get(key) is not None for key in keys)]
    figure = Figure(figsize=(9, 5.4 if scored else 2.8), layout="constrained")
    axes = figure.subplots(2 if scored else 1, sharex=True, squeeze=False)[:, 0]
    for key, label in (("instance_loss", "loss of the photos"), ("prior_loss", "of the class")):
        own = [(line["step"], line[key]) for line in lines if key in line]
        if own:
            steps, losses = np.array(own).T
            axes[0].plot(steps, smooth(losses), label=label)
    axes[0].set_ylabel("loss, smoothed")
    if scored:
        best = next((line for line in scored if line.get("is_best")), None)
        for key, label in keys.items():
            own = [(line["step"], line[key]) for line in scored if line.get(key) is not None]
            if own:
                axes[1].plot(*np.array(own).T, marker="o", label=label)
        if best:
            axes[1].axvline(best["step"], color="gray", linestyle="--", label="kept")
        axes[1].set_ylabel("score")
    axes[-1].set_xlabel("step")
    for each in axes:
        if each.get_legend_handles_labels()[0]:
            each.legend(frameon=False)
        each.grid(alpha=0.3)
    return figure


def smooth(values: np.ndarray, share: float = 0.1) -> np.ndarray:
    """Return the running mean over ``share`` of all values, shorter at the ends; shape as given."""
    window = np.ones(2 * int(len(values) * share / 2) + 1)
    half = len(window) // 2
    sums, counts = (np.convolve(row, window) for row in (values, np.ones(len(values))))
    return (sums / counts)[half : half + len(values)]


def figure_png(figure: Figure) -> bytes:
    """Return a figure as a PNG on white, cut to what is drawn."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, bbox_inches="tight", facecolor="white")
    return stream.getvalue()


def figure_uri(figure: Figure) -> str:
    return data_uri("image/png", figure_png(figure))


def image_uri(image: Image, mark: Mark | None = None) -> str:
    """Return a picture for the page: small ones as they are, large ones as a thumbnail.

    What was drawn has a ``mark``, a photo none.
    """
    is_small = max(image.size) <= THUMB_PX
    file_format = "PNG" if is_small else "JPEG"
    options: dict[str, Any] = {} if is_small else {"quality": 88}
    if not is_small:
        image = image.copy()
        image.thumbnail((THUMB_PX, THUMB_PX))
    if mark:
        data = encode_marked(image, file_format, mark, **options)
    else:
        data = encode_image(image, file_format, **options)
    return data_uri(f"image/{file_format.lower()}", data)

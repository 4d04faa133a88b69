"""Pictures with a thing in them: renders that the pocket model learns from, as they are saved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from s2i_lib.drawing import gallery
from s2i_lib.drawing.records import Picture

DATA = Path(__file__).parent / "data"
SHOWN: list[dict[str, str]] = json.loads((DATA / "pocket_renders.json").read_text())
"""What each scene of pocket_renders.webp shows: first every noun on a plain ground, then places."""
NOUNS = [one["noun"] for one in SHOWN if one["ground"]]
SIDE_PX, COLUMNS = 128, 16


def renders() -> list[Image.Image]:
    """Return all scenes, in the order of `SHOWN`."""
    with Image.open(DATA / "pocket_renders.webp") as sheet:
        pixels = sheet.convert("RGB")
    corners = [(SIDE_PX * (i % COLUMNS), SIDE_PX * (i // COLUMNS)) for i in range(len(SHOWN))]
    return [pixels.crop((x, y, x + SIDE_PX, y + SIDE_PX)) for x, y in corners]


def save_render(noun: str, folder: Path, **record: object) -> Path:
    """Save the render of a thing on a plain ground, with a record, and return its path."""
    tile = renders()[NOUNS.index(noun)]
    return gallery.save(Picture(tile, _record(f"a {noun}", **record)), folder)


def landscape(width: int = 64) -> Image.Image:
    """A sky that goes over into a meadow: nothing stands out, and no part is like another."""
    y, x = np.mgrid[:64, :width] / 64
    pixels = np.stack([120 + 60 * np.sin(3 * x), 90 + 120 * y, 220 - 180 * y], -1)
    return Image.fromarray(pixels.astype(np.uint8))


def save_landscape(folder: Path) -> Path:
    """Save a picture in which nothing stands out, with a record, and return its path."""
    return gallery.save(Picture(landscape(), _record("a meadow")), folder)


def _record(prompt: str, **record: object) -> dict[str, object]:
    return {
        "prompt": prompt, "negative": "", "seed": 1, "model": "pocket", "run": None,
        "source": "the package", "subjects": [], "transcript": None, "steps": 20,
        "guidance_scale": 3.0, **record,
    }  # fmt: skip

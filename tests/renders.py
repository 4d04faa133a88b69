"""Pictures with a thing in them: renders that the pocket model learns from, as they are saved."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from s2i_lib.drawing import gallery
from s2i_lib.drawing.records import Picture

DATA = Path(__file__).parent / "data"


def save_render(noun: str, folder: Path, **record: object) -> Path:
    """Save the render of a thing, 64 px, with a record, and return its path."""
    nouns = json.loads((DATA / "pocket_renders.json").read_text())
    y, x = divmod(nouns.index(noun), 10)
    with Image.open(DATA / "pocket_renders.png") as sheet:
        tile = sheet.convert("RGB").crop((64 * x, 64 * y, 64 * x + 64, 64 * y + 64))
    made = {
        "prompt": f"a {noun}", "negative": "", "seed": 1, "model": "pocket", "run": None,
        "source": "the package", "subjects": [], "transcript": None, "steps": 20,
        "guidance_scale": 3.0, **record,
    }  # fmt: skip
    return gallery.save(Picture(tile, made), folder)

"""Pictures of what the tests saw, for people to look at: in $S2I_SCREENSHOTS, if that is set."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

COLUMNS = 4
GAP_PX, CAPTION_PX = 12, 34
INK, PAPER = "#1b1f24", "#ffffff"


@dataclass(frozen=True)
class Frame:
    """A page at a moment."""

    seconds: float
    state: str
    png: bytes


def keep(picture: Image.Image | bytes, name: str) -> None:
    """Write NAME.png with 256 colours: a fifth of the bytes, and nobody sees the difference."""
    if folder := os.environ.get("S2I_SCREENSHOTS"):
        image = Image.open(io.BytesIO(picture)) if isinstance(picture, bytes) else picture
        few = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        few.save(Path(folder, f"{name}.png"), optimize=True)


def choose(frames: list[Frame], per_state: dict[str, int]) -> list[Frame]:
    """Of each state this many frames: those in the middle of as many equal parts."""
    chosen = []
    for state, number in per_state.items():
        there = [frame for frame in frames if frame.state == state]
        number = min(number, len(there))
        chosen += [there[(2 * i + 1) * len(there) // (2 * number)] for i in range(number)]
    return sorted(chosen, key=lambda frame: frame.seconds)


def contact_sheet(frames: list[Frame]) -> Image.Image:
    """All frames on one picture in reading order, with the seconds and the state below each."""
    images = [Image.open(io.BytesIO(frame.png)).convert("RGB") for frame in frames]
    width, height = images[0].size
    rows = -(-len(images) // COLUMNS)
    step_x, step_y = width + GAP_PX, height + CAPTION_PX + GAP_PX
    sheet = Image.new("RGB", (COLUMNS * step_x + GAP_PX, rows * step_y + GAP_PX), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=22)
    for i, (frame, image) in enumerate(zip(frames, images, strict=True)):
        x, y = GAP_PX + i % COLUMNS * step_x, GAP_PX + i // COLUMNS * step_y
        sheet.paste(image, (x, y))
        pen.rectangle((x, y, x + width - 1, y + height - 1), outline="#8c959f")
        pen.text((x, y + height + 4), f"{frame.seconds:.1f} s: {frame.state}", INK, font)
    return sheet

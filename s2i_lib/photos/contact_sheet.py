"""Draw one picture that shows what became of every photo: crop, verdict and reason."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2i_lib.photos.quality import Verdict
from s2i_lib.photos.reading import encode_image

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

THUMB_PX = 240
GAP_PX = 18
LINE_PX = 15  # of a reason
INK, GREY, LINE = "#1d1d1f", "#6e6e73", "#d2d2d7"
COLOURS = {True: "#1a7f37", False: "#b42318"}  # contrast with white 5.1 and 6.6
WARNING = "#9a6700"  # 4.9
GROUND = "#2e7d5b"  # in place of what is around the subject


def draw_contact_sheet(
    title: str,
    verdicts: Sequence[Verdict],
    thumbs: Mapping[str, tuple[Image, Image | None]],
    advice: Sequence[str],
) -> bytes:
    """Draw the sheet.

    Parameters
    ----------
    thumbs
        Name of the photo -> a small upright RGB picture of it, of any size, and the subject's mask.

    Returns
    -------
    bytes
        A JPEG, the same for the same input.
    """
    from PIL import Image, ImageDraw

    columns = max(3, min(5, len(verdicts)))
    rows = -(-len(verdicts) // columns)
    reasons = [textwrap.wrap(verdict.reason, 37)[:5] for verdict in verdicts]
    text_px = 28 + LINE_PX * max(map(len, reasons), default=0)
    cell_w, cell_h = THUMB_PX + GAP_PX, THUMB_PX + text_px + GAP_PX
    width = columns * cell_w + GAP_PX
    bold, small = _font(20, bold=True), _font(12)
    lines = [line for text in advice for line in textwrap.wrap(text, width // 8)]
    head = GAP_PX + 34 + 19 * len(lines) + GAP_PX
    sheet = Image.new("RGB", (width, head + rows * cell_h), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP_PX, GAP_PX), title, fill=INK, font=bold)
    for number, line in enumerate(lines):
        draw.text((GAP_PX, GAP_PX + 34 + 19 * number), line, fill=GREY, font=_font(14))
    for number, verdict in enumerate(verdicts):
        x = GAP_PX + number % columns * cell_w
        y = head + number // columns * cell_h
        _draw_thumb(sheet, x, y, verdict, *thumbs.get(verdict.photo, (None, None)))
        y += THUMB_PX + 6
        draw.text((x, y), verdict.verdict, fill=_colour(verdict), font=_font(14, bold=True))
        name = textwrap.shorten(verdict.photo, 22, placeholder="…")
        draw.text((x + THUMB_PX, y + 2), name, fill=GREY, font=small, anchor="ra")
        for line_number, line in enumerate(reasons[number]):
            draw.text((x, y + 20 + LINE_PX * line_number), line, fill=INK, font=small)
    return encode_image(sheet, "JPEG", quality=90, subsampling=0)


def _draw_thumb(
    sheet: Image, x: int, y: int, verdict: Verdict, photo: Image | None, mask: Image | None
) -> None:
    """Draw a photo in its cell: pale outside of the crop, green around what is cut out."""
    from PIL import Image, ImageDraw, ImageOps

    draw = ImageDraw.Draw(sheet)
    if photo is None:
        draw.rectangle((x, y, x + THUMB_PX - 1, y + THUMB_PX - 1), outline=LINE, fill="#f5f5f7")
        draw.text(
            (x + THUMB_PX / 2, y + THUMB_PX / 2), "no picture", fill=GREY, font=_font(14),
            anchor="mm",
        )  # fmt: skip
        return
    thumb = ImageOps.contain(photo, (THUMB_PX, THUMB_PX), Image.Resampling.LANCZOS)
    left, top = x + (THUMB_PX - thumb.width) // 2, y + (THUMB_PX - thumb.height) // 2
    if verdict.crop is None:
        sheet.paste(thumb, (left, top))
        return
    ratio = thumb.width / verdict.width
    l, t, r, b = (round(edge * ratio) for edge in verdict.crop.corners)  # noqa: E741
    sheet.paste(Image.blend(thumb, Image.new("RGB", thumb.size, "white"), 0.55), (left, top))
    if mask is not None and verdict.cut_out:
        ground = Image.blend(thumb, Image.new("RGB", thumb.size, GROUND), 0.75)
        thumb = Image.composite(thumb, ground, mask.resize(thumb.size))
    sheet.paste(thumb.crop((l, t, r, b)), (left + l, top + t))
    edges = (left + l, top + t, left + r - 1, top + b - 1)
    draw.rectangle(edges, outline=_colour(verdict), width=2)


def _colour(verdict: Verdict) -> str:
    """Return the colour of the verdict's word and of the crop's frame."""
    return COLOURS[verdict.is_kept] if verdict.verdict == "fine" or not verdict.is_kept else WARNING


def _font(size: int, *, bold: bool = False) -> FreeTypeFont:
    """Load DejaVu Sans, as matplotlib ships it: it knows more alphabets than Pillow's own font."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size)

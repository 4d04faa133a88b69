"""Backgrounds of its own: the subject, cut out, set into what the model itself draws.

A handful of photos show the subject in a handful of places, and a model that learns from them whole
learns the places, too: "on a blue background" gives the sofa. Here the model draws grounds with
nothing on them, the cut-out is set into them, and each such picture has the prompt that says where
it is. What the subject is stays the only thing that all of them share.

Source: copy-paste augmentation (Ghiasi et al. 2021, arXiv:2012.07177), with the model's own
pictures as prior preservation has them (Ruiz et al. 2023, arXiv:2208.12242).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

# In parts of the picture's side: the subject's longer one, in the middle of a plain background and
# at a place, and how far down its foot is there. So are the pocket model's own things
# (tools/pocket/world.py), and no other model has any of its own. At sizes and places that varied
# a toy was a blur (seen with 64 px).
SIZE, SIZE_AT_PLACE, FOOT = 0.75, 0.64, 0.86
FEATHER = 0.006  # blur of the cut-out's edge, in parts of the picture's side
TIMES = 2  # that each ground is used: drawing one takes longer than setting a subject into it


class CutOut(NamedTuple):
    """A subject without its surroundings: the part of a crop that its mask holds."""

    pixels: Image
    """RGB, as large as the subject."""
    alpha: Image
    """Share of the subject in each pixel: L, of the same size."""


def cut_out(crop: Image, mask: Image) -> CutOut:
    """Cut the subject out of a square crop, RGB, by its mask, L, of any size."""
    alpha = mask.resize(crop.size)
    box = alpha.point(lambda value: 255 * (value > 25)).getbbox() or (0, 0, *crop.size)
    return CutOut(crop.crop(box), alpha.crop(box))


def set_into(ground: Image, subject: CutOut, where: str) -> Image:
    """Set a subject into a square ground, as large and as high as ``where`` says; feather its edge.

    Parameters
    ----------
    where
        How a prompt says it: on a background of a colour it is in the middle, elsewhere it stands.
    """
    from PIL import Image as Pillow
    from PIL import ImageFilter

    side, is_plain = ground.width, where.endswith(" background")
    scale = (SIZE if is_plain else SIZE_AT_PLACE) * side / max(subject.pixels.size)
    width, height = (max(1, round(edge * scale)) for edge in subject.pixels.size)
    pixels = subject.pixels.resize((width, height), Pillow.Resampling.LANCZOS)
    alpha = subject.alpha.resize((width, height), Pillow.Resampling.LANCZOS)
    alpha = alpha.filter(ImageFilter.GaussianBlur(FEATHER * side))
    picture = ground.copy()
    upper = (side - height) // 2 if is_plain else round(FOOT * side) - height
    picture.paste(pixels, ((side - width) // 2, upper), alpha)
    return picture


def compose(
    subjects: Sequence[CutOut], grounds: Sequence[Image], where: Sequence[str], seed: int
) -> list[Image]:
    """Make a picture of a subject for each of ``where``, on the grounds in their order.

    Both take turns: every ground comes once before any comes again, and so does every subject.
    """
    count = len(where)
    rng = np.random.default_rng([seed, count])
    rounds = -(-count // len(subjects))
    turns = [turn for _ in range(rounds) for turn in rng.permutation(len(subjects))]
    return [
        set_into(grounds[i % len(grounds)], subjects[turns[i]], one) for i, one in enumerate(where)
    ]


def read_cut_out(image: Path, mask: Path) -> CutOut:
    """Read a crop and its mask and cut the subject out."""
    from PIL import Image as Pillow

    with Pillow.open(image) as crop, Pillow.open(mask) as alpha:
        return cut_out(crop.convert("RGB"), alpha.convert("L"))

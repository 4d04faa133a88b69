"""Backgrounds of its own: the subject, cut out, set into what the model itself draws.

A handful of photos show the subject in a handful of places, and a model that learns from them whole
learns the places, too: "on a blue background" gives the sofa. Here the model draws bare grounds,
the cut-out is set into them, and each such picture has the prompt that says where it is. What the
subject is stays the only thing that all of them share.

Source: copy-paste augmentation (Ghiasi et al. 2021, arXiv:2012.07177), with the model's own
pictures as prior preservation has them (Ruiz et al. 2023, arXiv:2208.12242).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from s2i_lib.photos.cut_out import without_subject
from s2i_lib.photos.mask import find_mask

if TYPE_CHECKING:
    from PIL.Image import Image

# Longer side of the subject, in parts of the picture's, and how far from the middle of the room
# that is left it may stand, in parts of that. From 0.65 on and with 0.3 a toy was a blur on pocket.
SIZES = (0.84, 0.85)
PLAY = 0.0
FEATHER = 0.006  # blur of the cut-out's edge, in parts of the picture's side


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


def set_into(ground: Image, subject: CutOut, rng: np.random.Generator) -> Image:
    """Set a subject into a square ground: its size and place vary, its edge is feathered."""
    from PIL import Image as Pillow
    from PIL import ImageFilter

    side = ground.width
    scale = rng.uniform(*SIZES) * side / max(subject.pixels.size)
    width, height = (max(1, round(edge * scale)) for edge in subject.pixels.size)
    pixels = subject.pixels.resize((width, height), Pillow.Resampling.LANCZOS)
    alpha = subject.alpha.resize((width, height), Pillow.Resampling.LANCZOS)
    alpha = alpha.filter(ImageFilter.GaussianBlur(FEATHER * side))
    across, down = 0.5 + PLAY * rng.uniform(-0.5, 0.5, 2)
    picture = ground.copy()
    picture.paste(pixels, (round((side - width) * across), round((side - height) * down)), alpha)
    return picture


def bare(picture: Image) -> Image:
    """Paint over what stands out in a drawn ground: small models draw a thing for every prompt."""
    return without_subject(picture, find_mask(picture))


def compose(subjects: Sequence[CutOut], grounds: Sequence[Image], seed: int) -> list[Image]:
    """Set subjects in turn into grounds; every one comes once before any comes again."""
    rng = np.random.default_rng([seed, len(grounds)])
    turns = [i for _ in range(-(-len(grounds) // len(subjects)))
             for i in rng.permutation(len(subjects))]  # fmt: skip
    return [
        set_into(bare(ground), subjects[turn], rng)
        for ground, turn in zip(grounds, turns, strict=False)
    ]


def read_cut_out(image: Path, mask: Path) -> CutOut:
    """Read a crop and its mask and cut the subject out."""
    from PIL import Image as Pillow

    with Pillow.open(image) as crop, Pillow.open(mask) as alpha:
        return cut_out(crop.convert("RGB"), alpha.convert("L"))

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
from s2i_lib.photos.mask import Mask, find_mask

if TYPE_CHECKING:
    from PIL.Image import Image

# Longer side of the subject, in the middle, in parts of the picture's: one size and place, since a
# toy at sizes from 0.65 on and at places that varied was a blur on pocket (benchmarks/README.md).
SIZE = 0.85
FEATHER = 0.006  # blur of the cut-out's edge, in parts of the picture's side
TIMES = 2  # that each ground is used: drawing one takes longer than setting a subject into it
BORDER = 1 / 16  # of a ground's side: where a plain one shows its colour
APART = 20  # levels from that colour, of 255, that a plain ground's border has at most


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


def set_into(ground: Image, subject: CutOut) -> Image:
    """Set a subject into the middle of a square ground; its edge is feathered."""
    from PIL import Image as Pillow
    from PIL import ImageFilter

    side = ground.width
    scale = SIZE * side / max(subject.pixels.size)
    width, height = (max(1, round(edge * scale)) for edge in subject.pixels.size)
    pixels = subject.pixels.resize((width, height), Pillow.Resampling.LANCZOS)
    alpha = subject.alpha.resize((width, height), Pillow.Resampling.LANCZOS)
    alpha = alpha.filter(ImageFilter.GaussianBlur(FEATHER * side))
    picture = ground.copy()
    picture.paste(pixels, ((side - width) // 2, (side - height) // 2), alpha)
    return picture


def bare(picture: Image) -> Image:
    """Paint over what stands out in a drawn ground: small models draw a thing for every prompt.

    On a plain one that is whatever has another colour than its border, which tells more than the
    network that finds a photo's subject, in a hundredth of its time.
    """
    thing = _on_plain(picture)
    return without_subject(picture, find_mask(picture) if thing is None else thing)


def _on_plain(ground: Image) -> Mask | None:
    """What has another colour than a plain ground; None where its border has several."""
    pixels = np.asarray(ground, np.float32)
    width = max(1, round(BORDER * ground.width))
    border = np.ones(pixels.shape[:2], bool)
    border[width:-width, width:-width] = False
    is_other = np.abs(pixels - np.median(pixels[border], axis=0)).max(axis=2) > APART
    return None if is_other[border].any() else Mask(is_other.astype(np.float32))


def compose(
    subjects: Sequence[CutOut], grounds: Sequence[Image], count: int, seed: int
) -> list[Image]:
    """Make ``count`` pictures of subjects on grounds.

    Both take turns: every ground comes once before any comes again, and so does every subject.
    """
    rng = np.random.default_rng([seed, count])
    rounds = -(-count // len(subjects))
    turns = [turn for _ in range(rounds) for turn in rng.permutation(len(subjects))]
    bared = [bare(ground) for ground in grounds]
    return [set_into(bared[i % len(bared)], subjects[turns[i]]) for i in range(count)]


def read_cut_out(image: Path, mask: Path) -> CutOut:
    """Read a crop and its mask and cut the subject out."""
    from PIL import Image as Pillow

    with Pillow.open(image) as crop, Pillow.open(mask) as alpha:
        return cut_out(crop.convert("RGB"), alpha.convert("L"))

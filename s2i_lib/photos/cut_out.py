"""The subject and its surroundings, apart: one picture of each.

Whoever compares whole pictures of a subject compares the sofa, too. Of the first picture the
surroundings are gone, whatever size and place the subject had; of the second the subject is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from s2i_lib.photos.mask import IS_SUBJECT, Mask, find_mask

if TYPE_CHECKING:
    from PIL.Image import Image

NEUTRAL = (127, 127, 127)
MARGIN = 0.1  # of the subject's longer side, around it


class Halves(NamedTuple):
    """A picture in two."""

    subject: Image
    """RGB and square: the subject in the middle, on grey."""
    surroundings: Image
    """As large as the picture, the subject painted over with what is around it."""


def split(picture: Image) -> Halves:
    """Part a picture, RGB, into its subject and its surroundings.

    Where nothing stands out all of it counts as both: nobody can say which is which.
    """
    mask = find_mask(picture)
    if mask.box is None:
        return Halves(picture, picture)
    return Halves(alone(picture, mask), without_subject(picture, mask))


def alone(picture: Image, mask: Mask) -> Image:
    """Return the subject in the middle of a grey square."""
    from PIL import Image as Pillow

    if mask.box is None:
        return picture
    grey = Pillow.new("RGB", picture.size, NEUTRAL)
    cut = Pillow.composite(picture, grey, mask.image()).crop(mask.box)
    square = Pillow.new("RGB", (round(max(cut.size) * (1 + 2 * MARGIN)),) * 2, NEUTRAL)
    square.paste(cut, ((square.width - cut.width) // 2, (square.height - cut.height) // 2))
    return square


def without_subject(picture: Image, mask: Mask) -> Image:
    """Return a picture whose subject is painted over with what is around it.

    One that fills it whole stays: there is nothing to paint with.
    """
    import cv2
    import numpy as np
    from PIL import Image as Pillow

    inside = (mask.alpha >= IS_SUBJECT).astype(np.uint8)
    reach = max(1, max(picture.size) // 12)  # its soft edge and its shadow go, too
    inside = cv2.dilate(inside, np.ones((2 * reach + 1,) * 2, np.uint8))
    if inside.all() or not inside.any():
        return picture
    painted = cv2.inpaint(np.asarray(picture), inside, 3, cv2.INPAINT_TELEA)
    return Pillow.fromarray(painted)

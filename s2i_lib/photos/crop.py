"""Choose the square to cut from a photo: around a face, else what stands out, else the centre."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from s2i_lib.errors import InputError
from s2i_lib.photos.mask import Mask, find_mask

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

Method = Literal["by hand", "face", "what stands out", "centre"]

ANALYSIS_PX = 224  # longest side on which the subject is looked for
FACE_PX = 480  # and faces, which are small parts of a picture


@dataclass(frozen=True)
class Box:
    """A square in a photo, in pixels of the upright photo at full resolution."""

    left: int
    top: int
    size: int

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """Return left, top, right, bottom; right and bottom are the first pixels outside."""
        return self.left, self.top, self.left + self.size, self.top + self.size

    def check(self, name: str, width: int, height: int) -> Box:
        """Return the box itself, if it lies in a photo of that size.

        Raises
        ------
        InputError
            When it does not.
        """
        left, top, right, bottom = self.corners
        if self.size < 1 or left < 0 or top < 0 or right > width or bottom > height:
            raise InputError(
                f"The crop of {name} (left {left}, top {top}, size {self.size}) does not lie in "
                f"the photo, which is {width} x {height} pixels upright. Move or shrink it."
            )
        return self


def parse_crop(text: str) -> tuple[str, Box | None]:
    """Read PHOTO=LEFT,TOP,SIZE, or PHOTO=auto for the crop that is found."""
    name, _, numbers = text.rpartition("=")
    try:
        if name and numbers.strip() == "auto":
            return name, None
        left, top, size = (int(number) for number in numbers.split(","))
        if not name:
            raise ValueError
    except ValueError:
        raise InputError(
            f"{text!r} is not a crop. Expected PHOTO=LEFT,TOP,SIZE in pixels, for instance "
            "IMG_1.jpg=120,80,900, or PHOTO=auto."
        ) from None
    return name, Box(left, top, size)


@dataclass(frozen=True)
class Region:
    """Where something is in a photo, in parts of its width and height (0 to 1)."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    def holds(self, x: float, y: float) -> bool:
        """Return whether a place, in parts of the photo's width and height, lies in it."""
        return self.left <= x <= self.right and self.top <= y <= self.bottom


WHOLE = Region(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Found:
    """The subject in a photo."""

    region: Region
    method: Method
    mask: Mask
    """Subject in each pixel of the picture that was looked at."""
    frame: Region = WHOLE
    """Part of the photo without the bars around it."""
    touches: float = 0.0
    """Longest part of the subject's outline that lies on the photo's edge, in parts of the
    subject's width or height."""
    n_others: int = 0
    """Faces beside the one that was taken, at least half as large."""


def square_around(region: Region, frame: Region, width: int, height: int, margin: float) -> Box:
    """Return the square around ``region`` and ``margin`` of its longer side, within ``frame``.

    Where the region is larger than any square in the frame, the square is as large as fits; it then
    holds the region's middle, and of what is too tall the top, where heads are. Both are parts of a
    photo of ``width`` x ``height`` pixels.
    """
    left, top, right, bottom = _pixels(frame, width, height)
    room = min(right - left, bottom - top)
    longer = max(region.width * width, region.height * height)
    size = min(room, max(1, round(longer * (1 + 2 * margin))))

    def start(low: float, high: float, first: int, last: int) -> int:
        return min(max(round((low + high - size) / 2), first), max(first, last - size))

    low, high = region.top * height, region.bottom * height
    if high - low > size:
        high = low + size * (1 - margin / 2)
    return Box(
        start(region.left * width, region.right * width, left, right),
        start(low, high, top, bottom),
        size,
    )


def find_subject(image: Image, *, look_for_faces: bool) -> Found:
    """Find where the subject of ``image`` (upright RGB, any size) is.

    Faces count for people only: a face behind the mug is not the subject, and the cascade does not
    know the faces of dogs.
    """
    import numpy as np

    frame = without_bars(np.asarray(shrunk(image, ANALYSIS_PX)))
    edges = _pixels(frame, *image.size)
    mask = find_mask(image.crop(edges)).placed(image.size, edges[:2])
    if look_for_faces and (heads := find_heads(image)):
        return Found(heads[0], "face", mask, frame, n_others=len(heads) - 1)
    if mask.box is None:
        return Found(frame, "centre", mask, frame)
    sides = (image.width, image.height) * 2
    region = Region(*(edge / side for edge, side in zip(mask.box, sides, strict=True)))
    return Found(region, "what stands out", mask, frame, mask.touching)


def _pixels(region: Region, width: int, height: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a region in pixels; at least one lies inside."""
    left = min(round(region.left * width), width - 1)
    top = min(round(region.top * height), height - 1)
    right, bottom = round(region.right * width), round(region.bottom * height)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def shrunk(image: Image, longest_px: int) -> Image:
    """Return ``image`` with at most ``longest_px`` a side, each pixel the mean of its area."""
    from PIL import Image as Pillow

    scale = min(1.0, longest_px / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Pillow.Resampling.BOX)


def without_bars(pixels: np.ndarray) -> Region:
    """Return the picture inside bars of one colour (a letterbox, a screenshot's margins).

    Parameters
    ----------
    pixels : np.ndarray, shape = (height, width, 3), uint8
    """
    height, width = pixels.shape[:2]

    def bar(lines: np.ndarray) -> int:
        """Count the lines from the first on that are flat and of one colour, at most a third."""
        lines = lines.astype(int)
        flat = (lines.max(axis=1) - lines.min(axis=1)).max(axis=1) <= 12  # JPEG noise stays below
        apart = np.abs(lines.mean(axis=1) - lines[0].mean(axis=0)).max(axis=1)
        count = int(np.argmin(np.append(flat & (apart <= 6), False)))
        # Behind a bar something else begins; a wall's soft shade goes on as it was.
        behind = min(count + 1, len(lines) - 1)
        is_shade = flat[behind] and apart[behind] <= 18
        return 0 if is_shade or count > len(lines) // 3 else count

    import numpy as np

    top, bottom = bar(pixels), bar(pixels[::-1])
    rows = pixels[top : height - bottom].swapaxes(0, 1)
    left, right = bar(rows), bar(rows[::-1])
    # A plain wall or sky beside the subject is no bar: bars come in pairs of one width.
    if abs(top - bottom) > 2 or min(top, bottom) < 2:
        top = bottom = 0
    if abs(left - right) > 2 or min(left, right) < 2:
        left = right = 0
    edge = 1 if top or left else 0  # the line where bar and picture are blended
    return Region(
        (left + edge * bool(left)) / width,
        (top + edge * bool(top)) / height,
        1 - (right + edge * bool(right)) / width,
        1 - (bottom + edge * bool(bottom)) / height,
    )


def find_heads(image: Image) -> list[Region]:
    """Find frontal faces, widened to the whole head with hair and chin; the largest first.

    Those that are less than half as large stand behind, and are left out.

    Source: LBP cascade of OpenCV, as scikit-image ships it (OpenCV 5 has no cascades any more).
    """
    import numpy as np

    pixels = np.asarray(shrunk(image, FACE_PX).convert("L"))
    height, width = pixels.shape
    shortest = min(height, width)
    if shortest < 48:
        return []
    faces = _face_cascade().detect_multi_scale(
        img=pixels,
        scale_factor=1.15,
        step_ratio=1,
        min_size=(max(24, shortest // 12),) * 2,
        max_size=(shortest,) * 2,
        min_neighbor_number=4,
    )
    faces.sort(key=lambda found: (-found["width"], found["c"], found["r"]))
    heads: list[Region] = []
    for face in faces:
        column, row = (face[key] + face["width"] / 2 for key in ("c", "r"))
        is_new = not any(head.holds(column / width, row / height) for head in heads)
        if is_new and 2 * face["width"] >= faces[0]["width"]:
            heads.append(_head_of(face, width, height))
    return heads


def _head_of(face: dict[str, int], width: int, height: int) -> Region:
    """A face with hair and chin: half of its size again above, a third to the sides."""
    size = face["width"]  # the cascade's square goes from brows to lips
    return Region(
        max(0.0, (face["c"] - size / 3) / width),
        max(0.0, (face["r"] - size / 2) / height),
        min(1.0, (face["c"] + size * 4 / 3) / width),
        min(1.0, (face["r"] + size * 1.4) / height),
    )


@functools.cache
def _face_cascade():
    from skimage.data import lbp_frontal_face_cascade_filename
    from skimage.feature import Cascade

    return Cascade(lbp_frontal_face_cascade_filename())

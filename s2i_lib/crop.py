"""The square that is cut from a photo: around faces, else what stands out, else the centre."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from s2i_lib.errors import InputError

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
        """Left, top, right, bottom; right and bottom are the first pixels outside."""
        return self.left, self.top, self.left + self.size, self.top + self.size

    def check(self, name: str, width: int, height: int) -> Box:
        """Itself, if it lies in a photo of that size.

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


WHOLE = Region(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Found:
    """The subject in a photo."""

    region: Region
    method: Method
    frame: Region = WHOLE
    """The photo without the bars around it."""
    touches: float = 0.0
    """The longest part of the subject's outline that lies on the photo's edge, in parts of the
    subject's width or height."""


def square_around(region: Region, frame: Region, width: int, height: int, margin: float) -> Box:
    """The square around ``region``, plus ``margin`` of its longer side all around, in ``frame``.

    Where the region is larger than any square in the frame, the square is as large as fits; it then
    holds the region's middle, and of what is too tall the top, where heads are. Both are parts of a
    photo of ``width`` x ``height`` pixels.
    """
    # However thin the frame and small the photo, it holds a pixel of the photo.
    left = min(round(frame.left * width), width - 1)
    top = min(round(frame.top * height), height - 1)
    right = max(round(frame.right * width), left + 1)
    bottom = max(round(frame.bottom * height), top + 1)
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
    """Where the subject of ``image`` (upright RGB, any size) is.

    Faces count for people only: a face behind the mug is not the subject, and the cascade does not
    know the faces of dogs.
    """
    import numpy as np

    pixels = np.asarray(shrunk(image, ANALYSIS_PX))
    frame = without_bars(pixels)
    if look_for_faces and (face := find_face(image)) is not None:
        return Found(face, "face", frame)
    height, width = pixels.shape[:2]
    left, right = round(frame.left * width), round(frame.right * width)
    top, bottom = round(frame.top * height), round(frame.bottom * height)
    found = salient_box(np.ascontiguousarray(pixels[top:bottom, left:right]))
    if found is None:
        return Found(frame, "centre", frame)
    box, touches = found
    return Found(
        Region(
            (left + box[0]) / width, (top + box[1]) / height,
            (left + box[2]) / width, (top + box[3]) / height,
        ),
        "what stands out",
        frame,
        touches,
    )  # fmt: skip


def shrunk(image: Image, longest_px: int) -> Image:
    """``image`` with its longer side at most ``longest_px``, each pixel the mean of its area."""
    from PIL import Image as Pillow

    scale = min(1.0, longest_px / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Pillow.Resampling.BOX)


def without_bars(pixels: np.ndarray) -> Region:
    """The picture inside bars of one colour (a letterbox, a screenshot's margins).

    Parameters
    ----------
    pixels : np.ndarray, shape = (height, width, 3), uint8
    """
    height, width = pixels.shape[:2]

    def bar(lines: np.ndarray) -> int:
        """How many lines from the first on are flat and of one colour, at most a third of all."""
        lines = lines.astype(int)
        flat = (lines.max(axis=1) - lines.min(axis=1)).max(axis=1) <= 12  # JPEG noise stays below
        same = np.abs(lines.mean(axis=1) - lines[0].mean(axis=0)).max(axis=1) <= 6
        count = int(np.argmin(np.append(flat & same, False)))
        return count if count <= len(lines) // 3 else 0

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


def find_face(image: Image) -> Region | None:
    """The largest frontal face, widened to the whole head and shoulders' breadth of hair and chin.

    Source: LBP cascade of OpenCV, as scikit-image ships it (OpenCV 5 has no cascades any more).
    """
    import numpy as np

    pixels = np.asarray(shrunk(image, FACE_PX).convert("L"))
    height, width = pixels.shape
    shortest = min(height, width)
    if shortest < 48:
        return None
    faces = _face_cascade().detect_multi_scale(
        img=pixels,
        scale_factor=1.15,
        step_ratio=1,
        min_size=(max(24, shortest // 12),) * 2,
        max_size=(shortest,) * 2,
        min_neighbor_number=4,
    )
    if not faces:
        return None
    face = max(faces, key=lambda found: (found["width"], -found["c"], -found["r"]))
    # The cascade's square goes from brows to lips: half of it again above, a third to the sides.
    size = face["width"]
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


def salient_box(pixels: np.ndarray) -> tuple[tuple[int, int, int, int], float] | None:
    """Left, top, right, bottom of what stands out, and how much of it touches the edge; or None.

    What the border of a picture cannot reach through like colours is the subject (geodesic saliency
    on superpixels), more so near the centre; GrabCut then draws its outline.

    Parameters
    ----------
    pixels : np.ndarray, shape = (height, width, 3), uint8

    Source: Wei et al., Geodesic Saliency Using Background Priors, ECCV 2012; Rother et al.,
    GrabCut, SIGGRAPH 2004.
    """
    import cv2
    import numpy as np

    height, width = pixels.shape[:2]
    if min(height, width) < 16:
        return None
    saliency = _geodesic_saliency(pixels)
    y, x = np.mgrid[:height, :width]
    distance2 = ((x + 0.5) / width - 0.5) ** 2 + ((y + 0.5) / height - 0.5) ** 2
    saliency = saliency * np.exp(-distance2 / (2 * 0.35**2))
    if saliency.max() < 1:  # a plain wall
        return None
    scaled = (saliency / saliency.max() * 255).astype(np.uint8)
    threshold, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_OTSU)
    labels = np.where(scaled > threshold, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[scaled > max(threshold * 1.6, np.quantile(scaled, 0.95))] = cv2.GC_FGD
    edge = max(2, min(height, width) // 50)
    labels[:edge] = labels[:, :edge] = labels[:, -edge:] = cv2.GC_BGD
    labels[scaled < 13] = cv2.GC_BGD
    is_subject = labels & 1 == 1
    if is_subject.any() and not is_subject.all():
        cv2.setRNGSeed(0)  # GrabCut begins with a random k-means
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(
            np.ascontiguousarray(pixels[..., ::-1]), labels, None, *models, 3,
            cv2.GC_INIT_WITH_MASK,
        )  # fmt: skip
        is_subject = labels & 1 == 1
    count, parts, stats, _ = cv2.connectedComponentsWithStats(is_subject.astype(np.uint8))
    weights = np.bincount(parts.ravel(), saliency.ravel(), minlength=count)[1:]
    if count < 2 or weights.max() <= 0:
        return None
    large = stats[1:][weights >= 0.25 * weights.max()]
    if large[:, cv2.CC_STAT_AREA].sum() < 0.001 * height * width:
        return None
    left, top = large[:, 0].min(), large[:, 1].min()
    right, bottom = (large[:, 0] + large[:, 2]).max(), (large[:, 1] + large[:, 3]).max()
    is_subject = np.isin(parts, 1 + np.flatnonzero(weights >= 0.25 * weights.max()))
    lines = (
        (is_subject[:, edge], bottom - top),
        (is_subject[:, -edge - 1], bottom - top),
        (is_subject[edge], right - left),
        (is_subject[-1], right - left),  # below, GrabCut may reach the edge: things stand there
    )
    touches = max(float(line.sum() / length) for line, length in lines)
    return (int(left), int(top), int(right), int(bottom)), touches


def _geodesic_saliency(pixels: np.ndarray) -> np.ndarray:
    """For each pixel: the least sum of colour steps (CIELAB) on a way to the picture's border."""
    import cv2
    import numpy as np
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import dijkstra
    from skimage.segmentation import slic

    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    parts = slic(
        lab, 250, compactness=10, max_num_iter=5, convert2lab=False, start_label=0, channel_axis=-1
    )
    count = int(parts.max()) + 1
    areas = np.bincount(parts.ravel(), minlength=count)
    mean = np.stack(
        [
            np.bincount(parts.ravel(), lab[..., c].ravel(), minlength=count) / areas
            for c in range(3)
        ],
        axis=1,
    )
    beside = np.concatenate(
        [
            np.stack([parts[:, :-1].ravel(), parts[:, 1:].ravel()], axis=1),
            np.stack([parts[:-1].ravel(), parts[1:].ravel()], axis=1),
        ]
    )
    beside = np.unique(np.sort(beside[beside[:, 0] != beside[:, 1]], axis=1), axis=0)
    steps = np.linalg.norm(mean[beside[:, 0]] - mean[beside[:, 1]], axis=1)
    border = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    # A part of the border that is unlike most of the border may be the subject, cut off there.
    apart = np.linalg.norm(mean[border][:, None] - mean[border][None], axis=2)
    unlike = np.sort(apart, axis=1)[:, len(border) // 3]
    outside = count
    weights = np.maximum(np.concatenate([steps, unlike]) - 3, 0.01)  # 3: just visible in CIELAB
    ways = coo_matrix(
        (
            weights,
            (
                np.concatenate([beside[:, 0], border]),
                np.concatenate([beside[:, 1], np.full(len(border), outside)]),
            ),
        ),
        shape=(count + 1, count + 1),
    )
    return dijkstra(ways.tocsr(), directed=False, indices=outside)[parts]

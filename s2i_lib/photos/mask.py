"""The subject's mask: what of a photo is the subject, softly, and whether that can be trusted.

A small network that finds what stands out (U²-Net's small version, which ships with this package)
looks at the photo once. Of what it finds, the parts that belong to the subject are kept: the
heaviest near the middle, and what is of its size. A mask that is doubtful says so, in words; the
photo is used whole then.

Source: Qin et al., U²-Net: Going deeper with nested U-structure for salient object detection,
Pattern Recognition 2020 (arXiv:2005.09007); https://github.com/xuebinqin/U-2-Net, Apache-2.0.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.errors import S2iError
from s2i_lib.storage.files import sha256_of

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

WEIGHTS = Path(__file__).parent / "u2netp" / "u2netp.onnx"
SHA256 = "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8"
_one_at_a_time = threading.Lock()  # two photos side by side would take 200 MB more
SIDE_PX = 320  # the network was trained at this size
# ImageNet's, as the network was trained with.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SURE = 0.3  # a network that takes no pixel for the subject with this probability sees none
IS_SUBJECT = 0.5
SPREAD = 0.35  # of the photo's sides: how far from the middle a subject usually lies
NEAR = 0.75  # of the photo's longer side: a second look that shows more of it finds no more
PART = 0.25  # parts with this share of the heaviest one's weight belong to the subject, too
ALIKE = 0.5  # from this share on the second heaviest may be the subject as well as the first
# Doubtful: less or more of the photo than this, cut by two edges over this part of the outline,
# or in more pieces than this of a tenth of the largest.
LEAST, MOST, CUT, MOST_PIECES = 0.01, 0.9, 0.25, 3


@dataclass(frozen=True)
class Mask:
    """What of a photo is the subject."""

    alpha: np.ndarray
    """Share of the subject in each pixel, shape = (height, width), float32 in 0 to 1."""
    doubt: str = ""
    """Why it should not be trusted, in words; empty where it can be."""
    second: float = 0.0
    """Weight of the second heaviest thing that stands out, in parts of the heaviest's."""

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """Left, top, right and bottom of the subject in pixels; None where there is none."""
        import numpy as np

        inside = self.alpha >= IS_SUBJECT
        columns, rows = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
        if not len(columns):
            return None
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    def image(self) -> Image:
        """Return the mask as a grey picture, white where the subject is."""
        from PIL import Image as Pillow

        return Pillow.fromarray((self.alpha * 255).round().astype("uint8"))

    @property
    def rival(self) -> str:
        """Sentence's end for a photo of one subject that shows two; empty where it shows one."""
        if self.second < ALIKE:
            return ""
        return "two things stand out alike, and nobody can say which is the subject"

    @property
    def touching(self) -> float:
        """Longest part of the outline on an edge, in parts of the subject's width or height."""
        return max(_on_edges(self.alpha >= IS_SUBJECT))

    def placed(self, size: tuple[int, int], at: tuple[int, int]) -> Mask:
        """Return this mask in a photo of ``size``, whose part that begins ``at`` it shows."""
        import numpy as np

        height, width = self.alpha.shape
        if size == (width, height):
            return self
        whole = np.zeros(size[::-1], np.float32)
        whole[at[1] : at[1] + height, at[0] : at[0] + width] = self.alpha
        return replace(self, alpha=whole)


def find_mask(image: Image) -> Mask:
    """Find the subject of a photo.

    What is small is seen in a few pixels, and its outline is loose: a second look is from close by,
    at a picture that has more to show than the first look saw.

    Parameters
    ----------
    image : Image
        Upright, RGB, of any size.

    Returns
    -------
    Mask
        Of ``image``'s size, as fine as the network's 320 x 320 for the part around the subject.

    Raises
    ------
    S2iError
        When the network's weights are missing or damaged.
    """
    far = _look(image)
    if far.doubt or far.box is None or max(image.size) <= SIDE_PX:
        return far
    near = _around(far.box, image.size)
    if max(near[2] - near[0], near[3] - near[1]) > NEAR * max(image.size):
        return far
    close = _look(image.crop(near))
    if close.doubt:
        return far
    return replace(close, second=far.second).placed(image.size, near[:2])


def read_mask(path: Path, size: tuple[int, int]) -> Mask:
    """Read a mask that was kept as a grey picture, for a photo of ``size``."""
    import numpy as np
    from PIL import Image as Pillow

    with Pillow.open(path) as image:
        alpha = image.convert("L").resize(size, Pillow.Resampling.BICUBIC)
    return Mask(np.asarray(alpha, np.float32) / 255)


def _around(box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box with half of its longer side all around it, as far as the photo goes."""
    margin = round(max(box[2] - box[0], box[3] - box[1]) / 2)
    return (
        max(0, box[0] - margin),
        max(0, box[1] - margin),
        min(size[0], box[2] + margin),
        min(size[1], box[3] + margin),
    )


def _look(image: Image) -> Mask:
    """The mask of a picture at its own size."""
    import numpy as np
    from PIL import Image as Pillow

    seen = image.convert("RGB").resize((SIDE_PX, SIDE_PX), Pillow.Resampling.LANCZOS)
    pixels = np.asarray(seen, np.float32)
    pixels = (pixels / max(1.0, pixels.max()) - MEAN) / STD
    with _one_at_a_time:
        [raw] = load_network().run(
            ["1959"], {"input.1": pixels.transpose(2, 0, 1)[None].astype(np.float32)}
        )
    raw = raw[0, 0]
    low, high = float(raw.min()), float(raw.max())
    # As its makers do; where it is sure of nothing, that would make noise into a subject.
    alpha = (raw - low) / (high - low) if high > SURE else np.zeros_like(raw)
    parts, weights = _parts(alpha)
    alpha = np.where(np.isin(parts, _of_the_subject(weights)), alpha, 0.0).astype(np.float32)
    doubt = _doubt(alpha, parts)
    resized = Pillow.fromarray(alpha).resize(image.size, Pillow.Resampling.BICUBIC)
    first, second = np.sort([0.0, 0.0, *weights])[:-3:-1]
    return Mask(np.asarray(resized).clip(0, 1), doubt, second / first if first else 0.0)


def _parts(alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number each connected part, 1 and up, with its soft edge; the weight of each in turn."""
    import cv2
    import numpy as np

    side = len(alpha)
    count, cores = cv2.connectedComponents((alpha >= IS_SUBJECT).astype(np.uint8))
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    near = np.exp(-(x**2 + y**2) / (2 * SPREAD**2))
    weights = np.bincount(cores.ravel(), (alpha * near).ravel(), minlength=count)[1:]
    if count < 2:
        return cores, weights
    # A pixel of a soft edge belongs to the part that is nearest to it.
    _, nearest = cv2.distanceTransformWithLabels(
        (cores == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    at = np.zeros(nearest.max() + 1, int)
    at[nearest[cores > 0]] = cores[cores > 0]
    return at[nearest], weights


def _of_the_subject(weights: np.ndarray) -> np.ndarray:
    """The numbers of the parts that belong to the subject."""
    import numpy as np

    return 1 + np.flatnonzero(weights >= PART * weights.max(initial=0.0))


def _doubt(alpha: np.ndarray, parts: np.ndarray) -> str:
    """Why a mask should not be trusted, or nothing."""
    import numpy as np

    inside = alpha >= IS_SUBJECT
    share = float(inside.mean())
    if share < LEAST:
        return "nothing stands out from its surroundings"
    if share > MOST:
        return "the subject fills the photo, so it cannot be told from its surroundings"
    if sum(edge > CUT for edge in _on_edges(inside)) >= 2:
        return "two edges of the photo cut the subject off"
    sizes = np.bincount(parts[inside])
    if (sizes >= sizes.max() / 10).sum() > MOST_PIECES:
        return "the subject falls into many pieces"
    return ""


def _on_edges(inside: np.ndarray) -> tuple[float, float, float, float]:
    """Part of the subject's height or width on the left, right, top and bottom edge."""
    height, width = max(1, inside.any(axis=1).sum()), max(1, inside.any(axis=0).sum())
    return (
        inside[:, 0].sum() / height,
        inside[:, -1].sum() / height,
        inside[0].sum() / width,
        inside[-1].sum() / width,
    )


@functools.cache
def load_network(weights: Path = WEIGHTS) -> Any:
    """Load the network for the CPU with one thread, once a process.

    Raises
    ------
    S2iError
        When the weights are missing or damaged.
    """
    import onnxruntime

    problem = "is missing" if not weights.is_file() else ""
    if not problem and sha256_of(weights) != SHA256:
        problem = "is not the file that was published (its SHA-256 differs)"
    if problem:
        raise S2iError(
            f"The network that finds the subject in a photo, {weights}, {problem}. Install this "
            "package again, or get the repository again."
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # which would keep what one photo took for the next
    return onnxruntime.InferenceSession(str(weights), options, ["CPUExecutionProvider"])

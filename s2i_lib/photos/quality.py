"""Say what is wrong with one photo, in plain words, by thresholds measured on real photos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from s2i_lib.errors import InputError
from s2i_lib.photos.crop import Box, Found, Region

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

Name = Literal[
    "fine", "crop small", "cut off",  # these are kept
    "too small", "subject too small", "blurry", "too dark", "too bright", "near-duplicate",
    "unreadable", "unfit",
]  # fmt: skip
KEPT: tuple[Name, ...] = ("fine", "crop small", "cut off")

SHARPNESS_PX = 512  # side of the crop at which sharpness is measured: what SD 2.1 base sees
LIGHT_PX = 128  # and light


@dataclass(frozen=True)
class DatasetOptions:
    """How photos are judged and cropped.

    Where a threshold says "measured", it lies between the 24 good photos and their degraded copies
    in benchmarks/README.md, which `python -m benchmarks.photos` measures again.
    """

    max_crop_px: int = 1024
    """Largest side of a crop: twice what SD 2.1 base trains on, to leave a choice."""
    min_crop_px: int = 256
    """Smallest side that is kept: below, SD 2.1 would see more interpolation than photo."""
    warn_crop_px: int = 512
    """Side below which SD 2.1 base (512 px) would upscale the crop, which is said."""
    margin: float = 0.2
    """Part of the subject's longer side that is left around it on each side: the boxes that are
    found miss a little of some subjects, and DreamBooth's photos show background too (measured)."""
    max_blur: float = 0.5
    """Blur effect (Crete et al. 2007) of the crop at 512 px, 0 sharp to 1. Measured: good photos
    reach 0.47, a Gaussian blur of 2 px there begins at 0.54."""
    min_light: float = 0.535
    """Brightness that the brightest 2 % of the photo reach, 0 to 1: what is left of white two stops
    too dark, 0.25 ** (1 / 2.2) = 0.532. Measured: 0.68 in good photos, 0.54 when an editor has
    darkened them by a fifth, 0.53 at most when two stops too dark."""
    min_crop_light: float = 0.2
    """Brightness that the brightest 10 % of the crop reach: a subject may be dark below a lamp."""
    max_clipped: float = 0.23
    """Part of the crop's middle in which two colour channels are full (one is, in a bright red).
    Measured: good photos reach 0.01, and 0.21 when an editor has lightened them by a fifth; 2.5
    stops too bright begin at 0.25, but for two dark photos of 24, with 0.18. The pure white around
    a cut-out does not count."""
    max_touching: float = 0.15
    """Part of the subject's width or height on the edge of the photo; beyond, it is called cut off,
    and kept. Measured: it finds 88 % of the photos that lack 20 or 40 % of the subject, and is
    said of 8 % of those that lack nothing."""
    min_held: float = 0.8
    """Part of the subject's box that the crop holds; below, it is cut off, too."""
    max_likeness: float = 0.58
    """Correlation of the details of two photos, one laid over the other. Measured: different photos
    reach 0.45, edited copies of one begin at 0.66."""
    few: int = 4
    many: int = 30
    """DreamBooth works with 3 to 5 photos (Ruiz et al. 2023), and with fewer shows the subject as
    they do; past 30, more adds little."""
    is_for_class: bool = False
    """Classroom mode: photos that a checker flags are left out, where one is installed."""
    mirror: bool | None = None
    """Whether training may mirror the crops. None: for animals only, since people's faces are
    asymmetric and objects carry text."""

    def __post_init__(self) -> None:
        if not 64 <= self.min_crop_px <= self.warn_crop_px <= self.max_crop_px:
            raise InputError(
                f"The crop sizes {self.min_crop_px}, {self.warn_crop_px}, {self.max_crop_px} px "
                "are out of order. Expected 64 <= min_crop_px <= warn_crop_px <= max_crop_px."
            )
        if not 0 <= self.margin <= 2:
            raise InputError(
                f"The margin {self.margin} is out of range. Expected 0 (none) to 2 (twice the "
                "subject's size on each side); 0.2 is the default."
            )


@dataclass(frozen=True)
class Measures:
    """What is measured of one photo; each is explained beside its threshold."""

    blur: float
    light: float
    crop_light: float
    clipped: float
    touching: float
    held: float
    subject: float
    """Longer side of the subject in parts of the photo's shorter side."""


@dataclass(frozen=True)
class Verdict:
    """What is said of one photo."""

    photo: str
    """Name of the file."""
    verdict: Name
    reason: str
    """Reason in plain words: what is wrong and what to do, or that all is well."""
    width: int = 0
    height: int = 0
    """Size of the upright photo in pixels; 0 for one that cannot be read."""
    crop: Box | None = None
    method: str | None = None
    """Way in which the crop was found: "face", "what stands out", "centre", "by hand"."""
    image: str | None = None
    """Name of the crop in the dataset's folder, for a photo that is kept."""
    cut_out: bool = False
    """Whether training cuts the subject out; else it sees the crop whole."""
    doubt: str = ""
    """Why the subject's mask should not be trusted, in words."""

    @property
    def is_kept(self) -> bool:
        return self.verdict in KEPT


def held(box: Box, region: Region, width: int, height: int) -> float:
    """Return the part of ``region`` in ``box``, in a photo of ``width`` x ``height`` pixels."""
    left, top, right, bottom = box.corners
    across = min(right, region.right * width) - max(left, region.left * width)
    down = min(bottom, region.bottom * height) - max(top, region.top * height)
    area = region.width * width * region.height * height
    return max(0.0, across) * max(0.0, down) / area if area else 1.0


def measure(
    overview: Image, crop: Image, box: Box, found: Found, width: int, height: int, lit: Image
) -> Measures:
    """Measure a photo of ``width`` x ``height`` pixels on a small copy of it and on its crop.

    Parameters
    ----------
    overview, crop
        RGB, of any size.
    lit
        The one of them whose brightest parts are looked at.
    """
    import cv2
    import numpy as np
    from skimage.measure import blur_effect

    grey = np.asarray(crop.convert("L"))
    side = min(SHARPNESS_PX, grey.shape[0])
    sharp = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA)
    small = cv2.resize(np.asarray(overview), (LIGHT_PX, LIGHT_PX), interpolation=cv2.INTER_AREA)
    light = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) / 255
    crop_light = cv2.resize(grey, (LIGHT_PX, LIGHT_PX), interpolation=cv2.INTER_AREA) / 255
    region = found.region
    return Measures(
        blur=float(blur_effect(sharp, h_size=11)) if side > 16 else 1.0,
        light=float(np.quantile(light, 0.98)),
        crop_light=float(np.quantile(crop_light, 0.9)),
        clipped=_clipped(lit, is_cut_out=_is_cut_out(small)),
        touching=found.touches,
        held=held(box, region, width, height),
        subject=max(region.width * width, region.height * height) / min(width, height),
    )


def _is_cut_out(pixels: np.ndarray) -> bool:
    """Return whether a picture, shape (height, width, 3), stands on pure white, as in web shops."""
    import numpy as np

    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return bool((border.min(axis=1) >= 254).mean() > 0.9)


def _clipped(crop: Image, *, is_cut_out: bool) -> float:
    """Return the part of a crop's middle in which two of three colour channels are full."""
    import cv2
    import numpy as np

    pixels = cv2.resize(np.asarray(crop), (LIGHT_PX, LIGHT_PX), interpolation=cv2.INTER_AREA)
    counts = np.ones(pixels.shape[:2], bool)
    if is_cut_out:
        is_white = pixels.min(axis=2) >= 250
        _, parts = cv2.connectedComponents(is_white.astype(np.uint8))
        outer = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
        counts = ~(is_white & np.isin(parts, outer))
    middle = slice(LIGHT_PX // 5, LIGHT_PX - LIGHT_PX // 5)
    is_full = (np.median(pixels, axis=2) >= 250) & counts
    # Of a white sheet nothing is left, and all of it is full.
    left = counts[middle, middle].mean()
    return float(is_full[middle, middle].mean() / left) if left > 0.05 else 1.0


def judge(measures: Measures, crop: Box, width: int, height: int, options: DatasetOptions) -> Name:
    """Return the verdict on one photo of ``width`` x ``height`` pixels by itself."""
    if min(width, height) < options.min_crop_px:
        return "too small"
    if measures.light < options.min_light or measures.crop_light < options.min_crop_light:
        return "too dark"
    if measures.clipped > options.max_clipped:
        return "too bright"
    if crop.size < options.min_crop_px:
        return "subject too small"
    if measures.blur > options.max_blur:
        return "blurry"
    if measures.touching > options.max_touching or measures.held < options.min_held:
        return "cut off"
    if crop.size < options.warn_crop_px:
        return "crop small"
    return "fine"


def explain(name: Name, crop: Box, width: int, height: int, options: DatasetOptions) -> str:
    """Say why, and what to do, in a sentence or two."""
    return {
        "fine": "Sharp, well lit and large enough.",
        "crop small": (
            f"Kept, but the crop is {crop.size} px wide and SD 2.1 would upscale it to "
            f"{options.warn_crop_px}: go closer."
        ),
        "cut off": "Kept, but the subject seems to be cut off: step back, or turn the phone.",
        "too small": (
            f"The photo is {width} x {height} px and needs {options.min_crop_px} at least: "
            "send the original, not a preview."
        ),
        "subject too small": (
            f"The crop is {crop.size} px wide and needs {options.min_crop_px}: go closer, or "
            "move the crop if it is in the wrong place."
        ),
        "too dark": "Too dark: go to a window, switch a lamp on, or turn away from the light.",
        "too bright": "Washed out: turn away from the light, or tap on the subject to expose it.",
        "blurry": "Out of focus or shaken: hold still, tap on the subject, and take it again.",
    }[name]

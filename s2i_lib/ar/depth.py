"""How near each part of a picture is, by Depth Anything V2 small.

A picture does not say how far away things are; the network has learned to guess it from millions of
them. What it gives is relative: which part is nearer than which, and no metres. Not run here: its
weights. The tests load a small network of the same class with random ones.

Source: Yang et al. 2024, Depth Anything V2 (arXiv:2406.09414). It gives the inverse of the
distance, so what is near has the larger number.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.devices import pick_device
from s2i_lib.models.folder import BACKBONE
from s2i_lib.models.registry import DEPTH
from s2i_lib.models.vision import Preparation, find_network, load_network, on_the_cpu_if_full

if TYPE_CHECKING:
    from PIL.Image import Image

    from s2i_lib.storage.layout import Drive

OUTLIERS = 1.0  # percent of the pixels at either end that do not set the scale


def estimate_depth(image: Image, drive: Drive) -> np.ndarray:
    """Return how near each part of a picture is, 0 (far) to 1 (near), shape = (h, w), float32.

    ``h`` and ``w`` are the network's, in the picture's proportions.

    Raises
    ------
    InputError
        When the picture is of one colour, so that there is nothing to see.
    S2iError
        When the network is nowhere to be had, or gives no numbers.
    """
    if image.convert("RGB").getcolors(1) is not None:
        raise InputError("The picture is of one colour, so nothing in it is nearer than the rest.")
    prepare, network = _load(find_network(DEPTH, drive))
    found = on_the_cpu_if_full(network, lambda: _look(network, prepare, image))
    if not np.isfinite(found).all():
        raise S2iError(
            f"The network {DEPTH} gave depths that are not numbers. Its weights are damaged: "
            "delete its copy on the Drive, so that it is downloaded again."
        )
    low, high = np.percentile(found, [OUTLIERS, 100 - OUTLIERS])
    if high - low <= 1e-6 * max(abs(high), 1e-6):
        raise InputError("Nothing in the picture looks nearer than the rest.")
    return ((found - low) / (high - low)).clip(0, 1).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _load(folder: Path) -> tuple[Preparation, Any]:
    """Return the network and what prepares pictures for it, loaded once."""
    from transformers import DepthAnythingForDepthEstimation

    prepare = Preparation.read(folder)
    network = load_network(
        folder, DepthAnythingForDepthEstimation, pick_device(), towers=[BACKBONE]
    )
    return prepare, network


def _look(network: Any, prepare: Preparation, image: Image) -> np.ndarray:
    import torch

    with torch.inference_mode():
        pixels = prepare([image]).to(network.device, network.dtype)
        return network(pixels).predicted_depth[0].float().cpu().numpy()

"""A room to stand in: pictures twice as wide as high, whose left and right edges meet.

Every convolution of the U-Net and the VAE goes around in width, so that there is no edge for it to
see, and at each step the latents are turned by another part of the circle, so that no place is
always where the network's grid begins. A model that has seen no panoramas draws a strip that goes
around; how it bends above and below, it does not know.

Source: circular padding as in the tools for textures around Stable Diffusion (2022); turned
latents after the windows that move over MultiDiffusion's (Bar-Tal et al. 2023, arXiv:2302.08113).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionPipeline
    from PIL.Image import Image

WIDTHS = 2  # the sides of a panorama, in heights: it shows 360 degrees by 180
# A turn a step, in parts of the circle: the golden section's comes near no place twice.
TURN = 0.381966


@contextmanager
def going_around(pipeline: StableDiffusionPipeline) -> Iterator[None]:
    """Let the convolutions of U-Net and VAE go around in width while the body runs."""
    from torch import nn

    convolutions = [
        one
        for part in (pipeline.unet, pipeline.vae)
        for one in part.modules()
        if isinstance(one, nn.Conv2d) and one.padding_mode == "zeros" and one.padding[1]
    ]
    for one in convolutions:
        one._conv_forward = _around(one)
    try:
        yield
    finally:
        for one in convolutions:
            del one._conv_forward  # the class's own again


def _around(convolution: Any) -> Any:
    """Return a convolution's forward that pads with the other edge in width, with 0 in height."""
    from torch.nn import functional

    high, wide = convolution.padding

    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        x = functional.pad(x, (wide, wide, 0, 0), mode="circular")
        return functional.conv2d(
            x, weight, bias, convolution.stride, (high, 0), convolution.dilation, convolution.groups
        )

    return forward


class Turning:
    """A U-Net that sees the circle turned by another part at each step, and turns it back.

    What a scheduler keeps of earlier steps stays where it was.
    """

    def __init__(self, unet: Any) -> None:
        self.unet = unet
        self.step = 0

    def __call__(self, noisy: torch.Tensor, t: Any, **given: Any) -> Any:
        by = round(self.step * TURN * noisy.shape[-1]) % noisy.shape[-1]
        self.step += 1
        out = self.unet(noisy.roll(by, -1), t, **given)
        out.sample = out.sample.roll(-by, -1)
        return out


def column_steps(image: Image) -> np.ndarray:
    """Return how far each column is from the one to its left, around the circle.

    Mean over rows and colours of the absolute difference, 0 to 255: shape = (width,). The first is
    the step over the picture's edge.
    """
    pixels = np.asarray(image.convert("RGB")).astype(np.int16)
    return np.abs(pixels - np.roll(pixels, 1, axis=1)).mean(axis=(0, 2))


def begin_at(image: Image, column: int) -> Image:
    """Return the same circle, cut so that it begins at another column."""
    from PIL import ImageChops

    return ImageChops.offset(image, -column % image.width, 0)

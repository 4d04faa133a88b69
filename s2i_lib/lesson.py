"""Show and ask what notebook 5 does: rows of pictures, heat maps, flip-books, exercises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from s2i_lib.drawing import sampling
from s2i_lib.drawing.attention import draw_with_attention
from s2i_lib.drawing.sampling import (
    DrawOptions,
    decode,
    encode_prompts,
    estimate_denoised,
    initial_noise,
)
from s2i_lib.errors import InputError
from s2i_lib.evaluation.metrics import mean_cosines
from s2i_lib.evaluation.report import figure_png
from s2i_lib.models.encoders import load_scorers
from s2i_lib.models.loading import Model
from s2i_lib.models.registry import REGISTRY, known_words
from s2i_lib.models.schedulers import SCHEDULERS
from s2i_lib.photos.cut_out import split
from s2i_lib.photos.reading import encode_image
from s2i_lib.speech.alignment import hear_inside
from s2i_lib.speech.templates import with_article
from s2i_lib.storage.layout import local_folder
from s2i_lib.training.recipes import RECIPES

if TYPE_CHECKING:
    import torch
    from IPython.display import Image as Shown
    from PIL.Image import Image

# All that notebook 5 takes from here: parts of the library that it opens, then its own pictures.
__all__ = [
    "RECIPES",
    "SCHEDULERS",
    "DrawOptions",
    "border_share",
    "check",
    "decode",
    "difference",
    "draw_with_attention",
    "encode",
    "flipbook",
    "guess",
    "hear_inside",
    "heat",
    "initial_noise",
    "load_scorers",
    "local_folder",
    "mean_cosines",
    "show",
    "show_figure",
    "snr",
    "split",
    "with_article",
]  # fmt: skip

FLIP_PX = 288  # side of a flip-book's pictures
BORDER = 8  # the border is an eighth of the side wide: one thing on a plain ground leaves it free


# --- showing -------------------------------------------------------------------------------------


def show(
    images: Sequence[Image | np.ndarray],
    titles: Sequence[str],
    *,
    alt: str,
    columns: int | None = None,
    colours: str = "viridis",
) -> Shown:
    """Show pictures in rows, each under its title, as one PNG with an alternative text.

    Parameters
    ----------
    images
        Pictures, or maps of shape (height, width), drawn in ``colours`` from their own least to
        their own largest value. Pixels stay squares, however few they are.
    """
    from matplotlib.figure import Figure

    columns = columns or min(len(images), 8)
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(max(1.6 * columns, 3.2), 1.9 * rows))
    cells = figure.subplots(rows, columns, squeeze=False).flat
    for cell in cells:
        cell.axis("off")
    for cell, image, title in zip(figure.axes, images, titles, strict=False):
        cell.imshow(np.asarray(image), interpolation="nearest", cmap=colours)
        cell.set_title(title, fontsize=9)
    return show_figure(figure, alt=alt)


def show_figure(figure: Any, *, alt: str) -> Shown:
    """Show a matplotlib figure as a PNG with an alternative text, once and not twice."""
    from IPython.display import Image as Shown

    return Shown(data=figure_png(figure), alt=alt)


def heat(image: Image, shares: np.ndarray, size_px: int = 256) -> Image:
    """Draw a picture in greys under a map in colours: dark blue is its least, yellow its most.

    Parameters
    ----------
    shares
        shape = (side, side), any range; enlarged smoothly to the picture.
    """
    import PIL.Image
    from matplotlib import colormaps

    low, high = float(shares.min()), float(shares.max())
    level = (shares - low) / max(high - low, 1e-12)
    size = (size_px, size_px)
    grey = np.asarray(image.convert("L").convert("RGB").resize(size), np.float32)
    smooth = PIL.Image.fromarray(level.astype(np.float32)).resize(
        size, PIL.Image.Resampling.BICUBIC
    )
    colour = colormaps["viridis"](np.asarray(smooth).clip(0, 1))[..., :3] * 255
    return PIL.Image.fromarray((0.35 * grey + 0.65 * colour).astype(np.uint8))


def flipbook(images: Sequence[Image], captions: Sequence[str], label: str) -> Any:
    """Make a slider over pictures that are drawn already, so that moving it costs nothing.

    Raises
    ------
    InputError
        When there is nothing to flip through, or the captions are not as many.
    """
    import ipywidgets
    import PIL.Image

    if not images or len(images) != len(captions):
        raise InputError(
            f"Found {len(images)} pictures and {len(captions)} captions; a flip-book needs one "
            "caption for each picture, and at least one picture. Run the cells above first."
        )
    size = (FLIP_PX, FLIP_PX)
    enlarged = [image.resize(size, PIL.Image.Resampling.NEAREST) for image in images]
    frames = [encode_image(image, "PNG") for image in enlarged]
    picture = ipywidgets.Image(value=frames[0], format="png", width=FLIP_PX, height=FLIP_PX)
    slider = ipywidgets.SelectionSlider(
        options=[(caption, index) for index, caption in enumerate(captions)],
        description=label,
        layout=ipywidgets.Layout(width="480px"),
        style={"description_width": "initial"},
    )
    slider.observe(lambda change: setattr(picture, "value", frames[change["new"]]), names="value")
    return ipywidgets.VBox([slider, picture])


def check(is_solved: bool, hint: str) -> str:
    """Return what an exercise's last line says; never an error, so that Run all goes on."""
    return "Solved." if is_solved else f"Not yet. {hint}"


# --- measuring -----------------------------------------------------------------------------------


def difference(one: Image, other: Image) -> float:
    """Return the root mean square over all pixels and colours, in levels from 0 (equal) to 255."""
    if one.size != other.size:
        raise InputError(
            f"Pictures of {one.size} and {other.size} pixels cannot be compared. Resize one."
        )
    a, b = (np.asarray(image.convert("RGB"), np.float64) for image in (one, other))
    return float(np.sqrt(np.mean((a - b) ** 2)))


def border_share(image: Image, colour: str) -> float:
    """Return the share of the border's pixels that are nearest to ``colour`` of the known ones.

    On a plain background that is how far it is as asked; a place has several colours.

    Raises
    ------
    InputError
        When it is none of them; they are listed.
    """
    words = known_words(REGISTRY["pocket"]) or {}
    named: dict[str, list[int]] = words["colours"]
    if colour not in named:
        raise InputError(f"There is no colour {colour!r}. Take one of {', '.join(named)}.")
    pixels = np.asarray(image.convert("RGB"), np.float64)
    width = max(1, min(image.size) // BORDER)
    inside = np.zeros(pixels.shape[:2], bool)
    inside[width:-width, width:-width] = True
    ring = pixels[~inside]
    palette = np.array(list(named.values()), np.float64)
    nearest = ((ring[:, None] - palette) ** 2).sum(axis=2).argmin(axis=1)
    return float((palette[nearest] == named[colour]).all(axis=1).mean())


def snr(model: Model, t: int) -> float:
    """Return signal to noise at step ``t`` of the model's schedule, as a ratio of variances."""
    alpha = float(model.pipeline.scheduler.alphas_cumprod[t])
    return alpha / (1 - alpha)


def encode(model: Model, images: Sequence[Image]) -> torch.Tensor:
    """Encode pictures of the model's size as scaled latents, shape = (n, channels, height, width).

    The posterior's mean: what ``decode`` brings back best.
    """
    import torch

    return torch.cat([sampling.encode(model, image) for image in images])


class Guess(NamedTuple):
    """What the U-Net takes the noise, and so the picture, to be; shapes as the noisy latents."""

    noise: torch.Tensor
    clean: torch.Tensor


def guess(model: Model, text: str, noisy: torch.Tensor, t: int) -> Guess:
    """Ask the U-Net once, without guidance, what is noise in ``noisy`` and what is picture.

    Parameters
    ----------
    noisy
        shape = (n, channels, height, width), scaled latents with the noise of step ``t``.
    """
    import torch

    alpha = float(model.pipeline.scheduler.alphas_cumprod[t])
    with torch.inference_mode():
        text_states = encode_prompts(model, [text]).repeat(len(noisy), 1, 1)
        said = model.pipeline.unet(noisy, t, encoder_hidden_states=text_states).sample
        clean = estimate_denoised(noisy, said, alpha, model.base.prediction_type)
        return Guess((noisy - alpha**0.5 * clean) / (1 - alpha) ** 0.5, clean)

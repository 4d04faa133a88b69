"""Somebody seen twice: two views of one individual, alone on grey as cut-outs are scored.

Whether a picture shows *this* dog is the cosine of two cut-outs, and captions teach nothing of it:
all dogs are "a dog". So the scorer also learns which two views show the same individual, among
others of the same noun. An individual is an icon whose colours are turned and that has marks of its
own; its views differ in side, turn, perspective, light, sharpness, and in how well it was cut out.

Source: contrastive learning of instances, Chen et al. 2020 (SimCLR, arXiv:2002.05709).
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter

from s2i_lib.photos.cut_out import MARGIN, NEUTRAL
from tools.pocket import words, world
from tools.pocket.icons import ICON_PX, LOOKS

NOUNS, EACH = 6, 3  # nouns of a batch, and individuals of each


def individual(rng: np.random.Generator, noun: str) -> Image.Image:
    """Return somebody who is one of a noun, RGBA: an icon with colours and marks of its own."""
    row, look = words.NOUNS.index(noun), int(rng.choice(len(LOOKS), p=(0.7, 0.2, 0.1)))
    rgba, mask = world.icons().rgba[row, look], world.icons().masks[row, look]
    if rng.random() < 0.3:
        rgba = world.recoloured(rgba, mask, str(rng.choice(words.COLOUR_NAMES)))
    if rng.random() < 0.2:
        rgba = world.patterned(rng, rgba, mask, str(rng.choice(list(words.PATTERNS))))
    whole = Image.fromarray(rgba)
    hue, saturation, value = whole.convert("RGB").convert("HSV").split()
    turn, richness = rng.integers(256) * (rng.random() < 0.5), rng.uniform(0.5, 1.3)
    hue = hue.point(lambda h: (h + int(turn)) % 256)
    saturation = saturation.point(lambda s: s * richness)
    made = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    for _ in range(rng.integers(0, 4)):
        made = _marked(rng, made)
    made.putalpha(whole.getchannel("A"))
    return made.crop(made.getchannel("A").getbbox())


def _marked(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Return a picture with a patch of another colour somewhere, its light and shade kept."""
    x, y = rng.uniform(0.15, 0.85, 2) * ICON_PX
    wide, high = rng.uniform(0.06, 0.22, 2) * ICON_PX
    where = Image.new("L", image.size)
    ImageDraw.Draw(where).ellipse((x - wide, y - high, x + wide, y + high), fill=230)
    flat = Image.new("RGB", image.size, tuple(rng.integers(20, 256, 3).tolist()))
    light = image.convert("L").point(lambda v: min(255, v + 60)).convert("RGB")
    return Image.composite(ImageChops.multiply(flat, light), image, where)


def view(rng: np.random.Generator, who: Image.Image) -> np.ndarray:
    """Return one look at an individual, cut out: uint8 RGB, shape (128, 128, 3)."""
    if rng.random() < 0.3:
        who = who.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    wide, high = who.size
    pad = max(wide, high) // 6
    roomy = Image.new("RGBA", (wide + 2 * pad, high + 2 * pad))
    roomy.paste(who, (pad, pad))
    who = _tilted(rng, roomy).rotate(rng.uniform(-18, 18), Image.Resampling.BICUBIC, expand=True)
    box = who.getchannel("A").point(lambda a: 255 * (a > 100)).getbbox()
    left, upper, right, lower = box or (0, 0, *who.size)
    if rng.random() < 0.2:  # a part of it is hidden, or was cut off
        lower -= (lower - upper) // 6
    pixels = _lit(rng, who.convert("RGB"))
    alpha = who.getchannel("A")
    if rng.random() < 0.5:
        filters = (ImageFilter.MinFilter(3), ImageFilter.MaxFilter(3), ImageFilter.GaussianBlur(2))
        alpha = alpha.filter(filters[rng.integers(3)])
    grey = Image.new("RGB", who.size, NEUTRAL)
    cut = Image.composite(pixels, grey, alpha).crop((left, upper, right, lower))
    side = round(max(cut.size) * (1 + 2 * MARGIN))
    square = Image.new("RGB", (side, side), NEUTRAL)
    square.paste(cut, ((side - cut.width) // 2, (side - cut.height) // 2))
    if rng.random() < 0.6:  # as coarse as a small picture, or a drawing of it
        small = int(rng.integers(36, 110))
        square = square.resize((small, small), Image.Resampling.BICUBIC, reducing_gap=2.0)
    square = square.resize((world.SIZE_PX,) * 2, Image.Resampling.BICUBIC, reducing_gap=2.0)
    noise = rng.uniform(0, 5) * rng.standard_normal((world.SIZE_PX, world.SIZE_PX, 3))
    return (np.asarray(square) + noise).clip(0, 255).astype(np.uint8)


def _tilted(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Return a picture as if seen from a little to the side."""
    wide, high = image.size
    corners = np.array([(0, 0), (0, high), (wide, high), (wide, 0)], np.float32)
    moved = corners + rng.uniform(-0.12, 0.12, (4, 2)) * (wide, high)
    quad = moved.ravel().tolist()
    return image.transform(image.size, Image.Transform.QUAD, quad, Image.Resampling.BICUBIC)


def _lit(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Return a picture in another light: exposure, contrast, tint, and from one side."""
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.75, 1.2))
    pixels = np.asarray(image, np.float32) * rng.uniform(0.75, 1.15) * rng.normal(1, 0.05, 3)
    across, down = (np.linspace(-0.5, 0.5, n, dtype=np.float32) for n in image.size)
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.5)
    light = 1 + strength * (np.cos(angle) * across[None] + np.sin(angle) * down[:, None])
    return Image.fromarray((pixels * light[..., None]).clip(0, 255).astype(np.uint8))


def pairs(rng: np.random.Generator, nouns: int = NOUNS, each: int = EACH) -> np.ndarray:
    """Return two views each of some individuals: uint8, (2, nouns * each, 128, 128, 3)."""
    chosen = [str(noun) for noun in rng.choice(words.NOUNS, nouns, replace=False)]
    some = [individual(rng, noun) for noun in chosen for _ in range(each)]
    return np.stack([np.stack([view(rng, who) for who in some]) for _ in range(2)])

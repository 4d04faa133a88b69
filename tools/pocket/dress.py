"""Put a hat on anything: where its head, eyes and neck are, and how what it wears is set there.

Faces that fill their icon follow their own outline; animals seen from the side and people down to
the chest have their heads told by hand, in shares of the icon, for the shaded and the flat look.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tools.pocket import words
from tools.pocket.icons import ICON_PX, paintable
from tools.pocket.places import scenery

# noun: head's middle x, its top y, its width, the eyes' y
HEADS = {
    "zebra": (0.14, 0.03, 0.2, 0.11), "deer": (0.13, 0.17, 0.22, 0.23),
    "sheep": (0.13, 0.17, 0.24, 0.28), "camel": (0.13, 0.13, 0.22, 0.2),
    "giraffe": (0.17, 0.06, 0.18, 0.11), "elephant": (0.2, 0.1, 0.36, 0.34),
    "hippo": (0.22, 0.22, 0.34, 0.36), "rhino": (0.13, 0.33, 0.22, 0.43),
    "kangaroo": (0.11, 0.13, 0.2, 0.22), "llama": (0.13, 0.12, 0.2, 0.2),
    "hedgehog": (0.15, 0.54, 0.26, 0.61),
    "squirrel": (0.16, 0.15, 0.3, 0.26), "bat": (0.6, 0.52, 0.22, 0.56),
    "gorilla": (0.12, 0.02, 0.26, 0.13), "turtle": (0.07, 0.47, 0.16, 0.53),
    "snake": (0.73, 0.02, 0.26, 0.11), "lizard": (0.34, 0.08, 0.22, 0.16),
    "dinosaur": (0.15, 0.04, 0.28, 0.1), "dragon": (0.3, 0.25, 0.5, 0.44),
    "rooster": (0.2, 0.03, 0.26, 0.14), "bird": (0.22, 0.17, 0.3, 0.26),
    "parrot": (0.27, 0.03, 0.4, 0.14), "duck": (0.3, 0.02, 0.28, 0.14),
    "swan": (0.17, 0.06, 0.26, 0.2), "eagle": (0.25, 0.4, 0.24, 0.48),
    "flamingo": (0.1, 0.02, 0.2, 0.1), "peacock": (0.45, 0.25, 0.2, 0.3),
    "whale": (0.3, 0.28, 0.5, 0.44), "dolphin": (0.2, 0.17, 0.36, 0.26),
    "fish": (0.25, 0.17, 0.45, 0.43), "shark": (0.25, 0.27, 0.35, 0.34),
    "crab": (0.5, 0.28, 0.5, 0.32), "lobster": (0.5, 0.3, 0.3, 0.37),
    "snail": (0.12, 0.08, 0.28, 0.08), "butterfly": (0.5, 0.2, 0.18, 0.25),
    "caterpillar": (0.13, 0.22, 0.26, 0.3), "bee": (0.1, 0.33, 0.22, 0.4),
    "ladybug": (0.5, 0.13, 0.4, 0.22), "spider": (0.5, 0.13, 0.22, 0.2),
    "horse": (0.33, 0.1, 0.42, 0.3), "unicorn": (0.4, 0.13, 0.42, 0.42),
    "fairy": (0.37, 0.1, 0.22, 0.2), "mermaid": (0.3, 0.02, 0.28, 0.16),
}  # fmt: skip
# Bodies seen from the front: the eyes' y and the head's width, in shares of the outline.
FRONTS = {
    "princess": (0.4, 0.44), "prince": (0.4, 0.44), "doctor": (0.3, 0.46), "chef": (0.42, 0.42),
    "farmer": (0.36, 0.5), "police officer": (0.34, 0.46), "firefighter": (0.4, 0.46),
    "astronaut": (0.3, 0.5), "ninja": (0.3, 0.5), "wizard": (0.42, 0.42),
    "superhero": (0.27, 0.44), "vampire": (0.3, 0.44), "zombie": (0.3, 0.46),
    "snowman": (0.3, 0.4), "teddy bear": (0.27, 0.5), "penguin": (0.26, 0.6), "chick": (0.22, 0.5),
    "owl": (0.25, 0.8), "chicken": (0.4, 0.66), "octopus": (0.5, 0.6), "jellyfish": (0.3, 0.6),
    "robot": (0.5, 0.6), "santa": (0.42, 0.6), "ghost": (0.36, 0.7), "frog": (0.2, 0.8),
    "man": (0.46, 0.72), "woman": (0.46, 0.72), "boy": (0.46, 0.72), "girl": (0.46, 0.72),
    "baby": (0.46, 0.72), "grandfather": (0.46, 0.72), "grandmother": (0.46, 0.72),
    "monkey": (0.38, 0.6), "panda": (0.44, 0.7), "tiger": (0.42, 0.7), "fox": (0.46, 0.6),
    "rabbit": (0.62, 0.6), "koala": (0.42, 0.6), "wolf": (0.48, 0.6), "cow": (0.42, 0.6),
}  # fmt: skip
# What these wear already, or how they hang, leaves no head for more.
NO_HEAD = {"crocodile", "sloth"}
LEAST_WIDTH = 0.36  # of a head, by the icon's; what is set on smaller ones could not be seen
WEARERS = [t.noun for t in words.THINGS if t.kind in words.LIVING and t.noun not in NO_HEAD]


@dataclass(frozen=True)
class Head:
    """Where things are worn, in shares of the icon."""

    x: float
    top: float
    width: float
    eyes: float
    neck: float


@functools.cache
def head_of(noun: str, look: int) -> Head:
    """Return where the head of a noun's look is."""
    from tools.pocket.world import icons

    alpha = icons().rgba[words.NOUNS.index(noun), look, ..., 3] > 128
    rows, columns = alpha.any(1).nonzero()[0], alpha.any(0).nonzero()[0]
    top, height = rows[0], rows[-1] - rows[0] + 1
    if noun in HEADS and (look < 2 or words.BY_NOUN[noun].without):
        x, y, width, eyes = HEADS[noun]
        neck = min(0.95, y + max(width, 0.2) * 1.05)
        return Head(x, y, max(width, LEAST_WIDTH), eyes, neck)
    upper = alpha[top : top + max(2, height // 2)]
    middle = float(np.average(np.arange(ICON_PX), weights=upper.sum(0)))
    near = alpha[:, max(0, round(middle) - 6) : round(middle) + 7]
    tops = near.argmax(0)[near.any(0)]
    crown = float(np.median(tops)) if len(tops) else float(top)
    eyes, share = FRONTS.get(noun, (0.44, 0.0))
    level = alpha[min(ICON_PX - 1, round(crown + (rows[-1] - crown) * 0.25))]
    reach = level.nonzero()[0]
    width = share * len(columns) if share else 0.85 * (reach[-1] - reach[0] + 1)
    is_body = eyes < 0.4 and noun not in ("frog",)
    neck = 0.56 if is_body else 0.86
    return Head(
        middle / ICON_PX,
        crown / ICON_PX,
        max(width / ICON_PX, LEAST_WIDTH),
        (top + eyes * height) / ICON_PX,
        (top + neck * height) / ICON_PX,
    )


@functools.cache
def worn() -> dict[str, np.ndarray]:
    """Return the drawn accessories by name: uint8 RGBA squares."""
    found = scenery()
    named = {
        "hat": "top-hat", "cap": "billed-cap", "crown": "crown", "sunglasses": "sunglasses",
        "glasses": "glasses", "headphones": "headphone", "bow": "ribbon", "balloon": "balloon",
        "party hat": "party hat", "scarf": "scarf", "cape": "cape",
    }  # fmt: skip
    made = {k: np.asarray(found[v]) for k, v in named.items()}
    return made | {"glasses": _with_clear_lenses(made["glasses"])}


LENS = (240, 246, 250, 110)  # so clear that eyes are seen through it
RIM_PX = 5  # of 128: thinner ones are lost where they are a quarter as large


def _within(mask: np.ndarray, px: int) -> np.ndarray:
    """Return what of a mask is further than some pixels from its edge."""
    return np.asarray(Image.fromarray(mask).filter(ImageFilter.MinFilter(2 * px + 1))) > 128


def _with_clear_lenses(rgba: np.ndarray) -> np.ndarray:
    """Return the icon's glasses, whose lenses are blue, as anybody's: coloured ones shade."""
    out, alpha = rgba.copy(), rgba[..., 3]
    blue = paintable(rgba, "vivid") > 60
    out[blue, :3] = np.median(rgba[(alpha > 200) & ~blue, :3], 0)
    out[_within((255 * blue).astype(np.uint8), RIM_PX - 2)] = LENS
    return out


@functools.cache
def paintable_part(name: str) -> np.ndarray:
    """Return what of an accessory takes a colour: uint8, 0 to 255.

    Of a hat all but its band; of glasses the frame; of sunglasses the rim, as lenses are dark.
    """
    rgba = worn()[name]
    alpha = rgba[..., 3].copy()
    if name == "hat":
        return np.minimum(alpha, 255 - paintable(rgba, "vivid"))
    if name == "glasses":
        return np.where(rgba[..., 3] == LENS[3], 0, alpha).astype(np.uint8)
    if name == "sunglasses":
        return np.where(_within(alpha, RIM_PX), 0, alpha).astype(np.uint8)
    mask = paintable(rgba, "pale" if name == "headphones" else "vivid")
    is_dark = (mask > 128).sum() < 0.3 * (alpha > 128).sum()
    return alpha if is_dark else mask


# Accessory: its width by the head's, where its own (x, y) anchor is, and where that is put:
# across (in head widths), and down from the head's top, the eyes or the neck (in head widths).
FITS = {
    "hat": (1.0, 0.5, 0.93, 0.0, 0.1),
    "cap": (1.05, 0.55, 0.8, 0.0, 0.06),
    "crown": (0.9, 0.5, 0.9, 0.0, 0.1),
    "party hat": (0.8, 0.5, 0.95, 0.0, 0.1),
    "bow": (0.7, 0.5, 0.5, 0.2, 0.04),
    "sunglasses": (1.0, 0.5, 0.5, 0.0, 0.0),
    "glasses": (1.0, 0.5, 0.5, 0.0, 0.0),
    "headphones": (1.5, 0.5, 0.64, 0.0, 0.0),
    "scarf": (0.95, 0.5, 0.22, 0.0, 0.0),
}
MARGIN = 72  # pixels round the icon for what sticks out


def dressed(
    rgba: np.ndarray, noun: str, look: int, accessory: str, painted: np.ndarray, jitter: np.ndarray
) -> np.ndarray:
    """Return the icon wearing an accessory: uint8 RGBA, larger by MARGIN on each side.

    `painted` is the accessory's picture, `jitter` four numbers near 0: its size, place and lean.
    """
    size = ICON_PX + 2 * MARGIN
    canvas = Image.new("RGBA", (size, size))
    body = Image.fromarray(rgba)
    head = head_of(noun, look)
    spot = words.BY_ACCESSORY[accessory].spot
    item = Image.fromarray(painted)
    alpha = rgba[..., 3] > 128
    rows, columns = alpha.any(1).nonzero()[0], alpha.any(0).nonzero()[0]

    def paste(picture: Image.Image, px: float, x: float, y: float, ax: float, ay: float) -> None:
        px = max(6, round(px))
        made = picture.resize((px, px), Image.Resampling.BILINEAR)
        made = made.rotate(jitter[3] * 8, Image.Resampling.BILINEAR)
        left, upper = round(MARGIN + x - ax * px), round(MARGIN + y - ay * px)
        layer = Image.new("RGBA", (size, size))
        layer.paste(made, (left, upper))
        canvas.alpha_composite(layer)

    if spot == "back":
        wide, bottom = columns[-1] - columns[0], rows[-1]
        shoulders = head.neck * ICON_PX - 0.08 * ICON_PX
        if head.neck > 0.8:  # a head alone: the cape hangs behind it and below
            shoulders, bottom = rows[0] + 0.35 * (rows[-1] - rows[0]), rows[-1] + 0.3 * len(rows)
        wide = max(1.5 * wide, 0.7 * (bottom - shoulders)) * (1 + 0.06 * jitter[0])
        item = item.resize((round(wide), max(8, round(bottom - shoulders))))
        left = MARGIN + columns.mean() - item.width / 2
        canvas.alpha_composite(item, (max(0, round(left)), round(MARGIN + shoulders)))
        canvas.alpha_composite(body, (MARGIN, MARGIN))
        return np.asarray(canvas)
    canvas.alpha_composite(body, (MARGIN, MARGIN))
    if spot == "hand":
        px = 0.62 * ICON_PX * (1 + 0.08 * jitter[0])
        x = min(columns[-1] + 0.16 * px, ICON_PX + 0.12 * px)
        y = rows[0] + 0.1 * ICON_PX
        hand = columns[0] + 0.86 * (columns[-1] - columns[0]), rows[0] + 0.62 * len(rows)
        line = Image.new("RGBA", (size, size))
        ends = [(MARGIN + hand[0], MARGIN + hand[1]), (MARGIN + x, MARGIN + y + 0.1 * px)]
        ImageDraw.Draw(line).line(ends, fill=(120, 110, 110, 255), width=3)
        canvas.alpha_composite(line)
        paste(item, px, x, y, 0.5, 0.6)
        return np.asarray(canvas)
    width, ax, ay, across, down = FITS[accessory]
    unit = head.width * ICON_PX
    level = {"head": head.top, "eyes": head.eyes, "ears": head.eyes, "neck": head.neck}[spot]
    paste(
        item,
        width * unit * (1 + 0.05 * jitter[0]),
        head.x * ICON_PX + (across + 0.03 * jitter[1]) * unit,
        level * ICON_PX + (down + 0.03 * jitter[2]) * unit,
        ax,
        ay,
    )
    return np.asarray(canvas)

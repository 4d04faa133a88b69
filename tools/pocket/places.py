"""Paint the places of the pocket model's world by code, in as many variants as are asked for.

A place is a sky (or wall) and a layer of ground before it, so that night falls by painting another
sky and darkening the ground; what shines at night is painted last. All painters work on a canvas
of twice the size, which is then halved: clean edges.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import Pool

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tools.pocket import words
from tools.pocket.training import work_folder

BANK_PX = 144  # a scene is a crop of 128 px, mirrored or not
PX = 2 * BANK_PX
NIGHT = np.array([0.30, 0.36, 0.58], np.float32)  # what moonlight leaves of the ground's colours
# Fewer for a trial of what comes after.
VARIANTS = int(os.environ.get("S2I_POCKET_VARIANTS", 64))
NIGHT_VARIANTS = (VARIANTS + 1) // 2

Colour = tuple[int, int, int]


@functools.cache
def scenery() -> dict[str, Image.Image]:
    """Return the icons that stand about, by name."""
    with np.load(work_folder() / "icons.npz") as drawn:
        return {
            str(n): Image.fromarray(a) for n, a in zip(drawn["names"], drawn["more"], strict=True)
        }


@dataclass
class Canvas:
    """The layers of a place while it is painted."""

    rng: np.random.Generator
    is_night: bool = False
    sky: np.ndarray = field(default_factory=lambda: np.zeros((PX, PX, 3), np.float32))
    ground: Image.Image = field(default_factory=lambda: Image.new("RGBA", (PX, PX)))
    glow: Image.Image = field(default_factory=lambda: Image.new("RGBA", (PX, PX)))

    def __post_init__(self) -> None:
        self.pen = ImageDraw.Draw(self.ground)
        self.light = ImageDraw.Draw(self.glow)

    def u(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def near(self, colour: Colour, spread: float = 8) -> Colour:
        """Return nearly this colour."""
        shift = self.rng.normal(0, spread / 2) + self.rng.normal(0, spread / 2, 3)
        r, g, b = (int(c) for c in np.clip(np.array(colour) + shift, 0, 255))
        return r, g, b

    def slope(self, top: Colour, bottom: Colour, bend: float = 1.0) -> np.ndarray:
        share = (np.linspace(0, 1, PX, dtype=np.float32) ** bend)[:, None, None]
        made = np.array(top, np.float32) * (1 - share) + np.array(bottom, np.float32) * share
        return np.broadcast_to(made, (PX, PX, 3)).copy()

    def clouded(self, cells: int, rows: int | None = None) -> np.ndarray:
        """Return smooth noise in [-1, 1], shape (PX, PX)."""
        coarse = self.rng.uniform(-1, 1, (rows or cells, cells)).astype(np.float32)
        image = Image.fromarray(coarse).resize((PX, PX), Image.Resampling.BICUBIC)
        return np.asarray(image)

    def day(self, top: Colour = (92, 170, 240), bottom: Colour = (205, 232, 250)) -> None:
        """Paint a sky of the day, or of the night if it is night."""
        if self.is_night:
            self.stars()
            return
        self.sky = self.slope(self.near(top), self.near(bottom))
        if self.chance(0.35):
            self.sun()

    def sun(self) -> None:
        x, y, r = self.u(0.12, 0.88) * PX, self.u(0.08, 0.2) * PX, self.u(0.05, 0.08) * PX
        image = Image.fromarray(self.sky.clip(0, 255).astype(np.uint8))
        disc = Image.new("L", (PX, PX))
        ImageDraw.Draw(disc).ellipse((x - r, y - r, x + r, y + r), fill=255)
        halo = disc.filter(ImageFilter.GaussianBlur(14))
        image.paste((255, 244, 190), (0, 0), halo)
        image.paste((255, 232, 120), (0, 0), disc)
        self.sky = np.asarray(image, np.float32)

    def stars(
        self, top: Colour = (8, 12, 38), bottom: Colour = (34, 46, 98), moon: float = 0.6
    ) -> None:
        """Paint a sky of the night."""
        self.sky = self.slope(self.near(top, 5), self.near(bottom, 6))
        image = Image.fromarray(self.sky.clip(0, 255).astype(np.uint8))
        pen = ImageDraw.Draw(image)
        for _ in range(self.rng.integers(25, 60)):
            x, y = self.u(0, PX), self.u(0, PX)
            r = self.u(0.8, 2.6)
            shade = int(self.u(170, 255))
            pen.ellipse((x - r, y - r, x + r, y + r), fill=(shade, shade, int(shade * 0.93)))
        if self.chance(moon):
            self.paste(image, "full-moon", self.u(0.12, 0.88), self.u(0.2, 0.26), self.u(0.1, 0.16))
        self.sky = np.asarray(image, np.float32)

    def paste(self, onto: Image.Image, name: str, x: float, bottom: float, size: float) -> None:
        """Put an icon with its foot at (x, bottom); shares of the canvas."""
        px = max(4, round(size * PX))
        icon = scenery()[name]
        if self.chance(0.5):
            icon = icon.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        icon = icon.resize((px, px), Image.Resampling.BILINEAR)
        box = icon.getchannel("A").getbbox() or (0, 0, px, px)
        onto.paste(icon, (round(x * PX - px / 2), round(bottom * PX - box[3])), icon)

    def put(self, name: str, x: float, bottom: float, size: float) -> None:
        self.paste(self.ground, name, x, bottom, size)

    def ridge(self, y: float, height: float, colour: Colour, waves: float = 2.0) -> np.ndarray:
        """Paint a rolling edge and all below it; return the edge's height at each x."""
        x = np.linspace(0, 1, 49)
        edge = np.zeros_like(x)
        for k in (1, 2.3, 4.1):
            edge += np.sin(2 * np.pi * (waves * k * x / 2 + self.rng.random())) / k
        edge = (y + height * edge / 2) * PX
        points = [(float(a) * PX, float(b)) for a, b in zip(x, edge, strict=True)]
        self.pen.polygon([*points, (PX, PX), (0, PX)], fill=(*colour, 255))
        return edge

    def grain(self, from_y: float, strength: float, cells: int = 40) -> None:
        """Make the ground below a height uneven."""
        pixels = np.asarray(self.ground).astype(np.float32)
        uneven = self.clouded(cells) * strength + self.clouded(7) * strength
        uneven += self.rng.normal(0, strength * 0.6, (PX, PX))
        below = (np.arange(PX) > from_y * PX)[:, None]
        pixels[..., :3] += (uneven * below)[..., None]
        self.ground = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        self.pen = ImageDraw.Draw(self.ground)

    def puff(self, pen: ImageDraw.ImageDraw, x: float, y: float, size: float, fill: tuple) -> None:
        """Paint a cloud of a few overlapping discs."""
        for _ in range(7):
            dx, dy = self.rng.normal(0, size * 0.55), self.rng.normal(0, size * 0.16)
            r = size * self.u(0.25, 0.5)
            box = [(x + dx - r) * PX, (y + dy - r * 0.8) * PX]
            pen.ellipse([*box, box[0] + 2 * r * PX, box[1] + 1.6 * r * PX], fill=fill)

    def sky_clouds(self, count: int, low: float, high: float, size: float) -> None:
        if self.is_night:
            return
        layer = Image.new("RGBA", (PX, PX), (255, 255, 255, 0))  # white, so that no rim is dark
        pen = ImageDraw.Draw(layer)
        for _ in range(count):
            shade = int(self.u(240, 255))
            spot = self.u(0, 1), self.u(low, high), self.u(0.7, 1.2) * size
            self.puff(pen, *spot, (shade, shade, 255, 235))
        layer = layer.filter(ImageFilter.GaussianBlur(3))
        image = Image.fromarray(self.sky.clip(0, 255).astype(np.uint8))
        image.paste(layer, (0, 0), layer)
        self.sky = np.asarray(image, np.float32)

    def box(self, x: float, y: float, right: float, bottom: float, colour: tuple) -> None:
        self.pen.rectangle((x * PX, y * PX, right * PX, bottom * PX), fill=colour)

    def blades(self, from_y: float, colour: Colour, count: int = 120) -> None:
        for _ in range(count):
            x, y = self.u(0, PX), self.u(from_y * PX, PX)
            h = self.u(5, 12)
            fill = self.near(colour, 26)
            self.pen.line((x, y, x + self.u(-4, 4), y - h), fill=fill, width=2)

    def finish(self) -> np.ndarray:
        """Return the place: uint8 RGB, shape (BANK_PX, BANK_PX, 3)."""
        layer = np.asarray(self.ground).astype(np.float32)
        if self.is_night:
            layer[..., :3] *= NIGHT
        share = layer[..., 3:] / 255
        whole = Image.fromarray(
            (self.sky * (1 - share) + layer[..., :3] * share).clip(0, 255).astype(np.uint8)
        )
        whole.paste(self.glow, (0, 0), self.glow)
        return np.asarray(whole.reduce(2))


GRASS, SAND, SNOW = (104, 178, 72), (238, 210, 148), (240, 245, 252)


def beach(c: Canvas) -> None:
    c.day()
    c.sky_clouds(int(c.rng.integers(0, 3)), 0.08, 0.3, 0.16)
    horizon, shore = c.u(0.42, 0.5), c.u(0.6, 0.67)
    sea = c.near((34, 134, 200), 14)
    for k in range(12):
        y = horizon + (shore - horizon) * k / 12
        mixed = np.array(sea) * (1 - k / 14) + np.array((120, 215, 215)) * k / 14
        c.box(0, y, 1, 1, (*mixed.astype(int).tolist(), 255))
    for _ in range(10):
        x, y, w = c.u(0, 1), c.u(horizon + 0.02, shore - 0.02), c.u(0.04, 0.12)
        c.pen.line((x * PX, y * PX, (x + w) * PX, y * PX), fill=(200, 235, 245, 255), width=2)
    c.ridge(shore - 0.015, 0.03, (250, 252, 252), 3)
    c.ridge(shore, 0.03, c.near(SAND), 3)
    c.grain(shore + 0.03, 5)
    side = c.rng.choice([-1, 1])
    if c.chance(0.65):
        c.put("palm-tree", 0.5 + side * c.u(0.33, 0.43), c.u(0.72, 0.8), c.u(0.5, 0.65))
    if c.chance(0.4):
        c.put("umbrella-on-ground", 0.5 - side * c.u(0.3, 0.42), c.u(0.76, 0.84), c.u(0.26, 0.36))
    for _ in range(c.rng.integers(0, 4)):
        c.put("spiral-shell", c.u(0.05, 0.95), c.u(0.86, 0.99), c.u(0.05, 0.08))


def sea(c: Canvas) -> None:
    c.day()
    c.sky_clouds(int(c.rng.integers(1, 4)), 0.08, 0.32, 0.16)
    horizon = c.u(0.4, 0.48)
    deep, light = np.array(c.near((20, 92, 176), 14)), np.array((70, 165, 220))
    for k in range(30):
        share = k / 29
        mixed = (light * (1 - share) + deep * share).astype(int).tolist()
        c.box(0, horizon + (1 - horizon) * k / 30, 1, 1, (*mixed, 255))
    for k in range(46):
        y = horizon + 0.015 + (1 - horizon) * (k / 46) ** 1.3
        w = 0.04 + 0.12 * k / 46
        x = c.u(-0.05, 1)
        arc = (x * PX, y * PX - 4, (x + w) * PX, y * PX + 6)
        c.pen.arc(arc, 190, 350, fill=(190, 226, 246, 255), width=2 if k < 25 else 3)


def under_water(c: Canvas) -> None:
    c.sky = c.slope(c.near((92, 205, 228)), c.near((10, 62, 132)), 0.9)
    rays = Image.new("L", (PX, PX))
    pen = ImageDraw.Draw(rays)
    for _ in range(5):
        x, w = c.u(0, 1), c.u(0.02, 0.06)
        lean = c.u(-0.25, 0.05)
        pen.polygon(
            [(x * PX, 0), ((x + w) * PX, 0), ((x + w * 2.5 + lean) * PX, PX),
             ((x - w + lean) * PX, PX)], fill=int(c.u(24, 50)),
        )  # fmt: skip
    rays = rays.filter(ImageFilter.GaussianBlur(6))
    c.sky += np.asarray(rays, np.float32)[..., None] * np.linspace(1, 0.1, PX)[:, None, None]
    bottom = c.u(0.86, 0.92)
    c.ridge(bottom, 0.05, c.near((196, 182, 132)), 2)
    for _ in range(c.rng.integers(4, 9)):
        x, h = c.u(0, 1), c.u(0.12, 0.34)
        shade = c.near((30, 128, 84), 24)
        y = np.linspace(0, h, 12)
        sway = np.sin(y * 26 + c.u(0, 6)) * 0.014
        line = [((x + s) * PX, (bottom + 0.06 - d) * PX) for s, d in zip(sway, y, strict=True)]
        c.pen.line(line, fill=(*shade, 255), width=int(c.u(5, 9)), joint="curve")
    for _ in range(c.rng.integers(1, 4)):
        side = c.u(0.02, 0.25)
        x = side if c.chance(0.5) else 1 - side
        c.put("coral", x, c.u(0.93, 0.99), c.u(0.12, 0.24))
    for _ in range(c.rng.integers(8, 18)):
        x, y, r = c.u(0, PX), c.u(0, 0.85 * PX), c.u(2, 8)
        c.pen.ellipse((x - r, y - r, x + r, y + r), outline=(214, 244, 252, 200), width=2)


def snow(c: Canvas) -> None:
    c.day((150, 190, 226), (226, 236, 246))
    c.ridge(c.u(0.5, 0.56), 0.1, c.near((206, 220, 238), 5), 1.5)
    for _ in range(c.rng.integers(3, 8)):
        side = c.u(-0.02, 0.34)
        x = side if c.chance(0.5) else 1 - side
        y, size = c.u(0.56, 0.7), c.u(0.22, 0.42)
        c.put("evergreen-tree", x, y, size)
        for k in range(3):  # snow on the branches
            w = size * (0.09 + 0.07 * k)
            at = (x * PX, (y - size * (0.82 - 0.24 * k)) * PX)
            arc = (at[0] - w * PX, at[1] - 7, at[0] + w * PX, at[1] + 8)
            c.pen.chord(arc, 180, 360, fill=(248, 250, 255, 255))
    c.ridge(c.u(0.64, 0.7), 0.05, c.near(SNOW, 4), 1.5)
    c.grain(0.66, 3, 16)
    for _ in range(40):
        x, y, r = c.u(0, PX), c.u(0, PX), c.u(1.2, 3.2)
        c.pen.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255, 255))


def forest(c: Canvas) -> None:
    if c.is_night:
        c.stars()
    else:
        c.sky = c.slope(c.near((150, 196, 140)), c.near((214, 232, 176)))
    if c.chance(0.5):
        for depth in range(3):
            shade = np.array((118, 160, 104)) * (1 - depth * 0.26)
            base = 0.62 + 0.05 * depth
            for _ in range(9 - depth * 2):
                x, w = c.u(-0.05, 1.05), 0.012 + 0.012 * depth
                bark = np.array((122, 96, 70)) * (1.05 - depth * 0.16)
                c.box(x - w, 0, x + w, base, (*bark.astype(int).tolist(), 255))
                c.box(x + w * 0.3, 0, x + w, base, (*(bark * 0.82).astype(int).tolist(), 255))
            for _ in range(9):
                fill = (*c.near(tuple(shade.astype(int).tolist()), 14), 255)
                c.puff(c.pen, c.u(0, 1), c.u(-0.04, 0.13), 0.2, fill)
    else:
        for depth in range(3):
            for _ in range(8 - depth * 2):
                side = c.u(-0.05, 0.5 - 0.1 * depth)
                x = side if c.chance(0.5) else 1 - side
                name = "evergreen-tree" if c.chance(0.7) else "deciduous-tree"
                c.put(name, x, 0.64 + 0.05 * depth, c.u(0.4, 0.55) + 0.12 * depth)
    c.ridge(0.67, 0.04, c.near((86, 132, 60)), 2)
    c.grain(0.68, 7)
    c.blades(0.72, (66, 118, 48))
    for _ in range(c.rng.integers(0, 3)):
        c.put("mushroom", c.u(0.04, 0.96), c.u(0.8, 0.96), c.u(0.07, 0.12))


def desert(c: Canvas) -> None:
    c.day((240, 196, 132) if c.chance(0.4) else (116, 188, 236), (252, 232, 196))
    c.ridge(c.u(0.5, 0.56), 0.12, c.near((226, 172, 98)), 1.2)
    c.ridge(c.u(0.6, 0.66), 0.1, c.near((238, 190, 112)), 1)
    for _ in range(c.rng.integers(1, 4)):
        side = c.u(0.05, 0.3)
        x = side if c.chance(0.5) else 1 - side
        c.put("cactus", x, c.u(0.68, 0.82), c.u(0.16, 0.34))
    c.ridge(c.u(0.78, 0.82), 0.06, c.near((246, 202, 126)), 1.3)
    c.grain(0.5, 4)


def mountains(c: Canvas) -> None:
    c.day()
    c.sky_clouds(int(c.rng.integers(0, 4)), 0.06, 0.24, 0.14)
    for depth in range(2):
        for _ in range(3):
            x, w = c.u(-0.05, 1.05), c.u(0.26, 0.42)
            top, base = c.u(0.1, 0.3) + 0.12 * depth, 0.75
            shade = c.near((128, 142, 168) if depth == 0 else (98, 108, 124), 10)
            dark = tuple(int(v * 0.78) for v in shade)
            lean = x + c.u(-0.05, 0.08)
            peak = (x * PX, top * PX)
            c.pen.polygon(
                [peak, ((x + w) * PX, base * PX), ((x - w) * PX, base * PX)], fill=(*shade, 255)
            )
            c.pen.polygon(
                [peak, ((x + w) * PX, base * PX), (lean * PX, base * PX)], fill=(*dark, 255)
            )
            d, drop = 0.30, base - top
            jag = [
                peak,
                ((x + w * d) * PX, (top + drop * d) * PX),
                ((x + w * 0.12) * PX, (top + drop * d * 0.75) * PX),
                (x * PX, (top + drop * d * 1.15) * PX),
                ((x - w * 0.13) * PX, (top + drop * d * 0.72) * PX),
                ((x - w * d) * PX, (top + drop * d) * PX),
            ]
            c.pen.polygon(jag, fill=(246, 249, 255, 255))
    c.ridge(c.u(0.62, 0.68), 0.05, c.near((92, 140, 84)), 1.5)
    for _ in range(c.rng.integers(2, 7)):
        side = c.u(0.0, 0.35)
        x = side if c.chance(0.5) else 1 - side
        c.put("evergreen-tree", x, c.u(0.68, 0.76), c.u(0.12, 0.22))
    c.ridge(c.u(0.74, 0.78), 0.04, c.near((112, 164, 84)), 1.5)
    c.grain(0.7, 5)


def _tower(
    c: Canvas, x: float, width: float, top: float, base: float, shade: Colour, lit: float
) -> None:
    c.box(x, top, x + width, base, (*shade, 255))
    dark = tuple(int(v * 0.8) for v in shade)
    c.box(x + width * 0.82, top, x + width, base, (*dark, 255))
    step = 0.034
    for row in range(int((base - top) / step) - 1):
        for column in range(max(1, int(width * 0.78 / step))):
            wx, wy = x + 0.012 + column * step, top + 0.02 + row * step
            box = (wx * PX, wy * PX, (wx + 0.018) * PX, (wy + 0.02) * PX)
            if c.is_night:
                if c.chance(0.45):
                    c.light.rectangle(box, fill=(255, 222, 120, 255))
            else:
                tone = (250, 240, 190) if c.chance(lit) else (168, 206, 232)
                c.pen.rectangle(box, fill=(*tone, 255))


def city(c: Canvas) -> None:
    c.day((128, 184, 232), (224, 232, 240))
    x = -0.03
    while x < 1:
        w = c.u(0.08, 0.15)
        c.box(x, c.u(0.12, 0.4), x + w, 0.8, (*c.near((166, 180, 202), 8), 255))
        x += w
    x = c.u(-0.1, 0)
    shades = [(120, 132, 156), (176, 148, 128), (92, 112, 142), (156, 160, 166), (140, 110, 104)]
    while x < 1:
        w = c.u(0.13, 0.22)
        shade = c.near(shades[c.rng.integers(len(shades))], 12)
        _tower(c, x, w, c.u(0.18, 0.52), 0.76, shade, 0.25)
        x += w + c.u(0, 0.04)
    c.box(0, 0.74, 1, 1, (*c.near((150, 152, 158)), 255))
    c.box(0, 0.74, 1, 0.76, (196, 198, 202, 255))
    for k in range(9):  # slabs
        x = k / 8
        far = 0.5 + (x - 0.5) * 0.8
        c.pen.line((far * PX, 0.77 * PX, (x * 2 - 0.5) * PX, PX), fill=(132, 134, 140), width=2)
    c.pen.line((0, 0.86 * PX, PX, 0.86 * PX), fill=(132, 134, 140), width=2)
    c.grain(0.76, 4)


def street(c: Canvas) -> None:
    c.day()
    x = c.u(-0.12, 0)
    walls = [(226, 142, 112), (238, 206, 130), (150, 186, 166), (140, 168, 212), (214, 160, 176)]
    while x < 1:
        w, top = c.u(0.22, 0.32), c.u(0.16, 0.3)
        wall = c.near(walls[c.rng.integers(len(walls))], 10)
        c.box(x, top, x + w, 0.68, (*wall, 255))
        roof = [(x - 0.01) * PX, top * PX, (x + w + 0.01) * PX, top * PX, (x + w / 2) * PX]
        c.pen.polygon([*roof, (top - 0.12) * PX], fill=(*c.near((150, 76, 62), 14), 255))
        for k, row in enumerate((top + 0.06, top + 0.21)):
            for column in (0.18, 0.6):
                wx = x + w * column
                box = (wx * PX, row * PX, (wx + w * 0.22) * PX, (row + 0.085) * PX)
                if c.is_night and c.chance(0.6):
                    c.light.rectangle(box, fill=(255, 220, 124, 255))
                else:
                    c.pen.rectangle(box, fill=(182, 218, 238), outline=(250, 250, 250), width=3)
            if k:
                dx = x + w * 0.4
                door = c.near((110, 70, 52), 20)
                c.box(dx, 0.56, dx + w * 0.22, 0.68, (*door, 255))
        x += w
    c.box(0, 0.68, 1, 0.75, (*c.near((190, 188, 184)), 255))
    c.box(0, 0.75, 1, 0.765, (150, 150, 150, 255))
    c.box(0, 0.765, 1, 1, (*c.near((92, 94, 102)), 255))
    shift = c.u(0, 0.2)
    for k in range(-1, 6):
        dash = (k * 0.2 + shift) * PX, 0.89 * PX, (k * 0.2 + shift + 0.1) * PX, 0.91 * PX
        c.pen.rectangle(dash, fill=(240, 240, 232))
    c.grain(0.77, 4)
    if c.chance(0.5):
        x = c.u(0.05, 0.95)
        c.box(x - 0.008, 0.3, x + 0.008, 0.72, (70, 74, 80, 255))
        lamp = ((x - 0.03) * PX, 0.26 * PX, (x + 0.03) * PX, 0.32 * PX)
        (c.light if c.is_night else c.pen).ellipse(lamp, fill=(255, 240, 180, 255))


FLOWERS = ["tulip", "sunflower", "blossom", "hibiscus", "rose"]


def garden(c: Canvas) -> None:
    c.day()
    c.sky_clouds(int(c.rng.integers(0, 3)), 0.06, 0.24, 0.15)
    for _ in range(9):
        c.puff(c.pen, c.u(0, 1), c.u(0.5, 0.58), 0.16, (*c.near((74, 140, 66), 12), 255))
    c.box(0, 0.58, 1, 1, (*c.near((74, 140, 66)), 255))
    if c.chance(0.6):
        for k in range(-1, 14):
            x = k / 13 + 0.01
            c.box(x, 0.48, x + 0.042, 0.7, (250, 250, 246, 255))
            tip = [x * PX, 0.48 * PX, (x + 0.042) * PX, 0.48 * PX, (x + 0.021) * PX, 0.45 * PX]
            c.pen.polygon(tip, fill=(250, 250, 246, 255))
        for y in (0.53, 0.63):
            c.box(0, y, 1, y + 0.022, (236, 236, 230, 255))
    c.ridge(0.68, 0.01, c.near(GRASS), 1)
    c.grain(0.69, 6)
    c.blades(0.72, (76, 150, 56), 80)
    names = c.rng.choice(FLOWERS, 2)
    for row, (y, size) in enumerate(((0.74, 0.12), (0.82, 0.15), (1.0, 0.19))):
        for k in range(8):
            x = k / 7 + c.u(-0.04, 0.04)
            if row and abs(x - 0.5) < 0.28 + 0.04 * row:
                continue  # room for whoever comes
            c.put(str(names[c.rng.integers(2)]), x, y + c.u(-0.01, 0.02), size * c.u(0.85, 1.1))


def meadow(c: Canvas) -> None:
    c.day()
    c.sky_clouds(int(c.rng.integers(1, 4)), 0.08, 0.3, 0.17)
    c.ridge(c.u(0.5, 0.56), 0.09, c.near((140, 196, 104)), 1.3)
    if c.chance(0.5):
        side = c.rng.choice([-1, 1])
        c.put("deciduous-tree", 0.5 + side * c.u(0.28, 0.42), c.u(0.6, 0.68), c.u(0.22, 0.4))
    c.ridge(c.u(0.6, 0.66), 0.06, c.near(GRASS), 1.5)
    c.grain(0.62, 7)
    c.blades(0.68, (84, 160, 60), 160)
    for _ in range(c.rng.integers(10, 40)):
        x, y = c.u(0, PX), c.u(0.68 * PX, PX)
        r = 1.5 + 3 * (y / PX - 0.6)
        tint = [(255, 255, 255), (255, 226, 80), (240, 120, 150)][c.rng.integers(3)]
        c.pen.ellipse((x - r, y - r, x + r, y + r), fill=tint)


def farm(c: Canvas) -> None:
    c.day()
    c.sky_clouds(int(c.rng.integers(0, 3)), 0.06, 0.22, 0.15)
    c.ridge(c.u(0.52, 0.56), 0.05, c.near((150, 190, 98)), 1.3)
    side = c.rng.choice([-1, 1])
    x, w, y = 0.5 + side * c.u(0.2, 0.28), 0.17, 0.66
    red = c.near((190, 52, 44), 10)
    dark = tuple(int(v * 0.72) for v in red)
    c.pen.polygon(
        [((x - w) * PX, y * PX), ((x - w) * PX, 0.44 * PX), ((x - w * 0.6) * PX, 0.32 * PX),
         (x * PX, 0.26 * PX), ((x + w * 0.6) * PX, 0.32 * PX), ((x + w) * PX, 0.44 * PX),
         ((x + w) * PX, y * PX)], fill=(*red, 255),
    )  # fmt: skip
    roof = [((x - w) * PX, 0.44 * PX), ((x - w * 0.6) * PX, 0.32 * PX), (x * PX, 0.26 * PX)]
    roof += [((x + w * 0.6) * PX, 0.32 * PX), ((x + w) * PX, 0.44 * PX)]
    c.pen.line(roof, fill=(240, 240, 240), width=7, joint="curve")
    door = ((x - 0.07) * PX, 0.5 * PX, (x + 0.07) * PX, y * PX)
    c.pen.rectangle(door, fill=(*dark, 255), outline=(244, 244, 244), width=4)
    c.pen.line((door[0], door[1], door[2], door[3]), fill=(244, 244, 244), width=4)
    c.pen.line((door[0], door[3], door[2], door[1]), fill=(244, 244, 244), width=4)
    c.box(0, 0.66, 1, 1, (*c.near((206, 176, 84) if c.chance(0.5) else (126, 176, 78)), 255))
    for k in range(-8, 9):  # furrows
        at = ((0.5 + k * 0.06) * PX, 0.66 * PX, (0.5 + k * 0.2) * PX, PX)
        c.pen.line(at, fill=(160, 124, 62), width=5)
    c.grain(0.66, 6)
    other = 0.5 - side * c.u(0.28, 0.4)
    if c.chance(0.5):
        c.put("tractor", other, c.u(0.7, 0.76), c.u(0.2, 0.28))
    elif c.chance(0.6):
        c.put("sheaf-of-rice", other, c.u(0.7, 0.76), c.u(0.16, 0.22))
    if c.chance(0.6):
        for k in range(7):
            c.box(k / 6 - 0.012, 0.6, k / 6 + 0.012, 0.72, (150, 108, 66, 255))
        for y in (0.62, 0.67):
            c.box(0, y, 1, y + 0.018, (166, 122, 76, 255))


def moon(c: Canvas) -> None:
    c.stars((4, 4, 12), (14, 16, 34), moon=0)
    if c.chance(0.75):
        image = Image.fromarray(c.sky.clip(0, 255).astype(np.uint8))
        earth = c.u(0.15, 0.85), c.u(0.26, 0.36), c.u(0.16, 0.24)
        c.paste(image, "globe-showing-americas", *earth)
        c.sky = np.asarray(image, np.float32)
    c.ridge(c.u(0.58, 0.66), 0.06, c.near((140, 140, 146), 6), 1.2)
    c.ridge(c.u(0.7, 0.74), 0.04, c.near((172, 172, 178), 6), 1.2)
    for _ in range(c.rng.integers(5, 11)):
        x, y = c.u(0, 1), c.u(0.72, 0.98)
        w = c.u(0.03, 0.09) * (0.6 + y)
        h = w * 0.36
        c.pen.ellipse(
            ((x - w) * PX, (y - h) * PX, (x + w) * PX, (y + h) * PX), fill=(128, 128, 134)
        )
        c.pen.ellipse(
            ((x - w * 0.9) * PX, (y - h * 0.5) * PX, (x + w * 0.9) * PX, (y + h) * PX),
            fill=(152, 152, 158),
        )
    c.grain(0.6, 5)


def space(c: Canvas) -> None:
    c.stars((6, 4, 20), (16, 10, 40), moon=0)
    tints = [(110, 40, 150), (30, 70, 170), (160, 40, 100), (20, 120, 130)]
    for _ in range(2):
        tint = np.array(tints[c.rng.integers(len(tints))], np.float32)
        mist = np.clip(c.clouded(5) * 0.6 + c.clouded(11) * 0.3 + 0.1, 0, 1)
        c.sky += mist[..., None] * tint * 0.6
    image = Image.fromarray(c.sky.clip(0, 255).astype(np.uint8))
    for _ in range(c.rng.integers(1, 3)):
        side = c.u(0.06, 0.3)
        x = side if c.chance(0.5) else 1 - side
        name = ["ringed-planet", "full-moon", "globe-showing-americas"][c.rng.integers(3)]
        c.paste(image, name, x, c.u(0.2, 0.95), c.u(0.12, 0.26))
    c.sky = np.asarray(image, np.float32)


def night_sky(c: Canvas) -> None:
    c.stars((6, 12, 48), (44, 62, 132), moon=0.4)
    image = Image.fromarray(c.sky.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(14):  # some shine brighter
        x, y, r = c.u(0, PX), c.u(0, 0.85 * PX), c.u(3, 7)
        pen.polygon(
            [(x, y - r), (x + r * 0.25, y - r * 0.25), (x + r, y), (x + r * 0.25, y + r * 0.25),
             (x, y + r), (x - r * 0.25, y + r * 0.25), (x - r, y), (x - r * 0.25, y - r * 0.25)],
            fill=(255, 246, 200),
        )  # fmt: skip
    c.sky = np.asarray(image, np.float32)
    c.ridge(c.u(0.88, 0.93), 0.05, c.near((14, 22, 50), 4), 1.5)


def clouds(c: Canvas) -> None:
    c.sky = c.slope(c.near((74, 152, 234)), c.near((178, 220, 250)))
    layer = Image.new("RGBA", (PX, PX), (255, 255, 255, 0))
    pen = ImageDraw.Draw(layer)
    for k in range(c.rng.integers(7, 12)):
        y = c.u(0.05, 0.6) if k < 4 else c.u(0.72, 1.0)
        shade = int(c.u(236, 255))
        c.puff(pen, c.u(0, 1), y, c.u(0.14, 0.26), (shade, shade, 255, 240))
    layer = layer.filter(ImageFilter.GaussianBlur(4))
    image = Image.fromarray(c.sky.clip(0, 255).astype(np.uint8))
    image.paste(layer, (0, 0), layer)
    c.sky = np.asarray(image, np.float32)


def rain(c: Canvas) -> None:
    c.sky = c.slope(c.near((92, 104, 122)), c.near((158, 170, 184)))
    if c.is_night:
        c.sky *= NIGHT
    layer = Image.new("RGBA", (PX, PX), (84, 92, 108, 0))
    pen = ImageDraw.Draw(layer)
    for _ in range(10):
        fill = (*c.near((84, 92, 108), 14), 235)
        c.puff(pen, c.u(0, 1), c.u(-0.02, 0.14), c.u(0.16, 0.24), fill)
    layer = layer.filter(ImageFilter.GaussianBlur(3))
    image = Image.fromarray(c.sky.clip(0, 255).astype(np.uint8))
    image.paste(layer, (0, 0), layer)
    c.sky = np.asarray(image, np.float32)
    c.ridge(c.u(0.66, 0.72), 0.03, c.near((98, 112, 108)), 1.3)
    c.grain(0.7, 5)
    for _ in range(c.rng.integers(3, 7)):
        x, y, w = c.u(0, 1), c.u(0.76, 0.98), c.u(0.06, 0.16)
        box = ((x - w) * PX, (y - w * 0.24) * PX, (x + w) * PX, (y + w * 0.24) * PX)
        c.pen.ellipse(box, fill=(150, 170, 188), outline=(186, 202, 214), width=2)


def streaks(rng: np.random.Generator, size_px: int, count: int) -> Image.Image:
    """Return slanting rain to lay before everything: an L mask."""
    mask = Image.new("L", (2 * size_px, 2 * size_px))
    pen = ImageDraw.Draw(mask)
    for _ in range(count):
        x, y, n = rng.uniform(0, 2 * size_px), rng.uniform(-20, 2 * size_px), rng.uniform(14, 30)
        pen.line((x, y, x - n * 0.3, y + n), fill=int(rng.uniform(110, 210)), width=2)
    return mask.reduce(2)


def _planks(c: Canvas, y: float, wood: Colour) -> None:
    c.box(0, y, 1, 1, (*wood, 255))
    dark = tuple(int(v * 0.82) for v in wood)
    for k in range(-10, 11):
        at = ((0.5 + k * 0.075) * PX, y * PX, (0.5 + k * 0.15) * PX, PX)
        c.pen.line(at, fill=dark, width=2)
    c.grain(y, 4, 60)


def room(c: Canvas) -> None:
    walls = [(238, 214, 178), (188, 214, 226), (222, 196, 206), (198, 218, 190), (236, 226, 206)]
    wall = c.near(walls[c.rng.integers(len(walls))], 8)
    c.box(0, 0, 1, 1, (*wall, 255))
    _planks(c, 0.72, c.near((176, 122, 78), 14))
    c.box(0, 0.695, 1, 0.725, (250, 248, 244, 255))
    side = c.rng.choice([-1, 1])
    x = 0.5 + side * c.u(0.24, 0.34)
    frame = ((x - 0.12) * PX, 0.12 * PX, (x + 0.12) * PX, 0.44 * PX)
    pane = (18, 26, 66) if c.is_night else c.near((150, 206, 240), 8)
    c.pen.rectangle(frame, fill=(*pane, 255))
    if c.is_night:
        c.light.rectangle(frame, fill=(24, 32, 78, 255))
    for pen in (c.pen, c.light) if c.is_night else (c.pen,):
        edge = (130, 126, 122, 255) if c.is_night else (252, 252, 250, 255)
        pen.rectangle(frame, outline=edge, width=6)
        pen.line((x * PX, 0.12 * PX, x * PX, 0.44 * PX), fill=edge, width=4)
        pen.line((frame[0], 0.28 * PX, frame[2], 0.28 * PX), fill=edge, width=4)
    other = 0.5 - side * c.u(0.26, 0.36)
    if c.chance(0.6):
        c.put("framed-picture", other, c.u(0.36, 0.42), c.u(0.18, 0.24))
    if c.chance(0.5):
        c.put("couch-and-lamp", other, 0.78, c.u(0.36, 0.46))
    elif c.chance(0.7):
        c.put("potted-plant", 0.5 - side * 0.4, 0.8, c.u(0.24, 0.34))
    if c.chance(0.6):
        rug = c.near([(186, 70, 74), (84, 116, 168), (206, 172, 92)][c.rng.integers(3)], 14)
        w = c.u(0.3, 0.44)
        c.pen.ellipse(((0.5 - w) * PX, 0.8 * PX, (0.5 + w) * PX, 0.96 * PX), fill=(*rug, 255))
        light = tuple(min(255, int(v * 1.2)) for v in rug)
        c.pen.ellipse(
            ((0.54 - w) * PX, 0.815 * PX, (0.46 + w) * PX, 0.945 * PX), outline=light, width=4
        )


def kitchen(c: Canvas) -> None:
    wall = c.near((240, 236, 222), 6)
    c.box(0, 0, 1, 1, (*wall, 255))
    line = tuple(int(v * 0.9) for v in wall)
    for k in range(1, 16):  # tiles
        c.pen.line((k * PX / 14, 0, k * PX / 14, 0.5 * PX), fill=line, width=2)
        c.pen.line((0, k * PX / 14, PX, k * PX / 14), fill=line, width=2)
    doors = [(96, 142, 160), (170, 120, 78), (120, 158, 110), (226, 226, 226), (196, 92, 80)]
    door = c.near(doors[c.rng.integers(len(doors))], 8)
    edge = tuple(int(v * 0.78) for v in door)
    gap = c.u(0.3, 0.55)
    for k in range(5):
        x = k * 0.2
        if abs(x + 0.1 - gap) > 0.14:
            box = (x * PX, 0, (x + 0.2) * PX, 0.22 * PX)
            c.pen.rectangle(box, fill=(*door, 255), outline=edge, width=3)
            c.pen.ellipse(((x + 0.16) * PX, 0.17 * PX, (x + 0.18) * PX, 0.19 * PX), fill=edge)
        box = (x * PX, 0.5 * PX, (x + 0.2) * PX, 0.74 * PX)
        c.pen.rectangle(box, fill=(*door, 255), outline=edge, width=3)
        c.pen.ellipse(((x + 0.16) * PX, 0.54 * PX, (x + 0.18) * PX, 0.56 * PX), fill=edge)
    c.box(0, 0.465, 1, 0.5, (*c.near((112, 98, 90)), 255))
    if c.chance(0.6):
        c.put("teapot", c.u(0.08, 0.9), 0.475, c.u(0.12, 0.16))
    if c.chance(0.4):
        c.put("cooking", c.u(0.08, 0.9), 0.475, c.u(0.13, 0.17))
    if c.chance(0.4):
        c.put("potted-plant", c.u(0.08, 0.9), 0.47, c.u(0.12, 0.17))
    if c.chance(0.7):  # the fridge
        x = 0.0 if c.chance(0.5) else 0.78
        c.box(x, 0.12, x + 0.22, 0.76, (236, 240, 242, 255))
        c.pen.line((x * PX, 0.36 * PX, (x + 0.22) * PX, 0.36 * PX), fill=(170, 176, 180), width=4)
        for y in (0.26, 0.42):
            c.box(x + 0.03, y, x + 0.045, y + 0.07, (150, 156, 162, 255))
    c.box(0, 0.74, 1, 1, (244, 240, 232, 255))
    tint = c.near([(120, 130, 140), (186, 110, 90), (96, 140, 150)][c.rng.integers(3)], 8)
    rows = [0.74, 0.78, 0.83, 0.9, 1.0]
    for r in range(4):
        for k in range(-8, 9):
            if (k + r) % 2:
                continue
            spread = [0.09 + 0.028 * i for i in (r, r + 1)]
            points = [
                ((0.5 + k * spread[0]) * PX, rows[r] * PX),
                ((0.5 + (k + 1) * spread[0]) * PX, rows[r] * PX),
                ((0.5 + (k + 1) * spread[1]) * PX, rows[r + 1] * PX),
                ((0.5 + k * spread[1]) * PX, rows[r + 1] * PX),
            ]
            c.pen.polygon(points, fill=(*tint, 255))


def stage(c: Canvas) -> None:
    red = np.array(c.near([(150, 20, 32), (150, 20, 32), (92, 30, 110)][c.rng.integers(3)], 10))
    back = red * 0.35
    c.sky = c.slope(tuple((back * 0.6).tolist()), tuple(back.tolist()))
    x = np.linspace(0, 1, PX)
    folds = 0.72 + 0.28 * np.sin(2 * np.pi * x * c.u(9, 12) + c.u(0, 6))
    c.sky *= (0.8 + 0.35 * np.sin(2 * np.pi * x * 16))[None, :, None]
    edge = c.u(0.16, 0.24)
    y = np.linspace(0, 1, PX)[:, None]
    waist = edge + 0.05 * np.cos(y * 5)
    sides = (x[None] < waist) | (x[None] > 1 - waist)
    top = y < 0.13 + 0.03 * np.cos(x[None] * 2 * np.pi * 4)
    drape = (folds[None, :, None] * red).astype(np.float32)
    pixels = np.zeros((PX, PX, 4), np.float32)
    for mask, share in ((sides, 1.0), (top, 0.85)):
        pixels[mask] = 255
        pixels[..., :3][mask] = np.broadcast_to(drape * share, (PX, PX, 3))[mask]
    c.ground = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    c.pen = ImageDraw.Draw(c.ground)
    _planks(c, 0.76, c.near((158, 106, 64), 10))
    beam = Image.new("L", (PX, PX))
    pen = ImageDraw.Draw(beam)
    for at in [(0.5,), (0.25, 0.75), (0.3, 0.5, 0.7)][c.rng.integers(3)]:
        spot = 0.5 + c.u(-0.06, 0.06)
        cone = [(at - 0.02) * PX, 0, (at + 0.02) * PX, 0, (spot + 0.3) * PX, 0.9 * PX]
        pen.polygon([*cone, (spot - 0.3) * PX, 0.9 * PX], fill=int(c.u(46, 80)))
        pen.ellipse(((spot - 0.32) * PX, 0.8 * PX, (spot + 0.32) * PX, 0.97 * PX), fill=100)
    c.glow.paste((255, 244, 206, 255), (0, 0, PX, PX))
    c.glow.putalpha(beam.filter(ImageFilter.GaussianBlur(5)))


PAINTERS: dict[str, Callable[[Canvas], None]] = {
    "beach": beach, "sea": sea, "under water": under_water, "snow": snow, "forest": forest,
    "desert": desert, "mountains": mountains, "city": city, "street": street, "garden": garden,
    "meadow": meadow, "farm": farm, "moon": moon, "space": space, "night sky": night_sky,
    "clouds": clouds, "rain": rain, "room": room, "kitchen": kitchen, "stage": stage,
}  # fmt: skip


def paint(place: str, variant: int, is_night: bool = False) -> np.ndarray:
    """Paint one variant of a place: uint8 RGB, shape (BANK_PX, BANK_PX, 3)."""
    seed = [words.PLACE_NAMES.index(place), variant, int(is_night), 23]
    canvas = Canvas(np.random.default_rng(seed), is_night)
    PAINTERS[place](canvas)
    return canvas.finish()


def _paint_all(job: tuple[str, bool]) -> np.ndarray:
    place, is_night = job
    count = NIGHT_VARIANTS if is_night else VARIANTS
    return np.stack([paint(place, k, is_night) for k in range(count)])


@functools.cache
def bank() -> dict[tuple[str, bool], np.ndarray]:
    """Return all painted places by (name, night), memory-mapped; painted first if missing."""
    folder = work_folder() / "places"
    jobs = [(p, False) for p in words.PLACE_NAMES]
    jobs += [(p, True) for p in words.PLACE_NAMES if p not in words.NO_NIGHT]
    files = [folder / f"{p.replace(' ', '_')}{'_night' if n else ''}.npy" for p, n in jobs]
    return {j: np.load(f, mmap_mode="r") for j, f in zip(jobs, files, strict=True)}


def main() -> None:
    folder = work_folder() / "places"
    folder.mkdir(exist_ok=True)
    jobs = [(p, False) for p in words.PLACE_NAMES]
    jobs += [(p, True) for p in words.PLACE_NAMES if p not in words.NO_NIGHT]
    with Pool(int(os.environ.get("S2I_POCKET_CORES", 2))) as pool:
        for (p, n), painted in zip(jobs, pool.imap(_paint_all, jobs), strict=True):
            np.save(folder / f"{p.replace(' ', '_')}{'_night' if n else ''}.npy", painted)
    print(f"{len(jobs)} places, {VARIANTS} variants by day and {NIGHT_VARIANTS} by night")


if __name__ == "__main__":
    main()

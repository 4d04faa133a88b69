"""Fetch the emoji sets and draw every icon of the world once, to `icons.npz`.

The sets come from npm (`npm pack`; npm comes with Node.js), pinned by version and by the SHA-256 of
the archive: Noto Emoji (Apache-2.0), Fluent Emoji flat and 3D (MIT), Twemoji (CC BY 4.0).
"""

from __future__ import annotations

import colorsys
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from tools.pocket import words
from tools.pocket.training import work_folder

ICON_PX = 128  # as large as they are ever shown

ARCHIVES = {  # set -> (npm package, version, SHA-256 of the archive)
    "n": (
        "@iconify-json/noto",
        "1.2.9",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
    ),
    "f": (
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    ),
    "t": (
        "@iconify-json/twemoji",
        "1.2.5",
        "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
    ),
    "3": (
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
    ),
}
LOOKS = ["3d", "flat", "other"]  # shaded and flat are the same shapes; the third is another set's

# What stands about in the places, and what is worn.
SCENERY = [
    "palm-tree", "evergreen-tree", "deciduous-tree", "cactus", "tulip", "sunflower", "blossom",
    "hibiscus", "mushroom", "spiral-shell", "coral", "umbrella-on-ground", "house", "tractor",
    "ringed-planet", "full-moon", "globe-showing-americas", "potted-plant", "framed-picture",
    "couch-and-lamp", "automobile", "taxi", "seedling", "hut", "rose", "sheaf-of-rice",
    "teapot", "cooking",
]  # fmt: skip
WORN_ICONS = [
    "top-hat",
    "billed-cap",
    "crown",
    "sunglasses",
    "glasses",
    "headphone",
    "ribbon",
    "balloon",
]


# No set has these.
PARTY_HAT = """
<path d="M50 12 L86 112 Q50 126 14 112 Z" fill="#e23b4e"/>
<path d="M43 32 L57 32 L63 49 Q50 54 37 49 Z" fill="#ffd84a"/>
<path d="M31 66 Q50 74 69 66 L75 83 Q50 92 25 83 Z" fill="#ffd84a"/>
<path d="M19 99 Q50 110 81 99 L86 112 Q50 126 14 112 Z" fill="#ffd84a"/>
<path d="M50 12 L86 112 Q76 117 64 119 Z" fill="#000" opacity="0.14"/>
<circle cx="50" cy="12" r="11" fill="#7ad0ff"/><circle cx="47" cy="9" r="4" fill="#c6ecff"/>
"""
SCARF = """
<path d="M6 14 Q60 42 114 14 L117 40 Q60 70 3 40 Z" fill="#d8343c"/>
<path d="M76 44 L100 36 L106 92 L82 96 Z" fill="#c22a34"/>
<path d="M82 96 L106 92 L107 101 L83 105 Z" fill="#ffd9d9"/>
<path d="M20 22 L16 47 M44 29 L42 57 M68 30 L70 57 M94 23 L98 48" stroke="#f6a9ac"
 stroke-width="7"/>
"""
CAPE = """
<path d="M36 4 Q60 16 84 4 L118 112 Q104 124 92 114 Q76 126 60 116 Q44 126 28 114 Q16 124 2 112 Z"
 fill="#d22f3c"/>
<path d="M44 10 L28 114 M60 14 L60 116 M76 10 L92 114" stroke="#9c1f2c" stroke-width="5"
 opacity="0.7"/>
"""
DRAWN = {
    "party hat": (PARTY_HAT, "0 0 100 124"),
    "scarf": (SCARF, "0 0 120 120"),
    "cape": (CAPE, "0 0 120 124"),
}


def fetch(folder: Path) -> dict[str, Path]:
    """Return each set's archive, downloading those that are missing and verifying all."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for letter, (name, version, sha256) in ARCHIVES.items():
        archive = folder / f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
        package = f"{name}@{version}"
        if not archive.exists():
            if not shutil.which("npm"):
                raise SystemExit(
                    f"No npm on the PATH, which is to fetch {package} and comes with Node.js. "
                    "Install it (Debian and Ubuntu: apt-get install npm) and run again, or put the "
                    f"archive there yourself: {archive}"
                )
            subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != sha256:
            raise SystemExit(
                f"{archive} is not the archive this recipe was made with: its SHA-256 is {digest}, "
                f"expected {sha256}. Delete it and run again."
            )
        found[letter] = archive
    return found


class Sets:
    """The opened emoji sets; an icon is asked for by its Noto name."""

    def __init__(self, archives: dict[str, Path]):
        self.svg, self.names = {}, {}
        for letter in "nft":
            with tarfile.open(archives[letter]) as tar:
                self.svg[letter] = json.load(tar.extractfile("package/icons.json"))
                self.names[letter] = json.load(tar.extractfile("package/chars.json"))
        # The flat Fluent names come first: those of Noto are the same where both have one.
        self.code = {name: code for code, name in self.names["n"].items()}
        self.code |= {name: code for code, name in self.names["f"].items()}
        with tarfile.open(archives["3"]) as tar:
            self.shaded = {
                Path(m.name).stem.replace("-fe0f", ""): tar.extractfile(m).read()
                for m in tar.getmembers()
                if m.name.endswith(".webp")
            }

    def draw(self, letter: str, name: str) -> np.ndarray | None:
        """Return one icon, trimmed and centred, or None if the set has none of that name."""
        if letter == "3":
            for alias in (name, "person-" + name):
                code = self.code.get(alias, "").replace("-fe0f", "")
                if code in self.shaded:
                    return trimmed(Image.open(io.BytesIO(self.shaded[code])).convert("RGBA"))
            return None
        icons = self.svg[letter]
        if letter == "t":
            name = self.names["t"].get(self.code.get(name, ""), name)
        while name in icons.get("aliases", {}):
            name = icons["aliases"][name]["parent"]
        if name not in icons["icons"]:
            return None
        icon = icons["icons"][name]
        width, height = icon.get("width", icons["width"]), icon.get("height", icons["height"])
        box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
        return from_svg(icon["body"], box)


def from_svg(body: str, box: str) -> np.ndarray:
    """Return a drawn, trimmed and centred SVG: uint8 RGBA, shape (ICON_PX, ICON_PX, 4)."""
    import resvg_py

    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{2 * ICON_PX}" height="{2 * ICON_PX}" viewBox="{box}">{body}</svg>'
    )
    return trimmed(
        Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))).convert("RGBA")
    )


def trimmed(drawn: Image.Image) -> np.ndarray:
    drawn = drawn.crop(drawn.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox())
    scale = (ICON_PX - 2) / max(drawn.size)
    size = (max(1, round(drawn.width * scale)), max(1, round(drawn.height * scale)))
    drawn = drawn.resize(size, Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (ICON_PX, ICON_PX))
    square.paste(drawn, ((ICON_PX - drawn.width) // 2, (ICON_PX - drawn.height) // 2))
    return np.asarray(square)


def looks_of(sets: Sets, thing: words.Thing) -> list[np.ndarray]:
    """Return the three looks; one that a set lacks or the table leaves out is the first again."""
    tried = {
        "3d": [("3", thing.icon)],
        "flat": [("f", thing.icon)],
        "other": [("n", thing.icon), ("t", thing.icon)],
    }
    found = {}
    for look, ways in tried.items():
        drawn = (sets.draw(*way) for way in ways if look not in thing.without)
        found[look] = next((d for d in drawn if d is not None), None)
    first = next((d for d in found.values() if d is not None), None)
    if first is None:
        raise SystemExit(f"No set has an icon for {thing.noun}: {thing.icon}")
    return [first if d is None else d for d in found.values()]


def paintable(rgba: np.ndarray, part: str) -> np.ndarray:
    """Return which parts of an icon take another colour: uint8, its height and width.

    The hue that most of it has, or its light parts if most of it has none.
    """
    pixels = rgba.astype(np.float32) / 255
    rgb, alpha = pixels[..., :3], pixels[..., 3]
    high, low = rgb.max(-1), rgb.min(-1)
    chroma = high - low
    saturation = chroma / np.maximum(high, 1e-5)
    vivid = (saturation > 0.28) & (high > 0.15) & (alpha > 0.3)
    pale = (saturation <= 0.34) & (high > 0.3) & (alpha > 0.3)
    if part == "-":
        return np.zeros(alpha.shape, np.uint8)
    if part == "pale" or (not part and vivid.sum() < pale.sum() * 0.8):
        # Eyes, teeth and the like are as pale: what is as light as most of it counts most.
        usual = np.median(high[pale]) if pale.any() else 1.0
        near = np.clip(1.6 - np.abs(high - usual) / 0.22, 0, 1)
        return (np.where(pale, np.maximum(near, 0.0), 0) * 255).astype(np.uint8)
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    safe = np.maximum(chroma, 1e-5)
    hue = np.where(high == r, (g - b) / safe % 6, np.where(high == g, (b - r) / safe + 2, 4))
    hue = np.where((high == b) & (high != r) & (high != g), (r - g) / safe + 4, hue) * 60
    weight = np.where(vivid, chroma * alpha, 0)
    if part == "warm":
        weight = np.where((hue < 80) | (hue > 330), weight, 0)
    counts = np.bincount((hue // 10).astype(int).ravel() % 36, weight.ravel(), 36)
    smooth = counts + 0.7 * (np.roll(counts, 1) + np.roll(counts, -1))
    peak = smooth.argmax() * 10 + 5
    away = np.abs((hue - peak + 180) % 360 - 180)
    close = np.clip((48 - away) / 14, 0, 1) * np.clip((saturation - 0.14) / 0.12, 0, 1)
    return (np.where(alpha > 0.05, close * (high > 0.12), 0) * 255).astype(np.uint8)


def own_colour(rgba: np.ndarray, mask: np.ndarray) -> str:
    """Return the name of the colour that most of an icon has; "" if people would not agree."""
    share = mask.astype(np.float32) / 255 * (rgba[..., 3] / 255)
    if share.sum() < 0.4 * (rgba[..., 3] / 255).sum():
        return ""
    mean = (rgba[..., :3] * share[..., None]).sum((0, 1)) / share.sum() / 255
    hue, saturation, value = colorsys.rgb_to_hsv(*mean.tolist())
    hue *= 360
    if value < 0.27:
        return "black"
    if saturation < 0.2:
        return "white" if value > 0.82 else ("gray" if value < 0.74 else "")
    if (hue < 46 or hue > 345) and value < 0.66 and saturation < 0.75:
        return "brown"
    if hue < 14 or hue >= 336:
        return "red" if saturation > 0.6 else "pink"
    for limit, name, least in ((38, "orange", 0.6), (66, "yellow", 0.5), (165, "green", 0.3)):
        if hue < limit:
            return name if saturation > least else ""
    if 190 < hue < 250:
        return "blue" if saturation > 0.35 else ""
    if 250 <= hue < 300:
        return "purple" if saturation > 0.3 else ""
    return "pink" if hue >= 300 else ""


def main() -> None:
    work = work_folder()
    sets = Sets(fetch(work / "icons"))
    rgba = np.array([looks_of(sets, thing) for thing in words.THINGS])
    masks = np.array(
        [[paintable(a, t.part) for a in r] for r, t in zip(rgba, words.THINGS, strict=True)]
    )
    own = [
        [own_colour(a, m) for a, m in zip(*both, strict=True)]
        for both in zip(rgba, masks, strict=True)
    ]
    more = {}
    for name in (*SCENERY, *WORN_ICONS):
        drawn = sets.draw("3", name)
        more[name] = sets.draw("f", name) if drawn is None else drawn
    more |= {name: from_svg(body, box) for name, (body, box) in DRAWN.items()}
    kept = [name for name in more if more[name] is not None]
    np.savez_compressed(
        work / "icons.npz",
        rgba=rgba,
        masks=masks,
        own=np.array(own),
        names=np.array(kept),
        more=np.array([more[name] for name in kept]),
    )
    print(f"{len(rgba)} nouns in {len(LOOKS)} looks, {len(kept)} more -> {work / 'icons.npz'}")
    print("missing:", sorted(set(more) - set(kept)))


if __name__ == "__main__":
    main()

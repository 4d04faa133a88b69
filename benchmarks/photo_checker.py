"""What the small checker of classroom mode says of harmless pictures, and how long it takes.

    python -m benchmarks.photo_checker PHOTOS...     # folders of harmless photos, searched through

Beside these: the sample photos, what scikit-image carries (people among them, and a hundred faces),
squares and half-size crops of all, scenes of the pocket model's world, and plain and shaded skin
colours. How many unfit pictures it finds is not measured: nobody may fetch any for this.

Prints markdown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageOps

from s2i_lib.photos.photo_checker import UNFIT, PhotoChecker
from tests.renders import renders

ROOT = Path(__file__).parents[1]
SHIPPED = ("astronaut", "camera", "chelsea", "coffee", "coins", "rocket", "hubble_deep_field",
           "immunohistochemistry", "moon", "page", "retina", "logo", "brick", "grass", "gravel",
           "clock", "colorwheel", "microaneurysms")  # fmt: skip
SKIN = {"pale": (236, 200, 180), "tan": (198, 150, 120), "brown": (120, 80, 60)}


def crops(image: Image.Image) -> Iterator[Image.Image]:
    """The middle square, and five crops of half its side."""
    width, height = image.size
    side = min(image.size)
    yield ImageOps.fit(image, (side, side))
    half = side // 2
    right, lower = width - half, height - half
    for x, y in ((0, 0), (right, 0), (0, lower), (right, lower), (right // 2, lower // 2)):
        yield image.crop((x, y, x + half, y + half))


def skin() -> Iterator[Image.Image]:
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:256, :256]
    shade = (0.75 + 0.25 * np.sin(columns / 60) + 0.1 * np.cos(rows / 90))[..., None]
    for rgb in SKIN.values():
        plain = np.full((256, 256, 3), rgb, float)
        for pixels in (plain, plain * shade + random.normal(0, 4, plain.shape)):
            yield Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", nargs="*", type=Path)
    folders = [*parser.parse_args().photos, ROOT / "s2i_lib" / "samples"]
    paths = [path for folder in folders for path in sorted(folder.rglob("*.jpg"))]
    photos = [ImageOps.exif_transpose(Image.open(path)).convert("RGB") for path in paths]
    carried = [Image.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in SHIPPED]
    faces = [Image.fromarray((face * 255).astype(np.uint8)) for face in skimage.data.lfw_subset()]
    kinds = {
        "photos": photos,
        "crops of these": [crop for photo in photos for crop in crops(photo)],
        "scikit-image's pictures": carried,
        "crops of these ": [crop for picture in carried for crop in crops(picture)],
        "faces, 25 px": faces[:100],  # the others are no faces
        "scenes of the pocket world": renders(),
        "skin colours, plain and shaded": list(skin()),
    }
    checker = PhotoChecker()
    print("| harmless | number | highest score | above 0.2 | flagged | CPU seconds each |")
    print("|---|---|---|---|---|---|")
    for kind, pictures in kinds.items():
        began = time.process_time()
        scores = [checker.score(picture) for picture in pictures]
        each_s = (time.process_time() - began) / len(pictures)
        above, flagged = (sum(score >= limit for score in scores) for limit in (0.2, UNFIT))
        print(
            f"| {kind.strip()} | {len(pictures)} | {max(scores):.3f} | {above} | {flagged} | "
            f"{each_s:.3f} |"
        )


if __name__ == "__main__":
    main()

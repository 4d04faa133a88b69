"""Draw the training scenes once, in shards, and cut crops from photographs.

Shard `k` depends on nothing but `k`, so shards can be made, deleted and made again at will.
"""

from __future__ import annotations

import json
import sys
from multiprocessing import Pool

import numpy as np
from PIL import Image

from tools.pocket import world
from tools.pocket.tokenizer import aside_words
from tools.pocket.training import work_folder

SHARD_SIZE = 10_000  # scenes a shard: 123 MB of pixels
HELD_BACK = 999  # the shard that nothing is trained on
PHOTO_CROPS = 3_000
# Shapes before variety: in the first shards nearly everything is drawn in its first appearance.
# Two appearances make early pictures a blur of both.
FIRST_SHARDS, SECOND_LOOK = 100, 0.1


def draw_shard(shard: int) -> None:
    """Write `scenes_<shard>.npy` (uint8, (n, 64, 64, 3)) and its captions."""
    folder = work_folder() / "scenes"
    folder.mkdir(exist_ok=True)
    if (folder / f"{shard:03}.json").exists():
        return
    rng = np.random.default_rng([shard, 2026])
    aside = aside_words()
    n = SHARD_SIZE if shard != HELD_BACK else 1_000
    share = SECOND_LOOK if shard < FIRST_SHARDS else 0.5
    scenes = [world.random_scene(rng, second_look=share) for _ in range(n)]
    pictures = np.stack([world.paint(rng, scene) for scene in scenes])
    captions = [world.words(rng, scene, aside) for scene in scenes]
    records = [
        {"caption": c, "noun": s.noun, "colour": s.colour, "painted": s.painted,
         "size": s.size, "count": s.count, "look": s.look}
        for c, s in zip(captions, scenes, strict=True)
    ]  # fmt: skip
    np.save(folder / f"{shard:03}.npy", pictures)
    (folder / f"{shard:03}.json").write_text(json.dumps(records))


def shard(number: int) -> tuple[np.ndarray, list[dict]]:
    """Return a shard's pictures (memory-mapped) and records; it is drawn first if it is missing."""
    draw_shard(number)
    folder = work_folder() / "scenes"
    pictures = np.load(folder / f"{number:03}.npy", mmap_mode="r")
    return pictures, json.loads((folder / f"{number:03}.json").read_text())


def random_crop(rng: np.random.Generator, photo: Image.Image) -> np.ndarray:
    """Return a square crop of a photograph at 64 px, mirrored half of the time."""
    side = int(min(photo.size) * rng.uniform(0.35, 1))
    x, y = rng.integers(0, photo.width - side + 1), rng.integers(0, photo.height - side + 1)
    box = (int(x), int(y), int(x) + side, int(y) + side)
    crop = photo.resize(
        (world.SIZE_PX, world.SIZE_PX), Image.Resampling.BICUBIC, box=box, reducing_gap=2.0
    )
    return np.asarray(crop)[:, :: -1 if rng.random() < 0.5 else 1]


def photo_crops(count: int, seed: int = 5) -> np.ndarray:
    """Return crops of the sample photographs that scikit-image carries."""
    import skimage.data

    names = ["astronaut", "coffee", "chelsea", "rocket", "camera", "coins"]
    shares = [0.27, 0.27, 0.27, 0.09, 0.05, 0.05]  # colour photographs more often
    photos = [getattr(skimage.data, name)() for name in names]
    images = [Image.fromarray(p).convert("RGB") for p in photos]
    rng = np.random.default_rng(seed)
    return np.stack([random_crop(rng, images[i]) for i in rng.choice(len(images), count, p=shares)])


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    with Pool(2) as pool:
        both = [FIRST_SHARDS, FIRST_SHARDS + 1]  # for the scorer and the judge
        pool.map(draw_shard, [HELD_BACK, *both, *range(count)], chunksize=1)
    crops = work_folder() / "photo_crops.npy"
    if not crops.exists():
        np.save(crops, photo_crops(PHOTO_CROPS))
    print(f"{count} shards of {SHARD_SIZE} scenes in {work_folder() / 'scenes'}")


if __name__ == "__main__":
    main()

"""Draw the training scenes in shards and keep their latents and captions; cut crops from photos.

Shard `k` depends on nothing but `k`, so shards can be made, deleted and made again at will. What
the U-Net learns from are latents (6 KB a scene); pixels are kept only of the shards that the
decoder, the scorer and the judge learn from.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from PIL import Image

from tools.pocket import dress, words, world
from tools.pocket.training import work_folder

SHARD_SIZE = int(os.environ.get("S2I_POCKET_SHARD", 5_000))  # scenes a shard
HELD_BACK = 999  # the shard that nothing is trained on
PIXELS = range(900, 999)  # shards whose pixels are kept: 900 for the decoder, and ...
LEARNED = range(901, 920)  # ... for judge and scorer; odd ones are loose, even as the U-Net's
PHOTO_CROPS = 3_000
SHEET_COLUMNS, AT_PLACES = 16, 120  # of the tests' renders, and how many are at places
EMPTY, EMPTY_FROM = 0.05, 6  # share of scenes without a thing, and the first shard that has some


def looks_of(shard: int) -> tuple[float, float, float]:
    """Return how often each of the three appearances is drawn in a shard.

    Shapes before variety: in the first shards nearly all are shaded or the same shapes flat.
    """
    return (0.78, 0.18, 0.04) if shard < 24 else (0.6, 0.24, 0.16)


def draw(shard: int, count: int) -> tuple[np.ndarray, list[dict]]:
    """Return pictures (uint8, (n, 128, 128, 3)) and what they show."""
    rng = np.random.default_rng([shard, 2026])
    pictures, records = [], []
    for _ in range(count):
        is_bare = EMPTY_FROM <= shard < PIXELS.start and rng.random() < EMPTY
        scene = (
            world.bare_ground(rng) if is_bare else world.random_scene(rng, looks=looks_of(shard))
        )
        pictures.append(world.paint(rng, scene, loose=shard in PIXELS and shard % 2 == 1))
        records.append({"caption": world.caption(rng, scene), **vars(scene)})
        records[-1]["plain"] = scene.is_plain
    return np.stack(pictures), records


def _files(shard: int) -> tuple[Path, Path]:
    keeps_pixels = shard in PIXELS or shard == HELD_BACK
    folder = work_folder() / ("pictures" if keeps_pixels else "latents")
    folder.mkdir(exist_ok=True)
    return folder / f"{shard:03}.npy", folder / f"{shard:03}.json"


def draw_shard(shard: int) -> None:
    """Write a shard's pixels or latents, and its records."""
    file, records_file = _files(shard)
    if records_file.exists():
        return
    pictures, records = draw(shard, SHARD_SIZE if shard != HELD_BACK else 1_000)
    if file.parent.name == "latents":
        from tools.pocket import vae

        pictures = vae.latents(pictures).numpy()
    np.save(file, pictures)
    temporary = records_file.with_suffix(".tmp")
    temporary.write_text(json.dumps(records))
    temporary.replace(records_file)
    print(f"shard {shard}: {len(records)} scenes", flush=True)


def shard(number: int) -> tuple[np.ndarray, list[dict]]:
    """Return a shard's pictures or latents (memory-mapped) and records, drawn if missing."""
    draw_shard(number)
    file, records_file = _files(number)
    return np.load(file, mmap_mode="r"), json.loads(records_file.read_text())


def ready(first: int = 0) -> range:
    """Return the numbers of the latent shards that are there, in unbroken order from ``first``."""
    end = first
    while (work_folder() / "latents" / f"{end:03}.json").exists():
        end += 1
    return range(first, end)


def random_crop(rng: np.random.Generator, photo: Image.Image) -> np.ndarray:
    """Return a square crop of a photograph at 128 px, mirrored half of the time."""
    side = int(min(photo.size) * rng.uniform(0.4, 1))
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


def fresh_scenes() -> list[world.Scene]:
    """Return scenes for tests: one of every noun on a plain ground, then some at places.

    Of those at places every other one wears something, and the others are painted.
    """
    rng = np.random.default_rng(2026)
    scenes = []
    for noun in words.NOUNS:
        scene = world.Scene(noun, look=int(rng.integers(2)))
        grounds = [c for c in words.COLOUR_NAMES if c != world.shown_colour(scene)]
        scenes.append(replace(scene, colour=str(rng.choice(grounds))))
    for i in range(AT_PLACES):
        noun = str(rng.choice(dress.WEARERS if i % 2 else words.PAINTABLE))
        place = words.PLACE_NAMES[(i + i // 20) % 20]  # each one dressed as well as painted
        scene = world.Scene(noun, int(rng.integers(2)), place=place)
        which = i // 2 % 11  # of 11 accessories, and 11 colours
        worn, colour = words.ACCESSORY_NAMES[which], words.COLOUR_NAMES[which]
        scenes.append(replace(scene, **({"accessory": worn} if i % 2 else {"painted": colour})))
    return scenes


def write_renders(file: Path) -> None:
    """Write a sheet of fresh scenes, for tests, and beside it what each of them shows."""
    rng = np.random.default_rng(2027)
    scenes = fresh_scenes()
    sheet = world.contact_sheet([world.paint(rng, scene) for scene in scenes], SHEET_COLUMNS)
    sheet.save(file, quality=90)
    lines = ",\n".join(
        json.dumps(
            {"noun": scene.noun, "place": scene.place, "accessory": scene.accessory}
            | {"colour": scene.painted, "ground": "" if scene.place else scene.colour}
        )
        for scene in scenes
    )
    file.with_suffix(".json").write_text(f"[\n{lines}\n]\n")


def main() -> None:
    """Draw shards: `data.py pixels` those with pixels and the crops, `data.py FROM TO` latents.

    `data.py learned` draws what judge and scorer learn from, and no more; `data.py renders FILE`
    writes the scenes that tests look at.
    """
    if sys.argv[1:2] == ["renders"]:
        write_renders(Path(sys.argv[2]))
        return
    if sys.argv[1:2] == ["learned"]:
        jobs = [HELD_BACK, *LEARNED]
    elif sys.argv[1:2] == ["pixels"]:
        jobs = [900, HELD_BACK, *LEARNED]
        crops = work_folder() / "photo_crops.npy"
        if not crops.exists():
            np.save(crops, photo_crops(PHOTO_CROPS))
    else:
        jobs = list(range(int(sys.argv[1]), int(sys.argv[2])))
    with Pool(int(os.environ.get("S2I_POCKET_CORES", 2))) as pool:
        pool.map(draw_shard, jobs, chunksize=1)


if __name__ == "__main__":
    main()

"""Measure the verdicts and crops of `s2i_lib.photos` on real photos and degraded copies of them.

    python -m benchmarks.photos --photos DIR

DIR holds a folder of good photos for each subject, such as the DreamBooth dataset's. Printed are
precision and recall of each verdict, and, where the subject's box is known (BOXES), how much of it
the crops hold.
"""

from __future__ import annotations

import argparse
import io
import itertools
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from s2i_lib.photos.crop import find_subject, square_around
from s2i_lib.photos.dataset import build_dataset
from s2i_lib.photos.quality import DatasetOptions
from s2i_lib.photos.reading import read_photo
from s2i_lib.photos.subject import Subject
from s2i_lib.storage.layout import Drive

# Left, top, right, bottom of the subject in parts of the photo, drawn by eye to about 1 %.
BOXES = {
    "backpack_dog": [
        (0.31, 0.21, 0.76, 0.78), (0.055, 0.14, 0.62, 0.86), (0.18, 0.16, 0.79, 0.88),
        (0.38, 0.20, 0.84, 0.75), (0.17, 0.18, 0.70, 0.81),
    ],
    "cat2": [
        (0.27, 0.045, 0.82, 0.98), (0.12, 0.245, 1.0, 0.83), (0.015, 0.11, 1.0, 0.92),
        (0.25, 0.03, 0.87, 0.975), (0.26, 0.15, 0.84, 0.84),
    ],
    "dog6": [
        (0.04, 0.20, 0.62, 0.93), (0.14, 0.025, 0.82, 0.985), (0.17, 0.01, 0.81, 1.0),
        (0.19, 0.095, 0.79, 0.88), (0.085, 0.04, 0.85, 1.0),
    ],
    "duck_toy": [
        (0.26, 0.22, 0.775, 0.735), (0.245, 0.235, 0.775, 0.83), (0.23, 0.285, 0.725, 0.72),
        (0.32, 0.40, 0.70, 0.735),
    ],
    "rc_car": [
        (0.285, 0.16, 0.75, 0.78), (0.235, 0.11, 0.79, 0.93), (0.30, 0.22, 0.70, 0.885),
        (0.18, 0.08, 0.76, 0.93), (0.34, 0.21, 0.685, 0.79),
    ],
}  # fmt: skip


def blurred(photo: Image.Image, parts: float) -> Image.Image:
    """Out of focus by a Gaussian of ``parts`` of the photo's side."""
    return Image.fromarray(cv2.GaussianBlur(np.asarray(photo), (0, 0), parts * photo.width))


def shaken(photo: Image.Image, parts: float, degrees: float) -> Image.Image:
    """Smeared along a line of ``parts`` of the photo's side."""
    size = int(parts * photo.width) | 1
    line = np.zeros((size, size), np.float32)
    line[size // 2] = 1
    turn = cv2.getRotationMatrix2D((size // 2, size // 2), degrees, 1)
    kernel = cv2.warpAffine(line, turn, (size, size))
    return Image.fromarray(cv2.filter2D(np.asarray(photo), -1, kernel / kernel.sum()))


def exposed(photo: Image.Image, stops: float) -> Image.Image:
    """With 2**stops of the light, as a camera clips it."""
    linear = (np.arange(256) / 255.0) ** 2.2 * 2.0**stops
    values = (np.clip(linear, 0, 1) ** (1 / 2.2) * 255).round().astype(np.uint8)
    return Image.fromarray(values[np.asarray(photo)])


def cut_out(photo: Image.Image, box: tuple[float, ...]) -> Image.Image:
    """The subject alone, RGBA; looked for at 320 px, since it is to be smaller than that."""
    small = ImageOps.contain(photo, (320, 320))
    width, height = small.size
    left, top, right, bottom = (
        int(edge * side) for edge, side in zip(box, (width, height) * 2, strict=True)
    )
    labels = np.zeros((height, width), np.uint8)
    area = (left, top, max(right - left, 1), max(bottom - top, 1))
    bgr = np.ascontiguousarray(np.asarray(small)[..., ::-1])
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(bgr, labels, area, *models, 3, cv2.GC_INIT_WITH_RECT)
    small.putalpha(Image.fromarray(np.where(labels & 1, 255, 0).astype(np.uint8)))
    return small.crop((left, top, right, bottom))


def far_away(subject: Image.Image, longer_px: int) -> Image.Image:
    """The subject (RGBA), ``longer_px`` large, on a floor of 1600 x 1200 px with a soft shade."""
    scale = longer_px / max(subject.size)
    size = max(1, round(subject.width * scale)), max(1, round(subject.height * scale))
    shade = np.linspace(150, 205, 1200)[:, None, None] + np.zeros((1200, 1600, 3))
    noise = np.random.default_rng(0).normal(0, 4, shade.shape)
    floor = Image.fromarray((shade + noise).clip(0, 255).astype(np.uint8))
    cut = subject.resize(size, Image.Resampling.LANCZOS)
    floor.paste(cut, (700, 500), cut)
    return floor


Edit = Callable[[Image.Image], Image.Image]

# By verdict: what should be called so. Blurs are in parts of the photo, of which the subject fills
# about half: 0.004 are some 4 px in a crop of 512.
DEGRADED: dict[str, dict[str, Edit]] = {
    "blurry": {
        "focus 0.4 %": lambda photo: blurred(photo, 0.004),
        "focus 0.8 %": lambda photo: blurred(photo, 0.008),
        "shaken 2 % level": lambda photo: shaken(photo, 0.02, 0),
        "shaken 3 % slanted": lambda photo: shaken(photo, 0.03, 30),
    },
    "too dark": {
        "2 stops": lambda photo: exposed(photo, -2),
        "3 stops": lambda photo: exposed(photo, -3),
        "5 stops": lambda photo: exposed(photo, -5),
    },
    "too bright": {
        "2.5 stops": lambda photo: exposed(photo, 2.5),
        "3 stops": lambda photo: exposed(photo, 3),
        "4 stops": lambda photo: exposed(photo, 4),
    },
    "too small": {
        "200 px": lambda photo: photo.resize((200, 200), Image.Resampling.LANCZOS),
        "96 px": lambda photo: photo.resize((96, 96), Image.Resampling.LANCZOS),
    },
}
# What a burst, an editor and a messenger do to a photo; each is a near-duplicate of the original.
EDITED: dict[str, Edit] = {
    "same": lambda photo: photo,
    "half the size": lambda photo: photo.resize((photo.width // 2, photo.height // 2)),
    "cropped by 8 %": lambda photo: photo.crop(
        (int(0.03 * photo.width), 0, int(0.97 * photo.width), int(0.92 * photo.height))
    ),
    "turned by 3 degrees": lambda photo: turned(photo, 3),
    "lighter": lambda photo: ImageEnhance.Brightness(photo).enhance(1.2),
    "darker": lambda photo: ImageEnhance.Brightness(photo).enhance(0.8),
    "more contrast": lambda photo: ImageEnhance.Contrast(photo).enhance(1.25),
    "half the colour": lambda photo: ImageEnhance.Color(photo).enhance(0.5),
    "mirrored": ImageOps.mirror,
}
LARGEST_PX = (
    1000  # of the photos that are degraded: enough for every verdict, and four times as fast
)
FREE = 0.02  # of the photo's side beside a subject that counts as whole
ORIENTATIONS = (2, 3, 4, 5, 6, 7, 8)
# EXIF orientation -> what a camera that was held so has stored (the inverse of making it upright).
STORED = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}


def turned(photo: Image.Image, degrees: float) -> Image.Image:
    edge = int(abs(np.sin(np.radians(degrees))) * max(photo.size)) + 2
    level = photo.rotate(degrees, Image.Resampling.BICUBIC)
    return level.crop((edge, edge, photo.width - edge, photo.height - edge))


def jpeg(photo: Image.Image, orientation: int = 1) -> bytes:
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    photo.save(stream, "JPEG", quality=92, exif=exif)
    return stream.getvalue()


def verdicts_on(photos: dict[str, bytes], options: DatasetOptions | None = None) -> dict[str, str]:
    """Name -> verdict, of a set that is built anew."""
    with tempfile.TemporaryDirectory() as folder:
        drive = Drive(Path(folder))
        home = drive.subject("It") / "photos"
        home.mkdir(parents=True)
        for name, data in photos.items():
            (home / name).write_bytes(data)
        dataset = build_dataset(Subject("It", "thing"), drive, options=options)
        return {verdict.photo: verdict.verdict for verdict in dataset.verdicts}


def cases(subjects: dict[str, list[Image.Image]]) -> Iterator[tuple[str, str, str]]:
    """What was done, the verdict that is right, and the one that was given."""
    kept = {"fine", "crop small", "cut off"}
    one_by_one = DatasetOptions(max_likeness=2)  # the copies of one photo are judged one by one
    for subject, photos in subjects.items():
        for given in verdicts_on({f"{i}.jpg": jpeg(p) for i, p in enumerate(photos)}).values():
            yield "untouched", "kept", "kept" if given in kept else given
        for index, photo in enumerate(photos):
            degraded = {
                f"{right}, {how}": (right, edit(photo))
                for right, edits in DEGRADED.items()
                for how, edit in edits.items()
            }
            if subject in BOXES:
                alone = cut_out(photo, BOXES[subject][index])
                for px in (120, 140, 160):
                    far = far_away(alone, px)
                    degraded[f"subject too small, {px} px"] = ("subject too small", far)
            given_to = verdicts_on(
                {f"{name}.jpg": jpeg(copy) for name, (_, copy) in degraded.items()}, one_by_one
            )
            for name, (right, _) in degraded.items():
                yield name, right, given_to[f"{name}.jpg"]
            # The best of them stays, whichever it is; all others repeat it.
            edited = {how: edit(photo) for how, edit in EDITED.items()}
            copies = {
                f"{how}.jpg": jpeg(copy)
                for how, copy in edited.items()
                if min(copy.size) >= one_by_one.min_crop_px  # else that is what is wrong
            }
            given_to = verdicts_on({"original.jpg": jpeg(photo), **copies})
            repeats = [name for name, given in given_to.items() if given not in kept]
            for how in sorted(given_to, key=lambda name: name not in repeats)[: len(copies)]:
                given = given_to[how] if how in repeats else "kept"
                yield f"near-duplicate, {how[:-4]}", "near-duplicate", given
        first = read_photo_bytes(jpeg(photos[0]))
        for orientation in ORIENTATIONS:
            stored = photos[0].transpose(Image.Transpose(STORED[orientation]))
            upright = read_photo_bytes(jpeg(stored, orientation))
            error = np.abs(np.asarray(upright, int) - np.asarray(first, int)).mean()
            given = "upright" if upright.size == first.size and error < 2 else "not upright"
            yield f"orientation {orientation}", "upright", given


def read_photo_bytes(data: bytes) -> Image.Image:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.jpg"
        path.write_bytes(data)
        return read_photo(path).image


def score(found: list[tuple[str, str, str]]) -> dict[str, tuple[float, float, int]]:
    """Verdict -> precision, recall, and how many cases it is right for."""
    scores = {}
    for verdict in sorted({right for _, right, _ in found}):
        right = sum(r == verdict for _, r, _ in found)
        given = sum(g == verdict for _, _, g in found)
        both = sum(r == g == verdict for _, r, g in found)
        scores[verdict] = both / given if given else 0.0, both / right, right
    return scores


def crops(subjects: dict[str, list[Image.Image]]) -> Iterator[tuple[str, float]]:
    """Subject and how much of its box the crop holds, of what any crop of that photo could hold.

    Each photo is looked at whole and in three cuts that move the subject away from the centre.
    """
    random = np.random.default_rng(0)
    margin = DatasetOptions().margin
    for subject, photos in subjects.items():
        for photo, box in zip(photos, BOXES.get(subject, []), strict=False):
            width, height = photo.size
            pixels = np.array(box) * [width, height, width, height]
            for cut in range(4):
                part = np.array([0, 0, width, height])
                if cut:
                    part[:2] = random.uniform(0, pixels[:2])
                    part[2:] = random.uniform(pixels[2:], [width, height])
                view = photo.crop(tuple(int(edge) for edge in part))
                found = find_subject(view, look_for_faces=False)
                square = square_around(found.region, found.frame, *view.size, margin)
                left, top, right, bottom = pixels - np.tile(part[:2], 2)
                held_w = min(square.corners[2], right) - max(square.left, left)
                held_h = min(square.corners[3], bottom) - max(square.top, top)
                room_w = round((found.frame.right - found.frame.left) * view.width)
                room_h = round((found.frame.bottom - found.frame.top) * view.height)
                room = min(room_w, room_h)
                possible = min(right - left, room) * min(bottom - top, room)
                yield subject, min(1.0, max(held_w, 0) * max(held_h, 0) / possible)


def cuts(subjects: dict[str, list[Image.Image]]) -> Iterator[tuple[str, str, str]]:
    """What was done, whether the photo's edge cuts the subject off, and whether that was said."""
    random = np.random.default_rng(0)
    for subject, photos in subjects.items():
        for photo, (left, top, right, bottom) in zip(photos, BOXES.get(subject, []), strict=False):
            views = {}
            for part in (0.2, 0.4):
                across, down = part * (right - left), part * (bottom - top)
                views[f"without {part:.0%} on the left"] = (left + across, 0, 1, 1)
                views[f"without {part:.0%} on the right"] = (0, 0, right - across, 1)
                views[f"without {part:.0%} above"] = (0, top + down, 1, 1)
                views[f"without {part:.0%} below"] = (0, 0, 1, bottom - down)
            if min(left, top) > FREE and max(right, bottom) < 1 - FREE:
                views["untouched"] = (0, 0, 1, 1)
                for number in range(3):
                    views[f"framed anew {number}"] = (
                        random.uniform(0, left - FREE), random.uniform(0, top - FREE),
                        random.uniform(right + FREE, 1), random.uniform(bottom + FREE, 1),
                    )  # fmt: skip
            for done, view in views.items():
                edges = [round(e * s) for e, s in zip(view, photo.size * 2, strict=True)]
                found = find_subject(photo.crop(edges), look_for_faces=False)
                said = "cut off" if found.touches > DatasetOptions().max_touching else "whole"
                yield done, "cut off" if done.startswith("without") else "whole", said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="a folder of folders of photos")
    parser.add_argument("--each", type=int, help="only so many photos of each subject")
    arguments = parser.parse_args()
    subjects = {
        folder.name: [
            ImageOps.contain(read_photo(path).image, (LARGEST_PX, LARGEST_PX))
            for path in sorted(folder.glob("*.jpg"))[: arguments.each]
        ]
        for folder in sorted(arguments.photos.iterdir())
        if folder.is_dir()
    }
    found = []
    for case in itertools.chain(cases(subjects), cuts(subjects)):
        done, right, given = case
        found.append(case)
        if right != given:
            print(f"{done} -> {given}", file=sys.stderr)
    print("| verdict | precision | recall | cases |\n|---|---|---|---|")
    for verdict, (precision, recall, count) in score(found).items():
        print(f"| {verdict} | {precision:.3f} | {recall:.3f} | {count} |")
    wrong = Counter((done, given) for done, right, given in found if right != given)
    print()
    for (done, given), count in sorted(wrong.items()):
        print(f"wrong: {done} -> {given}, {count} times")
    held = defaultdict(list)
    for subject, share in crops(subjects):
        held[subject].append(share)
    print("\nsubject            of its box in the crop: mean, least, share of crops with 80 %")
    for subject, shares in held.items():
        above = np.mean(np.array(shares) >= 0.8)
        print(f"{subject:18} {np.mean(shares):.3f} {min(shares):.3f} {above:.3f}")
    everything = [share for shares in held.values() for share in shares]
    print(f"{'all':18} {np.mean(everything):.3f} {min(everything):.3f}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

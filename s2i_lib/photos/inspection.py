"""Inspect each photo of a set by itself: read it, find the subject, crop, measure and judge."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.errors import InputError
from s2i_lib.photos.crop import Box, Found, find_subject, shrunk, square_around
from s2i_lib.photos.diversity import Traits, traits_of
from s2i_lib.photos.mask import Mask
from s2i_lib.photos.photo_checker import INSTALL, load_photo_checker
from s2i_lib.photos.quality import DatasetOptions, Measures, Verdict, explain, judge, measure
from s2i_lib.photos.reading import PhotoFile, decode_photo, encode_image, read_bytes
from s2i_lib.photos.subject import Subject
from s2i_lib.storage.files import sha256_of

if TYPE_CHECKING:
    from PIL.Image import Image

WORKERS = 2  # threads: Pillow, OpenCV and zlib let go of the interpreter while they work
OVERVIEW_PX = 512  # shorter side of the small copy that the subject is looked for in
THUMB_PX = 480
MASK_PX = 512  # finer than what the network sees, and what SD 2.1 base is trained at
PNG_LEVEL = 2  # of zlib: 0.07 s for a crop, 5 % larger than level 4, which takes 0.11 s


@dataclass(frozen=True)
class Look:
    """What is known of one photo after it was looked at by itself."""

    verdict: Verdict
    sha256: str | None = None
    png_sha256: str | None = None
    mask_sha256: str | None = None
    measures: Measures | None = None
    found: Found | None = None
    traits: Traits | None = None
    thumb: Image | None = None
    mask: Image | None = None
    """Subject's mask for the thumb, of its size."""
    facts: Mapping[str, Any] | None = None


Callback = Callable[[int, int, Look], None]
"""Called after each photo with how many are done, of how many, and what was seen in it."""


@dataclass(frozen=True)
class Inspector:
    """What is the same for every photo of a set."""

    subject: Subject
    options: DatasetOptions
    by_hand: Mapping[str, Any]
    """Square by photo, where somebody chose one; with a hash, where it holds for one file alone."""
    staged: Path
    """Folder for the crops, each called <photo>.png, and their masks, <photo>.mask.png."""
    cut_out: Mapping[str, bool]
    """Choice by photo, where somebody made one; else a mask that is not doubted is used."""

    def inspect_all(self, paths: Sequence[Path], callback: Callback | None) -> Iterator[Look]:
        """Inspect photos beside each other; yield the looks in their order."""
        from tqdm.auto import tqdm

        with _large_blocks_returned(), ThreadPoolExecutor(WORKERS) as pool:
            looks = pool.map(self.inspect, paths)
            bar = tqdm(looks, total=len(paths), desc="photos", unit="photo")
            for done, look in enumerate(bar, start=1):
                _give_back_memory()
                if callback is not None:
                    callback(done, len(paths), look)
                yield look

    def inspect(self, path: Path) -> Look:
        """Read, find, crop, measure and judge one photo; put its crop into ``staged``."""
        try:
            data = read_bytes(path)
            photo = decode_photo(data, path.name, at_least_px=OVERVIEW_PX)
        except InputError as error:
            return Look(Verdict(path.name, "unreadable", str(error)))
        overview, size, options = photo.image, (photo.width, photo.height), self.options
        found = find_subject(overview, look_for_faces=self.subject.kind == "person")
        box, method = self._choose_box(photo, found)
        crop = _cut(data, photo, box, options.max_crop_px)
        if options.is_for_class and _is_unfit([overview, crop]):
            why = (
                "The checker of photographs takes it for unfit for a class. It is wrong now and "
                "then: take another photo, or leave classroom mode off."
            )
            return Look(Verdict(path.name, "unfit", why, *size))  # without a picture for the sheet
        # Where hardly anything is left to find, it may be the light and not the distance.
        lit = crop if box.size >= options.min_crop_px else overview
        measures = measure(overview, crop, box, found, *size, lit=lit)
        name = judge(measures, box, *size, options)
        png = encode_image(crop, "PNG", compress_level=PNG_LEVEL)
        (self.staged / f"{path.name}.png").write_bytes(png)
        mask = encode_image(_cut_mask(found.mask, box, size), "PNG")
        (self.staged / f"{path.name}.mask.png").write_bytes(mask)
        doubt = found.mask.doubt or found.mask.rival
        is_cut_out = self.cut_out.get(path.name, not doubt)
        reason = explain(name, box, *size, options)
        if found.n_others:
            reason += (
                f" There are {found.n_others + 1} faces in it, and the largest is taken: look "
                "whether that is the right one."
            )
        if not is_cut_out:
            reason += f" Used whole: {doubt or 'as chosen'}."
        thumb = shrunk(overview, THUMB_PX)
        return Look(
            Verdict(
                path.name,
                name,
                reason,
                *size,
                box,
                method,
                cut_out=is_cut_out,
                doubt=doubt,
            ),
            photo.sha256,
            sha256_of(png),
            sha256_of(mask),
            measures,
            found,
            traits_of(overview, found),
            thumb,
            found.mask.image().resize(thumb.size),
            {"format": photo.format, "notes": list(photo.notes), "image_px": crop.width},
        )

    def _choose_box(self, photo: PhotoFile, found: Found) -> tuple[Box, str]:
        """Return the square to cut and how it was found: by hand, if somebody chose one."""
        size = photo.width, photo.height
        chosen = self.by_hand.get(photo.name)
        if isinstance(chosen, tuple):  # from an earlier manifest: it holds for that very file
            chosen = chosen[0] if chosen[1] == photo.sha256 else None
        if chosen is not None:
            return chosen.check(photo.name, *size), "by hand"
        return square_around(found.region, found.frame, *size, self.options.margin), found.method


def _cut_mask(mask: Mask, box: Box, size: tuple[int, int]) -> Image:
    """Cut the part of a mask that belongs to the crop out: grey, MASK_PX a side at most."""
    from PIL import Image

    image = mask.image()
    ratio = image.width / size[0]
    side = min(box.size, MASK_PX)
    return image.resize((side, side), Image.Resampling.BICUBIC, box=_scaled(box, ratio))


def _is_unfit(images: Sequence[Image]) -> bool:
    checker = load_photo_checker()
    return checker is not None and any(checker.find_unfit(images))


def who_checked() -> str:
    """Say what classroom mode did with the photos."""
    checker = load_photo_checker()
    if checker is None:
        return f"Classroom mode is on, but nothing looked at the photos. Install one: {INSTALL}."
    return f"In classroom mode the photos were checked by {checker.name}."


M_MMAP_THRESHOLD = -3  # of mallopt(3)


@contextmanager
def _large_blocks_returned() -> Iterator[None]:
    """Have the C library return blocks of 8 MB at once; by itself it comes to keep those of 32 MB.

    The peak for thirty photos of 12 megapixels is 555 to 565 MB so, in place of 575 to 619.
    """
    _call_libc("mallopt", M_MMAP_THRESHOLD, 8 << 20)
    try:
        yield
    finally:
        _call_libc("mallopt", M_MMAP_THRESHOLD, 32 << 20)


def _give_back_memory() -> None:
    """Have the C library return what is free: it would keep 100 MB between photos in scraps."""
    _call_libc("malloc_trim", 0)


def _call_libc(name: str, *arguments: int) -> None:
    with suppress(OSError, AttributeError):  # glibc alone has these
        getattr(ctypes.CDLL("libc.so.6"), name)(*arguments)


def _cut(data: bytes, photo: PhotoFile, box: Box, max_px: int) -> Image:
    """Cut the crop out, decoded no larger than it is needed."""
    from PIL import Image

    wanted = min(box.size, max_px)
    shorter = min(photo.width, photo.height)
    if min(photo.image.size) * box.size < wanted * shorter:
        photo = decode_photo(data, photo.name, at_least_px=-(-shorter * wanted // box.size))
    ratio = photo.image.width / photo.width
    if ratio == 1 and wanted == box.size:
        return photo.image.crop(box.corners)
    size = (wanted, wanted)
    return photo.image.resize(size, Image.Resampling.LANCZOS, box=_scaled(box, ratio))


def _scaled(box: Box, ratio: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = (edge * ratio for edge in box.corners)
    return left, top, right, bottom

"""Read photo files as phones make them, refuse what is broken, and say why."""

from __future__ import annotations

import functools
import io
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.errors import InputError, first_line
from s2i_lib.photos.colour import png_chunks, profile_told, to_srgb_colours
from s2i_lib.photos.tiff import MAGIC, UnreadTiffError, open_tiff
from s2i_lib.storage.files import sha256_of
from s2i_lib.storage.layout import as_text

if TYPE_CHECKING:
    from PIL.Image import Image

# What a suffix promises, in Pillow's names of formats. MPO is a JPEG with further pictures behind
# it (depth, gain map), as many phones write them.
FORMATS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), ("JPEG", "MPO")),
    ".png": ("PNG",),
    ".webp": ("WEBP",),
    ".heic": ("HEIF",),
    ".heif": ("HEIF", "AVIF"),
    ".hif": ("HEIF",),
    ".avif": ("AVIF",),
    **dict.fromkeys((".tif", ".tiff"), ("TIFF",)),
    ".bmp": ("BMP",),
    ".gif": ("GIF",),
}
# Telephones, messengers and downloads put more behind it: IMG.jpg(1), IMG.jpeg~2, IMG.jpg_large.
_SUFFIX = re.compile(
    rf"({'|'.join(map(re.escape, FORMATS))})(?:[ .]|[~_-]\w{{1,8}}| ?\(\d+\))?$", re.IGNORECASE
)
READABLE = tuple(dict.fromkeys(name for names in FORMATS.values() for name in names))
# Pillow opens MPO through JPEG, and has no opener under its own name.
OPENERS = tuple(name for name in READABLE if name != "MPO")

MAX_FILE_BYTES = 100 * 2**20  # a 108-megapixel JPEG has 20 to 40 MB
# Phones go to 200 megapixels: 600 MB while they are decoded, and halved at once where a format
# cannot be decoded smaller, as JPEG can.
MAX_PIXELS = 220_000_000
MAX_PIXELS_HELD = 120_000_000  # a photo of 108 is kept whole
JPEG_END = b"\xff\xd9"
PNG_PICTURE = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
PNG_MEANING = frozenset((b"eXIf", b"iCCP", b"sRGB", b"gAMA", b"cHRM"))

ORIENTATION = 0x0112  # EXIF tag
# EXIF orientation -> what makes the picture upright, as Pillow numbers it (Image.Transpose).
UPRIGHT = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


@dataclass(frozen=True)
class PhotoFile:
    """A photo as it is to be looked at: upright, sRGB, 8 bits, without transparency."""

    name: str
    image: Image
    """RGB; smaller than ``width`` x ``height`` where that was asked for, or is too large."""
    width: int
    """Width of the upright photo at full resolution, in pixels."""
    height: int
    format: str
    sha256: str
    """SHA-256 of the file."""
    notes: tuple[str, ...] = ()
    """Conversions in words: "turned by its EXIF orientation", ..."""


def split_suffix(name: str) -> tuple[str, str]:
    """Split the name of a photo's file before its suffix, which is "" where none is of a photo."""
    found = _SUFFIX.search(name)
    return (name[: found.start()], found[1]) if found else (name, "")


def is_photo_name(name: str) -> bool:
    """Return whether the file is called like a photo (".IMG.jpg" of a Mac and the like are not)."""
    return bool(split_suffix(name)[1]) and not name.startswith(".")


def read_photo(path: str | Path, *, at_least_px: int | None = None) -> PhotoFile:
    """Read one photo of any format that phones make, upright, as 8-bit sRGB.

    Parameters
    ----------
    at_least_px
        Where the shorter side may be as small as this, JPEGs are decoded at 1/2, 1/4 or 1/8 of
        their size, which takes less time and memory. Default: full size.

    Raises
    ------
    InputError
        When it is no photo or a broken one; the message is one sentence that names the file.
    """
    return decode_photo(read_bytes(Path(path)), Path(path).name, at_least_px=at_least_px)


def read_bytes(path: Path) -> bytes:
    """Read a photo's file; InputError where it is too large, or none that can be read."""
    try:
        facts = path.stat()
        if stat.S_ISDIR(facts.st_mode):
            raise InputError(f"{as_text(path.name)} is a folder. Name a file in it.")
        if not stat.S_ISREG(facts.st_mode):  # a pipe would wait, a device would never end
            raise InputError(f"{as_text(path.name)} is no regular file; copy what it has to one.")
        if facts.st_size > MAX_FILE_BYTES:
            raise InputError(too_large(as_text(path.name), facts.st_size))
        return path.read_bytes()
    except OSError as error:
        name = as_text(path.name)
        raise InputError(f"{name} cannot be opened ({error.strerror or error}).") from error


def decode_photo(data: bytes, name: str, *, at_least_px: int | None = None) -> PhotoFile:
    """Do what `read_photo` does for a file that is in memory."""
    from PIL import Image, UnidentifiedImageError

    suffix = split_suffix(name)[1].lower()
    if not suffix:
        raise InputError(f"{name} is not one of the formats read here ({', '.join(FORMATS)}).")
    if not data:
        raise InputError(f"{name} is empty (0 bytes); copy it again from where it came from.")
    if len(data) > MAX_FILE_BYTES:
        raise InputError(too_large(name, len(data)))
    try:
        image = open_image(data)
        file_format, (width, height) = image.format or "?", image.size
        if width * height > MAX_PIXELS:
            raise InputError(too_many_pixels(name, width * height))
        image, notes = _load(image, data, name, at_least_px)
        orientation = orientation_of(image)
        profile = profile_told(image, data)
        if image.width * image.height > MAX_PIXELS_HELD:
            small = (image.width // 2, image.height // 2)
            image = image.resize(small, Image.Resampling.BOX)
            notes.append(f"halved, for it has {width * height / 1e6:.0f} megapixels")
        image, converted = to_srgb(image, profile)
        notes += converted
        if file_format not in FORMATS[suffix]:  # Google's Takeout and messengers give wrong ones
            notes.append(f"{file_format} by its content, whatever its suffix says")
        if orientation != 1:
            image = image.transpose(Image.Transpose(UPRIGHT[orientation]))
            notes.append("turned by its EXIF orientation")
    except InputError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own words have the number
        found = re.search(r"(\d+) pixels", str(error))
        raise InputError(too_many_pixels(name, int(found[1]) if found else None)) from None
    except UnreadTiffError:
        raise InputError(
            f"{name} is a TIFF of a kind that is not read here (8 or 16 bits of grey, RGB, CMYK or "
            "YCbCr are), or is not whole; save it as PNG or JPEG."
        ) from None
    except UnidentifiedImageError:
        raise InputError(
            f"{name} is not a photo, whatever its name says, or its beginning is damaged."
        ) from None
    # Decoders raise anything from SyntaxError to IndexError when a file is damaged on purpose.
    except Exception as error:
        raise InputError(
            f"{name} is damaged or not whole ({first_line(error)}); copy it again."
        ) from error
    if orientation >= 5:
        width, height = height, width
    return PhotoFile(
        name, image, width, height, file_format, sha256_of(data), tuple(notes),
    )  # fmt: skip


@contextmanager
def no_decoder_warnings() -> Iterator[None]:
    """Silence Pillow on odd EXIF and large sizes, which are dealt with here. Not for threads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield


def to_srgb(image: Image, profile: bytes | None) -> tuple[Image, list[str]]:
    """Convert any mode and ICC profile to 8-bit sRGB over white; say in words what was done."""
    import numpy as np
    from PIL import Image

    notes = []
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float32)
        # 16 bits say so; of 32-bit numbers only their size tells what white is.
        whites = (65535.0,) if image.mode.startswith("I;16") else (1.0, 255.0, 65535.0)
        highest = values.max(initial=0)
        full = next((white for white in whites if highest <= white), whites[-1])
        image = Image.fromarray((np.clip(values / full, 0, 1) * 255).round().astype(np.uint8))
        notes.append("reduced to 8 bits")
    alpha = None
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")
    elif image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    if profile and (converted := to_srgb_colours(image, profile)) is not None:
        image = converted
        notes.append("converted from its own colours to sRGB")
    elif image.mode == "CMYK":
        notes.append("converted from CMYK to sRGB")
    image = image.convert("RGB")
    if alpha is not None and alpha.getextrema() == (0, 0) and _has_picture(image):
        notes.append("shown without its transparency, which hid all of it")
    elif alpha is not None and alpha.getextrema() != (255, 255):
        image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
        notes.append("laid over white where it was transparent")
    return image, notes


def _has_picture(image: Image) -> bool:
    return image.getcolors(1) is None  # more than one colour


def orientation_of(image: Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF must not cost a good photo, and its parser raises anything
        return 1
    return orientation if orientation in range(1, 9) else 1


@functools.cache
def _ready_pillow() -> None:
    """Teach Pillow HEIC (it reads AVIF by itself since 11.3), and how large photos are today."""
    import pillow_heif
    from PIL import Image

    pillow_heif.register_heif_opener()
    if Image.MAX_IMAGE_PIXELS is not None:  # it refuses twice as many
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, MAX_PIXELS)


def open_to_read_texts(data: bytes) -> Image:
    """Open a picture by its content, for what its file says beside its pixels: never unpack it."""
    from PIL import Image

    _ready_pillow()
    return Image.open(io.BytesIO(data), formats=OPENERS)


def open_image(data: bytes) -> Image:
    """Open a picture by its content; of a PNG only the chunks that it is read from.

    Texts, of which some programs write megabytes, and damage in them cost no picture so.
    """
    from PIL import Image

    _ready_pillow()
    if data.startswith(MAGIC):
        return open_tiff(data, MAX_PIXELS)
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return open_to_read_texts(data)
    chunks = list(png_chunks(data))
    for kinds in (PNG_PICTURE | PNG_MEANING, PNG_PICTURE):
        bare = data[:8] + b"".join(chunk for kind, chunk in chunks if kind in kinds)
        try:
            return Image.open(io.BytesIO(bare), formats=("PNG",))
        # Where what a PNG says of its colours is damaged, Pillow raises anything.
        except Image.DecompressionBombError:
            raise
        except Exception:
            if kinds == PNG_PICTURE:
                raise
    raise AssertionError("the loop returns or raises")


def _load(image: Image, data: bytes, name: str, at_least_px: int | None) -> tuple[Image, list[str]]:
    """Decode a picture, a JPEG no larger than needed, if all its rows are there.

    What a file lacks at its end may be no row of it: a JPEG is then decoded with two different
    endings, and a row that comes out the same in both is in the file.
    """
    import numpy as np

    if image.format not in ("JPEG", "MPO"):
        image.load()
        return image, []
    smaller = _draft_size(image.size, at_least_px)
    image.draft(None, smaller)
    try:
        image.load()
        return image, []
    except OSError as error:
        if "truncated" not in str(error):
            raise
    decoded = []
    for ending in (b"", bytes(range(1, 255)) * 8):
        image = open_image(data.rstrip(b"\xff") + ending + JPEG_END)
        height = image.height
        image.draft(None, _draft_size(image.size, None))  # small, it would hide what is missing
        image.load()
        decoded.append(np.asarray(image))
    is_missing = (decoded[0] != decoded[1]).reshape(image.height, -1).any(axis=1)
    if is_missing.any():
        missing = round((1 - is_missing.argmax() / len(is_missing)) * height)
        raise InputError(
            f"{name} is not whole: {missing} of its {height} rows are missing; copy it again."
        )
    return image, ["whole, but for the mark at its end"]


def _draft_size(size: tuple[int, int], at_least_px: int | None) -> tuple[int, int]:
    """Return the size to decode a JPEG at, which takes 1/2, 1/4 or 1/8 that is not smaller."""
    width, height = size
    shrink = 1 if at_least_px is None else min(size) // max(at_least_px, 1)
    while width * height / max(shrink, 1) ** 2 > MAX_PIXELS_HELD:
        shrink = 2 * max(shrink, 1)
    return width // max(shrink, 1), height // max(shrink, 1)


def encode_image(image: Image, file_format: str, **options: Any) -> bytes:
    """Return a picture as the bytes of a file; ``options`` are those of Pillow's format."""
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def too_many_pixels(name: str, pixels: int | None) -> str:
    """Say that a picture is larger than photos are."""
    found = f"{pixels / 1e6:,.0f}" if pixels else "far too many"
    return (
        f"{name} has {found} megapixels, and at most {MAX_PIXELS / 1e6:.0f} are read; "
        "save it smaller."
    )


def too_large(name: str, size: int) -> str:
    """Say that a file is larger than photos are."""
    return (
        f"{name} has more than {min(size, MAX_FILE_BYTES) / 2**20:.0f} MiB, which no photo needs; "
        "save it smaller."
    )

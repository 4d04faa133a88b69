"""Read photo files as phones make them, refuse what is broken, and say why."""

from __future__ import annotations

import functools
import io
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.errors import InputError, first_line
from s2i_lib.storage.files import sha256_of

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
READABLE = tuple(dict.fromkeys(name for names in FORMATS.values() for name in names))
# Pillow opens MPO through JPEG, and has no opener under its own name.
OPENERS = tuple(name for name in READABLE if name != "MPO")

MAX_FILE_BYTES = 100 * 2**20  # a 108-megapixel JPEG has 20 to 40 MB
# Phones go to 108 megapixels; a JPEG can be decoded at 1/8 of its size.
MAX_JPEG_PIXELS = 120_000_000
MAX_PIXELS = 50_000_000  # the others cannot: 48 megapixels are 200 MB while they are decoded

ORIENTATION = 0x0112  # EXIF tag
# EXIF orientation -> what makes the picture upright, as Pillow numbers it (Image.Transpose).
UPRIGHT = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


@dataclass(frozen=True)
class PhotoFile:
    """A photo as it is to be looked at: upright, sRGB, 8 bits, without transparency."""

    name: str
    image: Image
    """RGB; smaller than ``width`` x ``height`` where a smaller one was asked for."""
    width: int
    """Width of the upright photo at full resolution, in pixels."""
    height: int
    format: str
    sha256: str
    """SHA-256 of the file."""
    notes: tuple[str, ...] = ()
    """Conversions in words: "turned by its EXIF orientation", ..."""


def is_photo_name(name: str) -> bool:
    """Return whether the file is called like a photo (".IMG.jpg" of a Mac and the like are not)."""
    return Path(name).suffix.lower() in FORMATS and not name.startswith(".")


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
        if not stat.S_ISREG(facts.st_mode):  # a pipe would wait, a device would never end
            raise InputError(f"{path.name} is no regular file; copy the photo itself there.")
        if facts.st_size > MAX_FILE_BYTES:
            raise InputError(too_large(path.name, facts.st_size))
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path.name} cannot be opened ({error.strerror or error}).") from error


def decode_photo(data: bytes, name: str, *, at_least_px: int | None = None) -> PhotoFile:
    """Do what `read_photo` does for a file that is in memory."""
    from PIL import Image, UnidentifiedImageError

    _register_heif()
    suffix = Path(name).suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{name} is not one of the formats read here ({', '.join(FORMATS)}).")
    if not data:
        raise InputError(f"{name} is empty (0 bytes); copy it again from where it came from.")
    if len(data) > MAX_FILE_BYTES:
        raise InputError(too_large(name, len(data)))
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=OPENERS)
        file_format = image.format or "?"
        if file_format not in FORMATS[suffix]:
            raise InputError(
                f"{name} is a {file_format} file inside; give it the suffix "
                f"{_suffix_of(file_format)} so that it is what it says."
            )
        is_jpeg = file_format in ("JPEG", "MPO")
        pixels, limit = image.width * image.height, MAX_JPEG_PIXELS if is_jpeg else MAX_PIXELS
        if pixels > limit:
            raise InputError(
                f"{name} would unpack to {pixels / 1e6:,.0f} megapixels, and at most "
                f"{limit / 1e6:.0f} are read; save it smaller."
            )
        width, height = image.size
        if is_jpeg and at_least_px is not None:
            shrink = min(width, height) // max(at_least_px, 1)
            image.draft(None, (width // max(shrink, 1), height // max(shrink, 1)))
        image.load()
        orientation = orientation_of(image)
        image, notes = to_srgb(image)
        if orientation != 1:
            image = image.transpose(Image.Transpose(UPRIGHT[orientation]))
            notes.append("turned by its EXIF orientation")
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(
            f"{name} would unpack to a picture that is far too large; save it smaller."
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


def to_srgb(image: Image) -> tuple[Image, list[str]]:
    """Convert any mode and profile to 8-bit sRGB over white; say in words what was done."""
    import numpy as np
    from PIL import Image

    notes = []
    profile = image.info.get("icc_profile")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float32)
        # 16 bits say so; of 32-bit numbers only their size tells what white is.
        whites = (65535.0,) if image.mode.startswith("I;16") else (1.0, 255.0, 65535.0)
        highest = values.max(initial=0)
        full = next((white for white in whites if highest <= white), whites[-1])
        image = Image.fromarray((np.clip(values / full, 0, 1) * 255).round().astype(np.uint8))
        notes.append("reduced to 8 bits")
        profile = None  # it spoke of the deep values
    alpha = None
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")
    elif image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    if profile and (converted := _through_profile(image, profile)) is not None:
        image = converted
        notes.append("converted from its colour profile to sRGB")
    elif image.mode == "CMYK":
        notes.append("converted from CMYK to sRGB")
    image = image.convert("RGB")
    if alpha is not None and alpha.getextrema() != (255, 255):
        image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
        notes.append("laid over white where it was transparent")
    return image, notes


def _through_profile(image: Image, profile: bytes) -> Image | None:
    """Return ``image`` in sRGB, or None where its profile is sRGB already or cannot be used."""
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return None
        return ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def orientation_of(image: Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF must not cost a good photo, and its parser raises anything
        return 1
    return orientation if orientation in range(1, 9) else 1


@functools.cache
def _register_heif() -> None:
    """Teach Pillow HEIC once; it reads AVIF by itself since 11.3."""
    import pillow_heif

    pillow_heif.register_heif_opener()


def encode_image(image: Image, file_format: str, **options: Any) -> bytes:
    """Return a picture as the bytes of a file; ``options`` are those of Pillow's format."""
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def _suffix_of(file_format: str) -> str:
    return next(suffix for suffix, names in FORMATS.items() if file_format in names)


def too_large(name: str, size: int) -> str:
    """Say that a file is larger than photos are."""
    return (
        f"{name} has more than {min(size, MAX_FILE_BYTES) / 2**20:.0f} MiB, which no photo needs; "
        "save it smaller."
    )

"""Open the TIFFs that Pillow reads as noise, as another picture, or not at all.

A TIFF may hold anything. Pillow 12 takes the three bytes a pixel of an uncompressed YCbCr, which it
writes itself, for four, and of planes of 16 bits only every other byte; colour in floating point it
does not know. FFmpeg reads these, with the numbers of colour that the file has.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Exif, Image

MAGIC = (b"II*\0", b"MM\0*")  # BigTIFF is left to Pillow
# Tags of TIFF 6.0, and of the ICC profile in it.
WIDTH, HEIGHT, BITS, COMPRESSION, COLOURS, PLANES, PROFILE = 256, 257, 258, 259, 262, 284, 34675
UNCOMPRESSED, YCBCR, APART = 1, 6, 2


class UnreadTiffError(Exception):
    """A TIFF of a kind that is not read here."""


def open_tiff(data: bytes, most_pixels: int) -> Image:
    """Open a TIFF by its content; a kind that only FFmpeg reads is decoded at once.

    Raises
    ------
    UnreadTiffError
        When neither reads its kind.
    PIL.UnidentifiedImageError
        When it is damaged from its beginning.
    """
    from PIL import Image, UnidentifiedImageError

    tags = Image.Exif()
    try:
        tags.load(data)
    except Exception as error:  # of damage, its parser raises anything
        raise UnidentifiedImageError from error
    if not _is_misread(tags):
        try:
            return Image.open(io.BytesIO(data), formats=("TIFF",))
        except UnidentifiedImageError:
            if not {WIDTH, HEIGHT, COLOURS} <= set(tags):
                raise
    if tags[WIDTH] * tags[HEIGHT] > most_pixels:
        raise Image.DecompressionBombError(f"{tags[WIDTH] * tags[HEIGHT]} pixels")
    return _decode(data, tags)


def _is_misread(tags: Exif) -> bool:
    is_plain = tags.get(COMPRESSION, UNCOMPRESSED) == UNCOMPRESSED
    bits = tags.get(BITS, 1)
    is_deep = max(bits if isinstance(bits, tuple) else (bits,)) > 8
    return (is_plain and tags.get(COLOURS) == YCBCR) or (is_deep and tags.get(PLANES) == APART)


def _decode(data: bytes, tags: Exif) -> Image:
    import av

    try:
        with av.open(io.BytesIO(data), "r", format="tiff_pipe") as container:
            frame = next(container.decode(video=0))
    except (av.FFmpegError, StopIteration):
        raise UnreadTiffError from None
    image = frame.to_image(src_color_range="JPEG")  # 0 to 255, as TIFF has them
    image.format = "TIFF"
    image.info["exif"] = data  # which is laid out as a TIFF
    if profile := tags.get(PROFILE):
        image.info["icc_profile"] = profile
    return image

"""The door for PNGs that this program wrote: crops, samples, pictures with their record.

They lie on a Drive where others write, too. So a PNG is opened as nothing but a PNG (Pillow would
start Ghostscript for what is PostScript inside), and its size is checked before it is unpacked.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from s2i_lib.errors import InputError, first_line
from s2i_lib.photos.reading import MAX_PIXELS, read_bytes

if TYPE_CHECKING:
    from PIL.Image import Image


def open_png(path: Path) -> Image:
    """Open a PNG and unpack it.

    Raises
    ------
    InputError
        When there is none, it is no PNG, a broken one, or one of more pixels or text than ours.
    """
    return _open(path, unpack=True)


def text_of_png(path: Path, key: str) -> str | None:
    """Return the text under ``key`` in a PNG; None where it has none. Raises as `open_png` does."""
    said = _open(path, unpack=False).info.get(key)  # ours stands before the pixels
    return str(said) if said is not None else None


def _open(path: Path, *, unpack: bool) -> Image:
    from PIL import Image, UnidentifiedImageError

    if not path.exists():
        raise InputError(f"There is no picture {path}. Check the path.")
    data = read_bytes(path)
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG",))
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"it would unpack to {image.width} x {image.height} pixels")
        if unpack:
            image.load()
    except Exception as error:  # Pillow's decoders raise anything
        # Whose own words for that name an object in memory.
        is_other = isinstance(error, UnidentifiedImageError)
        reason = "it is no PNG, or its beginning is damaged" if is_other else first_line(error)
        raise InputError(
            f"{path} cannot be read as a picture ({reason}). Give a PNG that this program made."
        ) from error
    return image

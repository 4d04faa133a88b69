"""Keep photos from elsewhere, out of a zip, too: whole, once, and without anything private."""

from __future__ import annotations

import io
import logging
import re
import stat
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import compress, crc32, decompressobj
from zlib import error as ZlibError

from s2i_lib.errors import InputError, first_line
from s2i_lib.photos.colour import png_chunks, profile_told
from s2i_lib.photos.reading import (
    FORMATS,
    MAX_FILE_BYTES,
    ORIENTATION,
    decode_photo,
    encode_image,
    is_photo_name,
    open_image,
    orientation_of,
    split_suffix,
    too_large,
)
from s2i_lib.storage.files import make_folder, write_new
from s2i_lib.storage.layout import as_text, composed, cut_name

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)


def keep_photo(data: bytes, name: str, folder: Path) -> Path:
    """Put a copy of a photo into ``folder``, without GPS, EXIF or anything else it says of you.

    JPEG and PNG keep their pixels bit for bit, with only what is private cut out of the file. Other
    formats are kept as an upright sRGB JPEG (HEIC, AVIF, WebP) or PNG (TIFF, BMP, GIF). A different
    photo of the same name stays: the new one is then called name-2. The same photo is kept once.

    Raises
    ------
    InputError
        When `decode_photo` refuses it.
    """
    name = safe_name(composed(name))
    photo = decode_photo(data, name, at_least_px=1)
    stem, named = split_suffix(name)
    is_misnamed = photo.format not in FORMATS[named.lower()]
    if is_misnamed:
        log.warning("%s is a %s file, whatever its suffix says: read as that.", name, photo.format)
    if photo.format in ("JPEG", "MPO"):
        kept, suffix = strip_jpeg(data), ".jpg" if is_misnamed else named
    elif photo.format == "PNG":
        kept, suffix = strip_png(data), ".png"
    elif photo.format in ("TIFF", "BMP", "GIF"):
        kept, suffix = encode_image(photo.image, "PNG"), ".png"
    else:
        kept, suffix = encode_image(photo.image, "JPEG", quality=95, subsampling=0), ".jpg"
    make_folder(folder)
    same_size = (
        path for path in sorted(folder.iterdir())
        if is_photo_name(path.name) and path.is_file() and path.stat().st_size == len(kept)
    )  # fmt: skip
    for path in same_size:
        if path.read_bytes() == kept:
            return path
    return write_new(folder / (stem + suffix), kept)


def safe_name(name: str) -> str:
    """Return the last part of a path, with dashes for what no file system likes in a name.

    It is cut to 80 letters and 200 bytes, which leaves room for -2, .png and .part.
    """
    last = re.split(r"[/\\]", as_text(name))[-1]
    clean = re.sub(r'[\x00-\x1f\x7f<>:"|?*]+', "-", last).strip(" ").lstrip(".")
    stem, suffix = Path(clean).stem, Path(clean).suffix
    return (cut_name(stem[:80], 200) or "photo") + cut_name(suffix, 20)


def strip_jpeg(data: bytes) -> bytes:
    """Return the same JPEG with nothing but its picture, its colour profile and its orientation.

    What goes: EXIF (with GPS and thumbnail), XMP, IPTC, comments, maker's segments, and whatever
    lies behind the picture (a motion photo's video, depth maps with EXIF of their own).
    """
    from PIL import Image

    kept = [b"\xff\xd8"]
    image = open_image(data)
    orientation = orientation_of(image)
    if orientation != 1:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        body = exif.tobytes()
        kept.append(b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body)
    kept.append(_profile_segment(image, data))
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1  # stray bytes between segments; decoders skip them too
            continue
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xD9:
            break
        end = at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
        segment = data[at:end]
        kept.append(_needed_of(marker, segment))
        at = end
        if marker == 0xDA:  # the coded picture follows, up to the next marker that is no restart
            found = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]").search(data, at)
            end = found.start() if found else len(data)
            kept.append(data[at:end])
            at = end
    return b"".join([*_with_true_profile(kept), b"\xff\xd9"])


# Frame headers, tables and scans: the picture. Other markers are applications', or reserved.
_JPEG_PICTURE = frozenset((*range(0xC0, 0xD0), *range(0xDA, 0xE0)))
_ICC = b"ICC_PROFILE\0"


def _needed_of(marker: int, segment: bytes) -> bytes:
    """Return what of a JPEG's segment is needed; of JFIF and Adobe no more than they have room for.

    Source: JFIF 1.02 (14 bytes, then a thumbnail), Adobe's technical note 5116 (12 bytes).
    """
    if marker == 0xE0 and segment[4:9] == b"JFIF\0" and len(segment) >= 18:
        return b"\xff\xe0\0\x10" + segment[4:16] + b"\0\0"  # without its thumbnail
    if marker == 0xEE and segment[4:9] == b"Adobe" and len(segment) >= 16:
        return b"\xff\xee\0\x0e" + segment[4:16]
    is_needed = marker in _JPEG_PICTURE or (marker == 0xE2 and segment[4:16] == _ICC)
    return segment if is_needed else b""


def _with_true_profile(segments: list[bytes]) -> list[bytes]:
    """Return the segments of a JPEG, those of a colour profile only where they are one."""
    parts = [one for one in segments if one[4:16] == _ICC and one[1:2] == b"\xe2"]
    profile = b"".join(part[18:] for part in sorted(parts, key=lambda part: part[16:18]))
    return segments if _is_profile(profile) else [one for one in segments if one not in parts]


def _is_profile(profile: bytes) -> bool:
    """Return whether bytes are a colour profile, from the first to the last."""
    from PIL import ImageCms

    try:
        ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (OSError, ImageCms.PyCMSError):
        return False
    return int.from_bytes(profile[:4], "big") == len(profile)


def _profile_segment(image: Image, data: bytes) -> bytes:
    """Return the profile of a JPEG whose colours only its EXIF tells, which goes; else nothing."""
    if image.info.get("icc_profile") or not (profile := profile_told(image, data)):
        return b""
    body = b"ICC_PROFILE\0\1\1" + profile  # of some 9 kB, and a segment has room for 64
    return b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body


def strip_png(data: bytes) -> bytes:
    """Return the same PNG without texts, times and EXIF, except for orientation and colours."""
    from PIL import Image

    kept = [data[:8]]
    image = open_image(data)
    orientation = orientation_of(image)
    kinds = {kind for kind, _ in png_chunks(data)}
    for kind, chunk in png_chunks(data):
        if kind == b"eXIf" and orientation != 1:
            exif = Image.Exif()
            exif[ORIENTATION] = orientation
            kept.append(_chunk(kind, exif.tobytes().removeprefix(b"Exif\0\0")))
        elif kind in _PNG_PICTURE and not _hides_something(kind, chunk[8:-4]):
            kept.append(chunk)
        if kind == b"IHDR" and not kinds & _PNG_COLOURS and (told := profile_told(image, data)):
            kept.append(_chunk(b"iCCP", b"told\0\0" + compress(told)))
    return b"".join(kept)


def _hides_something(kind: bytes, body: bytes) -> bool:
    """Return whether a chunk is no colour profile though it says so, or larger than its kind is."""
    if kind == b"iCCP":
        packed = body.partition(b"\0")[2][1:]
        try:
            return not _is_profile(decompressobj().decompress(packed, MAX_PROFILE_BYTES))
        except ZlibError:
            return True
    return len(body) > _PNG_MOST.get(kind, len(body))


MAX_PROFILE_BYTES = 4 * 2**20  # a printer's has one or two MB
# Source: PNG specification (third edition), the sizes of its chunks.
_PNG_MOST = {b"tRNS": 256, b"cHRM": 32, b"gAMA": 4, b"sBIT": 4, b"sRGB": 1, b"cICP": 4,
             b"bKGD": 6, b"pHYs": 9}  # fmt: skip

# The chunks that change how the (first) picture looks; animation, texts, times and EXIF are not.
_PNG_PICTURE = frozenset(
    b"IHDR PLTE IDAT IEND tRNS cHRM gAMA iCCP sBIT sRGB cICP bKGD pHYs".split()
)


_PNG_COLOURS = frozenset((b"cHRM", b"gAMA", b"iCCP", b"sRGB", b"cICP"))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc32(kind + body))


MAX_ZIP_ENTRIES = 500
MAX_ZIP_SPOILT = 20  # then no more is unpacked: each may cost seconds
MAX_ZIP_BYTES = 2 * 2**30  # unpacked; 500 photos of 4 MB


@dataclass(frozen=True)
class ZipImport:
    """What came out of a zip."""

    kept: tuple[Path, ...]
    refused: tuple[tuple[str, str], ...]
    """Names with the reasons, a sentence each."""


def import_zip(source: bytes | str | Path, folder: Path) -> ZipImport:
    """Keep the photos of a zip in ``folder`` (see `keep_photo`); folders in the zip are dissolved.

    Nothing is ever written outside of ``folder``, under a name from the zip that has a path in it,
    or beyond the sizes above, whatever the zip's own directory claims.

    Raises
    ------
    InputError
        When it is no zip, or one of more files or bytes than any set of photos has.
    """
    name = "The zip" if isinstance(source, bytes) else Path(source).name
    try:
        archive = zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source)
    # NotImplementedError is how zipfile says that it does not know a kind of compression.
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{name} is not a zip that can be read ({first_line(error)}). "
            "Pack the photos again, or upload them one by one."
        ) from error
    with archive:
        entries = [one for one in archive.infolist() if not _slashed(one.filename).endswith("/")]
        if len(entries) > MAX_ZIP_ENTRIES:
            raise InputError(
                f"{name} has {len(entries)} files in it, and at most {MAX_ZIP_ENTRIES} are taken. "
                "Pack only the photos of one subject."
            )
        kept: list[Path] = []
        refused: list[tuple[str, str]] = []
        budget, n_spoilt = MAX_ZIP_BYTES, 0
        for entry in entries:
            reason = _entry_fault(entry)
            if not reason and n_spoilt >= MAX_ZIP_SPOILT:
                reason = f"{entry.filename} is not tried: {n_spoilt} before it could not be used."
            if reason:
                refused.append((_slashed(entry.filename), reason))
                continue
            try:
                limit = min(MAX_FILE_BYTES, budget)
                data = _read_entry(archive, entry, limit)
                budget = max(0, budget - len(data))
                if len(data) > limit:
                    raise InputError(too_large(entry.filename, limit + 1))
                path = keep_photo(data, entry.filename, folder)
                if path not in kept:
                    kept.append(path)
            except InputError as error:
                n_spoilt += 1
                refused.append((_slashed(entry.filename), str(error)))
    return ZipImport(tuple(kept), tuple(refused))


def _slashed(name: str) -> str:
    """Return a path of a zip as the standard has it; Windows programs of old write backslashes."""
    return name.replace("\\", "/")


def _entry_fault(entry: zipfile.ZipInfo) -> str | None:
    """Say why an entry of a zip is not even unpacked; None where it is."""
    name = entry.orig_filename
    parts = re.split(r"[/\\]", name)
    last = parts[-1]
    if re.match(r"[/\\]|[A-Za-z]:", name) or ".." in parts or "\0" in name:
        return f"{name!r} points outside of the zip, so it is not unpacked."
    if stat.S_ISLNK(entry.external_attr >> 16):
        return f"{name} is a link and not a photo."
    if "__MACOSX" in parts or any(part.startswith(".") for part in parts):
        return f"{name} is a hidden file of the system and not a photo."
    if not is_photo_name(last):
        return f"{name} is not a photo ({', '.join(FORMATS)})."
    if entry.flag_bits & 0x1:
        return f"{name} has a password; pack the photos without one."
    return None


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    """Unpack one entry, up to one byte more than ``limit``, whatever its header claims."""
    try:
        with archive.open(entry) as stream:
            return stream.read(limit + 1)
    # zlib, lzma and zipfile each have errors of their own for a damaged entry.
    except Exception as error:
        raise InputError(
            f"{entry.filename} cannot be unpacked ({first_line(error)}); pack it again."
        ) from error

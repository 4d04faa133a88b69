"""Photos out of a zip that anybody may have packed."""

from __future__ import annotations

import io
import re
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from s2i_lib.copies import keep_photo
from s2i_lib.errors import InputError
from s2i_lib.photos import FORMATS, MAX_FILE_BYTES, first_line, is_photo_name, too_large

MAX_ZIP_ENTRIES = 500
MAX_ZIP_BYTES = 2 * 2**30  # unpacked; 500 photos of 4 MB


@dataclass(frozen=True)
class ZipImport:
    """What came out of a zip."""

    kept: tuple[Path, ...]
    refused: tuple[tuple[str, str], ...]
    """Name and reason, a sentence each."""


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
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if len(entries) > MAX_ZIP_ENTRIES:
            raise InputError(
                f"{name} has {len(entries)} files in it, and at most {MAX_ZIP_ENTRIES} are taken. "
                "Pack only the photos of one subject."
            )
        kept: list[Path] = []
        refused: list[tuple[str, str]] = []
        budget = MAX_ZIP_BYTES
        for entry in entries:
            try:
                if reason := _entry_fault(entry):
                    raise InputError(reason)
                data = _read_entry(archive, entry, min(MAX_FILE_BYTES, budget))
                budget -= len(data)
                path = keep_photo(data, PurePosixPath(entry.filename).name, folder)
                if path not in kept:
                    kept.append(path)
            except InputError as error:
                refused.append((entry.filename, str(error)))
    return ZipImport(tuple(kept), tuple(refused))


def _entry_fault(entry: zipfile.ZipInfo) -> str | None:
    """Why an entry of a zip is not even unpacked."""
    name = entry.orig_filename
    parts = re.split(r"[/\\]", name)
    last = parts[-1]
    if (
        name.startswith(("/", "\\"))
        or ".." in parts
        or re.match(r"[A-Za-z]:", name)
        or "\0" in name
    ):
        return f"{name!r} points outside of the zip, so it is not unpacked."
    if "\\" in name:
        return f"{name!r} has a backslash in its name, so it is not unpacked."
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
    """Unpack one entry, up to ``limit`` bytes whatever its header claims."""
    try:
        with archive.open(entry) as stream:
            data = stream.read(limit + 1)
    # zlib, lzma and zipfile each have errors of their own for a damaged entry.
    except Exception as error:
        raise InputError(
            f"{entry.filename} cannot be unpacked ({first_line(error)}); pack it again."
        ) from error
    if len(data) > limit:
        raise InputError(too_large(entry.filename, limit + 1))
    return data

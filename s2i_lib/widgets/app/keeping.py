"""What can be taken away from the page, one file to show, and what can be deleted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.drawing.gallery import file_stem, is_of, list_pictures, read_record
from s2i_lib.drawing.pages import Section, write_page
from s2i_lib.errors import InputError
from s2i_lib.photos.manifest import load_dataset, open_photo
from s2i_lib.photos.reading import encode_image
from s2i_lib.photos.subject import Subject, load_subject
from s2i_lib.privacy import Trace, find_doubts
from s2i_lib.storage.json_file import read_json
from s2i_lib.storage.layout import Drive, folder_name

if TYPE_CHECKING:
    import numpy as np

PHOTO_PX = 384  # of a photo on a page to give away
MOST_PHOTOS = 12


def write_story(drive: Drive, name: str, title: str, *, with_photos: bool) -> Path:
    """Write one HTML page of a subject: photos if asked for, words, pictures, sound and records.

    Sound is there of recordings that were kept.

    Raises
    ------
    InputError
        When there is no picture of the subject yet.
    """
    pictures = list_pictures(drive.creations, subject=name)
    if not pictures:
        raise InputError(f"There is no picture of {name} yet. Say one first, and keep it.")
    subject = load_subject(drive, name)
    sounds = _sounds_of(drive, name)
    wishes = [_wish_of(list(paths), sounds) for _, paths in groupby(pictures, key=_batch_of)]
    photos = [_photos_of(drive, subject)] if with_photos else []
    path = drive.creations / f"{file_stem(title)}.html"
    return write_page([*photos, *wishes], path, title=title)


def _photos_of(drive: Drive, subject: Subject) -> Section:
    small = []
    for path in load_dataset(drive, subject.name).images[:MOST_PHOTOS]:
        image = open_photo(path)
        image.thumbnail((PHOTO_PX, PHOTO_PX))
        small.append(encode_image(image, "JPEG", quality=85))
    return Section(subject.name, (), photos=small, record={"subjects": [asdict(subject)]})


def _batch_of(path: Path) -> tuple[Any, ...]:
    """What the pictures of one wish share, and no others."""
    record = read_record(path)
    return _said(record), record["prompt"], tuple(record.get("seeds") or [record["seed"]])


def _said(record: dict[str, Any]) -> str | None:
    return (record.get("transcript") or {}).get("text")


def _wish_of(pictures: list[Path], sounds: dict[str, Path]) -> Section:
    from s2i_lib.speech.audio import samples_of

    record = read_record(pictures[0])
    heard = _said(record)
    clip: np.ndarray | None = samples_of(sounds[heard]) if heard and heard in sounds else None
    return Section(record["prompt"], pictures, heard=heard, clip=clip)


def _sounds_of(drive: Drive, name: str) -> dict[str, Path]:
    """Recordings of a subject that were kept, by what was heard in them."""
    found = {}
    for path in sorted(drive.recordings.glob("*.wav")):
        record = read_json(path.with_suffix(".json"))
        if is_of(record, folder_name(name)) and (heard := _said(record)):
            found[heard] = path
    return found


def list_traces(drive: Drive, name: str, traces: list[Trace]) -> dict[str, Any]:
    """Say for the page what would be deleted, and of what nobody can tell whose it is."""
    return {
        "traces": [
            {"what": trace.what, "path": _shown(trace.path, drive), "size": size}
            for trace, size in _with_sizes(traces)
        ],
        "doubts": [f"{_shown(d.path, drive)}: {d.why}" for d in find_doubts(drive, name)],
    }


def _with_sizes(traces: list[Trace]) -> Iterator[tuple[Trace, str]]:
    for trace in traces:
        size = trace.size_bytes
        yield trace, f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"


def _shown(path: Path, drive: Drive) -> str:
    return str(path.relative_to(drive.root) if path.is_relative_to(drive.root) else path)

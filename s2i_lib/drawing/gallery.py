"""Pictures and their records: save them, read them back, give them away."""

from __future__ import annotations

import io
import json
import logging
import re
import wave
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.drawing.marks import Mark, encode_marked, mark_of_record
from s2i_lib.drawing.records import Picture, whom_it_was_taught
from s2i_lib.errors import InputError, S2iError
from s2i_lib.photos.own_png import open_png, text_of_png
from s2i_lib.storage.disk import list_matching
from s2i_lib.storage.files import alone_in, free_path, write_file, write_new
from s2i_lib.storage.json_file import NUMBER, TEXT_OR_NONE, check_fields, parse_object
from s2i_lib.storage.layout import composed, folder_name

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from s2i_lib.drawing.credentials import Signer
    from s2i_lib.models.loading import Model
    from s2i_lib.photos.subject import Subject
    from s2i_lib.speech.transcript import Transcript

log = logging.getLogger(__name__)

RECORD_KEY = "s2i"  # the PNG text chunk that holds the record as JSON
RECORD_SHAPE = {
    "prompt": str,
    "negative": str,
    "seed": int,
    "seeds": [int],
    "index": int,
    "steps": int,
    "guidance_scale": NUMBER,
    "model": str,
    "source": str,
    "run": TEXT_OR_NONE,
    "run_subject": TEXT_OR_NONE,
    "hashes": dict,
    "subjects": [
        {"name": str, "class_noun": str, "identifier": str, "kind": str, "spellings": [str]}
    ],
    "transcript": (dict, type(None)),
    "kept": str,
    "conversation": [{"said": str, "kind": str}],
    "seen": {"agrees": bool, "words": str},
}


def save(picture: Picture, folder: Path, mark: str = "", *, root: Path | None = None) -> Path:
    """Write a PNG with its record inside and the same record as JSON beside it.

    The name says when, what and which seed; a name that is taken is never written over. Where
    several processes write at once, each has its own ``mark`` at the end of the name. Paths in the
    record that lie below ``root``, the Drive's, are relative to it: see `from_drive`.

    Raises
    ------
    S2iError
        When the disk does not take both. Neither is left behind then.
    """
    record = _to_drive(picture.record, root) if root else picture.record
    record = record | {"saved_at": datetime.now(UTC).isoformat(timespec="seconds")}
    text = {RECORD_KEY: json.dumps(record, ensure_ascii=False)}
    data = encode_marked(picture.image, "PNG", mark_of_record(record), text=text)
    path = folder / f"{file_stem(record['prompt'])}-{record['seed']}{mark}.png"
    return _write_with_record(path, data, record, record_first=False)  # it is in the PNG, too


def save_recording(
    sound: np.ndarray,
    transcript: Transcript,
    subjects: Sequence[Subject],
    folder: Path,
    model: Model | None = None,
    root: Path | None = None,
) -> Path:
    """Write a recording as WAV and, beside it, what was heard and which ``subjects`` were named.

    The names, and whose run in ``model`` draws it, are what `s2i_lib.privacy` finds a subject's
    recordings by. ``root`` as in `save`.

    Raises
    ------
    S2iError
        When the disk does not take both. Neither is left behind then.
    """
    record: dict[str, Any] = {
        "transcript": transcript.to_json(),
        "subjects": [subject.to_record() for subject in subjects],
        "saved_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if model:
        record |= {"run": model.run, "run_subject": whom_it_was_taught(model)}
    record = _to_drive(record, root) if root else record
    path = folder / f"{file_stem(transcript.text)}.wav"
    # By the record `s2i_lib.privacy` finds whose voice it is: it is there before that.
    return _write_with_record(path, wav_bytes(sound), record, record_first=True)


def _write_with_record(
    path: Path, data: bytes, record: dict[str, Any], *, record_first: bool
) -> Path:
    """Write a file and the JSON beside it, or neither, under a name that is free for both."""
    text = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
    with alone_in(path.parent):
        path = free_path(path, ".json")
        parts = [(path, data), (path.with_suffix(".json"), text.encode())]
        (first, content), (second, rest) = reversed(parts) if record_first else parts
        write_file(first, content)
        try:
            write_file(second, rest)
        except S2iError:
            with suppress(OSError):
                first.unlink()
            raise
    return path


_PATHS = ("run", "source")


def _with_paths(record: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Return a record with other paths, and with it those of the pictures that it came from."""
    paths = {key: record[key] for key in _PATHS if isinstance(record.get(key), str)}
    changed = record | {key: change(path) for key, path in paths.items()}
    if steps := record.get("conversation"):
        changed["conversation"] = [_with_paths(step, change) for step in steps]
    return changed


def _to_drive(record: dict[str, Any], root: Path) -> dict[str, Any]:
    """Return a record whose paths on the Drive say nothing of where it is mounted."""
    place = str(root.absolute()) + "/"
    return _with_paths(record, lambda path: path.removeprefix(place))


def from_drive(record: dict[str, Any], root: Path) -> dict[str, Any]:
    """Return a record with the paths on the Drive at ``root`` as they are here."""

    def lengthen(path: str) -> str:
        is_inside = path and not Path(path).is_absolute() and ".." not in Path(path).parts
        return str(root.absolute() / path) if is_inside and (root / path).exists() else path

    return _with_paths(record, lengthen)


def for_others(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record without paths of this machine: from the Drive's runs on, or the name."""

    def shorten(path: str) -> str:
        if not Path(path).is_absolute():
            return path
        _, runs, run = path.rpartition("/runs/")
        return f"runs/{run}" if runs else Path(path).name

    return _with_paths(record, shorten)


def shared_png(path: Path) -> bytes:
    """Return a saved picture as a PNG to give away: its pixels, and that a model drew it.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    return encode_marked(open_png(path).convert("RGB"), "PNG", mark_of_png(path))


def mark_of_png(path: Path) -> Mark:
    """Return the mark of a saved picture: by its record, also where an older version saved it."""
    try:
        return mark_of_record(read_record(path))
    except InputError:  # it says less of itself, and is a picture of ours all the same
        return Mark()


def share(pictures: Sequence[Path], folder: Path, signer: Signer | None = None) -> list[Path]:
    """Write copies to give away, whose names and content say nothing of whom they show.

    With a ``signer`` each has signed C2PA credentials, too. One that cannot be read is named in the
    log.
    """
    shared = []
    for path in pictures:
        try:
            data = shared_png(path)
        except InputError as error:
            log.warning("%s", error)
            continue
        if signer:
            data = signer.sign(data, "image/png", mark_of_png(path))
        shared.append(write_new(folder / "picture.png", data))
    return shared


class NoRecordError(InputError):
    """A picture that says nothing of how it was made: somebody else's, or one that was shared."""


def read_record(path: Path) -> dict[str, Any]:
    """Return the record inside a PNG that `save` wrote: `RECORD_SHAPE`, with prompt and seed.

    Raises
    ------
    NoRecordError
        When it carries no record of ours.
    InputError
        When there is no such file, it is no PNG, or its record is odd.
    """
    text = text_of_png(path, RECORD_KEY)
    if text is None:
        raise NoRecordError(
            f"{path} carries no record of how it was made. Only pictures that this program saved "
            "can be made again, and only while no other program has written them again."
        )
    try:
        record = parse_object(text)
        check_fields(record, RECORD_SHAPE)
        if missing := [key for key in ("prompt", "seed") if key not in record]:
            raise ValueError(f"{missing[0]} is missing")
    except ValueError as error:
        raise InputError(
            f"{path} carries no record that can be read ({error}). Only pictures that this program "
            "saved can be made again."
        ) from error
    return record


def same_pixels(one: Path, other: Path) -> bool:
    """Return whether two pictures show the same, bit for bit, whatever their records say."""
    first, second = open_png(one), open_png(other)
    return first.size == second.size and first.tobytes() == second.tobytes()


def is_of(record: Any, slug: str, folders: Collection[str] = ()) -> bool:
    """Return whether a record is of the subject whose folders are called ``slug``.

    It is where the subject was named, or a run of it drew: ``run_subject`` says whose, and ``run``
    rex/pocket-01, or where weights lie that were exported from that run, such as
    runs/rex/pocket-01/export, with the path to the Drive before it or without. Its runs may lie in
    other ``folders``, too.
    """
    if not isinstance(record, dict):
        return False
    run = Path(record["run"]) if isinstance(record.get("run"), str) else Path()
    parts = run.parts
    if run.is_absolute():
        drawn_by = {after for before, after in pairwise(parts) if before == "runs"}
    else:
        is_path = len(parts) > 2 and parts[0] == "runs"
        drawn_by = set(parts[1:2] if is_path else parts[:1])
    is_drawn_by = not drawn_by.isdisjoint({slug, *folders})
    return is_drawn_by or slug in _folders_named(record)


def _folders_named(record: dict[str, Any]) -> Iterator[str]:
    """Find what the folders of a record's subjects are called, of its run's, too."""
    named = record.get("subjects")
    for subject in [*(named if isinstance(named, list) else []), record.get("run_subject")]:
        name = subject.get("name") if isinstance(subject, dict) else subject
        if isinstance(name, str):
            with suppress(InputError):  # a name of signs alone has no folder
                yield folder_name(name)


def list_pictures(folder: Path, *, subject: str | None = None, prompt: str = "") -> list[Path]:
    """Return a folder's saved pictures, oldest first: of a subject, with words in the prompt.

    One that cannot be read is named in the log; one without a record is somebody else's.
    """
    found = []
    for path in list_matching(folder, "*.png"):
        try:
            record = read_record(path)
        except NoRecordError:
            continue
        except InputError as error:
            log.warning("%s", error)
            continue
        is_of_subject = subject is None or is_of(record, folder_name(subject))
        if is_of_subject and prompt.lower() in record["prompt"].lower():
            found.append(path)
    return found


def grid_png(pictures: Sequence[Path]) -> bytes:
    """Return saved pictures as one PNG without records; odd ones are named in the log.

    Raises
    ------
    InputError
        When none of them can be read.
    """
    images, models = [], set()
    for path in pictures:
        try:
            images.append(open_png(path))
            models.add(mark_of_png(path).model)
        except InputError as error:
            log.warning("%s", error)
    if not images:
        raise InputError("None of these pictures can be read, so there is no grid of them.")
    return encode_marked(grid(images, cell_px=256), "PNG", mark_of_all(models))


def sheet_png(pictures: Sequence[Picture], *, cell_px: int = 160) -> bytes:
    """Return drawn pictures as one PNG without records."""
    sheet = grid([one.image for one in pictures], cell_px=cell_px)
    models = {mark_of_record(one.record).model for one in pictures}
    return encode_marked(sheet, "PNG", mark_of_all(models))


def mark_of_all(models: Collection[str]) -> Mark:
    """Return the mark of what shows pictures of these models side by side."""
    return Mark(", ".join(sorted(filter(None, set(models)))))


def grid(
    images: Sequence[Image], *, columns: int = 4, cell_px: int | None = None, gap_px: int = 4
) -> Image:
    """Show pictures side by side on white, row by row, each in a square as wide as the first.

    ``cell_px`` enlarges or shrinks them.
    """
    import PIL.Image
    import PIL.ImageOps

    columns = min(len(images), columns)
    rows, cell_px = -(-len(images) // columns), cell_px or images[0].width
    side = cell_px + gap_px
    sheet = PIL.Image.new("RGB", (columns * side - gap_px, rows * side - gap_px), "white")
    for i, image in enumerate(images):
        cell = PIL.ImageOps.pad(  # a panorama is twice as wide as high
            image.convert("RGB"), (cell_px, cell_px), PIL.Image.Resampling.BICUBIC, color="white"
        )
        sheet.paste(cell, (i % columns * side, i // columns * side))
    return sheet


def file_stem(prompt: str) -> str:
    """Return the time (UTC) and the first words of a prompt as a file name without its ending."""
    words = re.sub(r"[^\w]+", "-", composed(prompt).lower()).strip("-")[:40].strip("-")
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{words or 'picture'}"


def wav_bytes(sound: np.ndarray, rate_hz: int = 16_000) -> bytes:
    """Encode a mono recording, float32 in -1 to 1, as a 16-bit WAV, which every browser plays."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((sound.clip(-1, 1) * 32767).round().astype("<i2").tobytes())
    return buffer.getvalue()

"""Pictures + records: save them, read them back, and make a page of them to look at."""

from __future__ import annotations

import io
import json
import re
import wave
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.drawing.records import Picture
from s2i_lib.errors import InputError, S2iError
from s2i_lib.photos.reading import encode_image
from s2i_lib.storage.files import data_uri, free_path, write_file
from s2i_lib.storage.layout import folder_name

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from s2i_lib.photos.subject import Subject
    from s2i_lib.speech.transcript import Transcript

RECORD_KEY = "s2i"  # the PNG text chunk that holds the record as JSON
PAGE_TEMPLATE = Path(__file__).with_name("gallery_page.html")


@dataclass(frozen=True)
class Section:
    """What was said or typed, and the pictures that came of it: one section of a page."""

    prompt: str
    pictures: Sequence[Path]
    heard: str | None = None
    """The transcript, where it was spoken."""
    clip: np.ndarray | None = None
    """The recording: float32 in -1 to 1, mono, 16 kHz."""
    notes: Sequence[str] = ()


def save(picture: Picture, folder: Path, mark: str = "") -> Path:
    """Write a PNG with its record inside and the same record as JSON beside it.

    The name says when, what and which seed; a name that is taken is never written over. Where
    several processes write at once, each has its own ``mark`` at the end of the name.

    Raises
    ------
    S2iError
        When the disk does not take both. Neither is left behind then.
    """
    from PIL.PngImagePlugin import PngInfo

    record = picture.record | {"saved_at": datetime.now(UTC).isoformat(timespec="seconds")}
    text = json.dumps(record, ensure_ascii=False)
    info = PngInfo()
    info.add_itxt(RECORD_KEY, text)
    data = encode_image(picture.image, "PNG", pnginfo=info)
    path = free_path(folder / f"{file_stem(record['prompt'])}-{record['seed']}{mark}.png")
    return _write_with_record(path, data, record)


def save_recording(
    sound: np.ndarray, transcript: Transcript, subjects: Sequence[Subject], folder: Path
) -> Path:
    """Write a recording as WAV and, beside it, what was heard and which ``subjects`` were named.

    The names are what `s2i_lib.privacy` finds a subject's recordings by.

    Raises
    ------
    S2iError
        When the disk does not take both. Neither is left behind then.
    """
    record = {
        "transcript": transcript.to_json(),
        "subjects": [asdict(subject) for subject in subjects],
        "saved_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    path = free_path(folder / f"{file_stem(transcript.text)}.wav")
    return _write_with_record(path, wav_bytes(sound), record)


def _write_with_record(path: Path, data: bytes, record: dict[str, Any]) -> Path:
    """Write a file and the JSON beside it, or neither."""
    text = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
    # The record first: by it `s2i_lib.privacy` finds whose file this is.
    beside = write_file(path.with_suffix(".json"), text.encode())
    try:
        return write_file(path, data)
    except S2iError:
        with suppress(OSError):
            beside.unlink()
        raise


def read_record(path: Path) -> dict[str, Any]:
    """Return the record inside a PNG that `save` wrote.

    Raises
    ------
    InputError
        When there is no such file, it is no PNG, or it carries no record of ours.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
            text = image.info.get(RECORD_KEY)
    except FileNotFoundError:
        raise InputError(f"There is no picture {path}. Check the path.") from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputError(
            f"{path} cannot be read as a picture ({error}). Give a PNG that this program made."
        ) from error
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        raise InputError(
            f"{path} carries no record of how it was made. Only pictures that this program saved "
            "can be made again, and only while no other program has written them anew."
        ) from None


def same_pixels(one: Path, other: Path) -> bool:
    """Return whether two pictures show the same, bit for bit, whatever their records say."""
    from PIL import Image

    with Image.open(one) as first, Image.open(other) as second:
        return first.size == second.size and first.tobytes() == second.tobytes()


def is_of(record: Mapping[str, Any], slug: str) -> bool:
    """Return whether a record is of the subject whose folders are called ``slug``.

    It is where the subject was named, or a run of it drew: ``run`` says rex/pocket-01, or where
    weights lie that were exported from that run, such as /drive/runs/rex/pocket-01/export.
    """
    names = [str(subject.get("name", "")) for subject in record.get("subjects") or []]
    run = Path(str(record.get("run") or ""))
    parts = run.parts
    is_drawn_by = ("runs", slug) in pairwise(parts) if run.is_absolute() else slug in parts[:1]
    return is_drawn_by or slug in {folder_name(name) for name in names if name.strip()}


def list_pictures(folder: Path, *, subject: str | None = None, prompt: str = "") -> list[Path]:
    """List the saved pictures of a folder, oldest first: of a subject, with words in the prompt."""
    found = []
    for path in sorted(folder.glob("*.png")):
        try:
            record = read_record(path)
        except InputError:
            continue  # a picture of somebody else's lies there, too
        is_of_subject = subject is None or is_of(record, folder_name(subject))
        if is_of_subject and prompt.lower() in record["prompt"].lower():
            found.append(path)
    return found


def grid_png(pictures: Sequence[Path]) -> bytes:
    """Saved pictures side by side, as a PNG."""
    import PIL.Image

    return encode_image(grid([PIL.Image.open(path) for path in pictures], cell_px=256), "PNG")


def grid(
    images: Sequence[Image], *, columns: int = 4, cell_px: int | None = None, gap_px: int = 4
) -> Image:
    """Show square pictures side by side on white, row by row, each as large as the first.

    ``cell_px`` enlarges or shrinks them.
    """
    import PIL.Image

    columns = min(len(images), columns)
    rows, cell_px = -(-len(images) // columns), cell_px or images[0].width
    side = cell_px + gap_px
    sheet = PIL.Image.new("RGB", (columns * side - gap_px, rows * side - gap_px), "white")
    for i, image in enumerate(images):
        cell = image.convert("RGB").resize((cell_px, cell_px), PIL.Image.Resampling.BICUBIC)
        sheet.paste(cell, (i % columns * side, i // columns * side))
    return sheet


def write_page(wishes: Sequence[Section], path: Path, *, title: str) -> Path:
    """Write one self-contained HTML page: for each wish the clip, the words and the pictures."""
    from jinja2 import Environment

    template = Environment(autoescape=True).from_string(PAGE_TEMPLATE.read_text())
    sections = [
        {
            "heard": wish.heard,
            "prompt": wish.prompt,
            "notes": wish.notes,
            "clip": None if wish.clip is None else data_uri("audio/wav", wav_bytes(wish.clip)),
            "pictures": [
                {
                    "name": file.name,
                    "uri": data_uri("image/png", file.read_bytes()),
                    "record": read_record(file),
                }
                for file in wish.pictures
            ],
        }
        for wish in wishes
    ]
    page = template.render(title=title, wishes=sections)
    return write_file(free_path(path), page.encode())


_SECTION = re.compile(r"<section>.*?</section>\n?", re.DOTALL)
_RECORD = re.compile(r"<pre>(.*?)</pre>", re.DOTALL)


def without(page: str, slug: str) -> str:
    """Take the wishes of a subject out of `write_page`'s HTML; "" when none is left."""

    def rest(section: re.Match[str]) -> str:
        try:
            records = [json.loads(record) for record in _RECORD.findall(section[0])]
        except ValueError:
            return section[0]  # somebody else's page
        return "" if any(is_of(record, slug) for record in records) else section[0]

    left = _SECTION.sub(rest, page)
    return left if left == page or _SECTION.search(left) else ""


def file_stem(prompt: str) -> str:
    """Return the time (UTC) and the first words of a prompt as a file name without its ending."""
    words = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-")[:40].strip("-")
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

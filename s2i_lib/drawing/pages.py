"""Pages to look at: one frame for all, and that of what was said and drawn.

A page is one HTML file that needs no network. Its head, its colours and its mark are those of
`page.html`, which the templates of the other packages extend, too. Each `<section>` has the records
of what it shows, so that what shows a subject can be taken out (`s2i_lib.privacy`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.drawing.gallery import (
    for_others,
    mark_of_all,
    mark_of_png,
    read_record,
    shared_png,
    wav_bytes,
)
from s2i_lib.drawing.marks import Mark
from s2i_lib.drawing.told import alt_text
from s2i_lib.storage.files import data_uri, write_new
from s2i_lib.storage.json_file import parse_object

if TYPE_CHECKING:
    import numpy as np

HERE = Path(__file__).parent
GALLERY = HERE / "gallery_page.html"


def fill_in(template: Path, mark: Mark, *, title: str, **said: Any) -> str:
    """Return a page as HTML: a template that extends ``page.html``, with its mark."""
    from jinja2 import Environment, FileSystemLoader

    loader = FileSystemLoader([template.parent, HERE])
    page = Environment(loader=loader, autoescape=True).get_template(template.name)
    return page.render(title=title, mark=mark.html(), **said)


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
    said: str | None = None
    """Words of a conversation that were typed."""
    photos: Sequence[bytes] = ()
    """JPEGs of what a model was taught, to show on the page ..."""
    record: Mapping[str, Any] | None = None
    """... and whose they are, for `without` to find: the page's other parts have pictures' records.
    """


def write_page(wishes: Sequence[Section], path: Path, *, title: str) -> Path:
    """Write one self-contained HTML page: for each wish the clip, the words and the pictures."""
    sections: list[dict[str, Any]] = [
        {
            "heard": wish.heard,
            "said": wish.said,
            "prompt": wish.prompt,
            "notes": wish.notes,
            "photos": [data_uri("image/jpeg", photo) for photo in wish.photos],
            "record": wish.record,
            "clip": None if wish.clip is None else data_uri("audio/wav", wav_bytes(wish.clip)),
            "pictures": [
                {
                    "name": file.name,
                    "uri": data_uri("image/png", shared_png(file)),
                    "alt": alt_text(record),
                    "record": for_others(record),
                }
                for file in wish.pictures
                for record in [read_record(file)]
            ],
        }
        for wish in wishes
    ]
    models = [mark_of_png(file).model for wish in wishes for file in wish.pictures]
    page = fill_in(GALLERY, mark_of_all(models), title=title, wishes=sections)
    return write_new(path, page.encode())


def without(page: str, shows: Callable[[Any], bool]) -> str:
    """Return the HTML of `write_page` without wishes that it ``shows``; "" when none is left."""
    head, *sections = page.split(_BEGIN)
    left = [section for section in sections
            if not any(map(shows, _records_in(section)))]  # fmt: skip
    if len(left) == len(sections):
        return page
    if not left:
        return ""
    # What follows the last section is the page's end.
    end = sections[-1].partition(_END)[2]
    return _BEGIN.join([head, *left]).removesuffix(end).rstrip("\n") + "\n" + end.lstrip("\n")


def is_readable_page(page: str) -> bool:
    """Return whether each section of a page has a record that says whose it is."""
    _, *sections = page.split(_BEGIN)
    return bool(sections) and all(any(_records_in(section)) for section in sections)


_BEGIN, _END = "<section>", "</section>"


def _records_in(section: str) -> Iterator[dict[str, Any]]:
    """Find the records that can be read in a section; what else stands there is passed over."""
    for part in section.partition(_END)[0].split("<pre>")[1:]:
        with suppress(ValueError):
            yield parse_object(part.partition("</pre>")[0])

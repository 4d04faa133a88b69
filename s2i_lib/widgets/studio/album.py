"""The pictures of a studio: those of its conversation, and the last ones on the Drive."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.drawing.gallery import read_record
from s2i_lib.drawing.marks import encode_marked, mark_of_record
from s2i_lib.drawing.records import Picture
from s2i_lib.drawing.told import alt_parts, alt_text
from s2i_lib.errors import InputError
from s2i_lib.photos.own_png import open_png
from s2i_lib.storage.files import data_uri

if TYPE_CHECKING:
    from s2i_lib.conversation import Conversation
    from s2i_lib.conversation.turns import Turn

THUMB_PX = 96
STRIP_LENGTH = 24  # pictures that stay in the strip; older ones stay on the Drive
EARLIER = 8  # of those that were drawn before the kernel began


@dataclass
class Shown:
    """A picture in the strip."""

    picture: Picture
    path: Path | None
    """Where it is kept, if it is."""
    said: str
    """Words for it, as they were heard or typed."""
    turn: int | None = None
    """Number of its turn; None: it was drawn before this conversation."""
    place: int = 0
    """Place among the pictures of its turn."""


class Album:
    """What is shown of a conversation, by the ids that the page knows."""

    def __init__(self, talk: Conversation) -> None:
        self._talk = talk
        self.language: str | None = None
        """Code of the language that pictures are told in; None: that which was spoken."""
        self._earlier: dict[str, Shown] = {}
        self._thumbs: dict[str, str] = {}
        self._lock = threading.Lock()

    def __getitem__(self, key: str) -> Shown:
        """Return the picture of an id.

        Raises
        ------
        InputError
            When there is none any more.
        """
        if key in self._earlier:
            return self._earlier[key]
        number, _, place = key.removeprefix("picture-").partition("-")
        turns = self._talk.turns
        if number.isdecimal() and place.isdecimal() and int(number) < len(turns):
            turn, i = turns[int(number)], int(place)
            if i < len(turn.wish.pictures) and not self._talk.history.is_deleted(turn.number, i):
                return Shown(turn.wish.pictures[i], turn.wish.paths[i], turn.said, turn.number, i)
        raise InputError(f"There is no picture {key!r} any more.")

    def strip(self) -> list[dict[str, Any]]:
        """Return entries of all pictures of this conversation, the newest first."""
        return [entry for turn in reversed(self._talk.turns) for entry in self.entries(turn)][
            :STRIP_LENGTH
        ]

    def shown(self) -> list[dict[str, Any]]:
        """Return entries of the turn that is shown."""
        return self.entries(self._talk.turn) if self._talk.turn else []

    def entries(self, turn: Turn) -> list[dict[str, Any]]:
        """Return the entries of a turn's pictures that are not deleted."""
        return [
            self._entry(f"picture-{turn.number}-{i}", turn.said, picture, path)
            for i, (picture, path) in enumerate(
                zip(turn.wish.pictures, turn.wish.paths, strict=True)
            )
            if not self._talk.history.is_deleted(turn.number, i)
        ]

    def read_earlier(self, folder: Path) -> list[dict[str, Any]]:
        """Return entries of the newest pictures in a folder; files without a record are left."""
        paths = sorted(folder.glob("*.png"), key=lambda path: path.name, reverse=True)
        for path in paths[: 2 * EARLIER]:
            try:
                record = read_record(path)
                picture = Picture(open_png(path).convert("RGB"), record)
            except (InputError, OSError):
                continue
            said = (record.get("transcript") or {}).get("text") or record["prompt"]
            self._earlier[f"earlier-{path.stem}"] = Shown(picture, path, said)
            if len(self._earlier) == EARLIER:
                break
        return self.earlier()

    def earlier(self) -> list[dict[str, Any]]:
        """Return the entries of what was read before, the newest first."""
        return [
            self._entry(key, shown.said, shown.picture, shown.path)
            for key, shown in self._earlier.items()
        ]

    def take_over(self, key: str) -> None:
        """Make an earlier picture the last one of the conversation.

        Raises
        ------
        InputError
            When its record does not say how it was drawn.
        """
        shown = self._earlier[key]
        assert shown.path is not None
        try:
            self._talk.adopt(shown.picture, shown.path)
        except (LookupError, TypeError, ValueError) as error:
            raise InputError(f"Its record does not say how it was drawn ({error}).") from error
        del self._earlier[key]

    def _entry(self, key: str, said: str, picture: Picture, path: Path | None) -> dict[str, Any]:
        return {
            "id": key,
            "said": said,
            "alt": alt_text(picture.record, language=self.language),
            "told": [list(part) for part in alt_parts(picture.record, language=self.language)],
            "seed": picture.record["seed"],
            "is_kept": path is not None,
            "thumb": self._thumb(key, picture),
        }

    def _thumb(self, key: str, picture: Picture) -> str:
        """Return a small picture as an address: a page without its kernel has nothing else."""
        with self._lock:
            if key not in self._thumbs:
                image = picture.image.copy()
                image.thumbnail((THUMB_PX, THUMB_PX))
                data = encode_marked(image, "JPEG", mark_of_record(picture.record), quality=80)
                self._thumbs[key] = data_uri("image/jpeg", data)
            return self._thumbs[key]

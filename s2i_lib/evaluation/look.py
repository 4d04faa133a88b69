"""Look at a picture with the scorer: does it show what was asked, and if not, what does it show?

Of what was asked, the thing, its colour, what it wears or holds, and its place or the colour of its
ground can be compared with others of their kind: the scorer is asked which it sees. What it has no
words for, it says nothing of.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from s2i_lib.drawing.told import Seen
from s2i_lib.errors import S2iError
from s2i_lib.models.registry import REGISTRY, known_words
from s2i_lib.speech.templates import with_article

if TYPE_CHECKING:
    from PIL.Image import Image

    from s2i_lib.drawing.records import Picture
    from s2i_lib.models.encoders import ClipScorer
    from s2i_lib.storage.layout import Drive

log = logging.getLogger(__name__)

AMONG = 3  # the thing asked for is seen where it is among the nearest three: a kitten is a cat
# The words of the smallest model are everyday ones, so that larger ones are asked by them, too.
EVERYDAY = REGISTRY["pocket"]
# Vectors of texts by scorer: CLIP's large one takes seconds for 300 of them, which are always the
# same.
_vectors: dict[str, dict[str, np.ndarray]] = defaultdict(dict)


@dataclass(frozen=True)
class Asked:
    """What of a prompt can be looked for."""

    noun: str
    colour: str = ""
    ground: str = ""
    """Colour of a plain background."""
    place: str = ""
    worn: str = ""
    """What is worn or held, whatever its colour."""

    @classmethod
    def read(cls, prompt: str, nouns: Iterable[str] = ()) -> Asked | None:
        """Return what a prompt asks for of the things, colours, places and so on that are everyday.

        None where it names no such thing.

        Parameters
        ----------
        nouns
            Further things that are known, such as a subject's class noun.
        """
        known = _words()
        colours = "|".join(known["colours"])
        grounds = {rf"on an? {colour} background": colour for colour in known["colours"]}
        places = {re.escape(way): name for name, way in _ways("places")}
        items = {_in_any_colour(way, colours): name for name, way in _ways("accessories")}
        ground, rest = _take(prompt.lower(), grounds)
        place, rest = _take(rest, places)
        worn, rest = _take(rest, items)
        named = "|".join(sorted(map(re.escape, {*known["nouns"], *nouns}), key=len, reverse=True))
        found = re.search(rf"\b(?:({colours})\s+(?:\w+\s+)??)?({named})\b", rest)
        return cls(found[2], found[1] or "", ground, place, worn) if found else None

    def __str__(self) -> str:
        known = _words()
        said = with_article(f"{self.colour} {self.noun}".strip())
        if self.worn:
            said += f" {known['accessories'][self.worn][0]}"
        if self.ground:
            said += f" on {with_article(self.ground)} background"
        return f"{said} {known['places'][self.place][0]}" if self.place else said


def _ways(kind: str) -> list[tuple[str, str]]:
    """Each place, or thing worn, with each of the ways to say it: ("beach", "on a beach")."""
    return [(name, way) for name, ways in _words()[kind].items() for way in ways]


def _in_any_colour(way: str, colours: str) -> str:
    """A pattern for "wearing a hat" that finds "wearing the red hat", too."""
    return re.sub(r"^(\w+) (?:an? )?", rf"\1 (?:an? |the )?(?:(?:{colours}) )?", way)


def _take(text: str, names: Mapping[str, str]) -> tuple[str, str]:
    """Find which of some patterns stands first in a text; its name, and the text without it.

    Of several at one place it is the longest: "in the night sky", not "in the night".
    """
    found = [
        (match, name) for way, name in names.items() if (match := re.search(rf"\b{way}\b", text))
    ]
    if not found:
        return "", text
    match, name = min(found, key=lambda one: (one[0].start(), -one[0].end()))
    return name, f"{text[: match.start()]},{text[match.end() :]}"


class Looker:
    """Looks at pictures with the scorer of the model that drew them, loaded when it is needed.

    `SpeechToImage.look` takes one: then each picture's record says what was seen.
    """

    def __init__(self, drive: Drive) -> None:
        self.drive = drive
        self._scorers: dict[str, ClipScorer | None] = {}

    def __call__(self, picture: Picture) -> Seen | None:
        name = str(picture.record.get("model"))
        if name not in self._scorers:
            self._scorers[name] = self._load(name)
        scorer = self._scorers[name]
        return look(scorer, picture.image, picture.record) if scorer else None

    def _load(self, name: str) -> ClipScorer | None:
        from s2i_lib.models.devices import pick_device
        from s2i_lib.models.encoders import load_clip

        source = REGISTRY[name].scorer if name in REGISTRY else None
        if source is None:
            log.warning("No scorer is known for the model %s, so nobody looks at pictures.", name)
            return None
        try:
            return load_clip(source, self.drive, pick_device())
        except S2iError as error:
            log.warning("Nobody looks whether the pictures show what was asked. %s", error)
            return None


def look(scorer: ClipScorer, image: Image, record: dict[str, Any]) -> Seen | None:
    """Return what a scorer sees of what a picture's record asked for; None where it cannot tell."""
    subjects = [one for one in record.get("subjects") or [] if isinstance(one, dict)]
    nouns = [str(one.get("class_noun", "")).lower() for one in subjects]
    asked = Asked.read(str(record.get("prompt", "")), filter(None, nouns))
    if asked is None:
        return None
    picture = scorer.images([image])[0]
    noun = asked.noun
    names = list(dict.fromkeys([*_words()["nouns"], noun]))
    nearest = _nearest(scorer, picture, [with_article(one) for one in names])
    if nearest.tolist().index(names.index(noun)) >= AMONG:
        noun = names[nearest[0]]
    thing, colours = with_article(noun), _colours()
    choices = {
        "colour": {one: with_article(f"{one} {noun}") for one in colours},
        "ground": {one: f"{thing} on {with_article(one)} background" for one in colours},
        "place": {one: f"{thing} {ways[0]}" for one, ways in _words()["places"].items()},
        "worn": {one: f"{thing} {ways[0]}" for one, ways in _words()["accessories"].items()},
    }
    seen = Asked(noun, **{
        kind: _choose(scorer, picture, getattr(asked, kind), texts)
        for kind, texts in choices.items()
    })  # fmt: skip
    return Seen(seen == asked, str(seen))


def _choose(scorer: ClipScorer, picture: np.ndarray, asked: str, texts: Mapping[str, str]) -> str:
    """Return the name of the text that is seen, where one was asked for.

    A colour that was asked for by another of its names keeps that one.
    """
    if not asked:
        return ""
    found = list(texts)[_nearest(scorer, picture, list(texts.values()))[0]]
    colours = _words()["colours"]
    return asked if colours.get(asked, asked) == colours.get(found, found) else found


def _nearest(scorer: ClipScorer, picture: np.ndarray, texts: list[str]) -> np.ndarray:
    """Return the numbers of the texts, the nearest to the picture first."""
    known = _vectors[scorer.sha256]
    if new := [text for text in texts if text not in known]:
        known.update(zip(new, scorer.texts(new), strict=True))
    return np.argsort(-(np.stack([known[text] for text in texts]) @ picture))


def _words() -> dict[str, Any]:
    words = known_words(EVERYDAY)
    assert words is not None  # it ships with the package
    return words


def _colours() -> list[str]:
    """Return one name of each colour: gray and grey are one."""
    first: dict[str, str] = {}
    for name, value in _words()["colours"].items():
        first.setdefault(repr(value), name)
    return list(first.values())

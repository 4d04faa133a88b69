"""Look at a picture with the scorer: does it show what was asked, and if not, what does it show?

Of what was asked, the thing, its colour and the colour of its ground can be compared with others of
their kind: the scorer is asked which it sees. What it has no words for, it says nothing of.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from s2i_lib.drawing.told import Seen
from s2i_lib.errors import S2iError
from s2i_lib.models.registry import REGISTRY, known_words
from s2i_lib.speech.templates import article_for

if TYPE_CHECKING:
    from PIL.Image import Image

    from s2i_lib.drawing.records import Picture
    from s2i_lib.models.encoders import ClipScorer
    from s2i_lib.storage.layout import Drive

log = logging.getLogger(__name__)

AMONG = 3  # the thing asked for is seen where it is among the nearest three: a kitten is a cat
# The words of the smallest model are everyday ones, so that larger ones are asked by them, too.
EVERYDAY = REGISTRY["pocket"]


@dataclass(frozen=True)
class Asked:
    """What of a prompt can be looked for."""

    noun: str
    colour: str = ""
    ground: str = ""

    @classmethod
    def read(cls, prompt: str, nouns: Iterable[str] = ()) -> Asked | None:
        """Return what a prompt asks for, of everyday things, colours and grounds; else None.

        Parameters
        ----------
        nouns
            Further things that are known, such as a subject's class noun.
        """
        known = _words()
        text = prompt.lower()
        named = "|".join(sorted(map(re.escape, {*known["nouns"], *nouns}), key=len, reverse=True))
        colours = "|".join(known["colours"])
        ground = re.search(rf"\bon an? ({colours}) background\b", text)
        thing = text[: ground.start()] if ground else text
        found = re.search(rf"\b(?:({colours})\s+)?(?:\w+\s+)??({named})\b", thing)
        if found is None:
            return None
        return cls(found[2], found[1] or "", ground[1] if ground else "")

    def __str__(self) -> str:
        thing = f"{self.colour} {self.noun}".strip()
        ground = f" on {article_for(self.ground)} {self.ground} background" if self.ground else ""
        return f"{article_for(thing)} {thing}{ground}"


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
        from s2i_lib.models.encoders import load_clip

        source = REGISTRY[name].scorer if name in REGISTRY else None
        if source is None:
            log.warning("No scorer is known for the model %s, so nobody looks at pictures.", name)
            return None
        try:
            return load_clip(source, self.drive)
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
    colours = _colours()
    noun = asked.noun
    names = list(dict.fromkeys([*_words()["nouns"], noun]))
    nearest = _nearest(scorer, picture, [f"{article_for(one)} {one}" for one in names])
    if nearest.tolist().index(names.index(noun)) >= AMONG:
        noun = names[nearest[0]]
    texts = [f"{article_for(one)} {one} {noun}" for one in colours]
    colour = _choose(scorer, picture, colours, texts, asked.colour)
    grounds = [f"{article_for(noun)} {noun} on {article_for(c)} {c} background" for c in colours]
    ground = _choose(scorer, picture, colours, grounds, asked.ground)
    seen = Asked(noun, colour, ground)
    return Seen(seen == asked, str(seen))


def _choose(
    scorer: ClipScorer, picture: np.ndarray, names: Sequence[str], texts: list[str], asked: str
) -> str:
    """Return which of ``names`` is seen, where one was asked for; by its own name if it is that."""
    if not asked:
        return ""
    found = names[_nearest(scorer, picture, texts)[0]]
    colours = _words()["colours"]
    return asked if colours[asked] == colours[found] else found


def _nearest(scorer: ClipScorer, picture: np.ndarray, texts: list[str]) -> np.ndarray:
    """Return the numbers of the texts, the nearest to the picture first."""
    return np.argsort(-(scorer.texts(texts) @ picture))


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

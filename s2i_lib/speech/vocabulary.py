"""The words of a picture model that knows few, and hearing again where others were heard.

Of "a peacot on an orange background" the pocket model draws no peacock. So Whisper hears such a
sentence once more, after short sentences with the words that sound most like it, and what it hears
then is taken where fewer words are strange. Words that the model does not know are nearly all heard
as before (figures: benchmarks/README.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import regex as re

from s2i_lib.models.registry import BaseModel, known_words
from s2i_lib.speech.habits import strip_habits, write_marks
from s2i_lib.speech.name_matching import AFTER_A_NAME, BEFORE_A_NAME
from s2i_lib.speech.near_names import MIN_SIMILARITY
from s2i_lib.speech.sounds import similarity
from s2i_lib.speech.templates import with_article
from s2i_lib.speech.words import DETERMINERS, POSSESSIVES, word_set

NEAREST = 8  # words that Whisper is told: 15 and 25 were no better
LONGEST = 3  # words that one may have been heard as: "a cat a filler"
WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
# What is said of anything, and to the conversation: nobody means a thing by it.
PLAIN_WORDS = (
    DETERMINERS
    | POSSESSIVES
    | BEFORE_A_NAME
    | AFTER_A_NAME
    | word_set(
        """i me it its he she him they them we us you who what which there here yes not be been am
        do does did has have had can could will would shall should may might must let lets so than
        as if but because just only too also very really much more most less least same different
        other else thing things something someone everything nothing everyone one ones first second
        third last next previous again back out off away down into onto instead now please want
        wants need like looks make makes made making turn change give put add take remove delete
        keep save undo redo start stop go get getting show try bring set wear wears replace bigger
        smaller larger brighter darker better colour color colourful size picture kind sort"""
    )
)


@dataclass(frozen=True)
class Vocabulary:
    """What a small picture model knows."""

    things: tuple[str, ...] = field(repr=False)
    """Its nouns, which Whisper is told: "light bulb"."""
    words: frozenset[str] = field(repr=False)
    """Every single word that it was trained with."""

    def unknown(self, text: str) -> list[str]:
        """Return the words of a text that the model was never trained on, in order, each once.

        A phrase that it knows counts word by word: in "on a beach", "beach" is known.
        """
        said = dict.fromkeys(WORD.findall(text.lower()))
        return [word for word in said if not self._knows(word)]

    def strange(self, said: str, names: Sequence[str] = ()) -> list[str]:
        """Return the words of what was said that the model cannot draw and are not plain English.

        Politeness is not strange, what is said to the conversation is not, nor what sounds like a
        subject's name: whose it is, is decided elsewhere.
        """
        asked = strip_habits(write_marks(said), names)
        return [word for word in self.unknown(asked) if not self._is_plain(word, names)]

    def nearest(self, said: str, names: Sequence[str] = ()) -> list[str]:
        """Return sentences with the things that sound most like the strange words."""
        strange = set(self.strange(said, names))
        heard = WORD.findall(said.lower())
        spans = {
            " ".join(heard[start:end])
            for start in range(len(heard))
            for end in range(start + 1, min(start + LONGEST, len(heard)) + 1)
            if not strange.isdisjoint(heard[start:end])
        }
        alike = {
            thing: max((similarity(thing, span) for span in spans), default=0.0)
            for thing in self.things
        }
        nearest = sorted(alike, key=lambda thing: -alike[thing])[:NEAREST]
        return [f"{with_article(thing).capitalize()} on the beach." for thing in nearest]

    def _knows(self, word: str) -> bool:
        return word in self.words or word.rstrip("s") in self.words

    def _is_plain(self, word: str, names: Sequence[str]) -> bool:
        bare = re.sub(r"['’].*", "", word)  # "let's", "Bella's"
        is_like_a_name = any(similarity(name, bare) >= MIN_SIMILARITY for name in names)
        return bare in PLAIN_WORDS or self._knows(bare) or is_like_a_name


def vocabulary_of(base: BaseModel, taught: str = "") -> Vocabulary | None:
    """Return the words that a small model knows, and those of ``taught``, a run's own.

    None where the model knows most words that people say.
    """
    words = known_words(base)
    if words is None:
        return None
    known = {one for entry in _entries([*words.values()]) for one in entry.lower().split()}
    return Vocabulary(tuple(words["nouns"]), frozenset(known | set(taught.lower().split())))


def _entries(words: object) -> Iterator[str]:
    """All words and phrases in lists and tables of them, the names in a table among them."""
    if isinstance(words, str):
        yield words
    elif isinstance(words, (list, tuple, dict)):
        for entry in (*words, *words.values()) if isinstance(words, dict) else words:
            yield from _entries(entry)

"""The words of a picture model that knows few, and hearing again where others were heard.

Of "a peacot on an orange background" the pocket model draws no peacock. So Whisper hears such a
sentence once more, after short sentences with the words that sound most like it. What it hears then
is taken where it has one of those words, fewer strange ones, and has lost nothing else that was
known. Words that the model does not know are nearly all heard as before (benchmarks/README.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import regex as re

from s2i_lib.models.registry import BaseModel, known_words
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.habits import strip_habits, write_marks
from s2i_lib.speech.name_matching import AFTER_A_NAME, BEFORE_A_NAME
from s2i_lib.speech.near_names import MIN_SIMILARITY
from s2i_lib.speech.sounds import similarity
from s2i_lib.speech.templates import with_article
from s2i_lib.speech.words import DETERMINERS, LETTERS, POSSESSIVES, word_set

NEAREST = 8  # words that Whisper is told: 15 and 25 were no better
LONGEST = 3  # words that one may have been heard as: "a cat a filler"
WORD = re.compile(rf"{LETTERS}(?:['’-]{LETTERS})*")
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
        smaller larger brighter darker better colour color colourful size picture kind sort move
        swap forget left right middle half double twice bit lot new close happy sunny rainy
        sunset"""
    )
)


@dataclass(frozen=True)
class Vocabulary:
    """What a small picture model knows."""

    things: tuple[str, ...] = field(repr=False)
    """Its nouns, which Whisper is told: "light bulb"."""
    words: frozenset[str] = field(repr=False)
    """Every single word that it was trained with."""
    names: tuple[str, ...] = ()
    """Names of subjects, as they are written and as they were heard: whose a word is that sounds
    like one is decided elsewhere."""

    def unknown(self, text: str) -> list[str]:
        """Return the words of a text that the model was never trained on, in order, each once.

        A phrase that it knows counts word by word: in "on a beach", "beach" is known.
        """
        said = dict.fromkeys(WORD.findall(text.lower()))
        return [word for word in said if not self._knows(word)]

    def strange(self, said: str) -> list[str]:
        """Return the words of what was said that the model cannot draw and are not plain English.

        Politeness is not strange, what is said to the conversation is not, nor what sounds like a
        name.
        """
        asked = strip_habits(write_marks(said), self.names)
        words = [word for word in self.unknown(asked) if not self._is_plain(word)]
        if not words or not self.names:
            return words
        named = {
            word
            for span in _spans(said)
            if any(similarity(name, span) >= MIN_SIMILARITY for name in self.names)
            for word in span.split()
        }
        return [word for word in words if word not in named]

    def nearest(self, said: str, strange: Sequence[str]) -> list[str]:
        """Return the things that sound most like strange words of what was said."""
        spans = [span for span in _spans(said) if not set(span.split()).isdisjoint(strange)]
        alike = {
            thing: max((similarity(thing, span) for span in spans), default=0.0)
            for thing in self.things
        }
        return sorted(alike, key=lambda thing: -alike[thing])[:NEAREST]

    def is_better(self, said: str, first: str, told: Sequence[str]) -> bool:
        """Return whether a second hearing is to be taken, in which Whisper was told things.

        It has one of them that the first had not, fewer strange words, each name as well as before,
        and what was known besides nouns: colours, places, what is worn.
        """
        before, now = (" ".join(WORD.findall(text.lower())) for text in (first, said))
        has_new = any(_has(now, thing) and not _has(before, thing) for thing in told)
        words = set(now.split())
        lost = {word for word in before.split() if self._is_other(word)} - words
        lost -= {word for word in lost if f"{word}s" in words or word.rstrip("s") in words}
        return (
            has_new
            and not lost
            and len(self.strange(said)) < len(self.strange(first))
            and not any(
                _best(name, before) >= max(MIN_SIMILARITY, _best(name, now) + 1e-9)
                for name in self.names
            )
        )

    def _knows(self, word: str) -> bool:
        parts = [part for part in word.split("-") if part]
        return all(part in self.words or part.rstrip("s") in self.words for part in parts)

    def _is_plain(self, word: str) -> bool:
        bare = re.sub(r"['’].*", "", word)  # "let's", "Bella's"
        return bare in PLAIN_WORDS or self._knows(bare)

    def _is_other(self, word: str) -> bool:
        """Return whether a word is known, and no noun and no plain word."""
        return word in self.words and word not in PLAIN_WORDS and word not in self._in_things

    @cached_property
    def _in_things(self) -> frozenset[str]:
        return frozenset(word for thing in self.things for word in thing.split())


def sentences_of(things: Sequence[str]) -> str:
    """Return short wishes for things, as Whisper is told them."""
    return " ".join(f"{with_article(thing).capitalize()} on the beach." for thing in things)


def vocabulary_of(
    base: BaseModel, taught: str = "", subjects: Sequence[Subject] = ()
) -> Vocabulary | None:
    """Return the words that a small model knows; None where it knows most words that people say.

    Parameters
    ----------
    taught : words that a run was fine-tuned with
    subjects : who may be named; each noun of theirs may be taught by a run
    """
    words = known_words(base)
    if words is None:
        return None
    known = {one for entry in _entries([*words.values()]) for one in entry.lower().split()}
    known.update(" ".join([taught, *(one.class_noun for one in subjects)]).lower().split())
    names = tuple(name for one in subjects for name in (one.name, *one.spellings))
    return Vocabulary(tuple(words["nouns"]), frozenset(known), names)


def _spans(text: str) -> list[str]:
    """Return all groups of up to LONGEST words that stand beside each other."""
    words = WORD.findall(text.lower())
    return list(
        dict.fromkeys(
            " ".join(words[start:end])
            for start in range(len(words))
            for end in range(start + 1, min(start + LONGEST, len(words)) + 1)
        )
    )


def _has(text: str, thing: str) -> bool:
    """Return whether a thing, or several of it, is in a text of words with blanks between them."""
    return f" {thing} " in f" {text} " or f" {thing}s " in f" {text} "


def _best(name: str, text: str) -> float:
    return max((similarity(name, span) for span in _spans(text)), default=0.0)


def _entries(words: object) -> Iterator[str]:
    """All words and phrases in lists and tables of them, the names in a table among them."""
    if isinstance(words, str):
        yield words
    elif isinstance(words, (list, tuple, dict)):
        for entry in (*words, *words.values()) if isinstance(words, dict) else words:
            yield from _entries(entry)

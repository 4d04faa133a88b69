"""Names that were nearly said: offered as a sentence to draw with one press, never taken.

"Bell on the beach" is taken as it is, because it may mean a bell; but of somebody who has a dog
called Bella it is asked: "Did you mean Bella?"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s2i_lib.photos.subject import Subject
from s2i_lib.speech.name_matching import (
    AFTER_A_NAME,
    BEFORE_A_NAME,
    Candidate,
    Mention,
    candidates,
    decide,
    overlaps,
)
from s2i_lib.speech.sounds import similarity
from s2i_lib.speech.words import DETERMINERS, POSSESSIVES

MIN_SIMILARITY = 0.6  # lower ones offer other words (benchmarks/README.md)
# What is no part of a misheard name: "A man" is not Amara.
SMALL_WORDS = DETERMINERS | POSSESSIVES | BEFORE_A_NAME | AFTER_A_NAME
# Rules that refuse a candidate for how it sounds or is written, and not for what it plainly means.
DOUBTFUL_RULES = frozenset({
    "is unlike the name", "has other consonants than a short name", "sounds otherwise", "is a word",
    "is a word in lower case", "begins a sentence as a word does",
})  # fmt: skip


@dataclass(frozen=True)
class NearName:
    """A subject that may have been meant, and what would have been said then."""

    name: str
    """Name of the subject."""
    heard: str
    """Words that stand in its place."""
    sentence: str
    """What was said with the name in it: a wish that can be drawn."""

    @property
    def question(self) -> str:
        """Return what to ask: "Did you mean Bella?"."""
        return f"Did you mean {self.name}?"


def find_near_names(
    text: str, subjects: Sequence[Subject], mentions: Sequence[Mention]
) -> list[NearName]:
    """Return subjects that may have been meant where no name was found, the likeliest first.

    At most one offer a subject, and none for those that are mentioned.
    """
    named = {mention.subject for mention in mentions}
    found: dict[Subject, Candidate] = {}
    ways = [(one, way) for one in subjects if one not in named for way in (None, *one.spellings)]
    for candidate in (c for one, way in ways for c in candidates(text, [one], way)):
        if not _is_near(candidate) or overlaps(candidate.mention, mentions):
            continue
        best = found.get(candidate.mention.subject)
        if best is None or _rank(candidate) > _rank(best):
            found[candidate.mention.subject] = candidate
    likeliest = sorted(found.values(), key=_rank, reverse=True)
    return [_offer(text, candidate.mention) for candidate in likeliest]


def _rank(candidate: Candidate) -> tuple[bool, float]:
    """Orders what may be one name; more words than it has ("Bell's hat") come last."""
    return len(candidate.said) <= len(candidate.name), _likeness(candidate)


def _likeness(candidate: Candidate) -> float:
    """Return how alike it is: of a spelling that was taught the blanks mean nothing."""
    if candidate.mention.subject.spellings:
        return similarity("".join(candidate.name), "".join(candidate.said))
    return candidate.score


def _is_near(candidate: Candidate) -> bool:
    return (
        _likeness(candidate) >= MIN_SIMILARITY
        and (decide(candidate).name in DOUBTFUL_RULES or _may_be_several(candidate))
        and (not candidate.is_plural or _may_be_several(candidate))
        and candidate.stands_like_a_name
        and candidate.before not in DETERMINERS
        and SMALL_WORDS.isdisjoint(candidate.new_words)
        and not candidate.is_poured
        # "bells" are several of something
        and (candidate.name_as_one.endswith("s") or not candidate.said_as_one.endswith("s"))
    )


def _may_be_several(candidate: Candidate) -> bool:
    """Return whether it begins as names and sentences do: "Maxes on the beach", of Max."""
    return (
        decide(candidate).name == "is a plural"
        and candidate.is_capitalised
        and candidate.after in AFTER_A_NAME
    )


def _offer(text: str, mention: Mention) -> NearName:
    ending = "'s" if mention.is_possessive else ""
    sentence = text[: mention.start] + mention.subject.name + ending + text[mention.end :]
    return NearName(mention.subject.name, mention.heard, sentence)

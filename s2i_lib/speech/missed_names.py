"""Names that were said and heard as something else: where one may stand, and hearing it again.

In "Not she in a cup of tea", "Not she" stands where a name could. So Whisper hears it once more,
after short sentences of every name, and of the words that it heard there where they mean something,
so that a rock is not taken for Rex. What it hears then is taken where a name has come into that
place, all else has stayed, and it is likelier.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from s2i_lib.photos.subject import Subject
from s2i_lib.speech.name_matching import (
    AFTER_A_NAME,
    BEFORE_A_NAME,
    CONTAINERS,
    Mention,
    find_names,
    without_possessive,
)
from s2i_lib.speech.vocabulary import PLAIN_WORDS
from s2i_lib.speech.words import (
    DETERMINERS,
    POSSESSIVES,
    Token,
    is_word,
    means_something,
    tokenize,
    word_set,
    words_of,
)

LONGEST = 3  # words that a name may have been heard as: "Look not blue"
GAIN = 0.05  # of the mean log probability: less was heard for Jim where Tim was said
LOSS = 0.05  # that is allowed where a pronoun stood, which nobody says there
MAX_TOLD = 20  # names that Whisper is told
# Nobody says these of what a picture shows; "make it blue" and "put her on a beach" are changes.
PRONOUNS = word_set("i me you he she they we us")
ARTICLES = word_set("a an the")
NO_NAME = DETERMINERS | POSSESSIVES | BEFORE_A_NAME


@dataclass(frozen=True)
class Place:
    """Words where a name could stand, from character ``start`` to ``end`` of a text."""

    start: int
    end: int
    said: str

    @cached_property
    def words(self) -> tuple[str, ...]:
        return words_of(without_possessive(self.said)[0])

    @property
    def has_ending(self) -> bool:
        """Whether it ends as a possessive does: "Marchi's hat"."""
        return without_possessive(self.said)[1]

    @property
    def has_pronoun(self) -> bool:
        return not PRONOUNS.isdisjoint(self.words)

    @property
    def is_scene(self) -> bool:
        """Whether it may be something to draw: "March" may be, "Not she" and "Marti" not."""
        return all(map(means_something, self.words)) and not self.has_pronoun

    @property
    def is_plain(self) -> bool:
        """Whether it is said to the conversation, or several of something: "Start", "Puppies"."""
        is_several = not self.has_ending and self.words[-1].endswith("s")
        return self.is_scene and (is_several or PLAIN_WORDS.issuperset(self.words))

    @property
    def told(self) -> str:
        """What Whisper is told beside the names, so that it may hear it again."""
        return without_possessive(self.said)[0] if self.is_scene else ""

    @property
    def least_gain(self) -> float:
        """Mean log probability that a name in this place must gain."""
        return -LOSS if self.has_pronoun else GAIN


@dataclass(frozen=True)
class MissedNames:
    """Subjects, and a sentence in which their names may have been said."""

    subjects: tuple[Subject, ...]
    first: str
    """The sentence, as it was heard."""

    @cached_property
    def mentions(self) -> list[Mention]:
        return find_names(self.first, self.subjects)

    @cached_property
    def places(self) -> list[Place]:
        """Where a name could stand and none was found, left to right."""
        if {one.subject for one in self.mentions}.issuperset(self.subjects):
            return []
        tokens = tokenize(self.first)
        found = (self._place_at(tokens, first) for first in range(len(tokens)))
        return [place for place in found if place]

    @property
    def sentences(self) -> str:
        """What Whisper is told was said just before.

        No article is in it: after "Rex in the snow" it hears "the" for "a".
        """
        names = [one.spoken for one in self.subjects[:MAX_TOLD]]
        told = dict.fromkeys([*(place.told for place in self.places if place.told), *names])
        return f"{' and '.join(names)}. {' '.join(f'{one} asleep.' for one in told)}"

    def is_better(self, said: str, gain: float) -> bool:
        """Return whether a second hearing has a name more, in one of the places, and all else.

        Parameters
        ----------
        gain : of its mean log probability over the first
        """
        before = {mention.subject for mention in self.mentions}
        now = find_names(said, self.subjects)
        return before <= {mention.subject for mention in now} and any(
            gain >= place.least_gain and self._has_moved_in(said, mention, place)
            for mention in now
            if mention.subject not in before
            for place in self.places
        )

    def _has_moved_in(self, said: str, mention: Mention, place: Place) -> bool:
        """Check whether a name stands in the place, and at most one word beside it has gone."""
        around = (said[: mention.start], said[mention.end :])
        before, after = _plain(self.first[: place.start]), _plain(self.first[place.end :])
        may_be = [(before, after), (before[:-1], after), (before, after[1:])]
        is_plural = without_possessive(mention.heard)[1] != place.has_ending or mention.is_plural
        return not is_plural and tuple(map(_plain, around)) in may_be

    def _place_at(self, tokens: Sequence[Token], first: int) -> Place | None:
        """Return the place that begins with a token, if one does."""
        before_that, before = ["", "", *_lower(tokens)][first : first + 2]
        is_poured = before == "of" and before_that in CONTAINERS  # "a mug of cocoa"
        if (is_word(before) and before not in BEFORE_A_NAME) or is_poured:
            return None
        for last in range(first, min(first + LONGEST, len(tokens))):
            word, after = [*_lower(tokens), ""][last : last + 2]
            start, end = tokens[first].start, tokens[last].end
            is_named = any(start < one.end and one.start < end for one in self.mentions)
            if not is_word(word) or word in NO_NAME or is_named:
                return None
            place = Place(start, end, self.first[start:end])
            if _ends_there(after, place):
                is_all = first == 0 and not is_word(after) and last >= len(tokens) - 2
                is_amid = first > 0 and place.is_scene and place.said[0].islower()  # "at night"
                return None if is_all or is_amid or place.is_plain else place
        return None


def _ends_there(after: str, place: Place) -> bool:
    """Return whether a name may end before a word; "" stands for the end."""
    is_followed = after in AFTER_A_NAME or after.endswith("ing")
    return not is_word(after) or is_followed or place.has_ending


def _lower(tokens: Iterable[Token]) -> list[str]:
    return [token.text.lower() for token in tokens]


def _plain(text: str) -> list[str]:
    """Return the words of a text with one article for all."""
    return ["a" if word in ARTICLES else word for word in words_of(text)]

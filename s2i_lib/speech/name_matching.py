"""Where a known name was said, however it was spelled: pure functions on text.

Whisper writes names as they sound ("reks", "Lunar"). A word counts as a known name when it looks
and sounds like one and nothing better explains it: a word that is in the dictionary has to sound
exactly the same and stand where only a name can ("wrecks on the beach", not "wrecks the car").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import regex as re

from s2i_lib.photos.subject import Subject
from s2i_lib.speech.sounds import (
    same_consonants,
    similarity_of_words,
    words_sound_same,
)
from s2i_lib.speech.words import (
    DETERMINERS,
    POSSESSIVES,
    Token,
    is_word,
    means_something,
    ordinary_words,
    tokenize,
    word_set,
    words_of,
)

# Words before which a noun has not begun yet, so that a name may follow.
BEFORE_A_NAME = word_set(
    """and or with of for to by like near beside behind above below under over on in at from without
    draw paint show make sketch imagine create render see photograph called named than then where
    is are was when while but plus meets between as about around inside next chasing riding holding
    hugging watching feeding carrying following kissing painting meeting"""
)
# Words that can follow a name but hardly a verb's or plural's look-alike.
AFTER_A_NAME = word_set(
    """on in at with and or as wearing under over by near beside behind from to into inside is was
    are across along against through onto up without while asleep awake alone sitting standing
    sleeping running jumping flying playing swimming riding holding eating looking dressed made next
    above below between during after before like who dancing reading driving walking lying cooking
    surfing skiing surrounded covered painted chasing"""
)
NUMBERS = word_set("two three four five six seven eight nine ten 2 3 4 5 6 7 8 9 10")
NO_NAME_AFTER = DETERMINERS - {"the", "this", "that"}  # none that is in lower case
# What these hold is poured or grown, not named: "a mug of cocoa", "a field of daisies".
CONTAINERS = word_set(
    """cup cups mug mugs glass glasses bowl bowls bottle bottles bag bags pile piles field fields
    bunch box boxes plate plates slice slices piece pieces jar jars bouquet handful pot"""
)
MONTHS = word_set(
    """january february march april may june july august september october november december"""
)
BEFORE_A_MONTH = word_set("in during since until by last next early late mid")
SAID_SO = 0.98  # similarity of a spelling that was taught: below the name itself, above a likeness
MIN_SIMILARITY = 0.73  # measured on tests/data/names.jsonl, see benchmarks/README.md


@dataclass(frozen=True)
class Mention:
    """A known name in the text, from character ``start`` to ``end``."""

    start: int
    end: int
    subject: Subject
    heard: str
    is_possessive: bool = False
    is_plural: bool = False
    """Whether several of it were asked for: "two Rexes"."""
    similarity: float = 1.0


def find_names(text: str, subjects: Sequence[Subject]) -> list[Mention]:
    """Return every mention of a subject's name in ``text``, left to right, none overlapping."""
    found = [
        replace(candidate.mention, similarity=candidate.similarity)
        for candidate in candidates(text, subjects)
        if decide(candidate).is_name
    ]
    found += [
        replace(candidate.mention, similarity=SAID_SO)
        for subject in subjects
        for spelling in subject.spellings
        for candidate in candidates(text, [subject], spelling)
        if is_said_so(candidate)
    ]
    taken: list[Mention] = []
    # The best first, then the longest; sorting leaves equals in the order of the subjects.
    for mention in sorted(found, key=lambda one: (-one.similarity, -len(tokenize(one.heard)))):
        if not overlaps(mention, taken):
            taken.append(mention)
    return sorted(taken, key=lambda mention: mention.start)


def overlaps(mention: Mention, others: Sequence[Mention]) -> bool:
    """Return whether a mention shares characters with one of others."""
    return any(mention.start < other.end and other.start < mention.end for other in others)


# --- what may be a name -------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """Words of the text that may be a subject's name, and what stands around them."""

    mention: Mention
    """Where it is, and whose name it may be; its similarity is that of an exact name."""
    stem: str
    """What was heard without its possessive ending, in the case in which it was written."""
    name: tuple[str, ...]
    """Words of the subject's name, in lower case."""
    said: tuple[str, ...]
    """Words of the stem, in lower case."""
    is_plural: bool
    """Whether it is the name with an s: a plural, or a possessive without its apostrophe."""
    before: str
    """Token before it in lower case; "" where the text begins."""
    before_that: str
    after: str
    after_that: str

    @property
    def is_exact(self) -> bool:
        return self.said_as_one == self.name_as_one

    @property
    def is_capitalised(self) -> bool:
        return self.stem[:1].isupper()

    @property
    def name_as_one(self) -> str:
        return "".join(self.name)

    @property
    def said_as_one(self) -> str:
        return "".join(self.said)

    @property
    def follows_its_noun(self) -> bool:
        """Whether it stands after what the subject is: "my cat ginger"."""
        return self.before == self.mention.subject.class_noun.lower().split()[-1]

    @cached_property
    def score(self) -> float:
        """Similarity of what was said to the name, 0 to 1."""
        return similarity_of_words(self.name, self.said)

    @cached_property
    def new_words(self) -> list[str]:
        """Words that were said and are not the name's."""
        return [word for word in self.said if word not in self.name]

    @cached_property
    def n_meaningful(self) -> int:
        """Number of new words that mean something else, as a letter alone does."""
        return sum(map(means_something, self.new_words))

    @cached_property
    def is_meaningful(self) -> bool:
        """Whether it means something else.

        Of a name of several words one that means nothing vouches for the others: "Ant Rosa".
        """
        is_vouched_for = len(self.said) == len(self.name) and not all(
            map(means_something, self.said)
        )
        return self.n_meaningful > 0 and not is_vouched_for

    @property
    def is_poured(self) -> bool:
        return self.before == "of" and self.before_that in CONTAINERS

    @property
    def stands_like_a_name(self) -> bool:
        """Whether a name could stand between these two words, and a verb or plural hardly.

        Several words that fill a whole sentence are taken for what they mean.
        """
        starts, ends = not is_word(self.before), not is_word(self.after)
        may_follow = starts or self.before in BEFORE_A_NAME or self.follows_its_noun
        may_be_followed = ends or self.after in AFTER_A_NAME or self.mention.is_possessive
        return may_follow and may_be_followed and not (len(self.said) > 1 and starts and ends)

    @property
    def similarity(self) -> float:
        """Similarity that decides between mentions of several names in one place."""
        if self.is_exact:
            return 1.0
        return min(self.score - (0.1 if self.is_meaningful else 0.0), 0.99)


def candidates(
    text: str, subjects: Sequence[Subject], spelling: str | None = None
) -> Iterator[Candidate]:
    """Find all words of a text that may be a subject's name, or another ``spelling`` of it."""
    tokens = tokenize(text)
    for subject in subjects:
        name = spelling or subject.name
        for size in range(1, len(tokenize(name)) + 2):
            for first in range(len(tokens) - size + 1):
                found = _candidate(text, tokens, range(first, first + size), subject, name)
                if found is not None:
                    yield found


def _candidate(
    text: str, tokens: Sequence[Token], which: range, subject: Subject, spelling: str
) -> Candidate | None:
    """Return the tokens ``which`` as a candidate; None where no name is written so."""
    first, last = which.start, which.stop
    span = tokens[first:last]
    if not is_word(span[0].text) or not is_word(span[-1].text):
        return None
    if any(not is_word(token.text) and token.text not in ".-" for token in span):
        return None
    heard = text[span[0].start : span[-1].end]
    stem, is_possessive = without_possessive(heard)
    name, said = words_of(spelling), words_of(stem)
    written, whole = "".join(said), "".join(name)
    plurals = (whole + "s", whole + "es", re.sub("y$", "ies", whole))
    is_plural = written != whole and written in plurals and not is_possessive
    if is_plural or (is_possessive and written + "s" == whole):  # "Whisker's hat", of Whiskers
        said = name

    def at(index: int) -> str:
        return tokens[index].text.lower() if 0 <= index < len(tokens) else ""

    before, after = at(first - 1), at(last)
    is_word_of_its_own = not is_word(before) and means_something(written)  # "Roses on a table"
    is_several = stem[:1].isupper() and (
        before in NUMBERS
        or (after in AFTER_A_NAME and before not in DETERMINERS and not is_word_of_its_own)
    )
    mention = Mention(
        span[0].start,
        span[-1].end,
        subject,
        heard,
        # "Max's on the beach" says that he is there.
        is_possessive=(is_possessive or (is_plural and not is_several))
        and after not in AFTER_A_NAME,
        is_plural=is_plural and is_several,
    )
    around = [before, at(first - 2), after, at(last + 1)]
    return Candidate(mention, stem, name, said, is_plural, *around)


def without_possessive(word: str) -> tuple[str, bool]:
    """Return words without their possessive ending, and whether they had one."""
    for ending in ("'s", "’s", "s'", "s’"):
        if word.lower().endswith(ending):
            keep = len(word) - 2 + (ending[0] == "s")
            return word[:keep], True
    return word, False


# --- whether it is one --------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """What decides about the candidates that it applies to."""

    name: str
    is_name: bool
    applies: Callable[[Candidate], bool]


def decide(candidate: Candidate) -> Rule:
    """Return the first rule of the table that applies; its ``is_name`` is the decision."""
    own = EXACT_RULES if candidate.is_exact else MISHEARD_RULES
    return next(rule for rule in (*COMMON_RULES, *own) if rule.applies(candidate))


def is_said_so(candidate: Candidate) -> bool:
    """Return whether a spelling that was taught by saying the name stands here, and as the name.

    What Whisper made of a name may be a word ("Bell", of Bella): it counts as the name would that
    is a word, too, and in lower case where nothing but a name could stand.
    """
    is_refused = candidate.is_plural or decide(candidate).name in NOT_EVEN_SAID_SO
    is_alike = candidate.is_exact or words_sound_same(candidate.name, candidate.said)
    if is_refused or not is_alike:
        return False
    is_plain = all(map(means_something, candidate.said))
    if candidate.stands_like_a_name and candidate.before not in DETERMINERS:
        return not candidate.is_poured
    # Of several words, which mean something one by one, the place has to say it: "may see".
    return (
        candidate.is_exact
        and decide(candidate).is_name
        and not (is_plain and len(candidate.said) > 1)
    )


# The table: rules apply in this order, and the first that does decides. To change one, change its
# line; tests/data/names.jsonl has 581 sentences, and the tests say which rules they need.
COMMON_RULES = (
    Rule("is several of it", True, lambda c: c.mention.is_plural),  # "two Rexes", "two Daisies"
    # "The Rexes", "Roses on a table". Before other words, as in "Rexes hat", it is a possessive.
    Rule(
        "is a plural",
        False,
        lambda c: (
            c.is_plural
            and (not c.mention.is_possessive or not is_word(c.after) or c.before in DETERMINERS)
        ),
    ),
    # "a yucky soup" is not Yuki's, and "two maxes" are not Max.
    Rule(
        "is in lower case after a determiner",
        False,
        lambda c: not c.is_capitalised and c.before in NO_NAME_AFTER,
    ),
)
EXACT_RULES = (
    Rule(
        "is a T-Rex",
        False,
        lambda c: (
            c.before in ("tyrannosaurus", "t") or (c.before in (".", "-") and c.before_that == "t")
        ),
    ),
    Rule("is what a glass holds", False, lambda c: not c.is_capitalised and c.is_poured),
    Rule(
        "is a month",
        False,
        lambda c: (
            c.name_as_one in MONTHS and c.before in BEFORE_A_MONTH and not c.mention.is_possessive
        ),
    ),
    # "the word bell a child wrote" is not about Bella, but "Bell a on the beach" may be.
    Rule(
        "is several words instead of one",
        False,
        lambda c: (
            len(c.said) > len(c.name)
            and all(map(means_something, c.said))
            and not c.stands_like_a_name
        ),
    ),
    Rule(
        "has no other meaning",
        True,
        lambda c: c.name_as_one not in ordinary_words() and c.name_as_one not in MONTHS,
    ),
    # Of a name that is a word, too, the capital letter says which it is: "Daisy", not "a daisy".
    Rule("follows what the subject is", True, lambda c: c.follows_its_noun),  # "my cat ginger"
    Rule("is a word in lower case", False, lambda c: not c.is_capitalised),
    Rule("is a word after a determiner", False, lambda c: c.before in DETERMINERS),  # "A Daisy"
    Rule("has a capital amid the sentence", True, lambda c: is_word(c.before)),
    # Where a sentence begins every word has one, and what follows says which it is: "Daisy on a
    # hill", "Poppy sees a bird", but "Daisy chains on a hill", "Poppy seeds on a bun".
    Rule(
        "is followed as a name is",
        True,
        lambda c: c.mention.is_possessive or not is_word(c.after) or c.after in AFTER_A_NAME,
    ),
    Rule(
        "is followed by a verb",
        True,
        lambda c: c.after.endswith(("ing", "ed")) or c.after_that in DETERMINERS | POSSESSIVES,
    ),
    Rule("begins a sentence as a word does", False, lambda c: True),
)
NOT_EVEN_SAID_SO = ("is in lower case after a determiner", "is a month")
MISHEARD_RULES = (
    Rule("is unlike the name", False, lambda c: c.score < MIN_SIMILARITY),
    Rule("is a determiner", False, lambda c: c.said_as_one in DETERMINERS),  # "All", not Al
    Rule("ends with the name", False, lambda c: c.said_as_one.endswith(c.name_as_one)),  # "T-Rex"
    # So short a name is like too many words: Max and mac.
    Rule(
        "has other consonants than a short name",
        False,
        lambda c: len(c.name_as_one) <= 3 and not same_consonants(c.name_as_one, c.said_as_one),
    ),
    Rule("means nothing else", True, lambda c: not c.is_meaningful),  # "Reks"
    Rule("sounds otherwise", False, lambda c: not words_sound_same(c.name, c.said)),  # "rocks"
    Rule("means something in part only", True, lambda c: c.n_meaningful < len(c.new_words)),
    # Nothing but its place in the sentence now says that a word is a name.
    Rule("is poured or grown", False, lambda c: c.before_that in CONTAINERS),  # "a mug of cocoa"
    Rule("stands like a name", True, lambda c: c.stands_like_a_name),  # "wrecks on the beach"
    Rule("is a word", False, lambda c: True),  # "a man wrecks the car"
)

"""Where a known name was said, however it was spelled: pure functions on text.

Whisper writes names as they sound ("reks", "Lunar"). A word counts as a known name when it looks
and sounds like one and nothing better explains it: a word that is in the dictionary has to sound
exactly the same and stand where only a name can ("wrecks on the beach", not "wrecks the car").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from jellyfish import metaphone
from rapidfuzz.distance import JaroWinkler, Levenshtein

from s2i_lib.photos.subject import Subject

WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*|[^\w\s]")


def word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


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
DETERMINERS = word_set(
    """a an the some any no this that these those every each two three four five six seven eight
    nine ten many several few all both another"""
)
POSSESSIVES = word_set("my our your his her their")
# What these hold is poured or grown, not named: "a mug of cocoa", "a field of daisies".
CONTAINERS = word_set(
    """cup cups mug mugs glass glasses bowl bowls bottle bottles bag bags pile piles field fields
    bunch box boxes plate plates slice slices piece pieces jar jars bouquet handful pot"""
)
MIN_SIMILARITY = 0.73  # measured on tests/data/names.jsonl, see benchmarks/README.md


@dataclass(frozen=True)
class Token:
    """A word or a punctuation mark of the text."""

    text: str
    start: int
    end: int

    @property
    def is_word(self) -> bool:
        return self.text[0].isalnum()


@dataclass(frozen=True)
class Mention:
    """A known name in the text, from character ``start`` to ``end``."""

    start: int
    end: int
    subject: Subject
    heard: str
    is_possessive: bool = False
    similarity: float = 1.0


def tokenize(text: str) -> list[Token]:
    return [Token(m.group(), m.start(), m.end()) for m in WORD.finditer(text)]


@cache
def ordinary_words() -> frozenset[str]:
    """The dictionary's lower-case words (s2i_lib/words/README.md)."""
    text = (files("s2i_lib") / "words" / "english.txt").read_text()
    return frozenset(text.split())


def find_names(text: str, subjects: Sequence[Subject]) -> list[Mention]:
    """Every mention of a subject's name in ``text``, from left to right, none overlapping."""
    tokens = tokenize(text)
    found: list[tuple[float, int, int, int, Mention]] = []
    for rank, subject in enumerate(subjects):
        n_words = len(tokenize(subject.name))
        for size in range(1, n_words + 2):
            for first in range(len(tokens) - size + 1):
                mention = _match(text, tokens, first, first + size, subject)
                if mention is not None:
                    found.append((-mention.similarity, -size, rank, first, mention))
    taken: list[Mention] = []
    for *_, mention in sorted(found, key=lambda one: one[:4]):
        if all(mention.end <= other.start or mention.start >= other.end for other in taken):
            taken.append(mention)
    return sorted(taken, key=lambda mention: mention.start)


def _match(
    text: str, tokens: Sequence[Token], first: int, last: int, subject: Subject
) -> Mention | None:
    span = tokens[first:last]
    if not span[0].is_word or not span[-1].is_word:
        return None
    if any(not token.is_word and token.text not in ".-" for token in span):
        return None
    heard = text[span[0].start : span[-1].end]
    stem, is_possessive = _without_possessive(heard)
    name, said = _spoken_words(subject.name), _spoken_words(stem)
    joined, heard_joined = "".join(name), "".join(said)
    before = tokens[first - 1] if first else None
    after = tokens[last] if last < len(tokens) else None
    if heard_joined in (joined + "s", joined + "es") and not is_possessive:
        # "Rexes hat": Whisper leaves the apostrophe out
        if after is None or not after.is_word:
            return None
        said, heard_joined, is_possessive = name, joined, True
    if is_possessive and heard_joined + "s" == joined:
        said, heard_joined = name, joined  # "Whisker's hat", of Whiskers
    if not _may_follow(before, stem):
        return None
    mention = Mention(span[0].start, span[-1].end, subject, heard, is_possessive)
    if heard_joined == joined:
        is_name = _is_the_name(tokens, first, last, stem, joined, subject, is_possessive)
        return mention if is_name else None
    score = _similarity(name, said)
    if score < MIN_SIMILARITY or heard_joined.endswith(joined):  # a T-Rex is no Rex
        return None
    if len(joined) <= 3 and not any(
        same_consonants(way, heard_joined) for way in ways_to_say(joined)
    ):
        return None  # so short a name is like too many words: Max and mac
    new = [word for word in said if word not in name]
    n_ordinary = sum(word in ordinary_words() or len(word) < 2 for word in new)
    # Of a name of several words one that means nothing else vouches for the others: "Ant Rosa".
    is_vouched_for = len(said) == len(name) and any(
        word not in ordinary_words() and len(word) > 1 for word in said
    )
    if n_ordinary and not is_vouched_for:
        if not _words_sound_same(name, said):
            return None
        if n_ordinary == len(new):  # nothing but the place in the sentence says that it is a name
            is_held = first > 1 and tokens[first - 2].text.lower() in CONTAINERS
            alone = len(said) > 1
            if is_held or not _stands_like_a_name(before, after, subject, between_words=alone):
                return None
        score -= 0.1
    return replace(mention, similarity=min(score, 0.99))


_TITLES = {"mister": "mr", "doctor": "dr", "missus": "mrs", "missis": "mrs", "saint": "st"}


def _spoken_words(text: str) -> list[str]:
    """Lower-case words, titles in short: "Mr. Whiskers" and "mister whiskers" are one."""
    words = [_letters(token.text) for token in tokenize(text) if token.is_word]
    return [_TITLES.get(word, word) for word in words]


def _may_follow(before: Token | None, stem: str) -> bool:
    """ "a yucky soup", "two maxes": names in lower case do not come after these."""
    if before is None or stem[:1].isupper():
        return True
    return before.text.lower() not in DETERMINERS - {"the", "this", "that"}


def _without_possessive(word: str) -> tuple[str, bool]:
    for ending in ("'s", "’s", "s'", "s’"):
        if word.lower().endswith(ending):
            keep = len(word) - 2 + (ending[0] == "s")
            return word[:keep], True
    return word, False


def _letters(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())


def _is_the_name(
    tokens: Sequence[Token],
    first: int,
    last: int,
    heard: str,
    name: str,
    subject: Subject,
    is_possessive: bool,
) -> bool:
    """Whether a word spelled like the name is the name ("Daisy", not "a daisy"; never "T-Rex").

    Of a name that is a word of the dictionary, too, the capital letter says which it is, except
    where a sentence begins: "Daisy on a hill" and "Daisy chains on a hill" differ in what follows.
    """
    before = tokens[first - 1] if first else None
    after = tokens[last] if last < len(tokens) else None
    word = before.text.lower() if before is not None else ""
    earlier = tokens[first - 2].text.lower() if first > 1 else ""
    if word in ("tyrannosaurus", "t") or (word in (".", "-") and earlier == "t"):
        return False
    if name not in ordinary_words():
        return True
    if word == subject.class_noun.split()[-1].lower():  # "my cat ginger"
        return True
    if not heard[:1].isupper() or word in DETERMINERS:  # "A Daisy in a vase", as Whisper writes it
        return False
    if before is not None and before.is_word:
        return True
    follower = after.text.lower() if after is not None else ""
    ends = after is None or not after.is_word or follower in AFTER_A_NAME
    next_word = tokens[last + 1].text.lower() if last + 1 < len(tokens) else ""
    is_verb = follower.endswith(("ing", "ed")) or next_word in DETERMINERS | POSSESSIVES
    return ends or is_possessive or is_verb  # "Poppy sees a bird", not "Poppy seeds on a bun"


def _stands_like_a_name(
    before: Token | None, after: Token | None, subject: Subject, *, between_words: bool = False
) -> bool:
    """Whether a name could stand between these two words, and a verb or plural hardly."""
    start = before is None or not before.is_word
    word = before.text.lower() if before is not None else ""
    begins = start or word in BEFORE_A_NAME or word == subject.class_noun.lower()
    end = after is None or not after.is_word
    follower = after.text.lower() if after is not None else ""
    ends = end or follower in AFTER_A_NAME
    if between_words:
        return begins and ends and not (start and end)
    return begins and ends


def sounds_same(name: str, said: str) -> bool:
    """Same consonants (Metaphone) and same vowels: "wrecks" and "Rex", but not "rocks"."""
    return any(sound_key(way) == sound_key(said) for way in ways_to_say(name))


def _words_sound_same(name: Sequence[str], said: Sequence[str]) -> bool:
    if len(name) == len(said):
        return all(map(sounds_same, name, said))
    return sounds_same("".join(name), "".join(said))


def same_consonants(name: str, said: str) -> bool:
    return sound_key(name)[0] == sound_key(said)[0]


@cache
def sound_key(word: str) -> tuple[str, str]:
    """Consonants and vowels of a word as it is spoken, roughly.

    Source: Lawrence Philips' Metaphone for the consonants; it drops the vowels inside, so they are
    taken from the spelling: long by a silent e ("makes"), double vowels as one, y as i, and a final
    "er" as "a", as in "Lunar" for "Luna". A glide that two vowels make by themselves is none:
    "Miya" is "Mia", "Fraya" is "Freya".
    """
    spelled = re.sub(r"(?:er|ar|or|re|ah|uh|a)$", "a", word.casefold())
    spelled = re.sub(r"[ae]y(?=[aou])", "A", spelled)
    spelled = re.sub(r"(?<=i)y(?=[aeou])|(?<=[ou])w(?=[aei])", "", spelled)
    consonants = metaphone(spelled)
    vowels = re.sub(r"([aeiou])([^aeiouy])es?$", lambda m: m[1].upper() + m[2], spelled)
    for found, sound in (
        ("ee|ea|ie|ey|y|ei", "i"),
        ("oo|ou|ue|ew", "u"),
        ("oa|oe|ow", "o"),
        ("ai|ay", "A"),
        ("au|aw", "o"),
    ):
        vowels = re.sub(found, sound, vowels)
    if consonants[:1] in tuple("AEIOU"):
        consonants = "*" + consonants[1:]  # which vowel it is, the vowels say
    return consonants, "".join(character for character in vowels if character in "aeiouAEIOU")


def _similarity(name: Sequence[str], said: Sequence[str]) -> float:
    """0 to 1: spelling, consonants and vowels; word by word where there are as many words."""
    if len(name) == len(said) > 1:
        scores = [_word_similarity(ours, theirs) for ours, theirs in zip(name, said, strict=True)]
        return sum(scores) / len(scores) if min(scores) > 0.6 else 0.0
    return _word_similarity("".join(name), "".join(said))


def _word_similarity(name: str, said: str) -> float:
    if name == said:
        return 1.0
    spelling = max(
        JaroWinkler.similarity(name, said), Levenshtein.normalized_similarity(name, said)
    )
    consonants = max(
        Levenshtein.normalized_similarity(sound_key(way)[0], sound_key(said)[0])
        * (1.0 if sound_key(way)[0][:1] == sound_key(said)[0][:1] else 0.7)
        for way in ways_to_say(name)
    )  # the first sound is heard best, hence 0.7 where it differs
    vowels = Levenshtein.normalized_similarity(sound_key(name)[1], sound_key(said)[1])
    return 0.3 * spelling + 0.5 * consonants + 0.2 * vowels


@cache
def ways_to_say(name: str) -> tuple[str, ...]:
    """The name as it is spelled, and with letters that other words or languages say otherwise."""
    ways = [name]
    for letters, other in (
        ("ch", "k"),
        ("ch", "sh"),
        ("th", "t"),
        ("j", "y"),
        ("y(?=[aeou])", "j"),
        ("w", "v"),
        ("u(?=[nmv])", "o"),  # English has "son" beside "sun", "some" beside "sum"
        ("^s[ei](?=[aou])", "sh"),  # Irish and Welsh: Sean, Sian
        ("^h(?=[aeiou])", ""),  # the sound that is lost, or added, most easily
        ("^(?=[aeiou])", "h"),
    ):
        way = re.sub(letters, other, name)
        if way != name:
            ways.append(way)
    return tuple(ways)

"""How names and words sound, roughly: whether two sound the same, and how alike they are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import regex as re
from jellyfish import metaphone
from rapidfuzz.distance import JaroWinkler, Levenshtein

from s2i_lib.speech.words import words_of


def sounds_same(name: str, said: str) -> bool:
    """Return whether consonants (Metaphone) and vowels agree: "wrecks" and "Rex", not "rocks"."""
    return any(sound_key(way) == sound_key(said) for way in ways_to_say(name))


def words_sound_same(name: Sequence[str], said: Sequence[str]) -> bool:
    """Return whether each word sounds as the other's, or all of them together do."""
    if len(name) == len(said):
        return all(map(sounds_same, name, said))
    return sounds_same("".join(name), "".join(said))


def same_consonants(name: str, said: str) -> bool:
    """Return whether the consonants of two words agree."""
    return any(sound_key(way)[0] == sound_key(said)[0] for way in ways_to_say(name))


@cache
def sound_key(word: str) -> tuple[str, str]:
    """Return consonants and vowels of a word as it is spoken, roughly.

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


def similarity(name: str, said: str) -> float:
    """Return how alike a name and words look and sound, 0 to 1, wherever their blanks are."""
    return _word_similarity("".join(words_of(name)), "".join(words_of(said)))


def similarity_of_words(name: Sequence[str], said: Sequence[str]) -> float:
    """Return how alike words are, 0 to 1; word by word where there are as many on both sides."""
    if len(name) == len(said) > 1:
        scores = [_word_similarity(ours, theirs) for ours, theirs in zip(name, said, strict=True)]
        return sum(scores) / len(scores) if min(scores) > 0.6 else 0.0
    return _word_similarity("".join(name), "".join(said))


_LATIN = re.compile(r"\p{Latin}")


def _word_similarity(name: str, said: str) -> float:
    if name == said:
        return 1.0
    if not (_LATIN.search(name) and _LATIN.search(said)):  # how it sounds is not known
        return Levenshtein.normalized_similarity(re.findall(r"\X", name), re.findall(r"\X", said))
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
    """Return the name as it is spelled, and with letters that others say otherwise."""
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

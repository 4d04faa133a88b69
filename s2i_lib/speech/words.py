"""Words of a text, and what is known of them: letters, the dictionary, small words."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

import regex as re  # unlike the built-in module it knows marks and grapheme clusters

# What a reader takes for letters: each with the signs that belong to it, as in "राम".
LETTERS = r"(?:(?=[\p{L}\p{N}])\X)+"
WORD = re.compile(rf"{LETTERS}(?:[-'’]{LETTERS})*|(?=[^\w\s])\X")


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text, to look up in."""
    return frozenset(text.split())


DETERMINERS = word_set(
    """a an the some any no this that these those every each two three four five six seven eight
    nine ten many several few all both another"""
)
POSSESSIVES = word_set("my our your his her their")


@dataclass(frozen=True)
class Token:
    """A word or a punctuation mark of the text."""

    text: str
    start: int
    end: int


def tokenize(text: str) -> list[Token]:
    """Split a text into its words and punctuation marks."""
    return [Token(m.group(), m.start(), m.end()) for m in WORD.finditer(text)]


def is_word(text: str) -> bool:
    """Return whether a token's text is a word, and no mark or "", which stands for no token."""
    return text[:1].isalnum()


@cache
def ordinary_words() -> frozenset[str]:
    """Return the dictionary's lower-case words (s2i_lib/words/README.md)."""
    text = (files("s2i_lib") / "words" / "english.txt").read_text()
    return frozenset(text.split())


_TITLES = {"mister": "mr", "doctor": "dr", "missus": "mrs", "missis": "mrs", "saint": "st"}


@lru_cache(maxsize=1024)
def words_of(text: str) -> tuple[str, ...]:
    """Return lower-case words, titles in short: "Mr. Whiskers" and "mister whiskers" are one."""
    words = [letters_of(token.text) for token in tokenize(text) if is_word(token.text)]
    return tuple(_TITLES.get(word, word) for word in words)


def letters_of(text: str) -> str:
    """Return its letters, digits and their signs, in lower case and composed ("é" is one)."""
    composed = unicodedata.normalize("NFC", text.casefold())
    return "".join(re.findall(r"[\p{L}\p{N}\p{M}]", composed))


def means_something(word: str) -> bool:
    """Return whether a word is in the dictionary, or so short that it is no name."""
    # Without its accents, too: Whisper writes "a glass of rosé".
    plain = re.sub(r"\p{M}", "", unicodedata.normalize("NFD", word))
    return word in ordinary_words() or plain in ordinary_words() or len(word) < 2

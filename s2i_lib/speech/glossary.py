"""What the pictures' models know best, in the twenty most spoken languages: pure functions on text.

``words/many_languages.tsv`` has the things, what is worn, colours, patterns, sizes, counts and
places of the pocket model in the languages that most people speak besides English. They help a
small Whisper twice: told the colours and places beforehand, it hears "pommes" for "points"; told
which of the words were said, it translates "un chien rouge" as "a red dog", not as "a red light".
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import regex as re

from s2i_lib.photos.subject import plural_of
from s2i_lib.speech.templates import with_article

WITHOUT_BLANKS = ("zh", "ja")  # words stand side by side in their sentences
LONGEST_ENDING = 3  # letters that inflection adds to a form of the table
SHORTEST_STEM = 4  # letters of a form that inflection may add to
ARTICLES = ("وال", "بال", "ال")  # written in one with their noun in Arabic
NOUN_FIRST = ("fr", "es", "it", "pt", "ar", "fa", "id", "vi")  # "un chien rouge"
FIRST_COLOUR, LAST_COUNT = "white", "three"  # rows before name things, rows behind name places
DIGITS = {"2": "two", "3": "three"}
HINT_LENGTH = 560  # letters of a hint; Whisper remembers 223 tokens of earlier text
LENGTH_OF_OTHERS = 3  # letters of other scripts than Latin count so often: they take more tokens


@cache
def _rows() -> list[list[list[str]]]:
    """Return the table: a row a word, a column a language, several forms in each."""
    text = (files("s2i_lib") / "words" / "many_languages.tsv").read_text(encoding="utf-8")
    return [[cell.split("|") for cell in line.split("\t")] for line in text.splitlines()]


def languages() -> list[str]:
    """Return the codes of the languages in the table, English not among them."""
    return [code for [code] in _rows()[0][1:]]


@cache
def glossary(language: str) -> dict[str, str]:
    """Return form -> English of a language's words, the longest first; {} for none in the table."""
    if language not in languages():
        return {}
    column = languages().index(language) + 1
    pairs = [(_plain(form), row[0][0]) for row in _rows()[1:] for form in row[column]]
    words: dict[str, str] = {}
    for form, english in (*pairs, *DIGITS.items()):
        words.setdefault(form, english)
    return dict(sorted(words.items(), key=lambda pair: -len(pair[0])))


@cache
def _names_of(english: str) -> list[str]:
    """Return the English words for one of the table: "mug", "cup"."""
    return next(row[0] for row in _rows()[1:] if row[0][0] == english)


@cache
def _things() -> frozenset[str]:
    words = [row[0][0] for row in _rows()[1:]]
    return frozenset(words[: words.index(FIRST_COLOUR)])


@cache
def _adjectives() -> frozenset[str]:
    words = [row[0][0] for row in _rows()[1:]]
    return frozenset(words[words.index(FIRST_COLOUR) : words.index(LAST_COUNT) + 1])


def usual_words(language: str) -> str:
    """Return words of a language as Whisper is told them beforehand.

    As many things as there is room for, then colours, counts, places: the last are remembered best.
    """
    if language not in languages():
        return ""
    column = languages().index(language) + 1
    rows = _rows()[1:]
    things = [row[column][0] for row in rows if row[0][0] in _things()]
    others = [row[column][0] for row in rows if row[0][0] not in _things()]
    while _length([*things, *others]) > HINT_LENGTH:
        (things or others).pop()
    return ", ".join([*things, *others])


def _length(words: Sequence[str]) -> int:
    text = ", ".join(words)
    return len(text) + (LENGTH_OF_OTHERS - 1) * len(re.findall(r"[^\p{Latin}\p{Common}]", text))


def find_words(text: str, language: str) -> list[str]:
    """Return the English of each word of the table that was said, in the order of English.

    "Zwei grüne Äpfel" -> two, green, apple; "un chien rouge" -> red, dog.
    """
    rest = _plain(text)
    found: dict[str, int] = {}
    for form, english in glossary(language).items():
        pattern = _pattern(form, language)
        for match in pattern.finditer(rest):
            found.setdefault(english, match.start())
            rest = rest[: match.start()] + "\0" * len(match.group()) + rest[match.end() :]
    words = sorted(found, key=lambda english: found[english])
    if language in NOUN_FIRST:
        for i, word in enumerate(words[1:]):
            if word in _adjectives() and words[i] not in _adjectives():
                words[i : i + 2] = [word, words[i]]
    return words


def join_phrases(words: Sequence[str]) -> list[str]:
    """Put colours, sizes and counts to what they stand before: "two", "dog" -> "two dogs"."""
    phrases: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        if before not in _adjectives():
            phrases.append(word)
            continue
        is_several = word not in _adjectives() and re.search(r"\b(?:two|three)\b", phrases[-1])
        phrases[-1] += f" {plural_of(word) if is_several else word}"
    return phrases


def add_missing_things(english: str, words: Sequence[str]) -> str:
    """Return a translation with the things that were said and got lost in it at its end.

    A colour or place is left as it was translated: nobody could tell what it belongs to.
    """
    lost = [
        with_article(word)
        for word in words
        if word in _things() and not any(_is_in(name, english) for name in _names_of(word))
    ]
    return ", ".join([english.rstrip(" .,"), *lost]) if lost else english


def _is_in(word: str, english: str) -> bool:
    stem = re.sub("(?:y|f|fe|us)$", "", word)  # "butterflies", "cacti"
    return re.search(rf"\b{re.escape(stem)}", english, re.IGNORECASE) is not None


@cache
def _pattern(form: str, language: str) -> re.Pattern[str]:
    if language in WITHOUT_BLANKS and not form.isdigit():
        return re.compile(re.escape(form))
    before = rf"(?:{'|'.join(ARTICLES)})?" if language == "ar" else ""
    longest = LONGEST_ENDING if len(form) >= SHORTEST_STEM or language == "ko" else 0
    ending = rf"[\p{{L}}\p{{M}}]{{0,{longest}}}" if not form.isdigit() else ""
    part = r"[\p{L}\p{M}\p{N}]|(?<=\p{N})[.,](?=\p{N})"  # of a word, or of a number
    return re.compile(rf"(?<!{part}){before}{re.escape(form)}{ending}(?!{part}|[.,]\p{{N}})")


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text.casefold())

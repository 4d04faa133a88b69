"""Prompts from templates: "a {subject} on a beach | a {noun} in the snow"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from s2i_lib.errors import InputError
from s2i_lib.photos.subject import PAIRS, UNCOUNTED, Subject


def fill_in(prompts: Sequence[str], subject: Subject) -> list[str]:
    """Return prompts with {subject} and {noun} filled in.

    Raises
    ------
    InputError
        When something else stands in braces.
    """
    names = {"subject": subject.phrase, "noun": subject.class_noun}
    try:
        return [prompt.format(**names) for prompt in prompts]
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"A sample or class prompt cannot be filled in ({error}). "
            "Only {subject} and {noun} may stand in braces."
        ) from error


def take_turns(row: str, count: int) -> list[str]:
    """Return the prompts of ``count`` pictures: "a cat | a dog" gives each in turn."""
    prompts = [prompt.strip() for prompt in row.split("|")]
    return [prompts[i % len(prompts)] for i in range(count)]


def prompts_in_turn(rows: Sequence[str], count: int) -> list[str]:
    """Return the prompts of ``count`` pictures: the rows take turns, and in each row its prompts.

    Of "a cat" and "a red cat | a green cat": a cat, a red cat, a cat, a green cat, a cat, ...
    """
    each = [take_turns(row, -(-count // len(rows))) for row in rows]
    return [prompt for turn in zip(*each, strict=True) for prompt in turn][:count]


def with_article(words: str) -> str:
    """Return words with "a" or "an" before them, or as they are: "scissors", "bread"."""
    last = words.split()[-1].lower()
    return words if last in PAIRS | UNCOUNTED else f"{article_for(words)} {words}"


def article_for(words: str) -> str:
    """Return "a" or "an", by sound: an hour, a unicorn."""
    word = words.lower()
    if re.match(r"(?:hour|honest|heir|honou?r)", word):
        return "an"
    if re.match(r"(?:uni(?!n)|use|usu|eu|one\b|once)", word):
        return "a"
    return "an" if word[0] in "aeiou" else "a"

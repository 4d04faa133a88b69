"""A sentence read against the picture that is shown: a change of it, and the prompt it then has."""

from __future__ import annotations

from collections.abc import Sequence

import regex as re

from s2i_lib.drawing.keeping import SUBJECT, SURROUNDINGS
from s2i_lib.errors import InputError
from s2i_lib.photos.subject import Subject
from s2i_lib.pipeline import SpeechToImage
from s2i_lib.speech.changes import read_change
from s2i_lib.speech.commands import COMMANDS, Change
from s2i_lib.speech.name_matching import find_names
from s2i_lib.speech.phrases import split_parts
from s2i_lib.speech.prompt import Prompt, fit, replace_names
from s2i_lib.speech.transcript import Transcript
from s2i_lib.storage.layout import composed

STAYS = {
    "place": SUBJECT,
    **dict.fromkeys(
        ("colour", "size", "replace", "worn", "add", "remove", "attribute"), SURROUNDINGS
    ),
}
"""What stays of the last picture, for the kinds of change where something does."""
_WITHIN = re.compile(
    r"\b(?:left|right|top|bottom|middle|cent(?:er|re)|corner|edge|foreground|side)\b", re.IGNORECASE
)


def english_of(words: str | Transcript) -> str:
    """Return the English of typed words, or of what was heard."""
    return words.english if isinstance(words, Transcript) else words


def read(
    speech: SpeechToImage, english: str, last: Prompt | None, *, is_forced: bool = False
) -> Change | None:
    """Return what a sentence, names and all, changes; None for a new wish.

    Parameters
    ----------
    last : prompt of the picture that is shown; None at the beginning
    is_forced : somebody says that it is a change

    Raises
    ------
    InputError
        When it is a change that cannot be made, or there is nothing to change.
    """
    subjects, chosen = speech.subjects, speech.taught
    before = last or Prompt("a picture")
    sentence = _name_subjects(english, subjects, chosen)
    change = read_change(sentence, before.text, subjects, is_forced=is_forced)
    own = next((s for s in before.subjects if s.phrase in before.text), None)
    if change and own and chosen is None and _count_identifiers(change.text, subjects) > 1:
        # One picture knows one subject by looks: the one that is there.
        sentence = _name_subjects(english, subjects, own)
        change = read_change(sentence, before.text, subjects, is_forced=is_forced)
    if change is None or last is not None:
        return change
    if change.kind in COMMANDS and change.kind != "again":
        return change
    if change.is_explicit or change.kind in ("again", "size"):  # "bigger" shows nothing by itself
        raise InputError(
            f"There is no picture yet that “{english.strip()}” could change. Say first what "
            "you want to see, for instance: a dog wearing a hat in the snow."
        )
    return None  # "on a beach" alone is a wish, too


def change_prompt(
    speech: SpeechToImage, last: Prompt, change: Change, words: str | Transcript
) -> Prompt:
    """Return the changed prompt, as long as the model takes it, with the subjects in it."""
    named = find_names(english_of(words), speech.subjects)
    with speech.use_model() as model:
        text, notes = fit(change.text or last.text, model.count_tokens, model.base.token_limit)
    known = dict.fromkeys([*(mention.subject for mention in named), *last.subjects])
    return Prompt(
        text,
        subjects=tuple(sorted(known, key=lambda subject: subject.phrase not in text)),
        transcript=words if isinstance(words, Transcript) else None,
        notes=tuple(notes),
    )


def find_what_stays(change: Change, before: str) -> str:
    """Return what of the last picture, drawn from the prompt ``before``, a change leaves as it is.

    That is its subject, its surroundings, or "": where the number, the light or the style changes,
    subject and place together, or the subject's place within the picture.
    """
    stays = STAYS.get(change.kind, "")
    if stays == SUBJECT and _WITHIN.search(change.text):
        return ""
    if stays == SURROUNDINGS and _places_in(before) != _places_in(change.text):
        return ""
    return stays


def _places_in(text: str) -> list[str]:
    return [part.text for part in split_parts(text)[1] if part.role == "place"]


def _name_subjects(english: str, subjects: Sequence[Subject], chosen: Subject | None) -> str:
    words = composed(english)
    return replace_names(words, find_names(words, subjects), chosen)[0]


def _count_identifiers(text: str, subjects: Sequence[Subject]) -> int:
    return sum(subject.phrase in text for subject in subjects)

"""A sentence read against the picture that is shown: a change of it, and the prompt it then has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import regex as re

from s2i_lib.drawing.keeping import SUBJECT, SURROUNDINGS
from s2i_lib.errors import InputError
from s2i_lib.photos.subject import Subject, plural_of
from s2i_lib.pipeline import SpeechToImage
from s2i_lib.speech.changes import read_change
from s2i_lib.speech.commands import COMMANDS, Change
from s2i_lib.speech.habits import strip_politeness
from s2i_lib.speech.name_matching import find_names
from s2i_lib.speech.phrases import DET, FAR, WITHIN, split_parts
from s2i_lib.speech.prompt import Prompt, fit, replace_names, say_became_any
from s2i_lib.speech.transcript import Transcript
from s2i_lib.storage.layout import composed

STAYS = {
    "place": SUBJECT,
    **dict.fromkeys(
        ("colour", "size", "replace", "worn", "add", "remove", "attribute"), SURROUNDINGS
    ),
}
"""What stays of the last picture, for the kinds of change where something does."""
_IS_SET = re.compile(
    rf"(?!.*\b(?:it|him|her|them)\b)(?:put|place|set) {DET} .+ (?!{FAR}){WITHIN}", re.IGNORECASE
)
"""A wish as well: "put a ship on the left"."""
_THERE = re.compile(
    r"\b(?:on|onto|to|of|beside|near|behind|under|above|give|make|dress|paint|colou?r|let|turn|move|"
    r"put|remove) $",
    re.IGNORECASE,
)
"""Before a name that means who is there already: "put a hat on Mochi", but not "make it Mochi"."""
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
    subjects, before = speech.subjects, last or Prompt("a picture")
    # One picture knows one subject by looks: the one that is there, else whoever takes its place.
    own = next(iter(before.by_looks), None)
    sentence = _name_subjects(english, subjects, speech.chosen or own, before.subjects)
    change = read_change(sentence, before.text, subjects, is_forced=is_forced)
    if change and own and speech.chosen is None and not own.is_in(change.text or before.text):
        named = [mention.subject for mention in find_names(english, subjects)]
        if other := next((one for one in named if one != own), None):
            change = replace(change, text=_show_by_looks(other, change.text))
    if change is None or last is not None:
        return change
    if change.text and _IS_SET.match(strip_politeness(english)):
        return None
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
    prompt = changed(speech, last, change, words)
    with speech.use_model() as model:
        text, notes = fit(prompt.text, model.count_tokens, model.base.token_limit)
    return replace(prompt, text=text, notes=tuple(notes))


def changed(speech: SpeechToImage, last: Prompt, change: Change, words: str | Transcript) -> Prompt:
    """Return the changed prompt, however long; who is in it by looks comes first."""
    text = change.text or last.text
    named = find_names(english_of(words), speech.subjects)
    known = dict.fromkeys([*(mention.subject for mention in named), *last.subjects])
    return Prompt(
        text,
        subjects=tuple(sorted(known, key=lambda subject: not subject.is_in(text))),
        transcript=words if isinstance(words, Transcript) else None,
    )


def say_who_became_any(speech: SpeechToImage, words: str | Transcript, prompt: Prompt) -> list[str]:
    """Say of whom ``words`` name, but ``prompt`` has any other of its kind, that it is so."""
    first = next(iter(prompt.by_looks), None)
    named = dict.fromkeys(m.subject for m in find_names(english_of(words), speech.subjects))
    plain = [
        one for one in named if not one.is_in(prompt.text) and re.search(_noun_of(one), prompt.text)
    ]
    return [say_became_any(one, first) for one in plain if first]


def find_what_stays(change: Change, before: str) -> str:
    """Return what of the last picture, drawn from the prompt ``before``, a change leaves as it is.

    That is its subject, its surroundings, or "": where the number, the light or the style changes,
    subject and place together, the subject's place within the picture, or what is behind it.
    """
    stays = STAYS.get(change.kind, "")
    if stays == SUBJECT and _WITHIN.search(change.text):
        return ""
    is_behind = re.search(FAR, " ".join((*change.old_words, "|", *change.new_words)))
    if stays == SURROUNDINGS and (is_behind or _places_in(before) != _places_in(change.text)):
        return ""
    return stays


def _places_in(text: str) -> list[str]:
    return [part.text for part in split_parts(text)[1] if part.role == "place"]


def _show_by_looks(subject: Subject, text: str) -> str:
    """Put a subject's identifier before its class noun."""
    marked = re.sub(_noun_of(subject), rf"{subject.identifier} \g<0>", text, count=1)
    return marked.replace(f"an {subject.phrase}", f"a {subject.phrase}")  # as runs are taught it


def _noun_of(subject: Subject) -> str:
    """Return a pattern for one or several of its class."""
    one, several = map(re.escape, (subject.class_noun, plural_of(subject.class_noun)))
    return rf"\b(?:{one}|{several})\b"


def _name_subjects(
    english: str, subjects: Sequence[Subject], chosen: Subject | None, there: Sequence[Subject]
) -> str:
    """Put nouns where names were said; "the cat" for one who is there, and is spoken of so."""
    words = composed(english)
    mentions = find_names(words, subjects)
    same = {m.subject for m in mentions if m.subject in there and _THERE.search(words[: m.start])}
    return replace_names(words, mentions, chosen, same - {chosen})[0]

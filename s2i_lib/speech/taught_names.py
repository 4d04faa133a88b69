"""Teach a name by saying it: what Whisper makes of it is kept, and counts as the name.

Whisper writes "Bell" for some voices' "Bella", and has no Latin letters for राम or 小明. A few
recordings of the name alone tell which words it will write, in this voice and with this model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from s2i_lib.errors import InputError
from s2i_lib.photos.subject import Subject, is_latin, save_subject
from s2i_lib.speech.audio import Recording, rate_of
from s2i_lib.speech.near_names import SMALL_WORDS
from s2i_lib.speech.sounds import similarity
from s2i_lib.speech.transcribe import HearOptions, Listener
from s2i_lib.speech.words import DETERMINERS, is_word, tokenize
from s2i_lib.storage.layout import Drive

LONGEST_NAME = 4  # words
MIN_LIKENESS = 0.45  # "Delo" is like Bella, "Pretty cool" is not like Bruno
LIMIT_S = 10.0


def teach_name(
    drive: Drive,
    subject: Subject,
    recordings: Sequence[Recording],
    listener: Listener | None = None,
) -> Subject:
    """Hear a name said alone, keep what Whisper makes of it on the subject's card, return both.

    Parameters
    ----------
    recordings : the name alone, three times for instance: files, or samples at 16 kHz
    listener : the one that will hear the wishes [default: this machine's usual one]

    Raises
    ------
    InputError
        When no recording has the name, and nothing but the name; each is named with its reason.
    """
    listener = listener or Listener(HearOptions(limit_s=LIMIT_S), drive)
    before, heard, faults = listener.options, [], []
    try:
        # English, because that is what prompts are made of; and without the name, which it is told
        # when wishes are heard.
        listener.load()
        listener.options = replace(before, language="en", subjects=(), limit_s=LIMIT_S)
        for number, recording in enumerate(recordings, 1):
            try:
                heard.append(_hear_name(listener, recording))
            except InputError as error:
                where = recording if isinstance(recording, str) else f"Recording {number}"
                faults.append(f"{where}: {error}")
    finally:
        listener.options = before
    spellings = tuple(dict.fromkeys(text for text in heard if _is_usable(text, heard, subject)))
    if not heard:
        raise InputError(
            f"The name {subject.name} was not learned. {' '.join(faults)} Record the name alone, "
            "once a recording, and try again."
        )
    taught = replace(subject, spellings=spellings or subject.spellings)
    save_subject(drive, taught)
    return taught


def _hear_name(listener: Listener, recording: Recording) -> str:
    """Return the words that were heard."""
    said = listener.hear(recording, rate_of(recording)).text
    words = [token.text for token in tokenize(said) if is_word(token.text)]
    half = len(words) // 2
    if half and words[:half] == words[half:]:  # as tiny.en says what is short
        words = words[:half]
    if len(words) > LONGEST_NAME:
        raise InputError(f"More than a name was said: {said!r}.")
    return " ".join(words)


def _is_usable(text: str, heard: Sequence[str], subject: Subject) -> bool:
    """Return whether a spelling is no slip: like the name, if that can be told, or heard twice."""
    words = text.lower().split()
    means_too_much = words[0] in DETERMINERS or all(
        word in SMALL_WORDS or len(word) < 2 for word in words
    )
    is_like = not is_latin(subject.name) or similarity(subject.name, text) >= MIN_LIKENESS
    return not means_too_much and (is_like or heard.count(text) > 1)

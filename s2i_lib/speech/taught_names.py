"""Teach a name by saying it: what Whisper makes of it is kept, and counts as the name.

Whisper writes "Bell" for some voices' "Bella", and has no Latin letters for राम or 小明. A few
recordings of the name alone tell which words it will write, in this voice and with this model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from s2i_lib.errors import InputError
from s2i_lib.photos.subject import Subject, save_subject
from s2i_lib.speech.audio import Recording
from s2i_lib.speech.level import RATE_HZ
from s2i_lib.speech.name_matching import is_word, tokenize
from s2i_lib.speech.near_names import SMALL_WORDS
from s2i_lib.speech.transcribe import HearOptions, Listener
from s2i_lib.storage.layout import Drive

LONGEST_NAME = 4  # words
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
        listener.options = replace(before, language="en", names=(), limit_s=LIMIT_S)
        for number, recording in enumerate(recordings, 1):
            try:
                heard.append(_hear_name(listener, recording))
            except InputError as error:
                is_file = isinstance(recording, (str, Path))
                faults.append(f"{recording if is_file else f'Recording {number}'}: {error}")
    finally:
        listener.options = before
    spellings = tuple(dict.fromkeys(text for text in heard if text))
    if not heard:
        raise InputError(
            f"The name {subject.name} was not learned. {' '.join(faults)} Record the name alone, "
            "once a recording, and try again."
        )
    taught = replace(subject, spellings=spellings or subject.spellings)
    save_subject(drive, taught)
    return taught


def _hear_name(listener: Listener, recording: Recording) -> str:
    """Return what was heard as a spelling; "" for words that mean too much to be a name."""
    rate_hz = None if isinstance(recording, (str, Path, bytes)) else RATE_HZ
    said = listener.hear(recording, rate_hz).text
    words = [token.text for token in tokenize(said) if is_word(token.text)]
    if len(words) > LONGEST_NAME:
        raise InputError(f"More than a name was said: {said!r}.")
    is_usable = any(word.lower() not in SMALL_WORDS and len(word) > 1 for word in words)
    return " ".join(words) if is_usable else ""

"""Where somebody speaks in a recording, cut into windows that Whisper takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from s2i_lib.errors import InputError
from s2i_lib.speech.audio import Audio
from s2i_lib.speech.level import RATE_HZ, normalise
from s2i_lib.speech.weights import WINDOW_S

MAX_DECODES = 3  # of a clip: plain Whisper takes up to six of every 30 s
# Of chunks no longer than this three windows hold 60 s: each is filled to 27.5 - 10 s at least.
PACKED_S = 10.0
LEAD_S = 0.5  # silence put before the speech: a first word without a beginning is misheard


@dataclass(frozen=True)
class Window:
    """A stretch with speech in it, short enough for Whisper."""

    start: int
    """Sample of the recording; before its first where the leading silence reaches out."""
    samples: np.ndarray
    """LEAD_S of silence, then the speech."""
    speech_s: float
    """Length of the speech in it, without the pauses."""


def find_windows(audio: Audio, margin_s: float) -> list[Window]:
    """Trim silence, even out the loudness, split what is longer than Whisper's window at pauses.

    A clip of up to 60 s gives at most MAX_DECODES windows (with the default margin).

    Raises
    ------
    InputError
        When no speech is found: Whisper would make some up.

    Source: the options are faster-whisper's defaults for Silero VAD except for the shorter pause,
    so that a split falls between sentences.
    """
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    samples = normalise(audio.samples)
    longest_s = WINDOW_S - margin_s - LEAD_S
    options = VadOptions(
        min_speech_duration_ms=200,  # a cough or a click is shorter
        min_silence_duration_ms=500,
        speech_pad_ms=300,
        max_speech_duration_s=longest_s,
    )
    chunks = get_speech_timestamps(samples, options)
    spans = join_chunks(chunks, longest_s)
    if len(spans) > MAX_DECODES:  # one decode each: shorter chunks fill the windows better
        shorter = replace(options, max_speech_duration_s=PACKED_S)
        spans = min(spans, join_chunks(get_speech_timestamps(samples, shorter), longest_s), key=len)
    if not spans:
        raise InputError(
            f"Nothing was said: there is sound in these {audio.duration_s:.1f} s, but no speech. "
            "Speak closer to the microphone, or choose another file."
        )
    lead = np.zeros(int(LEAD_S * RATE_HZ), np.float32)
    return [
        Window(a - len(lead), np.concatenate([lead, samples[a:b]]), speech / RATE_HZ)
        for a, b, speech in spans
    ]


def join_chunks(chunks: Sequence[dict[str, int]], longest_s: float) -> list[tuple[int, int, int]]:
    """Join chunks of speech to as few windows as a walk from the left finds.

    Returns start, end and speech of each, in samples.
    """
    spans: list[tuple[int, int, int]] = []
    for chunk in chunks:
        start, speech = chunk["start"], 0
        if spans and chunk["end"] - spans[-1][0] <= longest_s * RATE_HZ:
            start, _, speech = spans.pop()
        spans.append((start, chunk["end"], speech + chunk["end"] - chunk["start"]))
    return spans

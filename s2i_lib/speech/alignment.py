"""How Whisper sees a sentence: its mel spectrogram, its tokens, and when each was listened to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from s2i_lib.errors import InputError
from s2i_lib.speech.audio import load_audio, rate_of
from s2i_lib.speech.level import RATE_HZ, normalise
from s2i_lib.speech.weights import WINDOW_S, shortest_window_s
from s2i_lib.speech.whisper import DecodeOptions, OpenAIWhisper, Word, has_cuda, load_engine
from s2i_lib.storage.layout import Drive

MOST_TOKENS = 100
MARGIN_S = 1.0  # of silence behind the words, as a window that ends in speech is misheard


@dataclass(frozen=True)
class Hearing:
    """One short recording on its way through Whisper."""

    samples: np.ndarray
    """Samples at 16 kHz, mono, shape = (n,)"""
    mel: np.ndarray
    """Log10 energy, scaled as Whisper wants it, shape = (bands, columns), 100 columns a second"""
    text: str
    tokens: tuple[str, ...]
    attention: np.ndarray
    """Share of each token's attention, shape = (tokens, positions), 50 a second; rows sum to 1."""
    words: tuple[Word, ...]
    seconds: float
    """Length of the window that was looked at: the recording and some silence."""


def hear_inside(source: str | Path | np.ndarray, drive: Drive, model: str = "tiny.en") -> Hearing:
    """Hear one recording of at most half a minute, and keep what is usually thrown away.

    Raises
    ------
    InputError
        When the recording cannot be read, is silent or too long for one window.
    S2iError
        When the weights are found nowhere; every place that was tried is named.
    """
    samples = load_audio(source, rate_hz=rate_of(source))
    duration_s = len(samples) / RATE_HZ
    if duration_s > WINDOW_S - MARGIN_S:
        raise InputError(
            f"The recording lasts {duration_s:.0f} s; expected at most {WINDOW_S - MARGIN_S:.0f}, "
            "so that Whisper sees it in one window. Cut it, or let notebook 3 hear it."
        )
    device = "cuda" if has_cuda() else "cpu"
    # As short as the recording, to look at; a model that can get lost in it has its whole window.
    is_steady = shortest_window_s(model, "cpu") < WINDOW_S
    seconds = math.ceil(duration_s + MARGIN_S) if is_steady else WINDOW_S
    engine = cast(OpenAIWhisper, load_engine("openai-whisper", model, device, drive))
    encoded = engine.encode(normalise(samples), seconds)
    decoded = engine.decode(encoded, DecodeOptions("en", MOST_TOKENS))
    if not decoded.text:
        raise InputError("Nothing was heard in the recording. Take one in which somebody speaks.")
    tokens, attention = engine.listening(encoded, decoded, "en")
    return Hearing(
        samples=samples,
        mel=encoded[1].float().cpu().numpy(),
        text=decoded.text,
        tokens=tuple(tokens),
        attention=attention,
        words=tuple(engine.word_times(encoded, decoded, "en")),
        seconds=seconds,
    )

"""WAV files for Chromium's microphone: what is said in them, and the quiet around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from s2i_lib.drawing.gallery import wav_bytes
from s2i_lib.speech.audio import load_audio
from tests.browser.lab import REPOSITORY

CLIP = REPOSITORY / "s2i_lib/samples/red_car.wav"
RATE_HZ = 16_000


def put_quiet_around(
    clip: Path, path: Path, *, before_s: float = 2.0, after_s: float = 2.0
) -> float:
    """Write ``path``: ``clip`` between two pauses; return the seconds of the clip.

    Chromium plays the file from its beginning whenever a page opens the microphone.
    """
    samples = load_audio(clip)
    before, after = (np.zeros(round(s * RATE_HZ), np.float32) for s in (before_s, after_s))
    path.write_bytes(wav_bytes(np.concatenate([before, samples, after])))
    return len(samples) / RATE_HZ

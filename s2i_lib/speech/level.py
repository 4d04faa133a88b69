"""How loud a recording is where somebody speaks, and how it is brought to Whisper's level."""

from __future__ import annotations

import math

import numpy as np

RATE_HZ = 16_000  # what Whisper and Silero were trained on
SILENCE_DB = -80.0  # below full scale: beneath the noise of any microphone
FRAME = 480  # samples in 30 ms
FRAMES_PER_S = 33
# Speech fills most of the second in which it is loudest; a click or a bump fills a fifth at most.
SPEECH_PERCENTILE = 80
OFFSET_SHARE = 0.1  # of the power, from which on an offset is taken out
OFFSET_WINDOW = 801  # samples in 50 ms: what varies more slowly is no sound


def loudness_db(samples: np.ndarray) -> float:
    """Return the level of the loudest second in dB below full scale.

    A wish of two seconds is a small share of a recording that somebody forgot to stop, so that no
    mean of the whole says how loud it is. An offset of the samples does not count, nor do clicks.
    """
    frames = np.pad(samples, (0, -len(samples) % FRAME), mode="edge").reshape(-1, FRAME)
    powers = frames.var(axis=1, dtype=np.float64)
    seconds = np.lib.stride_tricks.sliding_window_view(powers, min(FRAMES_PER_S, len(powers)))
    power = float(np.percentile(seconds, SPEECH_PERCENTILE, axis=1).max())
    return 10 * math.log10(max(power, 1e-12))


def normalise(samples: np.ndarray, target_db: float = -20.0) -> np.ndarray:
    """Bring speech to the level that Silero and Whisper know; clicks above full scale are cut.

    Source: -20 dB below full scale is the usual level of speech corpora (ITU-T P.56 practice).
    """
    gain = 10 ** ((target_db - loudness_db(samples)) / 20)
    return np.clip(samples * np.float32(gain), -1, 1)


def without_offset(samples: np.ndarray) -> np.ndarray:
    """Take out a constant or slowly drifting offset, as faulty sound cards add; else no change."""
    whole = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    offset = np.square(whole.mean(axis=1, dtype=np.float64)).mean() if len(whole) else 0.0
    if offset <= OFFSET_SHARE * np.square(samples, dtype=np.float64).mean():
        return samples
    from scipy.ndimage import uniform_filter1d

    return samples - uniform_filter1d(samples, OFFSET_WINDOW, mode="nearest")

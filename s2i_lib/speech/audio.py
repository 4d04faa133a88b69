"""Any recording -> 16 kHz mono samples, or one sentence that says why not."""

from __future__ import annotations

import io
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from s2i_lib.errors import InputError
from s2i_lib.speech.level import RATE_HZ, SILENCE_DB, without_offset
from s2i_lib.speech.tracks import (
    FASTEST_HZ,
    SLOWEST_HZ,
    Track,
    clock,
    decode_file,
    longer_advice,
    too_long,
)
from s2i_lib.storage.layout import at_home

logger = logging.getLogger(__name__)

LIMIT_S = 60.0  # a spoken wish takes seconds; a forgotten microphone takes hours
BYTES_PER_S = 16 << 20  # a phone's 4K film has 6 to 12 MiB a second

Recording = str | Path | bytes | np.ndarray
"""Path or bytes of an audio or video file, or samples."""


@dataclass(frozen=True)
class Audio:
    """What could be decoded, and what the user should know about it."""

    samples: np.ndarray
    """Samples at 16 kHz, mono, float32 within -1 to 1, shape = (n,)."""
    remarks: tuple[str, ...] = ()
    """Remarks as sentences: the file ends early, parts were damaged."""

    @property
    def duration_s(self) -> float:
        return len(self.samples) / RATE_HZ


def load_audio(
    source: Recording, *, rate_hz: int | None = None, limit_s: float = LIMIT_S
) -> np.ndarray:
    """Decode ``source`` to mono; what is wrong with it but can be lived with is logged.

    Parameters
    ----------
    source : path, bytes of an audio or video file, or samples
        Samples have shape (n,), (n, channels) or (channels, n), integers or floats.
    rate_hz : of samples only; a file knows its own
    limit_s : longest recording that is accepted, in seconds

    Returns
    -------
    float32 array, shape = (n,), 16 kHz, within -1 to 1

    Raises
    ------
    InputError
        No such file, not audio, no sound track, empty, too long, silent, not a number.
    """
    audio = read_audio(source, rate_hz=rate_hz, limit_s=limit_s)
    for remark in audio.remarks:
        logger.warning(remark)
    return audio.samples


def read_audio(source: Recording, *, rate_hz: int | None = None, limit_s: float = LIMIT_S) -> Audio:
    """Decode ``source`` as ``load_audio`` does, with the remarks beside the samples."""
    if isinstance(source, np.ndarray):
        name = "The array"
        track = Track(_from_array(source, rate_hz, limit_s))
    elif isinstance(source, bytes | bytearray | memoryview):
        name = "The recording"
        data = bytes(source)
        _check_size(len(data), name, limit_s)
        track = decode_file(io.BytesIO(data), name, limit_s)
    else:
        path = at_home(source)
        name = str(path)
        with _open_file(path, limit_s) as file:
            track = decode_file(file, name, limit_s)
    return Audio(_checked_mono(track.channels, name), track.remarks)


def rate_of(recording: Recording) -> int | None:
    """Return the rate to read a recording with: samples have 16 kHz, and a file knows its own."""
    return RATE_HZ if isinstance(recording, np.ndarray) else None


def samples_of(recording: Recording) -> np.ndarray:
    """Return the samples of a recording that was heard; how long it may be was asked then."""
    if isinstance(recording, np.ndarray):
        return recording
    return load_audio(recording, limit_s=math.inf)


def _open_file(path: Path, limit_s: float) -> BinaryIO:
    try:
        if not path.exists():
            raise InputError(f"There is no file {path}. Give the path of a recording.")
        if not path.is_file():
            raise InputError(f"{path} is not a file. Give the path of one recording.")
        _check_size(path.stat().st_size, str(path), limit_s)
        return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a zero byte inside the name
        raise InputError(
            f"{str(path)!r} cannot be read ({error}). Check the name and its permissions."
        ) from error


def _check_size(size: int, name: str, limit_s: float) -> None:
    if size == 0:
        raise InputError(f"{name} is empty (0 bytes). Record it again.")
    if size > limit_s * BYTES_PER_S:
        raise InputError(
            f"{name} has {size / 2**20:.0f} MiB, more than {limit_s:g} s of sound can need. "
            f"{longer_advice(limit_s)}"
        )


def _from_array(array: np.ndarray, rate_hz: int | None, limit_s: float) -> np.ndarray:
    """Samples as they came from a widget or another library -> (channels, n) at 16 kHz."""
    if rate_hz is None:
        raise InputError(
            "Samples in an array need their rate. Give rate_hz, for instance rate_hz=48000."
        )
    if not SLOWEST_HZ <= rate_hz <= FASTEST_HZ:
        raise InputError(
            f"{rate_hz} Hz is not a rate that speech is recorded at. "
            f"Expected {SLOWEST_HZ} to {FASTEST_HZ} Hz, for instance rate_hz=48000."
        )
    if array.ndim not in (1, 2) or array.dtype.kind not in "iuf":
        raise InputError(
            f"The array has shape {array.shape} and type {array.dtype}. Expected integers or "
            "floats of shape (samples,) or (samples, channels)."
        )
    if array.size == 0:
        raise InputError("The array is empty. Record it again.")
    duration_s = max(array.shape) / rate_hz
    if duration_s > limit_s:
        raise too_long(clock(duration_s), "The array", limit_s)
    channels = np.atleast_2d(array.astype(np.float32))
    if array.dtype.kind in "iu":
        lowest, beyond = np.iinfo(array.dtype).min, np.iinfo(array.dtype).max + 1
        channels = (channels - (lowest + beyond) / 2) / ((beyond - lowest) / 2)
    if array.ndim == 2 and channels.shape[0] > channels.shape[1]:
        channels = channels.T  # (n, channels), as soundfile and widgets give it
    return np.stack([_resample(channel, int(rate_hz)) for channel in channels])


def _resample(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    if rate_hz == RATE_HZ or not np.isfinite(samples).all():
        return samples
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler

    frame = AudioFrame.from_ndarray(
        np.ascontiguousarray(samples[None], dtype=np.float32), format="fltp", layout="mono"
    )
    frame.sample_rate = rate_hz
    resampler = AudioResampler(format="fltp", layout="mono", rate=RATE_HZ)
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in parts])


def _checked_mono(channels: np.ndarray, name: str) -> np.ndarray:
    """Mix to mono, bring within -1 to 1; refuse silence and values that are no numbers.

    Two microphones wired against each other cancel out in the mean: then the louder one is taken.
    """
    if not np.isfinite(channels).all():
        bad = int((~np.isfinite(channels)).sum())
        raise InputError(
            f"{name}: {bad} of the samples are not numbers (NaN or infinite). "
            "Record it again, or export it as 16-bit wav."
        )
    channels = np.stack([without_offset(channel) for channel in channels])
    if np.abs(channels).max() < 10 ** (SILENCE_DB / 20):
        raise InputError(
            f"Nothing was said: {name} is silent for all its "
            f"{channels.shape[1] / RATE_HZ:.1f} s. Check the microphone and record again."
        )
    mono = channels.mean(axis=0, dtype=np.float64)
    powers = np.square(channels, dtype=np.float64).mean(axis=1)
    if np.square(mono).mean() < powers.max() / len(channels) ** 2 / 4:
        mono = channels[int(powers.argmax())].astype(np.float64)
    return (mono / max(1.0, np.abs(mono).max())).astype(np.float32)

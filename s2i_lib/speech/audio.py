"""Any recording -> 16 kHz mono samples, or one sentence that says why not.

FFmpeg does the decoding, from inside PyAV's wheel: nothing has to be installed on the system.
"""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from s2i_lib.errors import InputError

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.container import InputContainer

logger = logging.getLogger(__name__)

RATE_HZ = 16_000  # what Whisper and Silero were trained on
LIMIT_S = 60.0  # a spoken wish takes seconds; a forgotten microphone takes hours
BYTES_PER_S = 16 << 20  # a phone's 4K film has 6 to 12 MiB a second
FASTEST_HZ = 384_000
SLOWEST_HZ = 4_000
SILENCE = 1e-4  # -80 dB below full scale: beneath the noise of any microphone
# Only these are tried. Playlists (which name other files and addresses), pictures, subtitles and
# text stay outside, although FFmpeg would open them.
CONTAINERS = (
    "wav,w64,aiff,au,caf,mp3,aac,flac,ogg,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,"
    "amr,avi,asf,mpegts,flv,ac3,eac3"
)


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
        remarks: list[str] = []
        channels = _from_array(source, rate_hz, limit_s)
    elif isinstance(source, bytes | bytearray | memoryview):
        name = "The recording"
        data = bytes(source)
        _check_size(len(data), name, limit_s)
        channels, remarks = _decode(io.BytesIO(data), len(data), name, limit_s)
    else:
        path = Path(source).expanduser()
        name = str(path)
        with _open_file(path, limit_s) as file:
            channels, remarks = _decode(file, path.stat().st_size, name, limit_s)
    return Audio(_checked_mono(channels, name), tuple(remarks))


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
            f"{_too_long_advice(limit_s)}"
        )


def _too_long_advice(limit_s: float) -> str:
    return (
        f"Cut it to {limit_s:g} s, or allow more with --limit-s (limit_s in Python), "
        f"for instance {2 * limit_s:g}."
    )


def _check_duration(duration_s: float, name: str, limit_s: float) -> None:
    if duration_s > limit_s:
        raise InputError(
            f"{name} is {_clock(duration_s)} long; up to {limit_s:g} s are listened to. "
            f"{_too_long_advice(limit_s)}"
        )


def _clock(duration_s: float) -> str:
    if duration_s < 120:
        return f"{duration_s:.1f} s"
    hours, rest = divmod(round(duration_s), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d} h"


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
    _check_duration(max(array.shape) / rate_hz, "The array", limit_s)
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


def _decode(file: BinaryIO, size: int, name: str, limit_s: float) -> tuple[np.ndarray, list[str]]:
    """Decode the first sound track of a file -> (channels, n) at 16 kHz, and remarks."""
    import av

    head = file.read(8)
    file.seek(0)
    try:
        container = av.open(file, "r", options={"format_whitelist": CONTAINERS}, **_odd_tags())
    except (av.FFmpegError, OSError, ValueError, OverflowError) as error:
        raise InputError(
            f"{name} is not a sound file that can be read ({_reason(error)}). "
            "Expected wav, mp3, m4a, ogg, webm, flac, or a film (mp4, mov) with sound."
        ) from error
    with container:
        if not container.streams.audio:
            raise InputError(f"{name} has no sound track. Give a recording, or a film with sound.")
        declared_s = _declared_duration(container)
        if declared_s is not None:
            _check_duration(declared_s, name, limit_s)
        channels, remarks = _decode_stream(container, name, limit_s, declared_s)
        if not remarks and _is_cut_wav(head, size):
            remarks.append(
                f"{name} ends early: {size} bytes of {_riff_size(head)} are there and were used."
            )
        return channels, remarks


def _odd_tags() -> dict[str, Any]:
    """Options with which PyAV reads on where a tag is in an odd encoding; 19 does without."""
    import av

    return {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}


def _declared_duration(container: InputContainer) -> float | None:
    """What the header claims (for wav: as far as the file's size allows), if anything."""
    import av

    stream = container.streams.audio[0]
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None:
        return container.duration / av.time_base
    return None


def _riff_size(head: bytes) -> int:
    return int.from_bytes(head[4:8], "little") + 8


def _is_cut_wav(head: bytes, size: int) -> bool:
    """FFmpeg quietly plays what is there of a wav. Recorders that stream claim 4 GiB or nothing."""
    return head[:4] == b"RIFF" and size + 1 < _riff_size(head) < 2**32 - 2**16


def _decode_stream(
    container: InputContainer, name: str, limit_s: float, declared_s: float | None
) -> tuple[np.ndarray, list[str]]:
    parts: list[np.ndarray] = []
    n_samples = 0
    faults: list[str] = []
    for frame in _frames(container, faults):
        parts.append(frame.to_ndarray())
        n_samples += parts[-1].shape[1]
        # A live recording (webm from a browser) declares no duration: count while decoding.
        _check_duration(n_samples / RATE_HZ, name, limit_s)
    if not n_samples:
        raise InputError(
            f"{name} holds no sound that can be decoded"
            f"{f' ({faults[-1]})' if faults else ''}. Record it again."
        )
    remarks, decoded_s = [], n_samples / RATE_HZ
    if faults:
        remarks.append(
            f"{name} is damaged ({faults[-1]}); the {decoded_s:.1f} s that could be decoded "
            "were used."
        )
    elif declared_s is not None and decoded_s < 0.9 * declared_s - 0.2:
        remarks.append(
            f"{name} ends early: {decoded_s:.1f} s of {_clock(declared_s)} are there and were used."
        )
    n_channels = max(len(part) for part in parts)
    return np.concatenate([_with_channels(part, n_channels) for part in parts], axis=1), remarks


def _frames(container: InputContainer, faults: list[str]) -> Iterator[AudioFrame]:
    """Resampled frames, planar float; broken packets are skipped, their faults noted."""
    import av
    from av.audio.resampler import AudioResampler

    broken = (av.FFmpegError, ValueError, OverflowError)
    packets = container.demux(container.streams.audio[0])
    resampler, shape = None, None
    while True:
        try:
            packet = next(packets, None)
        except (*broken, OSError) as error:  # what follows cannot be found
            faults.append(_reason(error))
            break
        if packet is None:
            break
        try:
            frames = packet.decode()
        except broken as error:
            faults.append(_reason(error))
            continue
        for frame in frames:
            if not SLOWEST_HZ <= frame.sample_rate <= FASTEST_HZ or not frame.samples:
                faults.append(f"a rate of {frame.sample_rate} Hz")
                continue
            frame.pts = None  # damaged time stamps must not make the resampler invent silence
            if shape != (frame.format.name, frame.layout.name, frame.sample_rate):
                if resampler is not None:
                    yield from resampler.resample(None)
                shape = (frame.format.name, frame.layout.name, frame.sample_rate)
                resampler = AudioResampler(format="fltp", layout=frame.layout, rate=RATE_HZ)
            assert resampler is not None
            try:
                yield from resampler.resample(frame)
            except broken as error:
                faults.append(_reason(error))
                resampler, shape = None, None
    if resampler is not None:
        yield from resampler.resample(None)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _with_channels(part: np.ndarray, n_channels: int) -> np.ndarray:
    """A file may change from mono to stereo midway: repeat what there is."""
    return part[np.arange(n_channels) % len(part)]


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
    peaks = np.abs(channels).max(axis=1)
    if peaks.max() < SILENCE:
        raise InputError(
            f"Nothing was said: {name} is silent for all its "
            f"{channels.shape[1] / RATE_HZ:.1f} s. Check the microphone and record again."
        )
    mono = channels.mean(axis=0, dtype=np.float64)
    powers = np.square(channels, dtype=np.float64).mean(axis=1)
    if np.square(mono).mean() < powers.max() / len(channels) ** 2 / 4:
        mono = channels[int(powers.argmax())].astype(np.float64)
    return (mono / max(1.0, np.abs(mono).max())).astype(np.float32)


def loudness_db(samples: np.ndarray) -> float:
    """Return the level of the louder parts (95th percentile of 30 ms) in dB below full scale."""
    frame = 480  # samples in 30 ms
    padded = np.pad(samples, (0, -len(samples) % frame)).reshape(-1, frame)
    power = float(np.percentile(np.square(padded, dtype=np.float64).mean(axis=1), 95))
    return 10 * math.log10(max(power, 1e-12))


def normalise(samples: np.ndarray, target_db: float = -20.0) -> np.ndarray:
    """Bring speech to the level that Silero and Whisper know; clicks above full scale are cut.

    Source: -20 dB below full scale is the usual level of speech corpora (ITU-T P.56 practice).
    """
    gain = 10 ** ((target_db - loudness_db(samples)) / 20)
    return np.clip(samples * np.float32(gain), -1, 1)

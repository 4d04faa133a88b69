"""A file with sound in it -> the samples of one of its tracks, or the true reason why not.

FFmpeg does the decoding, from inside PyAV's wheel: nothing has to be installed on the system. How
long a recording is, is counted while it is decoded: what a header says is often an estimate.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from s2i_lib.errors import InputError
from s2i_lib.speech.level import RATE_HZ, SILENCE_DB, loudness_db

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.container.streams import StreamContainer

FASTEST_HZ = 384_000
SLOWEST_HZ = 4_000
# Only these are tried. Playlists (which name other files and addresses), pictures, subtitles and
# text stay outside, although FFmpeg would open them.
CONTAINERS = (
    "wav,w64,aiff,au,caf,mp3,aac,flac,ogg,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,"
    "amr,avi,asf,mpegts,flv,ac3,eac3,"
    # films of older cameras and recorders, and of studios
    "mpeg,dv,mxf,nut,wtv,rm,"
    # music without loss, and of older programs and players
    "wv,tta,tak,ape,mpc,mpc8,shn,qoa,dsf,iff,dts,dtshd,truehd,mlp,oma,xwma,loas,voc,"
    # dictation, telephones, and collections of speech
    "dss,qcp,amrnb,amrwb,gsm,g722,nistsphere,sox,ircam,avr,pvf,wve,rso"
)
# Those whose header says how long they are from a count of samples, or of the last time stamp.
COUNTING = {"wav", "w64", "aiff", "au", "caf", "flac", "wv", "tta", "matroska,webm"}
COUNTING |= {"mov,mp4,m4a,3gp,3g2,mj2"}
# What people take for a recording, by how the file begins.
OTHER_FILES = {
    b"MThd": "it holds notes for instruments (MIDI), no sound",
    b"#EXTM3U": "it is a playlist, which names recordings",
    b"[playlist]": "it is a playlist, which names recordings",
    b"PK\x03\x04": "it is a zip archive",
    b"Rar!": "it is a rar archive",
    b"7z\xbc\xaf'\x1c": "it is a 7z archive",
    b"%PDF": "it is a PDF document",
    b"\x89PNG": "it is a picture",
    b"\xff\xd8\xff": "it is a picture",
    b"GIF8": "it is a picture",
    b"<!doctype": "it is a web page",
    b"<html": "it is a web page",
    b'{"': "it is text (JSON), such as a link to a document",
    b"SQLite format 3": "it is a database, such as a project of Audacity: export the sound there",
}


class NoSoundError(InputError):
    """A track holds nothing that can be decoded; another may."""


@dataclass(frozen=True)
class Track:
    """A sound track, decoded."""

    channels: np.ndarray
    """Samples at 16 kHz, shape = (channels, n)."""
    remarks: tuple[str, ...] = ()
    """Remarks as sentences: the file ends early, parts were damaged."""

    @property
    def level_db(self) -> float:
        return max(map(loudness_db, self.channels))


def decode_file(file: BinaryIO, name: str, limit_s: float) -> Track:
    """Decode the default sound track of a file; the loudest where that is silent, or not told.

    Raises
    ------
    InputError
        When it is no sound file, has no sound track that can be decoded, or is too long.
    """
    with _open(file, name) as container:
        groups = _by_default(container.streams)
    if not any(groups):
        raise InputError(f"{name} has no sound track. Give a recording, or a film with sound.")
    tracks: list[Track] = []
    failures: list[NoSoundError] = []
    n_tracks = sum(map(len, groups))
    for group in groups:
        found = {}
        for number in group:
            try:
                found[number] = _decode_track(file, number, name, limit_s)
            except NoSoundError as failure:
                failures.append(failure)
        tracks += found.values()
        if not found or n_tracks == 1:
            continue
        best = max(found, key=lambda number: found[number].level_db)
        if found[best].level_db <= SILENCE_DB:
            continue
        if group is groups[0]:
            return found[best]
        remark = f"The default sound track of {name} is silent, so number {best + 1} was heard."
        return replace(found[best], remarks=(*found[best].remarks, remark))
    if not tracks:
        raise failures[0]
    return tracks[0]


def _by_default(streams: StreamContainer) -> list[list[int]]:
    """Return the numbers of the sound tracks in groups: the default one first, if one is."""
    from av.stream import Disposition

    numbers = list(range(len(streams.audio)))
    default = [n for n in numbers if streams.audio[n].disposition & Disposition.default]
    if len(default) != 1:
        return [numbers]
    return [default, [n for n in numbers if n not in default]]


def _open(file: BinaryIO, name: str) -> InputContainer:
    import av

    file.seek(0)
    try:
        return av.open(file, "r", options={"format_whitelist": CONTAINERS}, **_odd_tags())
    except (av.FFmpegError, OSError, ValueError, OverflowError) as error:
        reason = _what_it_is(file) or _reason(error)
        if isinstance(error, av.ArgumentError):  # FFmpeg knows it, and it is none of CONTAINERS
            reason = _what_it_is(file) or "its format is none that speech is recorded in"
        raise InputError(
            f"{name} is not a sound file that can be read ({reason}). "
            "Expected wav, mp3, m4a, ogg, webm, flac, or a film (mp4, mov) with sound."
        ) from error


def _odd_tags() -> dict[str, Any]:
    """Options with which PyAV reads on where a tag is in an odd encoding; 19 does without."""
    import av

    return {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}


def _what_it_is(file: BinaryIO) -> str | None:
    """Return what a file that is no sound is, or what it lacks, where its beginning says so."""
    file.seek(0)
    head = file.read(64)
    if head[4:8] in (b"ftyp", b"mdat", b"wide", b"moov"):
        return (
            "its index is missing, which is written when a recording is stopped: the recording was "
            "interrupted, or the file is not whole"
        )
    head = head.lower()
    return next(
        (what for start, what in OTHER_FILES.items() if head.startswith(start.lower())), None
    )


def _decode_track(file: BinaryIO, number: int, name: str, limit_s: float) -> Track:
    with _open(file, name) as container:
        stream = container.streams.audio[number]
        declared_s = _declared_duration(container, stream)
        if stream.codec_context is None:
            raise NoSoundError(
                f"The sound of {name} is in a format that cannot be decoded, or copy-protected. "
                "Convert it to wav, mp3 or m4a."
            )
        parts: list[np.ndarray] = []
        faults: list[str] = []
        n_samples = 0
        for frame in _frames(container, stream, faults):
            parts.append(_samples(frame))
            n_samples += parts[-1].shape[1]
            if n_samples > limit_s * RATE_HZ:
                told_s = declared_s or 0.0
                length = clock(told_s) if told_s > limit_s else f"more than {limit_s:g} s"
                raise too_long(length, name, limit_s)
    if not n_samples:
        raise NoSoundError(
            f"{name} holds no sound that can be decoded"
            f"{f' ({faults[-1]})' if faults else ''}. Record it again."
        )
    n_channels = max(len(part) for part in parts)
    channels = np.concatenate([_with_channels(part, n_channels) for part in parts], axis=1)
    return Track(channels, _remarks(file, name, n_samples / RATE_HZ, declared_s, faults))


def _declared_duration(container: InputContainer, stream: AudioStream) -> float | None:
    """Return what the header counts (for wav: as far as the file's size allows), if it counts.

    Matroska gives the last time stamp of all tracks, which may begin late.
    """
    import av

    coded = stream.codec_context is not None and not stream.codec_context.name.startswith("pcm_")
    if container.format.name not in COUNTING or (container.format.name == "wav" and coded):
        return None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return (container.duration - (container.start_time or 0)) / av.time_base
    return None


def _remarks(
    file: BinaryIO, name: str, decoded_s: float, declared_s: float | None, faults: list[str]
) -> tuple[str, ...]:
    """Return what the user should know about a track that was decoded."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(8)
    if faults:
        return (
            f"{name} is damaged ({faults[-1]}); the {decoded_s:.1f} s that could be decoded were "
            "used.",
        )
    if declared_s is not None and decoded_s < 0.9 * declared_s - 0.2:
        return (
            f"{name} ends early: {decoded_s:.1f} s of {clock(declared_s)} are there and were used.",
        )
    if _is_cut_wav(head, size):
        return (f"{name} ends early: {size} bytes of {_riff_size(head)} are there and were used.",)
    return ()


def too_long(length: str, name: str, limit_s: float) -> InputError:
    return InputError(
        f"{name} is {length} long; up to {limit_s:g} s are listened to. {longer_advice(limit_s)}"
    )


def longer_advice(limit_s: float) -> str:
    return (
        f"Cut it to {limit_s:g} s, or allow more with --limit-s (limit_s in Python), "
        f"for instance {2 * limit_s:g}."
    )


def clock(duration_s: float) -> str:
    if duration_s < 120:
        return f"{duration_s:.1f} s"
    hours, rest = divmod(round(duration_s), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d} h"


def _riff_size(head: bytes) -> int:
    return int.from_bytes(head[4:8], "little") + 8


def _is_cut_wav(head: bytes, size: int) -> bool:
    """FFmpeg quietly plays what is there of a wav. Recorders that stream claim 4 GiB or nothing."""
    return head[:4] == b"RIFF" and size + 1 < _riff_size(head) < 2**32 - 2**16


def _frames(
    container: InputContainer, stream: AudioStream, faults: list[str]
) -> Iterator[AudioFrame]:
    """Resampled frames, packed float; broken packets are skipped, their faults noted."""
    import av
    from av.audio.resampler import AudioResampler

    broken = (av.FFmpegError, ValueError, OverflowError)
    packets = container.demux(stream)
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
                resampler = AudioResampler(format="flt", layout=frame.layout, rate=RATE_HZ)
            assert resampler is not None
            try:
                yield from resampler.resample(frame)
            except broken as error:
                faults.append(_reason(error))
                resampler, shape = None, None
    if resampler is not None:
        yield from resampler.resample(None)


def _samples(frame: AudioFrame) -> np.ndarray:
    """Return the samples of a packed frame, shape = (channels, n).

    Of a planar one of 8 or 16 channels PyAV 18 reads planes beyond the last, and the process ends.
    """
    return frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _with_channels(part: np.ndarray, n_channels: int) -> np.ndarray:
    """A file may change from mono to stereo midway: repeat what there is."""
    return part[np.arange(n_channels) % len(part)]

"""Sound files of every kind for the tests, from one recording, and sentences by flite's voices."""

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

JFK = Path(__file__).parent / "data" / "jfk.flac"

# name, codec, rate in Hz, layout: what people's phones, browsers and recorders write
KINDS = {
    "wav_8k_u8": ("a.wav", "pcm_u8", 8_000, "mono"),
    "wav_16k_s16": ("a.wav", "pcm_s16le", 16_000, "mono"),
    "wav_44k_s24_stereo": ("a.wav", "pcm_s24le", 44_100, "stereo"),
    "wav_48k_s32": ("a.wav", "pcm_s32le", 48_000, "mono"),
    "wav_96k_float": ("a.wav", "pcm_f32le", 96_000, "mono"),
    "wav_48k_5.1": ("a.wav", "pcm_s16le", 48_000, "5.1"),
    "mp3": ("a.mp3", "mp3", 44_100, "stereo"),
    "m4a": ("a.m4a", "aac", 44_100, "stereo"),
    "ogg_opus": ("a.ogg", "libopus", 48_000, "mono"),
    "webm_opus": ("a.webm", "libopus", 48_000, "mono"),
    "flac": ("a.flac", "flac", 22_050, "mono"),
    "mp4_film": ("a.mp4", "aac", 48_000, "mono"),
    "mov_film": ("a.mov", "aac", 48_000, "mono"),
}


def encode(
    samples: np.ndarray,
    path: Path,
    codec: str,
    rate_hz: int,
    layout: str = "mono",
    *,
    with_video: bool = False,
    start_s: float = 0.0,
) -> Path:
    """Write ``samples`` (16 kHz mono) to ``path``; a film gets a small moving picture as well.

    The time stamps begin at ``start_s``, as of a piece that was cut out of something longer.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz)
        stream.layout = layout
        video = None
        if with_video:
            video = container.add_stream("mpeg4", rate=10)
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        formats = stream.codec_context.codec.audio_formats
        resampler = av.AudioResampler(
            format=formats[0] if formats else stream.format,
            layout=layout,
            rate=rate_hz,
            frame_size=stream.codec_context.frame_size or 1024,
        )
        source = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        source.sample_rate = 16_000
        source.time_base = Fraction(1, 16_000)
        source.pts = int(start_s * 16_000)
        for frame in [*resampler.resample(source), *resampler.resample(None)]:
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if video is not None:
            for shade in range(int(len(samples) / 1600)):
                picture = av.VideoFrame.from_ndarray(
                    np.full((64, 64, 3), shade % 256, np.uint8), format="rgb24"
                )
                container.mux(video.encode(picture))
            container.mux(video.encode(None))
    return path


def make(kind: str, samples: np.ndarray, folder: Path) -> Path:
    name, codec, rate_hz, layout = KINDS[kind]
    return encode(samples, folder / name, codec, rate_hz, layout, with_video=kind.endswith("film"))


def speak(text: str, path: Path, voice: str = "slt") -> Path:
    """Say ``text`` into a WAV file by one of flite's voices; skip the test where there is none."""
    if not shutil.which("flite"):  # `make test` installs it; who runs pytest alone may lack it
        pytest.skip(f"{text!r} was not spoken: flite is missing (apt-get install flite)")
    subprocess.run(["flite", "-voice", voice, "-t", text, "-o", path], check=True)
    return path

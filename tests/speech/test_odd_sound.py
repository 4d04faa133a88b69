"""Odd recordings that people complain of: each is heard, or refused for the true reason.

From outside: what players, phones and recorders write (Matroska's and QuickTime's track flags, the
estimates of ADTS, files whose index was never written), and the files in data/odd, made with them.
"""

import io
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from av.stream import Disposition
from sounds import JFK, encode

from s2i_lib.errors import InputError
from s2i_lib.speech.audio import load_audio, read_audio
from s2i_lib.speech.level import RATE_HZ, loudness_db
from s2i_lib.speech.windows import find_windows

ODD = Path(__file__).parents[1] / "data" / "odd"
WISH = Path(__file__).parents[2] / "s2i_lib" / "samples" / "red_car.wav"
WORDS = "red car on a yellow background"


@pytest.fixture(scope="module")
def wish():
    return load_audio(WISH)


def speech_s(audio) -> float:
    return sum(window.speech_s for window in find_windows(audio, 2.0))


def in_a_long_recording(wish, *, total_s=45, level=0.05, noise=0.0, clicks=0) -> np.ndarray:
    random = np.random.default_rng(5)
    samples = np.zeros(total_s * RATE_HZ, np.float32)
    samples += noise * random.standard_normal(len(samples)).astype(np.float32)
    for at in random.integers(len(samples) - 200, size=clicks):
        samples[at : at + 200] += random.uniform(-0.9, 0.9, 200).astype(np.float32)
    samples[20 * RATE_HZ : 20 * RATE_HZ + len(wish)] += level * wish
    return samples


# --- a short wish in a long recording ---


@pytest.mark.parametrize("mix", [{}, {"noise": 1e-4}, {"clicks": 6}, {"total_s": 58, "level": 1}])
def test_the_level_of_a_wish_is_the_same_in_a_long_recording(mix, wish):
    level = mix.get("level", 0.05)
    alone = loudness_db(level * wish)
    assert loudness_db(in_a_long_recording(wish, **mix)) == pytest.approx(alone, abs=1.5)


@pytest.mark.slow
@pytest.mark.parametrize("mix", [None, {"noise": 1e-4}, {"clicks": 6}, {"total_s": 58, "level": 1}])
def test_a_short_wish_in_a_long_recording_is_heard(mix, wish, tmp_path):
    from s2i_lib.speech.transcribe import HearOptions, hear
    from s2i_lib.storage.layout import Drive

    made = ODD / "wish_in_30s.flac" if mix is None else in_a_long_recording(wish, **mix)
    rate_hz = None if mix is None else RATE_HZ
    transcript = hear(made, HearOptions(model="tiny.en"), Drive(tmp_path), rate_hz=rate_hz)
    assert WORDS in transcript.text.lower()


# --- lengths that are estimated, time stamps that begin late ---


def with_an_estimated_length(folder, wish):
    """ADTS has no length: FFmpeg estimates it by the first packets, here of near silence."""
    samples = np.concatenate([np.zeros(8 * RATE_HZ, np.float32), load_audio(JFK)])
    path = encode(samples, folder / "a.aac", "aac", 44_100)
    with av.open(str(path)) as container:
        assert container.duration > 40e6, "the estimate is right, and this is no test"
    return path, 19.0


def begins_late(name, codec, rate_hz, **options):
    def write(folder, wish):
        return encode(wish, folder / name, codec, rate_hz, start_s=3600.0, **options), 2.1

    return write


def cut_out_of_a_stream(folder, wish):
    """The headers of an ogg, and its last pages only."""
    path = encode(np.tile(load_audio(JFK), 4), folder / "a.opus", "libopus", 48_000)
    pages = path.read_bytes().split(b"OggS")[1:]
    path.write_bytes(b"".join(b"OggS" + page for page in (*pages[:2], *pages[-12:])))
    return path, None


LENGTHS = {
    "estimated": with_an_estimated_length,
    "cut out of a stream": cut_out_of_a_stream,
    "webm": lambda folder, wish: (ODD / "starts_at_1h.webm", 2.1),
    "mkv": begins_late("a.mkv", "aac", 44_100),
    "ts": begins_late("a.ts", "mp2", 44_100),
    "mp4": begins_late("a.mp4", "aac", 44_100),
    "flv": begins_late("a.flv", "aac", 44_100),
    "film": begins_late("b.mkv", "aac", 44_100, with_video=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LENGTHS)
def test_a_recording_is_as_long_as_what_can_be_decoded_of_it(kind, wish, tmp_path):
    path, length_s = LENGTHS[kind](tmp_path, wish)
    audio = read_audio(path, limit_s=20)
    assert audio.remarks == ()
    if length_s:
        assert audio.duration_s == pytest.approx(length_s, abs=0.2)
    assert speech_s(audio) > 1.5


def test_what_is_too_long_is_still_refused_whatever_the_header_says(wish, tmp_path):
    path, _ = with_an_estimated_length(tmp_path, wish)
    with pytest.raises(InputError, match="more than 5 s long; up to 5 s"):
        read_audio(path, limit_s=5)


# --- several sound tracks ---


def two_tracks(path, tracks, default):
    """Write sound tracks of which ``default`` have the flag."""
    with av.open(str(path), "w") as container:
        streams = []
        for number, samples in enumerate(tracks):
            stream = container.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono")
            stream.disposition = Disposition.default if number in default else Disposition(0)
            streams.append((stream, samples))
        for stream, samples in streams:
            pcm = (np.clip(samples, -1, 1) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE_HZ, 0
            container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def tone(seconds: float, level: float) -> np.ndarray:
    return level * np.sin(2 * np.pi * 440 * np.arange(int(seconds * RATE_HZ)) / RATE_HZ)


@pytest.mark.parametrize(
    ("levels", "default"),
    [
        ((0.0, 0.5), [1]),
        ((0.9, 0.1), [1]),  # the default one, though another is louder
        ((0.1, 0.9), []),
        ((0.1, 0.9), [0, 1]),  # who flags all flags none
        ((0.0, 0.5), [0]),  # a silent default one
        ((0.0, 0.1, 0.5), [0]),
    ],
)
def test_the_default_sound_track_is_heard_else_the_loudest(levels, default, tmp_path):
    tracks = [tone(2 + number, level) for number, level in enumerate(levels)]
    audio = read_audio(two_tracks(tmp_path / "a.mkv", tracks, default))
    assert audio.duration_s == pytest.approx(len(tracks[-1]) / RATE_HZ, abs=0.05)
    assert bool(audio.remarks) == (default == [0])


def test_the_second_track_of_a_camera_is_heard_where_it_is_the_default():
    assert speech_s(read_audio(ODD / "default_is_second.mkv")) > 1.5


def test_a_track_that_cannot_be_decoded_does_not_hide_another(wish, tmp_path):
    """Phones of 2024 write spatial sound ("apac"), which FFmpeg does not know, beside the usual."""
    path = two_tracks(tmp_path / "a.mov", [wish, wish], [0])
    data = path.read_bytes()
    for patched in (data.replace(b"sowt", b"zzzz", 1), data.replace(b"sowt", b"zzzz")):
        if b"sowt" in patched:
            assert speech_s(read_audio(patched)) > 1.5
        else:
            with pytest.raises(InputError, match="cannot be decoded"):
                read_audio(patched)


# --- other containers ---

CONTAINERS = {
    "a.mpg": "mp2", "a.vob": "ac3", "a.wv": "wavpack", "a.tta": "tta", "a.voc": "pcm_u8",
    "a.rm": "ac3", "a.wtv": "mp2", "a.latm": "aac", "a.sox": "pcm_s32le",
    "a.sf": "pcm_s16le", "a.g722": "g722", "a.rso": "pcm_u8",
}  # fmt: skip


RATES_HZ = {"a.vob": 48_000, "a.g722": 16_000}


@pytest.mark.parametrize("name", CONTAINERS)
def test_other_containers_are_read(name, wish, tmp_path):
    path = encode(wish, tmp_path / name, CONTAINERS[name], RATES_HZ.get(name, 44_100))
    assert speech_s(read_audio(path)) > 1.5


@pytest.mark.parametrize("name", ["cam.mpg", "a.wv"])
def test_files_of_cameras_and_players_are_read(name):
    assert speech_s(read_audio(ODD / name)) > 1.5


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk", "MIDI"),
        (b"PK\3\4" + bytes(100), "zip archive"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"<!doctype html><html></html>", "web page"),
        (b'{"url": "https://docs.google.com/open?id=1"}', "a link to a document"),
        (b"SQLite format 3\0" + bytes(2000), "a project of Audacity"),
        (b"#EXTM3U\nhttp://example.org/a.mp3\n", "playlist"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_recording_is_named(data, reason):
    with pytest.raises(InputError, match=f"is not a sound file that can be read .*{reason}"):
        read_audio(data)


def test_a_container_that_no_recorder_writes_is_refused_for_that_reason(wish, tmp_path):
    """As of ringing tones (mmf), which FFmpeg would read."""
    with pytest.raises(InputError, match="its format is none that speech is recorded in"):
        read_audio(encode(wish, tmp_path / "a.mmf", "adpcm_yamaha", 8_000))


# --- technical faults ---


def without_its_index(folder, wish):
    data = encode(wish, folder / "a.m4a", "aac", 44_100).read_bytes()
    return data[: data.index(b"moov") - 4]


@pytest.mark.parametrize("part", [1.0, 0.5])
def test_a_recording_that_was_never_ended_is_refused_for_that_reason(part, wish, tmp_path):
    data = without_its_index(tmp_path, wish)
    with pytest.raises(InputError, match=r"its index is missing.*interrupted"):
        read_audio(data[: int(part * len(data))])


def as_wav(samples, subtype="PCM_16") -> bytearray:
    with io.BytesIO() as file:
        soundfile.write(file, samples, RATE_HZ, format="WAV", subtype=subtype)
        return bytearray(file.getvalue())


def never_closed(wish):
    data = as_wav(wish)
    data[4:8] = data[40:44] = bytes(4)
    return bytes(data)


FAULTS = {
    "offset": lambda wish: as_wav(0.05 * wish + 0.6),
    "drifting offset": lambda wish: as_wav(0.05 * wish + np.linspace(-0.8, 0.8, len(wish))),
    "offset that jumps": lambda wish: as_wav(0.05 * wish + 0.7 * (np.arange(len(wish)) > 9000)),
    "one channel is an offset": lambda wish: as_wav(np.stack([0.02 * wish, 0 * wish + 0.9], 1)),
    "cut off at the peaks": lambda wish: as_wav(np.clip(30 * wish, -0.3, 0.3)),
    "beyond full scale": lambda wish: as_wav(32_768 * wish, "FLOAT"),
    "never closed": never_closed,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_recordings_with_technical_faults_are_heard(fault, wish):
    audio = read_audio(bytes(FAULTS[fault](wish)))
    assert speech_s(audio) > 1.5
    quiet = loudness_db(audio.samples) - 20 * np.log10(np.abs(audio.samples).max())
    assert quiet > -30, "an offset must not take the room of the speech"


@pytest.mark.slow
@pytest.mark.parametrize("n_channels", [8, 16, 24])
def test_recorders_of_many_tracks_are_heard_without_a_crash(n_channels, wish, tmp_path):
    """One microphone of many is on. PyAV read beyond the last, which ended the process."""
    path = tmp_path / "field.wav"
    channels = np.zeros((len(wish), n_channels), np.float32)
    channels[:, n_channels - 1] = wish
    soundfile.write(path, channels, RATE_HZ, subtype="PCM_16")
    code = (
        "import sys; from s2i_lib.speech.audio import read_audio;"
        "print(len(read_audio(sys.argv[1]).samples))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, str(len(wish))), done.stderr[-500:]
    heard = load_audio(path)
    assert np.corrcoef(heard, wish)[0, 1] > 0.99


def test_an_offset_alone_is_silence():
    with pytest.raises(InputError, match="silent"):
        read_audio(np.full(2 * RATE_HZ, 0.5, np.float32), rate_hz=RATE_HZ)


# --- a language that the model does not know ---


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 2])
def test_what_is_not_english_is_doubted_by_a_model_that_knows_no_other(number, tmp_path):
    """Mandarin: a red car on yellow, a cat on a sofa, a dog on a beach under a blue sky."""
    from s2i_lib.speech.transcribe import HearOptions, hear
    from s2i_lib.storage.layout import Drive

    clip = ODD / f"mandarin_{number}.opus"
    transcript = hear(clip, HearOptions(model="tiny.en"), Drive(tmp_path))
    assert transcript.language_doubt.startswith("This does not sound like English")
    assert "understands English only" in transcript.language_doubt
    english = hear(WISH, HearOptions(model="tiny.en"), Drive(tmp_path))
    assert english.doubts == ()

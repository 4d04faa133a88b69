"""Any recording becomes 16 kHz mono; what cannot be used is refused in one paragraph, and fast."""

import io
import itertools
import struct
import time
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from sounds import JFK, KINDS, encode, make

from s2i_lib.errors import InputError
from s2i_lib.speech.audio import load_audio, read_audio
from s2i_lib.speech.level import RATE_HZ, normalise


@pytest.fixture(scope="module")
def speech():
    return load_audio(JFK)[: 4 * RATE_HZ]


def correlation(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Of the envelopes in 50 ms steps: blind to a codec's delay and phase, not to wrong speed."""
    n = min(len(ours), len(theirs)) // 800 * 800
    a, b = (np.sqrt(np.square(x[:n]).reshape(-1, 800).mean(axis=1)) for x in (ours, theirs))
    return float(np.corrcoef(a, b)[0, 1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_sounds_the_same(kind, speech, tmp_path):
    path = make(kind, speech, tmp_path)
    from_file, from_bytes = load_audio(path), load_audio(path.read_bytes())
    assert from_file.dtype == np.float32
    assert from_file.ndim == 1
    assert abs(len(from_file) - len(speech)) < 0.15 * RATE_HZ
    assert correlation(from_file, speech) > 0.98
    assert np.array_equal(from_file, from_bytes)


@pytest.mark.parametrize("shape", ["(n,)", "(n, 2)", "(2, n)"])
@pytest.mark.parametrize("dtype", ["int16", "int32", "uint8", "float32", "float64"])
def test_arrays_of_every_type_sound_the_same(shape, dtype, speech):
    rate_hz = 48_000
    loud = np.interp(np.arange(len(speech) * 3) / 3, np.arange(len(speech)), speech)
    if dtype == "uint8":
        array = (loud * 127 + 128).astype(np.uint8)
    elif dtype.startswith("int"):
        array = (loud * (np.iinfo(dtype).max - 1)).astype(dtype)
    else:
        array = loud.astype(dtype)
    if shape != "(n,)":
        array = np.stack([array, array], axis=1 if shape == "(n, 2)" else 0)
    assert correlation(load_audio(array, rate_hz=rate_hz), speech) > 0.98


def test_microphones_wired_against_each_other_do_not_cancel(speech):
    both = np.stack([speech, -speech])
    assert correlation(load_audio(both, rate_hz=RATE_HZ), speech) > 0.999


def test_loudness_does_not_depend_on_the_microphone(speech):
    quiet, loud = normalise(speech * 0.003), normalise(speech)
    assert np.abs(quiet - loud).max() < 0.01


def with_nan(folder, speech):
    broken = speech.copy()
    broken[1000:1010] = np.nan
    soundfile.write(folder / "nan.wav", broken, RATE_HZ, subtype="FLOAT")
    return folder / "nan.wav"


def film_without_sound(folder, speech):
    with av.open(str(folder / "mute.mp4"), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(video.encode(picture))
        container.mux(video.encode(None))
    return folder / "mute.mp4"


def written(name, data):
    def write(folder, speech):
        (folder / name).write_bytes(data)
        return folder / name

    return write


def too_long(folder, speech):
    soundfile.write(folder / "long.flac", np.tile(speech, 20), RATE_HZ)
    return folder / "long.flac"


def long_live_recording(folder, speech):
    """A webm as browsers write it while recording: no duration in its header."""
    path = make("webm_opus", np.tile(speech, 20), folder)
    data = path.read_bytes()
    at = data.index(b"\x44\x89\x88")  # the element Duration, 8 bytes long -> Void
    path.write_bytes(data[:at] + b"\xec\x89" + b"\0" * 9 + data[at + 11 :])
    with av.open(str(path)) as container:
        assert container.duration is None
    return path


def playlist(folder, speech):
    soundfile.write(folder / "real.wav", speech, RATE_HZ)
    (folder / "list.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:4,\nreal.wav\n#EXT-X-ENDLIST\n"
    )
    return folder / "list.m3u8"


BAD = {
    "missing": (lambda folder, speech: folder / "none.wav", "There is no file"),
    "folder": (lambda folder, speech: folder, "is not a file"),
    "empty": (written("empty.wav", b""), "is empty"),
    "text": (written("song.wav", b"la la la\n" * 50), "is not a sound file"),
    "picture": (
        written("a.png", (Path(__file__).parents[1] / "data" / "dot.png").read_bytes()),
        "is not a sound file",
    ),
    "playlist": (playlist, "is not a sound file"),
    "header only": (written("head.wav", b"RIFF\x24\0\0\0WAVEfmt "), "is not a sound file|no sound"),
    "no sound track": (film_without_sound, "has no sound track"),
    "not a number": (with_nan, "not numbers"),
    "too long": (too_long, "80.0 s long; up to 60 s"),
    "too long, live": (long_live_recording, "long; up to 60 s"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_refused_in_one_paragraph(kind, speech, tmp_path):
    build, expected = BAD[kind]
    with pytest.raises(InputError, match=expected) as error:
        load_audio(build(tmp_path, speech))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("array", "rate_hz", "expected"),
    [
        (np.zeros(16_000), None, "need their rate"),
        (np.zeros(16_000), 16_000, "silent"),
        (np.zeros(0), 16_000, "empty"),
        (np.full(16_000, np.nan), 16_000, "not numbers"),
        (np.full(16_000, np.nan), 48_000, "not numbers"),
        (np.ones(16_000), 16, "not a rate"),
        (np.ones((10, 10, 10)), 16_000, "shape"),
        (np.ones(16_000, bool), 16_000, "type bool"),
        (np.ones(61 * 16_000), 16_000, "61.0 s long"),
    ],
)
def test_bad_arrays_are_refused(array, rate_hz, expected):
    with pytest.raises(InputError, match=expected):
        load_audio(array, rate_hz=rate_hz)


def test_ten_hours_are_refused_within_a_second(tmp_path):
    path = tmp_path / "night.wav"
    n_bytes = 10 * 3600 * 8000 * 2
    with path.open("wb") as file:
        file.write(
            b"RIFF" + struct.pack("<I", n_bytes + 36) + b"WAVEfmt "
            + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16_000, 2, 16)
            + b"data" + struct.pack("<I", n_bytes)
        )  # fmt: skip
        file.truncate(n_bytes + 44)
    started = time.perf_counter()
    with pytest.raises(InputError, match=r"10:00:00 h long; up to 60 s"):
        load_audio(path)
    assert time.perf_counter() - started < 1


def test_longer_recordings_are_allowed_on_request(speech, tmp_path):
    assert len(load_audio(too_long(tmp_path, speech), limit_s=120)) == 80 * RATE_HZ


@pytest.mark.parametrize("kind", ["wav_16k_s16", "mp3", "aac", "webm_opus", "flac"])
def test_truncated_files_give_what_is_there_and_say_so(kind, speech, tmp_path):
    if kind == "aac":
        path = encode(speech, tmp_path / "a.aac", "aac", 44_100)
    else:
        path = make(kind, speech, tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    audio = read_audio(path)
    assert 1 < audio.duration_s < 3
    assert correlation(audio.samples, speech) > 0.9  # aac starts 46 ms late here
    if kind != "mp3":  # a stream of packets, without a length: nobody can tell
        assert any("early" in remark or "damaged" in remark for remark in audio.remarks)


def corruptions(data: bytes, count: int):
    """Flipped bits, runs of noise, holes, swaps, cuts; the header is hit as often as the rest."""
    random = np.random.default_rng(7)
    for number in range(count):
        broken = bytearray(data)
        end = len(broken) if number % 2 else min(400, len(broken))
        at = int(random.integers(end))
        size = int(random.integers(1, 200))
        match number % 5:
            case 0:
                for place in random.integers(end, size=20):
                    broken[place] ^= 1 << int(random.integers(8))
            case 1:
                broken[at : at + size] = random.bytes(size)
            case 2:
                del broken[at : at + size]
            case 3:
                broken[at : at + size] = b"\xff" * size
            case 4:
                del broken[at:]
        yield bytes(broken)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_corrupted_files_decode_or_are_refused(speech, full, tmp_path):
    kinds = ["wav_16k_s16", "mp3", "m4a", "webm_opus", "flac", "ogg_opus"]
    each = 50 if full else 10  # 300 in `make full`
    outcomes = {"decoded": 0, "refused": 0}
    for kind in kinds:
        data = make(kind, speech[:RATE_HZ], tmp_path).read_bytes()
        for broken in corruptions(data, each):
            started = time.perf_counter()
            try:
                samples = load_audio(broken)
            except InputError:
                outcomes["refused"] += 1
            else:
                outcomes["decoded"] += 1
                assert np.isfinite(samples).all()
                assert np.abs(samples).max() <= 1
            assert time.perf_counter() - started < 10
    assert sum(outcomes.values()) == each * len(kinds)
    assert min(outcomes.values()) > 0, outcomes  # or the corruption is no test


def test_a_tag_in_an_odd_encoding_does_not_stop_the_reading(speech):
    """As a recorder of 2005 writes it: RIFF's INFO chunk has no encoding, and this is Latin-1."""
    with io.BytesIO() as file:
        soundfile.write(file, speech, RATE_HZ, format="WAV")
        data = file.getvalue()
    title = "Café naïve".encode("latin-1")
    info = b"INFOINAM" + struct.pack("<I", len(title)) + title
    tagged = data[:12] + b"LIST" + struct.pack("<I", len(info)) + info + data[12:]
    whole = tagged[:4] + struct.pack("<I", len(tagged) - 8) + tagged[8:]
    assert np.array_equal(load_audio(whole), load_audio(data))


def test_wav_whose_header_promises_too_much_is_used(speech):
    """Recorders that stream leave the length open (0xFFFFFFFF)."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((speech * 32767).astype("<i2").tobytes())
    data = bytearray(buffer.getvalue())
    data[4:8] = data[40:44] = b"\xff" * 4
    audio = read_audio(bytes(data))
    assert correlation(audio.samples, speech) > 0.999
    assert audio.remarks == ()


def test_files_of_changing_shape_are_used_whole(speech, tmp_path):
    """Two mp3 files in a row, stereo after mono: players play both, and so does this."""
    parts = [
        encode(speech[:RATE_HZ], tmp_path / f"{layout}.mp3", "mp3", 44_100, layout).read_bytes()
        for layout in ("mono", "stereo")
    ]
    assert len(load_audio(b"".join(itertools.chain(parts)))) > 1.8 * RATE_HZ

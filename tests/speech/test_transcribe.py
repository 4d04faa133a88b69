"""Hearing with real weights: the words are right in both engines, and nothing is made up."""

from pathlib import Path

import jiwer
import numpy as np
import pytest
from huggingface_hub import constants

from s2i_lib.errors import InputError, S2iError
from s2i_lib.speech.audio import RATE_HZ, load_audio
from s2i_lib.speech.transcribe import HearOptions, Listener, hear
from s2i_lib.speech.transcript import Transcript
from s2i_lib.storage.layout import Drive

JFK = Path(__file__).parents[1] / "data" / "jfk.flac"
RED_CAR = Path(__file__).parents[2] / "s2i_lib" / "samples" / "red_car.wav"
JFK_WORDS = (
    "and so my fellow americans ask not what your country can do for you "
    "ask what you can do for your country"
)


def plain(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum() or c == " ")


SLOW_OPENAI = pytest.param("openai-whisper", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=["faster-whisper", SLOW_OPENAI])
def listener(request, tmp_path_factory):
    drive = Drive(tmp_path_factory.mktemp("drive"))
    return Listener(HearOptions(engine=request.param, model="tiny.en"), drive).load()


@pytest.mark.slow
def test_kennedys_sentence_is_heard(listener):
    transcript = listener.hear(JFK)
    assert plain(transcript.text) == JFK_WORDS
    assert transcript.english == transcript.text
    assert (transcript.language, transcript.doubts) == ("en", ())
    assert transcript.audio_s == 11.0
    assert Transcript.from_json(transcript.to_json()) == transcript


def test_shipped_clip_is_heard(listener):
    assert plain(listener.hear(RED_CAR).text) == "a red car on a yellow background"


@pytest.mark.slow
def test_words_carry_times_on_request(listener):
    options = HearOptions(engine=listener.options.engine, model="tiny.en", word_times=True)
    transcript = hear(JFK, options, listener.drive)
    words = transcript.words
    assert jiwer.wer(JFK_WORDS, plain(" ".join(word.text for word in words))) == 0
    assert all(0 <= word.start_s <= word.end_s <= 11.0 for word in words)
    country = next(word for word in words if word.text == "country")
    assert 5.5 < country.start_s < 6.5  # as the recording has it


@pytest.mark.slow
def test_speech_lost_in_noise_is_doubted(listener):
    """At -5 dB tiny.en makes up sentences; they must not pass for what was said."""
    clip = load_audio(JFK)
    noise = np.random.default_rng(0).normal(0, np.sqrt(np.square(clip).mean() * 10**0.5), len(clip))
    try:
        transcript = listener.hear(clip + noise.astype(np.float32), RATE_HZ)
    except InputError as error:
        assert "Nothing was said" in str(error)
        return
    assert jiwer.wer(JFK_WORDS, plain(transcript.text)) < 0.35 or transcript.doubts


@pytest.mark.slow
@pytest.mark.parametrize("length_s", [45, 59])
def test_a_long_clip_in_noise_takes_no_more_than_three_decodes(listener, length_s, monkeypatch):
    """Two and three windows at -9 dB, where tiny.en loops."""
    clip = np.concatenate([load_audio(JFK), np.zeros(RATE_HZ, np.float32)])
    clip = np.resize(clip, length_s * RATE_HZ)
    noise = np.random.default_rng(0).normal(0, np.sqrt(np.square(clip).mean() * 10**0.9), len(clip))
    made = []
    decode = listener._engine.decode
    monkeypatch.setattr(
        listener._engine, "decode", lambda *a, **k: made.append(decode(*a, **k)) or made[-1]
    )
    transcript = listener.hear((clip + noise).astype(np.float32), RATE_HZ)
    assert any(one.compression_ratio > 2.4 or one.avg_logprob < -1 for one in made)  # provoked
    assert len(made) == transcript.n_decodes == 3
    assert transcript.doubts


@pytest.mark.slow
def test_loudness_of_the_recording_does_not_matter(listener):
    clip = load_audio(JFK)
    assert plain(listener.hear(clip * 0.002, RATE_HZ).text) == JFK_WORDS
    clipped = plain(listener.hear(np.clip(clip * 8, -1, 1), RATE_HZ).text)
    assert jiwer.wer(JFK_WORDS, clipped) < 0.1


def test_same_recording_same_words(listener):
    first, second = listener.hear(RED_CAR), listener.hear(RED_CAR)
    assert (first.text, first.segments) == (second.text, second.segments)


@pytest.mark.parametrize("what", ["noise", "chord", "melody", "clicks"])
def test_no_speech_gives_no_words(what, tmp_path):
    time_s = np.arange(4 * RATE_HZ) / RATE_HZ
    sounds = {
        "noise": np.random.default_rng(0).normal(0, 0.1, len(time_s)),
        "chord": sum(np.sin(2 * np.pi * f * time_s) for f in (262, 330, 392)) / 4,
        "melody": np.sin(
            2 * np.pi * np.cumsum(220 * 2 ** (np.floor(time_s * 4) % 12 / 12)) / RATE_HZ
        )
        * np.exp(-4 * (time_s % 0.25)),
        "clicks": (np.arange(len(time_s)) % 8000 < 20) * 0.9,
    }
    with pytest.raises(InputError, match="Nothing was said"):
        hear(sounds[what], drive=Drive(tmp_path), rate_hz=RATE_HZ)


def test_weights_that_are_nowhere_name_every_place(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(S2iError) as error:
        hear(JFK, HearOptions(engine="faster-whisper", model="base"), Drive(tmp_path))
    for place in (str(tmp_path), "the hub's cache", "https://huggingface.co"):
        assert place in str(error.value)


def test_jfk_copy_is_loaded_whole():
    samples = load_audio(JFK)
    assert samples.dtype == np.float32
    assert samples.shape == (11 * RATE_HZ,)

"""`python -m s2i_lib hear` as a user meets it: recordings of every kind, and every bad one."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from huggingface_hub import constants
from sounds import JFK, encode

import s2i_lib
from s2i_lib.cli import main as command_line
from s2i_lib.speech.audio import RATE_HZ, load_audio

WISH = Path(s2i_lib.__file__).parent / "samples" / "red_car.wav"
JFK_WORDS = (
    "and so my fellow americans ask not what your country can do for you "
    "ask what you can do for your country"
)


def plain(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum() or c == " ")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command in this process, in an empty folder: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("S2I_DRIVE", raising=False)

    def _run(*words):
        monkeypatch.setattr(sys, "argv", ["s2i_lib", *map(str, words)])
        try:
            status = command_line.main()
        except SystemExit as stop:  # how typer ends a command that went well
            status = stop.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return _run


@pytest.mark.slow
def test_kennedy_is_heard_from_every_kind_of_file(run, tmp_path):
    samples = load_audio(JFK)
    clips = [
        JFK,
        encode(samples, tmp_path / "jfk.webm", "libopus", 48_000),
        encode(samples, tmp_path / "jfk.m4a", "aac", 44_100),
        encode(samples, tmp_path / "jfk.mp3", "mp3", 44_100),
    ]
    status, out, err = run("hear", *clips, "--json", "--words", "--model", "pocket")
    assert status == 0, err
    reports = [json.loads(line) for line in out.splitlines()]
    assert [report["clip"] for report in reports] == [str(clip) for clip in clips]
    for report in reports:
        assert plain(report["transcript"]["text"]) == JFK_WORDS
        assert report["transcript"]["segments"][0]["words"]
        assert report["prompt"]["text"]


@pytest.mark.slow
def test_openai_whisper_needs_no_network_either(run):
    status, out, err = run(
        "hear", JFK, "--engine", "openai-whisper", "--whisper", "tiny.en", "--model", "pocket",
        "--json",
    )  # fmt: skip
    assert status == 0, err
    transcript = json.loads(out)["transcript"]
    assert (plain(transcript["text"]), transcript["engine"]) == (JFK_WORDS, "openai-whisper")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["none.wav"], "There is no file"),
        (["text.wav"], "is not a sound file"),
        (["empty.wav"], "is empty"),
        (["silent.wav"], "Nothing was said"),
        (["hum.wav"], "Nothing was said"),
        (["long.wav"], "--limit-s"),
        (["jfk", "--engine", "whisper.cpp"], "There is no engine"),
        (["jfk", "--whisper", "huge"], "There is no Whisper model"),
        (["jfk", "--language", "klingon"], "Whisper knows no language"),
        (["jfk", "--language", "de", "--whisper", "tiny.en"], "hears English only"),
        (["jfk", "--language", "de", "--whisper", "turbo"], "cannot translate"),
        (["jfk", "--subject", "Rex"], "There is no subject"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_bad_input_ends_with_status_2_and_one_paragraph(words, expected, run, tmp_path):
    time_s = np.arange(2 * RATE_HZ) / RATE_HZ
    (tmp_path / "text.wav").write_text("la la la")
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE_HZ), RATE_HZ)
    soundfile.write(tmp_path / "hum.wav", 0.3 * np.sin(2 * np.pi * 220 * time_s), RATE_HZ)
    soundfile.write(tmp_path / "long.wav", np.tile(load_audio(JFK), 6), RATE_HZ)
    words = [str(JFK) if word == "jfk" else word for word in words]
    status, out, err = run("hear", *words, "--model", "pocket")
    assert (status, out) == (2, "")
    flat = " ".join(err.split())
    assert expected in flat
    assert "Traceback" not in err
    assert flat.count("Error:") == 1


@pytest.mark.slow
@pytest.mark.parametrize("command", ["hear", "speak"])
def test_bad_clips_are_reported_and_the_others_heard(command, run, tmp_path):
    (tmp_path / "text.wav").write_text("la la la")
    (tmp_path / "empty.wav").touch()
    more = [] if command == "hear" else ["--steps", 2]
    clips = [tmp_path / "text.wav", WISH, tmp_path / "empty.wav", "none.wav"]
    status, out, err = run(command, *clips, "--model", "pocket", "--json", *more)
    flat = " ".join(err.split())
    assert status == 2 and "3 of 4 clips could not be used" in flat
    for name, reason in (("text", "not a sound file"), ("empty", "empty"), ("none", "no file")):
        assert name in flat and reason in flat
    heard = [report for report in map(json.loads, out.splitlines()) if "clip" in report]
    assert [report["clip"] for report in heard] == [str(WISH)]


def test_nothing_slow_is_begun_where_all_clips_are_bad(run, tmp_path, monkeypatch):
    """Weights that are nowhere would be missed."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "text.wav").write_text("la la la")
    whisper = ("--engine", "faster-whisper", "--whisper", "base", "--model", "pocket")
    for command in ("hear", "speak"):
        status, _, err = run(command, "text.wav", "none.wav", *whisper)
        assert status == 2 and "2 of 2 clips could not be used" in " ".join(err.split())
    status, _, err = run("hear", WISH, *whisper)
    assert status == 1 and "faster-whisper-base" in err, "as it is where a clip is good"

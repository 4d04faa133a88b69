"""A name that is taught by saying it is known when it is said, and forgotten with its subject."""

import sys
from pathlib import Path

import pytest
from sounds import speak

import s2i_lib
from s2i_lib.cli import main as command_line
from s2i_lib.errors import InputError
from s2i_lib.photos.subject import Subject, load_subject
from s2i_lib.privacy import find_traces, forget
from s2i_lib.speech.prompt import make_prompt
from s2i_lib.speech.taught_names import teach_name
from s2i_lib.speech.transcribe import HearOptions, Listener
from s2i_lib.storage.layout import Drive

PHOTOS = Path(s2i_lib.__file__).parent / "samples" / "rc_car"


@pytest.fixture(scope="module")
def listener(tmp_path_factory):
    options = HearOptions(engine="faster-whisper", model="tiny.en", device="cpu")
    return Listener(options, Drive(tmp_path_factory.mktemp("drive")))


@pytest.fixture
def say(tmp_path):
    """Say a text into a WAV file, by one of flite's voices."""
    return lambda text, voice="slt": speak(text, tmp_path / f"{text[:20]} {voice}.wav", voice)


@pytest.mark.slow
def test_what_was_heard_of_a_name_counts_as_the_name_until_it_is_forgotten(say, drive, listener):
    """Their Bella is not written so by tiny.en, nor twice the same: it samples what it doubts."""
    bella = Subject("Bella", "dog")
    recordings = [say("Bella", voice) for voice in ("slt", "rms", "slt")]
    taught = teach_name(drive, bella, recordings, listener)
    assert load_subject(drive, "Bella").spellings == taught.spellings != ()
    sentences = [f"{text} on a hill" for text in taught.spellings]
    assert not all(make_prompt(said, [bella]).subjects for said in sentences)  # or why teach it
    for said in sentences:
        assert make_prompt(said, [taught]).text == "a ohwx dog on a hill"
    assert listener.options.subjects == () and listener.options.language is None
    forget(find_traces(drive, "Bella"))
    assert not [path for path in drive.root.rglob("*") if path.is_file()]


def test_a_whole_sentence_and_silence_teach_nothing_and_say_why(say, drive, listener, tmp_path):
    sentence = say("Bella is sitting on the beach in the evening")
    with pytest.raises(InputError, match=r"was not learned.*More than a name was said.*alone"):
        teach_name(drive, Subject("Bella", "dog"), [sentence], listener)
    assert not drive.subjects.exists()


@pytest.mark.slow
def test_a_name_in_another_script_says_that_english_speech_needs_its_sound(
    say, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "local"))

    def dataset(*more: object) -> str:
        command = ["s2i_lib", "dataset", PHOTOS, "--subject", "小明", "--class-noun", "car"]
        monkeypatch.setattr(sys, "argv", [*map(str, (*command, "--drive", "drive", *more))])
        try:
            assert command_line.main() == 0
        except SystemExit as stop:
            assert not stop.code
        return " ".join(capsys.readouterr().out.split())

    warning = "a spoken English sentence will not match 小明"
    assert warning in dataset()
    out = dataset("--say-name", say("Shao Ming"), "--say-name", say("Shao Ming", "rms"))
    assert warning not in out and "小明, also heard as " in out
    assert load_subject(Drive(tmp_path / "drive"), "小明").spellings

"""The product as one object: what it tells, how it is stopped, and what it remembers."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from s2i_lib.drawing.gallery import is_of, read_record
from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.registry import PACKAGE, REGISTRY
from s2i_lib.photos.subject import Subject, save_subject
from s2i_lib.pipeline import (
    Cancelled,
    Drawing,
    Heard,
    Hearing,
    Loaded,
    Loading,
    SpeechToImage,
    Understood,
    Wish,
)
from s2i_lib.pipeline.loading import ModelChoice
from s2i_lib.speech.audio import LIMIT_S, RATE_HZ, load_audio
from s2i_lib.speech.prompt import Prompt
from s2i_lib.speech.transcribe import HearOptions
from s2i_lib.speech.transcript import Transcript
from s2i_lib.speech.vocabulary import vocabulary_of
from s2i_lib.storage.json_file import load_object
from s2i_lib.storage.run_card import EDITIONS

CLIP = PACKAGE / "samples" / "red_car.wav"


def pipeline(drive, pocket, **settings) -> SpeechToImage:
    return SpeechToImage(drive, model=pocket, options=DrawOptions(steps=2), **settings)


@pytest.mark.slow
def test_recording_becomes_a_saved_picture_and_every_step_of_the_way_is_told(drive):
    told = []
    speech = SpeechToImage(
        drive, model="pocket", options=DrawOptions(steps=2), callback=told.append
    )
    wish = speech(CLIP)
    assert wish.transcript.text.lower().startswith("a red car on a yellow background")
    [path] = wish.paths
    assert path.parent == drive.creations and read_record(path)["prompt"] == wish.prompt.text
    kinds = [type(event) for event in told]
    assert kinds[:1] == [Loading] and {Loading, Loaded} <= set(kinds)
    way = [kind for kind in kinds if kind not in (Loading, Loaded)]
    assert way == [Hearing, Heard, Understood, Drawing, Drawing]
    assert told[-1].preview().size == (8, 8), "a pixel a latent"
    assert set(wish.seconds) == {"load Whisper", "hear", "load model", "draw", "save"}
    assert wish.section().clip.dtype == np.float32 and speech.last is wish


@pytest.mark.slow
def test_picture_in_five_lines_of_python(drive, pocket):
    speech = SpeechToImage(drive, model=pocket)
    wish = speech.say("a red car on a yellow background")
    assert wish.pictures[0].image.size == (128, 128) and wish.paths[0].is_file()


@pytest.mark.slow
def test_model_brings_its_own_negative_prompt_unless_another_is_given(drive, pocket):
    picky = replace(pocket, base=replace(pocket.base, negative="watermark"))
    for given, left_out in ((None, "wheels, watermark"), ("snow", "wheels, snow"), ("", "wheels")):
        [picture] = pipeline(drive, picky, negative=given).say("a red car without wheels").pictures
        assert picture.record["negative"] == left_out


@pytest.mark.parametrize("last", [Understood, Drawing])
def test_callback_ends_a_wish_and_nothing_is_saved_of_it(drive, pocket, last):
    def stop(event):
        if isinstance(event, last):
            raise Cancelled

    speech = pipeline(drive, pocket, callback=stop)
    with pytest.raises(Cancelled):
        speech.say("a red car")
    assert speech.last is None and not drive.creations.exists()
    speech.callback = lambda event: None
    assert speech.say("a red car").paths, "and the next wish is drawn"


@pytest.mark.slow
def test_last_wish_is_drawn_again_from_its_noise(drive, pocket):
    speech = pipeline(drive, pocket)
    first = speech.say("a red car")
    again = speech.again()
    assert again.pictures[0].image.tobytes() == first.pictures[0].image.tobytes()
    assert again.paths != first.paths, "nothing is written over"
    changed = speech.again(replace(first.prompt, text="a blue car"), steps=3)
    record = changed.pictures[0].record
    assert (record["seed"], record["steps"]) == (first.pictures[0].record["seed"], 3)
    assert changed.pictures[0].image.tobytes() != first.pictures[0].image.tobytes()


def test_nothing_to_draw_again_is_an_error_with_the_next_step(drive, pocket):
    with pytest.raises(InputError, match=r"no wish yet.*say"):
        pipeline(drive, pocket).again()


def test_subject_on_the_drive_is_known_by_name(drive, pocket):
    save_subject(drive, Subject("Rex", "dog"))
    speech = pipeline(drive, pocket, subject="Mia:cat:flwx")
    assert [one.name for one in speech.subjects] == ["Mia", "Rex"]
    assert speech.prompt("Mia with Rex").text == "a flwx cat with a dog"


def test_what_fails_in_the_background_is_told_to_the_wish_that_waits(drive):
    speech = SpeechToImage(drive, run="nobody/none")
    speech.load_in_background()
    with pytest.raises(InputError, match="nobody"):
        speech.say("a red car")


@pytest.mark.slow
def test_what_is_loaded_after_a_wish_has_failed_says_nothing_and_stops_no_other(drive, pocket):
    """The page would show that it loads, and no longer what went wrong."""
    told = []
    speech = SpeechToImage(drive, run="nobody/none", callback=told.append)
    with pytest.raises(InputError, match="nobody"):
        speech.say("a red car")
    assert [type(event) for event in told] == [Loading]
    speech.load_in_background()
    for thread in threading.enumerate():
        if thread.name == "load model":
            thread.join()
    assert len(told) == 1
    speech.choose("pocket")
    assert speech.say("a red car").paths, "what could not be loaded is no longer wanted"


def test_picture_that_finds_no_room_is_there_all_the_same(pocket, faulty_drive):
    from s2i_lib.storage.layout import Drive

    faulty_drive.fault("room for 2")
    speech = SpeechToImage(
        Drive(faulty_drive.path), model=pocket, options=DrawOptions(steps=1, count=2)
    )
    wish = speech.say("a red car")
    assert [path is not None for path in wish.paths] == [True, False] and len(wish.pictures) == 2
    assert wish.unsaved_seeds == [wish.pictures[1].record["seed"]]
    assert isinstance(wish.failures[0], S2iError) and "No space left" in str(wish.failures[0])


def finished_run(
    drive, name: str, *, value: float, base: str = "pocket", edition: int | None = None
) -> str:
    """A run as training leaves it, with the base model's own U-Net for weights."""
    folder = drive.runs / name
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "unet").symlink_to(PACKAGE / "pocket" / "unet")
    made_from = {"name": base, "edition": edition or EDITIONS.get(base, 1), "source": base}
    card = {"base": made_from, "scores": {"value": value}}
    card |= {"status": "finished", "subject": {"name": name.split("/")[0], "class_noun": "dog"}}
    (folder / "run.json").write_text(json.dumps(card))
    return name


@pytest.mark.slow
def test_who_is_named_is_drawn_by_the_best_run_of_it(drive):
    for name, token in (("Rex", "ohwx"), ("Mia", "flwx")):
        save_subject(drive, Subject(name, "dog", token))
    finished_run(drive, "rex/pocket-01", value=0.5)
    finished_run(drive, "rex/pocket-02", value=0.3)
    finished_run(drive, "rex/sd2-1-base-01", value=0.9, base="sd2.1-base")  # not for this machine
    finished_run(drive, "mia/pocket-01", value=0.1)
    speech = SpeechToImage(drive, options=DrawOptions(steps=1))
    wish = speech.say("Rex on a blue background")
    assert speech.run == "rex/pocket-01" == wish.pictures[0].record["run"]
    assert "Drawn with Rex's run rex/pocket-01." in wish.notes
    assert wish.prompt.text == "a ohwx dog on a blue background"
    assert speech.say("a red car").pictures[0].record["run"] == "rex/pocket-01", "it stays"
    both = speech.say("Mia with Rex")
    assert both.pictures[0].record["run"] == "mia/pocket-01"
    assert both.prompt.text == "a flwx dog with a dog"


@pytest.mark.parametrize("heard", ["Wrecks on the beach", "Luna on the beach"])
def test_a_recording_says_whose_run_draws_it_where_the_name_was_misheard(drive, pocket, heard):
    save_subject(drive, Subject("Luna", "cat"))
    exported = drive.root.parent / "exports" / "a"
    model = replace(pocket, run=str(exported), run_subject="Rex")
    speech = pipeline(drive, model)
    speech.recordings = drive.recordings
    transcript = Transcript(heard, "en", 1.0, heard, (), "faster-whisper", "tiny.en", 1.0, 0.1)
    assert speech.keep_recording(np.zeros(160, np.float32), transcript) == []
    [record] = map(load_object, drive.recordings.glob("*.json"))
    assert is_of(record, "rex") and is_of(record, "luna") == heard.startswith("Luna")


def test_recording_beyond_the_usual_limit_is_kept_and_on_the_page(drive, pocket, tmp_path):
    """How long it may be was asked when it was heard."""
    long, clip = tmp_path / "long.wav", load_audio(CLIP)
    samples = np.resize(clip, int((LIMIT_S + 30) * RATE_HZ))
    soundfile.write(long, samples, RATE_HZ)
    heard = Transcript("a red car", "en", 1.0, "a red car", (), "test", "none", 90.0, 0.1)
    speech = pipeline(drive, pocket)
    speech.recordings = drive.recordings
    assert speech.keep_recording(long, heard) == []
    [kept] = drive.recordings.glob("*.wav")
    for recording in (long, kept.read_bytes(), samples):
        wish = Wish(Prompt("a red car"), DrawOptions(), recording=recording)
        assert len(wish.section().clip) == len(samples)
    long.unlink()
    [note] = speech.keep_recording(long, heard)
    assert note.startswith("Your recording is not kept: There is no file")


def test_a_name_that_was_added_needs_no_other_weights(drive, pocket):
    speech = pipeline(drive, pocket, hearing=HearOptions(engine="faster-whisper", model="tiny.en"))
    with speech.use_listener() as first:
        assert first.is_loaded
    save_subject(drive, Subject("Rex", "dog"))
    speech.look_again()
    with speech.use_listener() as again:
        assert again is first and [one.name for one in again.options.subjects] == ["Rex"]
    speech.hearing = replace(speech.hearing, beam_size=1)
    with speech.use_listener() as other:
        words = vocabulary_of(pocket.base, subjects=speech.subjects)
        assert other is not first
        assert other.options == replace(speech.hearing, vocabulary=words)


def test_listener_is_told_the_words_of_the_model_that_will_draw(drive):
    """Before it is loaded, too: the first wish is heard meanwhile."""
    finished_run(drive, "rex/pocket-01", value=0.5)

    def told(model, run=None):
        return ModelChoice(drive, model, run, print).vocabulary(())

    pocket = vocabulary_of(REGISTRY["pocket"])
    assert told("pocket") == told("auto") == told("auto", "rex/pocket-01") == pocket
    assert told("sd2.1-base") is told("/no/such/folder") is None
    assert told("auto", "nobody/pocket-01") is None  # the wish says what is wrong with it


@pytest.mark.slow
def test_newest_run_draws_until_somebody_is_named_and_a_chosen_model_always(drive):
    save_subject(drive, Subject("Rex", "dog"))
    finished_run(drive, "rex/pocket-01", value=0.5)
    speech = SpeechToImage(drive, options=DrawOptions(steps=1))
    assert speech.say("a red car").pictures[0].record["run"] == "rex/pocket-01"
    speech.choose("pocket")
    assert speech.say("Rex in the snow").pictures[0].record["run"] is None
    assert SpeechToImage(drive, model="pocket").say("Rex").pictures[0].record["run"] is None


@pytest.mark.slow
def test_run_of_another_edition_draws_nothing_and_who_was_taught_to_it_is_to_be_taught_again(drive):
    save_subject(drive, Subject("Rex", "dog"))
    finished_run(drive, "rex/pocket-01", value=0.9, edition=1)
    speech = SpeechToImage(drive, options=DrawOptions(steps=1))
    wish = speech.say("Rex on a blue background")
    assert speech.run is None is wish.pictures[0].record["run"]
    [note] = [note for note in wish.notes if "was not taught Rex and draws any dog" in note]
    assert "rex/pocket-01 was trained on the 64 px pocket model of an earlier version" in note
    assert "Train rex again from its photos" in note and "Teach it first" not in note
    speech.choose("auto", "rex/pocket-01")
    with pytest.raises(InputError, match="64 px pocket model of an earlier version"):
        speech.say("Rex on a blue background")

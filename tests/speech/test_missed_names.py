"""Names that were heard as something else: sentences that tiny.en made of flite's voices."""

from dataclasses import replace

import pytest

from s2i_lib.photos.subject import Subject
from s2i_lib.speech.missed_names import MAX_TOLD, MissedNames
from s2i_lib.speech.transcribe import HearOptions, Listener
from s2i_lib.storage.layout import Drive
from tests.sounds import speak


def called(*names: str) -> tuple[Subject, ...]:
    return tuple(Subject(name, "dog") for name in names)


SUBJECTS = called("Rex", "Bella", "Mochi", "Theo")


def places(text: str, subjects: tuple[Subject, ...] = SUBJECTS) -> dict[str, str]:
    return {place.said: place.told for place in MissedNames(subjects, text).places}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Not she in a cup of tea.", {"Not she": ""}),
        ("Marti in a cup of tea.", {"Marti": ""}),
        ("See you climbing the mountain.", {"you": ""}),
        ("Look not blue on the moon.", {"Look not blue": "Look not blue"}),
        ("Bella and Marchi on a swing.", {"Marchi": ""}),
        ("A statue of much he made of gold.", {"much he": ""}),
        ("Marchi's hat on a chair.", {"Marchi's": ""}),
        ("A red car, Marti in it.", {"Marti": ""}),
        # What means something is told, so that it may be heard again.
        ("March in a cup of tea.", {"March": "March"}),
        ("Rose's table in a room.", {"Rose's": "Rose"}),
        ("A picture of Rose.", {"Rose": "Rose"}),
    ],
)
def test_where_a_name_could_stand_and_none_was_heard(text, expected):
    assert places(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Rex on a beach at night.",
        "A red car on a beach.",
        "A mug of Marti in the snow.",  # what is in a mug is no name
        "My dog and your cat in the snow.",
        "Roses, in a vase.",
        # Said to the conversation.
        "Make it blue.",
        "Put it on the beach.",
        "Go back to the first one.",
        "Start over.",
        "Undo.",
        "A red car, please.",
        # Several of something are no name, though they may sound as somebody's hat would.
        "Puppies in the snow.",
        "Rocks on a beach at night.",
    ],
)
def test_where_none_could(text):
    assert places(text) == {}


def test_nothing_is_left_to_hear_where_all_names_were_heard_or_nobody_has_one():
    assert places("Rex and Marchi on a beach", called("Rex")) == {}
    assert places("Rex and Marchi on a beach", called("Rex", "Rex")) == {}
    assert places("Marchi on a beach", ()) == {}


def test_a_spelling_that_was_taught_is_the_name_and_is_not_told():
    taught = (Subject("Bella", "dog", spellings=("Delo",)), *called("Theo"))
    assert places("Delo in a car.", taught) == {}
    ram = Subject("राम", "dog", spellings=("Ram",))
    assert MissedNames((ram,), "Marti in a car.").sentences == "Ram. Ram asleep."


def test_whisper_is_told_names_and_what_it_heard_there():
    missed = MissedNames(called("Rex", "Luna"), "March in the snow.")
    assert missed.sentences == "Rex and Luna. March asleep. Rex asleep. Luna asleep."
    many = called(*(f"Ab{chr(97 + i)}el" for i in range(26)))
    sentences = MissedNames(many, "March in the snow.").sentences
    assert sentences.count("asleep") == MAX_TOLD + 1
    assert places(f"{many[-1].name} on a beach", many) == {}  # known, though it is not told


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("Not she in a cup of tea.", "Mochi in the cup of tea."),
        ("See you climbing the mountain.", "Theo climbing the mountain."),
        ("Bella and Marchi on the swing.", "Bella and Mochi on the swing."),
        ("Marchi's hat on a chair.", "Mochi's hat on the chair."),
        ("A statue of much he made of gold.", "A statue of Mochi made of gold."),
    ],
)
def test_second_hearing_is_taken_where_only_a_name_has_come_in(first, again):
    assert MissedNames(SUBJECTS, first).is_better(again, 0.1)


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("Bella and Marchi on the swing.", "Mochi and Mochi on the swing."),  # Bella is gone
        ("Not she in a cup of tea.", "Not she in the cup of tea."),
        ("Marti and Bella on a swing.", "Bella and Bella on a swing."),  # no name more
        ("Marti in a red car.", "Mochi in a car."),
        ("Marti in a red car.", "Mochi in a blue car."),
        ("Marti without a hat.", "Mochi with a hat."),
        ("Marti in a red car.", "Mochi asleep in a red car."),  # which it was told
        ("Marti on a red boat.", "Marti on a Rex boat."),  # the name stands elsewhere
        ("I'm braille in the rain.", "I'm Bella in the rain."),  # an umbrella
        ("Burries on the cake.", "Bella's on the cake."),  # berries
        ("Marchi's hat on a chair.", "Mochi hat on a chair."),
    ],
)
def test_second_hearing_is_not_taken_where_anything_else_has_changed(first, again):
    assert not MissedNames(SUBJECTS, first).is_better(again, 0.1)


def test_a_name_must_be_likelier_but_where_nobody_says_what_was_heard():
    somebody = MissedNames(called("Jim"), "Tim on a beach.")
    assert somebody.is_better("Jim on a beach.", 0.06)
    assert not somebody.is_better("Jim on a beach.", 0.04)
    nobody = MissedNames(SUBJECTS, "Not she in a car.")
    assert nobody.is_better("Mochi in a car.", -0.04)
    assert not nobody.is_better("Mochi in a car.", -0.06)


@pytest.mark.parametrize(
    "name", ["राम", "小明", "(.*)[", "O'Neil's", "!!!", "Mr. Whiskers the Third", "a", "Undo"]
)
def test_odd_names_and_texts_break_nothing(name):
    for text in ("राम and Marti in the snow.", "!!!", "'s", "A" * 5000, "Marti in " * 200):
        missed = MissedNames(called(name, "Rex"), text)
        assert missed.sentences and not missed.is_better(text, 1.0)


@pytest.mark.slow
def test_names_are_heard_that_were_missed_and_no_others(tmp_path):
    listener = Listener(HearOptions(model="tiny.en"), Drive(tmp_path))
    dogs = called("Bella", "Max", "Mochi", "Rex", "Poppy")
    people = called("Anika", "Theo", "Yuki", "Bruno")

    def hear(text: str, voice: str, subjects: tuple[Subject, ...]):
        listener.options = replace(listener.options, subjects=subjects)
        return listener.hear(speak(text, tmp_path / "clip.wav", voice))

    for text, voice, subjects in [
        ("Mochi wearing sunglasses", "kal16", dogs),
        ("Theo climbing a mountain", "rms", people),
        ("a photo of Mochi and Bella", "awb", dogs),
    ]:
        heard = hear(text, voice, subjects)
        missed = "Theo" if subjects is people else "Mochi"
        assert heard.first_heard and missed not in heard.first_heard and missed in heard.text
    for text in [
        "rocks on a beach at night",
        "puppies in the snow",
        "Marty in a car",
        "Peter with a balloon",
    ]:
        for voice in ("slt", "awb", "kal16"):
            assert not hear(text, voice, dogs).first_heard, (text, voice)


@pytest.mark.slow
def test_a_hint_that_is_longer_than_whisper_reads_is_cut(tmp_path):
    """Of names in other letters twelve had more tokens than faster-whisper has places for."""
    names = ["कृष्णमूर्ति", "अनुष्का", "लक्ष्मीनारायण", "विश्वनाथन", "राधाकृष्णन", "चन्द्रशेखर"]
    subjects = called(*(f"{name}{i}" for name in names for i in (1, 2, 3)))
    for engine in ("faster-whisper", "openai-whisper"):
        options = HearOptions(engine=engine, model="tiny.en", device="cpu", subjects=subjects)
        clip = speak("Marty on a beach at night", tmp_path / "clip.wav")
        assert "beach" in Listener(options, Drive(tmp_path)).hear(clip).text

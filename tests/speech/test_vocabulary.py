"""Words that a small model knows; hearing again what it does not, with real voices and weights."""

from dataclasses import replace

import pytest
from sounds import speak

from s2i_lib.models.registry import REGISTRY
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.transcribe import HearOptions, Listener
from s2i_lib.speech.vocabulary import NEAREST, sentences_of, vocabulary_of
from s2i_lib.storage.layout import Drive

POCKET = REGISTRY["pocket"]
WORDS = vocabulary_of(POCKET)
MEOW = Subject("Chairman Meow", "ferret", spellings=("Share man Mow",))
NAMED = vocabulary_of(POCKET, subjects=[Subject("Rex", "dog"), Subject("Bella", "dog"), MEOW])


@pytest.mark.parametrize(
    ("said", "strange"),
    [
        ("Um, can you please draw me a dreadan on the beach?", ["dreadan"]),
        ("Two cats and a lighthouse in the snow", ["lighthouse"]),
        ("Rex's hat, and Bela on a beach", []),
        ("make it bigger and give her a red hat", []),
        ("now without the balloon, please", []),
        ("go back to the first one", []),
        ("dogs, cups and light bulbs", []),
        ("the same again, but at night", []),
        ("Chairman Meow and his ferret in the snow", []),  # who was taught a word it did not know
        ("Share man Mow in an ice-cream shirt", []),
    ],
)
def test_strange_is_what_the_model_cannot_draw(said, strange):
    assert NAMED.strange(said) == strange


def test_nearest_are_those_that_sound_alike_with_their_articles():
    told = WORDS.nearest("A dreadan and an umbrela", ["dreadan", "umbrela"])
    assert len(told) == NEAREST and {"dragon", "umbrella"} <= set(told)
    assert "cupcake" in WORDS.nearest("a cut cake", ["cut"])  # heard as two words
    said = "A dragon on the beach. An umbrella on the beach. Scissors on the beach."
    assert sentences_of(["dragon", "umbrella", "scissors"]) == said


@pytest.mark.parametrize(
    ("first", "again", "is_better"),
    [
        ("A peacot on a red background", "A peacock on a red background", True),
        ("An elevator in the snow", "An elevator in the snow", False),
        ("An elevator in the snow", "In the snow", False),  # nothing of it is left
        ("An elevator in the snow", "A peacock on the beach", False),  # nor the place
        ("A peacot in the snow", "A cat in the snow", False),  # Whisper was not told that
        ("A peacot and Chairman Meow", "A peacock and chairman me out", False),
        ("A peacot and Chairman Meow", "A peacock and Chairman Meow", True),
        ("A peacot, an elevator", "A peacock, a ladder", True),
    ],
)
def test_second_hearing_is_taken_where_nothing_that_was_known_is_lost(first, again, is_better):
    assert NAMED.is_better(again, first, ["peacock", "pea"]) is is_better


def test_a_run_knows_its_own_words_and_large_models_all():
    assert vocabulary_of(POCKET, "a sks quokka").unknown("a sks quokka") == []
    assert WORDS.unknown("a sks quokka") == ["quokka"]
    assert vocabulary_of(REGISTRY["sd2.1-base"]) is None


@pytest.mark.slow
def test_more_of_the_models_words_are_heard_and_no_others_are_lost(tmp_path):
    listener = Listener(HearOptions(model="tiny.en"), Drive(tmp_path))
    told = replace(listener.options, vocabulary=WORDS)
    things = sorted(WORDS.things)[::6]
    others = ["elevator", "pyramid", "lighthouse", "typewriter", "windmill", "blanket", "fountain"]
    clips = [
        speak(f"the {word} in the city", tmp_path / f"{word}.wav", "awb")
        for word in (*things, *others)
    ]
    heard = {}
    for name, options in (("untold", listener.options), ("told", told)):
        listener.options = options
        heard[name] = [clip.stem in listener.hear(clip).text.lower() for clip in clips]
    assert sum(heard["told"]) >= sum(heard["untold"]) + 3
    assert heard["told"][len(things) :] == heard["untold"][len(things) :]
    assert sum(heard["told"][: len(things)]) >= 0.85 * len(things)

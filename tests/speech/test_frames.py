"""Sentences that say what is changed and how: which frame takes them, and which ones none does."""

import pytest

from s2i_lib.errors import InputError
from s2i_lib.speech.frames import read_framed
from s2i_lib.speech.scene import Scene

CAR = "a red car on a beach"


@pytest.mark.parametrize(
    ("text", "words", "kind", "prompt"),
    [
        (CAR, "make the car blue", "colour", "a blue car on a beach"),
        ("a red car with a dog", "make the dog blue", "colour", "a red car with a blue dog"),
        (CAR, "take it to the moon", "place", "a red car on the moon"),
        (CAR, "put a hat on it", "add", "a red car with a hat on a beach"),
        (CAR, "put a dog beside it", "add", "a red car with a dog beside it on a beach"),
        (CAR, "make the sky dark", "add", "a red car with a dark sky on a beach"),
        (CAR, "remove the beach", "remove", "a red car"),
        ("a car", "not the car, but a bus", "replace", "a bus"),
        ("three cars", "one less", "count", "two cars"),
    ],
)
def test_a_frame_says_what_is_changed_and_how(text, words, kind, prompt):
    assert read_framed(Scene(text), words) == (kind, prompt)


@pytest.mark.parametrize("words", ["blue", "the weather is nice", "a cat in a tree", ""])
def test_what_stands_in_no_frame_is_left_to_others(words):
    assert read_framed(Scene(CAR), words) is None


def test_fewer_than_one_is_refused_with_what_to_say():
    with pytest.raises(InputError, match="There is one car only"):
        read_framed(Scene("a car"), "one less")

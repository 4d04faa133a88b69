"""From what was said to what is asked of the picture's model."""

import pytest

from s2i_lib.dataset import Subject
from s2i_lib.errors import InputError
from s2i_lib.prompt import Prompt, make_prompt

REX = Subject("Rex", "dog")
LUNA = Subject("Luna", "cat", "zwx")


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("Rex on the beach.", "a sks dog on the beach"),
        ("Rex's hat on a chair", "a sks dog's hat on a chair"),
        ("my dog Rex in the snow", "a sks dog in the snow"),
        ("Rex and Luna on a sofa", "a sks dog and a cat on a sofa"),
        ("wrecks on the beach", "a sks dog on the beach"),
        ("a man wrecks the car", "a man wrecks the car"),
        ("a T-Rex in the jungle", "a T-Rex in the jungle"),
        ("a happy Rex jumping", "a happy sks dog jumping"),
    ],
)
def test_names_become_identifier_and_noun(said, asked):
    assert make_prompt(said, [REX, LUNA]).text == asked


def test_habits_go_and_meaning_stays():
    said = "Um, can you please draw me a picture of a dog with a hat, please?"
    assert make_prompt(said).text == "a dog with a hat"
    assert make_prompt("paint on a wall").text == "paint on a wall"


def test_what_is_left_out_becomes_negative():
    prompt = make_prompt("a street without cars")
    assert (prompt.text, prompt.negative) == ("a street without cars", "cars")


def test_nothing_to_draw_is_refused():
    with pytest.raises(InputError, match="Nothing is left to draw"):
        make_prompt("um, please draw me")


def test_record_round_trip():
    prompt = make_prompt("Rex and Luna", [REX, LUNA], chosen=LUNA)
    assert prompt.text == "a dog and a zwx cat"
    assert Prompt.from_json(prompt.to_json()) == prompt

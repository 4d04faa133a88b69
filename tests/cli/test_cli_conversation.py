"""A conversation on the command line: typed, spoken, and made again."""

import json

import pytest
from test_cli import run  # noqa: F401  (a fixture)

from s2i_lib.drawing.gallery import read_record
from s2i_lib.models.registry import PACKAGE

CLIP = PACKAGE / "samples" / "red_car.wav"
FAST = ("--model", "pocket", "--steps", "2", "--seed", "7", "--drive", "d")


@pytest.mark.slow
def test_typed_conversation_changes_goes_back_and_writes_a_page(run, tmp_path):  # noqa: F811
    said = ("a red car", "make it blue", "in the snow", "delete it", "undo", "go back to the first")
    status, out, err = run("draw", "--conversation", *said, *FAST, "--json")
    assert status == 0, err
    *answers, last = [json.loads(line) for line in out.splitlines()]
    kinds = [answer["kind"] for answer in answers]
    assert kinds == ["wish", "colour", "place", "delete", "undo", "go_to"]
    assert [answer["turn"] for answer in answers] == [0, 1, 2, 1, 2, 0]
    assert answers[2]["prompt"]["text"] == "a blue car in the snow"
    assert answers[5]["prompt"] == "a red car"
    page = (tmp_path / last["page"]).read_text()
    assert [words in page for words in said] == [True, True, True, False, False, False]
    assert "Taken as a change: “blue” in place of “red”." in page

    [picture] = answers[2]["pictures"]
    assert [step["said"] for step in read_record(tmp_path / picture)["conversation"]] == [*said[:3]]
    status, out, err = run("redo", picture, "--conversation", "--drive", "d", "--json")
    assert status == 0, err
    *earlier, own = [json.loads(line) for line in out.splitlines()]
    assert [one["said"] for one in earlier] == [*said[:2]] and own["is_same"]
    again = [read_record(tmp_path / one["picture"])["prompt"] for one in [*earlier, own]]
    assert again == ["a red car", "a blue car", "a blue car in the snow"]


@pytest.mark.slow
def test_sentence_that_can_change_nothing_does_not_end_the_conversation(run):  # noqa: F811
    status, out, err = run("draw", "--conversation", "undo", "a red car", "make it blue", *FAST)
    assert status == 2
    assert "There is nothing to undo" in err and "1 of 3 sentences" in err
    assert "Said      make it blue" in out and "Drawn     a blue car" in out


def test_several_sentences_without_conversation_are_told_of_it(run):  # noqa: F811
    status, _, err = run("draw", "a", "red", "car", *FAST)
    assert status == 2 and "quotes" in err and "--conversation" in err


@pytest.mark.slow
def test_spoken_conversation_hears_each_recording(run, tmp_path):  # noqa: F811
    status, out, err = run("speak", CLIP, CLIP, "--conversation", *FAST)
    assert status == 0, err
    assert out.count("Taken     a new wish.") == 2 and "Page" in out

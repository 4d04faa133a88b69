"""One sentence after another: what changes, what stays, and that nothing is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from s2i_lib.conversation import Conversation
from s2i_lib.conversation.reading import find_what_stays, read, say_who_became_any
from s2i_lib.conversation.turns import AS_NEW, WISH
from s2i_lib.drawing.draw import redo
from s2i_lib.drawing.gallery import is_of, read_record
from s2i_lib.drawing.keeping import SUBJECT, SURROUNDINGS
from s2i_lib.drawing.records import steps_of
from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.errors import InputError
from s2i_lib.photos.subject import Subject, save_subject
from s2i_lib.pipeline import Cancelled, Drawing, SpeechToImage, Taken
from s2i_lib.speech.changes import read_change
from s2i_lib.speech.prompt import Prompt
from tests.pipeline.test_session import finished_run

CAR = "a red car on a yellow background"


@pytest.fixture
def talk(drive, pocket):
    return Conversation(SpeechToImage(drive, model=pocket, options=DrawOptions(steps=2, seed=7)))


def text_of(answer) -> str | None:
    return answer.turn and answer.turn.wish.prompt.text


@pytest.mark.slow
def test_changes_are_drawn_from_the_same_noise_and_undone(talk):
    first = talk.say(CAR)
    blue = talk.say("Could you make it blue, please?")
    assert (first.kind, blue.kind) == (WISH, "colour")
    assert text_of(blue) == "a blue car on a yellow background"
    assert blue.taken == "Taken as a change: “blue” in place of “red”."
    seeds = [turn.wish.pictures[0].record["seed"] for turn in talk.turns]
    assert seeds == [7, 7]
    assert talk.say("undo").turn is first.turn and talk.position == 0
    assert talk.say("redo").turn is blue.turn
    assert text_of(talk.say("on a green background")) == "a blue car on a green background"
    assert [turn.parent for turn in talk.turns] == [None, 0, 1]
    assert talk.say("go back to the first").turn is first.turn
    assert talk.undo().turn.number == 2, "a jump is undone, too"


@pytest.mark.slow
def test_new_wish_after_a_picture_is_one_and_can_be_had_the_other_way(talk):
    talk.say(CAR)
    wish = talk.say("a dog")
    assert (wish.kind, text_of(wish)) == (WISH, "a dog") and wish.other
    change = talk.otherwise()
    assert (change.kind, text_of(change)) == ("replace", "a red dog on a yellow background")
    assert text_of(talk.undo()) == CAR, "the reading that was wrong is no step"
    talk.say("in the snow")
    assert text_of(talk.otherwise()) == "in the snow"
    assert talk.undo().turn.said == CAR
    with pytest.raises(InputError, match="no other meaning"):
        talk.otherwise()


@pytest.mark.slow
def test_another_one_is_drawn_from_other_noise(talk):
    talk.say(CAR)
    talk.say("another one")
    talk.undo()
    talk.say("again")
    seeds = [turn.wish.pictures[0].record["seed"] for turn in talk.turns]
    assert seeds == [7, 8, 9] and {turn.wish.prompt.text for turn in talk.turns} == {CAR}


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("undo", "nothing to undo"),
        ("redo", "nothing to redo"),
        ("make it blue", "no picture yet"),
        ("another one", "no picture yet"),
        ("keep this one", "no picture here to keep"),
        ("delete it", "no picture here to delete"),
        ("I like it", "no picture here to keep"),
        ("I love this", "no picture here to keep"),
        ("cancel", "nothing to undo"),
        ("the beginning", "no picture number 1"),
        ("show me more", "no picture yet"),
        ("put it on the left", "no picture yet"),
        ("go back to the third", "no picture number 3"),
        ("go back to the last one", "no picture number 1 to go to: so far there is none"),
        ("  ", "prompt is empty"),
    ],
)
def test_what_needs_a_picture_says_so_where_there_is_none(talk, said, hint):
    with pytest.raises(InputError, match=hint):
        talk.say(said)
    assert talk.turns == [] and talk.position is None
    assert talk.say("on a beach").kind == WISH, "what may be a wish is one"


@pytest.mark.slow
def test_deleted_files_come_back_with_undo(talk):
    first = talk.say(CAR)
    [path] = first.turn.wish.paths
    files = {file: file.read_bytes() for file in (path, path.with_suffix(".json"))}
    talk.say("make it blue")
    talk.go_to(0)
    assert talk.say("delete it").turn is None and talk.history.left == [1]
    assert not path.exists()
    assert talk.undo().turn is first.turn and talk.history.left == [0, 1]
    assert {file: file.read_bytes() for file in files} == files
    talk.redo()
    assert not path.exists()
    with pytest.raises(InputError, match="no picture number 1"):
        talk.go_to(0)


def test_there_is_no_picture_before_the_first(talk):
    talk.say(CAR)
    with pytest.raises(InputError, match="no picture number 0 to go to: so far there is one"):
        talk.say("go to picture 0")


def test_start_over_keeps_what_was_drawn(talk):
    talk.say(CAR)
    assert talk.say("start over").turn is None
    with pytest.raises(InputError, match="no picture yet"):
        talk.say("make it blue")
    assert text_of(talk.say("undo")) == CAR


def test_keep_saves_what_was_not_saved(talk, drive):
    talk.speech.folder = None
    talk.say(CAR)
    assert talk.turn.wish.paths == (None,)
    assert talk.say("keep this one").taken.startswith("Kept:")
    assert talk.turn.wish.paths[0].parent == drive.creations
    assert talk.say("keep it").taken.startswith("Kept already:")


def test_keep_saves_no_picture_that_was_deleted(talk):
    talk.speech.folder = None
    talk.speech.options = replace(talk.speech.options, count=2)
    talk.say(CAR)
    talk.delete(picture=1)
    talk.say("keep this")
    assert [path is None for path in talk.turn.wish.paths] == [False, True]


@pytest.mark.slow
def test_kept_picture_tells_the_chain_and_each_step_is_made_again_bit_for_bit(talk, pocket):
    for said in (CAR, "make it blue", "another one", "make it a cat"):
        talk.speech.options = replace(talk.speech.options, steps=len(talk.turns) + 1)
        talk.say(said)
    record = read_record(talk.turn.wish.paths[0])
    steps = steps_of(record)
    assert [step["said"] for step in steps] == [turn.said for turn in talk.turns]
    assert [step["kind"] for step in steps] == [WISH, "colour", "again", "replace"]
    assert [step["kept"] for step in steps] == ["", SURROUNDINGS, "", SURROUNDINGS]
    for step, turn in zip(steps, talk.turns, strict=True):
        assert redo(pocket, step).image.tobytes() == turn.wish.pictures[0].image.tobytes()


@pytest.mark.parametrize(
    ("said", "stays"),
    [
        ("make the background green", SUBJECT),
        ("on a beach", SUBJECT),
        ("make it blue", SURROUNDINGS),
        ("make it bigger", SURROUNDINGS),
        ("make it a cat", SURROUNDINGS),
        ("make it wear a hat", SURROUNDINGS),
        ("add a tree", SURROUNDINGS),
        ("put a castle in the background", ""),
        ("make it a blue cat on a green background", ""),
        ("remove the background", ""),
        ("make it two", ""),
        ("at night", ""),
        ("on the left", ""),
        ("as a painting", ""),
    ],
)
def test_what_a_change_does_not_speak_of_stays(said, stays):
    assert find_what_stays(read_change(said, CAR), CAR) == stays


@pytest.mark.slow
def test_cancelled_change_leaves_everything_as_it_was(talk):
    first = talk.say(CAR)

    def stop(event):
        told.append(event)
        if isinstance(event, Drawing):
            raise Cancelled

    told = []
    talk.speech.callback = stop
    with pytest.raises(Cancelled):
        talk.say("make it blue")
    assert told[0] == Taken("Taken as a change: “blue” in place of “red”.")
    assert talk.turn is first.turn and len(talk.turns) == 1 and not talk.history.can_redo


def give_up(talk, said: str) -> None:
    """Say something that a newer wish ends while it is drawn."""

    def stop(event):
        if isinstance(event, Drawing):
            raise Cancelled

    talk.speech.callback, before = stop, talk.speech.callback
    with pytest.raises(Cancelled):
        talk.say(said)
    talk.speech.callback = before


def test_change_of_what_was_given_up_while_it_was_drawn_is_one_of_that(talk):
    first = talk.say("a dog")
    give_up(talk, "a red car")
    give_up(talk, "on a green background")
    blue = talk.say("make it blue")
    assert text_of(blue) == "a blue car on a green background"
    assert (blue.kind, blue.turn.parent) == (WISH, None) and blue.taken.startswith("Taken as a ch")
    assert blue.turn.said == "a red car; on a green background; make it blue"
    steps = steps_of(blue.turn.wish.pictures[0].record)
    assert [step["said"] for step in steps] == [blue.turn.said]
    give_up(talk, "a cat")
    assert text_of(talk.say("undo")) == text_of(blue), "what was given up is no step"
    give_up(talk, "a cat")
    assert text_of(talk.say("an owl")) == "an owl"
    talk.undo()
    assert talk.undo().turn is first.turn


def test_change_of_what_was_given_up_can_be_had_as_a_new_wish(talk):
    give_up(talk, "a red car on a beach")
    blue = talk.say("make it blue")
    assert (text_of(blue), blue.other) == ("a blue car on a beach", AS_NEW)
    new = talk.otherwise()
    assert new.kind == WISH and "car" not in text_of(new)


@pytest.mark.parametrize(
    "said", ["put a ship on the left", "Put a ship on the left, at the beginning."]
)
def test_putting_a_thing_somewhere_is_a_wish_at_the_beginning_and_then_a_change(talk, said):
    assert read(talk.speech, said, None) is None
    assert read(talk.speech, said, Prompt("a lake")).text.startswith(
        "a lake with a ship on the left"
    )


def test_several_of_a_subject_are_changed_as_one_is(talk):
    rex, luna = Subject("Rex", "mouse"), Subject("Luna", "puppy", "flwx")
    talk.speech.subjects, last = [rex, luna], Prompt("two ohwx mice on a beach", subjects=(rex,))
    assert read(talk.speech, "add Luna", last).text == "two ohwx mice with a puppy on a beach"
    assert read(talk.speech, "make it two Lunas", last).text == "two flwx puppies on a beach"
    there = Prompt("two ohwx mice and a puppy on a beach", subjects=(rex, luna))
    hat = read(talk.speech, "put a hat on Luna", there)
    assert hat.text == "two ohwx mice and a puppy with a hat on a beach"
    both = replace(last, text="two ohwx mice with two puppies on a beach")
    for said in ("add a puppy next to Luna", "put a puppy next to Luna"):
        more = read(talk.speech, said, there)
        assert "with a puppy next to the puppy" in more.text
    assert read(talk.speech, "make it Luna", there).text.startswith("two flwx puppies and a puppy")
    [note] = say_who_became_any(talk.speech, "add two Lunas", both)
    assert note.startswith("Luna became a puppy")


@pytest.mark.slow
def test_run_that_draws_a_change_is_of_who_is_in_the_picture(drive):
    """The best run of a named subject draws; a change may name one who is in the picture or not."""
    for name, noun, token in (("Rex", "dog", "ohwx"), ("Bella", "cat", "flwx")):
        save_subject(drive, Subject(name, noun, token))
        finished_run(drive, f"{name.lower()}/pocket-01", value=0.5)
    talk = Conversation(SpeechToImage(drive, options=DrawOptions(steps=1)))

    def drawn(said: str) -> tuple[str, str]:
        answer = talk.say(said)
        return answer.turn.wish.prompt.text, answer.turn.wish.pictures[0].record["run"]

    rex, bella = "rex/pocket-01", "bella/pocket-01"
    assert drawn("Rex on a beach") == ("a ohwx dog on a beach", rex)
    assert drawn("add Bella") == ("a ohwx dog with a cat on a beach", rex)
    notes = talk.turn.wish.notes
    assert "Bella became a cat: one picture knows one subject by looks, and that is Rex." in notes
    talk.undo()
    for said in ("make it Bella", "replace Rex with Bella"):
        assert drawn(said) == ("a flwx cat on a beach", bella)
        assert "Drawn with Bella's run bella/pocket-01." in talk.turn.wish.notes
        assert not any("became" in note for note in talk.turn.wish.notes)
        talk.undo()
    assert drawn("in the snow") == ("a ohwx dog in the snow", rex), "after a jump back, too"
    assert not any("Drawn with" in note for note in talk.turn.wish.notes)


@pytest.mark.slow
def test_subjects_stay_subjects_and_a_picture_knows_one_by_looks(drive, pocket):
    for name, noun, token in (("Rex", "dog", "ohwx"), ("Luna", "cat", "flwx")):
        save_subject(drive, Subject(name, noun, token))
    talk = Conversation(SpeechToImage(drive, model=pocket, options=DrawOptions(steps=1)))
    talk.say("Rex on a blue background")
    assert text_of(talk.say("make Rex big")) == "a big ohwx dog on a blue background"
    assert "with a cat" in text_of(talk.say("put Luna next to him"))
    talk.undo()
    luna = talk.say("make it Luna")
    assert text_of(luna) == "a big flwx cat on a blue background"
    record = luna.turn.wish.pictures[0].record
    assert is_of(record, "rex") and is_of(record, "luna"), "forget finds it by either"

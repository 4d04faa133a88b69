"""The studio's Python half without a browser: the queue of one, and what a wish leaves behind."""

from __future__ import annotations

import base64
import json
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
from PIL.PngImagePlugin import PngInfo

from s2i_lib.drawing.gallery import RECORD_KEY, read_record
from s2i_lib.drawing.made_by import read_statements
from s2i_lib.errors import InputError
from s2i_lib.live import Draft, Live
from s2i_lib.models.registry import DEPTH
from s2i_lib.photos.subject import Subject, save_subject
from s2i_lib.pipeline import Cancelled, Drawing
from s2i_lib.privacy import find_traces
from s2i_lib.speech.prompt import Prompt
from s2i_lib.speech.transcript import Transcript
from s2i_lib.storage.files import make_folder
from s2i_lib.storage.layout import Drive, folder_name
from s2i_lib.widgets import join_modules
from s2i_lib.widgets.studio import Studio
from s2i_lib.widgets.studio.controls import find_chosen
from s2i_lib.widgets.studio.takes import MOST_PIECES, Takes
from s2i_lib.widgets.studio.worker import Worker
from tests.pipeline.test_session import finished_run
from tests.renders import save_landscape, save_render
from tests.studios import Bridge, listener_that_hears, quick_studio, records, wait_until
from tests.twin.repositories import write_depth

# They stand for loaded ones where nothing is heard or drawn.
NO_MODEL = SimpleNamespace(
    run=None, source="", base=SimpleNamespace(negative=""), lock=threading.RLock()
)


SILENCE = np.zeros(16_000, np.float32)
NO_LISTENER = listener_that_hears()


def test_newest_wish_wins_and_the_running_one_ends_between_steps():
    ended, began = [], threading.Event()
    worker = Worker(lambda error: ended.append(type(error)))

    def endless():
        began.set()
        while True:
            worker.check()

    worker.submit(endless)
    assert began.wait(5)
    worker.submit(lambda: ended.append("second"))
    assert worker.wait(5)
    assert ended == [Cancelled, "second"]


def test_wishes_that_wait_are_dropped_but_the_last():
    done, gate, began = [], threading.Event(), threading.Event()
    worker = Worker(done.append)

    def first():
        began.set()
        gate.wait(5)

    worker.submit(first)
    assert began.wait(5)
    for number in range(5):
        worker.submit(lambda number=number: done.append(number))
    gate.set()
    assert worker.wait(5) and done == [4]


def test_wishes_that_are_not_dropped_begin_in_turn_and_end_at_the_first_check_but_the_last():
    done, gate, began = [], threading.Event(), threading.Event()
    worker = Worker(lambda error: done.append(type(error)))

    def first():
        began.set()
        gate.wait(5)
        worker.check()

    def wish(number):
        done.append(number)
        worker.check()
        done.append("drawn")

    worker.submit(first)
    assert began.wait(5)
    for number in range(3):
        worker.submit(lambda number=number: wish(number), drops=False)
    gate.set()
    assert worker.wait(5)
    assert done == [Cancelled, 0, Cancelled, 1, Cancelled, 2, "drawn"]


def test_thread_outlives_a_wish_that_fails():
    errors, done = [], []
    worker = Worker(errors.append)
    worker.submit(lambda: 1 / 0)
    assert worker.wait(5)
    worker.submit(lambda: done.append(1))
    assert worker.wait(5)
    assert isinstance(errors[0], ZeroDivisionError) and done == [1]


def test_cancel_drops_the_wish_that_waits_too():
    done, gate, began = [], threading.Event(), threading.Event()
    worker = Worker(done.append)

    def first():
        began.set()
        gate.wait(5)
        worker.check()

    worker.submit(first)
    assert began.wait(5)
    worker.submit(lambda: done.append("never"))
    worker.cancel()
    gate.set()
    assert worker.wait(5)
    assert [type(each) for each in done] == [Cancelled]


def test_unknown_setting_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"no setting 'colour'.*guidance"):
        Studio(Drive(tmp_path), settings={"colour": "red"})


def test_subject_of_a_run_is_chosen_and_marked_in_the_prompt(tmp_path):
    drive, rex = Drive(tmp_path), Subject("Rex", "dog", "sks")
    save_subject(drive, rex)
    studio = Studio(drive, classroom=False, listener=NO_LISTENER, model=NO_MODEL)
    assert studio.subjects == ["Rex"]
    assert find_chosen(studio.settings, [rex], "rex/20261122") == rex
    assert find_chosen(studio.settings, [rex], None) is None
    assert find_chosen(studio.settings, [rex], "/elsewhere/rex") is None
    studio._show_prompt(Prompt("a photo of a sks dog on grass", subjects=(rex,)))
    assert studio.prompt["marks"] == [[13, 20]]


@pytest.mark.slow
def test_who_is_named_is_drawn_by_a_run_of_theirs_whatever_was_loaded_first(drive):
    """Nobody chose a model: the newest run is loaded at the start, and is no choice."""
    for name, token in (("Rex", "ohwx"), ("Bella", "flwx")):
        save_subject(drive, Subject(name, "dog", token))
        finished_run(drive, f"{name.lower()}/pocket-01", value=0.5)
    studio = Studio(drive, settings={"steps": 1}, classroom=False, listener=NO_LISTENER)
    wait_until(lambda: studio.state == "ready")
    studio.say("Rex on a beach")
    assert studio.wait(240)
    studio.say("Bella on a beach")
    drawn = [(one["prompt"], one["run"]) for one in records(studio)][-2:]
    assert drawn == [
        ("a ohwx dog on a beach", "rex/pocket-01"),
        ("a flwx dog on a beach", "bella/pocket-01"),
    ]
    assert not any("became" in note or "not named" in note for note in studio.prompt["notes"])


def begin_to_draw(studio: Studio, said: str) -> None:
    """Say what takes minutes to draw, and go on as soon as it is being drawn."""
    studio.settings = {**studio.settings, "steps": 1000}
    studio.say(said)
    wait_until(lambda: studio.state == "drawing")
    studio.settings = {**studio.settings, "steps": 1}


def test_change_said_while_something_is_drawn_is_one_of_that(drive, pocket):
    studio = quick_studio(drive, pocket)
    studio.say("a dog")
    assert studio.wait(240)
    begin_to_draw(studio, "a red car")
    studio.say("make it blue")
    assert [record["prompt"] for record in records(studio)] == ["a dog", "a blue car"]
    begin_to_draw(studio, "a cat")
    studio._told({"type": "cancel_wish"})
    assert studio.wait(240) and studio.state == "stopped"
    studio.say("make it green")
    assert records(studio)[-1]["prompt"] == "a green car", "what was stopped is not meant"


@pytest.mark.parametrize(
    ("kind", "left"), [("undo", "a dog"), ("redo", "an owl"), ("show", "a dog")]
)
def test_what_is_drawn_ends_before_one_goes_elsewhere(drive, pocket, kind, left):
    """Its picture would come after what was pressed, and the page said that all was done."""
    studio = quick_studio(drive, pocket)
    for said in ("a dog", "an owl"):
        studio.say(said)
        assert studio.wait(240)
    first = studio.strip[-1]["id"]
    if kind != "show":
        studio._told({"type": "undo"})
    begin_to_draw(studio, "make it black")
    studio._told({"type": kind, "id": first})
    assert studio.status == "Stopping after this step."
    assert studio.wait(240) and studio.state == "done" and studio.prompt["text"] == left
    assert len(studio.strip) == 2


def test_picture_deleted_while_another_is_drawn_is_gone_and_the_other_comes(drive, pocket):
    studio = quick_studio(drive, pocket)
    studio.say("a dog")
    assert studio.wait(240)
    begin_to_draw(studio, "a red car")
    studio._told({"type": "delete", "id": studio.strip[0]["id"]})
    assert studio.state == "drawing" and studio.strip == [] and studio.complaint == ""
    studio._told({"type": "cancel_wish"})
    assert studio.wait(240) and not list(drive.creations.glob("*.png"))


@pytest.mark.slow
def test_two_subjects_with_one_identifier_are_marked_once(drive, pocket):
    for name in ("Rex", "Bello"):
        save_subject(drive, Subject(name, "dog", "sks"))
    studio = quick_studio(drive, pocket)
    studio.say("Rex and Bello on grass")
    assert studio.wait(240) and studio.prompt["text"].count("sks dog") == 1
    start = studio.prompt["text"].index("sks dog")
    assert studio.prompt["marks"] == [[start, start + len("sks dog")]]
    studio._told({"type": "draw", "text": "a blue sks dog"})  # edited: it is marked all the same
    assert studio.wait(240) and studio.prompt["marks"] == [[7, 14]]


def test_pieces_of_a_recording_are_heard_in_order_and_those_of_another_are_not():
    begun = []

    def begin():
        pieces = []
        live = SimpleNamespace(
            add=pieces.append, pieces=pieces, close=lambda **_: ended.append(live)
        )
        begun.append(live)
        return live

    ended: list = []
    takes = Takes(begin)
    for index in (0, 2, 1, 4):  # the piece before the last is lost
        takes.add("a", index, np.full(1, index))
    takes.add("b", 3, np.ones(1))  # of one that was cancelled: it has no beginning
    assert [int(piece[0]) for piece in begun[0].pieces] == [0, 1, 2] and len(begun) == 1
    assert takes.pop("b") is None and takes.pop("a") is begun[0] and ended == begun
    takes.add("a", 5, np.ones(1))  # comes after the end
    takes.add("c", 0, np.ones(1))
    takes.add("d", 0, np.ones(1))  # without an end of the one before
    assert len(begun) == 3 and ended == begun[:2] and takes.pop("c") is None


@pytest.mark.parametrize("entry", ["microphone/microphone.js", "studio/studio.js"])
def test_browser_halves_join_into_one_module(entry):
    text = join_modules(entry)
    assert text.count("class Recorder") == 1 and "\nimport " not in text


@pytest.mark.slow
def test_typed_wish_is_drawn_kept_and_can_be_deleted(tmp_path):
    studio = Studio(Drive(tmp_path), settings={"model": "pocket", "steps": 3, "count": 2})
    studio.say("a red car on a yellow background")
    assert studio.wait(240), studio.status
    assert studio.complaint == "" and studio.state == "done"
    files = sorted((tmp_path / "creations").glob("*.png"))
    records = [read_record(file) for file in files]
    assert {r["seed"] for r in records} == {p["seed"] for p in studio.pictures}
    assert studio._asked(studio.pictures[0]["id"]).startswith(b"\x89PNG")
    for entry in studio.pictures:
        studio._told({"type": "delete", "id": entry["id"]})
    assert not list((tmp_path / "creations").iterdir()) and studio.strip == []
    assert set(studio.seconds[0]) == {"load model", "draw", "save"}


@pytest.mark.slow
def test_prompt_drawn_again_leaves_out_what_its_words_and_the_control_say_now(drive, pocket):
    studio = quick_studio(drive, pocket)
    studio.say("a red car without wheels")
    assert studio.wait(240)
    studio.settings = {**studio.settings, "negative": "snow"}
    studio._told({"type": "draw", "text": "a red car without doors"})
    assert studio.wait(240)
    studio.settings = {**studio.settings, "negative": ""}
    studio._told({"type": "draw", "text": "a red car"})
    assert [each["negative"] for each in records(studio)] == ["wheels", "doors, snow", ""]


def test_field_shows_the_models_own_negative_prompt_and_an_empty_one_switches_it_off(drive, pocket):
    picky = replace(pocket, base=replace(pocket.base, negative="watermark"))
    studio = quick_studio(drive, picky)
    studio.say("a red car without wheels")
    assert studio.wait(240) and studio.settings["negative"] == "watermark"
    studio._told({"type": "set", "name": "negative", "value": ""})
    studio.say("a red car without wheels")
    assert studio.wait(240) and studio.settings["negative"] == ""
    assert [each["negative"] for each in records(studio)] == ["wheels, watermark", "wheels"]
    settings = {"model": "pocket", "steps": 1, "negative": ""}
    off = Studio(drive, settings=settings, classroom=False, listener=NO_LISTENER, model=picky)
    off.say("a red car")
    assert [each["negative"] for each in records(off)] == [""]


def test_another_model_brings_its_own_negative_prompt_unless_it_was_changed(drive):
    studio = Studio(drive, classroom=False, listener=NO_LISTENER, model=NO_MODEL)
    for own in ("", "watermark", "", "blurry"):  # of the models that are chosen one by one
        studio._offer_negative(own)
        assert studio.settings["negative"] == own
    studio._told({"type": "set", "name": "negative", "value": "snow"})
    for own in ("", "watermark"):
        studio._offer_negative(own)
        assert studio.settings["negative"] == "snow"


@pytest.mark.slow
def test_prompt_drawn_again_keeps_what_was_said_and_of_whom(drive, pocket):
    save_subject(drive, Subject("Rex", "dog", "sks"))
    heard = Transcript("Rex im Schnee", "de", 0.9, "Rex in the snow", (), "e", "m", 1.0, 1.0)
    studio = quick_studio(drive, pocket, heard)
    studio.hear(SILENCE)
    assert studio.wait(240)
    studio._told({"type": "draw", "text": "a dog on a yellow background"})
    assert studio.wait(240)
    studio.say("a red car")
    first, again, other = records(studio)
    assert first["prompt"] == "a sks dog in the snow" and again["prompt"].startswith("a dog on")
    assert again["transcript"] == first["transcript"] == heard.to_json()
    assert again["subjects"] == first["subjects"] and again["subjects"][0]["name"] == "Rex"
    assert other["transcript"] is None and other["subjects"] == []
    found = {trace.path for trace in find_traces(drive, "Rex")}
    kept = [studio._shown[entry["id"]].path for entry in reversed(studio.strip)]
    assert found & set(kept) == set(kept[:2]), "forgetting Rex must find both"


def test_doubted_words_of_the_microphone_wait_for_a_yes(drive, pocket):
    heard = Transcript(
        "a red cow", "en", 0.9, "a red cow", (), "e", "m", 1.0, 1.0, ("Whisper was unsure.",)
    )
    studio = quick_studio(drive, pocket, heard)
    studio._received(bytes(32_000), {"kind": "speech"})
    assert studio.wait(240) and studio.state == "asking" and studio.strip == []
    assert studio.status == "Did you say “a red cow”?" and studio.heard["text"] == "a red cow"
    studio._told({"type": "yes"})
    [record] = records(studio)
    assert record["prompt"] == "a red cow" and record["transcript"] == heard.to_json()
    studio.hear(SILENCE)  # from a cell nobody is asked
    assert len(records(studio)) == 2 and studio.state == "done"


def test_name_that_was_nearly_heard_is_offered_until_the_next_wish(drive, pocket):
    save_subject(drive, Subject("Bella", "dog", "sks"))
    studio = quick_studio(drive, pocket)
    studio.say("Bell on the beach")
    assert studio.wait(240) and studio.offers == ["Bella on the beach"]
    studio.say(studio.offers[0])
    assert studio.wait(240) and studio.offers == [] and "sks dog" in studio.prompt["text"]


def test_what_was_heard_at_first_is_offered_with_one_press(drive, pocket):
    said = [("a marathon on a beach", "A muffin on a beach."), ("Add a van.", "Add a fan.")]
    heard = [
        Transcript(words, "en", 0.9, words, (), "e", "m", 1.0, 1.0, first_heard=first)
        for words, first in said
    ]
    listener = listener_that_hears()
    listener.hear = lambda *_: heard.pop(0)
    settings = {"model": "pocket", "steps": 1}
    studio = Studio(drive, settings=settings, classroom=False, listener=listener, model=pocket)
    studio._received(bytes(32_000), {"kind": "speech"})
    assert studio.wait(240) and studio.offers == ["A muffin on a beach."]
    assert "marathon" in studio.prompt["text"]
    studio.say(studio.offers[0])
    assert studio.wait(240) and studio.offers == [] and "muffin" in studio.prompt["text"]
    studio._received(bytes(32_000), {"kind": "speech"})
    assert studio.wait(240) and "van" in studio.prompt["text"]
    assert studio.offers == []  # it would change the picture that has the van by now


def test_deleted_picture_comes_back_with_undo(drive, pocket):
    studio = quick_studio(drive, pocket)
    studio.say("a red car")
    assert studio.wait(240)
    [path] = drive.creations.glob("*.png")
    data = path.read_bytes()
    studio._told({"type": "delete", "id": studio.strip[0]["id"]})
    assert studio.strip == studio.pictures == [] and not list(drive.creations.iterdir())
    assert "Undo brings it back" in studio.status
    studio._told({"type": "undo"})
    assert path.read_bytes() == data and [e["said"] for e in studio.pictures] == ["a red car"]
    assert studio.answer["redo"] and studio.complaint == ""
    studio._told({"type": "undo"})
    studio._told({"type": "undo"})
    assert "nothing to undo" in studio.complaint and studio.pictures == []


def test_who_did_not_come_out_is_asked_for_again_with_one_press(drive, pocket, monkeypatch):
    """Whether somebody came out is measured in tests/drawing/test_presence.py."""
    rex = Subject("Rex", "dog", "sks")
    save_subject(drive, rex)
    studio = quick_studio(drive, pocket)
    look = studio._speech.lookout
    monkeypatch.setattr(look, "find_absent", lambda model, prompt, pictures: rex)
    studio.say("Rex on the beach")
    assert studio.wait(240) and studio.answer["absent"] == "Rex"
    assert not [note for note in studio.prompt["notes"] if "did not come out" in note]
    monkeypatch.setattr(look, "find_absent", lambda model, prompt, pictures: None)
    studio._told({"type": "another"})
    first, again = records(studio)
    assert again["prompt"] == first["prompt"] and again["seed"] != first["seed"]
    assert studio.answer["absent"] == "" and len(list(drive.creations.glob("*.png"))) == 2
    studio._told({"type": "undo"})  # back at the one that lacks him
    assert studio.answer["absent"] == "Rex"


@pytest.mark.slow
def test_picture_is_held_and_its_files_lie_go_and_come_back_with_it(drive, pocket):
    kept = save_render("cat", make_folder(drive.creations))
    studio = quick_studio(drive, pocket)
    wait_until(lambda: studio.earlier)
    key = studio.earlier[0]["id"]
    studio._told({"type": "hold", "id": key})
    assert studio.wait(240) and studio.complaint == "" and studio.state == "done"
    assert studio.held == {"id": key} and str(drive.creations) in studio.status
    page = studio._asked(f"figure:{key}").decode()
    assert "<model-viewer" in page and 'name="digitalSourceType"' in page
    files = {kept.with_suffix(end) for end in (".png", ".json", ".glb", ".usdz", ".html")}
    assert set(drive.creations.iterdir()) == files
    for file in files - {kept.with_suffix(".json")}:
        assert any(one.is_of_machine for one in read_statements(file)), file
    studio._told({"type": "hold", "id": key})  # once more: nothing is written twice
    assert studio.wait(240) and set(drive.creations.iterdir()) == files
    studio._told({"type": "delete", "id": key})
    assert list(drive.creations.iterdir()) == [] and studio.held == {}
    studio._told({"type": "undo"})
    assert set(drive.creations.iterdir()) == files


@pytest.mark.slow
def test_what_cannot_be_held_is_one_sentence_and_asks_on(drive, pocket):
    heard = Transcript(
        "a red cow", "en", 0.9, "a red cow", (), "e", "m", 1.0, 1.0, ("Whisper was unsure.",)
    )
    studio = quick_studio(drive, pocket, heard)
    studio.say("a picture", keep=False)
    assert studio.wait(240)
    key = studio.pictures[0]["id"]
    turn = studio._talk.turn  # what one step draws is a blur, of some seeds with a thing in it
    gray = replace(turn.wish.pictures[0], image=PIL.Image.new("RGB", (64, 64), "gray"))
    studio._talk.history.amend(turn.number, pictures=(gray,))
    studio._received(bytes(32_000), {"kind": "speech"})
    assert studio.wait(240) and studio.state == "asking"
    studio._told({"type": "hold", "id": key})
    assert studio.wait(240) and "No figure can be cut out" in studio.complaint
    assert studio.held == {} and studio.state == "asking" and "Did you say" in studio.status
    for odd in ("picture-9-0", "picture-²-0"):
        studio._told({"type": "hold", "id": odd})
        assert studio.wait(240) and f"no picture '{odd}' any more" in studio.complaint
    studio._told({"type": "yes"})
    assert studio.wait(240) and len(studio.strip) == 2


@pytest.mark.slow
def test_picture_in_which_nothing_stands_out_is_held_as_a_relief(drive, pocket):
    write_depth(drive.models / folder_name(DEPTH))
    kept = save_landscape(make_folder(drive.creations))
    studio = quick_studio(drive, pocket)
    wait_until(lambda: studio.earlier)
    key = studio.earlier[0]["id"]
    studio._told({"type": "hold", "id": key})
    assert studio.wait(240) and studio.complaint == "" and studio.held == {"id": key}
    assert "relief of the whole picture" in studio._asked(f"figure:{key}").decode()
    assert kept.with_suffix(".glb").is_file() and kept.with_suffix(".usdz").is_file()


@pytest.mark.slow
def test_picture_that_nobody_kept_is_held_and_leaves_no_files(drive, pocket):
    save_render("cat", make_folder(drive.creations))
    studio = quick_studio(drive, pocket)
    wait_until(lambda: studio.earlier)
    key = studio.earlier[0]["id"]
    studio._shown[key].path = None
    studio._told({"type": "hold", "id": key})
    assert studio.wait(240) and studio.held == {"id": key} and "not saved" in studio.status
    assert len(list(drive.creations.iterdir())) == 2


def test_pictures_are_told_in_the_language_of_the_page(drive, pocket):
    save_subject(drive, Subject("Rex", "dog", "sks"))
    studio = quick_studio(drive, pocket)
    studio.say("Rex on the beach")
    assert studio.wait(240)
    [entry] = studio.pictures
    assert entry["alt"].startswith("Rex, a dog, on the beach. Drawn by a machine")
    assert "sks" not in entry["alt"] and [code for _, code in entry["told"]] == ["en"]
    studio._told({"type": "hello", "language": "de"})
    for [entry] in (studio.pictures, studio.strip):
        (words, in_english), (rest, in_german) = entry["told"]
        assert (in_english, in_german) == ("en", "de") and words.startswith("Rex, a dog")
        assert "Von einer Maschine gezeichnet" in rest and entry["alt"] == words + rest


def test_what_leaves_python_says_that_a_machine_drew_it_and_not_of_whom(drive, pocket, tmp_path):
    save_subject(drive, Subject("Rex", "dog", "sks"))
    studio = quick_studio(drive, pocket)
    bridge = Bridge(studio)
    sent: list[bytes] = []
    bridge.send = lambda data=None, metadata=None, buffers=None: sent.extend(buffers or ())
    studio._show_live(Draft(pocket_picture(), "Rex", 4))
    studio.say("Rex on the beach")
    assert studio.wait(240)
    [entry] = studio.pictures
    thumb = base64.b64decode(entry["thumb"].partition(",")[2])
    assert len(sent) == 2  # the draft, and the rough picture
    for i, data in enumerate([studio.png(entry["id"]), thumb, *sent]):
        path = tmp_path / f"{i}.png"
        path.write_bytes(data)
        assert any(one.is_of_machine for one in read_statements(path)), i
        assert b"Rex" not in data and b"beach" not in data
        with pytest.raises(InputError):
            read_record(path)
    [kept] = drive.creations.glob("*.png")
    assert read_record(kept)["subjects"][0]["name"] == "Rex", "what is kept has its record"


def pocket_picture() -> PIL.Image.Image:
    return PIL.Image.new("RGB", (64, 64), "red")


@pytest.mark.slow
def test_what_was_stopped_or_refused_leaves_nothing_above_the_picture_that_is_there(drive, pocket):
    studio = quick_studio(drive, pocket)
    studio.say("a red car")
    assert studio.wait(240)
    there = studio.prompt, studio.answer
    studio._speech.callback = lambda event: (_ for _ in ()).throw(Cancelled) if isinstance(
        event, Drawing) else Studio._on_event(studio, event)  # fmt: skip
    studio.say("make it blue")  # is stopped as its first step has been drawn
    assert studio.wait(240) and studio.state == "stopped"
    assert (studio.prompt, studio.answer) == there
    studio.say("please draw me")
    assert studio.wait(240) and studio.state == "error"
    assert (studio.prompt, studio.answer) == there and len(studio.strip) == 1


@pytest.mark.parametrize("said", ["make it blue", "bigger", "undo", "redo", "keep this one"])
def test_change_with_nothing_before_it_is_one_sentence_and_the_next_wish_is_drawn(
    drive, pocket, said
):
    studio = quick_studio(drive, pocket)
    studio.say(said)
    assert studio.wait(240) and studio.state == "error" and studio.strip == []
    assert 0 < len(studio.complaint) < 200
    assert "Say" in studio.complaint or said == "redo"
    studio.say("a red car")
    assert len(records(studio)) == 1


def test_two_studios_on_one_drive_lose_nothing_of_each_other(drive, pocket):
    """Two notebooks, or two tabs with a kernel each."""
    one, other = (quick_studio(drive, pocket) for _ in range(2))
    for studio in (one, other):
        studio.settings = {**studio.settings, "seed": 7, "is_seed_locked": True}
        studio.say("a red car")
    for studio in (one, other):
        assert studio.wait(240) and studio.complaint == ""
    assert len(list(drive.creations.glob("*.png"))) == 2, "the same words, seed and second"
    third = quick_studio(drive, pocket)
    wait_until(lambda: len(third.earlier) == 2)
    [gone] = one.strip
    one._told({"type": "delete", "id": gone["id"]})
    for entry in [*third.earlier]:  # one of them lies there no more
        assert third.png(entry["id"])
        third._told({"type": "delete", "id": entry["id"]})
        assert third.complaint == ""
    assert not list(drive.creations.iterdir())
    one._told({"type": "undo"})
    assert len(list(drive.creations.glob("*.png"))) == 1


@pytest.mark.slow
def test_ten_minutes_of_talk_are_one_sentence_and_what_comes_after_is_heard(drive, pocket):
    minutes = np.random.default_rng(0).normal(0, 0.05, 600 * 16_000).astype(np.float32)
    studio = Studio(drive, settings={"model": "pocket", "steps": 1}, classroom=False, model=pocket)
    began, before = [], Live
    takes = Takes(lambda: began.append(before) or SimpleNamespace(
        add=began.append, close=lambda **_: None))  # fmt: skip
    for index in range(2 * MOST_PIECES):  # of a page that does not stop by itself
        takes.add("long", index, minutes[:4_000])
    assert len(began) == 1 + MOST_PIECES and len(takes._waiting) == 0
    studio.hear(minutes)
    assert studio.wait(240) and studio.state == "error"
    assert "0:10:00 h long; up to 60 s are listened to" in studio.complaint
    studio.say("a red car")
    assert studio.wait(240) and len(studio.strip) == 1 and studio.complaint == ""


@pytest.mark.slow
def test_change_says_what_it_was_taken_for_and_is_had_the_other_way(drive, pocket):
    studio = quick_studio(drive, pocket)
    studio.say("a red car")
    studio.wait(240)
    studio.say("make it blue")
    first, second = records(studio)
    assert second["prompt"] == "a blue car" and second["seed"] == first["seed"]
    assert "change" in studio.answer["taken"] and studio.answer["other"] == "as_new"
    studio._told({"type": "other"})
    assert studio.wait(240) and studio.answer["other"] == "as_change"
    assert studio.prompt["text"] != "a blue car"


@pytest.mark.slow
@pytest.mark.parametrize("is_spoken", [False, True])
def test_changes_that_wait_while_a_model_loads_are_all_of_one_picture(drive, pocket, is_spoken):
    said = ["a red car", "make it blue", "on the beach"]
    heard = [Transcript(one, "en", 0.9, one, (), "e", "m", 1.0, 1.0) for one in said]
    listener = listener_that_hears()
    listener.hear = lambda *_: heard.pop(0)
    settings = {"model": "pocket", "steps": 1}
    studio = Studio(drive, settings=settings, classroom=False, listener=listener, model=pocket)
    gate, loads = threading.Event(), threading.Event()
    studio._worker.submit(lambda: loads.set() or gate.wait(60))
    assert loads.wait(60)
    for one in said:
        studio.hear(SILENCE) if is_spoken else studio.say(one)
    gate.set()
    [record] = records(studio)
    assert record["prompt"] == "a blue car on the beach"


@pytest.mark.slow
def test_pictures_of_the_last_time_are_there_after_a_restart_and_can_be_changed(drive, pocket):
    before = quick_studio(drive, pocket)
    before.say("a red car")
    [first] = records(before)
    (drive.creations / "notes.png").write_bytes(b"no picture")
    after = quick_studio(drive, pocket)
    wait_until(lambda: after.state == "ready")
    [entry] = after.earlier
    assert entry["said"] == "a red car" and entry["thumb"].startswith("data:image/jpeg;base64,")
    assert after.png(entry["id"]).startswith(b"\x89PNG") and after.strip == []
    after._told({"type": "show", "id": entry["id"]})
    assert after.earlier == [] and after.prompt["text"] == "a red car"
    after.say("make it blue")
    changed = records(after)[-1]
    assert changed["prompt"] == "a blue car" and changed["seed"] == first["seed"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["show", "delete"])
def test_older_picture_that_does_not_say_how_it_was_drawn_says_so_each_time(drive, pocket, kind):
    before = quick_studio(drive, pocket)
    before.say("a red car")
    records(before)
    [path] = drive.creations.glob("*.png")
    record = read_record(path)
    del record["steps"]
    with PIL.Image.open(path) as picture:
        info = PngInfo()
        info.add_itxt(RECORD_KEY, json.dumps(record))
        picture.save(path, pnginfo=info)
    after = quick_studio(drive, pocket)
    wait_until(lambda: after.state == "ready")
    [entry] = after.earlier
    for _ in range(2):
        after._told({"type": kind, "id": entry["id"]})
        assert "does not say how it was drawn" in after.complaint
    assert after.earlier == [entry] and path.exists()


def test_new_seed_of_an_older_picture_draws_its_own_prompt(drive, pocket):
    heard = Transcript("a red car", "en", 0.9, "a red car", (), "e", "m", 1.0, 1.0)
    studio = quick_studio(drive, pocket, heard)
    studio.hear(SILENCE)
    assert studio.wait(240)
    studio.say("a blue tree")
    assert studio.wait(240)
    studio._told({"type": "show", "id": studio.strip[-1]["id"]})
    assert studio.prompt["text"] == "a red car" and studio.pictures == [studio.strip[-1]]
    studio._told({"type": "draw", "text": studio.prompt["text"]})
    *_, newest = records(studio)
    assert newest["prompt"] == "a red car" and newest["transcript"] == heard.to_json()


@pytest.mark.slow
def test_control_changed_as_a_picture_is_finished_stays_changed(drive, pocket):
    studio = quick_studio(drive, pocket)
    change = {"type": "set", "name": "count", "value": 4}
    page = threading.Thread(target=studio._told, args=[change])
    with studio.hold_sync():  # as the thread that draws writes back the seed that it took
        before = studio.settings
        page.start()
        page.join(0.3)
        studio.settings = {**before, "seed": 7}
    page.join(10)
    assert (studio.settings["count"], studio.settings["seed"]) == (4, 7)


@pytest.mark.slow
def test_what_one_thread_says_waits_while_another_holds_back(drive, pocket):
    studio = quick_studio(drive, pocket)
    wait_until(lambda: studio.state == "ready")
    other = threading.Thread(target=setattr, args=[studio, "rules", "new"])
    with studio.hold_sync():
        studio.complaint = "new"
        other.start()
        other.join(0.3)
        assert other.is_alive() and studio._states_to_send == {"complaint"}
    other.join(5)
    assert not other.is_alive() and studio._states_to_send == set()


@pytest.mark.slow
def test_chosen_model_loads_at_once_and_says_so_but_not_while_one_draws(drive, pocket):
    settings = {"model": "auto", "steps": 1}
    studio = Studio(drive, settings=settings, classroom=False, listener=NO_LISTENER, model=pocket)
    wait_until(lambda: studio.state == "ready")
    told = []
    studio.observe(lambda change: told.append((studio.state, change["new"])), "status")
    with studio._speech.use_model() as drawing:  # as while a wish is drawn
        studio.settings = {**studio.settings, "model": "pocket"}
        time.sleep(0.3)
        assert drawing is pocket and told == []
    wait_until(lambda: studio.state == "ready" and len(told) == 2)
    assert told[0] == ("loading", "Loading the model pocket. You can speak already.")
    with studio._speech.use_model() as chosen:
        assert chosen is not pocket and chosen.base.name == "pocket"
    studio.settings = {**studio.settings, "negative": "snow"}
    studio.say("a red car")
    assert studio.wait(240) and studio.state == "done"
    with studio._speech.use_model() as drawn:
        assert drawn is chosen
    assert not any(state == "loading" for state, _ in told[1:])


def test_what_a_full_drive_does_not_take_is_shown_and_can_be_kept_later(pocket, faulty_drive):
    studio = quick_studio(Drive(faulty_drive.path), pocket)
    studio.settings = {**studio.settings, "count": 2}
    faulty_drive.fault("room for 2")  # the first picture and its record
    studio.say("a red car")
    assert studio.wait(240)
    first, second = studio.pictures
    assert (first["is_kept"], second["is_kept"]) == (True, False)
    assert studio.png(second["id"]).startswith(b"\x89PNG")
    assert studio.state == "done" and studio.status.startswith("Done: 2 pictures")
    assert "Not kept on the Drive is picture 2: " in studio.complaint
    assert "No space left on device" in studio.complaint and 'press "Keep"' in studio.complaint
    creations = faulty_drive.path / "creations"
    assert [read_record(path)["seed"] for path in creations.glob("*.png")] == [first["seed"]]
    studio._told({"type": "keep", "id": second["id"], "is_kept": True})
    assert "No space left on device" in studio.complaint
    assert not studio.pictures[1]["is_kept"] and len(list(creations.iterdir())) == 2
    faulty_drive.fault("")
    studio._told({"type": "keep", "id": second["id"], "is_kept": True})
    assert studio.complaint == "" and studio.pictures[1]["is_kept"]
    assert len(list(creations.glob("*.png"))) == 2


def test_what_was_said_is_drawn_where_a_full_drive_does_not_take_the_recording(
    pocket, faulty_drive
):
    drive = Drive(faulty_drive.path)
    heard = Transcript("a red car", "en", 1.0, "a red car", (), "test", "none", 1.0, 0.1)
    studio = quick_studio(drive, pocket, heard)
    studio._set("keep_recordings", True)
    for room, kept in (("room for 0", []), ("room for 1", []), ("", [".json", ".wav"])):
        faulty_drive.fault(room)  # for neither, for the record alone, for both
        studio.hear(SILENCE)
        assert studio.wait(240) and studio.state == "done" and studio.pictures
        failed = [note for note in studio.prompt["notes"] if "recording is not kept" in note]
        assert len(failed) == (0 if kept else 1), studio.prompt["notes"]
        faulty_drive.fault("")
        there = drive.recordings.iterdir() if drive.recordings.exists() else ()
        assert sorted(path.suffix for path in there) == kept


def test_nothing_is_waited_for_once_a_choice_is_loaded_whose_wish_has_ended(drive, pocket):
    """The wish was stopped as the choice began to load, and was busy for a moment still."""
    studio = quick_studio(drive, pocket)
    wait_until(lambda: studio.state == "ready")
    studio.state = "waiting"
    studio._load_all()
    assert studio.state == "ready"


def test_wish_that_waits_for_a_model_can_be_stopped(drive, pocket):
    studio = quick_studio(drive, pocket)
    told = []
    studio.observe(lambda change: told.append((studio.state, studio.status)), ["state", "status"])
    with studio._speech.use_model():  # as while a model loads
        studio.state = "loading"
        studio.say("a red car")
        wait_until(lambda: studio.state == "waiting")
        studio._told({"type": "cancel_wish"})
    assert studio.wait(240) and studio.state == "stopped" and not studio.pictures
    assert ("waiting", "Stopping when that is loaded.") in told


@pytest.mark.slow
def test_what_cannot_be_drawn_is_said_and_leaves_nothing(tmp_path):
    studio = Studio(Drive(tmp_path), settings={"model": "pocket"})
    studio.say("please draw me")
    assert studio.wait(240)
    assert studio.state == "error" and "Nothing is left to draw" in studio.complaint
    assert not (tmp_path / "creations").exists()


@pytest.mark.slow
def test_class_is_told_what_is_refused_and_does_not_see_it_drawn(tmp_path):
    (tmp_path / "classroom_words.txt").write_text("car\n")
    studio = Studio(Drive(tmp_path), settings={"model": "pocket", "steps": 2})
    studio.say("two red cars")
    assert studio.wait(240)
    assert studio.state == "error" and "“cars” is on the list" in studio.complaint
    assert studio.prompt == {} and studio.strip == []
    wait_until(lambda: studio.rules)  # a wish is refused before anything is loaded
    assert "txt are not drawn, and pictures are checked by open_nsfw" in studio.rules
    studio.say("two red balls")
    assert studio.wait(240)
    assert studio.state == "done" and studio.complaint == ""

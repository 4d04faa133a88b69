"""The page of notebook 0 without a browser: what is asked, what is kept, what goes on by itself."""

from __future__ import annotations

import io
import json
import shutil
from types import SimpleNamespace

import pytest
from app_pages import ADA, MUG, PATIENCE_S, REX, SAMPLES, messages, short
from PIL import Image
from traitlets import HasTraits

from s2i_lib.drawing.gallery import save
from s2i_lib.drawing.pages import without
from s2i_lib.drawing.records import Picture
from s2i_lib.errors import InputError
from s2i_lib.photos.dataset import build_dataset, sample_subject
from s2i_lib.photos.subject import Subject, load_subject, save_subject
from s2i_lib.storage import disk
from s2i_lib.storage.layout import Drive
from s2i_lib.storage.run_card import EDITIONS, WEIGHTS, finished_runs, read_card
from s2i_lib.training.config import FinetuneOptions
from s2i_lib.widgets import app as app_module
from s2i_lib.widgets.app import App, open_app
from s2i_lib.widgets.app.checking import GROUND, Checking
from s2i_lib.widgets.app.keeping import write_story
from s2i_lib.widgets.app.teaching import NOTE, Teaching, minutes_of


@pytest.fixture
def page(drive, local_disk, tiny) -> App:
    """Trains the tiny model, a few steps; nothing is opened in a browser."""
    return App(drive, **short(tiny))


def test_opening_writes_nothing_and_asks_who_it_is(page, drive):
    assert not list(drive.root.rglob("*"))
    assert page.faces.data["chosen"] == "" and page.subject is None
    assert page._boxes["photos"].layout.display == "none"


def test_run_again_shows_the_same_page(drive):
    first = open_app(drive)
    assert open_app(Drive(drive.root)) is first
    app_module._opened.pop(drive.root.absolute())


def test_name_is_given_once_and_a_noun_in_the_language_of_the_page(page, drive):
    page.faces._told({**MUG, "noun": "Tasse", "language": "de"})
    assert load_subject(drive, "Cuppa").class_noun == "mug"
    assert page.faces.data["chosen"] == "Cuppa" and page._boxes["photos"].layout.display == ""


def test_page_that_is_opened_again_takes_no_complaint_away(page, drive):
    """Each card says hello when it is drawn, and that took away why teaching had failed."""
    page.faces._told(MUG)
    page.heads["teach"].show(complaint="The disk is full.")
    for part in (page.faces, *page.heads.values(), page.keep):
        part._told({"type": "hello"})
    assert page.heads["teach"].data["complaint"] == "The disk is full."


def test_what_is_said_of_one_who_was_looked_at_is_not_said_of_the_next(page, drive):
    page.faces._told(MUG)
    page.faces.show(messages=[("app_forgotten", {"name": "Rex"})])
    page.heads["speak"].show(is_unnamed=True)
    page.faces._told(REX)
    assert page.faces.data["messages"] == [] and not page.heads["speak"].data["is_unnamed"]


@pytest.mark.parametrize("change", [{"name": " "}, {"noun": ""}])
def test_form_that_lacks_something_is_refused_in_words(page, drive, change):
    page.faces._told({**MUG, **change})
    assert page.faces.data["complaint"] and page.subject is None
    assert not list(drive.root.rglob("*.json"))


@pytest.mark.slow
def test_consent_is_asked_once_and_outlives_the_kernel(page, drive):
    page.faces._told({**ADA, "by": "yes"})
    assert "Consent needs the name" in page.faces.data["complaint"]
    assert not drive.subjects.exists()
    page.faces._told(ADA)
    again = App(drive)
    again._store.add("a.jpg", (SAMPLES / "00.jpg").read_bytes())
    again._widgets[1].refresh()
    assert again.checking.wait(PATIENCE_S)
    assert again.heads["photos"].data["complaint"] == ""
    manifest = json.loads((drive.subject("Ada") / "manifest.json").read_text())
    assert manifest["consent"]["by"] == "Ada"


@pytest.mark.slow
def test_one_photo_is_enough_to_try_and_is_shown_as_training_sees_it(page, drive):
    page.faces._told(MUG)
    page._store.add("a.jpg", (SAMPLES / "00.jpg").read_bytes())
    page._widgets[0].refresh()  # as the camera does
    assert page.wait(PATIENCE_S)
    assert page._widgets[1].photos == ["a.jpg"], "the other widget shows it, too"
    assert page._widgets[1].verdicts["a.jpg"]["kept"]
    assert messages(page.heads["photos"]) == ["app_checked_one"]
    teach = page.heads["teach"].data
    assert teach["state"] == "ready" and teach["is_open"] and len(teach["photos"]) == 1
    corner = Image.open(io.BytesIO(page._store.thumbnail("a.jpg"))).getpixel((2, 2))
    assert max(abs(a - b) for a, b in zip(corner, GROUND, strict=True)) < 12, "cut away is green"


@pytest.mark.slow
def test_photos_that_cannot_be_used_say_why_and_nothing_can_be_taught(page):
    page.faces._told(MUG)
    stream = io.BytesIO()
    Image.new("RGB", (90, 60), "gray").save(stream, "PNG")
    page._store.add("tiny.png", stream.getvalue())
    page._widgets[0].refresh()
    assert page.checking.wait(PATIENCE_S)
    [verdict] = page._widgets[1].verdicts.values()
    assert not verdict["kept"] and verdict["why"]
    assert not page.heads["teach"].data["is_open"]


@pytest.mark.parametrize("form", [{"name": "cuppa!"}, {"kind": "animal"}, {"noun": "dog"}])
def test_a_name_that_is_taken_changes_nothing_of_who_has_it(page, drive, form):
    """The folder is one for "Cuppa" and "cuppa!", so the card was written over."""
    page.faces._told(MUG)
    card = drive.subject("Cuppa") / "subject.json"
    before = card.read_bytes()
    page.faces._told({"type": "new"})
    page.faces._told({**REX, "name": "Cuppa", **form})
    assert card.read_bytes() == before and page.subject is None
    assert "Cuppa is there already: mug." in page.faces.data["complaint"]
    page.faces._told({**MUG, "name": "cuppa"})
    assert page.faces.data["chosen"] == "Cuppa" and not page.faces.data["complaint"]
    assert card.read_bytes() == before


@pytest.mark.slow
def test_photos_come_to_whom_they_were_dropped_for_whoever_is_looked_at(page, drive):
    """Forty take a while; another name is typed meanwhile."""
    page.faces._told(MUG)
    late = page._widgets[1]
    page.faces._told({"type": "new"})
    assert late._received((SAMPLES / "00.jpg").read_bytes(), {"name": "late.jpg"}) == ["late.jpg"]
    page.faces._told(REX)
    late._received((SAMPLES / "01.jpg").read_bytes(), {"name": "later.jpg"})
    page._widgets[1]._received((SAMPLES / "02.jpg").read_bytes(), {"name": "rex.jpg"})
    assert page.checking.wait(PATIENCE_S)

    def photos_of(name):
        return sorted(path.name for path in (drive.subject(name) / "photos").iterdir())

    assert photos_of("Cuppa") == ["late.jpg", "later.jpg"] and photos_of("Rex") == ["rex.jpg"]
    assert [list(widget.verdicts) for widget in page._widgets] == [["rex.jpg"]] * 2
    page.faces._told({"type": "choose", "name": "Cuppa"})
    assert page.checking.wait(PATIENCE_S)
    assert sorted(page._widgets[1].verdicts) == ["late.jpg", "later.jpg"]


def test_what_is_still_sent_for_one_who_was_forgotten_comes_too_late(page, drive):
    page.faces._told(MUG)
    late = page._widgets[1]
    page.keep._told({"type": "forget"})
    assert late.comm is None and not drive.subject("Cuppa").exists()


@pytest.mark.slow
def test_verdicts_come_one_by_one_with_what_training_will_see(page):
    page.faces._told(MUG)
    seen = []

    def look(change):
        seen.append(len(change["new"]))
        name = list(change["new"])[-1]
        shown = Image.open(io.BytesIO(page._store.thumbnail(name))).convert("RGB")
        assert max(abs(a - b) for a, b in zip(shown.getpixel((2, 2)), GROUND, strict=True)) < 12

    HasTraits.observe(page._widgets[1], look, "verdicts")
    for path in sorted(SAMPLES.glob("*.jpg")):
        page._store.add(path.name, path.read_bytes())
    page._widgets[1].refresh()
    assert page.checking.wait(PATIENCE_S)
    assert seen[:5] == [1, 2, 3, 4, 5] and messages(page.heads["photos"]) == ["app_checked"]


@pytest.mark.slow
def test_photos_of_two_people_are_said_and_whose_face_is_taken(page, drive):
    from skimage.data import astronaut

    page.faces._told(ADA)
    face = Image.fromarray(astronaut()).crop((120, 0, 340, 220)).resize((440, 440))
    pair = Image.new("RGB", (960, 480), (90, 120, 150))
    pair.paste(face, (20, 20))
    pair.paste(face, (500, 20))
    stream = io.BytesIO()
    pair.save(stream, "PNG")
    page._widgets[1]._received(stream.getvalue(), {"name": "both.png"})
    assert page.checking.wait(PATIENCE_S)
    assert "There are 2 faces in it" in page._widgets[1].verdicts["both.png"]["why"]
    assert any("more than one face" in line for line in page.heads["photos"].data["advice"])


@pytest.mark.slow
def test_page_says_how_long_weights_are_on_their_way_to_google(google_drive, drive, monkeypatch):
    """Notebook 0 has no cell that waits for the upload, as notebook 2 has."""
    monkeypatch.setattr(disk, "UPLOAD_BYTES_S", 1000)
    for place, minutes in ((Drive(google_drive(at_once=1).path / "s2i"), ["5"]), (drive, [])):
        dataset = build_dataset(sample_subject(place), place)
        run = place.runs / "racer" / "tiny-01"
        (run / WEIGHTS).mkdir(parents=True)
        (run / WEIGHTS / "unet.safetensors").write_bytes(bytes(299_000))
        card = {"status": "finished", "dataset": {"sha256": dataset.sha256}}
        (run / "run.json").write_text(json.dumps(card))
        teaching = Teaching(place, lambda name: None)
        teaching.look("Racer")
        learned, *uploading = teaching.of("Racer").messages
        assert learned[0] == "app_learned"
        assert uploading == [("app_uploading", {"minutes": each}) for each in minutes]


@pytest.fixture(scope="module")
def taught(tmp_path_factory, tiny):
    """A Drive on which the sample has been taught by pressing, and the page that did it."""
    folder = tmp_path_factory.mktemp("taught")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S2I_LOCAL", str(folder / "local"))
        page = App(Drive(folder / "drive"), **short(tiny))
        page.faces._told({"type": "sample"})
        assert page.wait(PATIENCE_S)
        page.heads["teach"]._told({"type": "start"})
        assert page.wait(PATIENCE_S)
        yield page


@pytest.mark.slow
def test_taught_by_one_press_it_shows_before_and_now_and_opens_speak(taught):
    teach = taught.heads["teach"].data
    assert teach["complaint"] == "" and teach["state"] == "done"
    assert len(teach["before"]) == len(teach["now"]) == len(teach["photos"]) == 4
    assert taught.heads["speak"].data["is_open"] and taught.heads["speak"].data["is_taught"]
    assert taught.studio.settings["subject"] == "Racer"
    assert teach["chosen"]["run"].startswith("racer/")


@pytest.mark.slow
def test_opened_again_nothing_is_trained_twice(taught, tiny):
    [run] = finished_runs(taught.drive)
    before = (run / "run.json").read_bytes()
    again = App(taught.drive, **short(tiny))
    assert again.wait(PATIENCE_S)
    assert again.heads["teach"].data["state"] == "done"
    assert again.heads["teach"].data["now"] == taught.heads["teach"].data["now"]
    assert [*finished_runs(taught.drive)] == [run] and (run / "run.json").read_bytes() == before


@pytest.mark.slow
def test_another_subject_shows_nothing_of_the_one_before(taught, tmp_path, tiny):
    page = App(Drive(shutil.copytree(taught.drive.root, tmp_path / "copy")), **short(tiny))
    assert page.wait(PATIENCE_S) and page.heads["teach"].data["now"]
    page.faces._told(REX)
    teach, speak = page.heads["teach"].data, page.heads["speak"].data
    assert (teach["name"], teach["state"], teach["now"], teach["likeness"]) == (
        "Rex",
        "none",
        (),
        (),
    )
    assert (speak["name"], speak["is_taught"]) == ("Rex", False)


@pytest.mark.slow
def test_trained_on_or_with_more_photos_it_has_been_learned_all_the_same(taught, tmp_path, tiny):
    """The studio draws with the run that is there; the page said that it knew nobody."""
    page = App(Drive(shutil.copytree(taught.drive.root, tmp_path / "copy")), **short(tiny))
    page.wait(PATIENCE_S)
    page._widgets[1]._told({"type": "remove", "name": "00.jpg"})
    assert page.wait(PATIENCE_S)
    assert page.heads["teach"].data["state"] == "ready"
    assert page.heads["speak"].data["is_taught"]
    said = messages(page.heads["teach"])
    assert said[0].startswith("app_plan"), "nothing was stopped, and nothing goes on"


@pytest.mark.slow
def test_taught_with_an_earlier_versions_model_it_is_to_be_taught_again_which_is_said(
    taught, tmp_path, tiny, monkeypatch
):
    """It ended, so there is nothing to go on with, as the page said that there was."""
    monkeypatch.setitem(EDITIONS, tiny.name, 2)
    page = App(Drive(shutil.copytree(taught.drive.root, tmp_path / "copy")), **short(tiny))
    assert page.wait(PATIENCE_S)
    said = page.heads["teach"].data["messages"]
    assert said[0] == ("app_outdated", {"name": "Racer"}) and said[1][0].startswith("app_plan")
    assert "app_was_stopped" not in messages(page.heads["teach"])
    speak = page.heads["speak"].data
    assert speak["is_outdated"] and not speak["is_taught"]
    page.heads["teach"]._told({"type": "start"})
    assert page.wait(PATIENCE_S)
    assert messages(page.heads["teach"]) == ["app_learned"]
    assert not page.heads["speak"].data["is_outdated"]


@pytest.mark.slow
def test_one_who_waited_is_planned_once_the_other_has_been_taught(
    taught, tmp_path, local_disk, tiny
):
    drive = Drive(shutil.copytree(taught.drive.root, tmp_path / "copy"))
    shutil.rmtree(drive.runs)
    page = App(drive, **{**short(tiny), "steps": 400})
    page.wait(PATIENCE_S)
    page.heads["teach"]._told({"type": "start"})
    page.faces._told(MUG)
    page._widgets[1]._received((SAMPLES / "00.jpg").read_bytes(), {"name": "00.jpg"})
    assert page.checking.wait(PATIENCE_S) and page.teaching.busy == "Racer"
    assert messages(page.heads["teach"]) == ["app_busy"]
    page.heads["teach"]._told({"type": "start"})
    assert "Racer is being taught just now" in page.heads["teach"].data["complaint"]
    page.teaching.stop("Racer")
    assert page.wait(PATIENCE_S)
    assert page.heads["teach"].data["name"] == "Cuppa"
    assert messages(page.heads["teach"])[0].startswith("app_plan")


@pytest.mark.slow
def test_stopped_in_the_middle_it_waits_and_after_a_kill_it_goes_on_by_itself(
    taught, tmp_path, local_disk, tiny
):
    drive = Drive(shutil.copytree(taught.drive.root, tmp_path / "copy"))
    shutil.rmtree(drive.runs)
    stopping = App(drive, **{**short(tiny), "steps": 400})
    stopping.wait(PATIENCE_S)

    def stop_soon(change):
        # Of 400 steps a quick machine says "less than a minute" from the first.
        said = {key for key, _ in change["new"].get("messages", ())}
        if said & {"app_learning_left", "app_learning_last"}:
            stopping.heads["teach"]._told({"type": "stop"})

    HasTraits.observe(stopping.heads["teach"], stop_soon, "data")
    stopping.heads["teach"]._told({"type": "start"})
    assert stopping.wait(PATIENCE_S)
    assert stopping.heads["teach"].data["state"] == "stopped"
    note = drive.subject("Racer") / NOTE
    assert json.loads(note.read_text())["goes_on"] is False
    [card] = drive.runs.glob("racer/*/run.json")
    assert read_card(card.parent)["status"] == "training"
    waiting = App(drive, **{**short(tiny), "steps": 400})
    assert waiting.wait(PATIENCE_S)
    assert messages(waiting.heads["teach"])[0] == "app_was_stopped"
    # A kernel that dies cannot write that it has stopped:
    note.write_text(json.dumps({"goes_on": True, "run": "", "steps": 0}))
    again = App(drive, **{**short(tiny), "steps": 400, "most_steps": 0})
    assert again.teaching.busy == "Racer"
    again.teaching.stop("Racer")
    assert again.wait(PATIENCE_S)
    assert any("goes on at step" in line for line in again.heads["teach"].data["log"])


def test_what_was_trained_further_before_a_new_model_came_does_not_go_on_by_itself(drive):
    """It could not: the run that the note names is refused, whenever the page is opened."""
    save_subject(drive, Subject("Rex", "dog"))
    note = drive.subject("Rex") / NOTE
    note.write_text(json.dumps({"goes_on": True, "run": "pocket-01", "steps": 1000}))
    run = drive.runs / "rex" / "pocket-01"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"base": {"name": "pocket"}}))
    teaching = Teaching(drive, lambda name: None)
    assert not teaching.go_on("Rex") and teaching.busy == ""
    assert json.loads(note.read_text())["goes_on"] is False


def test_run_that_goes_on_shows_what_it_drew_then_as_now(drive):
    """It draws nothing at step 0 again, and what it drew half-taught was called "before"."""
    save_subject(drive, Subject("Rex", "dog"))
    teaching = Teaching(drive, lambda name: None)
    samples = drive.root / "step-000300.png"
    Image.new("RGB", (64, 64), "red").save(samples)
    teaching._happened("Rex", "samples", {"step": 300, "path": samples, "prompts": ["a ohwx dog"]})
    assert teaching.of("Rex").before == () and len(teaching.of("Rex").now) == 4


def test_page_promises_the_minutes_of_what_is_left_of_a_run():
    plan = {"device": "cpu", "options": FinetuneOptions(steps=400), "seconds_a_step": 1.0}
    whole, left = (minutes_of(SimpleNamespace(from_step=n, **plan)) for n in (0, 380))
    assert int(left) < int(whole) / 4


def test_another_is_not_taught_meanwhile(drive):
    save_subject(drive, Subject("Rex", "dog"))
    teaching = Teaching(drive, lambda name: None)
    teaching.busy = "Bella"
    with pytest.raises(InputError, match="Bella is being taught just now"):
        teaching.start("Rex")
    assert not (drive.subject("Rex") / NOTE).exists()


def test_start_that_is_pressed_twice_is_no_mistake(drive):
    teaching = Teaching(drive, lambda name: None)
    teaching.busy = "Rex"
    teaching.start("Rex")
    assert teaching.of("Rex").complaint == "" and not (drive.subject("Rex") / NOTE).exists()


def test_forgetting_that_is_pressed_twice_forgets_one(page, drive):
    """The second press came to whoever was chosen next, whose traces nobody had seen."""
    for form in (MUG, REX):
        page.faces._told(form)
    page.keep._told({"type": "list"})
    for _ in range(2):
        page.keep._told({"type": "forget", "name": "Rex"})
    assert page.subject.name == "Cuppa" and load_subject(drive, "Cuppa")
    assert not drive.subject("Rex").exists()


@pytest.mark.slow
def test_newer_photos_take_the_place_of_a_check_that_runs(drive):
    ended = []
    checking = Checking(lambda said: None, lambda name, look: None, ended.append, pytest.fail)
    save_subject(drive, subject := Subject("Cuppa", "mug"))
    photos = drive.subject("Cuppa") / "photos"
    photos.mkdir()
    shutil.copy(SAMPLES / "00.jpg", photos)
    checking.check(drive, subject)
    checking.check(drive, subject)
    assert checking.wait(PATIENCE_S) and len(ended) == 1


def draw_of(drive: Drive, name: str, colour: str) -> None:
    record = {
        "prompt": f"a ohwx car on a {colour} background", "seed": 1, "negative": "",
        "model": "pocket", "subjects": [{"name": name, "class_noun": "car", "identifier": "ohwx",
        "kind": "object", "spellings": []}], "transcript": {"text": f"{name} on {colour}"},
    }  # fmt: skip
    drive.creations.mkdir(parents=True, exist_ok=True)
    save(Picture(Image.new("RGB", (64, 64), colour), record), drive.creations)


@pytest.mark.slow
def test_page_to_show_has_photos_only_where_asked_and_forget_finds_them(taught):
    drive = taught.drive
    with pytest.raises(InputError, match="no picture of Racer yet"):
        write_story(drive, "Racer", "Racer", with_photos=False)
    draw_of(drive, "Racer", "blue")
    draw_of(drive, "Rex", "green")
    bare = write_story(drive, "Racer", "Racer", with_photos=False).read_text()
    assert "Racer on blue" in bare and "Rex on green" not in bare
    assert "image/jpeg" not in bare and bare.count("data:image/png") == 1
    with_photos = write_story(drive, "Racer", "Racer", with_photos=True).read_text()
    assert with_photos.count("data:image/jpeg") == 5

    def is_racer(record):
        return "Racer" in json.dumps(record)

    assert without(with_photos, is_racer) == ""


@pytest.mark.slow
def test_forgetting_lists_first_and_leaves_nothing(taught, tmp_path, local_disk, tiny):
    drive = Drive(shutil.copytree(taught.drive.root, tmp_path / "copy"))
    page = App(drive, **short(tiny))
    page.wait(PATIENCE_S)
    page.keep._told({"type": "list"})
    listed = [trace["path"] for trace in page.keep.data["traces"]]
    assert "subjects/racer" in listed and "runs/racer" in listed
    assert (drive.subjects / "racer").is_dir(), "listed, not deleted"
    page.keep._told({"type": "forget"})
    left = [p for p in drive.root.rglob("*") if p.is_file() and "rex" not in p.read_text("latin1")]
    assert [p for p in left if "acer" in p.name.lower()] == [] and page.subject is None
    assert messages(page.faces) == ["app_forgotten"]

"""Forgetting a subject takes all of it, and nothing of anybody else's."""

import io
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from s2i_lib.drawing import gallery, pages
from s2i_lib.drawing.draw import draw
from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.errors import InputError, S2iError
from s2i_lib.photos.subject import Subject, save_subject
from s2i_lib.privacy import find_doubts, find_traces, forget
from s2i_lib.speech.prompt import make_prompt
from s2i_lib.speech.transcript import Transcript
from s2i_lib.storage.layout import Drive, local_folder
from s2i_lib.storage.lease import Lease

REX, LUNA = Subject("Rex", "dog"), Subject("Luna", "cat", "gawx")


@pytest.fixture(autouse=True)
def local_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "local"))


@pytest.fixture
def shared(drive, pocket):
    """A Drive that Rex and Luna share: {subject: its files}."""
    own = {}
    for subject, other_prompt in ((REX, "a dog"), (LUNA, "a cat")):
        before = files(drive)
        save_subject(drive, subject)
        photos = drive.subject(subject.name) / "photos"
        photos.mkdir()
        (photos / "one.jpg").write_bytes(b"photo")
        run = drive.runs / subject.name.lower() / "20260101"
        run.mkdir(parents=True)
        (run / "run.json").write_text(json.dumps({"class_prompt": other_prompt}))
        (run / "weights.safetensors").write_bytes(b"weights")
        local = local_folder(drive, run)
        local.mkdir(parents=True)
        (local / "state.safetensors").write_bytes(b"state")
        class_images = drive.class_images / f"{other_prompt.replace(' ', '-')}-0123456789ab"
        class_images.mkdir(parents=True)
        (class_images / "latents.safetensors").write_bytes(b"latents")
        drive.creations.mkdir(exist_ok=True)
        prompt = make_prompt(f"{subject.name} on a red background", [REX, LUNA], chosen=subject)
        [picture] = draw(pocket, prompt, DrawOptions(steps=1, seed=1))
        path = gallery.save(picture, drive.creations)
        pages.write_page(
            [pages.Section(prompt.text, [path], clip=np.zeros(160, np.float32))],
            drive.creations / f"page of {subject.name}.html",
            title="Page",
        )
        drive.recordings.mkdir(exist_ok=True)
        gallery.save_recording(
            np.zeros(160, np.float32), spoken(prompt.text), prompt.subjects, drive.recordings
        )
        own[subject.name] = files(drive) - before
    # what nobody's is: class images of a longer prompt, a picture without a subject, a stray file
    before = files(drive)
    house = drive.class_images / "a-dog-house-0123456789ab"
    house.mkdir()
    (house / "latents.safetensors").write_bytes(b"latents")
    gallery.save(draw(pocket, "a house", DrawOptions(steps=1))[0], drive.creations)
    (drive.creations / "notes.json").write_text("[1]")
    own["nobody"] = files(drive) - before
    return own


def spoken(text: str) -> Transcript:
    return Transcript(text, "en", 1.0, text, (), "faster-whisper", "tiny.en", 1.0, 0.1)


def files(drive) -> set:
    """Every file on the Drive and of this Drive on the local disk."""
    places = (drive.root, local_folder(drive, drive.root))
    return {path for place in places for path in place.rglob("*") if path.is_file()}


def test_all_of_one_goes_and_all_of_the_others_stays(drive, shared):
    traces = find_traces(drive, "rex")
    assert {trace.what for trace in traces} == {
        "photos, dataset and card", "fine-tuned runs", "class images", "picture", "recording",
        "page",
    }  # fmt: skip
    assert files(drive) == set.union(*shared.values())  # finding deletes nothing
    forget(traces)
    assert files(drive) == shared["Luna"] | shared["nobody"]
    with pytest.raises(InputError, match=r"Nothing is kept of 'rex'.*luna"):
        find_traces(drive, "rex")


def test_a_page_of_several_stays_without_the_one_who_is_forgotten(drive, shared):
    """Notebook 3 writes one page a session, whoever was drawn."""
    wishes = []
    for path in sorted(drive.creations.glob("*.png")):
        record = gallery.read_record(path)
        wishes.append(pages.Section(record["prompt"], [path], clip=np.zeros(160, np.float32)))
    page = pages.write_page(wishes, drive.creations / "session.html", title="All & everybody")
    whole = page.read_text()
    mine = drive.creations / "session-rest.html"
    mine.write_text("somebody's own page of that name")
    forget(find_traces(drive, "Rex"))
    rest = drive.creations / "session-rest-2.html"
    assert files(drive) == shared["Luna"] | shared["nobody"] | {mine, rest}
    assert mine.read_text() == "somebody's own page of that name"
    # Three letters are found in any picture's base64, now and then.
    text = re.sub(r"base64,[^\"]+", "", rest.read_text())
    assert text.count("<section>") == whole.count("<section>") - 1 == 2
    assert "Luna" in text and "a house" in text and "Rex" not in text and "ohwx" not in text
    assert text.endswith("</html>") and "<h1>All &amp; everybody</h1>" in text
    assert len(text) < len(whole)


def test_reports_beside_anothers_runs_go_and_their_own_stay(drive, shared):
    """`evaluate luna rex` writes one page with photos of both, into Luna's run."""
    folder = drive.runs / "luna" / "20260101" / "evaluations"
    folder.mkdir()
    both = [
        {"name": f"{s.name.lower()}/20260101", "subject": {"name": s.name}} for s in (LUNA, REX)
    ]
    for stem, runs in (("both", both), ("alone", both[:1])):
        (folder / f"{stem}.json").write_text(json.dumps({"runs": runs}))
        (folder / f"{stem}.html").write_text("photos")
    forget(find_traces(drive, "Rex"))
    kept = {folder / "alone.json", folder / "alone.html"}
    assert files(drive) == shared["Luna"] | shared["nobody"] | kept


def test_pictures_drawn_with_what_was_exported_are_found(drive, shared, pocket):
    """Such weights lie in the run's folder; that a subject was asked for, nobody can tell."""
    [picture] = draw(pocket, "a ohwx dog", DrawOptions(steps=1))
    for subject in ("rex", "luna"):
        picture.record["run"] = str(drive.runs / subject / "20260101" / "export" / "diffusers")
        path = gallery.save(picture, drive.creations)
        assert (path in gallery.list_pictures(drive.creations, subject="Rex")) == (subject == "rex")
    forget(find_traces(drive, "Rex"))
    assert files(drive) - shared["Luna"] - shared["nobody"] == {path, path.with_suffix(".json")}


def test_a_page_called_like_a_picture_of_one_keeps_the_others(drive, shared):
    """`speak` names its page after its first picture."""
    [first] = gallery.list_pictures(drive.creations, subject="Rex")
    [other] = gallery.list_pictures(drive.creations, subject="Luna")
    wishes = [pages.Section(path.stem, [path]) for path in (first, other)]
    page = pages.write_page(wishes, first.with_suffix(".html"), title="Drawn")
    traces = find_traces(drive, "Rex")
    assert [trace.path for trace in traces].count(page) == 1
    forget(traces)
    rest = page.with_name(f"{page.stem}-rest.html")
    assert files(drive) == shared["Luna"] | shared["nobody"] | {rest}


def test_what_links_lead_to_stays_and_is_named(drive, shared, tmp_path, monkeypatch):
    """runs/rex and subjects/rex/photos may be links to a larger disk."""
    large = [tmp_path / "large" / name for name in ("runs", "photos")]
    for folder, place in zip((drive.runs / "rex", drive.subject("Rex") / "photos"), large,
                             strict=True):  # fmt: skip
        place.parent.mkdir(exist_ok=True)
        folder.rename(place)
        folder.symlink_to(place)
    (drive.subject("Rex") / "nowhere").symlink_to(tmp_path / "gone")
    (drive.subject("Rex") / "card").symlink_to("subject.json")
    monkeypatch.chdir(tmp_path)
    doubts = {doubt.path: doubt.why for doubt in find_doubts(Drive(Path("drive")), "Rex")}
    assert set(large) <= set(doubts) and doubts[large[0]].startswith("drive/runs/rex is a link")
    assert not doubts.keys() & {tmp_path / "gone", drive.subject("Rex") / "subject.json"}
    forget(find_traces(drive, "Rex"))
    assert all(place.is_dir() for place in large) and not (drive.runs / "rex").is_symlink()


def test_two_views_of_a_picture_go_with_it(drive, shared):
    """`ar --stereo` writes them under the picture's name, with two endings."""
    [mine] = gallery.list_pictures(drive.creations, subject="Rex")
    [hers] = gallery.list_pictures(drive.creations, subject="Luna")
    views = [path.with_suffix(".stereo.jpg") for path in (mine, hers)]
    for view in views:
        view.write_bytes(b"two views")
    forget(find_traces(drive, "Rex"))
    assert [view.exists() for view in views] == [False, True]


def test_a_subject_may_be_called_like_the_folder_of_runs():
    assert gallery.is_of({"run": "runs/pocket-01"}, "runs")
    assert not gallery.is_of({"run": "/home/runs/drive/runs/luna/pocket-01/export"}, "rex")
    assert gallery.is_of({"run": "/home/runs/drive/runs/rex/pocket-01/export"}, "rex")


def test_a_picture_is_of_whom_the_run_was_taught_wherever_its_weights_lie():
    """Typed, "a ohwx dog" names nobody; an export may have been taken to any folder."""
    elsewhere = {"run": "/home/me/exports/a", "subjects": [], "run_subject": "Mr. Whiskers"}
    assert gallery.is_of(elsewhere, "mr-whiskers") and not gallery.is_of(elsewhere, "rex")
    for odd in ({"run_subject": "..."}, {"run_subject": ["rex"]}, {"run_subject": None}):
        assert not gallery.is_of(odd, "rex")


def test_a_picture_of_an_export_that_was_taken_for_a_model_is_of_its_subject(pocket, tmp_path):
    """``draw --model exports/rex``: its card says whom it was taught."""
    (tmp_path / "run.json").write_text(json.dumps({"subject": {"name": "Rex"}}))
    [picture] = draw(replace(pocket, source=str(tmp_path)), "a cat", DrawOptions(steps=1))
    assert gallery.is_of(picture.record, "rex")
    assert draw(pocket, "a cat", DrawOptions(steps=1))[0].record["run_subject"] is None


def test_class_images_that_another_run_was_made_with_stay(drive, shared):
    card = drive.runs / "luna" / "20260101" / "run.json"
    card.write_text(json.dumps({"class_prompt": "a dog"}))
    assert "class images" not in {trace.what for trace in find_traces(drive, "Rex")}


def test_class_images_of_the_same_first_prompt_go_with_the_run_that_used_them(drive):
    """Rex's are of dogs in colours, Luna's of plain ones: "a dog" is the first prompt of both."""
    for slug, key in (("rex", "aa11"), ("luna", "bb22")):
        run = drive.runs / slug / "pocket-01"
        run.mkdir(parents=True)
        card = {"class_prompt": "a dog", "class_images": f"a-dog-{key}"}
        (run / "run.json").write_text(json.dumps(card))
        (drive.class_images / f"a-dog-{key}").mkdir(parents=True)
    (drive.class_images / "a-dog-cc33").mkdir()  # of another seed, drawn to look at
    traces = find_traces(drive, "Rex")
    own = [trace.path.name for trace in traces if trace.what == "class images"]
    assert own == ["a-dog-aa11"]


@pytest.mark.parametrize("kill_at", range(11))
def test_one_that_was_cut_short_is_finished_by_the_next(drive, shared, monkeypatch, kill_at):
    """Killed before any file that it deletes: the next finds all that is left."""
    truncate, left = os.truncate, [kill_at]

    def dying(path, length):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        truncate(path, length)

    monkeypatch.setattr(os, "truncate", dying)
    with pytest.raises(KeyboardInterrupt):
        forget(find_traces(drive, "Rex"))
    monkeypatch.setattr(os, "truncate", truncate)
    forget(find_traces(drive, "Rex"))
    assert files(drive) == shared["Luna"] | shared["nobody"]


def test_nothing_is_deleted_while_a_run_is_being_trained(drive, shared):
    before = files(drive)
    lease = Lease(drive.runs / "rex" / "20260101", pytest.fail).acquire()
    try:
        with pytest.raises(S2iError, match=r"rex.20260101 is being trained"):
            forget(find_traces(drive, "Rex"))
        assert files(drive) == before | {lease.path}
        forget(find_traces(drive, "Luna"))  # another's training is no hindrance
    finally:
        lease.release()
    forget(find_traces(drive, "Rex"))
    assert files(drive) == shared["nobody"]


def test_the_command_lists_asks_and_deletes(drive, shared, monkeypatch, capsys):
    from s2i_lib.cli.main import main

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["s2i_lib", "forget", *words, "--drive", str(drive.root)])
        try:
            status = main()
        except SystemExit as stop:
            status = stop.code or 0
        return status, capsys.readouterr().out

    everything = files(drive)
    _, listed = run("Rex", "--json")
    *traces, doubt = map(json.loads, listed.splitlines())
    assert {trace["deleted"] for trace in traces} == {False}
    assert doubt["doubt"] == str(drive.creations / "notes.json") and "no record" in doubt["why"]
    assert files(drive) == everything
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    status, listed = run("Rex")
    assert "photos, dataset and card" in listed and files(drive) == everything
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert run("Luna")[0] == 0
    assert files(drive) == shared["Rex"] | shared["nobody"]
    status, listed = run("Rex", "--yes")
    assert status == 0
    assert "fine-tuned runs" in listed
    assert files(drive) == shared["nobody"]
    assert run("Rex", "--yes")[0] == 2


def test_json_says_deleted_only_of_what_is_gone(drive, shared, monkeypatch, capsys):
    from s2i_lib.cli.main import main

    words = ["s2i_lib", "forget", "Rex", "--yes", "--json", "--drive", str(drive.root)]
    monkeypatch.setattr(sys, "argv", words)
    lease = Lease(drive.runs / "rex" / "20260101", pytest.fail).acquire()
    assert main() == 1
    assert capsys.readouterr().out == ""
    lease.release()
    with pytest.raises(SystemExit, match="0"):
        main()
    *lines, doubt = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert Path(doubt["doubt"]).exists()
    assert lines and all(line["deleted"] and not Path(line["path"]).exists() for line in lines)


def test_what_a_drive_does_not_list_is_never_said_to_be_gone(faulty_drive):
    """From Python 3.13 on, which Colab has, globbing a dead mount finds nothing."""
    drive = Drive(faulty_drive.path)
    save_subject(drive, REX)
    save_subject(drive, LUNA)
    for name, fault in (
        ("Rex", "dead mount"),
        ("Nobody", "dead mount"),
        ("Rex", "cannot list runs"),
    ):
        (drive.runs / "old-rex").mkdir(parents=True, exist_ok=True)
        faulty_drive.fault(fault)
        with pytest.raises(S2iError, match=r"cannot be looked through.*nothing was deleted"):
            find_traces(drive, name)
        faulty_drive.fault("")
    faulty_drive.fault("cannot list old-rex")
    assert [trace.path for trace in find_traces(drive, "Rex")] == [drive.subject("Rex")]
    doubts = {doubt.path: doubt.why for doubt in find_doubts(drive, "Rex")}
    assert "cannot be listed" in doubts[drive.runs / "old-rex"]

"""Strangers' pictures, records, pages and folders: each test is the attack, on own files."""

import json
import os
import re
import signal
import struct
import sys
import tempfile
import unicodedata
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from s2i_lib.drawing import gallery
from s2i_lib.drawing.records import Picture
from s2i_lib.errors import InputError, S2iError
from s2i_lib.photos.consent import Consent
from s2i_lib.photos.crop import Box
from s2i_lib.photos.dataset import STAGED, build_dataset
from s2i_lib.photos.manifest import crops_by_hand, inspect_dataset, open_photo, read_earlier
from s2i_lib.photos.subject import Subject, save_subject
from s2i_lib.privacy import find_doubts, find_traces, forget
from s2i_lib.storage.files import remove
from s2i_lib.storage.layout import Drive, local_folder

SECRET = b"somebody's only copy"
DEEP = b'{"subjects":' * 100_000


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "local"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


def add_picture(drive: Drive, name: str, **changes) -> Path:
    """Save a picture of the subject called ``name``, as `draw` does."""
    drive.creations.mkdir(parents=True, exist_ok=True)
    record = {"prompt": f"a {name}", "negative": "", "seed": 1, "run": None}
    record["subjects"] = [
        {"name": name, "class_noun": "dog", "identifier": "ohwx", "kind": "animal"}
    ]
    return gallery.save(Picture(Image.new("RGB", (8, 8)), record | changes), drive.creations)


def add_subject(drive: Drive, name: str, folder: str | None = None) -> Path:
    """Keep a subject with a photo and a run; return its folder of photos."""
    home = drive.subjects / folder if folder else drive.subject(name)
    run = drive.runs / home.name / "pocket-01"
    for place, card in (
        (home, asdict(Subject(name, "dog"))),
        (run, {"status": "finished", "subject": {"name": name}, "class_images": "a-dog-aa11"}),
    ):
        place.mkdir(parents=True)
        card_name = "run.json" if place == run else "subject.json"
        (place / card_name).write_text(json.dumps(card))
    for file in (home / "photos" / "one.jpg", run / "weights" / "unet.safetensors"):
        file.parent.mkdir()
        file.write_bytes(b"photo")
    return home


def files(drive: Drive) -> set[Path]:
    return {path for path in drive.root.rglob("*") if path.is_file() or path.is_symlink()}


# ---- Deleting ----


def test_deleting_follows_no_link_and_empties_no_file_that_has_another_name(tmp_path):
    outside = tmp_path / "outside"
    (outside / "run").mkdir(parents=True)
    (outside / "run" / "weights").write_bytes(SECRET)
    (outside / "file").write_bytes(SECRET)
    (outside / "backup").write_bytes(SECRET)
    own = tmp_path / "drive" / "rex"
    (own / "sub").mkdir(parents=True)
    (own / "sub" / "mine").write_bytes(b"to be deleted")
    (own / "file").symlink_to(outside / "file")
    (own / "folder").symlink_to(outside / "run")
    (own / "nowhere").symlink_to(outside / "not there")
    os.link(outside / "backup", own / "hard")
    os.mkfifo(own / "pipe")
    linked = tmp_path / "drive" / "linked"
    linked.symlink_to(outside / "run")
    for path in (own, linked):
        remove(path)
    assert list((tmp_path / "drive").iterdir()) == []
    kept = (outside / "run" / "weights", outside / "file", outside / "backup")
    assert [path.read_bytes() for path in kept] == [SECRET] * 3


@pytest.mark.parametrize("name", ["rex", "n" * 255])
def test_a_folder_goes_although_one_that_was_killed_left_its_half(tmp_path, name):
    place = tmp_path / "place"
    (place / name).mkdir(parents=True)
    (place / name / "new").write_bytes(b"new")
    if len(name) < 200:
        (place / f".{name}.part").mkdir()
        (place / f".{name}.part" / "old").write_bytes(b"old")
    remove(place / name)
    assert list(place.iterdir()) == []


# ---- Forgetting ----


def pictures_of_rex(drive: Drive) -> dict[str, Path]:
    """Pictures of Rex whose records are cut, missing or renamed; the PNG's own tells."""
    own = {name: add_picture(drive, "Rex") for name in ("cut", "missing", "renamed")}
    own["cut"].with_suffix(".json").write_text('{"subjects": [{"na')
    own["missing"].with_suffix(".json").unlink()
    own["renamed"] = own["renamed"].rename(drive.creations / "best.png")
    return own


ODD_RECORDS = {
    "null.json": b"null",
    "list.json": b"[1]",
    "bytes.json": b"\xff\xfe",
    "deep.json": DEEP,
    "number.json": b'{"subjects": 7, "run": 3}',
    "strings.json": b'{"subjects": ["Bo", null, 1, {"name": ["x"]}], "run": ["rex"]}',
    "emoji.json": '{"subjects": [{"name": "🐶"}]}'.encode(),
    "half.json": b'{"subjects": [{"name": "\\ud83d"}]}',
    "pre.html": b"<section><pre>[1]</pre></section>",
    "deep.html": b"<section><pre>" + DEEP + b"</pre></section>",
    "open.html": b"<section>" * 50_000,
    "bytes.html": b"\xff\xfe<section>",
    "plain.png": b"no picture",
}


def test_forget_is_stopped_by_no_odd_file_and_names_those_that_it_cannot_tell(drive):
    add_subject(drive, "Rex")
    add_subject(drive, "Luna")
    own = pictures_of_rex(drive)
    theirs = add_picture(drive, "Luna")
    for name, data in ODD_RECORDS.items():
        (drive.creations / name).write_bytes(data)
    (drive.creations / "folder.html").mkdir()
    (drive.creations / "folder.json").mkdir()
    os.mkfifo(drive.creations / "pipe.json")
    stray = drive.creations / "stripped.png"
    Image.new("RGB", (8, 8)).save(stray)
    evaluations = drive.runs / "luna" / "pocket-01" / "evaluations"
    evaluations.mkdir()
    for number, data in enumerate((b'{"runs": 5}', b'{"runs": [1, {"subject": 2}]}', DEEP)):
        (evaluations / f"{number}.json").write_bytes(data)
    (drive.subjects / "mia").mkdir()
    (drive.subjects / "mia" / "subject.json").write_bytes(DEEP)
    doubts = {doubt.path for doubt in find_doubts(drive, "Rex")}
    assert {stray, drive.creations / "deep.json", drive.creations / "plain.png",
            drive.creations / "pre.html", evaluations / "2.json"} <= doubts  # fmt: skip
    assert not doubts & {theirs, *own.values()}
    forget(find_traces(drive, "Rex"))
    left = files(drive)
    assert not left & set(own.values())
    assert {theirs, stray, evaluations / "0.json", drive.creations / "emoji.json"} <= left
    assert not (drive.subjects / "rex").exists() and (drive.subjects / "luna").exists()


def test_a_record_of_a_bare_name_is_a_record_of_that_subject(drive):
    """As a hand or another program may write it: {"subjects": ["Rex"]}."""
    drive.recordings.mkdir(parents=True)
    wav, record = drive.recordings / "a.wav", drive.recordings / "a.json"
    wav.write_bytes(b"sound")
    record.write_text('{"subjects": ["Rex"]}')
    assert {trace.path for trace in find_traces(drive, "Rex")} == {wav, record}


@pytest.mark.parametrize("written", ["NFC", "NFD"])
@pytest.mark.parametrize("asked", ["NFC", "NFD"])
def test_composed_and_decomposed_letters_are_one_name(drive, written, asked):
    name = unicodedata.normalize(written, "Renée")
    save_subject(drive, Subject(name, "woman"))
    add_picture(drive, name)
    older = add_subject(drive, name, "rene-e")  # how older versions wrote the decomposed one
    add_subject(drive, "Rene E", "rene-e-2")
    theirs = add_picture(drive, "Rene E")
    forget(find_traces(drive, unicodedata.normalize(asked, "Renée")))
    assert not older.exists() and not (drive.runs / "rene-e").exists()
    assert {p for p in files(drive) if p.suffix == ".png"} == {theirs}
    assert [p.name for p in drive.subjects.iterdir()] == ["rene-e-2"]


def test_a_second_folder_of_one_title_is_found_by_its_card_or_named(drive):
    """Drive shows two folders of one title as "rex" and "rex (1)"."""
    add_subject(drive, "Rex")
    second, cardless = add_subject(drive, "Rex", "rex (1)"), drive.subjects / "rex (2)"
    other = add_subject(drive, "Rex Junior", "rex (3)")
    (cardless / "photos").mkdir(parents=True)
    (drive.root / "creations (1)").mkdir()
    picture = add_picture(drive, "a dog", subjects=[], run="rex (1)/pocket-01")
    named = {doubt.path for doubt in find_doubts(drive, "Rex")}
    assert named == {cardless, drive.root / "creations (1)"}
    forget(find_traces(drive, "Rex"))
    assert not second.exists() and not (drive.runs / "rex (1)").exists() and not picture.exists()
    assert other.exists() and cardless.exists()


def test_on_a_full_disk_all_goes_but_the_rest_that_cannot_be_written(drive, monkeypatch):
    home, mine, hers = (
        add_subject(drive, "Rex"),
        add_picture(drive, "Rex"),
        add_picture(drive, "Mia"),
    )
    page = gallery.write_page(
        [gallery.Section("a", [mine]), gallery.Section("b", [hers])],
        drive.creations / "page.html",
        title="Page",
    )
    write = Path.open

    def full(path, mode="r", *args, **kwargs):
        if "w" in mode and is_full:
            raise OSError(28, "No space left on device")
        return write(path, mode, *args, **kwargs)

    is_full = True
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(S2iError, match=r"1 of \d+ could not be deleted: .*page.html .*full"):
        forget(find_traces(drive, "Rex"))
    assert not home.exists() and not mine.exists() and page.exists()
    is_full = False
    forget(find_traces(drive, "Rex"))
    assert not page.exists() and (drive.creations / "page-rest.html").exists() and hers.exists()


def test_what_a_kill_left_in_the_temporary_folder_goes_too(drive):
    add_subject(drive, "Rex")
    dead, living = 2**22 + 1, os.getpid()  # no process has a number as high as the first
    staged = {
        name: Path(tempfile.gettempdir(), f"{STAGED}{name}-{pid}-abc_d123")
        for name, pid in (("rex", dead), ("mia", dead), ("rex", living))
    }
    older = Path(tempfile.gettempdir(), f"{STAGED}a1b2c3d4")
    gone = Path(tempfile.gettempdir(), f"{STAGED}rex-{dead}-abc_d123")
    for folder in (*staged.values(), older, gone):
        folder.mkdir(exist_ok=True)
        (folder / "crop.png").write_bytes(b"crop")
    assert older in {doubt.path for doubt in find_doubts(drive, "Rex")}
    forget(find_traces(drive, "Rex"))
    assert not gone.exists() and older.exists()
    assert all(folder.exists() for folder in staged.values())


def test_local_copies_of_a_drive_that_had_another_path_are_found(drive, tmp_path):
    card = {"status": "training", "subject": {"name": "Rex"}, "dataset": {"sha256": "a"}}
    add_subject(drive, "Rex")
    (drive.runs / "rex" / "pocket-01" / "run.json").write_text(json.dumps(card))
    linked = Drive(tmp_path / "linked")
    linked.root.symlink_to(drive.root)
    copies, local = {}, local_folder(linked, linked.root).parent
    for key, said in (("same", card), ("another", {**card, "dataset": {"sha256": "b"}})):
        copies[key] = local / key / "runs" / "rex" / "pocket-01"
        copies[key].mkdir(parents=True)
        (copies[key] / "run.json").write_text(json.dumps(said))
    assert [doubt.path for doubt in find_doubts(drive, "Rex")] == [copies["another"]]
    forget(find_traces(drive, "Rex"))
    assert not copies["same"].exists() and copies["another"].exists()


STEPS = ("unlink", "rename", "rmdir", "truncate", "replace")


def forget_until(root: str, step: int) -> None:
    """Forget Rex, and be killed before file-system call number ``step``."""
    left = step

    def audit(event: str, args: tuple) -> None:
        nonlocal left
        if event in ("os.remove", "os.rename", "os.rmdir", "os.truncate"):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    traces = find_traces(Drive(Path(root)), "Rex")
    sys.addaudithook(audit)
    forget(traces)


def test_killed_before_any_step_and_the_subject_built_again_it_is_forgotten(tmp_path, full):
    """Each step that changes the disk; the same name is then used again, as children do."""
    killed = 0
    for step in range(0, 60, 1 if full else 5):
        drive = Drive(tmp_path / str(step) / "drive")
        add_subject(drive, "Rex")
        add_subject(drive, "Rex", "rex (1)")
        add_subject(drive, "Luna")
        mine, hers = add_picture(drive, "Rex"), add_picture(drive, "Luna")
        sections = [gallery.Section("a", [mine]), gallery.Section("b", [hers])]
        gallery.write_page(sections, drive.creations / "page.html", title="Page")
        child = os.fork()
        if not child:
            forget_until(str(drive.root), step)
            os._exit(0)
        killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        if not drive.subject("Rex").exists():
            add_subject(drive, "Rex", f"rex ({step + 2})")
        add_picture(drive, "Rex")
        forget(find_traces(drive, "Rex"))
        left = {path.relative_to(drive.root).as_posix() for path in files(drive)}
        assert not [path for path in left if "rex" in path], step
        assert "creations/page-rest.html" in left and "creations/page.html" not in left
        with pytest.raises(InputError, match="Nothing is kept"):
            find_traces(drive, "Rex")
    assert killed >= (20 if full else 4)


# ---- Reading ----

ODD_CARDS = (
    b"null", b"[]", b'"x"', DEEP, b"\xff", b"{", b'{"status": 1}', b'{"step": "many"}',
    b'{"scores": {"value": "high"}}', b'{"scores": [1]}', b'{"subject": []}', b'{"base": "x"}',
    b'{"dataset": 5, "status": "training"}', b'{"keeps_state": -3, "status": "finished"}',
    b'{"class_images": ["a"]}', b'{"status": "\\ud83d"}', b'{"step": 1e999}',
)  # fmt: skip


def test_odd_run_cards_are_passed_over_and_named_and_the_others_go_on(drive, caplog):
    from s2i_lib.storage.run_card import find_run
    from s2i_lib.training.run import drop_finished, list_runs

    add_subject(drive, "Rex")
    for number, data in enumerate(ODD_CARDS):
        run = drive.runs / "rex" / f"odd-{number}"
        (run / "weights").mkdir(parents=True)
        (run / "run.json").write_bytes(data)
    (drive.runs / "rex" / "a file").write_text("no run")
    (drive.runs / "rex" / "pipe").mkdir()
    os.mkfifo(drive.runs / "rex" / "pipe" / "run.json")
    runs = {run.name: run for run in list_runs(drive)}
    assert runs["rex/pocket-01"].status == "finished"
    for run in runs.values():
        assert f"{run.step:5} {[f'{value:.2f}' for value in run.scores.values()]}"
    assert find_run(drive, "rex").name
    drop_finished(drive)
    assert {f"odd-{n}" for n in range(7)} <= {Path(r.args[0]).parent.name for r in caplog.records}


def png_with(path: Path, **texts: str) -> Path:
    info = PngInfo()
    for key, text in texts.items():
        info.add_itxt(key, text, zip=True)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


def huge_png() -> bytes:
    """The head of a picture of 20,000 x 20,000 pixels."""
    head = b"IHDR" + struct.pack(">2I5B", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(head) - 4) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + chunk


def test_odd_pictures_are_passed_over_and_the_others_are_listed(drive, caplog):
    good = add_picture(drive, "Rex")
    odd = ("{}", "[]", "null", '{"prompt": 5, "seed": 1}', '{"prompt": "a"}', DEEP.decode(),
           '{"prompt": "a", "seed": 1, "subjects": 7}',
           json.dumps({"prompt": "x" * 1_500_000}))  # fmt: skip
    for number, text in enumerate(odd):
        png_with(drive.creations / f"odd-{number}.png", s2i=text)
    (drive.creations / "huge.png").write_bytes(huge_png())
    (drive.creations / "text.png").write_text("%!PS\nno picture")
    Image.new("RGB", (8, 8)).save(drive.creations / "others.png")
    assert gallery.list_pictures(drive.creations) == [good]
    named = " ".join(record.getMessage() for record in caplog.records)
    assert all(f"odd-{number}.png" in named for number in range(len(odd)))
    assert "huge.png" in named and "others.png" not in named
    assert gallery.grid_png([good, drive.creations / "huge.png"]).startswith(b"\x89PNG")
    with pytest.raises(InputError, match="None of these pictures"):
        gallery.grid_png([drive.creations / "huge.png"])


def test_postscript_that_is_called_a_picture_starts_no_ghostscript(tmp_path, monkeypatch):
    """Pillow hands what begins with %!PS to the program gs, wherever no formats are named."""
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    picture = tmp_path / "picture.png"
    picture.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")
    for read in (gallery.read_record, open_photo, lambda p: gallery.same_pixels(p, p)):
        with pytest.raises(InputError):
            read(picture)
    assert not (tmp_path / "started").exists()


# What importing opens, reading has read before.
DOORS = {"storage/json_file.py", "photos/own_png.py", "photos/reading.py", "photos/importing.py"}
# What ships with the package or was made in this process; weights have doors of their own.
OURS = {"evaluation/dreambench.py", "training/config.py"}
OTHERS = ("models/", "storage/hub.py")


def test_records_and_pictures_come_in_through_their_doors_alone():
    library = Path(gallery.__file__).parents[1]
    names = {path.relative_to(library).as_posix(): path for path in library.rglob("*.py")}
    found = [
        name
        for name, path in names.items()
        if re.search(r"json\.loads?\(|Image\.open\(", path.read_text())
        and name not in DOORS | OURS
        and not name.startswith(OTHERS)
    ]
    assert found == []


def test_a_cut_manifest_loses_neither_consent_nor_crops_made_by_hand(drive):
    home = drive.subject("Ada")
    photos = home / "photos"
    photos.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(noise).resize((600, 600)).save(photos / "1.png")
    ada, box = Subject("Ada", "woman", kind="person"), Box(100, 100, 400)
    consent = Consent("Ada Lovelace", "2026-08-19")
    built = build_dataset(ada, drive, crops={"1.png": box}, consent=consent)
    text = built.manifest.read_text()
    for damage in (text[:300], "", "[]", text.replace('"photos": [', '"photos": [5,'), None):
        built.manifest.unlink() if damage is None else built.manifest.write_text(damage)
        earlier = read_earlier(home)
        assert Consent.from_record(earlier["consent"]) == consent
        assert crops_by_hand(earlier)["1.png"][0] == box
    again = build_dataset(ada, drive)
    assert again.consent == consent and again.verdicts[0].crop == box
    (home / "manifest.json").write_text("{")
    (home / "choices.json").write_text('{"photos": [{"photo": 1}]}')
    assert read_earlier(home) == {}


def test_a_manifest_leads_into_no_other_folder(drive, tmp_path):
    home = add_subject(drive, "Rex")
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    entry = {"photo": "a.png", "verdict": "good", "reason": "", "method": None, "crop": None,
             "width": 8, "height": 8, "sha256": None, "image_sha256": "0",
             "image": str(tmp_path / "secret.png")}  # fmt: skip
    manifest = {"schema_version": 1, "subject": asdict(Subject("Rex", "dog")), "sha256": "0",
                "mirror": True, "consent": None, "advice": [], "ignored": [],
                "photos": [entry]}  # fmt: skip
    (home / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="lies elsewhere"):
        inspect_dataset(drive, "Rex")

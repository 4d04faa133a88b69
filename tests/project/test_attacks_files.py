"""Strangers' pictures, records, pages and folders: each test is the attack, on own files."""

import contextlib
import html
import io
import json
import os
import re
import shutil
import signal
import struct
import sys
import tempfile
import tokenize
import tracemalloc
import unicodedata
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from s2i_lib.drawing import gallery, pages
from s2i_lib.drawing.records import Picture
from s2i_lib.errors import InputError, S2iError
from s2i_lib.photos.consent import Consent
from s2i_lib.photos.crop import Box
from s2i_lib.photos.dataset import STAGED, _by_name, build_dataset
from s2i_lib.photos.importing import import_zip, keep_photo, strip_jpeg, strip_png
from s2i_lib.photos.manifest import (
    CHOICES_SHAPE,
    Dataset,
    crops_by_hand,
    inspect_dataset,
    open_photo,
    read_earlier,
)
from s2i_lib.photos.quality import Verdict
from s2i_lib.photos.reading import read_photo
from s2i_lib.photos.subject import Subject, list_subjects, load_subject, save_subject
from s2i_lib.privacy import find_doubts, find_traces, forget
from s2i_lib.storage.layout import Drive, local_folder
from s2i_lib.storage.removal import remove
from s2i_lib.storage.run_card import CARD_SHAPE
from s2i_lib.widgets.photos.folder import PhotoFolder
from s2i_lib.widgets.transport import CHUNK_BYTES, Inbox

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


def test_names_of_photos_and_crops_are_one_in_either_spelling(tmp_path):
    """A Mac writes decomposed letters, a keyboard composed ones."""
    decomposed, composed = (unicodedata.normalize(form, "café.png") for form in ("NFD", "NFC"))
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "PNG")
    kept = [keep_photo(stream.getvalue(), n, tmp_path) for n in (decomposed, composed)]
    assert {path.name for path in kept} == {composed}
    assert _by_name({composed: 1}, [decomposed]) == {decomposed: 1}
    assert _by_name({decomposed: 1}, [composed]) == {composed: 1}
    assert Subject("Rene\u0301e", "woman") == Subject("Ren\u00e9e", "woman")


def test_a_second_folder_of_one_title_is_found_by_its_card_or_named(drive):
    """Drive shows two folders of one title as "rex" and "rex (1)"."""
    add_subject(drive, "Rex")
    second, cardless = add_subject(drive, "Rex", "rex (1)"), drive.subjects / "rex (2)"
    by_hand = [drive.subjects / "Rex", drive.runs / "REX!"]
    other = add_subject(drive, "Rex Junior", "rex (3)")
    for folder in (cardless, *by_hand):
        (folder / "photos").mkdir(parents=True)
    (drive.root / "creations (1)").mkdir()
    picture = add_picture(drive, "a dog", subjects=[], run="rex (1)/pocket-01")
    named = {doubt.path for doubt in find_doubts(drive, "Rex")}
    assert named == {cardless, *by_hand, drive.root / "creations (1)"}
    forget(find_traces(drive, "Rex"))
    assert not second.exists() and not (drive.runs / "rex (1)").exists() and not picture.exists()
    assert other.exists() and cardless.exists()


def test_on_a_full_disk_all_goes_but_the_rest_that_cannot_be_written(drive, monkeypatch):
    home, mine, hers = (
        add_subject(drive, "Rex"),
        add_picture(drive, "Rex"),
        add_picture(drive, "Mia"),
    )
    page = pages.write_page(
        [pages.Section("a", [mine]), pages.Section("b", [hers])],
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


def test_what_a_kill_left_half_written_goes_with_its_subject_or_once_nobody_writes_it(drive):
    add_subject(drive, "Rex")
    mine, hers = add_picture(drive, "Rex"), add_picture(drive, "Mia")
    new, reports = drive.creations, drive.runs / "mia" / "pocket-01" / "evaluations"
    reports.mkdir(parents=True)
    parts = {
        "whole": shutil.copy(mine, new / ".other.png.0a1b2c3d.part"),
        "cut": new / f".{mine.name}.0a1b2c3d.part",
        "hers": new / f".{hers.name}.0a1b2c3d.part",
        "old": reports / ".evaluation.html.0a1b2c3d.part",
    }
    for key in ("cut", "hers", "old"):
        parts[key].write_bytes(mine.read_bytes()[:99])
    os.utime(parts["old"], (0, 0))
    forget(find_traces(drive, "Rex"))
    assert [key for key, part in parts.items() if Path(part).exists()] == ["hers"]
    os.utime(parts["hers"], (0, 0))
    with pytest.raises(InputError, match="Nothing is kept of 'Rexx'"):
        find_traces(drive, "Rexx")


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


@pytest.mark.slow
def test_killed_before_any_step_and_the_subject_built_again_it_is_forgotten(tmp_path, full):
    """Each step that changes the disk; the same name is then used again, as children do."""
    killed = 0
    for step in range(0, 60, 1 if full else 5):
        drive = Drive(tmp_path / str(step) / "drive")
        add_subject(drive, "Rex")
        add_subject(drive, "Rex", "rex (1)")
        add_subject(drive, "Luna")
        mine, hers = add_picture(drive, "Rex"), add_picture(drive, "Luna")
        sections = [pages.Section("a", [mine]), pages.Section("b", [hers])]
        pages.write_page(sections, drive.creations / "page.html", title="Page")
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


# What opens a kind of file -> the modules that may: each checks first what it opens.
DOORS = {
    r"\bjson\.loads?\(": {"storage/json_file.py"},
    r"\bImage\.open\(": {"photos/own_png.py", "photos/reading.py", "photos/tiff.py"},
    r"\b(safe_open|load_file|safetensors\.torch\.load)\b": {"storage/tensor_file.py"},
    r"\.from_(pretrained|single_file|config)\(": {
        "models/parts.py", "models/single_file.py", "models/vision.py", "models/schedulers.py",
    },
    r"\b(torch|np|numpy|joblib|pickle|marshal)\.loads?\(": {"speech/whisper.py"},
    r"\b(pickle|shelve|marshal|dill|joblib)\b": {"speech/whisper.py"},
    r"\b(zipfile|tarfile)\b|\bunpack_archive\(": {
        "photos/importing.py", "drawing/made_by.py",
        "ar/files.py",  # which writes only
    },
    r"\byaml\b": {"models/original_layout.py"},
    r"\bav\.open\(": {"speech/tracks.py", "photos/tiff.py"},  # as one format alone
    r"\bInferenceSession\(": {"photos/mask.py"},
    r"\bElementTree\b": {"drawing/made_by.py"},  # without document types
    r"\b(minidom|lxml|tomllib|configparser|imread|audioread)\b": set(),
    r"(?<![.\w])(eval|exec|__import__)\(": set(),
    r"\bimport_module\(": {"__init__.py"},  # the names of its own table
    r"trust_remote_code\W+True|weights_only\W+False|\bunsafe_load\b": set(),
}  # fmt: skip


def lines_of_code(path: Path) -> list[str]:
    """The lines of a module without its comments and what its strings say."""
    lines = path.read_text().splitlines()
    with path.open("rb") as file:
        for token in reversed(list(tokenize.tokenize(file.readline))):
            if token.type in (tokenize.COMMENT, tokenize.STRING):
                (first, begin), (last, end) = token.start, token.end
                text = lines[first - 1][:begin] + '""' + lines[last - 1][end:]
                lines[first - 1 : last] = [text] + [""] * (last - first)
    return lines


@pytest.mark.slow
@pytest.mark.parametrize("opens", DOORS)
def test_each_kind_of_file_comes_in_through_its_door_alone(opens):
    library = Path(gallery.__file__).parents[1]
    found = {
        path.relative_to(library).as_posix()
        for path in library.rglob("*.py")
        if any(re.search(opens, line) for line in lines_of_code(path))
    }
    assert found == DOORS[opens]


@pytest.mark.slow
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


# ---- Giving away ----


def test_a_shared_picture_names_nobody_and_a_page_no_path_of_this_machine(drive, tmp_path):
    run = drive.runs / "rex" / "pocket-01" / "export"
    run.mkdir(parents=True)
    path = add_picture(
        drive, "Rex", run=str(run), source="/home/ada/weights", transcript={"t": "x"}
    )
    old = add_picture(drive, "Rex", run=str(run), source="/home/ada/weights")
    [copy] = gallery.share([path], tmp_path)
    data = copy.read_bytes()
    assert b"trainedAlgorithmicMedia" in data and gallery.same_pixels(copy, path)
    assert not any(word in data for word in (b"Rex", b"ada", b"ohwx", b"prompt", b"drive"))
    assert "rex" not in copy.name
    with Image.open(copy) as image:
        assert set(image.info) == {"XML:com.adobe.xmp", "xmp"}
    page = pages.write_page([pages.Section("a", [old])], tmp_path / "p.html", title="Page")
    assert "/home/ada" not in page.read_text() and str(drive.root) not in page.read_text()
    assert pages.without(page.read_text(), lambda r: gallery.is_of(r, "rex")) == ""


def test_the_drives_own_copies_keep_their_record_with_paths_from_the_drive_on(drive, tmp_path):
    run = drive.runs / "rex" / "pocket-01" / "export"
    run.mkdir(parents=True)
    record = {"prompt": "a", "seed": 1, "subjects": [], "run": str(run), "source": "elsewhere"}
    drive.creations.mkdir()
    picture = Picture(Image.new("RGB", (8, 8)), record)
    path = gallery.save(picture, drive.creations, root=drive.root)
    kept = gallery.read_record(path)
    assert kept["run"] == "runs/rex/pocket-01/export" and gallery.is_of(kept, "rex")
    moved = Drive(drive.root.rename(tmp_path / "moved"))
    there = gallery.from_drive(gallery.read_record(moved.creations / path.name), moved.root)
    assert Path(there["run"]).is_dir() and there["source"] == "elsewhere"
    for odd in ("../..", "/etc", "", 5, None):
        assert gallery.from_drive({"run": odd}, moved.root)["run"] == odd


def jpeg_with_payloads(profile: bytes) -> bytes:
    """A JPEG that hides something in the segments of JFIF, JFXX, Adobe, a comment, a profile."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(stream, "JPEG", icc_profile=profile)
    data = stream.getvalue()
    jfif = data.index(b"JFIF\0") - 4
    assert data[jfif : jfif + 4] == b"\xff\xe0\0\x10"
    thumb = data[jfif + 4 : jfif + 16] + b"\x05\x01" + b"SECRET-THUMBNAI"
    parts = [b"\xff\xe0" + struct.pack(">H", len(thumb) + 2) + thumb]
    hidden = {0xEE: b"Adobe\0\x64\0\0\0\0\1SECRET", 0xE0: b"JFXX\0SECRET", 0xFE: b"SECRET"}
    for marker, body in hidden.items():
        parts.append(bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body)
    return data[:jfif] + b"".join(parts) + data[jfif + 18 :]


def test_a_kept_jpeg_hides_nothing_in_its_segments(tmp_path):
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile, is_kept in ((srgb, True), (srgb + b"SECRET", False), (b"SECRET" * 9, False)):
        data = jpeg_with_payloads(profile)
        kept = strip_jpeg(data)
        assert data.count(b"SECRET") >= 4 and b"SECRET" not in kept
        with Image.open(io.BytesIO(kept)) as image, Image.open(io.BytesIO(data)) as before:
            assert image.tobytes() == before.tobytes()
            assert (image.info.get("icc_profile") == srgb) == is_kept


def test_a_kept_png_hides_nothing_in_a_profile_that_is_none():
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG", icc_profile=b"SECRET" * 9)
    with Image.open(io.BytesIO(strip_png(stream.getvalue()))) as image:
        assert "icc_profile" not in image.info


def test_a_page_of_speech_has_the_voice_only_where_it_is_kept(tmp_path):
    from s2i_lib.cli.speak import _finish
    from s2i_lib.distributed import Processes

    path = gallery.save(Picture(Image.new("RGB", (8, 8)), {"prompt": "a", "seed": 1}), tmp_path)
    for recordings in (None, tmp_path):
        section = pages.Section("a", [path], heard="a", clip=np.zeros(160, np.float32))
        speech = SimpleNamespace(folder=tmp_path, recordings=recordings, seconds={"save": 0.0})
        _finish(speech, [section], Processes())
        page = max(tmp_path.glob("*.html"), key=lambda p: p.stat().st_mtime_ns).read_text()
        assert ("<audio" in page) == (recordings is not None)


def test_file_names_are_text_in_the_table_of_notebook_1():
    name = "<img src=x onerror=alert(1)> | [a](javascript:b) `c` $d$ **e**\n# f.jpg"
    verdict = Verdict(name, "good", f"{name} is fine")
    dataset = Dataset(Subject("Rex", "dog"), Path(), (verdict,), (), (name,), Path(), "", True)
    lines = dataset.as_markdown().splitlines()
    assert len(lines) == 5 and lines[2].count("|") == 4
    text = "".join((lines[2][1:-1].replace("|", ""), lines[4]))
    assert not set("<>[]()`$*#") & set(re.sub(r"&#?\w+;", "", text))
    assert html.unescape(lines[2]).count(" ".join(name.split())) == 2


# ---- Exhaustion ----


def test_a_folder_of_pipes_devices_and_holes_is_read_within_bounds(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    with (tmp_path / "hole.jpg").open("wb") as file:
        file.truncate(2**40)
    for path in tmp_path.iterdir():
        with pytest.raises(InputError, match=path.name):
            read_photo(path)
    assert not (tmp_path / "copies").exists()
    with pytest.raises(InputError, match="No photo was found"):
        PhotoFolder(tmp_path / "copies").add_folder(str(tmp_path))


def test_a_zip_of_photos_that_fail_is_given_up(tmp_path):
    tried = []
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(300):
            archive.writestr(f"{number}.jpg", b"no photo" * 1000)
    result = import_zip(stream.getvalue(), tmp_path)
    tried = [name for name, why in result.refused if "is not tried" not in why]
    assert len(tried) == 20 and len(result.refused) == 300


def test_transfers_take_no_memory_for_what_they_only_announce_and_no_index_below_zero():
    inbox, size = Inbox(256 * 2**20, lambda data, meta: None), 255 * 2**20
    count = -(-size // CHUNK_BYTES)
    piece = bytes(CHUNK_BYTES)
    answers = []
    tracemalloc.start()
    for key in range(8):
        message = {"id": key, "index": 0, "count": count, "size": size, "crc": zlib.crc32(piece)}
        answers += inbox.take(message, piece)
    assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    tracemalloc.stop()
    assert [answer["type"] for answer in answers] == ["ack"] * 2 + ["failed"] * 6
    for index in (-1, count, 10**30):
        message = {"id": 0, "index": index, "count": count, "size": size, "crc": zlib.crc32(piece)}
        assert inbox.take(message, piece)[0]["type"] == "resend"
    message = {"id": 99, "index": 0, "count": 1, "size": -1, "crc": 0}
    assert inbox.take(message, b"")[0]["type"] == "failed"


# ---- Odd JSON at every reader ----

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9),
    st.sampled_from(["rex", "Rex", "../x", "/etc/passwd", "finished", "\0", "\ud83d", 1e308]),
)  # fmt: skip
KEYS = st.sampled_from(sorted({
    *CARD_SHAPE, *gallery.RECORD_SHAPE, *CHOICES_SHAPE["photos"][0], "name", "kind", "photos",
    "schema_version", "advice", "ignored", "mirror", "token", "machine", "pid", "runs", "value",
    "left", "top", "size", "by", "on",
}))  # fmt: skip
ODD_JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=6)),
    max_leaves=12,
)
RECORDS = st.dictionaries(KEYS, ODD_JSON, max_size=9)


def read_everything(drive: Drive) -> None:
    """Every reader of JSON and of our PNGs on a Drive; S2iError is all that may be raised."""
    from s2i_lib.evaluation.runs import read_curve
    from s2i_lib.storage.lease import Lease
    from s2i_lib.storage.run_card import find_run
    from s2i_lib.training.run import drop_finished, list_runs, read_lines

    run = drive.runs / "rex" / "pocket-01"
    readers = (
        lambda: [f"{run.step:5}" for run in list_runs(drive)], lambda: drop_finished(drive),
        lambda: find_run(drive, "rex"), lambda: read_lines([run], "scores.jsonl"),
        lambda: read_curve(run), lambda: list_subjects(drive), lambda: load_subject(drive, "Rex"),
        lambda: inspect_dataset(drive, "Rex"),
        lambda: crops_by_hand(read_earlier(drive.subject("Rex"))),
        lambda: gallery.list_pictures(drive.creations, subject="rex", prompt="a"),
        lambda: find_traces(drive, "Luna"), lambda: find_doubts(drive, "Rex"),
        lambda: Lease(run, lambda text: None, stale_s=0.0).living_holder(),
    )  # fmt: skip
    for read in readers:
        with contextlib.suppress(S2iError):
            read()


@pytest.mark.slow
def test_odd_json_stops_no_reader(tmp_path_factory, full):
    @settings(max_examples=1000 if full else 60, suppress_health_check=list(HealthCheck))
    @given(st.one_of(RECORDS, ODD_JSON), st.integers(0, 60))
    def check(record, cut):
        text = json.dumps(record)
        data = (text if cut > 20 else text[:cut]).encode()
        drive = Drive(tmp_path_factory.mktemp("odd") / "drive")
        run, home = drive.runs / "rex" / "pocket-01", drive.subjects / "rex"
        for folder in (run / "weights", run / "evaluations", home, drive.creations):
            folder.mkdir(parents=True)
        for path in (run / "run.json", run / "lease.json", run / "evaluations" / "a.json",
                     run / "weights" / "step.json", run / "metrics.jsonl", run / "scores.jsonl",
                     home / "subject.json", home / "choices.json", home / "manifest.json",
                     drive.creations / "a.json"):  # fmt: skip
            path.write_bytes(data)
        with contextlib.suppress(UnicodeEncodeError):
            png_with(drive.creations / "a.png", s2i=data.decode())
        page = b"<section><pre>" + data + b"</pre></section>"
        (drive.creations / "a.html").write_bytes(page)
        before = {path: path.read_bytes() for path in tmp_path_factory.getbasetemp().rglob("*")
                  if path.is_file() and drive.root in path.parents}  # fmt: skip
        read_everything(drive)
        assert all(path.read_bytes() == old for path, old in before.items())
        assert len(before) == len(list(files(drive)))
        shutil.rmtree(drive.root.parent)

    check()

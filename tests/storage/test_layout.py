"""drive_layout.md is true: every folder that the code knows, and every file that it writes."""

import fnmatch
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from tiny_model import draw_dataset, make_pipeline
from tiny_run import start

from s2i_lib.drawing import gallery, pages
from s2i_lib.drawing.draw import draw
from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.photos.dataset import build_dataset, sample_subject
from s2i_lib.speech.transcript import Transcript
from s2i_lib.storage.hub import keep, write_checksums
from s2i_lib.storage.layout import Drive, folder_name, local_folder, open_drive

TABLE = (Path(__file__).parents[2] / "drive_layout.md").read_text()
PATTERNS = re.findall(r"^\| `([^`]+)` \|", TABLE, re.MULTILINE)


def matches(path: str, pattern: str) -> bool:
    """Whether a path fits: `*` is one name, a last `**` whatever lies below."""
    names, wanted = path.split("/"), pattern.split("/")
    if wanted[-1] == "**":
        wanted = wanted[:-1]
        names = names[: len(wanted)] if len(names) > len(wanted) else []
    return len(names) == len(wanted) and all(map(fnmatch.fnmatchcase, names, wanted))


def files_below(root: Path) -> list[str]:
    return [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]


def unlisted(files: Iterable[str]) -> list[str]:
    return [f for f in files if not any(matches(f, pattern) for pattern in PATTERNS)]


def test_the_document_names_the_folders_that_the_code_knows():
    drive = Drive(Path("root"))
    known = {
        value.name
        for name, attribute in vars(Drive).items()
        if isinstance(attribute, property) and isinstance(value := getattr(drive, name), Path)
    }
    # the set-up cell reads code/, before there is a library
    assert known | {"code"} == {pattern.split("/")[0] for pattern in PATTERNS}


@pytest.mark.slow
def test_every_file_that_is_written_is_in_the_document(drive, pocket):
    subject = sample_subject(drive)
    build_dataset(subject, drive)
    drive.creations.mkdir(parents=True)
    [picture] = draw(pocket, "a cat", DrawOptions(steps=1))
    path = gallery.save(picture, drive.creations)
    pages.write_page([pages.Section("a cat", [path])], drive.creations / "page.html", title="Page")
    transcript = Transcript("a cat", "en", 1.0, "a cat", (), "faster-whisper", "tiny.en", 1.0, 0.1)
    drive.recordings.mkdir()
    gallery.save_recording(np.zeros(160, np.float32), transcript, (), drive.recordings)
    files = files_below(drive.root)
    assert unlisted(files) == []
    for expected in [*PATTERNS[:5], "creations/*", "recordings/*"]:
        assert any(matches(f, expected) for f in files), expected


@pytest.mark.slow
def test_every_file_of_a_run_is_in_the_document_on_the_drive_and_on_the_local_disk(
    drive, tmp_path, monkeypatch
):
    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "local"))
    make_pipeline().save_pretrained(tmp_path / "tiny")
    seen = []

    def note(event, info):
        seen.extend(files_below(drive.root) + files_below(local_folder(drive, drive.root)))

    start(drive, draw_dataset(tmp_path / "photos"), tmp_path / "tiny", callback=note)
    write_checksums(tmp_path / "tiny", "a hub")  # as it is when it was downloaded
    keep(tmp_path / "tiny", drive.models / "far")
    seen += files_below(drive.root)
    assert {name.split("/")[0] for name in seen} == {"runs", "class_images", "models"}
    assert unlisted(name for name in seen if "/." not in name) == []  # with a dot: not yet whole


def test_two_drives_never_share_a_local_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "local"))
    one, two = open_drive(tmp_path / "one"), open_drive(tmp_path / "two")
    assert local_folder(one, one.runs / "rex") != local_folder(two, two.runs / "rex")
    assert local_folder(one, one.runs / "rex").parts[-2:] == ("runs", "rex")


def test_a_folder_has_all_signs_of_the_letters_of_a_name():
    """राम and रोम (Devanagari) differ by the sign of a vowel, and macOS takes "é" apart."""
    assert folder_name("राम") == "राम" and folder_name("रोम") == "रोम"
    assert folder_name("Rene\u0301e") == folder_name("Renée") == "renée"
    assert folder_name("สมชาย 2") == "สมชาย-2"


def test_the_folder_of_an_older_version_is_found_and_is_nobody_elses(tmp_path):
    """It was called र-म for राम and रोम alike, of which the card says whose it is."""
    drive = Drive(tmp_path)
    older = drive.subjects / "र-म"
    older.mkdir(parents=True)
    (older / "subject.json").write_text('{"name": "राम", "class_noun": "man"}', encoding="utf-8")
    assert drive.subject("राम") == older
    assert drive.subject("रोम") == drive.subjects / "रोम"
    (drive.subjects / "राम").mkdir()
    assert drive.subject("राम") == drive.subjects / "राम"

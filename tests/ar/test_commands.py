"""The commands: ar, made-by and what they refuse, as a user meets them."""

from __future__ import annotations

import json
import sys

import pytest
from PIL import Image

from s2i_lib.cli import main as command_line
from s2i_lib.models.registry import DEPTH
from s2i_lib.storage.layout import folder_name
from tests.twin.repositories import write_depth


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command in an empty folder: (exit status, records, standard error)."""
    monkeypatch.chdir(tmp_path)

    def _run(*words):
        monkeypatch.setattr(sys, "argv", ["s2i_lib", *map(str, words), "--json"])
        status = 0
        try:
            status = command_line.main()
        except SystemExit as stop:
            status = stop.code or 0
        out, err = capsys.readouterr()
        return status, [json.loads(line) for line in out.splitlines()], " ".join(err.split())

    return _run


@pytest.mark.slow
def test_pictures_become_figures_and_every_file_says_what_it_is(run, render, tmp_path):
    status, [made], err = run("ar", render("star"), "--out", "figures", "--relief")
    assert status == 0, err
    names = {path.rsplit(".", 1)[-1] for path in made["files"]}
    assert names == {"json", "glb", "usdz", "html", "stl"}
    assert made["alt"].startswith("A star. Drawn by a machine")
    marked = [path for path in made["files"] if path.endswith(("glb", "usdz", "html"))]
    status, said, _ = run("made-by", *marked)
    assert status == 0 and [one["says_machine"] for one in said] == [True] * 3


@pytest.mark.slow
def test_one_that_cannot_be_held_does_not_stop_the_others(run, render, tmp_path):
    foreign = tmp_path / "foreign.png"
    Image.new("RGB", (64, 64)).save(foreign)
    status, made, err = run("ar", foreign, render("cat"), "--out", "figures")
    assert status == 2 and len(made) == 1
    assert "does not say that a machine drew it" in err and "1 of 2 pictures" in err
    status, said, _ = run("made-by", foreign)
    assert status == 0 and said[0]["says"] == [] and not said[0]["says_machine"]
    status, _, err = run("ar", tmp_path / "none" / "none.png")
    assert status == 2 and "There is no picture" in err and not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_whole_picture_becomes_a_relief_and_without_the_network_a_figure(
    run, render, serve_hub, drive
):
    serve_hub({})
    given = (render("star"), "--depth", "--stereo", "--drive", drive.root)
    status, [made], _ = run("ar", *given)
    assert status == 0 and made["kind"] == "figure"
    write_depth(drive.models / folder_name(DEPTH))
    status, [made], err = run("ar", *given)
    assert status == 0 and made["kind"] == "relief", err
    marked = [path for path in made["files"] if path.endswith(("glb", "usdz", "html", "jpg"))]
    status, said, _ = run("made-by", *marked)
    assert status == 0 and [one["says_machine"] for one in said] == [True] * 4


def test_signing_wants_both_files(run, tmp_path):
    status, _, err = run("gallery", "--share", "s", "--certificate", "c.pem", "--drive", "d")
    assert status == 2 and "--key" in err

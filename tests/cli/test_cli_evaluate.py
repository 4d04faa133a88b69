"""`evaluate` as a user meets it: real weights, real networks, and every wrong turn."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from s2i_lib.cli import main as command_line
from s2i_lib.cli.evaluate import report_folder
from s2i_lib.errors import InputError
from s2i_lib.evaluation.runs import evaluate_run
from s2i_lib.models.registry import PACKAGE
from s2i_lib.storage.run_card import EDITIONS

WEIGHTS = PACKAGE / "pocket"  # a diffusers folder like any from elsewhere
QUICK = ("--prompts", 1, "--seeds", 2, "--steps", 2, "--subject", "Racer:car:sks")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command in this process, in an empty folder: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("S2I_DRIVE", str(tmp_path / "drive"))

    def _run(*words):
        monkeypatch.setattr(sys, "argv", ["s2i_lib", *map(str, words)])
        try:
            status = command_line.main()
        except SystemExit as stop:
            status = stop.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return _run


def unfinished(drive_root: Path) -> str:
    """A run that was begun and has no weights yet."""
    folder = drive_root / "runs" / "racer" / "begun"
    folder.mkdir(parents=True)
    card = {
        "status": "training",
        "subject": {"name": "Racer", "class_noun": "car"},
        "base": {"name": "pocket", "edition": EDITIONS["pocket"], "source": "the package"},
    }
    (folder / "run.json").write_text(json.dumps(card))
    return "racer/begun"


@pytest.mark.slow
def test_json_is_one_object_a_line_and_the_page_lies_where_it_says(run, tmp_path):
    status, out, _ = run("evaluate", WEIGHTS, *QUICK, "--out", tmp_path / "made", "--json")
    assert status == 0
    scores, files = [json.loads(line) for line in out.splitlines()]
    assert scores["scores"]["clip_t"]["n"] == 2
    assert scores["subject"]["name"] == "Racer"
    assert Path(files["page"]).read_text().startswith("<!doctype html>")
    assert json.loads(Path(files["data"]).read_text())["runs"] == [scores]
    assert any("no photos" in note for note in scores["notes"])


def test_a_run_without_weights_is_one_sentence(run, tmp_path):
    status, out, err = run("evaluate", unfinished(tmp_path / "drive"), "--prompts", 1)
    assert (status, out) == (2, "")
    assert "no weights in" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_of_several_runs_those_that_can_be_scored_are(run, tmp_path):
    begun = unfinished(tmp_path / "drive")
    status, out, err = run("evaluate", begun, WEIGHTS, *QUICK, "--out", tmp_path / "made")
    assert status == 2
    assert "no weights in" in err
    assert "1 of 2 runs could not be used" in " ".join(err.split())
    assert "clip_t" in out
    assert len(list((tmp_path / "made").glob("*.html"))) == 1


def finished(drive_root: Path) -> str:
    """A run with weights: those of the pocket model as they are."""
    folder = drive_root / "runs" / "racer" / "done"
    shutil.copytree(WEIGHTS / "unet", folder / "weights" / "unet")
    card = {
        "subject": {"name": "Racer", "class_noun": "car"},
        "base": {"name": "pocket", "edition": EDITIONS["pocket"], "source": "the package"},
    }
    (folder / "run.json").write_text(json.dumps(card))
    return "racer/done"


def damaged(folder: Path) -> Path:
    """A model whose pictures come out as no numbers."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(WEIGHTS, folder, ignore=shutil.ignore_patterns("checksums.json", "scorer"))
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: weight * float("nan") for name, weight in load_file(path).items()}, path)
    return folder


@pytest.mark.slow
def test_run_that_fails_while_it_is_drawn_does_not_lose_the_others(run, tmp_path):
    bad = damaged(tmp_path / "bad")
    status, out, err = run("evaluate", WEIGHTS, bad, *QUICK, "--out", tmp_path / "made")
    assert status == 1, "it is not the input that is wrong"
    assert "full precision too" in " ".join(err.split())
    assert "1 of 2 runs could not be used" in " ".join(err.split())
    assert out.count("clip_t") == 1
    assert len(list((tmp_path / "made").glob("*.html"))) == 1


@pytest.mark.slow
def test_base_is_that_of_the_first_run_that_could_be_scored(run, tmp_path):
    done = finished(tmp_path / "drive")
    status, out, _ = run("evaluate", "nobody", done, *QUICK, "--base", "--json")
    assert status == 2
    *scores, files = [json.loads(line) for line in out.splitlines()]
    assert [each["name"] for each in scores] == [done, "pocket, not fine-tuned"]
    assert Path(files["page"]).parent == tmp_path / "drive/runs/racer/done/evaluations"


@pytest.mark.slow
def test_base_of_weights_that_do_not_name_theirs_is_refused_and_no_row(run, tmp_path):
    status, out, err = run("evaluate", WEIGHTS, *QUICK, "--base", "--out", tmp_path / "made")
    assert status == 2
    assert "does not say what it was fine-tuned from" in " ".join(err.split())
    assert out.count("Run  ") == 1 and "not fine-tuned" not in out


def test_report_on_a_file_lies_beside_it_and_is_refused_before_anything_is_drawn(tmp_path, drive):
    lora = tmp_path / "lora.safetensors"
    lora.write_bytes(b"")
    where = report_folder(drive, ["nobody", str(lora)])
    assert where == tmp_path / "evaluations" and not where.exists()
    with pytest.raises(InputError, match="no run 'nobody'"):
        report_folder(drive, ["nobody", "neither"])


@pytest.mark.slow
def test_without_anything_that_hears_the_rest_is_scored(run, tmp_path, monkeypatch):
    monkeypatch.setattr("s2i_lib.speech.packaged.package_folders", lambda model: [])
    clips = tmp_path / "clips"
    clips.mkdir()
    shutil.copy(PACKAGE / "samples" / "red_car.wav", clips / "one.wav")
    (clips / "one.txt").write_text("A red car on a yellow background.")
    status, out, _ = run(
        "evaluate", WEIGHTS, *QUICK, "--speech", clips, "--out", tmp_path / "made", "--json"
    )
    assert status == 0
    scores = json.loads(out.splitlines()[0])
    assert "clip_t" in scores["scores"] and scores["speech"] is None
    assert any(note.startswith("Hearing is not scored: ") for note in scores["notes"])


@pytest.mark.slow
def test_a_scorer_that_cannot_be_had_leaves_the_pictures_and_says_why(run, tmp_path):
    status, out, _ = run(
        "evaluate", WEIGHTS, *QUICK, "--clip", "nobody/nothing", "--out", tmp_path / "made"
    )
    assert status == 0
    assert "Not scored by CLIP" in out
    [page] = (tmp_path / "made").glob("*.html")
    assert "nobody/nothing" in page.read_text()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["nobody"], "no run 'nobody'"),
        ([WEIGHTS], "does not say whom its weights show"),
        ([WEIGHTS, "--prompts", 0], "prompts is 0"),
        ([WEIGHTS, "--speech", "none"], "no recordings in none"),
    ],
)
def test_wrong_input_is_one_paragraph(run, words, what):
    status, out, err = run("evaluate", *words)
    assert (status, out) == (2, "")
    assert what in " ".join(err.split())


@pytest.mark.slow
def test_stopped_in_the_second_run_the_first_has_its_page(run, tmp_path, monkeypatch):
    from s2i_lib.evaluation import runs as module

    calls = []

    def stop_in_the_second(*what, **named):
        calls.append(what)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate_run(*what, **named)

    monkeypatch.setattr(module, "evaluate_run", stop_in_the_second)
    made = tmp_path / "made"
    status, out, err = run("evaluate", WEIGHTS, WEIGHTS, *QUICK, "--base", "--out", made)
    assert status == 130 and len(calls) == 2
    assert "Stopped: What was saved so far is kept." in err
    assert out.count("clip_t") == 1
    assert len(list(made.glob("*.html"))) == 1


@pytest.mark.slow
def test_scores_are_said_although_the_disk_does_not_take_the_page(run, faulty_drive):
    faulty_drive.fault("room for 0")
    status, out, err = run("evaluate", WEIGHTS, *QUICK, "--out", faulty_drive.path / "made")
    assert status == 1
    assert "No space left" in err
    assert "clip_t" in out

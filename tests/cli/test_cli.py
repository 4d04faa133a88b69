"""The command line as a user meets it: real Whisper, real pictures, and every wrong turn."""

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import warnings
import wave
import zlib
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sounds import speak
from tiny_model import make_pipeline
from tiny_run import write_run

from s2i_lib.cli import main as command_line
from s2i_lib.cli.output import complain, emit
from s2i_lib.drawing.gallery import read_record
from s2i_lib.drawing.told import alt_text
from s2i_lib.storage.layout import Drive

ROOT = Path(__file__).parents[2]
PNG = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xaeB`\x82"
CLIP = ROOT / "s2i_lib" / "samples" / "red_car.wav"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command in this process, in an empty folder: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("S2I_DRIVE", raising=False)

    def _run(*words):
        monkeypatch.setattr(sys, "argv", ["s2i_lib", *map(str, words)])
        try:
            status = command_line.main()
        except SystemExit as stop:  # how typer ends a command that it handled itself
            status = stop.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return _run


@pytest.mark.slow
def test_a_path_that_a_shell_left_alone_between_quotes_is_at_home(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(ROOT / "s2i_lib" / "samples" / "rc_car", tmp_path / "photos")
    asked = ("dataset", "~/photos", "--subject", "Racer", "--class-noun", "car")
    status, out, err = run(*asked, "--drive", "~/d")
    assert status == 0 and "5 of 5" in out, err
    assert (tmp_path / "d" / "subjects" / "racer" / "manifest.json").is_file()
    run("draw", "a cat", "--model", "pocket", "--steps", 1, "--drive", "~/d")
    status, out, _ = run("gallery", "--grid", "~/grid.png", "--drive", "~/d", "--share", "~/s")
    assert status == 0 and (tmp_path / "grid.png").is_file() and not (tmp_path / "~").exists()


def test_a_file_that_is_called_like_a_users_home_is_a_file(run, tmp_path):
    status, _, err = run("ar", "~nobody.png", "--drive", "d")
    assert status == 2 and "~nobody.png" in err and "Traceback" not in err


@pytest.mark.slow
def test_a_dataset_tells_programs_of_the_consent_too(run):
    photo = ROOT / "s2i_lib" / "samples" / "rc_car" / "00.jpg"
    given = ("--subject", "Racer", "--class-noun", "car", "--drive", "d")
    by = ("--consent-by", "Ada Lovelace", "--consent-on", "2026-01-19")
    for asked, who in ((given, None), ((*given, *by), "Ada Lovelace")):
        status, out, _ = run("dataset", photo, *asked, "--json")
        consent = json.loads(out.splitlines()[-1])["consent"]
        assert status == 0 and (consent and consent["by"]) == who


def test_whose_run_draws_is_said_where_nobody_chose_one(run, tmp_path):
    write_run(Drive(tmp_path / "d"), "pocket", "01", method="lora")
    given = ("draw", "a cat", "--steps", 1, "--drive", "d")
    status, out, _ = run(*given)
    assert status == 0 and "(by pocket, run violet/01)" in out
    status, out, _ = run(*given, "--model", "pocket", "--json")
    drawn = json.loads(out.splitlines()[0])
    assert (status, drawn["model"], drawn["run"]) == (0, "pocket", None)


def test_check_says_what_it_cannot_check(run):
    for prompt, is_known in (("a forest", False), ("a dog", True)):
        status, _, err = run("draw", prompt, "--model", "pocket", "--steps", 1, "--check")
        assert status == 0 and (f"“{prompt}” is not checked" in err) is not is_known


def test_a_question_that_nobody_answers_deletes_nothing_and_fails(run, tmp_path, monkeypatch):
    folder = tmp_path / "d" / "runs" / "rex" / "01"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"status": "finished"}')
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    for words in (["forget", "Rex"], ["runs", "--delete", "rex/01"]):
        status, _, err = run(*words, "--drive", "d")
        assert status == 2 and "Nothing was deleted" in err and "--yes" in err
        assert "Aborted" not in err and folder.is_dir()


def test_what_to_type_next_names_the_drive_that_was_given(run, tmp_path, monkeypatch):
    from s2i_lib.photos import manifest
    from s2i_lib.training import finetune

    folder = tmp_path / "my drive" / "runs" / "rex" / "01"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"instance_prompt": "a ohwx dog"}')
    monkeypatch.setattr(manifest, "load_dataset", lambda *_: None)
    monkeypatch.setattr(
        finetune, "FinetuneRun", lambda *_, **__: SimpleNamespace(train=lambda: folder)
    )
    status, out, _ = run("finetune", "--subject", "Rex", "--drive", "my drive")
    assert status == 0 and out.endswith("--run rex/01 --drive 'my drive'\n")
    monkeypatch.setenv("S2I_DRIVE", "my drive")
    assert run("finetune", "--subject", "Rex")[1].endswith("--run rex/01\n")


def test_what_pillow_thinks_of_a_size_is_not_told_beside_what_we_say(run, tmp_path):
    (tmp_path / "huge.png").write_bytes(huge_png())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for words in ("redo", "made-by"):
            run(words, "huge.png")
    assert [one for one in told if "pixels" in str(one.message)] == []


def test_a_terminal_that_lacks_letters_is_told_all_the_same(run, tmp_path, monkeypatch):
    """As Python's standard output is where LANG=C, or in a console of Windows."""
    drive = tmp_path / "d"
    (drive / "runs" / "renée" / "pocket-01").mkdir(parents=True)
    (drive / "runs" / "renée" / "pocket-01" / "run.json").write_text('{"status": "training"}')
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "argv", ["s2i_lib", "runs", "--drive", str(drive)])
    with suppress(SystemExit):
        command_line.main()
    terminal.flush()
    assert b"ren\\xe9e/pocket-01" in terminal.buffer.getvalue()


def write_wav(path: Path, samples: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def huge_png() -> bytes:
    """A PNG that says to have 240 megapixels, of which Pillow warns, and has none."""
    size = struct.pack(">4s2I5B", b"IHDR", 20_000, 12_000, 8, 2, 0, 0, 0)
    return PNG + struct.pack(">I", 13) + size + struct.pack(">I", zlib.crc32(size)) + PNG_END


@pytest.mark.slow
def test_speech_becomes_a_picture_and_a_page(run, tmp_path):
    asked = ("speak", CLIP, "--model", "pocket", "--seed", 3, "--keep-recordings", "--out", "made")
    status, out, _ = run(*asked)
    assert status == 0
    assert "A red car on a yellow background" in out
    assert {"load Whisper", "hear", "load model", "draw", "save"} <= {
        stage.strip().rsplit(" ", 1)[0]
        for stage in out.split("Seconds")[1].strip().split(",")
    }  # fmt: skip
    [png] = (tmp_path / "made").glob("*.png")
    [page] = (tmp_path / "made").glob("*.html")
    record = read_record(png)
    assert record["transcript"]["text"].strip().lower().startswith("a red car")
    assert (record["seed"], record["model"]) == (3, "pocket")
    assert "data:audio/wav" in page.read_text()
    assert str(png.name) in out
    assert str(page.name) in out


@pytest.mark.slow
def test_json_is_all_there_is_on_standard_output(run):
    status, out, _ = run(
        "draw", "a cat", "--model", "pocket", "--count", 2, "--steps", 2, "--json", "--drive", "d",
        "--check",
    )  # fmt: skip
    wish, end = map(json.loads, out.splitlines())
    assert status == 0
    assert len(wish["pictures"]) == 2
    assert all(Path(picture).is_file() for picture in wish["pictures"])
    records = list(map(read_record, map(Path, wish["pictures"])))
    assert wish["seen"] == [record["seen"] for record in records]
    assert wish["alt"] == [alt_text(record) for record in records]
    assert all(Path(picture).parent == Path("d/creations") for picture in wish["pictures"])
    assert Path(end["page"]).is_file()


def test_hear_prints_the_prompt_it_becomes(run):
    status, out, _ = run("hear", CLIP, "--model", "pocket", "--json")
    report = json.loads(out)
    assert status == 0
    assert report["prompt"]["text"].lower() == "a red car on a yellow background"
    assert report["transcript"]["model"] == "tiny.en"


@pytest.mark.slow
def test_photos_become_weights_that_draw_the_subject_when_it_is_spoken_of(
    run, tmp_path, monkeypatch
):
    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "local"))
    make_pipeline().save_pretrained(tmp_path / "tiny")
    clip = speak("A picture of Racer on a yellow background.", tmp_path / "clip.wav")
    photos = ROOT / "s2i_lib" / "samples" / "rc_car"
    given = ("--subject", "Racer", "--drive", "drive")
    assert run("dataset", photos, *given, "--class-noun", "car")[0] == 0
    few = (
        "--steps",
        4,
        "--class-images",
        8,
        "--option",
        "sample_prompts=",
        "--option",
        "keep=last",
    )
    trained = ("finetune", *given, "--model", "tiny", "--learning-rate", 1e-2, *few, "--json")
    status, out, _ = run(*trained)
    card = json.loads(out)
    assert (status, card["status"], card["step"]) == (0, "finished", 4)
    assert card["options"]["sample_prompts"] == []

    wish = ("--drive", "drive", "--seed", 3, "--steps", 2)
    pictures = {}
    for words in (["--run", "racer/tiny-01", "--model", "tiny"], ["--model", "tiny"]):
        status, _, err = run("speak", clip, *words, *wish, "--out", words[0])
        assert status == 0, err
        [png] = (tmp_path / words[0]).glob("*.png")
        record = read_record(png)
        assert "ohwx car on a yellow background" in record["prompt"]
        assert "Racer" in record["transcript"]["text"]
        with Image.open(png) as picture:
            pictures[record["run"]] = picture.tobytes()
    assert pictures.keys() == {"racer/tiny-01", None}
    assert len(set(pictures.values())) == 2, "training changed what is drawn"


@pytest.mark.slow
def test_one_bad_clip_does_not_take_the_others_with_it(run, tmp_path):
    hum = write_wav(tmp_path / "hum.wav", 0.2 * np.sin(np.arange(32_000) * 0.05))
    status, out, err = run(
        "speak", hum, CLIP, "--model", "pocket", "--steps", 2, "--out", tmp_path / "made"
    )
    assert status == 2
    assert "hum.wav" in err
    assert "1 of 2 clips" in err
    assert len(list((tmp_path / "made").glob("*.png"))) == 1
    assert "Page" in out


@pytest.mark.slow
def test_classroom_refuses_what_was_heard_by_the_list_on_the_drive(run, tmp_path):
    (tmp_path / "drive").mkdir()
    (tmp_path / "drive" / "classroom_words.txt").write_text("car\n")
    words = ("speak", CLIP, "--model", "pocket", "--steps", 2, "--drive", "drive")
    status, out, err = run(*words, "--classroom")
    assert status == 2 and "“car” is on the list" in err and out == ""
    assert not list((tmp_path / "drive").rglob("*.png"))
    assert run(*words)[0] == 0, "off unless it is asked for"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["speak", "none.wav"], 2, "none.wav"),
        (["speak", "text.wav"], 2, "text.wav"),
        (["speak", "silence.wav", "--model", "pocket"], 2, "silen|nothing was said"),
        (["draw", "a cat", "--model", "sd9"], 2, "Known are: pocket"),
        (["draw", "a cat", "--run", "rex/1"], 2, "There is no run 'rex/1'"),
        (["draw", "a cat", "--out", "text.wav"], 2, "cannot be written to"),
        (["draw", "a cat", "--steps", "0"], 2, "0 steps cannot draw"),
        (["draw", "  "], 2, "prompt is empty"),
        (["draw", "a cat", "--subject", "rex"], 2, "There is no subject 'rex'"),
        (["draw", "a cat", "--subject", "rex:"], 2, "class noun is empty"),
        (["draw", "a cat", "--drive", "text.wav"], 2, "is a file"),
        (["draw", "a cat", "--model", "sd2.1-base"], 1, "Manojb/stable-diffusion-2-1-base: "),
        (["draw", "a NAKED cat", "--classroom"], 2, "“naked” is on the list"),
        (["draw"], 2, "Missing argument"),
        (["draw", "a cat", "--subject", "rex"], 2, "NOUN`, or give NAME:CLASS_NOUN:IDENTIFIER"),
        (["finetune", "--subject", "rex"], 2, "There is no subject 'rex'"),
        (["dataset", "--subject", "rex"], 2, '--subject "rex" --class-noun NOUN`.$'),
        (["gallery", "--certificate", "a.pem", "--key", "b.pem"], 2, "where to, --share"),
        (["gallery", "--key", "b.pem", "--share", "s"], 2, "give all of --certificate"),
        (["gallery", "--grid", "grid.jpg"], 2, "grid.jpg cannot be the grid, which is a PNG"),
        (["redo", "."], 2, "is a folder. Name a file"),
        (["finetune", "--subject", "rex", "--steps", "3", "--option", "steps=4"], 2, "given twice"),
        (["made-by", "text.wav"], 2, "text.wav cannot be read .it is of another kind"),
        (["redo", "huge.png"], 2, "^Error: huge.png cannot be read as a picture .it would unpack"),
        (["ar", "text.wav", "huge.png"], 2, "^Error: text.wav cannot be read"),
        (
            ["dataset", "--subject", "rex", "--whole", "1.jpg", "--cut-out", "1.jpg"],
            2,
            "1.jpg is given with --whole and with --cut-out",
        ),
        (
            ["dataset", ".", "--subject", "Ada", "--class-noun", "woman", "--consent-by", "Ada"],
            2,
            "needs the day on which Ada gave it, and that is not given",
        ),
    ],
)
def test_bad_input_gets_one_paragraph(run, tmp_path, words, status, message):
    import re

    (tmp_path / "text.wav").write_text("this is not sound")
    write_wav(tmp_path / "silence.wav", np.zeros(32_000))
    (tmp_path / "huge.png").write_bytes(huge_png())
    before = sorted(tmp_path.iterdir())
    found, out, err = run(*words)
    assert found == status
    assert re.search(message.replace(" ", r"\s+"), err)  # lines are wrapped anywhere
    assert "Traceback" not in err
    assert "\n\n" not in err.strip() or "Missing" in err
    assert out == ""
    made = [path for path in tmp_path.rglob("*") if path.is_file() and path not in before]
    assert made == []  # nothing half-written


def test_unknown_words_are_drawn_and_named(run, tmp_path):
    status, out, _ = run("draw", "a glockenspiel", "--model", "pocket", "--steps", 2, "--out", "o")
    assert status == 0
    assert "never seen the word glockenspiel" in " ".join(out.split())
    assert len(list((tmp_path / "o").glob("*.png"))) == 1


def test_a_changed_byte_in_the_weights_ends_with_status_2(run, tmp_path):
    from s2i_lib.models.registry import REGISTRY

    copy = shutil.copytree(REGISTRY["pocket"].folder, tmp_path / "copy")
    with (copy / "unet" / "diffusion_pytorch_model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    status, _, err = run("draw", "a cat", "--model", copy)
    assert status == 2
    assert "SHA-256" in err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["runs"], "runs"),
        (["draw", "a cat", "--run", "rex"], "runs"),
        (["export", "rex", "--format", "lora"], "runs"),
        (["evaluate", "rex"], "runs"),
        (["gallery"], "creations"),
        (["hear", CLIP, "--model", "pocket"], "subjects"),
    ],
)
def test_a_drive_that_cannot_be_read_is_one_sentence(run, tmp_path, words, named):
    """As one that is away; here what should be folders are files."""
    (tmp_path / "d").mkdir()
    for name in ("runs", "creations", "subjects"):
        (tmp_path / "d" / name).write_text("no folder")
    status, out, err = run(*words, "--drive", "d")
    assert (status, out) == (1, "")
    assert err == f"Error: d/{named} cannot be read or written: Not a directory (errno 20).\n"


def test_debug_shows_the_traceback(run, tmp_path):
    from s2i_lib.errors import InputError

    with pytest.raises(InputError):
        run("draw", "a cat", "--steps", 0, "--debug")
    (tmp_path / "runs").write_text("no folder")
    with pytest.raises(NotADirectoryError):
        run("runs", "--drive", ".", "--debug")


@pytest.mark.slow
def test_import_is_light():
    code = (
        "import sys, time; start = time.perf_counter(); import s2i_lib;"
        "took = time.perf_counter() - start;"
        "import s2i_lib.cli.main;"
        "heavy = {'torch', 'transformers', 'diffusers', 'av', 'PIL', 'cv2'} & set(sys.modules);"
        "print(took, heavy or '')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    took, *heavy = done.stdout.split()
    assert float(took) < 0.3
    assert heavy == []


@pytest.mark.slow
def test_redo_makes_the_same_picture_from_the_record_inside(run, tmp_path):
    run("draw", "a cat", "--model", "pocket", "--count", 2, "--steps", 3, "--out", tmp_path)
    pictures = sorted(tmp_path.glob("*.png"))
    status, out, _ = run("redo", pictures[1], "--out", tmp_path / "again", "--json")
    report = json.loads(out)
    assert status == 0
    assert report["is_same"] is True
    assert Path(report["picture"]) != pictures[1]
    status, _, err = run("redo", tmp_path / "none.png")
    assert (status, "no picture" in err) == (2, True)


def test_pictures_that_the_disk_takes_are_kept_and_the_others_named(run, faulty_drive):
    where = ("--count", 3, "--steps", 1, "--seed", 7, "--out", faulty_drive.path)
    faulty_drive.fault("room for 2")  # the first picture and its record
    status, out, err = run("draw", "a cat", "--model", "pocket", *where)
    [kept] = faulty_drive.path.glob("*.png")
    assert status == 1 and read_record(kept)["seed"] == 7 and kept.name in out
    assert "2 of 3 pictures could not be kept" in err and "the same again: 8, 9." in err
    assert "There is no page of the pictures" in err and "Page " not in out
    faulty_drive.fault("")
    assert {path.suffix for path in faulty_drive.path.iterdir()} == {".png", ".json"}


@pytest.mark.slow
def test_gallery_lists_what_was_made_and_puts_it_side_by_side(run, tmp_path):
    assert run("gallery")[:2] == (0, "There are no such pictures yet.\n")
    status, _, err = run("gallery", "--grid", "grid.png", "--share", "s", "--json")
    assert status == 0 and "Nothing was written, for s2i_drive/creations has no such" in err
    for prompt in ("a cat", "a red car"):
        run("draw", prompt, "--model", "pocket", "--count", 2, "--steps", 1)
    status, out, _ = run("gallery", "--prompt", "CAR", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and [each["prompt"] for each in records] == ["a red car"] * 2
    sheet = tmp_path / "sheet.png"
    status, out, _ = run("gallery", "--grid", sheet)
    assert out.count("Picture ") == 4 and f"Grid      {sheet}" in out
    with Image.open(sheet) as image:
        assert image.size == (4 * 260 - 4, 256)


def test_what_a_stranger_wrote_moves_no_cursor(capsys):
    """A picture's record, or a run's, may have a terminal's commands in its words."""
    emit({"prompt": "a cat"}, "Prompt    a cat\x1b[2J\x9b1A\r\nSeed      7")
    complain("a name\x1b]0;with a title\x07")
    said = capsys.readouterr()
    assert said.out == "Prompt    a cat [2J 1A \nSeed      7\n"
    assert said.err == "Error: a name ]0;with a title\n"

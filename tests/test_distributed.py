"""Two processes share the clips of one command, and draw the pictures that one would draw."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_model import make_pipeline

from s2i_lib.drawing.gallery import read_record

ROOT = Path(__file__).parents[1]
CLIPS = [ROOT / "s2i_lib/samples/red_car.wav", ROOT / "tests/data/jfk.flac"]


def speak(launcher: list[str], clips: list[Path], out: Path, tiny: Path):
    command = [sys.executable, *launcher, "-m", "s2i_lib", "speak", *map(str, clips), "--json"]
    command += ["--model", str(tiny), "--seed", "7", "--steps", "2", "--out", str(out)]
    environment = {
        "S2I_DRIVE": str(out / "drive"),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=600
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return done, lines


def pictures(lines) -> dict[str, bytes]:
    from PIL import Image

    paths = [Path(path) for line in lines for path in line.get("pictures", ())]
    return {read_record(path)["transcript"]["text"]: Image.open(path).tobytes() for path in paths}


@pytest.mark.slow
def test_two_processes_draw_what_one_does_and_write_one_page(tmp_path):
    make_pipeline().save_pretrained(tmp_path / "tiny")
    clips = [*CLIPS, CLIPS[0]]
    done, one = speak([], clips, tmp_path / "one", tmp_path / "tiny")
    assert done.returncode == 0, done.stderr[-3000:]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done, two = speak(launcher, clips, tmp_path / "two", tmp_path / "tiny")
    assert done.returncode == 0, done.stderr[-3000:]
    assert pictures(one) == pictures(two) and len(pictures(one)) == 2
    marks = sorted(path.stem[-3:] for path in (tmp_path / "two").glob("*.png"))
    assert marks == ["-p0", "-p0", "-p1"], "each has its share, and no name was used twice"
    [page] = (tmp_path / "two").glob("*.html")
    assert page.read_text().count("data:image/png") == 3
    assert [line["page"] for line in two if "page" in line] == [str(page)]
    assert {line["clip"] for line in two if "clip" in line} == set(map(str, clips))


def test_alone_a_process_takes_everything(monkeypatch):
    from s2i_lib.distributed import Processes

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = Processes()
    assert alone.is_alone and alone.is_main and alone.mark == ""
    assert alone.share([1, 2]) == alone.gather([1, 2]) == [1, 2]

"""A stranger's first minutes: clone, make demo, in an environment with nothing in it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_fresh_clone_demonstrates_itself(tmp_path):
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout, so there is nothing to clone")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    empty = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    empty.pop("VIRTUAL_ENV", None)
    empty["HF_HUB_OFFLINE"] = "1"

    done = subprocess.run(["make", "demo"], cwd=clone, env=empty, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "A red car on a yellow background" in done.stdout
    [png] = (clone / "out" / "demo").glob("*.png")
    [page] = (clone / "out" / "demo").glob("*.html")
    assert png.name in done.stdout
    assert page.name in done.stdout

    again = subprocess.run(["make", "demo"], cwd=clone, env=empty, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr[-3000:]
    assert len(list((clone / "out" / "demo").glob("*.png"))) == 2  # the first one is kept
    print("demo:", *re.findall(r"Seconds.*", done.stdout + again.stdout), sep="\n")


def test_an_environment_that_failed_is_not_taken_for_one_the_next_time(tmp_path):
    """As on Debian without python3-venv: a python in .venv, and no pip."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    python = tmp_path / "python-without-venv"
    python.write_text(
        "#!/bin/sh\nmkdir -p .venv/bin\ntouch .venv/bin/python\necho why >&2; exit 1\n"
    )
    python.chmod(0o755)
    command = ["make", ".venv/bin/python", f"PYTHON={python}"]
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.startswith("why")
        assert "apt-get install python3-venv" in done.stdout
        assert not (tmp_path / ".venv").exists()


@pytest.mark.slow
def test_make_demo_takes_a_recording_of_ones_own(tmp_path):
    """With the environment that is there (-o: not made anew), and a space in the file's name."""
    voice = shutil.copy(ROOT / "tests" / "data" / "jfk.flac", tmp_path / "my voice.flac")
    words = ["make", "-o", ".venv/.demo", "demo", f"BIN={Path(sys.executable).parent}"]
    done = subprocess.run(
        [*words, f"AUDIO={voice}", f"OUT={tmp_path / 'made'}"],
        cwd=ROOT, env={**os.environ, "S2I_DRIVE": str(tmp_path / "drive")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "what your country can do for you" in done.stdout
    [png] = (tmp_path / "made").glob("*.png")
    assert png.name in done.stdout

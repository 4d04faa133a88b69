"""Colab's Python, 3.13, with Colab's versions: what needs no torch runs there as it does here."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIST = ROOT / "tests" / "data" / "without_torch.txt"

pytestmark = pytest.mark.slow


def test_every_file_compiles_without_a_warning(colab_python, tmp_path):
    folders = ["s2i_lib", "tests", "tools", "benchmarks"]
    done = subprocess.run(
        [colab_python, "-W", "error", "-m", "compileall", "-q", *folders],
        cwd=ROOT, env={**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    compiled = {path.name.split(".")[0] for path in tmp_path.rglob("*.pyc")}
    assert {path.stem for path in (ROOT / "s2i_lib").rglob("*.py")} <= compiled


def test_every_cell_of_a_notebook_compiles_without_a_warning(colab_python):
    """As Colab's IPython reads it, with `!` and `%`."""
    code = """if True:
        import json, sys
        from IPython.core.inputtransformer2 import TransformerManager
        for path in sys.argv[1:]:
            for number, cell in enumerate(json.load(open(path))["cells"]):
                if cell["cell_type"] == "code":
                    source = TransformerManager().transform_cell("".join(cell["source"]))
                    compile(source, f"{path}, cell {number}", "exec")
                    print(end="x")
    """
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    done = subprocess.run(
        [colab_python, "-W", "error::SyntaxWarning", "-c", code, *notebooks],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 40


def test_what_needs_no_torch_passes_there(colab_python, tmp_path):
    listed = [line for line in LIST.read_text().splitlines() if not line.startswith("#")]
    found = [path for path in (ROOT / "tests").rglob("test_*.py") if "browser" not in path.parts]
    files = [path for path in found if path.name in listed]
    assert len(files) == len(listed)
    assert len(files) > 10
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""}
    code = "import importlib.util as u, sys; print(sys.version_info[:2], u.find_spec('torch'))"
    said = subprocess.run([colab_python, "-c", code], env=environment, capture_output=True)
    assert said.stdout.decode().strip() == "(3, 13) None"
    done = subprocess.run(
        [colab_python, "-m", "pytest", "-p", "no:cacheprovider", "--basetemp", tmp_path / "t",
         "-m", "not slow and not full", "-rs", *files],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    print(done.stdout[-2000:])
    assert done.returncode == 0, done.stdout[-5000:]
    [passed] = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) > 200

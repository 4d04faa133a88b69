"""What an installation has: Colab's ``%pip install`` builds a wheel, a clone is used in place."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_wheel_has_every_file_of_the_package_and_no_other(tmp_path):
    """Once the words of twenty languages were missing: their file's name ends in .tsv."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    built_from = ("s2i_lib/", "pyproject.toml", "requirements.txt", "README.md", "LICENSE")
    for name in files:
        if name.startswith(built_from):
            copy = tmp_path / "project" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy)
    left = tmp_path / "project" / "s2i_lib" / "speech" / "__pycache__" / "text.cpython-311.pyc"
    left.parent.mkdir()
    left.write_bytes(b"what Python leaves in a copy that was used")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", tmp_path, tmp_path / "project"], check=True)
    [wheel] = tmp_path.glob("*.whl")
    with ZipFile(wheel) as opened:
        shipped = {name for name in opened.namelist() if ".dist-info/" not in name}
    assert shipped == {name for name in files if name.startswith("s2i_lib/")}

"""Programs of others that judge ours and come by npm, pinned; where they cannot be had, skip."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def install(package: str, folder: Path) -> Path:
    """Install NAME@VERSION below ``folder``, and return where node looks for it."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip(f"no Node.js, so {package} cannot run: apt-get install npm")
    done = subprocess.run(
        ["npm", "install", "--silent", "--prefix", folder, package], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"{package} cannot be had: {done.stderr.strip()[-200:]}")
    return folder / "node_modules"

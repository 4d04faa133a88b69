"""Pictures to hold: renders that the pocket model learns from, saved as this program saves them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from s2i_lib.drawing import gallery
from s2i_lib.drawing.records import Picture
from tests import npm

DATA = Path(__file__).parents[1] / "data"
VALIDATOR = "gltf-validator@2.0.0-dev.3.10"
CHECK = """
const validator = require('gltf-validator'), fs = require('fs');
(async () => {
  for (const file of process.argv.slice(1)) {
    const report = await validator.validateBytes(new Uint8Array(fs.readFileSync(file)));
    console.log(JSON.stringify(report.issues));
  }
})();
"""


@pytest.fixture
def render(tmp_path):
    """``render(noun)`` saves a render of a thing, 64 px, with a record, and gives its path."""
    nouns = json.loads((DATA / "pocket_renders.json").read_text())

    def save(noun: str, folder: Path = tmp_path, **record: object) -> Path:
        y, x = divmod(nouns.index(noun), 10)
        with Image.open(DATA / "pocket_renders.png") as sheet:
            tile = sheet.convert("RGB").crop((64 * x, 64 * y, 64 * x + 64, 64 * y + 64))
        made = {
            "prompt": f"a {noun}", "negative": "", "seed": 1, "model": "pocket", "run": None,
            "source": "the package", "subjects": [], "transcript": None, **record,
        }  # fmt: skip
        return gallery.save(Picture(tile, made), folder)

    return save


@pytest.fixture(scope="session")
def khronos(tmp_path_factory):
    """``khronos(files)``: the issues that Khronos' own validator finds in GLBs, one report each."""
    folder = tmp_path_factory.mktemp("khronos")
    npm.install(VALIDATOR, folder)

    def validate(files: list[Path]) -> list[dict]:
        done = subprocess.run(
            ["node", "-e", CHECK, *files], cwd=folder, capture_output=True, text=True, check=True
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    return validate

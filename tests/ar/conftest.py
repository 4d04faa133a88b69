"""Pictures to hold: renders that the pocket model learns from, saved as this program saves them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests import npm
from tests.renders import save_render

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
    """``render(noun)`` saves a render of a thing, with a record, and gives its path."""
    return lambda noun, folder=tmp_path, **record: save_render(noun, folder, **record)


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

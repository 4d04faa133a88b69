"""LoRA beside Colab's torchao 0.10, which peft refuses: whichever way asks peft first works."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny_model import draw_dataset, make_pipeline
from tiny_run import SHORT, start

from s2i_lib.models import loading
from s2i_lib.models.export import export, kohya_names
from s2i_lib.storage import run_card
from s2i_lib.storage.layout import Drive
from s2i_lib.training.config import FinetuneOptions
from tests.twin.torchao import write_torchao

ROOT = Path(__file__).parents[2]
LORA = {"method": "lora", "lora_rank": 2, "lora_alpha": 6, "learning_rate": 1e-1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A Drive with a LoRA run, made where there is no torchao, and its base model."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S2I_LOCAL", str(root / "local"))
        make_pipeline().save_pretrained(root / "tiny")
        drive, dataset = Drive(root / "drive"), draw_dataset(root / "photos")
        start(drive, dataset, root / "tiny", name="lora", **LORA)
    return drive, root / "tiny"


def forget_torchao() -> None:
    from peft.import_utils import is_torchao_available

    is_torchao_available.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "torchao"]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def torchao(tmp_path, monkeypatch):
    """``torchao(version)`` installs it; peft is as it is before it has looked."""

    def install(version: str) -> None:
        monkeypatch.syspath_prepend(write_torchao(tmp_path / version, version))
        forget_torchao()
        assert importlib.metadata.version("torchao") == version

    yield install
    monkeypatch.undo()
    forget_torchao()


def train(drive, tiny):
    from s2i_lib.training.train_state import make_train_state

    pipe = loading.load(str(tiny), drive=drive).pipeline
    train_state = make_train_state(pipe, FinetuneOptions(**{**SHORT, **LORA, "sample_every": 0}))
    assert any("lora_A" in name for name in train_state.parameters)


def load_a_run(drive, tiny):
    assert loading.load(str(tiny), drive=drive, run="violet/lora").run == "violet/lora"


def export_merged(drive, tiny):
    folder = export(drive, "violet/lora", "diffusers", drive.root / "out", str(tiny))
    assert (folder / "unet").is_dir()


def load_a_strangers_lora(drive, tiny):
    path = drive.root / "stranger.safetensors"
    own = load_file(drive.runs / "violet" / "lora" / run_card.WEIGHTS / run_card.LORA)
    save_file(kohya_names(own, 6), path)
    assert loading.load(str(tiny), drive=drive, run=str(path)).run == str(path)


WAYS = [train, load_a_run, export_merged, load_a_strangers_lora]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_a_lora_works_beside_colabs_torchao(trained, torchao, way):
    torchao("0.10.0")
    way(*trained)


@pytest.mark.parametrize("way", WAYS)
def test_a_torchao_that_peft_takes_is_left_to_it(trained, torchao, tmp_path, way):
    """Somebody's quantized model in the same session still needs it."""
    from peft.import_utils import is_torchao_available

    torchao("0.17.0")
    drive = Drive(trained[0].root.parent / way.__name__)
    drive.root.mkdir()
    (drive.root / "runs").symlink_to(trained[0].runs)
    way(drive, trained[1])
    assert is_torchao_available()


def registry_torchao(folder: Path) -> Path:
    """The real one, without what it needs: nobody imports it further than the facts above."""
    done = subprocess.run(
        [
            sys.executable, "-m", "uv", "pip", "install", "-q", "--no-deps", "--target", folder,
            "--python", sys.executable, "torchao==0.10.0",
        ],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.skip(f"torchao 0.10.0 could not be had: {done.stderr.strip()[-300:]}")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "written", [write_torchao, pytest.param(registry_torchao, marks=pytest.mark.full)]
)
@pytest.mark.parametrize("before", ["", "import peft, diffusers.models, torchao"])
def test_a_fresh_session_draws_with_a_lora(trained, tmp_path, written, before):
    """Whether or not the user's own cells have imported the others first."""
    drive, tiny = trained
    code = f"""if True:
        {before}
        import importlib.metadata, sys
        from pathlib import Path
        from s2i_lib.models.loading import load
        from s2i_lib.storage.layout import Drive
        assert importlib.metadata.version("torchao") == "0.10.0"
        model = load(sys.argv[2], drive=Drive(Path(sys.argv[1])), run="violet/lora")
        print(model.run, "torchao" in sys.modules)
    """
    path = os.pathsep.join([str(written(tmp_path / "packages")), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code, drive.root, tiny], env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # Not imported for nothing, either: the real one takes seconds.
    assert done.stdout.split() == ["violet/lora", str(bool(before))]

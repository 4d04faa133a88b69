"""Where weights come from: the package, a folder, the Drive, the hub's mirrors in their order."""

import dataclasses
import errno
import gc
import importlib.util
import shutil
import subprocess
import sys
import threading

import pytest
from tiny_run import write_run

from s2i_lib.errors import InputError, S2iError
from s2i_lib.models import loading
from s2i_lib.models.encoders import load_clip
from s2i_lib.models.registry import REGISTRY
from s2i_lib.storage import hub as hub_module
from s2i_lib.storage.hub import Source, verify
from s2i_lib.storage.layout import Drive

POCKET = REGISTRY["pocket"].folder


@pytest.fixture
def folder(tmp_path):
    """A copy of the pocket model to do harm to."""
    return shutil.copytree(POCKET, tmp_path / "copy")


def test_pocket_loads_in_fp32_with_everything_in_one_precision(pocket):
    import torch

    parts = (pocket.pipeline.unet, pocket.pipeline.vae, pocket.pipeline.text_encoder)
    assert {weight.dtype for part in parts for weight in part.parameters()} == {torch.float32}


def test_the_garbage_collector_is_on_again_after_loading(pocket, folder, drive):
    loading.load("pocket", drive=drive)
    assert gc.isenabled()
    (folder / "model_index.json").write_text("{}")
    with pytest.raises(InputError):
        loading.load(str(folder), drive=drive)
    assert gc.isenabled()


@pytest.mark.slow
def test_loading_says_nothing_and_leaves_bitsandbytes_for_8_bit_adam(tmp_path):
    """In a process of its own, since libraries look for bitsandbytes once."""
    code = """if True:
        import sys
        from pathlib import Path
        from s2i_lib.models.loading import load
        from s2i_lib.storage.layout import Drive
        from s2i_lib.training import train_state
        load("pocket", drive=Drive(Path(sys.argv[1])))
        print("bitsandbytes" in sys.modules)
        print("loaded", file=sys.stderr)
        print(train_state.find_8bit_fault("cpu"))
    """
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("loaded"), "loading a model complains"
    was_loaded, fault = done.stdout.splitlines()
    assert was_loaded == "False"
    is_installed = importlib.util.find_spec("bitsandbytes") is not None
    assert fault == "None" if is_installed else "No module named 'bitsandbytes'" in fault


@pytest.mark.slow
def test_a_program_that_has_imported_diffusers_before_us_can_load(tmp_path):
    """In a process of its own, as in a notebook that begins with its own imports."""
    code = """if True:
        import sys
        from pathlib import Path
        import diffusers
        from s2i_lib.models.loading import load
        from s2i_lib.storage.layout import Drive
        load("pocket", drive=Drive(Path(sys.argv[1])))
    """
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_changed_byte_is_noticed(folder, drive):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(InputError, match=r"unet.*found SHA-256 .* expected"):
        loading.load(str(folder), drive=drive)


def test_weights_that_are_loaded_again_are_not_hashed_again(folder, drive, monkeypatch):
    hashed = []
    whole = hub_module.sha256_of
    monkeypatch.setattr(hub_module, "sha256_of", lambda path: hashed.append(path) or whole(path))
    verify(folder)
    first = len(hashed)
    verify(folder)
    assert 0 < first == len(hashed) == len(set(hashed))


def test_a_missing_part_is_named(folder, drive):
    shutil.rmtree(folder / "vae")
    with pytest.raises(InputError, match="vae"):
        loading.load(str(folder), drive=drive)


def test_a_tokenizer_without_words_is_refused(folder, drive):
    """transformers makes one of three words, and every prompt would draw the same."""
    for tokenizer, load in (
        (folder / "tokenizer", lambda: loading.load(str(folder), drive=drive)),
        (folder / "scorer", lambda: load_clip(str(folder / "scorer"), drive)),
    ):
        for name in ("tokenizer.json", "merges.txt"):
            (tokenizer / name).unlink()
        with pytest.raises(InputError, match="has no vocabulary"):
            load()


def test_a_run_that_lacks_a_part_of_what_it_trained_is_not_drawn_with(drive, tiny):
    write_run(drive, tiny, "whole", with_text_encoder=True)
    loading.load(str(tiny), drive=drive, run="violet/whole")
    (drive.runs / "violet" / "whole" / "weights" / "text_encoder" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"lack text_encoder/model\.safetensors"):
        loading.load(str(tiny), drive=drive, run="violet/whole")


def test_no_network_lists_every_source_and_why(drive):
    with pytest.raises(S2iError) as error:
        loading.load("sd2.1-base", drive=drive)
    assert not isinstance(error.value, InputError)  # exit status 1, not 2
    for source in (str(drive.models / "sd2.1-base"), *REGISTRY["sd2.1-base"].sources):
        assert f"{source}: " in str(error.value)
    assert not drive.root.exists()


@pytest.fixture
def hub(serve_hub):
    """One mirror is there, another has gone."""
    return serve_hub({"second/mirror": {"main": POCKET}})


@pytest.mark.slow
def test_mirrors_are_tried_in_order_and_the_weights_kept_on_the_drive(hub, drive, monkeypatch):
    base = dataclasses.replace(
        REGISTRY["pocket"], name="far", folder=None, words=None,
        sources=(Source("first/gone"), Source("second/mirror")),
    )  # fmt: skip
    monkeypatch.setitem(REGISTRY, "far", base)
    model = loading.load("far", drive=drive)
    assert model.source == f"second/mirror@{hub.commit_of('second/mirror', 'main')[:12]}"
    assert hub.asked[0].startswith("/api/models/first/gone")
    assert (drive.models / "far" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert not (drive.models / "far" / "scorer").exists()  # only what drawing needs

    hub.asked.clear()
    again = loading.load("far", drive=drive)
    assert hub.asked == []  # the second time nothing is asked of the hub
    assert again.source == f"{model.source}, by its checksums.json"  # the Drive's own word


@pytest.mark.slow
def test_a_copy_that_the_drive_cut_short_is_not_kept_and_the_download_is_used(
    hub, faulty_drive, monkeypatch, caplog
):
    drive = Drive(faulty_drive.path / "s2i")
    base = dataclasses.replace(
        REGISTRY["pocket"], name="far", folder=None, words=None, sources=(Source("second/mirror"),)
    )
    monkeypatch.setitem(REGISTRY, "far", base)
    faulty_drive.fault("cut short")
    folder, source = loading.find_weights(base, drive)
    assert list(drive.models.iterdir()) == []
    assert "could not be kept" in caplog.text and "reads back different" in caplog.text
    verify(folder)

    faulty_drive.fault("")
    assert loading.find_weights(base, drive) == (drive.models / "far", source)
    verify(drive.models / "far")


@pytest.mark.slow
def test_a_download_shows_a_bar_and_goes_on_where_the_connection_broke(
    hub, drive, monkeypatch, pocket, capfd
):
    """Also after a model has been loaded, for which transformers' bars, and with them the hub's,
    are switched off."""
    base = dataclasses.replace(
        REGISTRY["pocket"], name="far", folder=None, words=None, sources=(Source("second/mirror"),)
    )
    monkeypatch.setitem(REGISTRY, "far", base)
    hub.breaks_after = 12 * 2**20
    folder, _ = loading.find_weights(base, drive)
    [rest] = filter(None, hub.ranges)
    assert 0 < int(rest.removeprefix("bytes=").rstrip("-")) <= 12 * 2**20
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (folder / weights).read_bytes() == (POCKET / weights).read_bytes()
    assert "100%|" in capfd.readouterr().err


@pytest.mark.slow
def test_a_damaged_cache_on_the_drive_is_fetched_again(hub, drive, monkeypatch):
    base = dataclasses.replace(
        REGISTRY["pocket"], name="far", folder=None, words=None, sources=(Source("second/mirror"),)
    )
    monkeypatch.setitem(REGISTRY, "far", base)
    loading.load("far", drive=drive)
    weights = drive.models / "far" / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    loading.load("far", drive=drive)
    verify(drive.models / "far")


@pytest.mark.slow
def test_a_cache_that_lost_a_file_or_is_not_read_is_passed_over(hub, drive, monkeypatch):
    """A machine may go before its Drive has uploaded all; a Drive has errors of its own."""
    base = dataclasses.replace(
        REGISTRY["pocket"], name="far", folder=None, words=None, sources=(Source("second/mirror"),)
    )
    words = drive.models / "far" / "tokenizer" / "tokenizer.json"
    loading.find_weights(base, drive)
    words.unlink()
    folder, _ = loading.find_weights(base, drive)
    assert folder == drive.models / "far" and words.is_file()

    def fail(folder):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(hub_module, "verify", fail)
    hub.asked.clear()
    loading.find_weights(base, drive)
    assert hub.asked


@pytest.mark.slow
def test_models_and_whisper_load_beside_each_other(tiny, drive, tmp_path):
    """As where somebody speaks before the model is there, and two studios; 27 of 30 loads failed.

    diffusers builds networks by a patch of torch for the whole process: see models/building.py.
    """
    import torch
    from whisper.model import ModelDimensions, Whisper

    from s2i_lib.speech.whisper import OpenAIWhisper

    dims = ModelDimensions(80, 20, 8, 1, 1, 100, 8, 8, 1, 1)
    weights = tmp_path / "whisper.pt"
    state = Whisper(dims).state_dict()
    torch.save({"dims": dataclasses.asdict(dims), "model_state_dict": state}, weights)
    failures, heard = [], []

    def load_twice():
        try:
            for _ in range(2):
                loading.load(str(tiny), drive=drive)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=load_twice) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        heard.append(OpenAIWhisper(weights, "no name", "cpu", 1))
    for thread in threads:
        thread.join()
    assert not failures and heard
    for whisper in heard:
        assert not any(weight.is_meta for weight in whisper._whisper.parameters())
    assert torch.nn.Linear(1, 1).weight.device.type == "cpu", "torch is as it was"

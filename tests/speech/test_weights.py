"""Weights are found, checked, kept, and chosen to fit the machine."""

import hashlib
import shutil

import numpy as np
import pytest
from sounds import JFK

from s2i_lib.errors import S2iError
from s2i_lib.models.registry import REGISTRY
from s2i_lib.speech import tiny_en
from s2i_lib.speech.transcribe import HearOptions, hear
from s2i_lib.speech.weights import MODELS, choose_models, find_weights
from s2i_lib.storage.layout import Drive


@pytest.mark.parametrize(
    ("language", "device", "memory_gib", "best"),
    [
        (None, "cuda", 14, "small"),
        ("en", "cuda", 14, "small.en"),
        ("de", "cuda", 14.6, "medium"),  # a T4 with nothing on it
        ("de", "cuda", 12, "medium"),  # and with sd2.1-base loaded
        ("de", "cuda", 10, "small"),
        ("fr", "cuda", 80, "medium"),
        ("en", "cuda", 80, "small.en"),
        (None, "cuda", 80, "small"),
        ("de", "cpu", 80, "base"),
        (None, "cuda", 3, "base"),
        (None, "cpu", 12, "base"),
        ("de", "cpu", 1, "tiny"),
    ],
)
def test_auto_fits_device_memory_and_language(language, device, memory_gib, best):
    names = choose_models(language, device, memory_gib)
    assert names[0] == best
    assert all(name in MODELS for name in names)
    if language not in (None, "en"):
        assert all(MODELS[name].can_translate for name in names)


def test_a_larger_model_leaves_the_picture_its_memory():
    largest_gib = max(base.gpu_gib for base in REGISTRY.values())
    for memory_gib in np.arange(1, 24, 0.25):
        best = MODELS[choose_models("de", "cuda", memory_gib)[0]]
        rest_gib = memory_gib - best.memory_gib
        assert rest_gib >= min(largest_gib, 0.75 * memory_gib) or best.name == "tiny"


def test_damaged_weights_are_named(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"not the weights")
    monkeypatch.setattr(tiny_en, "package_folder", lambda: folder)
    with pytest.raises(
        S2iError, match=r"model\.bin have the SHA-256 .* expected 1a5afae0"
    ) as error:
        hear(JFK, HearOptions(engine="faster-whisper", model="tiny.en"), Drive(tmp_path))
    assert error.value.exit_status == 1


@pytest.mark.parametrize("engine", ["openai-whisper", "faster-whisper"])
def test_weights_that_cannot_be_loaded_are_named(engine, tmp_path):
    bad = tmp_path / "mine"
    if engine == "openai-whisper":
        bad.write_bytes(b"PK\x03\x04 not a checkpoint")
    else:
        bad.mkdir()
    with pytest.raises(S2iError, match=f"The weights {bad} cannot be loaded") as error:
        hear(JFK, HearOptions(engine=engine, model=str(bad)), Drive(tmp_path))
    assert "\n" not in str(error.value)


def test_downloaded_weights_are_checked_and_kept_on_the_drive(tmp_path, monkeypatch):
    import whisper

    content = b"weights" * 1000
    source = tmp_path / hashlib.sha256(content).hexdigest() / "base.pt"
    source.parent.mkdir()
    source.write_bytes(content)
    monkeypatch.setitem(whisper._MODELS, "base", source.as_uri())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    drive = Drive(tmp_path / "drive")
    kept = find_weights("openai-whisper", "base", drive)
    assert kept == drive.models / "whisper" / "base.pt"
    assert kept.read_bytes() == content
    shutil.rmtree(source.parent)  # from now on there is no network
    assert find_weights("openai-whisper", "base", drive) == kept


def test_download_with_a_wrong_checksum_is_not_kept(tmp_path, monkeypatch):
    import whisper

    source = tmp_path / ("0" * 64) / "base.pt"
    source.parent.mkdir()
    source.write_bytes(b"something else")
    monkeypatch.setitem(whisper._MODELS, "base", source.as_uri())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    drive = Drive(tmp_path / "drive")
    with pytest.raises(S2iError, match="checksum"):
        find_weights("openai-whisper", "base", drive)
    assert not (drive.models / "whisper" / "base.pt").exists()

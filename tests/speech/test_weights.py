"""Weights are found, checked, kept, and chosen to fit the machine."""

import hashlib
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
from sounds import JFK

from s2i_lib.errors import S2iError
from s2i_lib.models.registry import REGISTRY
from s2i_lib.speech import packaged
from s2i_lib.speech.transcribe import HearOptions, Listener, hear
from s2i_lib.speech.weights import MODELS, REVISIONS, choose_models, find_weights
from s2i_lib.storage import hub
from s2i_lib.storage.files import sha256_of
from s2i_lib.storage.layout import Drive


@pytest.mark.parametrize(
    ("language", "device", "memory_gib", "best"),
    [
        (None, "cuda", 14, "small"),
        ("en", "cuda", 14, "small.en"),
        ("de", "cuda", 14.6, "medium"),  # a T4 with nothing on it
        ("de", "cuda", 12, "medium"),  # and with sd2.1-base loaded
        ("de", "cuda", 11, "medium"),  # and with the 768 px model
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
    monkeypatch.setattr(packaged, "package_folders", lambda model: [folder])
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
    assert "\n" not in str(error.value) and "Delete" not in str(error.value), "they are the user's"


def test_a_file_of_weights_is_openai_whispers_where_there_is_no_gpu_too(drive, monkeypatch):
    import torch
    from whisper.model import ModelDimensions, Whisper

    dims = ModelDimensions(80, 1500, 8, 1, 1, 51_864, 448, 8, 1, 1)
    drive.root.mkdir()
    checkpoint = {"dims": asdict(dims), "model_state_dict": Whisper(dims).state_dict()}
    torch.save(checkpoint, drive.root / "mine.pt")
    monkeypatch.setenv("HOME", str(drive.root))
    listener = Listener(HearOptions(model="~/mine.pt", device="cpu"), drive).load()
    assert listener._engine.name == "openai-whisper"


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


@pytest.mark.parametrize("engine", ["openai-whisper", "faster-whisper"])
def test_whisper_comes_pinned_and_is_not_kept_on_a_drive_without_room_for_a_run(
    engine, serve_hub, tmp_path, monkeypatch
):
    """On a free Drive it took up to 1.5 GB of what a run needs; the weights are small here."""
    import whisper

    content = b"weights" * 1000
    folder = tmp_path / hashlib.sha256(content).hexdigest()
    for name, other in ((folder, content), (tmp_path / "later", b"others" * 1000)):
        name.mkdir()
        for file in ("base.pt", "model.bin"):
            (name / file).write_bytes(other)
    monkeypatch.setitem(whisper._MODELS, "base", (folder / "base.pt").as_uri())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    revisions = {"main": tmp_path / "later", REVISIONS["base"]: folder}
    serve_hub({"Systran/faster-whisper-base": revisions})
    monkeypatch.setattr(hub, "free_bytes", lambda path: 2**16)
    drive = Drive(tmp_path / "drive")
    found = find_weights(engine, "base", drive)
    assert (found / "model.bin" if found.is_dir() else found).read_bytes() == content
    assert not drive.models.exists()
    assert find_weights(engine, "base", drive, download=False) == found, "on this disk"


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


# ---- Packages: joined once, and what listens where there is no network ----


@pytest.fixture
def halves(tmp_path, monkeypatch):
    """Two packages that are tiny.en's weights in halves, as those of base come."""
    [whole] = packaged.package_folders("tiny.en")
    data = (whole / "model.bin").read_bytes()
    names = ("half_of_whisper_1", "half_of_whisper_2")
    for number, name in enumerate(names):
        folder = tmp_path / "site" / name / "data"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").touch()
        cut = len(data) // 2
        (folder / f"model.bin.part{number + 1}").write_bytes([data[:cut], data[cut:]][number])
    for file in whole.glob("*.*"):
        if file.name != "model.bin":
            shutil.copy(file, tmp_path / "site" / names[0] / "data")
    parts = replace(packaged.PACKAGED["base"], packages=names, sha256=TINY_EN)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setitem(packaged.PACKAGED, "base", parts)
    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "local"))
    return tmp_path / "site" / names[1] / "data" / "model.bin.part2"


TINY_EN = packaged.PACKAGED["tiny.en"].sha256


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["openai-whisper", "faster-whisper"])
def test_weights_in_two_packages_are_joined_once_for_both_engines(engine, halves, tmp_path):
    folder = find_weights(engine, "base", Drive(tmp_path), download=False)
    assert sha256_of(folder / "model.bin") == TINY_EN
    assert folder.is_relative_to(tmp_path / "local")
    assert not list(folder.glob("model.bin.*"))
    joined = (folder / "model.bin").stat().st_mtime_ns
    halves.unlink()  # the parts are not read again
    assert find_weights(engine, "base", Drive(tmp_path), download=False) == folder
    assert (folder / "model.bin").stat().st_mtime_ns == joined
    heard = hear(JFK, HearOptions(engine=engine, model=str(folder), device="cpu"), Drive(tmp_path))
    assert "ask not what your country" in heard.text.lower()


def test_damaged_parts_are_named_and_leave_nothing_behind(halves, tmp_path):
    halves.write_bytes(halves.read_bytes()[:-1] + b"?")
    with pytest.raises(S2iError, match=r"SHA-256 .*expected 1a5afae0.*part1==1\.0\.0"):
        find_weights("faster-whisper", "base", Drive(tmp_path), download=False)
    assert not list((tmp_path / "local").rglob("model.bin*"))


@pytest.mark.slow
def test_only_where_nothing_else_can_be_had_is_english_alone_heard_and_said_once(drive):
    """The tests have no network, so base cannot be downloaded."""
    if packaged.package_folders("base"):
        pytest.skip("the package of base is installed")
    listener = Listener(HearOptions(engine="faster-whisper", device="cpu"), drive)
    first = listener.hear(JFK)
    assert first.model == "tiny.en" and first.doubts == ()
    [note] = first.notes
    assert note.startswith("Only English is heard now, by tiny.en. ")
    assert "s2i_lib[multilingual]" in note and len(note) < 260
    assert note.endswith("could not be downloaded (no connection).")
    assert listener.hear(JFK).notes == ()
    asked = hear(JFK, HearOptions(engine="faster-whisper", device="cpu", language="en"), drive)
    assert asked.notes == ()  # whoever says English has what was asked for


@pytest.mark.slow
def test_a_multilingual_model_that_is_here_is_taken_before_tiny_en(halves, drive):
    listener = Listener(HearOptions(engine="faster-whisper", device="cpu"), drive)
    first = listener.hear(JFK)
    assert (first.model, first.notes) == ("base", ())


def test_german_without_a_network_is_refused_in_one_clear_paragraph(drive, monkeypatch):
    monkeypatch.setattr(packaged, "PACKAGED", {"tiny.en": packaged.PACKAGED["tiny.en"]})
    options = HearOptions(engine="faster-whisper", device="cpu", language="de")
    with pytest.raises(S2iError, match=r"^Hearing German needs a Whisper") as error:
        hear(JFK, options, drive)
    said = str(error.value)
    assert "\n" not in said and len(said) < 700
    assert "pip install 's2i_lib[multilingual]'" in said and "internet" in said

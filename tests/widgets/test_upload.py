"""The end of notebook 2 in Colab: what waits there is uploaded, and the Drive comes back."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from s2i_lib import notebook
from s2i_lib.storage import layout
from s2i_lib.storage.layout import Drive

FAKE_COLAB = Path(__file__).parents[1] / "fake_colab"


@pytest.fixture
def colab(tmp_path, monkeypatch):
    """A kernel in Colab with a mounted Drive that uploads nothing by itself but small files."""
    if not (Path("/dev/fuse").exists() and shutil.which("fusermount3")):
        pytest.skip("FUSE is missing here, so a Drive that uploads late cannot be made")
    content = tmp_path / "content"
    content.mkdir()
    monkeypatch.syspath_prepend(str(FAKE_COLAB))
    for name, value in {
        "COLAB_RELEASE_TAG": "release-colab_20260819",
        "FAKE_COLAB_CONTENT": content,
        "FAKE_COLAB_CACHE": tmp_path / "cache",
        "FAKE_COLAB_CLOUD": tmp_path / "cloud",
        "FAKE_COLAB_DRIVE": "--at-once 10000",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(layout, "COLAB_MOUNT", content / "drive" / "MyDrive")
    assert notebook.mount_google_drive() is None
    yield Drive(content / "drive" / "MyDrive" / "s2i"), tmp_path / "cloud" / "MyDrive" / "s2i"
    subprocess.run(["fusermount3", "-u", "-z", content / "drive"], check=False)


def finished_run(drive, **card):
    run = drive.runs / "rex" / "sd2-1-base-01"
    for folder in ("weights", "state-00000200"):
        (run / folder).mkdir(parents=True)
    (run / "weights" / "unet.safetensors").write_bytes(b"learnt" * 10_000)
    (run / "weights" / "step.json").write_text('{"step": 800, "sha256": {"unet.safetensors": ""}}')
    (run / "state-00000200" / "trained.safetensors").write_bytes(b"state" * 10_000)
    (run / "run.json").write_text(json.dumps({"status": "finished", **card}))
    return run.relative_to(drive.root)


def test_all_that_waits_is_uploaded_and_the_drive_is_there_again(colab):
    drive, cloud = colab
    run, said = finished_run(drive, keeps_state=False), []
    weights, state = run / "weights" / "unet.safetensors", run / "state-00000200"
    assert not (cloud / weights).exists(), "acknowledged, and nowhere but on this machine"
    assert notebook.finish_upload(drive, said.append)
    assert (cloud / weights).read_bytes() == (drive.root / weights).read_bytes()
    assert os.path.ismount(layout.COLAB_MOUNT.parent)
    assert "leave this tab open" in said[0] and "may be closed" in said[-1]
    assert not (drive.root / state).exists() and (drive.root / weights).exists()


def test_states_of_runs_from_before_and_small_ones_stay(colab):
    drive, _ = colab
    run = finished_run(drive)
    assert notebook.finish_upload(drive, lambda text: None)
    assert (drive.root / run / "state-00000200").exists(), "the user's to delete: runs --prune"
    (drive.root / run / "run.json").write_text('{"status": "finished", "keeps_state": true}')
    assert notebook.finish_upload(drive, lambda text: None)
    assert (drive.root / run / "state-00000200").exists()


def test_an_upload_that_colab_refuses_is_said_and_nothing_is_deleted(colab, monkeypatch):
    drive, _ = colab
    run, said = finished_run(drive, keeps_state=False), []
    monkeypatch.setenv("FAKE_COLAB_FLUSH", "fails")
    assert not notebook.finish_upload(drive, said.append)
    assert "ValueError: flush_and_unmount failed" in said[-1]
    assert (drive.root / run / "state-00000200").exists()


def test_there_is_nothing_to_wait_for_elsewhere(tmp_path, monkeypatch):
    said = []
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    assert notebook.finish_upload(Drive(tmp_path), said.append)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_20260819")  # the Drive was refused
    assert notebook.finish_upload(Drive(tmp_path), said.append) and not said

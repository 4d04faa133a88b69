"""What the keeper of a run promises of the Drive, whatever waits in its queue."""

import threading

import pytest

from s2i_lib.keeper import Keeper
from s2i_lib.models import WEIGHTS, read_card
from s2i_lib.run import Run

CARD = {"base": {"name": "tiny", "fingerprint": "f"}, "dataset": {"sha256": "d"}}


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "drive" / "runs" / "violet" / "tiny-01", tmp_path / "local" / "tiny-01")


@pytest.fixture
def keeper(run):
    return Keeper(run, lambda text: None, lambda event, info: None, 0.3, is_main=True)


def test_a_card_that_waited_for_the_drive_does_not_say_finished_before_the_weights(run, keeper):
    """The Drive takes small files again, but not the weights: a file has their name there."""
    gate = threading.Event()
    keeper.submit("what holds up the queue", gate.wait)
    keeper.begin(CARD | {"status": "training"})
    weights = run.local / WEIGHTS
    weights.mkdir()
    (weights / "unet.safetensors").write_bytes(b"learnt")
    (run.folder / WEIGHTS).write_bytes(b"in the way")
    keeper.end(weights, CARD | {"status": "finished"})
    gate.set()
    keeper.close()
    assert read_card(run.folder)["status"] == "training"
    assert (weights / "unet.safetensors").read_bytes() == b"learnt", "it is to be copied later"

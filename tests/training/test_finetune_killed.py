"""Killed at any moment, the end is the same: real SIGKILL, weights bit by bit."""

import random
import signal
import time

import killed_run
import pytest
from fork_server import processes
from tiny_run import digest

from s2i_lib.storage.run_card import read_card
from s2i_lib.training import saves

pytestmark = pytest.mark.slow

PHASES = [
    ("class_images", 2),  # of two batches one is sampled
    ("samples", 1),
    ("samples", 2),  # of the step that turns out to be the best
    ("saving", 1),
    ("saving", 2),
    ("saved", 1),
    ("publishing", 2),
    ("verifying", 2),
    ("renaming", 1),
    ("renaming", 2),
    ("pointing", 1),
    ("pointing", 3),
    ("pointed", 2),
    ("removing", 1),
    ("finishing", 1),
]
N_MOMENTS = 6  # random ones in `make test`, beside the phases; in `make full` N_MOMENTS_FULL
N_MOMENTS_FULL = 24


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """An uninterrupted run: the digest of its weights, and how long it took in seconds."""
    root = tmp_path_factory.mktemp("whole")
    finish(root, tiny)
    began = time.monotonic()
    second = tmp_path_factory.mktemp("again")
    finish(second, tiny)
    seconds = time.monotonic() - began
    assert digest(run_in(root)) == digest(run_in(second))
    return digest(run_in(root)), seconds


def run_in(root):
    return root / "drive" / "runs" / "violet" / "tiny-01"


def launch(root, *arguments):
    process = processes().Process(target=killed_run.run, args=(str(root), *arguments))
    process.start()
    return process


def finish(root, tiny):
    process = launch(root, tiny)
    process.join(240)
    assert process.exitcode == 0, (root / "log").read_text()


def check_whole(root, whole):
    run = run_in(root)
    assert digest(run) == whole[0]
    card = read_card(run)
    assert (card["status"], card["kept_step"], card["best_step"]) == ("finished", 4, 4)
    assert not (run / "best").exists()
    assert len(saves.list_saves(run)) == 1, "so small a state stays, the one before it does not"
    assert saves.newest_save([run], pytest.fail).name == "state-00000008"
    assert not [path.name for path in run.rglob(".*")], "something half done was left behind"


@pytest.mark.parametrize(("phase", "count"), PHASES)
def test_killed_in_a_phase_and_started_again_it_ends_the_same(tiny, whole, tmp_path, phase, count):
    process = launch(tmp_path, tiny, phase, count)
    process.join(240)
    assert process.exitcode == -signal.SIGKILL
    finish(tmp_path, tiny)
    check_whole(tmp_path, whole)


@pytest.mark.timeout(4 * 3600)  # so many pairs of runs, on a busy machine
def test_killed_at_random_moments_it_ends_the_same(tiny, whole, tmp_path, full):
    moments, seconds = random.Random(0), whole[1]
    killed = attempt = 0
    while killed < (N_MOMENTS_FULL if full else N_MOMENTS):
        attempt += 1
        root = tmp_path / str(attempt)
        root.mkdir()
        began = time.monotonic()
        process = launch(root, tiny)
        process.join(moments.uniform(0, seconds))
        if process.is_alive():
            killed += 1
        else:  # the machine is less busy than it was
            seconds = min(seconds, time.monotonic() - began)
        process.kill()
        process.join()
        finish(root, tiny)
        check_whole(root, whole)


def test_killed_again_and_again_it_still_gets_there(tiny, whole, tmp_path):
    for phase in ("class_images", "saved", "renaming", "pointing", "finishing"):
        process = launch(tmp_path, tiny, phase)
        process.join(240)
        assert process.exitcode == -signal.SIGKILL, phase
    finish(tmp_path, tiny)
    check_whole(tmp_path, whole)

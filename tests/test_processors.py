"""How many processors the library takes, and how its threads wait: as OpenMP itself tells it.

OMP_DISPLAY_ENV makes GNU's OpenMP print what it has read (libgomp's manual, "OMP_DISPLAY_ENV").
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from s2i_lib.storage.layout import Drive

N_PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
is_linux = pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP is Linux's")


def run(code: str, **variables: str) -> tuple[str, str]:
    own = ("OMP_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "NUMBA_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip(), done.stderr


def read_by_openmp(told: str, name: str) -> set[str]:
    return set(re.findall(rf"{name} = '(\w+)'", told))


@pytest.mark.slow
@is_linux
@pytest.mark.parametrize("library", ["torch", "ctranslate2"])
def test_half_of_the_processors_and_short_waits_reach_every_openmp(library):
    _, told = run(f"import s2i_lib, {library}", OMP_DISPLAY_ENV="VERBOSE")
    assert read_by_openmp(told, "OMP_NUM_THREADS") == {str(max(1, N_PROCESSORS // 2))}
    assert read_by_openmp(told, "GOMP_SPINCOUNT") == {"10000"}


@pytest.mark.slow
@pytest.mark.parametrize("order", ["s2i_lib, torch", "torch, s2i_lib"])
def test_torch_takes_half_whichever_is_imported_first(order):
    said, _ = run(f"import {order}; print(torch.get_num_threads())")
    assert int(said) == max(1, N_PROCESSORS // 2)


@pytest.mark.slow
def test_torch_keeps_to_half_after_openai_whisper_has_timed_words(tmp_path):
    """numba, which it does that with, takes all processors by itself, and torch with it."""
    code = f"""
import s2i_lib, torch
from pathlib import Path
from s2i_lib.speech.alignment import hear_inside
from s2i_lib.storage.layout import Drive
clip = Path(s2i_lib.__file__).parent / "samples" / "red_car.wav"
assert hear_inside(clip, Drive(Path({str(tmp_path)!r}))).words
print(torch.get_num_threads())
"""
    assert int(run(code)[0].split()[-1]) == max(1, N_PROCESSORS // 2)
    assert int(run(code, OMP_NUM_THREADS="3")[0].split()[-1]) == 3


@pytest.mark.slow
@is_linux
def test_what_somebody_set_decides():
    code = "import torch, s2i_lib; print(torch.get_num_threads())"
    said, told = run(
        code, OMP_NUM_THREADS=str(N_PROCESSORS), OMP_WAIT_POLICY="ACTIVE", OMP_DISPLAY_ENV="VERBOSE"
    )
    assert int(said) == N_PROCESSORS
    assert read_by_openmp(told, "GOMP_SPINCOUNT") != {"10000"}


@pytest.mark.full
def test_beside_two_busy_programs_a_clip_takes_a_little_over_twice_as_long():
    """Of the jobs of the benchmark the shortest. Three times: this machine may be busy already."""
    from benchmarks.busy import measure

    found = measure("clip, faster-whisper", n_busy=N_PROCESSORS, rounds=3, seconds=1.0)
    alone, beside = found["s2i_lib's"]
    assert beside / alone < 3


@pytest.mark.slow
def test_the_benchmark_works_in_each_way_and_says_how_long(tmp_path, monkeypatch):
    from benchmarks import busy

    monkeypatch.setattr(busy, "WAYS", {"all": busy.WAYS["all processors"], "s2i_lib's": {}})
    found = busy.measure("clip, faster-whisper", n_busy=1, rounds=1, seconds=0)
    assert found.keys() == {"all", "s2i_lib's"}
    assert all(0 < seconds < 60 for way in found.values() for seconds in way)
    row = busy.row("clip", "s2i_lib's", (0.2, 0.3), usual=0.25)
    assert row == "| clip | s2i_lib's | 0.200 | 0.80 | 0.300 | 1.5 |"


@pytest.mark.slow
def test_a_step_of_the_benchmark_trains(tmp_path):
    from benchmarks.busy import training_step

    step = training_step(Drive(tmp_path))
    step()
    step()

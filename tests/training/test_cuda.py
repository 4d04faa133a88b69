"""What only a CUDA GPU has: half precision with its scaler, the ladder on real memory, 8-bit state,
drawing and hearing there; with --full a whole run at the size of Stable Diffusion in a T4's memory.

``make cuda`` runs them; they are skipped, with a word, where there is none, and in ``make test``.
"""

import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tiny_run import KilledError, digest, kill_at, start

from s2i_lib.drawing import sampling
from s2i_lib.drawing.draw import draw
from s2i_lib.errors import S2iError
from s2i_lib.models import loading
from s2i_lib.models.registry import PACKAGE, REGISTRY
from s2i_lib.storage.layout import Drive
from s2i_lib.training import trial
from s2i_lib.training.config import FinetuneOptions
from s2i_lib.training.run import Setup
from s2i_lib.training.train_state import find_8bit_fault

SAMPLES = PACKAGE / "samples"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no CUDA GPU here, or not `make cuda`"
    ),
]

WISHES = {
    "full": {},
    "lora": {"method": "lora"},
    "8-bit": {"with_8bit_adam": True},
}


@pytest.mark.parametrize("kind", WISHES)
def test_a_run_in_fp16_goes_on_with_its_scaler_and_ends_the_same(
    drive,
    dataset,
    tiny,
    kind,
):
    if kind == "8-bit" and (fault := find_8bit_fault("cuda")):
        pytest.skip(f"bitsandbytes does not work here: {fault}")
    wish = {"precision": "fp16", "is_deterministic": True, "gradient_clip": 0.1, **WISHES[kind]}
    whole, _, _ = start(drive, dataset, tiny, **wish)
    other = Drive(drive.root.with_name("other"))
    with pytest.raises(KilledError):
        start(other, dataset, tiny, callback=kill_at(5), **wish)
    run, said, _ = start(other, dataset, tiny, **wish)
    assert "violet/tiny-01 goes on at step 3 of 8." in said
    assert any(" for all steps, " in text for text in said), "two trial steps told the time"
    state = json.loads((run / "state-00000008" / "state.json").read_text())
    assert state["scaler"]["scale"] > 0 and state["options"]["precision"] == "fp16"
    assert digest(run) == digest(whole)


def test_the_ladder_is_gone_down_when_real_memory_runs_out(drive):
    model = loading.load("pocket", drive=drive, device=torch.device("cpu"), dtype=torch.float32)
    accelerator, options = Accelerator(), FinetuneOptions(batch_size=8)
    torch.cuda.reset_peak_memory_stats()
    assert trial.probe_steps(model, options, accelerator) > 0
    peak = torch.cuda.max_memory_reserved()
    total = torch.cuda.get_device_properties(0).total_memory
    said = []
    try:
        torch.cuda.set_per_process_memory_fraction(0.7 * peak / total)
        setup = Setup(drive, None, model, options, accelerator, report=said.append)
        changed = trial.try_steps(setup)[0].options
        assert changed != options and changed.batch_size == 8
    except S2iError as error:
        assert "even with LoRA" in str(error)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert said and "ran out of memory" in said[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_gpu_draws_the_picture_that_a_cpu_draws(drive, dtype):
    pictures = []
    for device, precision in (("cpu", torch.float32), ("cuda", dtype)):
        model = loading.load("pocket", drive=drive, device=torch.device(device), dtype=precision)
        options = sampling.DrawOptions(seed=7, count=2)
        pictures.append([p.image for p in draw(model, "a red car", options)])
    for cpu, gpu in zip(*pictures, strict=True):
        difference = np.abs(np.asarray(cpu, dtype=float) - np.asarray(gpu, dtype=float))
        assert difference.mean() < 3, "of 255"


def test_a_gpu_hears_what_a_cpu_hears(drive):
    from s2i_lib.speech.transcribe import HearOptions, Listener

    heard = []
    for device in ("cpu", "cuda"):
        options = HearOptions(
            device=device, engine="openai-whisper", model="tiny.en", word_times=True
        )
        heard.append(Listener(options, drive).hear(SAMPLES / "red_car.wav"))
    cpu, gpu = heard
    assert gpu.text == cpu.text and "car" in gpu.text
    for one, other in zip(cpu.words, gpu.words, strict=True):
        assert (one.text, one.start_s) == (other.text, pytest.approx(other.start_s, abs=0.1))


@pytest.mark.full
def test_a_whole_run_of_full_size_fits_a_t4(drive, serve_hub, tmp_path):
    """And Colab's 12.7 GiB of main memory, of which other things take a part."""
    from benchmarks import gpu
    from tests.twin.repositories import REAL, write_all

    serve_hub(write_all(tmp_path / "hub", 64, REAL))
    figures = {}
    with gpu.held_to(gpu.T4_GIB):
        for some in gpu.measure(drive, {"steps": 20, "class_image_count": 16, "save_every": 10}):
            figures |= some
    print(json.dumps(figures, indent=1))
    assert not any("ran out of memory" in text for text in figures["said"]), "no rung was needed"
    wanted = {"method": "full", "precision": "fp16", "with_8bit_adam": True}
    assert figures["options"].items() >= wanted.items()
    assert figures["left on the GPU after the run, GiB"] < 0.1
    assert max(s["main memory, GiB"] for s in figures["stages"].values()) <= 8
    least = REGISTRY["sd2.1-base"].gpu_gib
    assert figures["stages"]["drawing 1 at a time"]["GPU, GiB"] < least

"""A run from photos to weights: what it plans, draws and writes, and what it leaves behind."""

import dataclasses
import json
import os
import platform
import re
import traceback
import weakref
from importlib.metadata import version

import pytest
import torch
from PIL import Image
from tiny_run import SHORT, KilledError, kill_at, start

from s2i_lib.errors import InputError, S2iError
from s2i_lib.models import loading
from s2i_lib.models.digests import fingerprint
from s2i_lib.privacy import find_traces
from s2i_lib.storage.lease import LEASE, Lease
from s2i_lib.storage.run_card import read_card
from s2i_lib.training.finetune import FinetuneRun, make_accelerator

pytestmark = pytest.mark.usefixtures("local_disk")


@pytest.mark.slow
def test_a_run_leaves_everything_that_is_promised_and_nothing_else(drive, dataset, tiny, capsys):
    run, _, _ = start(drive, dataset, tiny)
    bar = capsys.readouterr().err.rpartition("Training:")[2]
    assert re.search(r"8/8 .*(step/s|s/step), loss=", bar)
    assert run == drive.runs / "violet" / "tiny-01"
    files = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    state = {"state.json", "trained.safetensors", "optimizer.safetensors"}
    assert files == {
        "run.json",
        "latest.json",
        "metrics.jsonl",
        "samples/step-000000.png",
        "samples/step-000008.png",
        "weights/step.json",
        "weights/unet/config.json",
        "weights/unet/diffusion_pytorch_model.safetensors",
        *(f"state-00000008/{name}" for name in state),
    }
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert {"instance_loss", "prior_loss", "learning_rate"} < set(lines[0])
    assert b"/trainedAlgorithmicMedia" in (run / "samples" / "step-000008.png").read_bytes()
    with Image.open(run / "samples" / "step-000008.png") as sheet:
        assert sheet.size == (4 * 16, 16)
    card = json.loads((run / "run.json").read_text())
    assert card["status"] == "finished" and card["step"] == 8
    assert card["options"]["steps"] == 8 and card["dataset"]["sha256"] == "drawn"
    assert card["base"]["name"] == "tiny" and card["seconds_a_step"] > 0
    assert card["versions"]["python"] == platform.python_version()
    assert card["versions"]["torch"] == version("torch")
    assert card["versions"].keys() >= {"s2i_lib", "diffusers", "accelerate", "bitsandbytes"}
    base = loading.load(str(tiny), drive=drive, dtype=torch.float32).pipeline
    assert card["base"]["fingerprint"] == fingerprint(base)
    assert card["base"]["source"] == str(tiny)
    assert card["base"]["licence"] == "as given by whoever made it" and card["scores"] == {}
    (kept,) = drive.class_images.iterdir()
    assert card["class_images"] == kept.name
    assert {p.name for p in kept.iterdir()} == {
        "card.json",
        "sheet.png",
        "latents-000.safetensors",
    }


@pytest.mark.slow
def test_class_images_can_be_looked_at_before_and_are_drawn_once(drive, dataset, tiny):
    seen = []

    def draw(**changes):
        changes = {
            "model": str(tiny),
            "callback": lambda *event: seen.append(event),
            **SHORT,
            **changes,
        }
        return FinetuneRun(drive, dataset, **changes).class_images()

    sheet = draw()
    (kept,) = drive.class_images.iterdir()
    assert sheet == kept / "sheet.png" and b"/trainedAlgorithmicMedia" in sheet.read_bytes()
    with Image.open(sheet) as pictures:
        assert pictures.size == (4 * 16, 2 * 16)
    assert ("class_images", {"done": 8, "total": 8}) in seen
    seen.clear()
    assert draw() == sheet and draw(with_prior=False) is None and not seen
    run, _, events = start(drive, dataset, tiny)
    assert run.name == "tiny-01", "the same run, not a second one"
    assert "class_images" not in [name for name, _ in events]
    assert json.loads((run / "run.json").read_text())["class_images"] == kept.name


@pytest.mark.slow
def test_class_images_of_several_prompts_are_one_set_which_is_forgotten_with_its_subject(
    drive, dataset, tiny
):
    prompts = ("a {noun}", "a red {noun} | a green {noun}")
    run, _, _ = start(drive, dataset, tiny, class_prompts=prompts)
    (kept,) = drive.class_images.iterdir()
    card = json.loads((kept / "card.json").read_text())
    assert card["prompt"] == "a cat"
    assert card["prompts"] == ["a cat", "a red cat | a green cat"]
    assert json.loads((run / "run.json").read_text())["class_images"] == kept.name
    again, said, events = start(drive, dataset, tiny, class_prompts=prompts)
    assert again == run and "finished already" in said[-1] and not events
    found = [t.path for t in find_traces(drive, dataset.subject.name) if t.what == "class images"]
    assert {path.name for path in found} == {kept.name}, "on the Drive and on this disk"


@pytest.mark.slow
def test_class_images_are_shown_where_the_drive_takes_nothing(drive, dataset, tiny, local_disk):
    drive.root.mkdir(parents=True, exist_ok=True)
    (drive.root / "class_images").write_text("in the way")
    said = []
    run = FinetuneRun(drive, dataset, model=str(tiny), report=said.append, patience_s=0.1, **SHORT)
    sheet = run.class_images()
    assert sheet.is_file() and sheet.is_relative_to(local_disk)
    assert "Not on the Drive yet" in said[-1]


@pytest.mark.slow
def test_a_plan_has_measured_the_time_and_changes_nothing(drive, dataset, tiny):
    short = {key: value for key, value in SHORT.items() if key != "steps"}
    made = FinetuneRun(drive, dataset, model=str(tiny), steps=1000, **short).plan()
    assert made.seconds_a_step is not None and 0 < made.seconds_a_step < 5
    assert f"{made.seconds_a_step:.2g} s each" in str(made) and not made.problems
    assert not drive.runs.exists()


@pytest.mark.slow
def test_a_run_on_a_cpu_says_the_time_once_steps_have_been_made(drive, dataset, tiny):
    _, said, _ = start(drive, dataset, tiny)
    (row,) = [line for line in said if line.startswith("Time")]
    assert "for all steps" in row
    assert any("Time    said after the first steps" in text for text in said)


@pytest.mark.slow
def test_the_local_copy_is_gone_once_all_is_on_the_drive(drive, dataset, tiny, local_disk):
    start(drive, dataset, tiny)
    assert not list(local_disk.rglob("state-*"))


@pytest.mark.slow
def test_a_person_is_learnt_by_the_text_encoder_too_and_a_cat_by_the_u_net_alone(
    drive, dataset, tiny
):
    who = dataclasses.replace(dataset.subject, name="Ada", class_noun="woman", kind="person")
    person, said, _ = start(drive, dataclasses.replace(dataset, subject=who), tiny)
    cat, _, _ = start(drive, dataset, tiny)
    for run, name, parts in (
        (person, "person", {"unet", "text_encoder"}),
        (cat, "animal", {"unet"}),
    ):
        card = read_card(run)
        assert card["recipe"]["name"] == name and "huggingface.co/blog" in card["recipe"]["source"]
        assert {path.parent.name for path in run.rglob("weights/*/*.safetensors")} == parts
    assert any("Recipe  person: https://huggingface.co/blog/dreambooth" in text for text in said)


@pytest.mark.slow
@pytest.mark.parametrize("end", [None, KeyboardInterrupt, torch.OutOfMemoryError])
def test_a_run_that_has_ended_leaves_no_model_in_memory(drive, dataset, tiny, end):
    """Interrupted and started again in one notebook, it would find the GPU full of the first."""
    seen = []

    class Noted:
        def append(self, model):
            seen.append(weakref.ref(model.pipeline.unet))

    def stop(event, info):
        if event == "step":
            raise end

    if end is None:
        start(drive, dataset, tiny, loaded=Noted())
    else:
        with pytest.raises(end) as kept:  # a notebook keeps it, too
            start(drive, dataset, tiny, loaded=Noted(), callback=stop)
        lines = "".join(traceback.format_exception(kept.value))
        assert "in train" in lines and "in stop" in lines, "where it was raised is still said"
    assert len(seen) == 1 and seen[0]() is None


def test_a_run_may_have_another_precision_than_the_one_before_it():
    """In a notebook, where "use precision fp32" is what a message says to do."""
    for precision, mixed in (("fp32", "no"), ("bf16", "bf16"), ("fp32", "no")):
        accelerator = make_accelerator(precision)
        assert accelerator.mixed_precision == mixed
        with accelerator.autocast():
            assert torch.is_autocast_enabled("cpu") == (precision == "bf16")


@pytest.mark.slow
def test_deterministic_algorithms_are_used_while_it_trains_and_not_after(drive, dataset, tiny):
    def mode():
        return torch.get_deterministic_debug_mode(), os.environ.get("CUBLAS_WORKSPACE_CONFIG")

    seen = {}

    def look(event, info):
        seen[event] = mode()

    before = mode()
    start(drive, dataset, tiny, callback=look, name="plain")
    assert seen["step"] == before == (0, None)
    start(drive, dataset, tiny, callback=look, name="exact", seed=1, is_deterministic=True)
    assert seen["class_images"] == seen["step"] == (2, ":4096:8")
    assert mode() == before


@pytest.mark.slow
def test_the_run_draws_what_was_learnt(drive, dataset, tiny):
    run, _, _ = start(drive, dataset, tiny, learning_rate=1e-2)
    for given in ("violet/tiny-01", "Violet", str(run)):
        model = loading.load(str(tiny), drive=drive, run=given)
        assert model.run == "violet/tiny-01"
        base = loading.load(str(tiny), drive=drive)
        fine, plain = model.pipeline.unet.state_dict(), base.pipeline.unet.state_dict()
        assert all(not torch.equal(fine[k], plain[k]) for k in fine)
    with pytest.raises(InputError, match="violet/tiny-01"):
        loading.load(str(tiny), drive=drive, run="rex")


@pytest.mark.slow
def test_a_run_that_is_being_trained_is_left_alone(drive, dataset, tiny, local_disk):
    with pytest.raises(KilledError):
        start(drive, dataset, tiny, callback=kill_at(5))

    def content():
        files = [p for root in (drive.root, local_disk) for p in root.rglob("*") if p.is_file()]
        return {path: path.read_bytes() for path in files if path.name != LEASE}  # it beats

    lease = Lease(drive.runs / "violet" / "tiny-01", pytest.fail).acquire()
    try:
        before = content()
        with pytest.raises(S2iError, match=r"is being trained by process \d+"):
            start(drive, dataset, tiny)
        assert content() == before, "the second writes nothing"
    finally:
        lease.release()


@pytest.mark.slow
def test_a_dataset_without_images_is_refused(drive, dataset, tiny):
    with pytest.raises(InputError, match="no images"):
        start(drive, dataclasses.replace(dataset, images=()), tiny)


@pytest.mark.slow
def test_a_sample_prompt_with_an_unknown_word_in_braces_is_refused(drive, dataset, tiny):
    with pytest.raises(InputError, match="braces"):
        start(drive, dataset, tiny, sample_prompts=("a {person}",))

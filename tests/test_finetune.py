"""A run from photos to weights: what it writes, how it goes on, what it refuses."""

import dataclasses
import hashlib
import json
import os
import platform
import re
import traceback
import weakref
from importlib.metadata import version

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_model import draw_dataset, make_pipeline

from s2i_lib.drawing.gallery import grid
from s2i_lib.drawing.sampling import DrawOptions, decode, sample_latents
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models import loading
from s2i_lib.privacy import find_traces
from s2i_lib.speech.prompt import Prompt
from s2i_lib.storage.layout import Drive
from s2i_lib.storage.lease import LEASE, Lease, _machine
from s2i_lib.storage.run_card import read_card
from s2i_lib.training import checkpoint, resources
from s2i_lib.training.callbacks import SAMPLE_SEED, SAMPLES_A_ROW
from s2i_lib.training.finetune import FinetuneRun, load_for_training, make_accelerator
from s2i_lib.training.train_state import find_8bit_fault

SHORT = {
    "steps": 8,
    "batch_size": 1,
    "class_image_count": 8,
    "save_every": 3,
    "sample_every": 0,
    "sample_prompts": ("a {subject}",),
    "learning_rate": 1e-3,
}


class KilledError(Exception):
    """Ends a run from within; tests/test_finetune_killed.py does the same with SIGKILL."""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    make_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def local_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "local"))
    return tmp_path / "local"


@pytest.fixture
def dataset(tmp_path):
    return draw_dataset(tmp_path / "photos")


@pytest.fixture
def loaded(monkeypatch):
    """The models that runs load, to look at or to break while they train."""
    found = []

    def note(base, drive):
        found.append(load_for_training(base, drive))
        return found[-1]

    monkeypatch.setattr("s2i_lib.training.finetune.load_for_training", note)
    return found


def start(drive, dataset, tiny, **changes):
    """Run once; the run's folder, what was said, and the events."""
    said, events = [], []
    watch = changes.pop("callback", lambda event, info: None)

    def note(event, info):
        events.append((event, info))
        watch(event, info)

    changes = {"model": str(tiny), "report": said.append, **SHORT, **changes}
    return FinetuneRun(drive, dataset, callback=note, **changes).train(), said, events


def kill_at(wanted):
    """A watcher that ends the run once the lines of step ``wanted`` have been read."""

    def watch(event, info):
        if event == "step" and info["lines"][-1]["step"] >= wanted:
            raise KilledError

    return watch


def digest(run):
    """Of all that was trained: the U-Net, and the text encoder where that is the default."""
    files = sorted((run / "weights").rglob("*.safetensors"))
    assert files
    # Not of the files: safetensors writes two entries of metadata, as a LoRA has, in any order.
    return [
        (path.name, name, hashlib.sha256(weight.numpy().tobytes()).hexdigest())
        for path in files
        for name, weight in sorted(load_file(path).items())
    ]


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
    assert card["base"]["fingerprint"] == loading.fingerprint(base)
    assert card["base"]["source"] == str(tiny)
    assert card["base"]["licence"] == "as given by whoever made it" and card["scores"] == {}
    (kept,) = drive.class_images.iterdir()
    assert card["class_images"] == kept.name
    assert {p.name for p in kept.iterdir()} == {
        "card.json",
        "sheet.png",
        "latents-000.safetensors",
    }


def test_a_run_of_before_an_option_was_there_is_still_the_same_run(drive, dataset, tiny):
    run, _, _ = start(drive, dataset, tiny)
    card = json.loads((run / "run.json").read_text())
    for options in (card["options"], card["wanted"]):
        del options["class_dropout"]
    (run / "run.json").write_text(json.dumps(card))
    again, said, events = start(drive, dataset, tiny)
    assert again == run and "finished already" in said[-1] and not events
    other, _, _ = start(drive, dataset, tiny, class_dropout=0.5)
    assert other != run


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
    assert sheet == kept / "sheet.png"
    with Image.open(sheet) as pictures:
        assert pictures.size == (4 * 16, 2 * 16)
    assert ("class_images", {"done": 8, "total": 8}) in seen
    seen.clear()
    assert draw() == sheet and draw(with_prior=False) is None and not seen
    run, _, events = start(drive, dataset, tiny)
    assert run.name == "tiny-01", "the same run, not a second one"
    assert "class_images" not in [name for name, _ in events]
    assert json.loads((run / "run.json").read_text())["class_images"] == kept.name


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


def test_class_images_are_shown_where_the_drive_takes_nothing(drive, dataset, tiny, local_disk):
    drive.root.mkdir(parents=True, exist_ok=True)
    (drive.root / "class_images").write_text("in the way")
    said = []
    run = FinetuneRun(drive, dataset, model=str(tiny), report=said.append, patience_s=0.1, **SHORT)
    sheet = run.class_images()
    assert sheet.is_file() and sheet.is_relative_to(local_disk)
    assert "Not on the Drive yet" in said[-1]


def test_a_plan_has_measured_the_time_and_changes_nothing(drive, dataset, tiny):
    short = {key: value for key, value in SHORT.items() if key != "steps"}
    made = FinetuneRun(drive, dataset, model=str(tiny), steps=1000, **short).plan()
    assert made.seconds_a_step is not None and 0 < made.seconds_a_step < 5
    assert f"{made.seconds_a_step:.2g} s each" in str(made) and not made.problems
    assert not drive.runs.exists()


def test_a_run_on_a_cpu_says_the_time_once_steps_have_been_made(drive, dataset, tiny):
    _, said, _ = start(drive, dataset, tiny)
    (row,) = [line for line in said if line.startswith("Time")]
    assert "for all steps" in row
    assert any("Time    said after the first steps" in text for text in said)


def test_a_run_killed_before_its_first_file_leaves_its_name_free(drive, dataset, tiny):
    husk = drive.runs / "violet" / "tiny-01"
    husk.mkdir(parents=True)
    held = {"machine": _machine(), "pid": os.getpid(), "token": "of somebody who was killed"}
    (husk / LEASE).write_text(json.dumps(held))
    run, _, _ = start(drive, dataset, tiny)
    assert run == husk and not (husk / LEASE).exists()


@pytest.mark.slow
def test_the_local_copy_is_gone_once_all_is_on_the_drive(drive, dataset, tiny, local_disk):
    start(drive, dataset, tiny)
    assert not list(local_disk.rglob("state-*"))


@pytest.mark.slow
def test_starting_a_finished_run_again_does_nothing(drive, dataset, tiny):
    run, _, _ = start(drive, dataset, tiny)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    again, said, events = start(drive, dataset, tiny)
    assert again == run and events == [] and any("finished already" in line for line in said)
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}


@pytest.mark.slow
def test_what_a_finished_run_could_not_copy_is_copied_by_starting_it_again(drive, dataset, tiny):
    """The Drive had room for the weights and not for the last state: a file has its name there."""
    in_the_way = drive.runs / "violet" / "tiny-01" / "state-00000008"

    def watch(event, info):
        if event == "samples":
            in_the_way.touch()

    run, said, _ = start(drive, dataset, tiny, callback=watch, patience_s=2, retry_s=0.1)
    assert read_card(run)["status"] == "finished"
    assert any("Not on the Drive yet: the run's state." in line for line in said)
    before = digest(run)
    in_the_way.unlink()
    again, said, events = start(drive, dataset, tiny)
    assert again == run and digest(run) == before
    assert not [event for event, _ in events if event == "step"]
    assert checkpoint.newest_save([run], pytest.fail).name == "state-00000008"
    assert read_card(run)["status"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 5, 8])
def test_an_interrupted_run_goes_on_by_itself_and_ends_the_same(drive, dataset, tiny, step):
    whole, _, _ = start(drive, dataset, tiny)
    other = Drive(drive.root.with_name("other"))
    with pytest.raises(KilledError):
        start(other, dataset, tiny, callback=kill_at(step))
    run, said, _ = start(other, dataset, tiny)
    assert run.name == "tiny-01" and digest(run) == digest(whole)
    assert (run / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    assert any("goes on at step" in line for line in said) == (step > 3)


@pytest.mark.slow
def test_training_goes_on_unscored_where_the_hub_is_not_reached(drive, dataset, tiny):
    run, said, _ = start(drive, dataset, tiny, sample_every=4)
    [sentence] = [text for text in said if "so nothing is scored" in text]
    assert "openai/clip-vit-large-patch14" in sentence and "\n" not in sentence
    assert read_card(run)["kept_step"] == 8 and not (run / "scores.jsonl").exists()
    [plan_said] = [text for text in said if text.startswith("Model")]
    assert "best step" not in plan_said, "no room is kept for what will not be written"


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
def test_a_run_of_the_version_before_goes_on_with_the_recipe_it_began_with(drive, dataset, tiny):
    """Its run.json names no recipe; that of today's is another one, and would be another run."""
    if find_8bit_fault("cpu"):
        pytest.skip("bitsandbytes does not work here")
    whole, _, _ = start(drive, dataset, tiny, recipe="classic")
    assert read_card(whole)["recipe"]["name"] == "classic"
    other = Drive(drive.root.with_name("other"))
    with pytest.raises(KilledError):
        start(other, dataset, tiny, recipe="classic", callback=kill_at(5))
    cards = [run / "run.json" for run in (other.runs / "violet").iterdir()]
    cards += other.root.with_name("local").glob("*/runs/violet/*/run.json")
    for path in cards:
        card = json.loads(path.read_text())
        assert card["options"]["with_checkpointing"]
        del card["recipe"]
        path.write_text(json.dumps(card))
    planned = FinetuneRun(other, dataset, model=str(tiny), **SHORT).plan()
    assert "Recipe  classic: " in str(planned) and planned.options.with_checkpointing
    run, said, _ = start(other, dataset, tiny)
    assert run.name == "tiny-01" and digest(run) == digest(whole)
    assert "violet/tiny-01 goes on at step 3 of 8." in said
    assert not any("from this step on" in line for line in said)
    again, said, _ = start(other, dataset, tiny, name="tiny-01")
    assert again == run and "finished already" in said[-1]
    new, said, _ = start(other, dataset, tiny)
    assert new.name == "tiny-02" and read_card(new)["recipe"]["name"] == "animal"
    assert any("Recipe  animal: https://huggingface.co/blog/dreambooth" in line for line in said)


@pytest.mark.slow
def test_it_goes_on_from_the_drive_alone_when_the_local_disk_is_lost(
    drive, dataset, tiny, monkeypatch, tmp_path
):
    """As in Colab, where a new session has a new machine."""
    whole, _, _ = start(drive, dataset, tiny)
    other = Drive(drive.root.with_name("other"))
    with pytest.raises(KilledError):
        start(other, dataset, tiny, callback=kill_at(7))
    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "new machine"))
    run, said, _ = start(other, dataset, tiny)
    assert digest(run) == digest(whole)
    assert "violet/tiny-01 goes on at step 6 of 8." in said


@pytest.mark.slow
def test_more_steps_continue_a_finished_run_that_is_named(drive, dataset, tiny):
    whole, _, _ = start(drive, dataset, tiny, steps=12, name="long")
    run, _, _ = start(drive, dataset, tiny, name="short")
    again, said, _ = start(drive, dataset, tiny, steps=12, name="short")
    assert again == run and digest(run) == digest(whole)
    assert "steps was 8 and is 12: training now ends at step 12." in said


@pytest.mark.slow
def test_other_options_begin_a_new_run_beside_a_finished_one(drive, dataset, tiny):
    first, _, _ = start(drive, dataset, tiny)
    second, _, _ = start(drive, dataset, tiny, seed=1)
    assert second.name == "tiny-02" and digest(first) != digest(second)


@pytest.mark.slow
def test_other_photos_begin_a_new_run_and_that_is_said(drive, dataset, tiny):
    with pytest.raises(KilledError):
        start(drive, dataset, tiny, callback=kill_at(5))
    run, said, _ = start(drive, dataclasses.replace(dataset, sha256="new"), tiny)
    assert run.name == "tiny-02" and any("photos have changed" in line for line in said)


@pytest.mark.slow
def test_an_unfinished_run_does_not_go_on_with_another_method(drive, dataset, tiny):
    with pytest.raises(KilledError):
        start(drive, dataset, tiny, callback=kill_at(5))
    with pytest.raises(InputError, match=r"method 'full' -> 'lora'.*--name"):
        start(drive, dataset, tiny, method="lora")


@pytest.mark.slow
def test_a_run_from_a_gpu_in_fp16_goes_on_in_fp32_without_one(drive, dataset, tiny):
    wish = {"method": "lora", "precision": "fp16"}
    whole, _, _ = start(drive, dataset, tiny, **wish)
    other = Drive(drive.root.with_name("other"))
    with pytest.raises(KilledError):
        start(other, dataset, tiny, callback=kill_at(5), **wish)
    cards = [run / "run.json" for run in (other.runs / "violet").iterdir()]
    cards += other.root.with_name("local").glob("*/runs/violet/*/run.json")
    assert len(cards) == 2
    for path in cards:  # what a T4 leaves there
        card = json.loads(path.read_text())
        assert card["options"]["precision"] == "fp32"
        card["options"]["precision"] = "fp16"
        path.write_text(json.dumps(card))
    run, said, _ = start(other, dataset, tiny, **wish)
    assert digest(run) == digest(whole) and any("needs a CUDA GPU" in line for line in said)
    assert "violet/tiny-01 goes on at step 3 of 8." in said


@pytest.mark.slow
@pytest.mark.parametrize("end", [None, KeyboardInterrupt, torch.OutOfMemoryError])
def test_a_run_that_has_ended_leaves_no_model_in_memory(drive, dataset, tiny, monkeypatch, end):
    """Interrupted and started again in one notebook, it would find the GPU full of the first."""
    seen = []

    def note(base, drive):
        model = load_for_training(base, drive)
        seen.append(weakref.ref(model.pipeline.unet))
        return model

    def stop(event, info):
        if event == "step":
            raise end

    monkeypatch.setattr("s2i_lib.training.finetune.load_for_training", note)
    if end is None:
        start(drive, dataset, tiny)
    else:
        with pytest.raises(end) as kept:  # a notebook keeps it, too
            start(drive, dataset, tiny, callback=stop)
        lines = "".join(traceback.format_exception(kept.value))
        assert "in train" in lines and "in stop" in lines, "where it was raised is still said"
    assert len(seen) == 1 and seen[0]() is None


@pytest.mark.slow
def test_a_refused_attempt_to_go_on_changes_nothing(drive, dataset, tiny, monkeypatch):
    """bitsandbytes that broke meanwhile: nothing of its 8-bit state can be taken over."""
    if find_8bit_fault("cpu"):
        pytest.skip("bitsandbytes does not work here")
    wish = {"with_8bit_adam": True}
    whole, _, _ = start(drive, dataset, tiny, **wish)
    other = Drive(drive.root.with_name("other"))
    with pytest.raises(KilledError):
        start(other, dataset, tiny, callback=kill_at(5), **wish)
    card = other.runs / "violet" / "tiny-01" / "run.json"
    before = card.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(resources, "find_8bit_fault", lambda device: "OSError: libcudart not found")
        with pytest.raises(InputError, match=r"with_8bit_adam True -> False.*where it began"):
            start(other, dataset, tiny, **wish)
    assert card.read_bytes() == before
    run, said, _ = start(other, dataset, tiny, **wish)
    assert digest(run) == digest(whole) and "violet/tiny-01 goes on at step 3 of 8." in said


def test_a_run_may_have_another_precision_than_the_one_before_it():
    """In a notebook, where "use precision fp32" is what a message says to do."""
    for precision, mixed in (("fp32", "no"), ("bf16", "bf16"), ("fp32", "no")):
        accelerator = make_accelerator(precision)
        assert accelerator.mixed_precision == mixed
        with accelerator.autocast():
            assert torch.is_autocast_enabled("cpu") == (precision == "bf16")


@pytest.mark.slow
def test_a_damaged_state_is_passed_over_for_the_one_before(
    drive, dataset, tiny, monkeypatch, tmp_path
):
    whole, _, _ = start(drive, dataset, tiny)
    other = Drive(drive.root.with_name("other"))
    with pytest.raises(KilledError):
        start(other, dataset, tiny, callback=kill_at(7))
    path = other.runs / "violet" / "tiny-01" / "state-00000006" / "trained.safetensors"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "new machine"))
    run, said, _ = start(other, dataset, tiny)
    assert digest(run) == digest(whole)
    assert any("a byte differs. The state before it is used." in line for line in said)
    assert "violet/tiny-01 goes on at step 3 of 8." in said


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
        model = loading.load(drive=drive, run=given)
        assert model.run == "violet/tiny-01"
        base = loading.load(str(tiny), drive=drive)
        fine, plain = model.pipeline.unet.state_dict(), base.pipeline.unet.state_dict()
        assert all(not torch.equal(fine[k], plain[k]) for k in fine)
    with pytest.raises(InputError, match="violet/tiny-01"):
        loading.load(drive=drive, run="rex")


def spoil_at(event_of, step, loaded, spoil):
    """A watcher that spoils the model in training when ``event_of`` comes for ``step``."""

    def watch(event, info):
        if event == event_of and step == (info["step"] if "step" in info else last_step(info)):
            with torch.no_grad():
                spoil(loaded[0].pipeline)

    return watch


def last_step(info):
    return info["lines"][-1]["step"]


def kept_states(run):
    """The steps of the states on the Drive; each of them whole, and of numbers."""
    states = checkpoint.states(run)
    for state in states:
        checkpoint.verify_state(state)
        assert all(w.isfinite().all() for w in load_file(state / checkpoint.TRAINED).values())
    return [int(state.name[6:]) for state in states]


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_the_run_and_leaves_the_good_state(
    drive, dataset, tiny, loaded
):
    def spoil(pipe):
        pipe.unet.conv_in.weight[0, 0] = torch.nan

    watch = spoil_at("samples", 4, loaded, spoil)
    with pytest.raises(S2iError, match=r"loss is not a number \(NaN\) at step 5"):
        start(drive, dataset, tiny, callback=watch, sample_every=4)
    run = drive.runs / "violet" / "tiny-01"
    assert kept_states(run) == [3] and not (run / "weights").exists()


def blacken(pipe):
    """Flat pictures from weights that are numbers all the same."""
    pipe.vae.decoder.conv_out.weight.zero_()


def forget_identifier(pipe):
    """Flat pictures of "a sks cat" alone."""
    own, other = (set(pipe.tokenizer(text).input_ids) for text in ("a sks cat", "a cat"))
    pipe.text_encoder.get_input_embeddings().weight[sorted(own - other)] = torch.nan


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [blacken, forget_identifier])
@pytest.mark.parametrize("prompts", [("a {noun}", "a {subject}"), ("a {noun} | a {subject}",)])
def test_flat_pictures_of_any_prompt_stop_the_run_and_leave_the_good_state(
    drive, dataset, tiny, loaded, spoil, prompts
):
    watch = spoil_at("step", 4, loaded, spoil)
    with pytest.raises(S2iError, match="At step 4 the model draws only flat pictures"):
        start(drive, dataset, tiny, callback=watch, sample_every=4, sample_prompts=prompts)
    run = drive.runs / "violet" / "tiny-01"
    assert kept_states(run) == [3] and not (run / "weights").exists()
    assert not (run / "samples" / "step-000004.png").exists()


@pytest.mark.slow
def test_without_samples_in_between_no_two_states_follow_that_nobody_has_looked_at(
    drive, dataset, tiny, loaded
):
    """Else the good one of step 2 would be gone by the time of the samples at the end."""
    watch = spoil_at("step", 4, loaded, blacken)
    with pytest.raises(S2iError, match="At step 4 the model draws only flat pictures"):
        start(drive, dataset, tiny, callback=watch, save_every=2)
    assert kept_states(drive.runs / "violet" / "tiny-01") == [2]


@pytest.mark.slow
def test_flat_pictures_stop_the_run(drive, dataset, tiny, tmp_path):
    pipe = make_pipeline()
    with torch.no_grad():
        pipe.vae.decoder.conv_out.weight.zero_()
    pipe.save_pretrained(tmp_path / "black")
    with pytest.raises(S2iError, match="only flat pictures"):
        start(drive, dataset, tmp_path / "black")


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


@pytest.mark.slow
@pytest.mark.parametrize("place", ["model", "cpu"])
def test_samples_show_the_mean_of_weights_that_the_run_ends_with(drive, dataset, tiny, place):
    """The last grid is what the finished run draws, and training does not notice the samples."""
    mean = {"ema_decay": 0.9, "ema_device": place, "learning_rate": 1e-2}
    run, _, _ = start(drive, dataset, tiny, **mean, sample_every=1)
    model = loading.load(drive=drive, run=str(run), dtype=torch.float32)
    seeds = range(SAMPLE_SEED, SAMPLE_SEED + SAMPLES_A_ROW)
    latents = sample_latents(model, Prompt("a sks cat"), DrawOptions(), seeds)
    sheet = grid(decode(model, latents), gap_px=0)
    with Image.open(run / "samples" / "step-000008.png") as shown:
        difference = np.asarray(shown.convert("RGB"), int) - np.asarray(sheet, int)
    assert abs(difference).max() <= 2, "of 255: what is loaded is in fp16"

    rare, _, _ = start(drive, dataset, tiny, **mean, name="rare")
    assert digest(rare) == digest(run)


@pytest.mark.slow
def test_prompts_of_one_row_take_turns_and_every_picture_has_its_own_noise(drive, dataset, tiny):
    rows = ("a {noun}", "a {subject} | a {noun}")
    run, _, _ = start(drive, dataset, tiny, sample_prompts=rows)
    model = loading.load(drive=drive, run=str(run), dtype=torch.float32)
    with Image.open(run / "samples" / "step-000008.png") as sheet:
        side = sheet.width // SAMPLES_A_ROW
        shown = np.asarray(sheet.convert("RGB"), int)
    for index, prompt in enumerate(["a cat"] * 4 + ["a sks cat", "a cat"] * 2):
        latents = sample_latents(model, Prompt(prompt), DrawOptions(), [SAMPLE_SEED + index])
        expected = np.asarray(decode(model, latents)[0], int)
        top, left = index // 4 * side, index % 4 * side
        difference = shown[top : top + side, left : left + side] - expected
        assert abs(difference).max() <= 2, f"picture {index}: what is loaded is in fp16"


def follow(network, worker, monkeypatch):
    """Where ``network`` is sent, and whether it was on such a trip each time ``worker`` worked."""
    sent, was_away, send = [], [], network.to

    def note(device):
        sent.append(str(device))
        return send(device)

    monkeypatch.setattr(network, "to", note)
    worker.register_forward_pre_hook(lambda *_: was_away.append(len(sent) % 2 == 1))
    return sent, was_away


@pytest.mark.slow
def test_vae_and_frozen_text_encoder_are_on_the_device_only_while_they_draw(
    drive, dataset, tiny, loaded, monkeypatch
):
    """Each way there and back is noted, since here both may be the CPU."""
    followed = {}

    def watch(event, info):
        if event == "class_images" and not followed:
            pipe = loaded[0].pipeline
            followed["vae"] = follow(pipe.vae, pipe.vae.decoder, monkeypatch)
            followed["text"] = follow(pipe.text_encoder, pipe.text_encoder, monkeypatch)
        if event == "step":
            assert all(len(sent) % 2 == 0 for sent, _ in followed.values())

    start(drive, dataset, tiny, callback=watch)
    (sent, was_away), (text_sent, text_was_away) = followed.values()
    device = str(loaded[0].pipeline.unet.device)
    assert sent == [device, "cpu"] * 4  # the contact sheet, samples, a look at step 6, samples
    assert text_sent == [device, "cpu"] * 3
    assert was_away and all(was_away) and text_was_away and all(text_was_away)

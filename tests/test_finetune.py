"""A run from photos to weights: what it writes, how it goes on, what it refuses."""

import dataclasses
import hashlib
import json
import os

import pytest
import torch
from PIL import Image
from tiny_model import draw_dataset, make_pipeline

from s2i_lib import checkpoint, models
from s2i_lib.drive import LEASE, Drive, _machine
from s2i_lib.errors import InputError, S2iError
from s2i_lib.finetune import finetune

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


def start(drive, dataset, tiny, **changes):
    """Run once; the run's folder, what was said, and the events."""
    said, events = [], []
    watch = changes.pop("watch", lambda event, info: None)

    def note(event, info):
        events.append((event, info))
        watch(event, info)

    changes = {"model": str(tiny), "report": said.append, **SHORT, **changes}
    return finetune(drive, dataset, watch=note, **changes), said, events


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
    return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]


def test_a_run_leaves_everything_that_is_promised_and_nothing_else(drive, dataset, tiny):
    run, _, _ = start(drive, dataset, tiny)
    assert run == drive.runs / "violet" / "tiny-01"
    files = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    state = {"state.json", "trained.safetensors", "optimizer.safetensors"}
    assert files == {
        "run.json",
        "latest.json",
        "metrics.jsonl",
        "samples/step-000000.png",
        "samples/step-000008.png",
        "weights/unet/config.json",
        "weights/unet/diffusion_pytorch_model.safetensors",
        *(f"state-00000006/{name}" for name in state),
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
    assert card["base"]["name"] == "tiny" and "torch" in card["versions"]
    (kept,) = drive.class_images.iterdir()
    assert card["class_images"] == kept.name
    assert {p.name for p in kept.iterdir()} == {
        "card.json",
        "sheet.png",
        "latents-000.safetensors",
    }


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
@pytest.mark.parametrize("step", [1, 5, 8])
def test_an_interrupted_run_goes_on_by_itself_and_ends_the_same(drive, dataset, tiny, step):
    whole, _, _ = start(drive, dataset, tiny)
    other = Drive(drive.root.with_name("other"))
    with pytest.raises(KilledError):
        start(other, dataset, tiny, watch=kill_at(step))
    run, said, _ = start(other, dataset, tiny)
    assert run.name == "tiny-01" and digest(run) == digest(whole)
    assert (run / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    assert any("goes on at step" in line for line in said) == (step > 3)


@pytest.mark.slow
def test_it_goes_on_from_the_drive_alone_when_the_local_disk_is_lost(
    drive, dataset, tiny, monkeypatch, tmp_path
):
    """As in Colab, where a new session has a new machine."""
    whole, _, _ = start(drive, dataset, tiny)
    other = Drive(drive.root.with_name("other"))
    with pytest.raises(KilledError):
        start(other, dataset, tiny, watch=kill_at(7))
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
        start(drive, dataset, tiny, watch=kill_at(5))
    run, said, _ = start(drive, dataclasses.replace(dataset, sha256="new"), tiny)
    assert run.name == "tiny-02" and any("photos have changed" in line for line in said)


@pytest.mark.slow
def test_an_unfinished_run_does_not_go_on_with_another_method(drive, dataset, tiny):
    with pytest.raises(KilledError):
        start(drive, dataset, tiny, watch=kill_at(5))
    with pytest.raises(InputError, match=r"method 'full' -> 'lora'.*--name"):
        start(drive, dataset, tiny, method="lora")


@pytest.mark.slow
def test_a_damaged_state_is_passed_over_for_the_one_before(
    drive, dataset, tiny, monkeypatch, tmp_path
):
    whole, _, _ = start(drive, dataset, tiny)
    other = Drive(drive.root.with_name("other"))
    with pytest.raises(KilledError):
        start(other, dataset, tiny, watch=kill_at(7))
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
def test_the_run_draws_what_was_learnt(drive, dataset, tiny):
    run, _, _ = start(drive, dataset, tiny, learning_rate=1e-2)
    for given in ("violet/tiny-01", "Violet", str(run)):
        model = models.load(drive=drive, run=given)
        assert model.run == "violet/tiny-01"
        base = models.load(str(tiny), drive=drive)
        fine, plain = model.pipeline.unet.state_dict(), base.pipeline.unet.state_dict()
        assert all(not torch.equal(fine[k], plain[k]) for k in fine)
    with pytest.raises(InputError, match="violet/tiny-01"):
        models.load(drive=drive, run="rex")


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_the_run_and_leaves_the_good_state(drive, dataset, tiny):
    with pytest.raises(S2iError, match="not a number"):
        start(drive, dataset, tiny, learning_rate=1e30, gradient_clip=1e30)
    run = drive.runs / "violet" / "tiny-01"
    assert not (run / "weights").exists()
    for state in checkpoint.states(run):
        checkpoint.verify_state(state)


@pytest.mark.slow
def test_flat_pictures_stop_the_run(drive, dataset, tiny, tmp_path):
    pipe = make_pipeline()
    with torch.no_grad():
        pipe.vae.decoder.conv_out.weight.zero_()
    pipe.save_pretrained(tmp_path / "black")
    with pytest.raises(S2iError, match="only flat pictures"):
        start(drive, dataset, tmp_path / "black")


@pytest.mark.slow
def test_a_run_that_is_being_trained_is_left_alone(drive, dataset, tiny):
    def start_second(event, info):
        if event == "step":
            start(drive, dataset, tiny)

    with pytest.raises(S2iError, match=r"is being trained by process \d+"):
        start(drive, dataset, tiny, watch=start_second)


@pytest.mark.slow
def test_a_dataset_without_images_is_refused(drive, dataset, tiny):
    with pytest.raises(InputError, match="no images"):
        start(drive, dataclasses.replace(dataset, images=()), tiny)


@pytest.mark.slow
def test_a_sample_prompt_with_an_unknown_word_in_braces_is_refused(drive, dataset, tiny):
    with pytest.raises(InputError, match="braces"):
        start(drive, dataset, tiny, sample_prompts=("a {person}",))

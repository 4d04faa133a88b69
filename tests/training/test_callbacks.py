"""While a run trains: samples, and the checks that keep a broken one from the good states."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_model import make_pipeline
from tiny_run import KilledError, digest, kill_at, start

from s2i_lib.drawing.gallery import grid
from s2i_lib.drawing.sampling import DrawOptions, decode, sample_latents
from s2i_lib.errors import S2iError
from s2i_lib.models import loading
from s2i_lib.speech.prompt import Prompt
from s2i_lib.storage.run_card import read_card
from s2i_lib.training import callbacks, checkpoint, saves
from s2i_lib.training.callbacks import SAMPLE_SEED, SAMPLES_A_ROW
from s2i_lib.training.config import FinetuneOptions
from s2i_lib.training.recipes import POCKET, want

pytestmark = pytest.mark.usefixtures("local_disk")


@pytest.fixture
def loaded():
    """The models that runs load, to look at or to break while they train."""
    return []


@pytest.mark.slow
def test_training_goes_on_unscored_where_the_hub_is_not_reached(drive, dataset, tiny):
    run, said, _ = start(drive, dataset, tiny, sample_every=4)
    [sentence] = [text for text in said if "so nothing is scored" in text]
    assert "openai/clip-vit-large-patch14" in sentence and "\n" not in sentence
    assert read_card(run)["kept_step"] == 8 and not (run / "scores.jsonl").exists()
    [plan_said] = [text for text in said if text.startswith("Model")]
    assert "best step" not in plan_said, "no room is kept for what will not be written"


@pytest.mark.slow
def test_a_run_without_sample_prompts_draws_none_and_ends_all_the_same(drive, dataset, tiny):
    run, _, events = start(drive, dataset, tiny, steps=4, sample_prompts=())
    assert read_card(run)["status"] == "finished" and not (run / "samples").exists()
    assert "samples" not in [event for event, _ in events]


def spoil_at(event_of, step, loaded, spoil):
    """A callback that spoils the model in training when ``event_of`` comes for ``step``."""

    def callback(event, info):
        if event == event_of and step == (info["step"] if "step" in info else last_step(info)):
            with torch.no_grad():
                spoil(loaded[0].pipeline)

    return callback


def last_step(info):
    return info["lines"][-1]["step"]


def kept_states(run):
    """The steps of the states on the Drive; each of them whole, and of numbers."""
    states = saves.list_states(run)
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

    callback = spoil_at("samples", 4, loaded, spoil)
    with pytest.raises(S2iError, match=r"loss is not a number \(NaN\) at step 5"):
        start(drive, dataset, tiny, loaded=loaded, callback=callback, sample_every=4)
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
    callback = spoil_at("step", 4, loaded, spoil)
    with pytest.raises(S2iError, match="At step 4 the model draws only flat pictures"):
        start(
            drive,
            dataset,
            tiny,
            loaded=loaded,
            callback=callback,
            sample_every=4,
            sample_prompts=prompts,
        )
    run = drive.runs / "violet" / "tiny-01"
    assert kept_states(run) == [3] and not (run / "weights").exists()
    assert not (run / "samples" / "step-000004.png").exists()


@pytest.mark.slow
def test_without_samples_in_between_no_two_states_follow_that_nobody_has_looked_at(
    drive, dataset, tiny, loaded
):
    """Else the good one of step 2 would be gone by the time of the samples at the end."""
    callback = spoil_at("step", 4, loaded, blacken)
    with pytest.raises(S2iError, match="At step 4 the model draws only flat pictures"):
        start(drive, dataset, tiny, loaded=loaded, callback=callback, save_every=2)
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
@pytest.mark.parametrize("place", ["model", "cpu"])
def test_samples_show_the_mean_of_weights_that_the_run_ends_with(drive, dataset, tiny, place):
    """The last grid is what the finished run draws, and training does not notice the samples."""
    mean = {"ema_decay": 0.9, "ema_device": place, "learning_rate": 1e-2}
    run, _, _ = start(drive, dataset, tiny, **mean, sample_every=1)
    model = loading.load(str(tiny), drive=drive, run=str(run), dtype=torch.float32)
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
    model = loading.load(str(tiny), drive=drive, run=str(run), dtype=torch.float32)
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

    def callback(event, info):
        if event == "class_images" and not followed:
            pipe = loaded[0].pipeline
            followed["vae"] = follow(pipe.vae, pipe.vae.decoder, monkeypatch)
            followed["text"] = follow(pipe.text_encoder, pipe.text_encoder, monkeypatch)
        if event == "step":
            assert all(len(sent) % 2 == 0 for sent, _ in followed.values())

    start(drive, dataset, tiny, loaded=loaded, callback=callback)
    (sent, was_away), (text_sent, text_was_away) = followed.values()
    device = str(loaded[0].pipeline.unet.device)
    assert sent == [device, "cpu"] * 4  # the contact sheet, samples, a look at step 6, samples
    assert text_sent == [device, "cpu"] * 3
    assert was_away and all(was_away) and text_was_away and all(text_was_away)


LONGER = {"steps": 4, "most_steps": 7, "learning_rate": 1e-3, "save_every": 2}
LONGER |= {"rises": lambda points: True}  # whatever its samples are like


@pytest.mark.slow
def test_run_goes_on_while_likeness_rises_and_a_killed_one_ends_the_same(drive, dataset, tiny):
    whole, said, events = start(drive, dataset, tiny, name="whole", **LONGER)
    assert read_card(whole)["step"] == read_card(whole)["options"]["steps"] == 7
    assert read_card(whole)["wanted"]["steps"] == 4
    [sentence] = [text for text in said if "still rises" in text and "Steps" not in text]
    assert sentence.startswith("Likeness still rises at step 4: training goes on to step 7")
    assert [info["steps"] for event, info in events if event == "longer"] == [7]
    with pytest.raises(KilledError):
        start(drive, dataset, tiny, name="killed", callback=kill_at(6), **LONGER)
    killed, said, _ = start(drive, dataset, tiny, name="killed", **LONGER)
    assert any("goes on at step 4 of 7" in text for text in said)
    assert digest(killed) == digest(whole)
    _, said, _ = start(drive, dataset, tiny, name="whole", **LONGER)
    assert any("finished already" in text for text in said)


@pytest.mark.slow
def test_run_goes_on_once_for_five_minutes_and_not_again_and_again(
    drive, dataset, tiny, monkeypatch
):
    monkeypatch.setattr(callbacks, "LONGER_S", 1.0)
    monkeypatch.setattr(callbacks.Recorder, "_seconds_a_step", lambda self, step: 0.4)
    run, _, events = start(drive, dataset, tiny, **LONGER | {"most_steps": 60})
    assert [info["steps"] for event, info in events if event == "longer"] == [6]
    assert read_card(run)["step"] == 6


@pytest.mark.slow
def test_one_killed_as_it_goes_on_has_the_rates_of_an_unbroken_one(
    drive, dataset, tiny, monkeypatch
):
    """The rate of a schedule goes by the steps: before the state is kept they may not be more."""
    linear = LONGER | {"schedule": "linear"}
    whole, _, _ = start(drive, dataset, tiny, name="whole", **linear)
    save = callbacks.Recorder.save

    def die_at_4(self, is_last):
        if self.state.step == 4:
            raise KilledError
        save(self, is_last)

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(callbacks.Recorder, "save", die_at_4)
        start(drive, dataset, tiny, name="killed", **linear)
    killed, said, _ = start(drive, dataset, tiny, name="killed", **linear)
    assert any("goes on at step 2 of 4" in text for text in said)
    assert read_card(killed)["step"] == 7 and digest(killed) == digest(whole)


def test_a_step_takes_its_share_of_a_sampling_whenever_the_session_began(monkeypatch):
    """A session that resumed one step before the end has sampled once, and not for every step."""
    recorder = SimpleNamespace(
        _sampling_s=[30.0], _began=0.0, _first=499, options=FinetuneOptions(sample_every=100)
    )
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: 32.0)
    assert callbacks.Recorder._seconds_a_step(recorder, 500) == pytest.approx(2 + 30 / 100)


def test_run_whose_steps_were_named_has_those():
    recipe = replace(POCKET["object"], most_times=2)
    for changes, expected in (({}, 2 * recipe.steps), ({"steps": 50}, 0)):
        wanted = want({"object": recipe}, "auto", "object", 4, False, changes)
        assert wanted.options.most_steps == expected

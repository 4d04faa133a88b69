"""Training that is scored while it goes on, and ends with its best step."""

import json
import shutil
import time
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from renders import NOUNS, renders
from tiny_model import draw_dataset, make_pipeline

from s2i_lib.evaluation.model_selection import Point, Validation
from s2i_lib.models.encoders import awake, load_clip
from s2i_lib.models.registry import PACKAGE, REGISTRY
from s2i_lib.photos.subject import Subject
from s2i_lib.storage.files import sha256_of
from s2i_lib.storage.run_card import STEP
from s2i_lib.training import best_checkpoint, checkpoint
from s2i_lib.training.best_checkpoint import (
    BEST,
    SCORES,
    BestCheckpoint,
    find_scorer,
    keeps_best,
    make_validation,
)
from s2i_lib.training.config import FinetuneOptions
from s2i_lib.training.run import Run
from s2i_lib.training.storage_plan import Storage
from s2i_lib.training.train_state import make_train_state

CAR = Subject("Racer", "car", "sks")


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    from s2i_lib.storage.layout import Drive

    return load_clip(str(PACKAGE / "pocket" / "scorer"), Drive(tmp_path_factory.mktemp("drive")))


def plain(colour: str, count: int = 2) -> list[Image.Image]:
    return [Image.new("RGB", (64, 64), colour)] * count


@pytest.mark.slow
def test_prompts_with_the_identifier_are_the_subject_and_the_others_the_class(scorer):
    validation = Validation(scorer, CAR, plain("red"))
    point = validation.add(0, {"a sks car": plain("red"), "a car": plain("blue")})
    assert point.likeness == pytest.approx(1, abs=1e-5)
    assert point.class_likeness < 0.95
    expected = scorer.images(plain("red")[:1]) @ scorer.texts(["a car"]).T
    assert point.fidelity == pytest.approx(float(expected[0, 0]), abs=1e-5)


def toy_on(ground: str, colour: str = "red") -> Image.Image:
    image = Image.new("RGB", (64, 64), ground)
    ImageDraw.Draw(image).ellipse((16, 20, 48, 52), colour)
    return image


@pytest.mark.slow
def test_likeness_is_of_the_subject_and_the_leak_of_its_surroundings(scorer):
    """The same toy on another ground is as alike; another toy on the photos' ground is a leak."""
    validation = Validation(scorer, CAR, [toy_on("green")])
    moved = validation.add(0, {"a sks car on white": [toy_on("white")]})
    other = validation.add(1, {"a sks car on white": [toy_on("green", "blue")]})
    assert moved.likeness > 0.9 > other.likeness
    assert other.surroundings > 0.9 > moved.surroundings


@pytest.mark.slow
def test_a_prompt_that_asks_for_nothing_more_is_scored_only_where_there_is_no_other(scorer):
    drawn = {"a sks car": plain("red"), "a sks car on a red background": plain("blue")}
    point = Validation(scorer, CAR, plain("red")).add(0, drawn)
    text = scorer.texts(["a car on a red background"])
    expected = scorer.images(plain("blue")[:1]) @ text.T
    assert point.fidelity == pytest.approx(float(expected[0, 0]), abs=1e-5)
    assert point.likeness < 0.95  # the red ones, which are the photos, do not count


def test_without_photos_only_fidelity_is_scored(scorer):
    point = Validation(scorer, CAR, []).add(0, {"a sks car": plain("red"), "a car": plain("blue")})
    assert (point.likeness, point.class_likeness) == (None, None)
    assert point.fidelity is not None


@pytest.mark.slow
def test_a_step_that_is_scored_again_after_a_resume_takes_the_old_ones_place(scorer):
    validation = Validation(scorer, CAR, plain("red"))
    validation.points = [Point(0, 0.1, 0.1, 0.1), Point(20, 0.2, 0.1, 0.1)]
    validation.add(10, {"a sks car": plain("red")})
    assert [point.step for point in validation.points] == [0, 10]


def setup_of(drive, options, said):
    """A run's setup, as far as a scorer needs it; without photos."""
    return SimpleNamespace(
        drive=drive,
        dataset=SimpleNamespace(subject=CAR, images=()),
        options=options,
        report=said.append,
        device=torch.device("cpu"),
    )


def test_a_scorer_that_is_nowhere_yet_is_fetched_for_the_first_run(serve_hub, drive):
    """Today's runs of Stable Diffusion: nobody has run notebook 4 before."""
    hub = serve_hub({"some/clip": {"main": PACKAGE / "pocket" / "scorer"}})
    base, said = replace(REGISTRY["sd2.1-base"], scorer="some/clip"), []
    options = FinetuneOptions()
    assert keeps_best(base, options)
    folder = find_scorer(base, options, drive, said.append)
    assert said == [] and hub.asked
    validation = make_validation(folder, setup_of(drive, options, said))
    assert validation.add(0, {"a sks car": plain("red")}).fidelity is not None
    hub.asked.clear()
    assert find_scorer(base, options, drive, said.append) == folder and not hub.asked


def test_where_the_hub_is_not_reached_it_is_said_in_a_sentence_and_nobody_waits(drive):
    base, said = replace(REGISTRY["sd2.1-base"], scorer="nobody/nothing"), []
    began = time.monotonic()
    assert find_scorer(base, FinetuneOptions(), drive, said.append) is None
    assert time.monotonic() - began < 20
    [sentence] = said
    assert sentence.startswith("The scorer nobody/nothing could not be had, so nothing is scored")
    assert "the last step is kept" in sentence


def test_where_nothing_shall_be_kept_or_scored_nothing_is_fetched_or_said(drive):
    base, said = replace(REGISTRY["sd2.1-base"], scorer="nobody/nothing"), []
    for options in (FinetuneOptions(keep="last"), FinetuneOptions(sample_every=0)):
        assert find_scorer(base, options, drive, said.append) is None
    assert find_scorer(replace(base, scorer=None), FinetuneOptions(), drive, said.append) is None
    assert said == []
    shipped = find_scorer(REGISTRY["pocket"], FinetuneOptions(), drive, said.append)
    assert shipped == str(PACKAGE / "pocket" / "scorer") and said == []


def test_samples_without_the_subject_cannot_say_which_step_is_best(drive):
    said, options = [], FinetuneOptions(sample_prompts=("a {noun}", "a {noun} on a beach"))
    shipped = str(PACKAGE / "pocket" / "scorer")
    assert make_validation(shipped, setup_of(drive, options, said)) is None
    assert "{subject}" in said[0]


def test_a_scorer_waits_in_half_the_memory_and_computes_in_full_on_a_cpu(scorer, drive):
    """Half precision loses what it cannot hold (a thousandth), and no more."""
    folder, images = str(PACKAGE / "pocket" / "scorer"), [*plain("red", 1), *plain("blue", 1)]
    half = load_clip(folder, drive, dtype=torch.float16)
    assert {weight.dtype for weight in half.network.parameters()} == {torch.float16}
    seen = []
    hook = half.network.vision_model.register_forward_hook(
        lambda module, args, _: seen.append(next(module.parameters()).dtype)
    )
    with awake(half.network, torch.device("cpu")):
        found = half.images(images)
    hook.remove()
    assert seen == [torch.float32] and half.network.dtype == torch.float16
    assert (found * scorer.images(images)).sum(1) == pytest.approx(1, abs=1e-3)


def test_a_scorer_for_a_gpu_waits_in_half_precision(drive, monkeypatch):
    """ViT-L/14 takes 0.8 GiB of Colab's main memory then; there is no GPU to visit here."""
    monkeypatch.setattr(best_checkpoint, "awake", lambda network, device: nullcontext())
    setup, shipped = setup_of(drive, FinetuneOptions(), []), str(PACKAGE / "pocket" / "scorer")
    for device, dtype in (("cuda", torch.float16), ("cpu", torch.float32)):
        setup.device = torch.device(device)
        assert make_validation(shipped, setup).scorer.network.dtype == dtype


@pytest.mark.slow
def test_a_scorer_is_awake_for_each_sampling_alone(drive, tmp_path, train_state):
    scorer = load_clip(str(PACKAGE / "pocket" / "scorer"), drive, dtype=torch.float16)
    with awake(scorer.network, torch.device("cpu")):
        best = judged(scorer, tmp_path, train_state)
    seen = []
    scorer.network.vision_model.register_forward_hook(
        lambda module, args, _: seen.append(next(module.parameters()).dtype)
    )
    for step in (0, 10):
        assert scorer.network.dtype == torch.float16
        best.validate(step, {"a sks car": plain("red")})
    assert set(seen) == {torch.float32} and scorer.network.dtype == torch.float16


@pytest.mark.slow
def test_a_scorer_that_finds_no_room_on_a_gpu_computes_where_it_is(drive):
    half = load_clip(str(PACKAGE / "pocket" / "scorer"), drive, dtype=torch.float16)
    whole = half.network.to

    def full(*place, **more):
        if torch.device("meta") in place:  # stands for a GPU here
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(*place, **more)

    half.network.to = full
    with awake(half.network, torch.device("meta")):
        assert np.isfinite(half.images(plain("red"))).all()
        assert half.network.dtype == torch.float32
    assert half.network.dtype == torch.float16 and half.network.device.type == "cpu"


def shown(noun: str) -> list[Image.Image]:
    return [renders()[NOUNS.index(noun)]] * 2


def drawn(noun: str) -> list[Image.Image]:
    """The same on another ground: on its own, all of a photo's surroundings would have leaked."""
    pixels = np.array(shown(noun)[0]).astype(int)
    is_ground = np.abs(pixels - pixels[0, 0]).sum(-1) < 40
    pixels[is_ground] = (60, 140, 70)
    return [Image.fromarray(pixels.astype(np.uint8))] * 2


def judged(scorer, tmp_path, train_state, points=(), *, compares_anew=False):
    local, folder = tmp_path / "local", tmp_path / "folder"
    local.mkdir(exist_ok=True)
    folder.mkdir(exist_ok=True)
    validation = Validation(scorer, CAR, shown("car"))
    options = FinetuneOptions()
    manager = SimpleNamespace(
        run=Run(folder, local),
        storage=Storage(),
        submit=lambda name, job: job(),
        compares_anew=compares_anew,
    )
    best = BestCheckpoint(validation, train_state, options, manager)
    for step, noun in points:
        train_state.step = step
        with_step(train_state, step)
        best.validate(step, {"a sks car": drawn(noun)})
    return best


@pytest.mark.slow
def test_training_goes_on_where_the_scorer_breaks(scorer, tmp_path, caplog):
    train_state = make_train_state(make_pipeline(), FinetuneOptions())
    best = judged(scorer, tmp_path, train_state, [(0, "banana"), (10, "car")])
    broken = next(scorer.network.vision_model.parameters())
    kept = broken.detach().clone()
    try:
        with torch.no_grad():
            broken.fill_(torch.nan)
        train_state.step = 20
        assert best.validate(20, {"a sks car": plain("red")}) is None
    finally:
        with torch.no_grad():
            broken.copy_(kept)
    assert "The samples of step 20 are not scored" in caplog.text
    assert [point.step for point in best.validation.points] == [0, 10]
    assert best.validation.best.step == 10


def with_step(train_state, step):
    """Mark the weights so that each step's can be told from another's."""
    with torch.no_grad():
        for weight in train_state.parameters.values():
            weight.fill_(step / 100)


@pytest.fixture
def train_state():
    return make_train_state(make_pipeline(), FinetuneOptions())


def kept_value(folder) -> float:
    from safetensors.torch import load_file

    tensors = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    [value] = {float(tensor.float().mean()) for tensor in tensors.values()}
    return value


@pytest.mark.slow
def test_the_best_steps_weights_are_what_the_run_ends_with(scorer, tmp_path, train_state):
    from s2i_lib.training.checkpoint import save_weights

    best = judged(scorer, tmp_path, train_state, [(0, "banana"), (25, "car"), (50, "banana")])
    last = save_weights(train_state, FinetuneOptions(), tmp_path / "weights")
    assert kept_value(last) == 0.5
    path, record = best.choose(last)
    assert (record["kept_step"], record["best_step"]) == (25, 25)
    assert record["scores"]["likeness"] == best.validation.points[1].likeness > 0.9
    assert kept_value(path) == 0.25
    best.drop()
    assert not (tmp_path / "folder" / BEST).exists()


@pytest.mark.slow
def test_the_best_survives_a_session_that_lost_its_disk(scorer, tmp_path, train_state):
    from s2i_lib.training.checkpoint import save_weights

    judged(scorer, tmp_path, train_state, [(0, "banana"), (25, "car"), (50, "banana")])
    shutil.rmtree(tmp_path / "local")
    again = judged(scorer, tmp_path, train_state)
    assert [point.step for point in again.validation.points] == [0, 25, 50]
    last = save_weights(train_state, FinetuneOptions(), tmp_path / "weights")
    assert kept_value(again.choose(last)[0]) == 0.25


@pytest.mark.slow
def test_a_finished_run_that_goes_on_still_has_its_best_step(scorer, tmp_path, train_state):
    from s2i_lib.training.checkpoint import save_weights

    best = judged(scorer, tmp_path, train_state, [(0, "banana"), (25, "car"), (50, "banana")])
    best.choose(save_weights(train_state, FinetuneOptions(), tmp_path / "weights"))
    best.drop()
    (tmp_path / "weights").rename(tmp_path / "folder" / "weights")
    shutil.rmtree(tmp_path / "local")
    again = judged(scorer, tmp_path, train_state, [(75, "banana")])
    last = save_weights(train_state, FinetuneOptions(), tmp_path / "weights")
    path, record = again.choose(last)
    assert (record["kept_step"], record["best_step"]) == (25, 25)
    assert kept_value(path) == 0.25


@pytest.mark.slow
def test_scores_of_other_photos_choose_no_weights_that_never_saw_these(
    scorer, tmp_path, train_state
):
    from s2i_lib.training.checkpoint import save_weights

    judged(scorer, tmp_path, train_state, [(0, "banana"), (25, "car"), (50, "banana")])
    more = [(75, "banana"), (100, "banana")]
    anew = judged(scorer, tmp_path, train_state, more, compares_anew=True)
    last = save_weights(train_state, FinetuneOptions(), tmp_path / "weights")
    _, record = anew.choose(last)
    assert record["kept_step"] == 75 and kept_value(last) == 0.75
    for place in ("local", "folder"):  # so that the next session does not count them either
        lines = (tmp_path / place / SCORES).read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [0, 75, 100]


@pytest.mark.slow
def test_a_last_step_that_was_not_scored_still_ends_the_run(scorer, tmp_path, train_state):
    from s2i_lib.training.checkpoint import save_weights

    judged(scorer, tmp_path, train_state, [(0, "banana"), (25, "car")])
    for path in (*(tmp_path / "local").glob("best-*"), tmp_path / "folder" / BEST):
        shutil.rmtree(path)
    train_state.step = 75
    again = judged(scorer, tmp_path, train_state)
    last = save_weights(train_state, FinetuneOptions(), tmp_path / "weights")
    assert again.choose(last) == (last, {"kept_step": 75, "best_step": 25, "scores": {}})


@pytest.mark.slow
def test_the_points_of_the_session_that_came_farthest_count(scorer, tmp_path, train_state):
    """Another machine has trained on over the same Drive since this disk was written."""
    judged(scorer, tmp_path, train_state, [(0, "banana"), (10, "banana")])
    old = (tmp_path / "local" / SCORES).read_bytes()
    judged(scorer, tmp_path, train_state, [(20, "car"), (30, "banana")])
    (tmp_path / "local" / SCORES).write_bytes(old)
    again = judged(scorer, tmp_path, train_state)
    assert [point.step for point in again.validation.points] == [0, 10, 20, 30]


@pytest.mark.slow
def test_best_weights_that_are_gone_leave_the_last_and_the_record_says_so(
    scorer, tmp_path, train_state
):
    from s2i_lib.training.checkpoint import save_weights

    best = judged(scorer, tmp_path, train_state, [(0, "banana"), (25, "car"), (50, "banana")])
    for path in (*(tmp_path / "local").glob("best-*"), tmp_path / "folder" / BEST):
        shutil.rmtree(path)
    last = save_weights(train_state, FinetuneOptions(), tmp_path / "weights")
    path, record = best.choose(last)
    assert (record["kept_step"], record["best_step"]) == (50, 25)
    assert kept_value(path) == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("is_there", [True, False])
def test_best_weights_of_which_the_drive_lost_a_part_leave_the_last(
    scorer, tmp_path, train_state, is_there
):
    """The small card was uploaded before the machine went, and the weights were not, or in part."""
    best = judged(scorer, tmp_path, train_state, [(0, "banana"), (25, "car"), (50, "banana")])
    for path in (tmp_path / "local").glob("best-*"):
        shutil.rmtree(path)
    [weights] = (tmp_path / "folder" / BEST).rglob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-8]) if is_there else weights.unlink()
    last = checkpoint.save_weights(train_state, FinetuneOptions(), tmp_path / "weights")
    path, record = best.choose(last)
    assert (record["kept_step"], record["best_step"]) == (50, 25)
    assert kept_value(path) == 0.5


@pytest.mark.slow
def test_best_weights_that_cannot_be_copied_whole_leave_the_last_as_they_were(
    scorer, tmp_path, train_state, faulty_drive
):
    from s2i_lib.training.checkpoint import save_weights

    best = judged(scorer, tmp_path, train_state, [(0, "banana"), (25, "car"), (50, "banana")])
    for path in (tmp_path / "local").glob("best-*"):
        shutil.rmtree(path)  # only the Drive has them
    last = save_weights(train_state, FinetuneOptions(), faulty_drive.path / "weights")
    for fault in ("io error", "cut short"):
        faulty_drive.fault(fault)
        path, record = best.choose(last)
        assert (record["kept_step"], record["best_step"]) == (50, 25)
        assert path == last and kept_value(last) == 0.5
    faulty_drive.fault("")
    path, record = best.choose(last)
    assert record["kept_step"] == 25 and kept_value(last) == 0.25
    assert json.loads((last / STEP).read_text())["step"] == 25


@pytest.mark.slow
def test_a_run_of_the_pocket_model_ends_with_its_best_step_to_the_bit(drive, tmp_path):
    """The same run that stops at that step has the same weights: scoring changes no training."""
    from safetensors.torch import load_file

    from s2i_lib.storage.run_card import read_card
    from s2i_lib.training.finetune import FinetuneRun

    dataset = draw_dataset(tmp_path / "photos")
    few = {"class_image_count": 8, "sample_every": 1, "learning_rate": 3e-4, "seed": 1}
    few |= {"schedule": "constant"}  # a rate that falls would be another in the shorter run
    prompts, seen = ("a {subject}", "a {noun}"), []

    def note(event, info):
        if event == "scores":
            seen.append(info["curve"])

    wish = {"model": "pocket", "name": "judged", "steps": 3, "sample_prompts": prompts, **few}
    judged = FinetuneRun(drive, dataset, callback=note, **wish).train()
    card = read_card(judged)
    points = [json.loads(line) for line in (judged / SCORES).read_text().splitlines()]
    assert [point["step"] for point in points] == [0, 1, 2, 3]
    assert [len(curve) for curve in seen] == [1, 2, 3, 4], "what the live panel gets"
    assert [p["step"] for p in seen[-1] if p["is_best"]] == [card["best_step"]]
    assert card["kept_step"] == card["best_step"]
    assert card["scores"]["likeness"] == points[card["best_step"]]["likeness"]
    assert not (judged / BEST).exists()
    few |= {"model": "pocket", "name": "plain", "keep": "last", "steps": card["best_step"]}
    plain_run = FinetuneRun(drive, dataset, **few).train()
    name = "weights/unet/diffusion_pytorch_model.safetensors"
    ours, theirs = load_file(judged / name), load_file(plain_run / name)
    assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.slow
def test_a_training_that_is_past_its_peak_ends_there_and_keeps_the_peak(drive, tmp_path):
    """A learning rate that wrecks the model: likeness and prior fall, and three samplings tell."""
    from s2i_lib.storage.run_card import read_card
    from s2i_lib.training.finetune import FinetuneRun

    said: list[str] = []
    wrecking = {"class_image_count": 8, "sample_every": 2, "learning_rate": 3e-3, "steps": 40}
    options = wrecking | {"with_early_stop": True, "sample_prompts": ("a {subject}", "a {noun}")}

    def train(folder, **changes):
        photos = draw_dataset(tmp_path / folder)
        return FinetuneRun(drive, photos, model="pocket", **options | changes).train()

    run = train("photos", report=said.append)
    card = read_card(run)
    points = [json.loads(line) for line in (run / SCORES).read_text().splitlines()]
    assert card["status"] == "finished"
    assert card["step"] == points[-1]["step"] < 40
    assert any("better before" in sentence for sentence in said)
    assert card["kept_step"] == card["best_step"] <= card["step"] - 2 * 3
    assert train("again") == run

    def go_on(**changes):
        train(f"more-{len(changes)}", **{"name": run.name, "steps": 46, **changes})
        return read_card(run), sha256_of(run / "weights/unet/diffusion_pytorch_model.safetensors")

    peak = sha256_of(run / "weights/unet/diffusion_pytorch_model.safetensors")
    longer, weights = go_on()
    assert longer["step"] > card["step"] and longer["kept_step"] == card["kept_step"]
    assert weights == peak and longer["scores"] == card["scores"]
    end = longer["step"] + 2
    last, weights = go_on(steps=end, keep="last")
    assert weights != peak
    assert last["scores"] == {} and last["kept_step"] == last["step"] == end

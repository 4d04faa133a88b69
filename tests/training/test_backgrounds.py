"""The subject on grounds that the model draws: how it is set in, what a step sees, what counts."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tiny_run import SHORT, KilledError, digest, kill_at, setup_of, start

from s2i_lib.models.registry import choose
from s2i_lib.photos.dataset import build_dataset, sample_subject
from s2i_lib.photos.manifest import load_dataset
from s2i_lib.storage.layout import Drive
from s2i_lib.storage.run_card import read_card
from s2i_lib.training.backgrounds import (
    FOOT,
    SIZE,
    SIZE_AT_PLACE,
    CutOut,
    compose,
    cut_out,
    set_into,
)
from s2i_lib.training.checkpoint_manager import CheckpointManager
from s2i_lib.training.config import FinetuneOptions
from s2i_lib.training.data import Moments, Scenes, TrainingData, prepare_data
from s2i_lib.training.dreambooth import sample_losses
from s2i_lib.training.finetune import load_for_training
from s2i_lib.training.run import Run

OPTIONS = FinetuneOptions(batch_size=2, background_share=0.75, with_prior=False)
PLAIN = "on a blue background"


def disc(colour="red", side=100) -> CutOut:
    pixels, alpha = Image.new("RGB", (side, side), "lime"), Image.new("L", (side, side), 0)
    for image, fill in ((pixels, colour), (alpha, 255)):
        ImageDraw.Draw(image).ellipse((20, 20, side - 20, side - 20), fill)
    return cut_out(pixels, alpha)


def test_cut_out_is_as_large_as_its_subject():
    assert disc().pixels.size == disc().alpha.size == (61, 61)


def test_subject_is_on_the_ground_with_nothing_of_its_surroundings():
    picture = set_into(Image.new("RGB", (128, 128), "blue"), disc(), PLAIN)
    pixels = np.asarray(picture).astype(int)
    is_red = pixels[..., 0] > 200
    rows, columns = is_red.any(axis=1).nonzero()[0], is_red.any(axis=0).nonzero()[0]
    for places in (rows, columns):
        assert len(places) / 128 == pytest.approx(SIZE, abs=0.03)
        assert places.mean() == pytest.approx(63.5, abs=1), "in the middle"
    assert (pixels[..., 1] < 120).all(), "of the lime around it little more than its edge"
    assert pixels[..., 1].mean() < 4
    corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == (0, 0, 255)).all()


@pytest.mark.parametrize("height", [60, 100])
def test_subject_at_a_place_is_smaller_and_stands_where_the_models_own_things_do(height):
    """Whether it is tall or flat: a car has its wheels where a dog has its feet."""
    pixels, alpha = Image.new("RGB", (100, height), "red"), Image.new("L", (100, height), 255)
    picture = set_into(
        Image.new("RGB", (128, 128), "blue"), cut_out(pixels, alpha), "in the snow at night"
    )
    is_red = np.asarray(picture)[..., 0] > 128
    rows, columns = is_red.any(axis=1).nonzero()[0], is_red.any(axis=0).nonzero()[0]
    assert len(columns) / 128 == pytest.approx(SIZE_AT_PLACE, abs=0.01)
    assert columns.mean() == pytest.approx(63.5, abs=1)
    assert len(rows) / len(columns) == pytest.approx(height / 100, abs=0.03)
    assert (rows[-1] + 1) / 128 == pytest.approx(FOOT, abs=0.01)


def test_glass_shows_the_ground_it_stands_on_and_hair_keeps_its_strands():
    """Soft masks stay soft: half of what is behind comes through glass, and thin lines stay."""
    pixels, alpha = Image.new("RGB", (512, 512), "white"), Image.new("L", (512, 512), 0)
    ImageDraw.Draw(alpha).rectangle((80, 0, 431, 511), 128)
    glass = set_into(Image.new("RGB", (64, 64), "blue"), cut_out(pixels, alpha), PLAIN)
    assert np.asarray(glass)[32, 32] == pytest.approx((128, 128, 255), abs=3)
    pen = ImageDraw.Draw(alpha)
    pen.rectangle((0, 0, 511, 511), 0)
    for x in range(40, 480, 80):
        pen.line((x, 0, x, 511), 255, width=12)
    hair = set_into(Image.new("RGB", (64, 64), "blue"), cut_out(pixels, alpha), PLAIN)
    row = np.asarray(hair)[32, :, 0].astype(int)
    assert ((row[1:-1] > row[:-2]) & (row[1:-1] >= row[2:]) & (row[1:-1] > 100)).sum() == 6


def test_every_subject_comes_once_before_any_comes_again():
    grounds = [Image.new("RGB", (64, 64), colour) for colour in ("blue", "cyan", "navy", "teal")]
    subjects = [disc(colour) for colour in ("red", "white", "black")]
    pictures = compose(subjects, grounds, 9 * [PLAIN], seed=1)
    seen = [p.getpixel((32, 32)) for p in pictures]
    assert all(len(set(seen[i : i + 3])) == 3 for i in (0, 3, 6))
    behind = [p.getpixel((0, 0)) for p in pictures]
    assert behind == [grounds[i % 4].getpixel((0, 0)) for i in range(9)]
    again = compose(subjects, grounds, 9 * [PLAIN], seed=1)
    assert [p.tobytes() for p in again] == [p.tobytes() for p in pictures]
    other = compose(subjects, grounds, 9 * [PLAIN], seed=2)
    assert [p.tobytes() for p in other] != [p.tobytes() for p in pictures]


def test_each_picture_is_as_its_own_prompt_says():
    grounds = [Image.new("RGB", (128, 128), colour) for colour in ("blue", "navy")]
    where = ["on a blue background", "in a room", "on a blue background", "on the moon"]
    pictures = compose([disc()], grounds, where, seed=1)
    middles = [(np.asarray(p)[..., 0] > 128).any(axis=1).nonzero()[0].mean() for p in pictures]
    assert middles[0] == middles[2] == pytest.approx(63.5, abs=1)
    assert middles[1] == middles[3] == pytest.approx(128 * (FOOT - SIZE_AT_PLACE / 2), abs=1)


def data_of(n_photos=4, n_scenes=6, weights=None, cut_out=range(4)) -> TrainingData:
    def moments(count, value):
        mean = torch.full((count, 3, 8, 8), float(value)) + torch.arange(count).view(-1, 1, 1, 1)
        return Moments(mean, torch.zeros_like(mean))

    rows = [i % 3 + 1 for i in range(n_scenes)]
    scenes = Scenes(moments(n_scenes, 100), None, rows, frozenset(cut_out))
    tokens = torch.zeros(4, 7, dtype=torch.long)
    return TrainingData(
        moments(n_photos, 0), None, None, tokens, torch.zeros(4, 7, 5), weights=weights,
        scenes=scenes,
    )  # fmt: skip


def test_share_of_the_steps_is_on_grounds_each_with_the_prompt_that_says_where():
    data = data_of()
    seen = []
    for step in range(24):
        batch = data.batch(OPTIONS, step, range(2), 1000)
        seen += zip(batch.latents[:, 0, 0, 0].tolist(), batch.prompts.tolist(), strict=True)
    scenes = [(value - 100, row) for value, row in seen if value >= 100]
    photos = [value for value, row in seen if value < 100]
    assert len(scenes) == 36 and len(photos) == 12
    assert all(row == value % 3 + 1 for value, row in scenes)
    assert sorted(photos) == sorted([0, 1, 2, 3] * 3), "each photo as often as any other"
    assert sorted(value for value, _ in scenes) == sorted([0, 1, 2, 3, 4, 5] * 6)


def values_of(data: TrainingData, n_steps: int, **changes) -> list[float]:
    options = replace(OPTIONS, **changes)
    batches = [data.batch(options, step, range(2), 1000) for step in range(n_steps)]
    return [value for batch in batches for value in batch.latents[:, 0, 0, 0].tolist()]


def test_photo_that_was_not_cut_out_is_seen_whole_and_as_often_as_any_other():
    """Two of four photos: their share of the steps is on grounds, the others have the rest."""
    seen = values_of(data_of(cut_out=(0, 2)), 24, background_share=1.0)
    assert sorted(value for value in seen if value < 100) == sorted([1, 3] * 12)
    scenes = sorted(value - 100 for value in seen if value >= 100)
    assert scenes == sorted([0, 1, 2, 3, 4, 5] * 4)
    assert min(values_of(data_of(), 24, background_share=1.0)) >= 100, "all were cut out"
    assert max(values_of(data_of(cut_out=()), 24, background_share=1.0)) < 100


def test_what_a_step_sees_depends_on_the_step_and_the_place_alone():
    data, backwards = data_of(), reversed(range(10))
    there = [data.batch(OPTIONS, step, range(2), 1000) for step in range(10)]
    back = {step: data.batch(OPTIONS, step, range(2), 1000) for step in backwards}
    for step, batch in enumerate(there):
        assert all(torch.equal(a, b) for a, b in zip(batch[:4], back[step][:4], strict=True))


def test_surroundings_count_less_and_a_sample_counts_once():
    weights = torch.ones(1, 1, 8, 8)
    weights[..., 4:] = 0.0
    error = torch.zeros(1, 3, 8, 8)
    error[..., 4:] = 5.0  # all of it in the surroundings
    snr = torch.ones(1)
    args = (torch.zeros_like(error), "epsilon", snr, 0.0)
    assert sample_losses(error, *args).item() == pytest.approx(12.5)
    assert sample_losses(error, *args, weights).item() == 0.0
    assert sample_losses(error + 2 - error, *args, weights).item() == pytest.approx(4.0)


def test_weights_go_with_photos_and_not_with_scenes():
    weights = torch.zeros(4, 1, 8, 8)
    data, seen = data_of(weights=weights), set()
    for step in range(4):
        batch = data.batch(OPTIONS, step, range(2), 1000)
        for value, weight in zip(batch.latents[:, 0, 0, 0], batch.weights, strict=True):
            assert weight.unique().tolist() == [1.0 if value >= 100 else 0.0]
            seen.add(bool(value >= 100))
    assert seen == {True, False}


GROUNDS = {
    "background_prompts": ("on a beach | in the snow",),
    "background_count": 8,
    "surroundings_weight": 0.1,
}


@pytest.fixture(scope="module")
def racers(tmp_path_factory):
    """A Drive with the crops and masks of the sample's photos."""
    drive = Drive(tmp_path_factory.mktemp("racers"))
    build_dataset(sample_subject(drive), drive)
    return drive


@pytest.fixture
def dataset(racers, drive):
    shutil.copytree(racers.subjects, drive.subjects)
    return load_dataset(drive, "Racer")


@pytest.mark.slow
def test_photos_whose_masks_are_gone_or_changed_are_learned_whole_which_is_said(
    drive, dataset, tiny, tmp_path
):
    gone, changed, *others = (dataset.mask_of(image) for image in dataset.images)
    gone.unlink()
    Image.new("L", (512, 512), 255).save(changed)
    run, said, _ = start(drive, dataset, tiny, steps=2, **GROUNDS)
    assert read_card(run)["status"] == "finished"
    [sentence] = [text for text in said if "gone or were changed by hand" in text]
    assert gone.name in sentence and changed.name in sentence and "learned whole" in sentence
    model = load_for_training(choose(str(tiny)), drive)
    options = FinetuneOptions(**SHORT | GROUNDS | {"with_prior": False})
    setup = replace(setup_of(model, options, drive, said.append), dataset=dataset)
    place = Run(drive.runs / "violet" / "again", tmp_path / "again")
    with closing(CheckpointManager(place, setup)) as manager:
        data = prepare_data(setup, manager)
    assert data.scenes.photos == {2, 3, 4} and len(others) == 3
    assert (data.weights[:2] == 1).all() and all(w.min() < 0.2 for w in data.weights[2:])


@pytest.mark.slow
def test_run_shows_its_subject_on_grounds_and_goes_on_to_the_same_bits(drive, dataset, tiny):
    changes = GROUNDS
    whole, _, events = start(drive, dataset, tiny, name="whole", **changes)
    assert [event for event, _ in events if event == "scenes"] == ["scenes"]
    assert b"/compositeWithTrainedAlgorithmicMedia" in (whole / "scenes.png").read_bytes()
    with Image.open(whole / "scenes.png") as sheet:
        assert sheet.size == (5 * 20 - 4, 2 * 20 - 4)
    with pytest.raises(KilledError):
        start(drive, dataset, tiny, name="killed", callback=kill_at(5), **changes)
    again, _, _ = start(drive, dataset, tiny, name="killed", **changes)
    assert digest(again) == digest(whole)
    plain, _, _ = start(drive, dataset, tiny, name="plain")
    assert digest(plain) != digest(whole)

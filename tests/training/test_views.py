"""Which photos a run learns from, where a model is to learn from those alone that are alike."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest
from tiny_run import SHORT, setup_of

from s2i_lib.models.registry import choose
from s2i_lib.photos.dataset import build_dataset, sample_subject
from s2i_lib.storage.layout import Drive
from s2i_lib.training.checkpoint_manager import CheckpointManager
from s2i_lib.training.config import FinetuneOptions
from s2i_lib.training.data import prepare_data
from s2i_lib.training.finetune import load_for_training
from s2i_lib.training.run import Run
from s2i_lib.training.views import learned


@pytest.fixture(scope="module")
def toy_car(tmp_path_factory):
    """Five photos of the sample's car: 03 and 04 from its front, the others from its sides."""
    drive = Drive(tmp_path_factory.mktemp("views"))
    return build_dataset(sample_subject(drive), drive)


@pytest.fixture
def names(toy_car, pocket, drive):
    """Names of what is learned of the toy car, or of another dataset."""

    def names_of(most_photos, dataset=toy_car):
        setup = setup_of(pocket, FinetuneOptions(most_photos=most_photos), drive)
        return [photo.name for photo in learned(replace(setup, dataset=dataset))]

    return names_of


def test_the_photos_from_one_side_are_taken(names):
    assert names(2) == ["03.png", "04.png"]
    assert names(3) == ["02.png", "03.png", "04.png"]


@pytest.mark.parametrize("most", [0, 5, 9])
def test_all_are_taken_where_all_are_asked_for_or_no_more_are_there(names, most):
    assert names(most) == ["00.png", "01.png", "02.png", "03.png", "04.png"]


def test_one_is_the_one_that_is_most_like_the_others(names):
    assert names(1) == ["04.png"]


def test_photos_without_a_mask_are_not_compared_and_where_too_few_have_one_all_are_taken(
    toy_car, names
):
    def whole(*numbers):
        return replace(toy_car, verdicts=tuple(
            replace(v, cut_out=v.cut_out and i not in numbers)
            for i, v in enumerate(toy_car.verdicts)
        ))  # fmt: skip

    assert names(2, whole(3)) == ["02.png", "04.png"]
    assert names(2, whole(0, 1, 2, 3)) == [path.name for path in toy_car.images]


def test_where_the_scorer_cannot_be_had_all_are_learned_and_that_is_said(toy_car, tiny, drive):
    """The tests have no network, and this model's scorer is on the hub."""
    said: list[str] = []
    setup = setup_of(
        load_for_training(choose(str(tiny)), drive),
        FinetuneOptions(most_photos=2), drive, said.append,
    )  # fmt: skip
    assert learned(replace(setup, dataset=toy_car)) == toy_car.images
    [sentence] = said
    assert sentence.startswith("It learns from all photos") and "no connection" in sentence


@pytest.mark.slow
def test_a_run_says_which_and_has_latents_and_weights_of_these_alone(toy_car, drive, tmp_path):
    said: list[str] = []
    options = FinetuneOptions(
        **SHORT, most_photos=2, with_prior=False, surroundings_weight=0.1, background_count=4,
        background_prompts=("on a red background",),
    )  # fmt: skip
    model = load_for_training(choose("pocket"), drive)
    setup = replace(setup_of(model, options, drive, said.append), dataset=toy_car)
    run = Run(drive.runs / "racer" / "two", tmp_path / "two")
    with closing(CheckpointManager(run, setup)) as manager:
        data = prepare_data(setup, manager)
    assert len(data.instances.mean) == len(data.weights) == 2
    assert data.scenes.photos == {0, 1}
    [sentence] = [each for each in said if "photos" in each]
    assert sentence.startswith("Of 5 photos it learns from 03.png and 04.png, where")

"""What a run is trained with, held against the sources that the recipes name."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
from tiny_model import draw_dataset, make_pipeline

from s2i_lib.errors import InputError
from s2i_lib.models.registry import REGISTRY
from s2i_lib.photos.subject import KINDS
from s2i_lib.training.config import FinetuneOptions, as_json
from s2i_lib.training.finetune import choose_recipe
from s2i_lib.training.recipes import RECIPES, want
from s2i_lib.training.run import wants

STABLE_DIFFUSION = ("sd2.1-base", "sd2.1")


def chosen(model="sd2.1-base", kind="object", n_photos=5, asked="auto", **changes):
    return want(RECIPES[REGISTRY[model].family], asked, kind, n_photos, False, changes)


@pytest.mark.parametrize("model", STABLE_DIFFUSION)
def test_stable_diffusion_learns_at_the_rates_and_steps_of_the_blog_by_kind(model):
    """https://huggingface.co/blog/dreambooth: "a learning rate of 2e-6 with 400 training steps
    works well for objects [four photos a step] but faces required 1e-6 (or 2e-6) with ~1200 steps";
    "Fine-tuning the text encoder produces the best results, especially with faces"."""
    for kind in ("object", "animal"):
        options = chosen(model, kind).options
        assert (options.learning_rate, options.steps) == (2e-6, 800)
        assert not options.with_text_encoder
    person = chosen(model, "person").options
    assert 1e-6 <= person.learning_rate <= 2e-6 and person.steps >= 1200
    assert person.with_text_encoder
    for kind in KINDS:
        options = chosen(model, kind).options
        assert (options.batch_size, options.precision) == (1, "fp16")
        assert options.with_prior and options.with_8bit_adam
        assert "https://huggingface.co/blog/dreambooth" in chosen(model, kind).source


@pytest.mark.parametrize("kind", KINDS)
def test_each_photo_is_seen_a_hundred_times_and_samples_stay_as_many(kind):
    few, many = chosen(kind=kind, n_photos=4).options, chosen(kind=kind, n_photos=24).options
    assert many.steps == 2400 > few.steps
    assert few.steps // few.sample_every == many.steps // many.sample_every == 4


def test_classic_is_the_recipe_that_runs_had_before_there_were_any():
    """Of the version before, from its run.json; 1e-6 and 800 steps are ShivamShrirao's."""
    before = FinetuneOptions(
        method="full",
        learning_rate=1e-6,
        steps=800,
        class_image_count=200,
        precision="fp16",
        with_8bit_adam=True,
        with_checkpointing=True,
    )
    for kind in KINDS:
        assert chosen(kind=kind, asked="classic", n_photos=30).options == before


def test_the_pocket_model_keeps_what_was_measured_whatever_the_kind():
    """benchmarks/README.md: whole photos, and the subject cut out."""
    whole = chosen("pocket", "person", n_photos=30, asked="whole").options
    assert (whole.learning_rate, whole.steps, whole.sample_every) == (1.5e-4, 300, 75)
    assert whole.schedule == "linear" and whole.class_image_count == 80
    assert not whole.background_prompts and whole.surroundings_weight == 1
    for kind in KINDS:
        options = chosen("pocket", kind, n_photos=30).options
        assert (options.learning_rate, options.steps, options.batch_size) == (2e-4, 400, 2)
        assert options.most_photos == 2
        assert options.background_share == 0.9 and options.most_steps == 800


def test_stable_diffusion_counts_what_is_not_the_subject_as_onetrainer_does_by_default():
    """unmasked_weight, 0.1, in OneTrainer's modules/util/config/TrainConfig.py."""
    for kind in KINDS:
        options = chosen(kind=kind).options
        assert options.surroundings_weight == 0.1 and not options.background_prompts
    assert chosen(asked="classic").options.surroundings_weight == 1


@pytest.mark.parametrize(("n_cut_out", "expected"), [(0, "whole"), (1, "whole"), (2, "animal")])
def test_photos_that_cannot_be_cut_out_are_learned_whole_by_the_recipe_for_that(
    tmp_path, n_cut_out, expected
):
    dataset = draw_dataset(tmp_path, count=4)
    masks = dict.fromkeys(dataset.images[:n_cut_out], tmp_path / "mask.png")
    half = SimpleNamespace(**vars(dataset), mask_of=masks.get)
    assert choose_recipe(half, "pocket", "auto", {})[1].name == expected
    assert choose_recipe(half, "pocket", "object", {})[1].name == "object", "unless it is named"


def test_a_recipe_that_a_model_has_not_is_refused_with_those_it_has():
    with pytest.raises(
        InputError, match=r"no recipe 'classic'\. It has person, animal, object, whole; auto"
    ):
        chosen("pocket", asked="classic")


def test_what_the_user_changes_holds_over_the_recipe():
    options = chosen(kind="person", steps=10, learning_rate=1e-6, seed=None).options
    assert (options.steps, options.learning_rate, options.seed) == (10, 1e-6, 0)
    lora = chosen(kind="person", method="lora").options
    assert not lora.with_text_encoder and lora.learning_rate == 1e-4


def card_of(wanted, **more):
    """run.json as it comes back."""
    card = {"wanted": as_json(wanted.options), "options": as_json(wanted.options)}
    return json.loads(json.dumps(card | {"recipe": wanted.to_json()} | more))


def without(card, *names):
    return {name: value for name, value in card.items() if name not in names}


@pytest.mark.parametrize("changes", [{}, {"steps": 40}, {"method": "lora", "seed": 3}])
def test_an_unfinished_run_of_the_version_before_goes_on_with_its_own_recipe(changes):
    old = without(card_of(chosen(asked="classic", **changes)), "recipe")
    now = chosen(n_photos=12, kind="person", **changes)
    assert not wants(old, now.options), "the defaults have moved"
    going_on = now.for_run(old)
    assert wants(old, going_on.options) and going_on.name == "classic"
    longer = chosen(**(changes | {"steps": 50})).for_run(old).options
    assert longer == dataclasses.replace(going_on.options, steps=50), "and what is changed now"


def test_a_run_keeps_its_recipe_when_recipes_change():
    card = card_of(chosen(kind="person"))
    card["recipe"]["options"]["learning_rate"] = card["wanted"]["learning_rate"] = 3e-6  # of then
    assert wants(card, chosen(kind="person").for_run(card).options)
    named = chosen(kind="person", asked="classic").for_run(card)
    assert named.name == "classic" and named.options.learning_rate == 1e-6, "unless it is named"


def test_how_grounds_are_asked_for_makes_another_run_only_where_there_are_some():
    """Stable Diffusion has none unless it is told to: its finished runs stay what is wanted."""
    for changes, is_same in (({}, True), ({"background_prompts": ("on a beach",)}, False)):
        wanted = chosen(**changes)
        card = card_of(wanted)
        card["wanted"]["ground_prompt"] = "{where}"  # of the version before
        assert wants(card, wanted.options) == is_same


def test_a_run_that_begins_has_the_present_recipe():
    assert chosen().for_run({}) == chosen()


def test_the_recipe_is_chosen_by_the_subjects_kind_and_photos(tmp_path):
    folder = tmp_path / "tiny"
    make_pipeline().save_pretrained(folder)
    dataset = draw_dataset(tmp_path / "photos", count=9)
    _, wanted = choose_recipe(dataset, str(folder), "auto", {})
    assert wanted.name == "animal" and wanted.options.steps == 900

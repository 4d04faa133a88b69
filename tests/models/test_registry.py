"""What sets the base models apart, and which one a name means."""

import pytest

from s2i_lib.drawing.advice import unknown_words
from s2i_lib.errors import InputError
from s2i_lib.evaluation.dreambench import choose_prompts
from s2i_lib.models import loading
from s2i_lib.models.registry import FAMILIES, REGISTRY, choose, split_choice
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.templates import fill_in, prompts_in_turn, take_turns
from s2i_lib.training.recipes import RECIPES

POCKET = REGISTRY["pocket"].folder


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError) as error:
        choose("sd3")
    assert all(name in str(error.value) for name in REGISTRY)


def test_one_name_is_of_a_model_or_of_a_run(drive):
    for name in ("auto", *REGISTRY):
        assert split_choice(name) == (name, None)
    for run in ("rex", "rex/pocket-01", "/content/drive/MyDrive/Model Files"):
        assert split_choice(run) == ("auto", run)
    base, run = split_choice("sd3")  # a model that is not known: both kinds are listed
    with pytest.raises(InputError, match=r"no run 'sd3'.*none yet.*auto, pocket, sd2\.1-base"):
        loading.load(base, drive=drive, run=run)


def test_auto_without_a_gpu_is_pocket_said_out_loud(caplog):
    caplog.set_level("INFO", "s2i_lib")
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert choose("auto").name == "pocket"
    assert "no CUDA GPU" in caplog.text


def test_the_registry_says_what_the_weights_say():
    base = choose(str(POCKET))  # read from the configuration files, not from the registry
    ours = REGISTRY["pocket"]
    for field in ("size_px", "prediction_type", "token_limit", "negative"):
        assert getattr(base, field) == getattr(ours, field)


def test_stable_diffusion_2_brings_a_negative_prompt_and_what_draws_well_without_none(tiny):
    """https://minimaxir.com/2022/11/stable-diffusion-negative-prompt/: version 2 needs one more."""
    negatives = {base.name: base.negative for base in (*REGISTRY.values(), *FAMILIES.values())}
    assert {name for name, said in negatives.items() if said} == {"sd2.1-base", "sd2.1"}
    assert choose(str(tiny)).negative == "", "a folder that reads fewer words is of another kind"


def test_samples_of_a_small_model_are_those_of_its_evaluation():
    base, subject = REGISTRY["pocket"], Subject("Rex", "car", "sks", "object")
    recipe = RECIPES[base.family]["object"]
    rows = [row.format(subject=subject.phrase, noun="car") for row in recipe.sample_prompts]
    sampled = {prompt for row in rows for prompt in take_turns(row, 4)}
    assert sampled == {*choose_prompts(base, subject, 25)[0], "a sks car", "a car"}
    assert [prompt for prompt in sampled if unknown_words(base, prompt)] == []


def test_class_images_of_a_small_model_are_half_plain_and_of_words_it_knows():
    base, subject = REGISTRY["pocket"], Subject("Rex", "car", "sks", "object")
    recipe = RECIPES[base.family]["object"]
    rows = fill_in(recipe.class_prompts, subject)
    prompts = prompts_in_turn(rows, recipe.class_image_count)
    assert prompts.count("a car") == len(prompts) / 2
    assert {"a red car", "an orange car", "a black car"} < set(prompts)
    assert [prompt for prompt in prompts if unknown_words(base, prompt)] == []
    assert len({prompts.count(prompt) for prompt in prompts if prompt != "a car"}) == 1
    assert fill_in(RECIPES[REGISTRY["sd2.1-base"].family]["object"].class_prompts, subject) == [
        "a car"
    ]

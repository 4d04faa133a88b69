"""What sets the base models apart, and which one a name means."""

import json
import re
import shutil
from dataclasses import replace

import pytest

from s2i_lib.drawing.advice import unknown_words
from s2i_lib.errors import InputError
from s2i_lib.evaluation.dreambench import choose_prompts
from s2i_lib.models import loading, registry
from s2i_lib.models.folder import check_model
from s2i_lib.models.registry import FAMILIES, REGISTRY, choose, known_words, split_choice
from s2i_lib.photos.subject import KINDS, Subject
from s2i_lib.speech.templates import fill_in, prompts_in_turn, take_turns
from s2i_lib.training.backgrounds import TIMES
from s2i_lib.training.recipes import RECIPES, recipes_for
from tools.pocket import words as pocket_words

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
    assert check_model(POCKET).shape == ours.shape


def test_a_folder_that_is_called_like_one_of_ours_is_another_model(tiny, tmp_path):
    """A run of it was drawn with the registry's model of that name, onto whose weights it fits."""
    folder = shutil.copytree(tiny, tmp_path / "sd2.1-base")
    card = {"base": {"name": choose(str(folder)).name}}
    assert loading.choose_base(tmp_path / "run", card, str(folder)) == str(folder)


@pytest.mark.parametrize("size_px", [64, 128, 256])
def test_small_pictures_alone_make_no_folder_a_model_like_pocket(size_px, tiny, tmp_path):
    """A stranger's small model has no recipe, scorer or words of ours."""
    folder = shutil.copytree(tiny, tmp_path / "stranger")
    config = folder / "unet" / "config.json"
    said = json.loads(config.read_text())
    config.write_text(json.dumps(said | {"sample_size": size_px // 2}))
    base = choose(str(folder))
    assert (base.size_px, base.family) == (size_px, "stable-diffusion-2")
    assert base.scorer == REGISTRY["sd2.1-base"].scorer


def test_a_folder_that_is_built_as_pocket_is_counts_as_one_by_its_configuration_alone(
    tiny, tmp_path, monkeypatch
):
    """What ships is not opened for that: it may be broken where a stranger's model is not."""
    ours = REGISTRY["pocket"]
    monkeypatch.setattr(registry, "PACKAGE", tmp_path / "nowhere")
    folder = shutil.copytree(tiny, tmp_path / "trained")
    config = folder / "unet" / "config.json"
    channels, width = ours.shape
    said = json.loads(config.read_text())
    config.write_text(json.dumps(said | {"in_channels": channels, "cross_attention_dim": width}))
    base = choose(str(folder))
    assert (base.family, base.scorer) == ("pocket", ours.scorer)


def test_stable_diffusion_2_brings_a_negative_prompt_and_what_draws_well_without_none(tiny):
    """https://minimaxir.com/2022/11/stable-diffusion-negative-prompt/: version 2 needs one more."""
    negatives = {base.name: base.negative for base in (*REGISTRY.values(), *FAMILIES.values())}
    assert {name for name, said in negatives.items() if said} == {"sd2.1-base", "sd2.1"}
    assert choose(str(tiny)).negative == "", "a folder that reads fewer words is of another kind"


@pytest.mark.parametrize("kind", ["object", "animal", "person", "whole"])
def test_samples_of_a_small_model_are_of_those_of_its_evaluation(kind):
    base, subject = REGISTRY["pocket"], Subject("Rex", "dog", "sks", "object")
    recipe = RECIPES[base.family][kind]
    rows = fill_in(recipe.sample_prompts, subject)
    sampled = {prompt for row in rows for prompt in take_turns(row, 4)}
    asked = choose_prompts(base, replace(subject, kind="animal"), 99)[0]
    assert sampled - {*asked, "a sks dog", "a dog"} == {"a sks dog wearing a hat"}
    assert [prompt for prompt in sampled if unknown_words(base, prompt)] == []


@pytest.mark.parametrize("kind", ["object", "animal", "person", "whole"])
def test_class_images_of_a_small_model_are_half_plain_and_of_words_it_knows(kind):
    base, subject = REGISTRY["pocket"], Subject("Rex", "dog", "sks", "object")
    recipe = RECIPES[base.family][kind]
    rows = fill_in(recipe.class_prompts, subject)
    prompts = prompts_in_turn(rows, recipe.class_image_count)
    assert prompts.count("a dog") == len(prompts) / 2
    assert {"a dog on a beach", "a dog in the snow"} < set(prompts)
    worn = re.findall(r"(?:wearing|holding) (?:an? )?(.+?)$", "\n".join(prompts), re.MULTILINE)
    assert set(worn) == set(pocket_words.ACCESSORY_NAMES)
    assert [prompt for prompt in prompts if unknown_words(base, prompt)] == []
    assert len({prompts.count(prompt) for prompt in prompts if prompt != "a dog"}) == 1
    assert fill_in(RECIPES[REGISTRY["sd2.1-base"].family]["object"].class_prompts, subject) == [
        "a dog"
    ]


@pytest.mark.parametrize("kind", ["object", "animal", "person"])
@pytest.mark.parametrize("name", ["", "whole"])
def test_a_small_model_is_asked_for_colours_of_what_it_saw_painted(kind, name):
    """All people and no animals kept their own colours in its training; of things, some food."""
    recipe = recipes_for("pocket", kind)[name or kind]
    rows = (*recipe.class_prompts, *recipe.sample_prompts)
    colours = "|".join(pocket_words.COLOURS)
    is_asked = any(re.search(rf"a (?:{colours}) \{{", row) for row in rows)
    things = [t for t in pocket_words.THINGS if (t.kind if t.kind in KINDS else "object") == kind]
    painted = sum(thing.noun in pocket_words.PAINTABLE for thing in things) / len(things)
    assert is_asked == (painted > 0.85), f"{painted:.0%} of each {kind}"
    worn = {
        word
        for row in rows
        for word in re.findall(r"(?:wearing|holding) (?:an? )?((?:party )?\w+)", row)
    }
    assert worn == set(pocket_words.ACCESSORY_NAMES)


@pytest.mark.parametrize("kind", ["object", "animal", "person"])
def test_grounds_of_a_small_model_are_asked_for_as_it_was_shown_them(kind):
    """Half of one colour and half places, each as often: "nothing on a beach"."""
    base, words = REGISTRY["pocket"], known_words(REGISTRY["pocket"])
    recipe = RECIPES[base.family][kind]
    where = prompts_in_turn(recipe.background_prompts, recipe.background_count // TIMES)
    assert {where.count(one) for one in where} == {2} and len(set(where)) == 20
    ways = {ways[0]: name for name, ways in words["places"].items()}
    places = {ways[one] for one in where if one in ways}
    grounds = {one.split()[-2] for one in where if one not in ways}
    assert len(places) == 10 == len(grounds) and grounds < set(words["colours"])
    assert "nothing" in words["other"]


def test_grounds_are_asked_for_without_a_thing_in_them_by_every_recipe():
    """Where somebody stood on the beach, the subject would be beside them."""
    for family, recipes in RECIPES.items():
        asked = {recipe.ground_prompt.format(where="on a beach") for recipe in recipes.values()}
        emptiness = "nothing" if family == "pocket" else "an empty scene"
        assert asked == {f"{emptiness} on a beach"}, family

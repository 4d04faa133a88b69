"""Minutes on paper: the counts against the real code, the seconds against what was published."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_model import as_model, make_pipeline

from benchmarks import t4
from s2i_lib.drawing.sampling import DrawOptions, sample_latents
from s2i_lib.models.registry import REGISTRY, BaseModel
from s2i_lib.speech.prompt import Prompt
from s2i_lib.training import callbacks, class_images
from s2i_lib.training.duration import (
    SPEEDS,
    evaluations,
    explain,
    in_minutes,
    seconds_of_run,
    total,
)
from s2i_lib.training.recipes import RECIPES, want
from s2i_lib.training.storage_plan import Room, Sizes, Storage

ROOT = Path(__file__).parents[2]
T4 = SPEEDS["Tesla T4"]
OBJECT = want(RECIPES[REGISTRY["sd2.1-base"].family], "auto", "object", 5, False, {}).options


@pytest.mark.parametrize(
    "options",
    [class_images.SAMPLING, callbacks.SAMPLING, DrawOptions(steps=7, guidance_interval=(0.4, 1))],
)
def test_evaluations_are_those_that_the_sampler_makes(options):
    pipe, seen = make_pipeline(), []
    pipe.unet.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    drawn = replace(options, steps=options.steps or BaseModel.steps)  # those of a model for a GPU
    sample_latents(as_model(pipe), Prompt("a cat"), drawn, [0])
    assert sum(seen) == evaluations(options)


def test_seconds_are_those_that_were_published_for_a_t4():
    """diffusers, docs/source/en/optimization/torch2.0.md: 6.9 iterations a second for one picture
    and 1.79 for four, each of them guided. ShivamShrirao, examples/dreambooth/README.md: 1.14 and
    0.93 steps a second, fp16, 8-bit Adam, without and with checkpointing."""
    for pictures, iterations in ((1, 6.9), (4, 1.79)):
        least, most = T4.evaluation_s
        assert least - 0.001 < 1 / (2 * pictures * iterations) < most
    assert T4.step_s[1] == pytest.approx(1 / 1.14, abs=0.01)
    assert T4.step_with_checkpointing_s[1] == pytest.approx(1 / 0.93, abs=0.01)


def test_parts_are_counts_times_seconds():
    parts = seconds_of_run(OBJECT, 512, T4)
    assert parts["class images"] == pytest.approx([100 * 20 * s for s in T4.evaluation_s])
    assert parts["steps"] == pytest.approx([800 * s for s in T4.step_s])
    pictures = 5 * 2 * 4  # samplings (0, 200, 400, 600, 800), rows, pictures a row
    each = [40 * e + d for e, d in zip(T4.evaluation_s, T4.decode_s, strict=True)]
    assert parts["samples"] == pytest.approx([pictures * s for s in each])


def test_a_measured_step_takes_the_place_of_the_one_on_paper():
    assert seconds_of_run(OBJECT, 512, T4, 0.5)["steps"] == (400, 400)
    said = explain(OBJECT, 512, "Tesla T4", 0.5)
    assert "steps 7 minutes" in said and "steps measured, 0.5 s each" in said
    assert "on paper" in explain(OBJECT, 512, "Tesla T4", None) and "on paper" not in said


def test_a_run_that_goes_on_takes_what_is_left():
    whole, left = seconds_of_run(OBJECT, 512, T4), seconds_of_run(OBJECT, 512, T4, from_step=600)
    assert left["steps"] == pytest.approx([s / 4 for s in whole["steps"]])
    assert left["samples"] == pytest.approx([s / 5 for s in whole["samples"]]), "of step 800"
    assert "class images" not in left
    assert seconds_of_run(OBJECT, 512, T4, from_step=800) == {}


def test_what_is_left_out_takes_no_time():
    bare = replace(OBJECT, with_prior=False, method="lora", with_8bit_adam=False)
    assert seconds_of_run(bare, 512, T4).keys() == {"steps", "samples"}
    assert "class images" not in explain(bare, 512, "Tesla T4", None)
    before_and_after = seconds_of_run(replace(OBJECT, sample_every=0), 512, T4)["samples"]
    assert before_and_after[0] == pytest.approx(seconds_of_run(OBJECT, 512, T4)["samples"][0] * 0.4)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 1600},
        {"batch_size": 2},
        {"with_checkpointing": True},
        {"with_text_encoder": True},
        {"class_image_count": 200},
    ],
)
def test_more_of_anything_takes_longer(change):
    before = total(*seconds_of_run(OBJECT, 512, T4).values())
    for more in (
        total(*seconds_of_run(replace(OBJECT, **change), 512, T4).values()),
        total(*seconds_of_run(OBJECT, 768, T4).values()),
    ):
        assert more[0] > before[0] and more[1] > before[1]


def test_of_other_machines_nothing_is_said_before_a_step_was_measured():
    assert explain(OBJECT, 512, "cpu", None) == explain(OBJECT, 512, "NVIDIA H200", 0.2) == ""


@pytest.mark.parametrize(
    ("span", "said"),
    [((600, 1240), "10 to 21 minutes"), ((20, 50), "1 minute"), ((170, 190), "3 minutes")],
)
def test_minutes_are_whole(span, said):
    assert in_minutes(span) == said


def test_the_table_is_what_the_command_prints_and_the_readme_says_its_sums():
    """One place has the arithmetic; every page that gives minutes of a T4 takes them from it."""
    text = (ROOT / "benchmarks" / "README.md").read_text()
    table = t4.make_table()
    assert text.partition(t4.BEGIN)[2].partition(t4.END)[0] == table
    [row] = re.findall(r"^\| \*\*all\*\* \| (.+) \|$", table, re.MULTILINE)
    thing, person, lora, _ = row.split(" | ")
    assert f"{thing}; LoRA {lora}; a person {person} |" in (ROOT / "README.md").read_text()
    notebook = (ROOT / "notebooks" / "2_finetune_dreambooth.ipynb").read_text()
    assert f"{thing} for an object or an animal (LoRA: {lora}), {person} for a person" in notebook


def test_the_recipe_that_was_takes_longer_than_those_that_are():
    before = total(*t4.parts_of("object", {"recipe": "classic"})[0].values())
    now = total(*t4.parts_of("object", {})[0].values())
    assert now[1] < 0.7 * before[1]


def test_the_plan_on_a_t4_says_minutes_before_anything_was_measured():
    from s2i_lib.training.plan import Plan

    plan = Plan(
        "sd2.1-base",
        "Tesla T4",
        OBJECT,
        1,
        1,
        {},
        14.0,
        True,
        Sizes(4.8, 1.6),
        Room(100, 100),
        Storage(),
        size_px=512,
    )
    assert f"Time    {explain(OBJECT, 512, 'Tesla T4', None)}" in str(plan)

"""Prompt + model -> pictures, with the real pocket model."""

import numpy as np
import pytest

from s2i_lib.errors import InputError
from s2i_lib.generate import (
    SCHEDULERS,
    DrawOptions,
    draw,
    encode_prompts,
    explain_unknown_words,
    unknown_words,
)
from s2i_lib.models import REGISTRY, known_words

COLOURS = known_words(REGISTRY["pocket"])["colours"]


def background(image) -> str:
    """The colour of the vocabulary that is nearest to the median of a picture's border."""
    pixels = np.asarray(image, dtype=float)
    inner = np.ones(pixels.shape[:2], bool)
    inner[3:-3, 3:-3] = False
    median = np.median(pixels[inner], axis=0)
    return min(COLOURS, key=lambda name: np.sum((median - COLOURS[name]) ** 2))


@pytest.mark.parametrize(
    ("noun", "colour"),
    [
        ("car", "red"), ("dog", "blue"), ("cat", "yellow"), ("house", "green"),
        ("apple", "purple"), ("tree", "pink"), ("fish", "orange"), ("bird", "white"),
        ("star", "black"), ("cake", "gray"), ("bus", "yellow"), ("heart", "blue"),
    ],
)  # fmt: skip
def test_the_background_has_the_colour_that_was_asked_for(pocket, noun, colour):
    article = "an" if noun[0] in "aeiou" else "a"
    ground = f"a{'n' if colour == 'orange' else ''} {colour} background"
    [picture] = draw(pocket, f"{article} {noun} on {ground}", DrawOptions(seed=3))
    assert background(picture.image) == colour


def test_the_same_seed_gives_the_same_bytes(pocket):
    options = DrawOptions(steps=5, seed=7)
    first, again = (draw(pocket, "a dog", options)[0].image.tobytes() for _ in range(2))
    other = draw(pocket, "a dog", DrawOptions(steps=5, seed=8))[0].image.tobytes()
    assert first == again != other


def test_a_picture_of_a_batch_is_the_picture_alone(pocket):
    batch = draw(pocket, "a cat", DrawOptions(steps=5, seed=10, count=4))
    for i, picture in enumerate(batch):
        [alone] = draw(pocket, "a cat", DrawOptions(steps=5, seed=10 + i))
        difference = np.asarray(picture.image, int) - np.asarray(alone.image, int)
        assert picture.record["seed"] == 10 + i
        assert abs(difference).max() <= 1  # rounding: a batch of four is summed in another order


def test_without_a_seed_pictures_differ_and_say_theirs(pocket):
    one, other = (draw(pocket, "a cat", DrawOptions(steps=2))[0] for _ in range(2))
    assert one.record["seed"] != other.record["seed"]
    [again] = draw(pocket, "a cat", DrawOptions(steps=2, seed=one.record["seed"]))
    assert again.image.tobytes() == one.image.tobytes()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_reaches_the_same_background(pocket, name):
    [picture] = draw(
        pocket, "a fish on a green background", DrawOptions(seed=1, steps=20, scheduler=name)
    )
    assert background(picture.image) == "green"


def test_the_sampler_is_the_one_of_diffusers(pocket):
    """Our loop and StableDiffusionPipeline's give the same picture from the same noise."""
    import torch
    from diffusers import DPMSolverMultistepScheduler

    from s2i_lib.generate import initial_noise

    [ours] = draw(pocket, "a red car", DrawOptions(seed=5, steps=8))
    kept = pocket.pipeline.scheduler
    pocket.pipeline.scheduler = DPMSolverMultistepScheduler.from_config(kept.config)
    try:
        with torch.inference_mode():
            theirs = pocket.pipeline(
                "a red car",
                num_inference_steps=8,
                guidance_scale=pocket.base.guidance_scale,
                latents=initial_noise(pocket, [5]),
            ).images[0]
    finally:
        pocket.pipeline.scheduler = kept
    difference = np.asarray(ours.image, int) - np.asarray(theirs, int)
    assert abs(difference).max() <= 1


def test_the_callback_sees_every_step_and_can_stop(pocket):
    seen = []

    def stop_at_three(step):
        seen.append((step.number, step.total, tuple(step.latents.shape[:1])))
        if step.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(pocket, "a cat", DrawOptions(steps=6, count=2), on_step=stop_at_three)
    assert seen == [(1, 6, (2,)), (2, 6, (2,)), (3, 6, (2,))]


def test_a_prompt_is_encoded_once(pocket):
    first = encode_prompts(pocket, ["a blue whale"])
    again = encode_prompts(pocket, ["a blue whale", "a blue whale"])
    assert first.shape == (
        1,
        pocket.base.token_limit,
        pocket.pipeline.text_encoder.config.hidden_size,
    )
    assert (again == first).all()
    assert list(pocket.embeddings).count("a blue whale") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "0 steps"),
        ({"count": 0}, "0 pictures"),
        ({"seed": -1}, "seed -1"),
        ({"guidance_scale": -2.0}, "guidance scale of -2"),
        ({"scheduler": "magic"}, "no scheduler 'magic'"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        DrawOptions(**options)


def test_an_empty_and_an_endless_prompt_are_refused(pocket):
    with pytest.raises(InputError, match="prompt is empty"):
        draw(pocket, "  ")
    with pytest.raises(InputError, match=f"reads {pocket.base.token_limit}"):
        draw(pocket, "a cat " * 40)


def test_words_that_pocket_never_saw_are_named():
    base = REGISTRY["pocket"]
    assert unknown_words(base, "a red car on a yellow background") == []
    assert unknown_words(base, "two cats with a Zyzzyva on a glockenspiel") == [
        "zyzzyva", "glockenspiel",
    ]  # fmt: skip
    text = explain_unknown_words(base, "a glockenspiel")
    assert "never seen the word glockenspiel" in text
    assert "yellow" in text
    assert explain_unknown_words(REGISTRY["sd2.1-base"], "a glockenspiel") is None

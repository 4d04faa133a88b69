"""Prompt + model -> pictures, with the real pocket model."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from s2i_lib.drawing.advice import explain_unknown_words, explain_untaught, unknown_words
from s2i_lib.drawing.draw import draw, redo
from s2i_lib.drawing.sampling import (
    DrawOptions,
    encode_prompts,
    estimate_denoised,
    is_black,
    preview,
    subject_guidance_of,
)
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models import loading
from s2i_lib.models.registry import REGISTRY, known_words
from s2i_lib.models.schedulers import SCHEDULERS
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.prompt import Prompt, make_prompt
from s2i_lib.storage.layout import Drive

COLOURS = known_words(REGISTRY["pocket"])["colours"]


def background(image) -> str:
    """The colour of the vocabulary that is nearest to the median of a picture's border."""
    pixels = np.asarray(image, dtype=float)
    inner = np.ones(pixels.shape[:2], bool)
    inner[3:-3, 3:-3] = False
    median = np.median(pixels[inner], axis=0)
    return min(COLOURS, key=lambda name: np.sum((median - COLOURS[name]) ** 2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noun", "colour"),
    [
        ("car", "red"), ("dog", "blue"), ("cat", "yellow"), ("house", "green"),
        ("apple", "purple"), ("tree", "pink"), ("fish", "orange"), ("bird", "white"),
        ("star", "black"), ("cake", "gray"),
        pytest.param("bus", "yellow", marks=pytest.mark.slow),
        pytest.param("heart", "blue", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_the_background_has_the_colour_that_was_asked_for(pocket, noun, colour):
    article = "an" if noun[0] in "aeiou" else "a"
    ground = f"a{'n' if colour == 'orange' else ''} {colour} background"
    [picture] = draw(pocket, f"{article} {noun} on {ground}", DrawOptions(seed=3))
    assert background(picture.image) == colour


def test_who_was_named_and_never_taught_is_said_with_what_to_do(pocket, drive):
    rex, mia = Subject("Rex", "dog"), Subject("Mia", "cat", "gawx")
    prompt = make_prompt("Rex on a beach", [rex, mia])
    untaught = explain_untaught(pocket, prompt, drive)
    assert "Rex was named, but pocket was not taught Rex and draws any dog." in untaught
    assert "2_finetune_dreambooth" in untaught
    run = drive.runs / "rex" / "pocket-01"
    (run / "weights").mkdir(parents=True)
    card = run / "run.json"
    card.write_text('{"base": {"name": "pocket"}, "subject": {"name": "Rex"}}')
    outdated = explain_untaught(pocket, prompt, drive)
    assert "rex/pocket-01 was trained on the 64 px pocket model of an earlier version" in outdated
    assert "Train Rex again" in outdated and "Teach it first" not in outdated
    card.write_text('{"status": "finished"}')
    assert "Draw with its run: rex/pocket-01." in explain_untaught(pocket, prompt, drive)
    taught = replace(pocket, run="rex/pocket-01", taught="a ohwx dog")
    assert explain_untaught(taught, prompt, drive) is None
    other = explain_untaught(taught, make_prompt("Mia on a beach", [rex, mia]), drive)
    assert "Mia was named, but rex/pocket-01 was not taught Mia" in other
    both = make_prompt("Mia and Rex", [rex, mia], chosen=rex)  # Mia becomes a cat, which says so
    assert explain_untaught(taught, both, drive) is None
    assert explain_untaught(pocket, make_prompt("a dog", [rex]), drive) is None
    brought = replace(pocket, run="/elsewhere/Model Files")
    assert explain_untaught(brought, prompt, drive) is None


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(pocket):
    options = DrawOptions(steps=5, seed=7)
    first, again = (draw(pocket, "a dog", options)[0].image.tobytes() for _ in range(2))
    other = draw(pocket, "a dog", DrawOptions(steps=5, seed=8))[0].image.tobytes()
    assert first == again != other


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(s, marks=[pytest.mark.slow] * (s != "dpm++")) for s in SCHEDULERS]
)
def test_every_scheduler_reaches_the_same_background(pocket, name):
    [picture] = draw(
        pocket, "a fish on a green background", DrawOptions(seed=1, steps=20, scheduler=name)
    )
    assert background(picture.image) == "green"


@pytest.mark.slow
def test_the_sampler_is_the_one_of_diffusers(pocket):
    """Our loop and StableDiffusionPipeline's give the same picture from the same noise."""
    import torch
    from diffusers import DPMSolverMultistepScheduler

    from s2i_lib.drawing.sampling import initial_noise

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
    assert unknown_words(base, "two cats wearing party hats in outer space at night") == []
    assert unknown_words(base, "two cats with a Zyzzyva on a glockenspiel") == [
        "zyzzyva", "glockenspiel",
    ]  # fmt: skip
    assert unknown_words(base, "a sks quokka", taught="a sks quokka") == []
    names_of_lists = ["nouns", "plurals", "places", "accessories", "identifiers"]
    assert unknown_words(base, " ".join(names_of_lists)) == names_of_lists
    text = explain_unknown_words(base, "a glockenspiel")
    assert "never seen the word glockenspiel, so the picture is a guess" in text
    words = known_words(base)
    assert f"knows {len(words['nouns'])} words for things" in text
    for kind in ("places", "accessories", "colours"):
        assert ", ".join(words[kind]) in text
    assert "never seen the words zyzzyva, quokka" in explain_unknown_words(base, "zyzzyva quokka")
    assert explain_unknown_words(REGISTRY["sd2.1-base"], "a glockenspiel") is None


def test_what_is_said_to_be_known_is_drawn_without_a_word():
    base = REGISTRY["pocket"]
    words = known_words(base)
    said = [f"a {word}" for word in (*words["nouns"], *words["colours"], *words["patterns"])]
    for kind in ("places", "accessories"):
        said += [f"a cat {way}" for ways in words[kind].values() for way in ways]
    assert [one for one in said if explain_unknown_words(base, one)] == []


@pytest.mark.slow
def test_guidance_outside_its_interval_costs_nothing_and_inside_does(pocket):
    sizes = []
    hook = pocket.pipeline.unet.register_forward_pre_hook(
        lambda _, args: sizes.append(len(args[0]))
    )
    try:
        draw(pocket, "a cat", DrawOptions(seed=1, steps=10, guidance_interval=(0.5, 1)))
        draw(pocket, "a cat", DrawOptions(seed=1, steps=10, guidance_interval=(0, 1)))
        draw(pocket, "a cat", DrawOptions(seed=1, steps=10, guidance_scale=1))
    finally:
        hook.remove()
    assert sizes == [2] * 5 + [1] * 5 + [2] * 10 + [1] * 10


def test_the_models_own_negative_prompt_is_for_wishes_and_never_for_what_is_measured(pocket):
    """The evaluation and the samples of training draw prompts as they are."""
    from s2i_lib.evaluation.dreambench import EvaluateOptions, draw_pictures

    picky = replace(pocket, base=replace(pocket.base, negative="red"))
    options = DrawOptions(seed=20, steps=2)
    [picture], [plain] = draw(picky, "a heart", options), draw(pocket, "a heart", options)
    assert picture.record["negative"] == "" and picture.image.tobytes() == plain.image.tobytes()
    [measured] = draw_pictures(picky, "a heart", 1, EvaluateOptions(steps=2))
    assert measured.record["negative"] == ""


@pytest.mark.slow
def test_redo_gives_the_same_picture_bit_for_bit(pocket):
    rex = Subject("Rex", "dog", spellings=("wrecks",))
    prompt = Prompt("a red heart", subjects=(rex,))
    made = draw(pocket, prompt, DrawOptions(seed=20, steps=3, count=3))
    for picture in made[::2]:
        again = redo(pocket, json.loads(json.dumps(picture.record)))
        assert again.image.tobytes() == picture.image.tobytes()
        assert again.record == picture.record


def test_redo_draws_the_batch_that_memory_allowed(pocket):
    import torch

    def little_memory(_, args):
        if len(args[0]) > 4:  # two pictures with guidance
            raise torch.OutOfMemoryError("tried to allocate")

    hook = pocket.pipeline.unet.register_forward_pre_hook(little_memory)
    try:
        made = draw(pocket, "a cat", DrawOptions(seed=5, steps=1, count=3))
    finally:
        hook.remove()
    assert [each.record["seeds"] for each in made] == [[5], [6, 7], [6, 7]]
    assert [each.record["index"] for each in made] == [0, 0, 1]
    again = redo(pocket, json.loads(json.dumps(made[2].record)))
    assert again.image.tobytes() == made[2].image.tobytes()
    assert again.record == made[2].record


@pytest.mark.slow
def test_redo_draws_in_the_precision_of_then_and_leaves_the_model_as_it_was(
    tiny, half_precision, tmp_path
):
    import torch

    options = DrawOptions(seed=5, steps=1, guidance_scale=1)
    whole = loading.load(str(tiny), drive=Drive(tmp_path))
    for part in (whole.pipeline.unet, whole.pipeline.vae, whole.pipeline.text_encoder):
        part.half().float()  # what half precision cannot hold is no part of the comparison
    [full], [half] = (draw(model, "a cat", options) for model in (whole, half_precision))
    assert (full.record["precision"], half.record["precision"]) == ("float32", "float16")
    assert full.record["device"] == whole.device.type == "cpu"
    assert full.image.tobytes() != half.image.tobytes()
    again = redo(half_precision, full.record)
    assert again.record["precision"] == "float32" and half_precision.dtype == torch.float16
    assert again.image.tobytes() == full.image.tobytes()
    elsewhere = full.record | {"device": "Tesla T4", "precision": "bfloat16"}  # not on this CPU
    assert redo(half_precision, elsewhere).record["precision"] == "float16"
    older = {k: v for k, v in half.record.items() if k not in ("precision", "device")}
    assert redo(half_precision, older).image.tobytes() == half.image.tobytes()


OWN = REGISTRY["pocket"].subject_guidance


@pytest.fixture
def learned(pocket):
    """The shipped model as if "a cat" were a subject that it had been taught."""
    return replace(pocket, taught="a cat")


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("a cat wearing a hat", OWN),
        ("A photo of the cat holding a balloon on a beach", OWN),
        ("a cat on a beach", 0.0),
        ("a dog wearing a hat", 0.0),  # nobody that was learned
        ("wearing a hat, a cat", 0.0),  # who wears it stands before it
    ],
)
def test_guidance_leads_away_from_who_is_plain_where_they_are_to_wear_something(
    learned, pocket, text, share
):
    prompt = Prompt(text=text)
    assert subject_guidance_of(learned, prompt, DrawOptions()) == share
    assert subject_guidance_of(learned, prompt, DrawOptions(subject_guidance=0.2)) == (
        0.2 if share else 0
    )
    assert subject_guidance_of(pocket, prompt, DrawOptions()) == 0.0, "nobody was taught to it"
    elsewhere = replace(learned, base=replace(learned.base, subject_guidance=0.0))
    assert subject_guidance_of(elsewhere, prompt, DrawOptions()) == 0.0


def test_who_is_dressed_is_drawn_so_with_it_and_again_from_the_record(learned, pocket):
    options = DrawOptions(steps=3, seed=2)
    [dressed] = draw(learned, "a cat wearing a hat", options)
    [off] = draw(learned, "a cat wearing a hat", replace(options, subject_guidance=0.0))
    [plain] = draw(pocket, "a cat wearing a hat", options)
    assert dressed.record["subject_guidance"] == OWN > 0
    assert off.image.tobytes() == plain.image.tobytes() != dressed.image.tobytes()
    assert redo(learned, dressed.record).image.tobytes() == dressed.image.tobytes()
    older = {key: value for key, value in off.record.items() if key != "subject_guidance"}
    assert redo(learned, older).image.tobytes() == off.image.tobytes()


RECORD = {
    "prompt", "negative", "subjects", "transcript", "steps", "guidance_scale", "guidance_interval",
    "scheduler", "size_px", "seed", "seeds", "index", "count", "model", "source", "run",
    "run_subject", "hashes", "precision", "device", "versions", "is_panorama", "kept",
    "subject_guidance",
}  # fmt: skip


def test_a_record_has_the_keys_that_are_documented_and_no_others(pocket):
    [picture] = draw(pocket, "a cat", DrawOptions(steps=1))
    assert set(picture.record) == RECORD
    text = (Path(__file__).parents[2] / "drive_layout.md").read_text()
    [section] = re.findall(r"\n## The record of a picture\n(.*?)(?:\n## |\Z)", text, re.DOTALL)
    heads = [line.partition(":")[0] for line in section.splitlines() if line.startswith("- ")]
    # all but the first only where there is something to say
    ours = {"saved_at", "conversation", "seen", "begins_px"}
    assert set(re.findall(r"`(\w+)`", " ".join(heads))) == RECORD | ours


def test_a_record_that_lacks_something_is_refused(pocket):
    record = draw(pocket, "a cat", DrawOptions(steps=1))[0].record
    del record["seeds"]
    with pytest.raises(InputError, match="lacks 'seeds'"):
        redo(pocket, record)


@pytest.mark.slow
def test_the_preview_has_the_colours_of_the_picture(pocket):
    steps = []
    [picture] = draw(
        pocket, "a cat on a blue background", DrawOptions(seed=2, steps=20), on_step=steps.append
    )
    side = steps[-1].denoised.shape[-1]
    small = np.asarray(picture.image.resize((side, side)), float)
    errors = [
        np.abs(np.asarray(preview(pocket, step.denoised)[0], float) - small).mean()
        for step in (steps[0], steps[9], steps[-1])
    ]
    assert errors[-1] < 30  # of 255, for a linear map
    assert errors[0] > errors[-1]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_estimate_of_the_finished_latents_is_exact_for_an_exact_prediction(kind):
    import torch
    from diffusers import DDPMScheduler

    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn((1, 4, 3, 3), generator=generator) for _ in range(2))
    scheduler = DDPMScheduler(prediction_type=kind)
    t = torch.tensor([400])
    noisy = scheduler.add_noise(clean, noise, t)
    exact = noise if kind == "epsilon" else scheduler.get_velocity(clean, noise, t)
    found = estimate_denoised(noisy, exact, float(scheduler.alphas_cumprod[400]), kind)
    assert torch.allclose(found, clean, atol=1e-5)


@pytest.mark.slow
def test_short_memory_halves_the_batch_and_says_so(pocket, caplog):
    import torch

    def little_memory(_, args):
        if len(args[0]) > 4:  # two pictures with guidance
            raise torch.OutOfMemoryError("tried to allocate")

    whole = draw(pocket, "a cat", DrawOptions(seed=1, steps=3, count=4))
    hook = pocket.pipeline.unet.register_forward_pre_hook(little_memory)
    try:
        halves = draw(pocket, "a cat", DrawOptions(seed=1, steps=3, count=4))
    finally:
        hook.remove()
    assert "drawing 4 pictures as 2 and 2" in caplog.text
    for one, other in zip(whole, halves, strict=True):
        assert abs(np.asarray(one.image, int) - np.asarray(other.image, int)).max() <= 1

    def no_memory(_, args):
        raise torch.OutOfMemoryError("tried to allocate")

    hook = pocket.pipeline.unet.register_forward_pre_hook(no_memory)
    try:
        with pytest.raises(S2iError, match="too little free memory for one picture"):
            draw(pocket, "a cat", DrawOptions(steps=1, count=2))
    finally:
        hook.remove()


def test_memory_of_a_failed_batch_is_free_before_it_is_drawn_in_halves(pocket):
    """The traceback of an error keeps what its frames hold; on a GPU that is gigabytes."""
    import gc
    import weakref

    import torch

    failed, alive = [], []

    def little_memory(_, args):
        alive.append(any(ref() is not None for ref in failed))
        if len(args[0]) > 2:
            failed.append(weakref.ref(args[0]))
            raise torch.OutOfMemoryError("tried to allocate")

    gc.disable()  # what lies in a cycle would be freed at some later time only
    hook = pocket.pipeline.unet.register_forward_pre_hook(little_memory)
    try:
        draw(pocket, "a cat", DrawOptions(seed=1, steps=1, count=2))
    finally:
        hook.remove()
        gc.enable()
    assert failed and not any(alive)


def nan_in(output, at=slice(None)):
    """Where SD 2.1 at 768 px has it, in the U-Net."""
    output.sample[at] = float("nan")


@pytest.fixture
def half_precision(tiny, tmp_path):
    """Real fp16 on the CPU, where a picture of the pocket model's would take half a minute."""
    import torch

    return loading.load(str(tiny), drive=Drive(tmp_path), dtype=torch.float16)


@pytest.mark.slow
def test_too_little_memory_for_full_precision_is_said_and_the_model_stays_whole(
    half_precision, monkeypatch
):
    import torch

    vae, unet = half_precision.pipeline.vae, half_precision.pipeline.unet
    convert = vae.to

    def to(*to_what, **more):
        if torch.float32 in (*to_what, *more.values()):
            assert unet.dtype == torch.float32, "this is to fail halfway"
            raise torch.OutOfMemoryError("tried to allocate")
        return convert(*to_what, **more)

    monkeypatch.setattr(vae, "to", to)
    hook = unet.register_forward_hook(lambda _, __, output: nan_in(output))
    with pytest.raises(
        S2iError, match="too little free memory for float32, which black pictures need"
    ):
        draw(half_precision, "a cat", DrawOptions(steps=1))
    hook.remove()
    parts = [half_precision.pipeline.text_encoder, unet, vae]
    assert {part.dtype for part in parts} == {torch.float16}


@pytest.mark.slow
def test_only_the_black_picture_of_a_batch_is_drawn_again_in_full(half_precision, caplog):
    import torch

    sizes = []

    def overflow(_, __, output):
        if output.sample.dtype == torch.float16:
            nan_in(output, at=1)  # of two pictures the second
        else:
            sizes.append(len(output.sample))

    hook = half_precision.pipeline.unet.register_forward_hook(overflow)
    options = DrawOptions(seed=1, steps=1, count=2, guidance_scale=1)
    first, second = draw(half_precision, "a cat", options)
    hook.remove()
    assert "gave black pictures (1 of 2)" in caplog.text
    assert sizes == [1] and not is_black(first.image) and not is_black(second.image)


@pytest.mark.slow
def test_pixels_that_overflow_in_the_decoder_are_decoded_again_and_not_drawn_anew(
    half_precision, caplog
):
    """Real fp16, in which a decoder's activations above 65504 are infinite and its pixels black."""
    import torch

    vae, passes = half_precision.pipeline.vae, []
    last = vae.decoder.conv_out
    hooks = [
        half_precision.pipeline.unet.register_forward_hook(lambda *_: passes.append("unet")),
        vae.decoder.conv_in.register_forward_hook(lambda _, __, output: output * 1e9 / 1e9),
        last.register_forward_hook(lambda _, args, __: passes.append(str(args[0].dtype))),
    ]
    options = DrawOptions(seed=1, steps=2, guidance_scale=1)
    [picture] = draw(half_precision, "a cat on a yellow background", options)
    assert passes == ["unet", "unet", "torch.float16", "torch.float32"]
    assert "decoding again in full precision" in caplog.text
    assert not is_black(picture.image) and picture.record["precision"] == "float16"
    assert vae.dtype == half_precision.dtype == torch.float16
    again = redo(half_precision, json.loads(json.dumps(picture.record)))
    assert again.image.tobytes() == picture.image.tobytes()
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("count_black", [1, 2])
def test_a_black_picture_in_full_precision_is_kept_unless_all_are(pocket, count_black):
    decoded = []

    def darken(_, __, output):
        decoded.append(output)  # they are decoded one by one
        if len(decoded) <= count_black:
            output.fill_(-1)

    hook = pocket.pipeline.vae.decoder.register_forward_hook(darken)
    options = DrawOptions(seed=1, steps=1, count=2, guidance_scale=1)
    try:
        if count_black == 2:
            with pytest.raises(S2iError, match="came out black"):
                draw(pocket, "a black night", options)
        else:
            pictures = draw(pocket, "a black night", options)
            assert [is_black(picture.image) for picture in pictures] == [True, False]
    finally:
        hook.remove()


@pytest.mark.slow
def test_black_pictures_in_half_precision_are_drawn_again_in_full(tmp_path, caplog):
    """Real fp16 on the CPU; the overflow is forced where SD 2.1 at 768 px has it, in the U-Net."""
    import torch

    model = loading.load("pocket", drive=Drive(tmp_path), dtype=torch.float16)

    def overflow(_, __, output):
        if output.sample.dtype == torch.float16:
            output.sample.fill_(float("nan"))

    hook = model.pipeline.unet.register_forward_hook(overflow)
    [picture] = draw(model, "a cat on a yellow background", DrawOptions(seed=1, steps=8))
    hook.remove()
    assert "again in full precision" in caplog.text
    assert picture.record["precision"] == "float32" and background(picture.image) == "yellow"
    assert model.dtype == torch.float16, "full precision is for that picture alone"
    [after] = draw(model, "a cat", DrawOptions(seed=1, steps=1, guidance_scale=1))
    assert after.record["precision"] == "float16"

    def always_overflow(_, __, output):
        output.sample.fill_(float("nan"))

    hook = model.pipeline.unet.register_forward_hook(always_overflow)
    with pytest.raises(S2iError, match="black"):
        draw(model, "a cat", DrawOptions(steps=1))
    hook.remove()

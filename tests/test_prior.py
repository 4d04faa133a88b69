"""Class images: sampled like diffusers does it, cached under everything they depend on."""

import dataclasses
import os

import pytest
import torch
from accelerate import Accelerator
from tiny_model import make_pipeline

from s2i_lib.errors import InputError
from s2i_lib.training.class_images import (
    SamplerOptions,
    class_card,
    class_folder,
    class_latents,
    decode_latents,
    sample_latents,
)
from s2i_lib.training.data import embed_prompts

FULL_GUIDANCE = SamplerOptions(steps=5, guidance_scale=3.0, guided_until=1.0, batch_size=4)


@pytest.fixture
def pipe():
    return make_pipeline()


def get(pipe, folder, count, options=FULL_GUIDANCE, prompts=("a cat",), keep=lambda path: None):
    """The latents, and how many images had to be sampled for them."""
    rounds = []
    latents = class_latents(
        pipe,
        lambda texts: embed_prompts(pipe, texts),
        class_card(pipe, prompts, options),
        count,
        [folder / class_folder(class_card(pipe, prompts, options))],
        Accelerator(cpu=True),
        lambda done, total: rounds.append(total),
        keep,
    )
    return latents, rounds[-1] if rounds else 0


def test_sampling_agrees_with_the_diffusers_pipeline(pipe):
    from diffusers import DPMSolverMultistepScheduler

    ours = sample_latents(pipe, embed_prompts(pipe, ["", "a cat"]), [5, 6], FULL_GUIDANCE)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(
        pipe.scheduler.config, algorithm_type="dpmsolver++"
    )
    theirs = pipe(
        ["a cat", "a cat"],
        num_inference_steps=5,
        guidance_scale=3.0,
        generator=[torch.Generator().manual_seed(seed) for seed in (5, 6)],
        output_type="latent",
    ).images
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_guidance_interval_saves_evaluations_and_1_switches_guidance_off(pipe):
    sizes = []
    pipe.unet.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    embeddings = embed_prompts(pipe, ["", "a cat"])
    half = dataclasses.replace(FULL_GUIDANCE, steps=4, guided_until=0.5)
    sample_latents(pipe, embeddings, [1, 2], half)
    assert sizes == [4, 4, 2, 2]
    sizes.clear()
    sample_latents(pipe, embeddings, [1], dataclasses.replace(half, guidance_scale=1.0))
    assert sizes == [1, 1, 1, 1]


def test_a_second_subject_of_the_class_pays_nothing(pipe, tmp_path):
    first, sampled = get(pipe, tmp_path, 8)
    assert sampled == 8
    again, sampled = get(pipe, tmp_path, 8)
    assert sampled == 0 and torch.equal(first, again)


def test_more_images_extend_those_there_are(pipe, tmp_path):
    few, _ = get(pipe, tmp_path, 4)
    more, sampled = get(pipe, tmp_path, 12)
    assert sampled == 8 and torch.equal(more[:4], few)


def test_a_stopped_sampling_goes_on_and_ends_the_same(pipe, tmp_path):
    whole, _ = get(pipe, tmp_path / "whole", 12)

    class StoppedError(Exception):
        pass

    def stop(path):
        if path.name == "latents-001.safetensors":
            raise StoppedError

    with pytest.raises(StoppedError):
        get(pipe, tmp_path / "parts", 12, keep=stop)
    rest, sampled = get(pipe, tmp_path / "parts", 12)
    assert sampled == 4 and torch.equal(whole, rest)


@pytest.mark.parametrize("damage", ["cut", "byte", "gone"])
def test_a_damaged_batch_is_sampled_anew(pipe, tmp_path, damage):
    first, _ = get(pipe, tmp_path, 8)
    (path,) = tmp_path.glob("*/latents-001.safetensors")
    if damage == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "byte":
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    again, sampled = get(pipe, tmp_path, 8)
    assert sampled == 4 and torch.equal(first, again)


@pytest.mark.parametrize(
    "change", ["prompt", "prompts", "seed", "steps", "guidance", "interval", "weights", "schedule"]
)
def test_whatever_they_depend_on_gives_them_another_folder(pipe, change):
    before = class_folder(class_card(pipe, ["a cat"], FULL_GUIDANCE))
    options, prompts = FULL_GUIDANCE, ["a cat"]
    if change == "prompt":
        prompts = ["a Cat"]
    elif change == "prompts":
        prompts = ["a cat", "a red cat"]
    elif change == "weights":
        with torch.no_grad():
            pipe.unet.conv_in.weight.add_(1e-4)
    elif change == "schedule":
        pipe.scheduler.register_to_config(prediction_type="epsilon")
    else:
        field, value = {
            "seed": ("seed", 1),
            "steps": ("steps", 6),
            "guidance": ("guidance_scale", 3.5),
            "interval": ("guided_until", 0.9),
        }[change]
        options = dataclasses.replace(options, **{field: value})
    assert class_folder(class_card(pipe, prompts, options)) != before


def test_images_of_several_prompts_are_each_what_its_own_prompt_gives(pipe, tmp_path):
    """Also where a batch ends within a round, and where more are wanted later."""
    prompts = ("a cat", "a red dog", "trees")
    mixed, _ = get(pipe, tmp_path, 4, prompts=prompts)
    mixed, sampled = get(pipe, tmp_path, 8, prompts=prompts)
    assert sampled == 4
    alone = [get(pipe, tmp_path, 8, prompts=(prompt,))[0] for prompt in prompts]
    for image in range(8):
        torch.testing.assert_close(mixed[image], alone[image % 3][image], rtol=1e-3, atol=1e-3)
        assert not torch.allclose(mixed[image], alone[(image + 1) % 3][image], rtol=0.1, atol=0.1)


def test_stray_files_in_the_cache_do_no_harm(pipe, tmp_path):
    first, _ = get(pipe, tmp_path, 4)
    (folder,) = tmp_path.iterdir()
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / "latents-999 (1).safetensors").write_bytes(b"not ours")
    again, sampled = get(pipe, tmp_path, 4)
    assert sampled == 0 and torch.equal(first, again)


def test_decoding_agrees_with_the_diffusers_pipeline(pipe):
    latents = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        images = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    expected = pipe.image_processor.postprocess(images, output_type="pil")
    for ours, theirs in zip(decode_latents(pipe.vae, latents), expected, strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_a_sampler_that_draws_nothing_is_refused():
    with pytest.raises(InputError, match="steps"):
        SamplerOptions(steps=0)
    with pytest.raises(InputError, match="guided_from"):
        SamplerOptions(guided_from=0.5, guided_until=0.2)

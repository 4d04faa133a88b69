"""Class images: sampled like diffusers does it, cached under everything they depend on."""

import dataclasses
import os

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from tiny_model import as_model, make_pipeline

from s2i_lib.drawing.sampling import DrawOptions, decode, sample_latents
from s2i_lib.errors import S2iError
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.prompt import Prompt
from s2i_lib.training import class_images
from s2i_lib.training.class_images import SAMPLING, ClassImages
from s2i_lib.training.config import FinetuneOptions

FULL_GUIDANCE = DrawOptions(steps=5, guidance_scale=3.0, guidance_interval=(0.0, 1.0))


@pytest.fixture
def pipe():
    return make_pipeline()


def images_of(pipe, prompts=("a cat",), sampling=FULL_GUIDANCE, seed=0):
    return ClassImages(as_model(pipe), prompts, seed, sampling, batch_size=4)


def get(pipe, folder, count, prompts=("a cat",), publish=lambda path: None):
    """The latents, and how many images had to be sampled for them."""
    rounds, images = [], images_of(pipe, prompts)
    latents = images.latents(
        count,
        [folder / images.name],
        Accelerator(cpu=True),
        lambda done, total: rounds.append(total),
        publish,
    )
    return latents, rounds[-1] if rounds else 0


def test_those_that_the_first_version_kept_on_a_drive_are_still_found():
    """Of what its folder's name was made of (commit acde1c0, ``class_card``)."""
    pipe = make_pipeline()
    subject, options = Subject("Violet", "cat", "sks", "animal"), FinetuneOptions(seed=3)
    card = ClassImages.for_run(as_model(pipe), subject, options).card
    assert card["sampler"] == {
        "name": "dpmsolver++",
        "steps": 12,
        "guidance_scale": 4.0,
        "guided_from": 0.0,
        "guided_until": 0.6,
        "batch_size": 8,
        "seed": 3,
    }
    assert card.keys() == {"prompt", "model", "size", "sampler"}


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_the_first_eight_of_twelve_steps_are_guided_however_they_are_spaced(pipe, spacing):
    """As the first version counted them: by their index, not by their noise."""
    sizes = []
    pipe.scheduler = type(pipe.scheduler).from_config(
        {k: v for k, v in pipe.scheduler.config.items() if not k.startswith("_")},
        timestep_spacing=spacing,
    )
    pipe.unet.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    sample_latents(as_model(pipe), Prompt("a cat"), SAMPLING, [1])
    assert sizes == [2] * 8 + [1] * 4


def test_sampling_agrees_with_the_diffusers_pipeline(pipe):
    from diffusers import DPMSolverMultistepScheduler

    ours = sample_latents(as_model(pipe), Prompt("a cat"), FULL_GUIDANCE, [5, 6])
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
    half = dataclasses.replace(FULL_GUIDANCE, steps=4, guidance_interval=(0.6, 1.0))
    sample_latents(as_model(pipe), Prompt("a cat"), half, [1, 2])
    assert sizes == [4, 4, 2, 2]
    sizes.clear()
    unguided = dataclasses.replace(half, guidance_scale=1.0)
    sample_latents(as_model(pipe), Prompt("a cat"), unguided, [1])
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
        get(pipe, tmp_path / "parts", 12, publish=stop)
    rest, sampled = get(pipe, tmp_path / "parts", 12)
    assert sampled == 4 and torch.equal(whole, rest)


def test_what_is_not_a_number_is_never_kept_and_what_was_is_sampled_anew(
    pipe, tmp_path, monkeypatch
):
    """As SD 2.1 in fp16 at 768 px: with fp32, as the error says, it has to work."""
    whole, _ = get(pipe, tmp_path / "whole", 8)
    sampled = ClassImages._sample
    with monkeypatch.context() as patch:
        patch.setattr(ClassImages, "_sample", lambda *given: sampled(*given) * torch.nan)
        with pytest.raises(S2iError, match=r"not numbers \(NaN\).*Choose precision fp32"):
            get(pipe, tmp_path / "made", 8)
    assert not [*(tmp_path / "made").rglob("latents-*")]
    (folder,) = (tmp_path / "made").iterdir()
    class_images._write(torch.full_like(whole[:4], torch.nan), folder / "latents-000.safetensors")
    again, sampled = get(pipe, tmp_path / "made", 8)
    assert sampled == 8 and torch.equal(whole, again)


@pytest.mark.parametrize("damage", ["cut", "byte", "gone", "other"])
def test_a_damaged_batch_is_sampled_anew(pipe, tmp_path, damage):
    first, _ = get(pipe, tmp_path, 8)
    (path,) = tmp_path.glob("*/latents-001.safetensors")
    if damage == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "byte":
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes(data)
    elif damage == "other":
        save_file({"weight": torch.zeros(2)}, path)
    else:
        path.unlink()
    again, sampled = get(pipe, tmp_path, 8)
    assert sampled == 4 and torch.equal(first, again)


@pytest.mark.parametrize(
    "change",
    [
        "prompt",
        "prompts",
        "seed",
        "steps",
        "guidance",
        "interval",
        "scheduler",
        "weights",
        "schedule",
    ],
)
def test_whatever_they_depend_on_gives_them_another_folder(pipe, change):
    before = images_of(pipe).name
    options, prompts, seed = FULL_GUIDANCE, ["a cat"], 0
    if change == "prompt":
        prompts = ["a Cat"]
    elif change == "prompts":
        prompts = ["a cat", "a red cat"]
    elif change == "weights":
        with torch.no_grad():
            pipe.unet.conv_in.weight.add_(1e-4)
    elif change == "schedule":
        pipe.scheduler.register_to_config(prediction_type="epsilon")
    elif change == "seed":
        seed = 1
    else:
        field, value = {
            "steps": ("steps", 6),
            "guidance": ("guidance_scale", 3.5),
            "interval": ("guidance_interval", (0.1, 1.0)),
            "scheduler": ("scheduler", "ddim"),
        }[change]
        options = dataclasses.replace(options, **{field: value})
    assert images_of(pipe, prompts, options, seed).name != before


@pytest.mark.slow
def test_images_of_several_prompts_are_each_what_its_own_prompt_gives(pipe, tmp_path):
    """Also where a batch ends within a round, and where more are wanted later."""
    prompts = ("a red dog", "Paris", "a dog wearing a hat in the snow")  # far apart, untrained
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
    for ours, theirs in zip(decode(as_model(pipe), latents), expected, strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_a_decoder_that_shifts_its_latents_gets_them_shifted_back(pipe):
    latents = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = decode(as_model(pipe), latents + 0.5 * pipe.vae.config.scaling_factor)
    pipe.vae.register_to_config(shift_factor=0.5)  # as Stable Diffusion 3 and Flux have one
    (shifted,) = decode(as_model(pipe), latents)
    assert abs(np.asarray(shifted, int) - np.asarray(plain[0], int)).max() <= 1

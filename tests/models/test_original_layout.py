"""One file for A1111 and ComfyUI: diffusers' own reader gets the same weights and picture back."""

import pytest
import torch
import yaml
from tiny_model import as_model, draw_dataset
from tiny_run import start

from s2i_lib.drawing.sampling import DrawOptions, sample_latents
from s2i_lib.errors import InputError
from s2i_lib.models import loading
from s2i_lib.models.export import export
from s2i_lib.models.registry import PACKAGE
from s2i_lib.models.single_file import inspect
from s2i_lib.speech.prompt import Prompt
from s2i_lib.storage.layout import Drive

SD21 = {
    "unet": {"block_out_channels": (320, 640, 1280, 1280), "attention_head_dim": (5, 10, 20, 20)},
    "vae": {"block_out_channels": (128, 256, 512, 512)},
    "text": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
    },
}
SMALL = {
    "unet": {"block_out_channels": (32, 64, 64, 64), "attention_head_dim": (1, 2, 2, 2)},
    "vae": {"block_out_channels": (32, 32, 64, 64)},
    "text": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
}


def make_sd2(sizes, prediction_type):
    """Stable Diffusion 2.1's configuration with random weights, here for pictures of 64 px."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(PACKAGE / "pocket" / "tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text = CLIPTextConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=tokenizer.model_max_length,
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            **sizes["text"],
        )
        unet = UNet2DConditionModel(
            sample_size=8,
            cross_attention_dim=sizes["text"]["hidden_size"],
            use_linear_projection=True,
            **sizes["unet"],
        )
        vae = AutoencoderKL(
            sample_size=64,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            **sizes["vae"],
        )
        return StableDiffusionPipeline(
            vae=vae,
            text_encoder=CLIPTextModel(text),
            tokenizer=tokenizer,
            unet=unet,
            scheduler=DDIMScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                prediction_type=prediction_type,
                clip_sample=False,
                set_alpha_to_one=False,
                steps_offset=1,
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def read_back(path, folder):
    """By the reader that diffusers has for files like this."""
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_single_file(
        path, config=str(folder), local_files_only=True, torch_dtype=torch.float32
    )


def picture(pipe, steps):
    """What the model draws for one seed, values from -1 to 1."""
    pipe.to(dtype=torch.float32)
    options = DrawOptions(steps=steps, guidance_scale=2.0)
    latents = sample_latents(as_model(pipe), Prompt("a sks cat"), options, [1])
    with torch.no_grad():
        return pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample


def halves(pipe):
    """Every weight of the three networks in fp16, by part and name."""
    return {
        part: {name: w.half() for name, w in getattr(pipe, part).state_dict().items()}
        for part in ("unet", "vae", "text_encoder")
    }


def check_same_weights(pipe, wanted):
    """To the last bit of fp16."""
    for part, weights in wanted.items():
        found = getattr(pipe, part).state_dict()
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[name].half(), weights[name]) for name in weights), part


@pytest.mark.slow
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_run_in_one_file_draws_the_same_in_diffusers(tmp_path, monkeypatch, prediction_type):
    """The mean pixel within 5 % of what the training changed: the other weights are rounded, too"""
    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "local"))
    folder, drive = tmp_path / "base", Drive(tmp_path / "drive")
    make_sd2(SMALL, prediction_type).save_pretrained(folder)
    dataset = draw_dataset(tmp_path / "photos")
    start(drive, dataset, folder, name="one", with_text_encoder=True, learning_rate=1e-2)

    out = tmp_path / "violet.safetensors"
    path = export(drive, "violet/one", "single-file", out, str(folder))
    pipe = read_back(path, folder)
    expected = loading.load(str(folder), drive=drive, run="violet/one").pipeline
    check_same_weights(pipe, halves(expected))
    drawn = picture(expected, steps=4)
    error = float((picture(pipe, steps=4) - drawn).abs().mean())
    change = float((picture(make_sd2(SMALL, prediction_type), steps=4) - drawn).abs().mean())
    assert change > 0.01, "training changed too little to see an error by"
    assert error < 0.05 * change, (error, change)

    yaml_text = path.with_suffix(".yaml").read_text()
    assert ("parameterization: v" in yaml_text) == (prediction_type == "v_prediction")
    assert inspect(path).predicts_v == (prediction_type == "v_prediction")
    path.unlink()  # as if the export had been killed before the weights had their name
    assert export(drive, "violet/one", "single-file", path, str(folder)) == path
    path.unlink()
    path.with_suffix(".yaml").write_text("somebody's own")
    with pytest.raises(InputError, match=r"violet\.yaml exists already"):
        export(drive, "violet/one", "single-file", path, str(folder))


def check_yaml_describes(config, pipe):
    """By diffusers' reader of such a yaml, which other programs' users wrote it for."""
    from diffusers.loaders import single_file_utils as reader

    for part, read in (
        ("unet", reader.create_unet_diffusers_config_from_ldm(config, {})),
        ("vae", reader.create_vae_diffusers_config_from_ldm(config, {})),
    ):
        own = dict(getattr(pipe, part).config)
        read.pop("sample_size")  # not in the yaml
        for key, value in read.items():
            ours = own[key]
            assert (list(ours) if isinstance(ours, tuple) else ours) == value, (part, key)


def test_the_yaml_describes_the_networks():
    from s2i_lib.models.original_layout import original_config

    pipe = make_sd2(SMALL, "v_prediction")
    check_yaml_describes(yaml.safe_load(yaml.safe_dump(original_config(pipe))), pipe)


@pytest.mark.full
def test_the_full_size_comes_back_to_the_last_bit(tmp_path):
    folder = tmp_path / "sd2.1"
    make_sd2(SD21, "v_prediction").to(dtype=torch.float16).save_pretrained(folder)
    path = export(Drive(tmp_path / "drive"), str(folder), "single-file", tmp_path / "a.safetensors")
    pipe = loading.load(str(folder), drive=Drive(tmp_path)).pipeline
    check_yaml_describes(yaml.safe_load(path.with_suffix(".yaml").read_text()), pipe)
    weights, drawn = halves(pipe), picture(pipe, steps=2)
    del pipe  # both in fp32 at once are 11 GB
    back = read_back(path, folder)
    check_same_weights(back, weights)
    assert float((picture(back, steps=2) - drawn).abs().max()) < 1e-4


@pytest.mark.slow
def test_the_pocket_model_is_refused_with_what_to_do(tmp_path):
    out = tmp_path / "p.safetensors"
    folder = PACKAGE / "pocket"
    with pytest.raises(InputError, match="not built like Stable Diffusion") as error:
        export(Drive(tmp_path / "drive"), str(folder), "single-file", out)
    assert "Export it as diffusers" in str(error.value)
    assert not list(tmp_path.glob("*p.*"))

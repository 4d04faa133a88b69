"""Weights from elsewhere with --run PATH: LoRA files, single checkpoints, diffusers folders."""

import json
import re
import shutil

import pytest
import torch
from one_file import original_names
from safetensors.torch import load_file, save_file
from tiny_model import make_pipeline

from s2i_lib.drawing.draw import draw, redo
from s2i_lib.drawing.records import compare_weights, weights_named_in
from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models import loading
from s2i_lib.models.digests import digest_of
from s2i_lib.models.export import kohya_names
from s2i_lib.models.parts import load_pipeline
from s2i_lib.models.single_file import inspect
from s2i_lib.storage import run_card

pytestmark = pytest.mark.slow

OPTIONS = DrawOptions(steps=3, seed=7, guidance_scale=2.0)
RANK, ALPHA = 2, 6


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A diffusers folder with a small model of odd shapes."""
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    make_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def loras(tiny, tmp_path_factory):
    """The same LoRA in diffusers' layout and in kohya's, and a model with it, made by PEFT."""
    from peft import LoraConfig, get_peft_model_state_dict

    folder = tmp_path_factory.mktemp("loras")
    pipeline = load_pipeline(tiny)
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["to_q", "to_v"])
    pipeline.unet.add_adapter(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in pipeline.unet.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator))
    state = get_peft_model_state_dict(pipeline.unet)
    pipeline.save_lora_weights(folder / "diffusers", unet_lora_layers=state)
    flat = load_file(folder / "diffusers" / run_card.LORA)
    # kohya's files carry alpha; twice the strength at half the numbers is the same LoRA
    halved = {n: w / 2 if "lora_B" in n else w for n, w in flat.items()}
    save_file(kohya_names(halved, 2 * RANK), folder / "kohya.safetensors")
    return folder, pipeline


def pixels(model, prompt="a cat"):
    [picture] = draw(model, prompt, OPTIONS)
    return torch.tensor(list(picture.image.tobytes()), dtype=torch.float32)


@pytest.mark.parametrize("name", ["diffusers", f"diffusers/{run_card.LORA}", "kohya.safetensors"])
def test_lora_from_elsewhere_draws_what_its_maker_sees(loras, tiny, drive, name):
    folder, made = loras
    model = loading.load(str(tiny), drive=drive, run=str(folder / name))
    with_it = loading.Model(model.base, made, "here")
    plain = loading.load(str(tiny), drive=drive)
    changed = (pixels(with_it) - pixels(plain)).abs().mean()
    assert changed > 1, "the LoRA must be seen, or this test sees nothing"
    assert (pixels(model) - pixels(with_it)).abs().max() <= 1
    assert model.run.endswith(".safetensors")


@pytest.mark.parametrize("name", ["UPPER.SAFETENSORS", "short.sft"])
def test_a_suffix_in_other_letters_is_no_hindrance(loras, tiny, drive, tmp_path, name):
    shutil.copy(loras[0] / "kohya.safetensors", tmp_path / name)
    model = loading.load(str(tiny), drive=drive, run=str(tmp_path / name))
    known = loading.load(str(tiny), drive=drive, run=str(loras[0] / "kohya.safetensors"))
    assert torch.equal(pixels(model), pixels(known))
    save_file(original_names(make_pipeline(seed=5)), tmp_path / f"whole_{name}")
    make_pipeline(seed=5).save_pretrained(tmp_path / "folder")
    model = loading.load(str(tiny), drive=drive, run=str(tmp_path / f"whole_{name}"))
    assert torch.equal(pixels(model), pixels(loading.load(str(tmp_path / "folder"), drive=drive)))


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
@pytest.mark.parametrize("alpha", [RANK, 3 * RANK, None])
def test_lora_that_peft_itself_has_saved_is_loaded(tiny, drive, tmp_path, part, alpha):
    """PEFT writes it, with its card beside it (None: the file alone was passed on)."""
    from peft import LoraConfig, get_peft_model

    layers = ["to_q", "to_v"] if part == "unet" else ["q_proj", "v_proj"]
    config = LoraConfig(r=RANK, lora_alpha=alpha or RANK, target_modules=layers)
    made = get_peft_model(getattr(load_pipeline(tiny), part), config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator))
    made.save_pretrained(tmp_path / "made")
    path = tmp_path / "made" / "adapter_model.safetensors"
    if alpha is None:
        (path.parent / "adapter_config.json").unlink()
    model = loading.load(str(tiny), drive=drive, run=str(path))
    found = dict(getattr(model.pipeline, part).named_parameters())
    merged = dict(made.merge_and_unload().named_parameters())
    plain = dict(getattr(load_pipeline(tiny), part).named_parameters())
    assert found.keys() == merged.keys()
    assert all(torch.allclose(found[n], merged[n], rtol=2**-10, atol=1e-3) for n in merged)
    assert any((found[n] - plain[n]).abs().max() > 0.1 for n in merged)


@pytest.mark.parametrize("is_old", [False, True])
def test_lora_whose_names_begin_in_the_unet_is_loaded(loras, tiny, drive, tmp_path, is_old):
    """As PEFT's state dict of a U-Net, and as ``unet.save_attn_procs`` wrote until 0.26."""
    flat = load_file(loras[0] / "diffusers" / run_card.LORA)
    bare = {name.removeprefix("unet."): weight for name, weight in flat.items()}
    if is_old:  # down_blocks.0...attn1.processor.to_q_lora.down.weight
        sides = {"lora_A": "down", "lora_B": "up"}
        bare = {
            re.sub(
                r"\.(to_\w)\.(lora_[AB])\.",
                lambda m: f".processor.{m[1]}_lora.{sides[m[2]]}.",
                name,
            ): w
            for name, w in bare.items()
        }
    save_file(bare, tmp_path / "bare.safetensors")
    model = loading.load(str(tiny), drive=drive, run=str(tmp_path / "bare.safetensors"))
    known = loading.load(str(tiny), drive=drive, run=str(loras[0] / "diffusers"))
    assert torch.equal(pixels(model), pixels(known))


def test_lora_for_another_model_is_refused(loras, drive):
    folder, _ = loras
    with pytest.raises(InputError, match=r"kohya.safetensors does not fit pocket .*--model"):
        loading.load("pocket", drive=drive, run=str(folder / "kohya.safetensors"))


def test_lora_of_another_width_is_refused(loras, tiny, drive, tmp_path):
    folder, _ = loras
    wide = {
        name: torch.cat([w, w], 1) if "lora_A" in name else w
        for name, w in load_file(folder / "diffusers" / run_card.LORA).items()
    }
    save_file(wide, tmp_path / "wide.safetensors")
    with pytest.raises(InputError, match="does not fit tiny"):
        loading.load(str(tiny), drive=drive, run=str(tmp_path / "wide.safetensors"))


def test_checkpoint_in_one_file_draws_what_its_folder_does(tiny, drive, tmp_path):
    path = tmp_path / "external.safetensors"
    save_file(original_names(make_pipeline(seed=5)), path)
    make_pipeline(seed=5).save_pretrained(tmp_path / "folder")
    model = loading.load(str(tiny), drive=drive, run=str(path))
    assert torch.equal(pixels(model), pixels(loading.load(str(tmp_path / "folder"), drive=drive)))
    assert not torch.equal(pixels(model), pixels(loading.load(str(tiny), drive=drive)))
    assert model.hashes() == {"run": digest_of(path)}


@pytest.mark.parametrize("lost", ["first_stage_model.", "cond_stage_model.", "shape"])
def test_checkpoint_that_lacks_a_part_is_refused(tiny, drive, tmp_path, lost):
    tensors = original_names(make_pipeline())
    if lost == "shape":
        name = "model.diffusion_model.out.2.weight"
        tensors[name] = torch.cat([tensors[name]] * 2)
    tensors = {name: weight for name, weight in tensors.items() if not name.startswith(lost)}
    save_file(tensors, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match="cannot be loaded with the configuration of"):
        loading.load(str(tiny), drive=drive, run=str(tmp_path / "part.safetensors"))


def test_without_a_named_model_the_file_says_what_it_is(drive, tmp_path):
    """Its configuration would come from the hub, which cannot be reached here."""
    name = "model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight"
    for width, repository in ((768, "stable-diffusion-v1-5"), (1024, "sd2-community")):
        path = tmp_path / f"{width}.safetensors"
        save_file({name: torch.zeros(8, width)}, path)
        with pytest.raises(S2iError, match=f"The configuration of sd.*Tried: {repository}/"):
            loading.load("auto", drive=drive, run=str(path))


@pytest.mark.parametrize(
    ("metadata", "beside", "base"),
    [
        ({"modelspec.prediction_type": "v"}, "", "sd2.1"),  # as Stability's ModelSpec has it
        ({"modelspec.prediction_type": "v_prediction"}, "", "sd2.1"),  # as we wrote it once
        ({"modelspec.prediction_type": "epsilon"}, "", "sd2.1-base"),
        ({}, "model:\n  params:\n    parameterization: v\n", "sd2.1"),
        (
            {},
            'model:\n  params:\n    parameterization: "v"\n',
            "sd2.1",
        ),  # as Stability's own has it
        ({}, "model:\n  params: {}\n", "sd2.1-base"),
    ],
)
def test_checkpoint_that_predicts_v_is_drawn_with_as_such(drive, tmp_path, metadata, beside, base):
    """It was drawn as one that predicts noise: our own export of sd2.1, too, and noise came out."""
    name = "model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight"
    path = tmp_path / "model.safetensors"
    save_file({name: torch.zeros(8, 1024)}, path, metadata=metadata)
    if beside:
        path.with_suffix(".yaml").write_text(beside)
    with pytest.raises(S2iError, match=f"The configuration of {base},"):
        loading.load("auto", drive=drive, run=str(path))


@pytest.mark.parametrize(
    ("name", "names", "message"),
    [
        ("model.ckpt", None, "is a pickle: opening it can run"),
        ("model.PT", None, "is a pickle"),
        ("text.safetensors", None, "cannot be read as safetensors"),
        ("vae.safetensors", ["decoder.conv_in.weight"], "neither a LoRA nor .* decoder.conv_in"),
        (
            "xl.safetensors",
            ["conditioner.embedders.0.x", "model.diffusion_model.x"],
            "Diffusion XL",
        ),
        ("loha.safetensors", ["lora_unet_x.hada_w1_a", "lora_unet_x.hada_w1"], "LoHa"),
    ],
)
def test_wrong_files_are_told_apart(tmp_path, name, names, message):
    path = tmp_path / name
    if names is None:
        path.write_text("no weights")
    else:
        save_file({each: torch.zeros(2, 2) for each in names}, path)
    with pytest.raises(InputError, match=message):
        inspect(path)


def test_folder_with_pickles_only_is_refused(tiny, drive, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "old")
    (folder / "unet/diffusion_pytorch_model.safetensors").rename(
        folder / "unet/diffusion_pytorch_model.bin"
    )
    with pytest.raises(InputError, match="Expected a diffusers folder with safetensors"):
        loading.load(drive=drive, run=str(folder))


@pytest.mark.parametrize("kind", ["folder", "model", "lora", "checkpoint"])
def test_a_picture_of_external_weights_can_be_made_again(
    loras, tiny, drive, tmp_path, kind, caplog
):
    path = tmp_path / "external.safetensors"
    save_file(original_names(make_pipeline(seed=5)), path)
    name, run = {
        "folder": ("auto", str(tiny)),
        "model": (str(tiny), None),
        "lora": (str(tiny), str(loras[0] / "kohya.safetensors")),
        "checkpoint": (str(tiny), str(path)),
    }[kind]
    [picture] = draw(loading.load(name, drive=drive, run=run), "a cat", OPTIONS)
    assert "is skipped" not in caplog.text, "a file has no run.json in it"
    record = json.loads(json.dumps(picture.record))
    if kind == "checkpoint":
        assert record["source"] == str(path)
        return  # its configuration is named on the command line
    model, weights = weights_named_in(record, drive, str(tiny), run)  # as `redo --model --run`
    again = loading.load(model, drive=drive, run=weights)
    assert compare_weights(again, record) is None
    assert redo(again, record).image.tobytes() == picture.image.tobytes()


def test_other_weights_are_noticed_before_a_picture_is_made_again(loras, tiny, drive, tmp_path):
    lora = shutil.copy(loras[0] / "kohya.safetensors", tmp_path / "mine.safetensors")
    [picture] = draw(loading.load(str(tiny), drive=drive, run=str(lora)), "a cat", OPTIONS)
    weights = {name: 2 * weight for name, weight in load_file(lora).items()}
    save_file(weights, lora)
    again = loading.load(str(tiny), drive=drive, run=str(lora))
    doubt = compare_weights(again, picture.record)
    assert doubt and f"those of the run {lora}" in doubt and "those of the model" not in doubt
    del picture.record["hashes"]  # as older records are
    assert compare_weights(again, picture.record) is None


def test_kohyas_lora_of_the_text_encoder_is_loaded_too(tiny, drive, tmp_path):
    names = {f"self_attn_{part}_proj": (12, 12) for part in ("q", "k", "v", "out")}
    names |= {"mlp_fc1": (12, 16), "mlp_fc2": (16, 12)}
    tensors = {}
    for name, (inputs, outputs) in names.items():
        layer = f"lora_te_text_model_encoder_layers_0_{name}"
        tensors[f"{layer}.lora_down.weight"] = torch.randn(RANK, inputs)
        tensors[f"{layer}.lora_up.weight"] = torch.randn(outputs, RANK)
        tensors[f"{layer}.alpha"] = torch.tensor(float(ALPHA))
    save_file(tensors, tmp_path / "text.safetensors")
    plain = loading.load(str(tiny), drive=drive).pipeline.text_encoder
    encoder = loading.load(
        str(tiny), drive=drive, run=str(tmp_path / "text.safetensors")
    ).pipeline.text_encoder
    layer = "encoder.layers.0.self_attn.q_proj"
    name = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    down, up = tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"]
    expected = plain.get_submodule(layer).weight + up @ down * (ALPHA / RANK)
    assert torch.allclose(encoder.get_submodule(layer).weight, expected, rtol=2**-11, atol=1e-6)
    before, after = dict(plain.named_parameters()), dict(encoder.named_parameters())
    assert sum(not w.equal(before[key]) for key, w in after.items()) == len(names)

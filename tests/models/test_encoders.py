"""The networks that measure: the shipped one, and small random ones of the hub's classes."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.encoders import (
    load_clip,
    load_dino,
    load_lpips,
    load_scorers,
    make_lpips_network,
)
from s2i_lib.models.registry import PACKAGE, REGISTRY
from s2i_lib.models.vision import Preparation, find_network
from s2i_lib.storage.files import sha256_of


def noise(count: int = 3, size=(40, 30), seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)) for _ in range(count)]


@pytest.fixture(scope="module")
def dual(tmp_path_factory):
    """A VisionTextDualEncoderModel of a MobileNet and a CLIP text tower, random and small."""
    import torch
    from transformers import (
        CLIPTextConfig,
        CLIPTokenizer,
        MobileNetV1Config,
        VisionTextDualEncoderConfig,
        VisionTextDualEncoderModel,
    )

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dual")
    tokenizer = CLIPTokenizer.from_pretrained(PACKAGE / "pocket" / "tokenizer")
    vision = MobileNetV1Config(
        image_size=32, depth_multiplier=0.25, hidden_size=256, tf_padding=False, hidden_act="relu"
    )
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=32,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    config = VisionTextDualEncoderConfig.from_vision_text_configs(vision, text, projection_dim=8)
    VisionTextDualEncoderModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_preparation(folder, 32)
    return folder


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    """A ViT of DINO's class, random and small, with the configuration file of the real one."""
    import torch
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dino")
    config = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=32, patch_size=16,
    )  # fmt: skip
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"do_resize": True, "size": 32, "resample": 3, "do_normalize": True,
                    "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]})
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def lpips_file(tmp_path_factory):
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = make_lpips_network((4, 6, 8, 6, 6))
    for name, weight in network.named_parameters():
        if name.startswith("lin"):
            weight.data.abs_()  # as LPIPS is trained: a distance has no negative parts
    path = tmp_path_factory.mktemp("lpips") / "alexnet.safetensors"
    save_file(network.state_dict(), path)
    return path


def write_preparation(folder, side: int) -> None:
    card = {
        "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side}, "do_center_crop": True, "resample": 3,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": card}))


# --- preparation --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 64), (90, 61), (33, 128), (300, 200)])
def test_pictures_are_prepared_as_transformers_does_it(size):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = PACKAGE / "pocket" / "scorer"
    images = noise(2, size)
    theirs = CLIPImageProcessorPil.from_pretrained(folder)(images, return_tensors="np")
    ours = Preparation.read(folder)(images).numpy()
    assert np.abs(ours - theirs["pixel_values"]).max() < 1e-5


def test_dino_resizes_the_whole_picture_without_a_crop(dino):
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    images = noise(2, (50, 90))
    theirs = ViTImageProcessorPil.from_pretrained(dino)(images, return_tensors="np")
    assert np.abs(Preparation.read(dino)(images).numpy() - theirs["pixel_values"]).max() < 1e-5


def test_a_folder_that_does_not_say_how_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"processor_config\.json"):
        Preparation.read(tmp_path)


# --- networks -----------------------------------------------------------------------------------


def shipped(drive):
    return load_clip(str(PACKAGE / "pocket" / "scorer"), drive)


@pytest.mark.parametrize("which", ["shipped", "dual"])
def test_clip_gives_unit_vectors_of_pictures_and_texts(which, dual, drive):
    scorer = shipped(drive) if which == "shipped" else load_clip(str(dual), drive)
    seen, read = scorer.images(noise()), scorer.texts(["a cat", "a red car on a blue background"])
    assert seen.shape[1] == read.shape[1]
    assert np.allclose(np.linalg.norm(seen, axis=1), 1)
    assert np.allclose(np.linalg.norm(read, axis=1), 1)


def test_clip_agrees_with_the_networks_own_logits(drive):
    import torch

    scorer = shipped(drive)
    images, texts = noise(), ["a cat", "a red car"]
    tokens = scorer.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = scorer.network(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            pixel_values=scorer.prepare(images),
        ).logits_per_image
    ours = scorer.images(images) @ scorer.texts(texts).T
    assert np.allclose(ours, logits.numpy() / scorer.network.logit_scale.exp().item(), atol=1e-5)


def test_a_batch_gives_what_each_picture_gives_alone(dual, drive, monkeypatch):
    scorer, images = load_clip(str(dual), drive), noise(5)
    together = scorer.images(images)
    monkeypatch.setattr("s2i_lib.models.encoders.BATCH", 2)
    assert np.allclose(scorer.images(images), together, atol=1e-6)


def test_the_shipped_scorer_tells_colours_apart(drive):
    scorer = shipped(drive)
    plain = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    texts = scorer.texts(["a cat on a red background", "a cat on a blue background"])
    table = scorer.images(plain) @ texts.T
    assert table[0, 0] > table[0, 1]
    assert table[1, 1] > table[1, 0]


def test_dino_gives_unit_vectors_and_equal_pictures_agree(dino, drive):
    scorer = load_dino(str(dino), drive)
    [one, other] = noise(2)
    seen = scorer.images([one, other, one])
    assert seen.shape == (3, 24)
    assert np.allclose(np.linalg.norm(seen, axis=1), 1)
    assert seen[0] @ seen[2] == pytest.approx(1)
    assert seen[0] @ seen[1] < 0.9999


def test_lpips_is_a_distance(lpips_file, drive):
    scorer = load_lpips(str(lpips_file), drive)
    [one, other] = noise(2, (100, 100))
    mixed = Image.blend(one, other, 0.2)
    table = scorer.distances([one, other, mixed, one])
    assert np.allclose(table, table.T)
    assert table[0, 3] == np.diag(table).max() == 0
    assert 0 < table[0, 2] < table[0, 1]


def test_lpips_by_hand_with_one_channel_networks():
    """Every map has one channel, so each is 1 or 0 everywhere after it is made of length 1."""
    import torch

    network = make_lpips_network((1,) * 5)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.fill_(1.0 if "weight" in name else 0.0)
        bright = network.features(torch.ones(1, 3, 64, 64))
        dark = network.features(-torch.ones(1, 3, 64, 64))  # below 0 after the first layer
        assert float(network.distance(bright, dark)) == pytest.approx(5.0)
        assert float(network.distance(bright, bright)) == 0


def test_the_real_lpips_has_the_number_of_weights_that_is_published():
    """9.88 MB in fp32 on the hub: AlexNet's five convolutions and 1152 linear weights."""
    count = sum(weight.numel() for weight in make_lpips_network().parameters())
    assert count == 2_469_696 + 1152


# --- loading ------------------------------------------------------------------------------------


def test_a_network_that_is_nowhere_names_every_place(drive):
    with pytest.raises(S2iError) as error:
        find_network("facebook/dino-vits16", drive)
    assert "facebook/dino-vits16" in str(error.value)
    assert str(drive.models) in str(error.value)
    assert str(error.value).count("facebook/dino-vits16: ") == 1  # on the hub


def test_a_copy_on_the_drive_is_taken_and_a_damaged_one_is_not(dual, drive):
    from s2i_lib.storage.hub import write_checksums

    kept = drive.models / "some-dual"
    shutil.copytree(dual, kept)
    write_checksums(kept, "some/dual@0")
    assert load_clip("some/dual", drive).images(noise()).shape == (3, 8)
    weights = kept / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(S2iError, match="damaged or half copied"):
        load_clip("some/dual", drive)


def test_cut_off_weights_are_one_sentence(dual, tmp_path, drive):
    folder = shutil.copytree(dual, tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        load_clip(str(folder), drive)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "{"),
        ("config.json", '{"model_type": "no-such-thing"}'),
        ("config.json", '{"model_type": "clip", "text_config": 3}'),
        ("processor_config.json", '{"image_processor": '),
        ("processor_config.json", '{"image_processor": {"size": 32, "image_mean": 1}}'),
        ("tokenizer.json", "[]"),
    ],
)
def test_a_folder_with_an_odd_file_is_one_paragraph(name, text, dual, tmp_path, drive):
    folder = shutil.copytree(dual, tmp_path / "odd")
    (folder / name).write_text(text)
    with pytest.raises(InputError, match="odd"):
        load_clip(str(folder), drive)


def test_weights_that_are_not_all_there_are_not_made_up(dual, tmp_path, drive):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(dual, tmp_path / "part")
    tensors = load_file(folder / "model.safetensors")
    assert tensors.pop("visual_projection.weight") is not None
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lack 1 of the \d+ .*visual_projection\.weight"):
        load_clip(str(folder), drive)


def test_pictures_of_another_size_than_the_network_sees_are_found_when_it_is_loaded(
    dino, tmp_path, drive
):
    folder = shutil.copytree(dino, tmp_path / "larger")
    card = json.loads((folder / "preprocessor_config.json").read_text()) | {"size": 64}
    (folder / "preprocessor_config.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match="larger cannot be loaded"):
        load_dino(str(folder), drive)


def test_an_lpips_that_was_copied_to_where_the_error_says_is_taken(lpips_file, drive):
    source = "nobody/metrics:LPIPS/alexnet.safetensors"
    with pytest.raises(S2iError) as error:
        load_lpips(source, drive)
    folder = drive.models / "nobody-metrics"
    assert f"copy it to {folder} (with LPIPS/alexnet.safetensors)" in str(error.value)
    (folder / "LPIPS").mkdir(parents=True)
    shutil.copy(lpips_file, folder / "LPIPS")
    assert load_lpips(source, drive).sha256 == sha256_of(lpips_file)


def test_a_folder_of_stable_diffusion_is_measured_by_the_same_networks(tmp_path):
    from tiny_model import make_pipeline

    from s2i_lib.models.registry import choose

    make_pipeline().save_pretrained(tmp_path / "brought")
    for file, key, value in (
        ("unet/config.json", "sample_size", 512),
        ("vae/config.json", "block_out_channels", [8]),
    ):
        card = json.loads((tmp_path / "brought" / file).read_text())
        (tmp_path / "brought" / file).write_text(json.dumps(card | {key: value}))
    found, known = choose(str(tmp_path / "brought")), REGISTRY["sd2.1-base"]
    assert (found.scorer, found.dino, found.lpips) == (known.scorer, known.dino, known.lpips)
    assert None not in (found.scorer, found.dino, found.lpips)


def test_a_network_goes_on_on_the_cpu_where_the_gpu_is_full(dual, drive, monkeypatch, caplog):
    """No GPU here that could be filled: the first of two batches finds no memory."""
    import torch

    scorer, images = load_clip(str(dual), drive), noise(3)
    expected, asked = scorer.images(images), []
    see = scorer.network.get_image_features

    def full_once(**named):
        asked.append(named)
        if len(asked) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return see(**named)

    monkeypatch.setattr(scorer.network, "get_image_features", full_once)
    assert np.array_equal(scorer.images(images), expected)
    assert "The GPU is full" in caplog.text


def test_a_file_that_is_no_lpips_says_so(dual, drive):
    with pytest.raises(InputError, match="0 convolutions"):
        load_lpips(str(dual / "model.safetensors"), drive)


def test_a_network_of_the_wrong_kind_is_named(dino, dual, drive):
    with pytest.raises(InputError, match="ViTModel, which cannot compare"):
        load_clip(str(dino), drive)
    with pytest.raises(InputError, match="Expected a vision transformer"):
        load_dino(str(dual), drive)


def test_what_cannot_be_had_does_not_stop_the_others(lpips_file, drive):
    scorers = load_scorers(REGISTRY["pocket"], drive, dino="nobody/nothing", lpips=str(lpips_file))
    assert scorers.clip is not None
    assert scorers.lpips is not None
    assert scorers.dino is None
    assert "nobody/nothing" in scorers.missing["dino"]

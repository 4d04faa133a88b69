"""Classroom mode: the list of words, and diffusers' own safety checker with small weights."""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from s2i_lib.classroom import WORDS, Checker, Classroom, find_word, read_words
from s2i_lib.drive import folder_name
from s2i_lib.errors import InputError, S2iError
from s2i_lib.generate import DrawOptions, draw
from s2i_lib.models import REGISTRY, SAFETY_CHECKER, known_words
from s2i_lib.prompt import Prompt
from s2i_lib.speech import Transcript

SIDE = 32
RED, BLUE = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")
LIST = read_words(WORDS)


@pytest.fixture(scope="module")
def checker(tmp_path_factory):
    """A folder as CompVis's, of the real class, with random weights; it flags what is red."""
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig

    from s2i_lib.scorer import Preparation

    folder = tmp_path_factory.mktemp("checker")
    prepare = {
        "crop_size": SIDE, "size": SIDE, "do_center_crop": True, "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(prepare))
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    vision = CLIPVisionConfig(**small, num_attention_heads=2, image_size=SIDE, patch_size=16)
    text = CLIPTextConfig(**small, num_attention_heads=2, vocab_size=32)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = StableDiffusionSafetyChecker(
            CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)
        ).eval()
        torch.nn.init.normal_(network.visual_projection.weight)
        pooled = network.vision_model(Preparation.read(folder)([RED, BLUE])).pooler_output
        red, blue = torch.nn.functional.normalize(network.visual_projection(pooled))
        network.concept_embeds[0] = red
        network.concept_embeds_weights.fill_(2)  # a cosine never gets there
        network.special_care_embeds_weights.fill_(2)
        network.concept_embeds_weights[0] = (1 + red @ blue) / 2
    network.save_pretrained(folder)
    return folder


def put_on_drive(checker, drive):
    return shutil.copytree(checker, drive.models / folder_name(SAFETY_CHECKER))


@given(
    word=st.sampled_from(sorted(LIST)),
    dress=st.sampled_from([str.lower, str.upper, str.title, lambda w: "\u200b".join(w)]),
    before=st.sampled_from(["", "a photo of a ", "(", "“", "blue-"]),
    after=st.sampled_from(["", "s", "'s", ", please", "!", "-like dog"]),
)
def test_words_of_the_list_are_found_in_any_dress(word, dress, before, after):
    assert find_word(before + dress(word) + after, LIST) in {word, word + "s"}


def test_plurals_are_found_and_longer_words_are_not():
    assert find_word("two bodies and boxes", frozenset({"body"})) == "bodies"
    assert find_word("two bodies and boxes", frozenset({"box"})) == "boxes"
    for harmless in ("Essex and Sussex", "a grape", "bloodhound", "method", "skill", "Penistone"):
        assert find_word(harmless, LIST) is None, harmless


def test_nothing_that_pocket_knows_is_refused():
    words = known_words(REGISTRY["pocket"])
    known = [*words["nouns"], *words["plurals"].values(), *words["colours"], *words["other"]]
    assert [word for word in known if find_word(word, LIST)] == []


def test_transcript_is_held_against_the_list_too(drive):
    heard = Transcript("ein Bild mit blood", "de", 0.9, "a red picture", (), "e", "m", 1.0, 1.0)
    with pytest.raises(InputError, match="“blood” is on the list") as caught:
        Classroom(drive).check_prompt(Prompt("a red picture", transcript=heard))
    assert str(WORDS) in str(caught.value) and str(caught.value).count(". ") == 0


def test_list_on_the_drive_takes_the_place_of_ours(drive):
    drive.root.mkdir()
    drive.classroom_words.write_text("\ufeff# ours\nHomework  # no, please\n\n")
    classroom = Classroom(drive)
    classroom.check("a nude")
    with pytest.raises(InputError, match="“homework” is on the list"):
        classroom.check("my HOMEWORK")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"two words\n", "Line 1 .* is 'two words'"), (b"\xff\xfe\x00", "cannot be read")],
)
def test_list_that_cannot_be_used_is_refused_at_once(drive, content, message):
    drive.root.mkdir()
    drive.classroom_words.write_bytes(content)
    with pytest.raises(InputError, match=message):
        Classroom(drive)


def test_checker_flags_what_it_was_made_to_flag(checker, drive):
    assert Checker(str(checker), drive).find_unfit([BLUE, RED, BLUE]) == [False, True, False]


def test_flagged_pictures_are_held_back_and_said(checker, drive, pocket, caplog, monkeypatch):
    put_on_drive(checker, drive)
    classroom = Classroom(drive)
    assert classroom.describe(pocket).endswith("and pictures are checked.")
    monkeypatch.setattr("s2i_lib.generate.decode", lambda model, latents: [BLUE, RED])
    [left] = draw(pocket, "a car", DrawOptions(steps=1, count=2, seed=5), classroom=classroom)
    assert left.image is BLUE and left.record["seed"] == 5
    assert "held 1 of 2 pictures back" in caplog.text
    monkeypatch.setattr("s2i_lib.generate.decode", lambda model, latents: [RED])
    with pytest.raises(InputError, match="held the picture back as not fit"):
        draw(pocket, "a car", DrawOptions(steps=1), classroom=classroom)


def test_without_a_checker_it_is_said_once_and_words_are_still_refused(drive, pocket, caplog):
    classroom = Classroom(drive)
    for seed in (1, 2):
        assert len(draw(pocket, "a car", DrawOptions(steps=1, seed=seed), classroom=classroom)) == 1
    assert caplog.text.count("words are checked, but not pictures") == 1
    assert "pictures are not checked: pocket was trained" in classroom.describe(pocket)
    with pytest.raises(InputError, match="“naked”"):
        draw(pocket, "a naked cat", DrawOptions(steps=1), classroom=classroom)


def test_hub_that_cannot_be_reached_is_a_reason_and_no_failure(drive, pocket, caplog):
    from dataclasses import replace

    like_sd = replace(pocket, base=replace(pocket.base, safety_checker=SAFETY_CHECKER))
    classroom = Classroom(drive)
    assert classroom.find_unfit(like_sd, [RED]) == [False]
    assert f"The network {SAFETY_CHECKER}" in caplog.text and "Tried:" in caplog.text


def test_damaged_checker_is_a_reason_and_no_failure(checker, drive, pocket, caplog):
    folder = put_on_drive(checker, drive)
    (folder / "model.safetensors").write_bytes(b"half a file")
    classroom = Classroom(drive)
    assert classroom.find_unfit(pocket, [RED]) == [False]
    assert "cannot be loaded" in caplog.text


def test_pictures_prepared_in_the_wrong_size_are_refused(checker, tmp_path, drive):
    folder = shutil.copytree(checker, tmp_path / "copy")
    path = folder / "preprocessor_config.json"
    path.write_text(path.read_text().replace(f'"crop_size": {SIDE}', '"crop_size": 24'))
    with pytest.raises(S2iError, match="24 px for a network that sees 32 px"):
        Checker(str(folder), drive)

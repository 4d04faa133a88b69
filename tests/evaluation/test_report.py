"""The page and the JSON: of hand-made evaluations, so that what they show is known."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from s2i_lib.errors import InputError
from s2i_lib.evaluation.dreambench import EvaluateOptions
from s2i_lib.evaluation.evaluate import Evaluation, PictureScore
from s2i_lib.evaluation.metrics import Score
from s2i_lib.evaluation.model_selection import Point
from s2i_lib.evaluation.report import (
    _mark_of,
    draw_curve,
    draw_scores,
    render_page,
    smooth,
    write_report,
)
from s2i_lib.evaluation.runs import read_curve
from s2i_lib.photos.subject import Subject

SMALL = EvaluateOptions(prompts=2, seeds=2, class_pictures=2)


def evaluation(name="rex/one", **changes) -> Evaluation:
    """Two prompts with two pictures each; the second prompt went worse, its last one is a copy."""
    pictures = [
        PictureScore("a sks dog in the snow", 0, clip_i=0.8, clip_t=0.3),
        PictureScore("a sks dog in the snow", 1, clip_i=0.7, clip_t=0.3),
        PictureScore("a red sks dog", 0, clip_i=0.4, clip_t=0.1, nearest_photo=0),
        PictureScore("a red sks dog", 1, clip_i=0.9, clip_t=0.1, nearest_photo=1, is_copy=True),
    ]
    settings = {
        "name": name,
        "subject": Subject("Rex", "dog"),
        "base": "pocket",
        "source": "the package",
        "options": SMALL,
        "scores": {"clip_i": Score(0.7, 0.6, 0.8, 4), "clip_t": Score(0.2, 0.1, 0.3, 4)},
        "pictures": pictures,
        "scorers": {"clip": {"name": "some/clip", "sha256": "0" * 64}},
        "notes": ["Not scored by DINO: it could not be had."],
        "photos": [{"name": name, "sha256": "0" * 64} for name in ("one.png", "two <b>.png")],
        "images": [Image.new("RGB", (64, 64), c) for c in ("red", "blue", "green", "gray")],
        "class_images": [Image.new("RGB", (64, 64))] * 2,
        "real_images": [Image.new("RGB", (400, 400), "pink")] * 2,
    }
    return Evaluation(**settings | changes)


@pytest.mark.slow
def test_page_and_numbers_are_written_and_nothing_is_written_over(tmp_path):
    first = write_report([evaluation()], tmp_path / "made")
    second = write_report([evaluation()], tmp_path / "made")
    assert len({*first, *second}) == 4
    data = json.loads(first[1].read_text())
    assert data["runs"][0]["scores"]["clip_i"] == {"mean": 0.7, "low": 0.6, "high": 0.8, "n": 4}
    assert [run["name"] for run in data["runs"]] == ["rex/one"]


def test_the_worst_prompt_comes_first():
    page = render_page([evaluation()], "now")
    grid = page[page.index("worst prompt first") :]
    assert grid.index("a red sks dog") < grid.index("a sks dog in the snow")


def test_a_copy_is_said_with_the_photo_it_is_of():
    page = render_page([evaluation()], "now")
    assert page.count("copy of photo") == 1
    assert "copy of photo 2?" in page


def test_pictures_of_a_subject_called_as_its_model_are_marked_as_tuned():
    made = evaluation("pocket-watch/pocket-01")
    plain = evaluation("pocket, not fine-tuned")
    assert [_mark_of(one).model for one in (made, plain)] == ["pocket, fine-tuned", "pocket"]


def test_several_runs_lie_side_by_side():
    other = evaluation("rex/two", scores={"clip_i": Score(0.5, 0.4, 0.6, 4)})
    page = render_page([evaluation(), other], "now")
    table = page[page.index("<table>") : page.index("</table>")]
    assert table.count('scope="col"') == 4
    assert "0.700 (0.600 to 0.800)" in table
    assert "0.500 (0.400 to 0.600)" in table
    assert table.count("not scored") == 1


def test_a_page_without_any_score_still_shows_the_pictures():
    page = render_page([evaluation(scores={}, scorers={})], "now")
    assert "none available" in page
    assert page.count('alt="a red sks dog') == 2


def test_the_page_needs_nothing_from_elsewhere_and_shows_names_as_they_are():
    page = render_page([evaluation()], "now")
    mark = r'<meta name="digitalSourceType"\s+content="http[^"]*">'  # a name, which is not fetched
    assert "http" not in re.sub(mark, "", page).replace("http-equiv", "").split("<details>")[0]
    assert "two &lt;b&gt;.png" in page


def test_speech_is_shown_clip_by_clip():
    speech = {
        "word_error_rate": Score(0.125, 0.0, 0.25, 4),
        "name_recall": Score(0.9, 0.8, 1.0, 4),
        "r_precision": Score(0.75, 0.5, 1.0, 8),
        "r_precision_captions": 4,
        "speech_gap": Score(-0.02, -0.03, -0.01, 4),
        "clips": [{"clip": "a.wav", "said": "a red dog", "heard": "a rad dog",
                   "spoken_prompt": "a rad dog", "spoken_negative": "hat"}],
    }  # fmt: skip
    result = evaluation(speech=speech)
    page = render_page([result], "now")
    assert "Word error rate 0.125 (0.000 to 0.250)" in page
    assert "names 0.900 (0.800 to 1.000)" in page
    assert "0.750 (0.500 to 1.000), each among 4 captions: 1 in 4 by chance" in page
    assert "a rad dog" in page and "without: hat" in page
    assert result.to_json()["speech"]["speech_gap"]["mean"] == -0.02


def test_figures_show_every_run_and_every_curve():
    figure = draw_scores([evaluation(), evaluation("rex/two")])
    [axes] = figure.axes
    assert [c.get_label() for c in axes.containers] == ["rex/one", "rex/two"]
    lines = [{"step": i, "instance_loss": 1 / (i + 1)} for i in range(30)]
    scores = {"likeness": 0.5, "fidelity": 0.3, "prior_drift": 0.1}
    lines += [{"step": s, **scores, "is_best": s == 9} for s in (0, 9)]
    top, bottom = draw_curve(lines).axes
    assert len(top.lines) == 1
    assert {line.get_label() for line in bottom.lines} == {
        "likeness ↑", "prompt fidelity ↑", "prior drift ↓", "kept",
    }  # fmt: skip


def test_the_curve_of_training_is_in_the_numbers_and_on_the_page(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "instance_loss": 0.5}\n')
    points = [Point(0, 0.1, 0.3, 0.5), Point(9, 0.8, 0.3, 0.6), Point(18, 0.9, 0.1, 0.5)]
    lines = [json.dumps(point.to_json()) + "\n" for point in points]
    (tmp_path / "scores.jsonl").write_text("".join(lines))
    loss, _, best, last = read_curve(tmp_path)
    assert loss == {"step": 1, "instance_loss": 0.5}
    assert best["prior_drift"] == pytest.approx(0.2)
    assert (best["is_best"], last["is_best"]) == (True, False)
    kept_last = read_curve(tmp_path, kept_step=18)
    assert [line.get("is_best") for line in kept_last] == [None, False, False, True]
    result = evaluation(curve=kept_last)
    assert result.to_json()["curve"] == kept_last
    assert "While it was trained" in render_page([result], "now")


@pytest.mark.parametrize(
    "odd",
    [
        {"step": 9, "likeness": "x", "fidelity": 0.3, "class_likeness": 0.5},
        {"step": True, "likeness": 0.1, "fidelity": 0.3, "class_likeness": 0.5},
        {"step": 9, "likeness": [0.1]},
        {"step": 9, "instance_loss": "0.5"},
        {"step": 9, "instance_loss": None},
        {"step": "9", "instance_loss": 0.5},
        {"likeness": 0.5},
    ],
    ids=str,
)
def test_an_odd_line_of_a_run_leaves_the_others_on_the_curve(tmp_path, odd):
    whole = Point(0, 0.1, 0.3, 0.5).to_json()
    (tmp_path / "scores.jsonl").write_text(f"{json.dumps(whole)}\n{json.dumps(odd)}\n")
    (tmp_path / "metrics.jsonl").write_text(f"{json.dumps(odd)}\n")
    curve = read_curve(tmp_path)
    assert [line["likeness"] for line in curve if "value" in line] == [0.1]
    assert draw_curve(curve).axes


def test_smoothing_keeps_a_constant_and_the_mean_of_a_window():
    assert np.allclose(smooth(np.ones(50)), 1)
    assert smooth(np.arange(100.0), share=0.1)[50] == pytest.approx(50)


def test_nothing_to_report_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no evaluation"):
        write_report([], tmp_path)


def test_a_score_without_an_interval_is_drawn_as_a_point_and_its_json_is_json():
    one = evaluation(
        scores={"clip_i": Score(0.7, None, None, 1), "clip_t": Score(0.2, 0.1, 0.3, 4)}
    )
    [bars] = draw_scores([one]).axes[0].containers
    [lines] = bars.lines[2]
    drawn = [np.isfinite(line).all() for line in lines.get_segments() if len(line)]
    assert drawn.count(True) == 1
    page = render_page([one], "now")
    assert "0.700 (of one: no interval)" in page
    assert json.loads(json.dumps(one.to_json(), allow_nan=False))["scores"]["clip_i"]["low"] is None

"""Which run a name means, of several that a subject has."""

import json
import os
import pickle
import subprocess
import sys

import pytest

from s2i_lib.errors import InputError
from s2i_lib.evaluation.model_selection import Point, value
from s2i_lib.storage.run_card import find_run, read_card
from s2i_lib.training.run import list_runs


def write_run(drive, name: str, base: str, made_at: float, scores: dict) -> None:
    folder = drive.runs / "rex" / name
    (folder / "weights").mkdir(parents=True)
    card = folder / "run.json"
    card.write_text(json.dumps({"status": "finished", "base": {"name": base}, "scores": scores}))
    os.utime(card, (made_at, made_at))


def test_the_best_run_of_a_subject_is_chosen_by_the_rule_that_chose_its_step(drive):
    first = Point(0, 0.5, 0.3, 0.5)
    overfit, good = Point(9, 0.9, 0.15, 0.8), Point(9, 0.8, 0.28, 0.5)
    for number, (name, point) in enumerate({"overfit": overfit, "good": good}.items()):
        scores = point.to_json() | {"value": value(point, first)}
        known = {name: score for name, score in scores.items() if score is not None}  # as written
        write_run(drive, name, "pocket", 10 + number, known)
    os.utime(drive.runs / "rex" / "overfit" / "run.json", (20, 20))
    assert find_run(drive, "Rex").name == "good"
    write_run(drive, "unscored", "pocket", 30, {})
    assert find_run(drive, "Rex").name == "good"


def test_scores_of_another_base_do_not_count_beside_those_of_the_newest_run(drive):
    write_run(drive, "small", "pocket", 10, {"value": 0.9})
    write_run(drive, "older", "sd2.1-base", 20, {})
    write_run(drive, "newer", "sd2.1-base", 30, {})
    assert find_run(drive, "Rex").name == "newer"


@pytest.mark.slow
@pytest.mark.parametrize(
    "card",
    ["[]", "{", '{"step": null, "scores": null}', '{"step": "x", "scores": {"value": null}}',
     '{"status": null, "scores": [1]}', "\x00\xff"],
)  # fmt: skip
def test_one_damaged_run_of_many_hides_none_of_the_others(drive, card):
    for name, text in (("a", card), ("b", '{"step": 5, "scores": {"value": 0.5}}')):
        folder = drive.runs / "rex" / name
        (folder / "weights").mkdir(parents=True)
        (folder / "run.json").write_bytes(text.encode("latin-1"))
    damaged, whole = list_runs(drive)
    assert (whole.step, whole.scores) == (5, {"value": 0.5})
    assert damaged.step == 0 and damaged.scores == {}
    ended = subprocess.run(
        [sys.executable, "-m", "s2i_lib", "runs", "--drive", str(drive.root)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "rex/a" in ended.stdout and "rex/b" in ended.stdout


@pytest.mark.parametrize("is_sent", [False, True])
def test_a_field_that_a_card_lacks_is_named_with_its_file(drive, is_sent):
    write_run(drive, "a", "pocket", 10, {})
    card = read_card(drive.runs / "rex" / "a")
    if is_sent:  # to the other processes of a run
        card = pickle.loads(pickle.dumps(card))
    assert card["base"]["name"] == "pocket" and card.get("step") is None
    for read in (lambda: card["options"]["lora_alpha"], lambda: card["base"]["fingerprint"]):
        with pytest.raises(InputError, match=r"a/run.json does not say '(options|fingerprint)'"):
            read()

"""Which run a name means, of several that a subject has."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from s2i_lib.errors import InputError
from s2i_lib.evaluation.model_selection import Point, value
from s2i_lib.evaluation.runs import evaluate_run
from s2i_lib.models import loading
from s2i_lib.models.export import export
from s2i_lib.storage.run_card import (
    EDITIONS,
    LORA,
    RUN_CARD,
    best_run,
    find_run,
    finished_runs,
    fits,
    newest_run,
    outdated_runs,
    read_card,
)
from s2i_lib.training.run import delete_runs, list_runs, prunable
from s2i_lib.widgets.studio.controls import list_models


def write_run(
    drive, name: str, base: str, made_at: float, scores: dict, edition: int | None = None
) -> Path:
    """A finished run of Rex; of the edition that ships, unless another is named."""
    folder = drive.runs / "rex" / name
    (folder / "weights").mkdir(parents=True)
    made_from = {"name": base, "edition": edition or EDITIONS.get(base, 1)}
    card = folder / RUN_CARD
    card.write_text(json.dumps({"status": "finished", "base": made_from, "scores": scores}))
    os.utime(card, (made_at, made_at))
    return folder


def write_old_run(drive, name: str = "old", made_at: float = 50) -> Path:
    """A run that scored best and is the newest, of the model that was called pocket before."""
    folder = write_run(drive, name, "pocket", made_at, {"value": 0.99})
    card = json.loads((folder / RUN_CARD).read_text()) | {"base": {"name": "pocket"}}
    (folder / RUN_CARD).write_text(json.dumps(card))
    os.utime(folder / RUN_CARD, (made_at, made_at))
    return folder


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


def test_a_bare_name_is_the_subjects_although_an_export_of_that_name_lies_here(
    drive, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    run = write_run(drive, "pocket-01", "pocket", 10, {})
    for name in ("rex", "luna"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").write_text("{}")
    (tmp_path / "Rex").write_bytes(b"a file, where capitals count")
    assert find_run(drive, "rex") == find_run(drive, "Rex") == run
    assert find_run(drive, "./rex") == Path("rex") == find_run(drive, "rex/")
    assert find_run(drive, "luna") == Path("luna"), "of no subject on the Drive"


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


# --- runs of a base model whose weights were replaced --------------------------------------------


def test_a_run_fits_the_edition_that_it_was_made_from():
    assert fits({"base": {"name": "pocket", "edition": EDITIONS["pocket"]}})
    for base in ({"name": "pocket"}, {"name": "pocket", "edition": EDITIONS["pocket"] + 1}):
        assert not fits({"base": base})
    for other in ({}, {"base": {}}, {"base": {"name": "sd2.1-base"}}):
        assert fits(other), "bases that were not replaced"


def test_a_run_of_another_edition_is_never_chosen_by_itself(drive):
    write_old_run(drive)
    new = write_run(drive, "new", "pocket", 10, {"value": 0.1})
    runs = finished_runs(drive)
    assert runs == [new] == [best_run(runs, "rex", "pocket")]
    assert newest_run(runs, "pocket") == find_run(drive, "Rex") == new
    assert outdated_runs(drive, "rex") == [drive.runs / "rex" / "old"]
    assert outdated_runs(drive, "mia") == []
    menu = list_models(drive, "auto")
    assert "rex/new" in menu and "rex/old" not in menu


OLD = (
    "The run rex/old was trained on the 64 px pocket model of an earlier version; this version "
    f"has another pocket model (edition {EDITIONS['pocket']}) and needs a run of that one. "
    "Nothing else is affected: photos and pictures stay as they are. Train rex again from its "
    "photos with notebooks/2_finetune_dreambooth.ipynb or `python -m s2i_lib finetune --subject "
    '"rex"`.'
)


@pytest.mark.parametrize(
    "named",
    ["Rex", "rex/old", "path", "weights", f"weights/{LORA}", "export/rex-old",
     "export/rex-old.safetensors"],
)  # fmt: skip
def test_a_run_of_another_edition_is_refused_in_one_paragraph_by_whatever_name(drive, named):
    folder = write_old_run(drive)
    exported = folder / "export" / "rex-old"
    exported.mkdir(parents=True)
    for file in (folder / "weights" / LORA, exported / "model_index.json",
                 folder / "export" / "rex-old.safetensors"):  # fmt: skip
        file.write_text("{}")
    run = named if named in ("Rex", "rex/old") else str(folder / ("" if named == "path" else named))
    with pytest.raises(InputError) as refused:
        find_run(drive, run)
    assert str(refused.value) == OLD


def test_an_export_that_was_taken_elsewhere_is_known_by_the_card_in_it(drive, tmp_path):
    exported = tmp_path / "shared" / "rex"
    exported.mkdir(parents=True)
    (write_old_run(drive) / RUN_CARD).rename(exported / RUN_CARD)
    (exported / "model_index.json").write_text("{}")
    with pytest.raises(InputError, match="The run shared/rex was trained on the 64 px pocket"):
        find_run(drive, str(exported))


def test_the_card_of_a_file_of_weights_is_looked_for_beside_it_and_nothing_is_warned_of(
    drive, caplog
):
    """Of a file there is no FILE/run.json; that it cannot be read is nothing to tell."""
    weights = write_run(drive, "new", "pocket", 10, {}) / "weights" / LORA
    weights.write_text("{}")
    assert find_run(drive, str(weights)) == weights
    assert caplog.messages == []


def test_no_door_lets_a_run_of_another_edition_in(drive):
    write_old_run(drive)
    for door in (
        lambda: loading.load(drive=drive, run="rex/old"),
        lambda: evaluate_run(drive, "rex/old"),
        lambda: evaluate_run(drive, "rex/old", is_base=True),
        lambda: export(drive, "rex/old", "lora"),
    ):
        with pytest.raises(InputError, match="64 px pocket model of an earlier version"):
            door()


def test_a_run_of_another_edition_is_listed_and_can_be_deleted(drive):
    folder, new = write_old_run(drive), write_run(drive, "new", "pocket", 10, {})
    (folder / "state-00000004").mkdir()
    (folder / "state-00000004" / "trained.safetensors").write_bytes(bytes(9))
    listed = {run.name: run for run in list_runs(drive)}
    assert listed["rex/old"].outdated == "the 64 px pocket model of an earlier version"
    assert listed["rex/new"].outdated == ""
    [(_, meaning)] = prunable(list(listed.values()))
    assert meaning.startswith("rex/old is of the 64 px pocket model of an earlier version, so ")
    delete_runs(drive, [listed["rex/old"]])
    assert not folder.exists() and new.exists()

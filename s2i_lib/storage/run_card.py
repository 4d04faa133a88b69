"""Find a fine-tuned run, and read its card, run.json."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from s2i_lib.errors import InputError
from s2i_lib.storage.disk import list_matching
from s2i_lib.storage.json_file import NUMBER, TEXT_OR_NONE, read_json
from s2i_lib.storage.layout import Drive

# In a run's folder:
RUN_CARD = "run.json"  # options, base model, scores
WEIGHTS = "weights"  # what was trained, in fp16
STEP = "step.json"  # beside weights: the step that they are of, and their SHA-256
LORA = "pytorch_lora_weights.safetensors"

# Editions of base models whose weights were replaced by others under the same name. What a run
# learned goes with the edition that it was made from; a card that does not say is of the first.
EDITIONS = {"pocket": 2}
_NAMES = {("pocket", 1): "the 64 px pocket model of an earlier version"}

CARD_SHAPE = {
    "status": str,
    "step": int,
    "subject": {"name": str, "class_noun": str, "identifier": str, "kind": str, "spellings": [str]},
    "instance_prompt": str,
    "class_prompt": TEXT_OR_NONE,
    "class_images": TEXT_OR_NONE,
    "dataset": {"sha256": str, "images": int},
    "base": {"name": str, "edition": int, "source": str, "fingerprint": str, "licence": str},
    "options": dict,
    "wanted": dict,
    "scores": {"*": NUMBER},
    "versions": {"*": TEXT_OR_NONE},
    "kept_step": int,
    "best_step": int,
    "keeps_state": (bool, int),
}


def find_run(drive: Drive, run: str, instead: Collection[str] = ()) -> Path:
    """Return the folder of a fine-tuned run: a path, or SUBJECT/RUN or SUBJECT on the Drive.

    A path may also be a file or a folder of weights from elsewhere. A bare name is first of all a
    subject's: what lies in the working folder under that name is an older export of it, perhaps. Of
    a subject with several runs it is the one that scored best while it was trained, by the rule
    that chose its best step (`s2i_lib.evaluation.model_selection`), else the newest. Scorers of two
    base models cannot be compared: only runs of the newest one's base count. ``instead`` are the
    models that may be named in place of a run.

    Raises
    ------
    InputError
        When there is none; the runs on the Drive are listed.
    EditionError
        When it was made from another edition of its base model than this version's.
    """
    is_bare = run == Path(run).name
    if is_bare and (own := _run_of(drive, run)):
        return own
    if Path(run).is_file():
        return _check_path(Path(run))
    for folder in (Path(run), drive.runs / run):
        if any((folder / name).is_file() for name in (RUN_CARD, "model_index.json", LORA)):
            return _check_path(folder)
    if not is_bare and (own := _run_of(drive, run)):
        return own
    known = [folder.relative_to(drive.runs).as_posix() for folder in finished_runs(drive)]
    names = ", ".join(sorted(known))
    raise InputError(
        f"There is no run {run!r}: neither a folder of weights nor a run in {drive.runs} "
        f"(known: {names or 'none yet'}). Fine-tune one with "
        "notebooks/2_finetune_dreambooth.ipynb or `python -m s2i_lib finetune`, or draw without "
        f"one: MODEL, or --model and no --run, may be {', '.join(instead) or 'auto'}."
    )


def _run_of(drive: Drive, name: str) -> Path | None:
    """The best run of the subject of that name; EditionError where all of its are outdated."""
    if not any(map(str.isalnum, name)):
        return None
    subject = drive.subject(name).name
    if own := best_run(finished_runs(drive), subject):
        return own
    for folder in outdated_runs(drive, subject):
        check_edition(folder, read_card(folder))
    return None


def finished_runs(drive: Drive) -> list[Path]:
    """Return the folders of all runs on the Drive that have weights and a card, and can be used.

    Runs of another edition of their base model are not among them (`fits`).

    Raises
    ------
    OSError
        When the runs cannot be listed: that is not to have none.
    """
    cards = {folder: read_card(folder) for folder in _with_weights(drive)}
    return [folder for folder, card in cards.items() if card and fits(card)]


def outdated_runs(drive: Drive, subject: str) -> list[Path]:
    """Return the folders of a subject's runs that have weights and can no longer be used.

    They are of another edition of their base model (`fits`). ``subject`` is the name of its folder.
    """
    return [run for run in _with_weights(drive, subject) if not fits(read_card(run))]


def _with_weights(drive: Drive, subject: str = "[!.]*") -> list[Path]:
    # No half of one that is being deleted.
    return [path.parent for path in list_matching(drive.runs, f"{subject}/[!.]*/{WEIGHTS}")]


def fits(card: Mapping[str, Any]) -> bool:
    """Return whether a run was made from the edition of its base model that this version has."""
    name, edition = _base_of(card)
    return name not in EDITIONS or edition == EDITIONS[name]


def name_base(card: Mapping[str, Any]) -> str:
    """Return what a run was made from, in words: "the 64 px pocket model of an earlier version"."""
    name, edition = _base_of(card)
    return _NAMES.get((name, edition), f"edition {edition} of the {name} model")


class EditionError(InputError):
    """A run was made from another edition of its base model."""


def check_edition(run: Path, card: Mapping[str, Any]) -> None:
    """Check that a run was made from the edition of its base model that this version has.

    Raises
    ------
    EditionError
        When it was made from another one.
    """
    if fits(card):
        return
    name, _ = _base_of(card)
    subject = card.get("subject", {}).get("name") or run.parent.name
    raise EditionError(
        f"The run {name_run(run)} was trained on {name_base(card)}; this version has another "
        f"{name} model (edition {EDITIONS[name]}) and needs a run of that one. Nothing else is "
        f"affected: photos and pictures stay as they are. Train {subject} again from its photos "
        "with notebooks/2_finetune_dreambooth.ipynb or "
        f'`python -m s2i_lib finetune --subject "{subject}"`.'
    )


def _check_path(path: Path) -> Path:
    """The path, if the card of the run whose folder, weights or export it is does not forbid it."""
    own = [] if path.is_file() else [path.absolute()]
    for folder in (*own, *path.absolute().parents[:2]):
        if card := read_card(folder):
            check_edition(folder, card)
            break
    return path


def _base_of(card: Mapping[str, Any]) -> tuple[str, int]:
    base = card.get("base", {})
    return base.get("name", ""), base.get("edition", 1)


def best_run(runs: Iterable[Path], subject: str, base: str | None = None) -> Path | None:
    """Return the best of a subject's ``runs``, by the name of its folder; None where it has none.

    Only runs of one base model count: ``base``, or the newest one's.
    """
    own = [folder for folder in runs if folder.parent.name == subject]
    if own and base is None:
        base = _base_name(max(own, key=_made_at))
    rivals = [folder for folder in own if _base_name(folder) == base]
    return max(rivals, key=lambda folder: (_value(folder), _made_at(folder)), default=None)


def newest_run(runs: Iterable[Path], base: str) -> Path | None:
    """Return the newest of ``runs`` of a base model; None where there is none."""
    return max((run for run in runs if _base_name(run) == base), key=_made_at, default=None)


def name_run(run: Path) -> str:
    """Return SUBJECT/RUN of a run's folder."""
    return f"{run.parent.name}/{run.name}"


def _base_name(run: Path) -> str | None:
    return read_card(run).get("base", {}).get("name")


def _value(run: Path) -> float:
    return read_card(run).get("scores", {}).get("value", -1.0)


def _made_at(run: Path) -> float:
    return (run / RUN_CARD).stat().st_mtime


class MissingFieldError(InputError, KeyError):
    """A card does not say what is asked of it."""

    __str__ = Exception.__str__  # KeyError's puts quotes around


class RunCard(dict[str, Any]):
    """A run.json, or an object in it: a field that it lacks is an error that users understand."""

    path = Path(RUN_CARD)

    def __missing__(self, field: str) -> Any:
        raise MissingFieldError(
            f"{self.path} does not say {field!r}, which is needed here: it was copied in part, or "
            "written by hand. Copy the run again from where it is whole, or train a new one "
            "(--name)."
        )


def _as_card(value: Any, path: Path) -> Any:
    if not isinstance(value, dict):
        return value
    card = RunCard({field: _as_card(one, path) for field, one in value.items()})
    card.path = path
    return card


def read_card(run: Path) -> RunCard:
    """Return the run.json in a run's folder; empty if there is none that can be read.

    One with a field of another type than `CARD_SHAPE` has is odd: it is named in the log.
    """
    return _as_card(read_json(run / RUN_CARD, CARD_SHAPE), run / RUN_CARD)

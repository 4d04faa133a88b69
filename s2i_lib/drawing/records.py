"""What a picture says of how it was drawn, read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.errors import InputError
from s2i_lib.models.loading import Model
from s2i_lib.models.registry import REGISTRY
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.prompt import Prompt
from s2i_lib.speech.transcript import Transcript
from s2i_lib.storage.layout import Drive, is_folder
from s2i_lib.storage.run_card import read_card

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Picture:
    """A picture, and the record from which it can be made again."""

    image: Image
    record: dict[str, Any]


@dataclass(frozen=True)
class Chain:
    """What was said until a picture came out as it did."""

    said: str
    """The words for this picture, in English."""
    kind: str
    """"wish", or what they change (s2i_lib.speech.commands)."""
    before: Sequence[Picture] = ()
    """Pictures that they change; none for a new wish."""
    stays: str = ""
    """What of those stays (`s2i_lib.drawing.keeping`); "" where nothing is kept but the noise."""

    def write_in(self, picture: Picture, place: int) -> Picture:
        """Return a picture whose record says in ``conversation`` what was said, oldest first.

        Each earlier step has what differs in its own record, so `steps_of` gives that again.
        """
        steps: list[dict[str, Any]] = []
        if self.before:
            last = self.before[min(place, len(self.before) - 1)].record
            steps = _shorten(steps_of(last), picture.record)
        steps.append({"said": self.said, "kind": self.kind})
        return replace(picture, record=picture.record | {"conversation": steps})


def _shorten(steps: Sequence[dict[str, Any]], record: dict[str, Any]) -> list[dict[str, Any]]:
    """What was said for each step, and what of it differs from a later record.

    A step of an older version says nothing of what it kept: it kept nothing.
    """
    later = {"kept": ""} | record
    return [
        {
            name: value
            for name, value in ({"kept": ""} | step).items()
            if name in ("said", "kind") or (name != "conversation" and later.get(name) != value)
        }
        for step in steps
    ]


def steps_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the whole record of each picture of a conversation, the one itself last.

    Each has what was ``said`` for it, its ``kind``, and the conversation up to it. A picture of no
    conversation is one step.
    """
    own = {name: value for name, value in record.items() if name != "conversation"}
    said = record.get("conversation") or [{"said": "", "kind": "wish"}]
    whole = [own | step for step in said]
    return [step | {"conversation": _shorten(whole[: i + 1], step)} for i, step in enumerate(whole)]


def whom_it_was_taught(model: Model) -> str | None:
    """Return the subject of a model's run; also where an export of one is taken for the model."""
    if model.run_subject or not is_folder(Path(model.source)):
        return model.run_subject
    return read_card(Path(model.source)).get("subject", {}).get("name")


def weights_named_in(
    record: dict[str, Any], drive: Drive, model: str | None = None, run: str | None = None
) -> tuple[str, str | None]:
    """Return what to `load` for a record: the model and the run, of which it may choose only ours.

    A picture may come from anybody: the folder that it names is opened only if the user names it.

    Parameters
    ----------
    model, run
        What the user named in place of the record's.

    Raises
    ------
    InputError
        When the record names a model that is not in the registry, or a run that is not the Drive's.
    """
    name = record.get("model", "auto")
    if model is None and name != "auto" and (not isinstance(name, str) or name not in REGISTRY):
        raise InputError(
            f"This picture was drawn with the model in {str(record.get('source', name))[:200]}. A "
            "picture does not choose which folder is opened: if you know that one, give it with "
            "--model FOLDER."
        )
    named = record.get("run")
    if run is not None or named is None:
        return model or name, run
    own = drive.runs.resolve()
    is_path = isinstance(named, str) and "\0" not in named
    place = (own / named).resolve() if is_path else own
    if place == own or not place.is_relative_to(own):
        raise InputError(
            f"This picture was drawn with the weights {str(named)[:200]}, which are not a run on "
            "this Drive. A picture does not choose which file is opened: if you know those, give "
            "them with --run PATH."
        )
    return model or name, str(drive.runs / named)


def compare_weights(model: Model, record: dict[str, Any]) -> str | None:
    """Say in what the weights in ``model`` differ from those that drew a picture; None: in nothing.

    A record of an older version has no hashes, and nothing is said of it.
    """
    hashes, now = record.get("hashes"), model.hashes()
    before = hashes if isinstance(hashes, dict) else {}
    changed = [
        f"those of the {part} {record.get(part)} (SHA-256 {str(before[part])[:12]} then, "
        f"{now.get(part, 'none')[:12]} now)"
        for part in before
        if now.get(part) != before[part]
    ]
    if not changed:
        return None
    return (
        f"The weights are not the ones that drew this picture: {' and '.join(changed)}. What is "
        "drawn now will look different; with the weights of then it would be the same."
    )


def prompt_of(record: dict[str, Any]) -> Prompt:
    """Return the prompt that a picture was drawn from, with whom it names and what was said.

    Raises
    ------
    KeyError, TypeError, ValueError
        When the record lacks it, or has something else there.
    """
    if not all(isinstance(record[key], str) for key in ("prompt", "negative")):
        raise TypeError("words where it has something else")
    said = record["transcript"]
    return Prompt(
        text=record["prompt"],
        negative=record["negative"],
        subjects=tuple(map(Subject.from_record, record["subjects"])),
        transcript=Transcript.from_json(said) if said else None,
    )

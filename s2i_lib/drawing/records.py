"""What a picture says of how it was drawn, read back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s2i_lib.models.loading import Model
from s2i_lib.models.registry import REGISTRY
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.prompt import Prompt
from s2i_lib.speech.transcript import Transcript

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Picture:
    """A picture, and the record from which it can be made again."""

    image: Image
    record: dict[str, Any]


def model_named_in(record: dict[str, Any]) -> str:
    """Return what to load for a record: a name in the registry, or the folder that it came from."""
    name = record.get("model", "auto")
    return name if name in REGISTRY else record.get("source", name)


def compare_weights(model: Model, record: dict[str, Any]) -> str | None:
    """Say in what the weights in ``model`` differ from those that drew a picture; None: in nothing.

    A record of an older version has no hashes, and nothing is said of it.
    """
    before, now = record.get("hashes", {}), model.hashes()
    changed = [
        f"those of the {part} {record.get(part)} (SHA-256 {before[part][:12]} then, "
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
    """Return the prompt that a picture was drawn from, with whom it names and what was said."""
    return Prompt(
        text=record["prompt"],
        negative=record["negative"],
        subjects=tuple(Subject(**subject) for subject in record["subjects"]),
        transcript=Transcript.from_json(record["transcript"]) if record["transcript"] else None,
    )

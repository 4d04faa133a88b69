"""The controls of a studio: what they begin with, and what they say to the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.errors import InputError
from s2i_lib.models.registry import REGISTRY
from s2i_lib.storage.layout import Drive, folder_name

if TYPE_CHECKING:
    from s2i_lib.photos.subject import Subject

MOST_PICTURES = 8

# A choice of Whisper's hundred; what is heard in another is named by its code.
LANGUAGES = {
    "en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian",
    "pt": "Portuguese", "nl": "Dutch", "pl": "Polish", "cs": "Czech", "sv": "Swedish",
    "da": "Danish", "fi": "Finnish", "el": "Greek", "tr": "Turkish", "ru": "Russian",
    "uk": "Ukrainian", "ar": "Arabic", "he": "Hebrew", "hi": "Hindi", "id": "Indonesian",
    "vi": "Vietnamese", "th": "Thai", "zh": "Chinese", "ja": "Japanese", "ko": "Korean",
}  # fmt: skip

DEFAULTS: dict[str, Any] = {
    "subject": "",  # the name of the one whose identifier the model knows; "" for none
    "model": "auto",
    "steps": None,  # None: the model's own, as of guidance
    "guidance": None,
    "count": 1,
    "seed": 0,
    "is_seed_locked": False,
    "negative": None,  # None: the model's own, which the field shows; "": nothing
    "language": "",  # "": found out
    "stop_on_silence": True,
    "drafts": True,
    "keep_recordings": False,
    "read_aloud": False,
    "sounds": False,
}


def begin_with(settings: dict[str, Any] | None) -> dict[str, Any]:
    """Return what all controls begin with, some of them as ``settings`` says.

    Raises
    ------
    InputError
        When there is no such control.
    """
    if unknown := set(settings or {}) - set(DEFAULTS):
        raise InputError(
            f"The studio has no setting {sorted(unknown)[0]!r}. It has {', '.join(DEFAULTS)}."
        )
    return {**DEFAULTS, **(settings or {})}


def draw_options(settings: dict[str, Any], seed: int | None) -> DrawOptions:
    """Return how the next wish is drawn; from ``seed`` unless one is locked."""
    return DrawOptions(
        steps=settings["steps"],
        guidance_scale=settings["guidance"],
        count=min(settings["count"], MOST_PICTURES),
        seed=settings["seed"] if settings["is_seed_locked"] else seed,
    )


def find_chosen(
    settings: dict[str, Any], subjects: Sequence[Subject], run: str | None
) -> Subject | None:
    """Return the subject that was chosen, else the one that the run was trained on."""
    name = settings["subject"]
    folder = folder_name(name) if name else (run or "").partition("/")[0]
    return next((each for each in subjects if folder_name(each.name) == folder), None)


def list_models(drive: Drive, chosen: str) -> list[str]:
    """Return what can be chosen to draw: models, runs, and what is chosen, each once."""
    return list(dict.fromkeys(["auto", *REGISTRY, *_list_runs(drive), chosen]))


def what_came(count: int, held_back: int, seconds: float) -> list[tuple[str, dict[str, str]]]:
    """Say what came of a wish, as `s2i_lib.widgets.texts.in_english` takes it."""
    key = "done" if count == 1 else "done_many"
    if count == 1 and seconds < 0.05:  # "0.0": it was drawn while the silence was waited for
        key = "done_at_once"
    said = [(key, {"count": str(count), "seconds": f"{seconds:.1f}"})]
    if held_back:
        said.append(("held_back", {"count": str(held_back)}))
    return said


def _list_runs(drive: Drive) -> list[str]:
    """All finished runs on the Drive as SUBJECT/RUN, the newest first."""
    from s2i_lib.storage.run_card import finished_runs

    newest = sorted(finished_runs(drive), key=lambda path: path.stat().st_mtime, reverse=True)
    return [f"{path.parent.name}/{path.name}" for path in newest]

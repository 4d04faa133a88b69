"""What studio and microphone say, in the user's language: one JSON file a language."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from s2i_lib.storage.json_file import load_object

FOLDER = Path(__file__).parent


@cache
def catalogue() -> dict[str, dict[str, str]]:
    """Return all texts: code of the language -> key -> text with {placeholders}."""
    return {path.stem: load_object(path) for path in sorted(FOLDER.glob("*.json"))}


def in_english(*messages: tuple[str, dict[str, str]]) -> str:
    """Return messages (a key, and what its placeholders stand for) as one English text."""
    return " ".join(catalogue()["en"][key].format(**values) for key, values in messages)

"""The door for JSON that others may have written: on a Drive, in a picture, in a page.

What comes in is checked once, here: its size before it is parsed, its depth, that it is an object,
and the types of the fields that are used (`check_fields`). Nothing else opens such a file.
"""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path
from typing import Any, TypeAlias

log = logging.getLogger(__name__)

MAX_BYTES = 16 * 2**20  # a manifest of 500 photos has 1 MB
MAX_DEPTH = 32  # our own records have up to 6 levels

Shape: TypeAlias = Any
"""A type, a tuple of types, a dict of fields ("*": all others) with shapes, a list of one shape."""


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Return the object that a text of JSON says.

    Raises
    ------
    ValueError
        When it is too long or too deep, no JSON, no object, or has half a letter in a string.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"it has {len(text):,} bytes, and at most {MAX_BYTES:,} are read")
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"it says {type(found).__name__} where an object is expected")
    _check_depth(found)
    return found


def _check_depth(value: dict[str, Any] | list[Any], level: int = 0) -> None:
    if level > MAX_DEPTH:
        raise ValueError(f"it has more than {MAX_DEPTH} levels")
    for one in [*value, *value.values()] if isinstance(value, dict) else value:
        if isinstance(one, str):
            one.encode()  # half of a pair of surrogates cannot be printed or written
        elif isinstance(one, (dict, list)):
            _check_depth(one, level + 1)


def load_object(path: Path) -> dict[str, Any]:
    """Return the object in a file of JSON.

    Raises
    ------
    OSError
        When it cannot be read.
    ValueError
        As `parse_object` does, and where it is no regular file (reading a pipe would wait for
        ever).
    """
    return parse_object(read_limited(path))


def read_limited(path: Path) -> bytes:
    """Return the bytes of a regular file, one more than `MAX_BYTES` at most."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def read_json(path: Path, shape: Shape = dict) -> dict[str, Any]:
    """Return what a file of JSON says; nothing where it is missing or odd, which is then named."""
    try:
        record = load_object(path)
        check_fields(record, shape)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s is skipped: it cannot be read (%s).", path, error)
        return {}
    return record


def check_fields(value: Any, shape: Shape, name: str = "it") -> None:
    """Compare a record with its shape; fields that are missing, or not in the shape, are allowed.

    Raises
    ------
    ValueError
        Naming the first field of another type than it has in ``shape``.
    """
    kind: Any = type(shape) if isinstance(shape, (dict, list)) else shape
    if not isinstance(value, kind) or (isinstance(value, bool) and shape in (int, NUMBER)):
        raise ValueError(f"{name} is {_shown(value)}, which is no {_said(kind)}")
    if isinstance(value, dict) and isinstance(shape, dict):
        for field, one in value.items():
            if (inner := shape.get(field, shape.get("*"))) is not None:
                check_fields(one, inner, field)
    elif isinstance(value, list) and isinstance(shape, list):
        for one in value:
            check_fields(one, shape[0], name)


NUMBER = (int, float)
TEXT_OR_NONE = (str, type(None))


def _shown(value: Any) -> str:
    is_plain = isinstance(value, (str, int, float, type(None)))
    shown = repr(value) if is_plain else type(value).__name__
    return shown if len(shown) <= 40 else f"{shown[:40]}..."


def _said(kind: Any) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join({"NoneType": "null"}.get(one.__name__, one.__name__) for one in kinds)

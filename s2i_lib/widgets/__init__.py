"""What people press and see in a notebook: a widget's Python and browser halves in one folder.

Folders that are no widget (``photos``, ``texts``, ``transport``) have what several share. What is
made of other widgets, or of plain HTML, is a file: ``capture``, ``name_recorder``,
``training_panel``.

The browser halves are ES modules that import each other. anywidget takes one text a widget, so
``join_modules`` puts a module and what it imports into one, without a build step.
"""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parent  # the library may lie behind a link, as Drive makes them

_IMPORT = re.compile(r'^import \{[^}]*\} from "(\.[^"]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


def join_modules(entry: str) -> str:
    """Return one ES module out of ``entry`` (a path below this folder) and all that it imports.

    Imported modules come first, each once, without their ``import`` and ``export`` words; so a name
    at the top of one module must not be used at the top of another. The same files always give the
    same text.
    """
    bodies: dict[Path, str] = {}

    def visit(path: Path) -> None:
        if path in bodies:
            return
        text = path.read_text(encoding="utf-8")
        bodies[path] = ""  # marks it as seen: two modules that import each other end here
        for relative in _IMPORT.findall(text):
            visit((path.parent / relative).resolve())
        text = _IMPORT.sub("", text)
        del bodies[path]  # so that it comes after what it imports
        bodies[path] = text if path == first else _EXPORT.sub("", text)

    first = (FOLDER / entry).resolve()
    visit(first)
    parts = (f"// {path.relative_to(FOLDER)}\n{body.strip()}\n" for path, body in bodies.items())
    return "\n".join(parts)


def join_styles(*sheets: str) -> str:
    """Return the style sheets (paths below this folder) after the one that all widgets share."""
    return "\n".join((FOLDER / sheet).read_text(encoding="utf-8") for sheet in ("s2i.css", *sheets))

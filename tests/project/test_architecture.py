"""The house: imports point downwards only, in the order of the data, and never in a circle."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[2] / "s2i_lib"
# Each line may import what stands above it, and what stands beside it.
ORDER = [
    ["errors"],
    ["distributed"],
    ["storage"],
    ["models"],
    ["photos"],
    ["speech"],
    ["drawing"],
    ["ar"],
    ["pipeline"],
    ["live", "conversation"],
    ["evaluation", "privacy"],
    ["training"],
    ["lesson"],
    ["notebook"],
    ["widgets"],
    ["cli"],
    ["__main__"],
]
RANK = {name: rank for rank, line in enumerate(ORDER) for name in line}
FILES = sorted(path for path in LIBRARY.rglob("*.py") if path != LIBRARY / "__init__.py")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(LIBRARY).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path) for path in FILES}


def imports(path: Path) -> set[str]:
    """Return the modules of the library that a file imports, wherever in it, below ``s2i_lib``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name.removeprefix("s2i_lib.") in MODULES else node.module
                     for name in names]  # fmt: skip
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {n.removeprefix("s2i_lib.") for n in names if n.startswith("s2i_lib.")}
    return found


def test_every_package_and_module_has_its_place():
    tops = {module.partition(".")[0] for module in MODULES}
    assert tops == set(RANK)
    assert len(list(LIBRARY.glob("*.py"))) <= 10


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_downwards(path):
    own = module_of(path).partition(".")[0]
    upwards = {i for i in imports(path) if RANK[i.partition(".")[0]] > RANK[own]}
    assert upwards == set()


@pytest.mark.slow
def test_there_are_no_circles():
    waiting = {module_of(path): imports(path) & MODULES - {module_of(path)} for path in FILES}
    while done := {module for module, needs in waiting.items() if not needs & waiting.keys()}:
        waiting = {module: needs for module, needs in waiting.items() if module not in done}
    assert waiting == {}


def arrows_of_the_code() -> set[tuple[str, str]]:
    """Return what stands on what: (below, above), without what others imply."""
    below: dict[str, set[str]] = {top: set() for top in RANK if top != "__main__"}
    for path in FILES:
        above = module_of(path).partition(".")[0]
        tops = {name.partition(".")[0] for name in imports(path)} - {above}
        below.get(above, set()).update(tops)

    def all_below(top: str) -> set[str]:
        return below[top].union(*map(all_below, below[top]))

    return {
        (one, top)
        for top, direct in below.items()
        for one in direct
        if not any(one in all_below(other) for other in direct)
    }


@pytest.mark.slow
def test_the_picture_of_the_packages_is_that_of_the_code():
    page = (LIBRARY.parent / "docs" / "architecture.md").read_text()
    [picture] = re.findall(r"```mermaid\nflowchart LR\n(.*?)```", page, re.DOTALL)
    shown = set()
    for line in picture.splitlines():
        stops = [re.findall(r"\w+", stop) for stop in line.split("-->")]
        shown |= {(a, b) for here, there in pairwise(stops) for a in here for b in there}
    assert shown == arrows_of_the_code()


def test_every_package_tells_its_story():
    for path in sorted(LIBRARY.glob("*/__init__.py")):
        story = ast.get_docstring(ast.parse(path.read_text()))
        assert story and len(story.splitlines()) >= 1, path


# What a docstring begins with that says what something is, and not what it does.
NOUNS = {"The", "A", "An", "What", "Whether", "Of", "One", "All", "How", "As", "Each", "Every"}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_docstrings_of_public_functions_begin_with_an_imperative(path):
    tree = ast.parse(path.read_text())
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name[0] != "_"]
    names = ("property", "cached_property")
    for one in functions:
        decorators = {getattr(d, "id", getattr(d, "attr", "")) for d in one.decorator_list}
        first = (ast.get_docstring(one) or "Return").split()[0].rstrip(".,:")
        assert decorators & set(names) or first not in NOUNS, f"{one.name}: {first}"

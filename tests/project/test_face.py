"""The face: thirteen names on the package, that cost nothing until they are used."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import s2i_lib as s2i

SOURCE = Path(s2i.__file__).read_text()


def for_editors() -> dict[str, tuple[str, str]]:
    """Return name -> module and attribute, as the imports say that editors read."""
    tree = ast.parse(SOURCE)
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {a.asname or a.name: (i.module, a.name) for i in imports for a in i.names}


NAMES = for_editors()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_what_editors_take_it_for(name):
    module, attribute = NAMES[name]
    assert getattr(s2i, name) is getattr(importlib.import_module(module), attribute)


def test_the_face_is_few_names_and_shows_them():
    assert len(set(NAMES) - {"InputError"}) <= 14
    assert NAMES.keys() <= set(dir(s2i))


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'paint'"):
        s2i.paint  # noqa: B018


def test_import_loads_nothing_heavy_and_a_name_only_what_it_needs():
    code = (
        "import sys, s2i_lib as s2i; s2i.Subject('Rex', 'dog');"
        "print({'torch', 'numpy', 'PIL', 'transformers', 'diffusers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"

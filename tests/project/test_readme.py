"""The README is true where that can be tested: files, notebooks, commands, messages, addresses."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import badges
from tools.pocket import words

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "drive_layout.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_readme_is_short_and_has_a_line_for_every_package():
    assert len(README.splitlines()) <= 130
    listed = re.findall(r"^  (\w+/)  +\w", README, re.MULTILINE)
    packages = {f"{path.parent.name}/" for path in (ROOT / "s2i_lib").glob("*/__init__.py")}
    assert packages == set(listed)


def test_every_notebook_has_a_row_with_its_own_badge():
    for path in NOTEBOOKS:
        rows = [
            line for line in README.splitlines() if f"/blob/main/notebooks/{path.name})" in line
        ]
        assert len(rows) == 1 and f"](notebooks/{path.name})" in rows[0]


def test_links_lead_to_files():
    for page in PAGES:
        for target in re.findall(r'(?:\]\(|src=")(?!https?:|#)([^)"#]+)', page.read_text()):
            assert (page.parent / target).exists(), f"{page} links to {target}"


def test_commands_and_their_options_exist():
    from typer.main import get_command

    from s2i_lib.cli.main import app

    commands = get_command(app).commands
    said = re.findall(r"-m s2i_lib ([\w-]+)([^#\n`]*)", "\n".join(p.read_text() for p in PAGES))
    assert len(said) >= 8
    for name, rest in said:
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[\w-]+", rest)) <= known, f"{name}{rest}"


def test_python_on_pages_takes_names_of_the_face():
    import s2i_lib as s2i

    code = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    used = set(re.findall(r"\bs2i\.(\w+)", code))
    assert used >= {"FinetuneRun", "SpeechToImage"}
    assert used <= set(dir(s2i))


def test_what_the_pocket_model_can_draw_is_counted_in_its_own_table():
    """People and some food are never painted."""
    assert (
        f"{len(words.THINGS)} things, {len(words.PAINTABLE)} of them in any of "
        f"{len(words.COLOURS)} colours, {len(words.PLACES)} places, "
        f"{len(words.ACCESSORIES)} things worn"
    ) in README


def test_lessons_last_as_long_as_they_say():
    """The minutes of the sections that a teacher is told to take, from the plan's own table."""
    page = (ROOT / "docs" / "teaching.md").read_text()
    minutes = {int(s): int(m) for m, s in re.findall(r"^\| (\d+) \| (\d) ", page, re.MULTILINE)}
    assert f"That is {sum(minutes.values())} minutes." in page
    assert f"\n## The inside: {sum(minutes.values())} minutes\n" in page
    short = re.findall(r"^\| (\d+) \| \*\*", page, re.MULTILINE)
    assert f"\n## {sum(map(int, short))} minutes: " in page
    plans = re.findall(r"For (\d+), do sections ([\d, and]+)", " ".join(page.split()))
    assert len(plans) == 2
    for total, sections in plans:
        assert sum(minutes[int(s)] for s in re.findall(r"\d", sections)) == int(total)


def test_messages_to_look_up_are_said_somewhere():
    library = [*(ROOT / "s2i_lib").rglob("*.py"), *(ROOT / "s2i_lib").rglob("*.js")]
    places = [*library, ROOT / "s2i_lib/widgets/texts/en.json", *NOTEBOOKS]
    # One text: a sentence may go on in the next literal of the source.
    everything = re.sub(r'["`]\s*\+?\s*f?["`]', "", "\n".join(p.read_text() for p in places))
    page = (ROOT / "docs" / "messages.md").read_text()
    messages = re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)
    assert len(messages) >= 10
    assert [message for message in messages if message not in everything] == []


def test_badges_writes_the_address_everywhere_and_nothing_else(tmp_path):
    shutil.copy(ROOT / "README.md", tmp_path)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    pages = [tmp_path / "README.md", *sorted((tmp_path / "notebooks").glob("*.ipynb"))]
    badges.main("OWNER/s2i", tmp_path)  # whoever has published this copy
    before = {page: page.read_bytes() for page in pages}
    assert badges.main("ada-l/say.it", tmp_path) == 0
    for page in pages:
        text = page.read_text()
        assert "colab.research.google.com/github/ada-l/say.it/blob/main/notebooks/" in text
        assert "colab.research.google.com/github/OWNER" not in text
        if page.suffix == ".ipynb":
            assert " https://github.com/ada-l/say.it/archive/main.zip" in text
            assert "github.invalid" not in text
    assert badges.main("OWNER/s2i", tmp_path) == 0
    assert {page: page.read_bytes() for page in pages} == before


@pytest.mark.parametrize("wrong", ["", "s2i", "https://github.com/ada/s2i", "a/b/c", "ada/s 2"])
def test_badges_refuses_what_is_no_address_and_changes_nothing(wrong):
    before = (ROOT / "README.md").read_bytes()
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "badges.py", wrong], capture_output=True, text=True
    )
    assert done.returncode == 2 and "expected owner/name" in done.stderr
    assert (ROOT / "README.md").read_bytes() == before

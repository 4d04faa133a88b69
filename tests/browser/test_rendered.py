"""Every notebook after Run all in JupyterLab, as a reader sees it: no error, no wall of warnings.

$S2I_SCREENSHOTS names a folder that keeps what was seen, page by page.
"""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest

from tests.browser.lab import MILLISECONDS, REPOSITORY, run_lab

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
# Short settings, in place of what the form says.
FORMS = {
    "0": {},
    "1": {},
    "2": {"MODEL": "pocket", "STEPS": 12},
    "3": {"MODEL": "pocket", "STEPS": 6},
    "4": {"PROMPTS": 2, "SEEDS": 1, "STEPS": 3},
    "5": {"STEPS": 10, "TRAIN_STEPS": 20},
}
# Those with widgets of our own in `make test`; papermill runs the others there.
CASES = [
    pytest.param(path, id=path.stem, marks=() if path.name[0] in "13" else pytest.mark.full)
    for path in NOTEBOOKS
]
WIDTH, PAGE_PX = 1000, 2400
LONGEST_S = 840

_BAD = """() => {
  const found = [];
  const said = (kind) => [...document.querySelectorAll(
    `[data-mime-type="application/vnd.jupyter.${kind}"]`)].map((node) => node.innerText.trim());
  found.push(...said('error'));
  // A sentence of our own to the user is no wall of warnings.
  const isWall = (text) => /Warning|Traceback/.test(text) || text.split('\\n').length > 3;
  found.push(...said('stderr').filter(isWall));
  for (const node of document.querySelectorAll('.jp-OutputArea-output'))
    if (/Error displaying widget|Loading widget/.test(node.innerText))
      found.push('widget: ' + node.innerText.slice(0, 200));
  return found;
}"""
# Scrolls what scrolls the cells, and says how high all of them are.
_SCROLL = """(top) => {
  let node = document.querySelector('.jp-NotebookPanel .jp-Cell');
  while (node.parentElement && node.scrollHeight <= node.clientHeight + 1)
    node = node.parentElement;
  node.scrollTo(0, top);
  return node.scrollHeight;
}"""
_COUNTS = """() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]
  .map((node) => node.innerText.trim())"""


@pytest.fixture(scope="module")
def whole_lab(tmp_path_factory):
    """A JupyterLab that draws cells below the window too, with a Drive of its own."""
    root = tmp_path_factory.mktemp("rendered")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S2I_DRIVE", str(root / "drive"))
        patch.setenv("S2I_LOCAL", str(root / "local"))
        with run_lab(root, **{"notebook-extension/tracker": '{"windowingMode": "none"}'}) as server:
            yield server


def put(path: Path, root: Path) -> None:
    """A copy of the notebook with the short settings in its form."""
    notebook = nbformat.read(path, as_version=4)
    for form in [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]:
        short = [f"{name} = {value!r}" for name, value in FORMS[path.name[0]].items()]
        form.source = "\n".join([form.source, *short])
    nbformat.write(notebook, root / path.name)


@pytest.mark.timeout(LONGEST_S + 60)
@pytest.mark.parametrize("path", CASES)
def test_run_all_shows_no_error_and_no_warning(whole_lab, chromium, path):
    put(path, whole_lab.root)
    page = chromium()
    notebook = whole_lab.reopen(page, path.name)
    notebook.set_theme("JupyterLab Light")
    notebook.run_all(LONGEST_S)
    page.wait_for_timeout(2 * MILLISECONDS)  # the last widget draws itself
    if folder := os.environ.get("S2I_SCREENSHOTS"):
        page.set_viewport_size({"width": WIDTH, "height": PAGE_PX})
        page.wait_for_timeout(500)
        height = page.evaluate(_SCROLL, 0)
        for number, top in enumerate(range(0, height, PAGE_PX - 200)):
            page.evaluate(_SCROLL, top)
            page.wait_for_timeout(300)
            page.screenshot(path=Path(folder, f"{path.stem}-{number + 1}.png"))
    assert page.evaluate(_BAD) == []
    counts = page.evaluate(_COUNTS)
    assert counts and all(text[1:-2].isdigit() for text in counts), "not every cell was run"

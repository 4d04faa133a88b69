"""Run the notebooks on the pocket model, one after the other, and keep them with their pictures.

`python -m tools.site.execute FOLDER` is what `make docs` does first: minutes, so it is done again
only where a notebook or the library has changed. It says what each took, for docs/teaching.md.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import tempfile
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import nbclient
import nbformat
import psutil

REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
STAMP = "made-from.sha256"


@dataclass
class Figures:
    """What one notebook took: ``cpu_s`` by cell, and the memory of its kernel."""

    name: str
    cpu_s: dict[int, float] = field(default_factory=dict)
    peak_rss_bytes: int = 0
    last_rss_bytes: int = 0
    own_bytes: int = 0
    """What no other process maps (USS): what one more pupil takes, without the shared libraries."""

    def sentence(self) -> str:
        """Return the figures in words."""
        dearest = sorted(self.cpu_s, key=lambda index: -self.cpu_s[index])[:3]
        cells = ", ".join(f"cell {index} {self.cpu_s[index]:.1f}" for index in dearest)
        mb = [round(n / 1e6) for n in (self.peak_rss_bytes, self.last_rss_bytes, self.own_bytes)]
        return (
            f"{self.name}: {sum(self.cpu_s.values()):.0f} CPU seconds ({cells}); memory of the "
            f"kernel {mb[0]} MB at most, {mb[1]} at the end, {mb[2]} of them its own"
        )


def environment(scratch: Path) -> dict[str, str]:
    """Return the environment of a kernel that keeps all below ``scratch`` and asks no hub."""
    return {
        "S2I_DRIVE": str(scratch / "s2i_drive"),
        "S2I_LOCAL": str(scratch / "local"),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(REPOSITORY),
    }


def execute(path: Path, scratch: Path) -> tuple[nbformat.NotebookNode, Figures]:
    """Run one notebook to its end, as Run all does.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        A cell ended with an error; the message has the cell and the traceback.
    """
    notebook, figures = nbformat.read(path, as_version=4), Figures(path.name)
    client = nbclient.NotebookClient(notebook, timeout=None, kernel_name="python3")
    with (
        mock.patch.dict(os.environ, environment(scratch)),
        chdir(path.parent),
        client.setup_kernel(),
    ):
        kernel = psutil.Process(client.km.provisioner.pid)
        for index, cell in enumerate(notebook.cells):
            before = sum(kernel.cpu_times()[:4])
            client.execute_cell(cell, index)
            figures.cpu_s[index] = sum(kernel.cpu_times()[:4]) - before
        memory = kernel.memory_full_info()
        figures.peak_rss_bytes = peak_rss_bytes(kernel.pid) or memory.rss
    figures.last_rss_bytes, figures.own_bytes = memory.rss, memory.uss
    return notebook, figures


def peak_rss_bytes(pid: int) -> int:
    """Return the most memory that a process has had, as Linux counts it; 0 elsewhere."""
    status = Path(f"/proc/{pid}/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return int(found[1]) * 1024 if found else 0


def stamp() -> str:
    """Return the SHA-256 of all that the pictures depend on: the notebooks and the library."""
    library = [p for p in (REPOSITORY / "s2i_lib").rglob("*") if "__pycache__" not in p.parts]
    digest = hashlib.sha256()
    for path in sorted([*NOTEBOOKS, *filter(Path.is_file, library)]):
        digest.update(f"{path.relative_to(REPOSITORY)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def execute_all(folder: Path) -> None:
    """Run every notebook, in the order of their numbers and over one Drive, into ``folder``."""
    kept, now = folder / STAMP, stamp()
    if kept.is_file() and kept.read_text() == now:
        print(f"The notebooks in {folder} are up to date.")
        return
    folder.mkdir(parents=True, exist_ok=True)
    kept.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="s2i-site-") as scratch:
        for path in NOTEBOOKS:
            print(f"Running {path.name}", flush=True)
            notebook, figures = execute(path, Path(scratch))
            print(figures.sentence(), flush=True)
            # The site is not about the machine that it was built on.
            text = nbformat.writes(notebook).replace(scratch, "~").replace(str(REPOSITORY), "~/s2i")
            (folder / path.name).write_text(text)
    kept.write_text(now)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    execute_all(parser.parse_args().folder)

"""The parts of benchmarks/gpu_card.sh, each in a process of its own, and the table of them.

    python -m benchmarks.gpu_card PART [--tiny]    writes OUT/PART.json
    python -m benchmarks.gpu_card table [--write]  writes OUT/table.md, and benchmarks/README.md;
                                                   status 1 where a part has no whole figures

OUT is the variable of that name (default out/gpu). Each part writes what it knows as soon as it
knows it: a card may be taken away at any moment.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
README = ROOT / "benchmarks" / "README.md"
BEGIN, END = "<!-- a GPU: made by benchmarks/gpu_card.sh -->\n", "<!-- end of a GPU -->\n"
PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "peft", "bitsandbytes")


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    is_tiny: bool
    work: Path
    """A folder for what is not kept."""
    path: Path
    """Where the part's figures go."""

    @property
    def steps(self) -> int:
        """Losses are read in tens: a step's seconds need two readings."""
        return 21 if self.is_tiny else 60

    @property
    def draw_steps(self) -> int:
        return 2 if self.is_tiny else 20


def make_tiny() -> None:
    """Have this process take Stable Diffusion 2.1 for what the tiny twin serves, and do little."""
    from s2i_lib.models.registry import REGISTRY
    from s2i_lib.training.recipes import RECIPES

    base = REGISTRY["sd2.1-base"]
    prompts = ("a {subject}", "a {noun}")
    recipes = RECIPES[base.family]
    recipe = replace(recipes["object"], class_image_count=2, sample_prompts=prompts)
    RECIPES[base.family] = {**recipes, "object": recipe}
    REGISTRY[base.name] = replace(base, size_px=128)


# ---- The parts ----


def about(sizes: Sizes) -> dict[str, Any]:
    """The machine and its versions."""
    import torch

    from benchmarks.gpu import GIB, HAS_GPU, T4_GIB

    gpu, driver = "no GPU", ""
    if HAS_GPU:
        total = torch.cuda.get_device_properties(0).total_memory / GIB
        gpu = f"{torch.cuda.get_device_name()} ({total:.0f} GiB, held to {T4_GIB:g})"
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        if shutil.which("nvidia-smi"):
            driver = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "missing"
    return {
        "gpu": gpu,
        "driver": driver,
        "cpu": f"{os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": versions,
        "day": time.strftime("%Y-%m-%d", time.gmtime()),
        "is tiny": sizes.is_tiny,
    }


def headings_of(notebook: Any) -> dict[str, str]:
    """By a code cell's source, the last heading above it."""
    found, heading = {}, ""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            found[cell.source.strip()] = heading
        elif titles := re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE):
            heading = titles[-1]
    return found


def run_notebook(sizes: Sizes, number: int, forms: dict[str, Any]) -> dict[str, Any]:
    """Run all of it, as papermill does, in a kernel that is held to a T4."""
    import nbformat
    import papermill

    [notebook] = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    headings = headings_of(nbformat.read(notebook, as_version=4))
    startup = sizes.work / "ipython" / "profile_default" / "startup" / "00-watch.py"
    startup.parent.mkdir(parents=True, exist_ok=True)
    startup.write_text(
        "from pathlib import Path\nfrom benchmarks import gpu, gpu_card\n"
        + "gpu_card.make_tiny()\n" * sizes.is_tiny
        + f"gpu.watch_cells(Path({str(sizes.path)!r}), {headings!r})\n"
    )
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.environ["IPYTHONDIR"] = str(sizes.work / "ipython")
    ran, elsewhere = sizes.work / f"ran-{number}.ipynb", sizes.work / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    try:
        papermill.execute_notebook(
            notebook, ran, forms, cwd=elsewhere, progress_bar=False, kernel_name="python3"
        )
    finally:
        if ran.exists():
            from benchmarks.gpu import write_json

            cells = nbformat.read(ran, as_version=4).cells
            outputs = [o for cell in cells for o in cell.get("outputs", [])]
            said = "".join(o.text for o in outputs if o.output_type == "stream")
            write_json(sizes.path, said=said[-8000:].splitlines())
    return {}


def notebook_2(sizes: Sizes) -> dict[str, Any]:
    drive = drive_of(sizes)
    run_notebook(sizes, 2, {"MODEL": "sd2.1-base", "STEPS": sizes.steps})
    [card] = drive.runs.glob("*/*/run.json")
    content = json.loads(card.read_text())
    return {
        "options": content["options"],
        "seconds a step, with all that comes between": content["seconds_a_step"],
    }


def notebook_3(sizes: Sizes) -> dict[str, Any]:
    drive = drive_of(sizes)
    runs = [path.parent for path in drive.runs.glob("*/*/weights")]
    model = runs[0].relative_to(drive.runs).as_posix() if runs else "sd2.1-base"
    run_notebook(sizes, 3, {"MODEL": model, "STEPS": sizes.draw_steps})
    n_pictures = len(list(drive.creations.glob("*.png")))
    if not n_pictures:
        raise RuntimeError("Notebook 3 ran to its end and drew nothing: see what it said.")
    return {"model": model, "pictures": n_pictures}


def drive_of(sizes: Sizes) -> Any:
    """The notebooks' Drive, which their kernels are told of."""
    from s2i_lib.storage.layout import Drive

    os.environ["S2I_DRIVE"] = str(sizes.work / "drive")
    return Drive(sizes.work / "drive")


def run_of(method: str) -> Callable[[Sizes], dict[str, Any]]:
    """A run of that method, measured step by step; both share the Drive and its class images."""

    def run(sizes: Sizes) -> dict[str, Any]:
        from benchmarks.gpu import T4_GIB, held_to, measure, write_json
        from s2i_lib.storage.layout import Drive

        shutil.rmtree(sizes.work / "drive", ignore_errors=True)  # the notebooks' is not needed now
        changes = {
            "method": method,
            "steps": sizes.steps,
            "class_image_count": 2 if sizes.is_tiny else 16,
            "save_every": sizes.steps // 2,
            "sample_every": sizes.steps // 2,
            "sample_prompts": ("a {subject}", "a {noun}"),
        }
        with held_to(T4_GIB):
            for figures in measure(Drive(sizes.work / "runs"), changes, sizes.draw_steps):
                write_json(sizes.path, **figures)
        return {}

    return run


def tests(sizes: Sizes) -> dict[str, Any]:
    """Those of `make cuda`, without the whole run of full size, which the other parts are."""
    report = sizes.work / "tests.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/training/test_cuda.py",
        "-m",
        "slow and not full",
    ]
    done = subprocess.run([*command, f"--junitxml={report}"], cwd=ROOT)
    suite = next(ElementTree.parse(report).iter("testsuite"))
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    bad = [
        case.get("name")
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    return counts | {"status": done.returncode, "failed": bad}


PARTS: dict[str, Callable[[Sizes], dict[str, Any]]] = {
    "about": about,
    "notebook-2": notebook_2,
    "notebook-3": notebook_3,
    "full": run_of("full"),
    "lora": run_of("lora"),
    "tests": tests,
}


def run_part(part: str, sizes: Sizes) -> None:
    """Run one part; how it ended stands in its file, whatever happens."""
    from benchmarks.gpu import write_json

    def stop(*_: Any) -> None:
        raise SystemExit("It was stopped at its time limit.")

    signal.signal(signal.SIGTERM, stop)
    if sizes.is_tiny:
        make_tiny()
    began = time.monotonic()
    sizes.path.unlink(missing_ok=True)
    write_json(sizes.path, problem="It did not come to its end.")
    problem: str | None = "It did not come to its end."
    try:
        write_json(sizes.path, **PARTS[part](sizes))
        problem = None
    except BaseException as error:
        name, text = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", error)
        problem = f"{name}: {text}"[:600]
        raise
    finally:
        write_json(sizes.path, problem=problem, seconds=round(time.monotonic() - began, 1))


# ---- The table ----


def read(out: Path, name: str) -> dict[str, Any]:
    path = out / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {"problem": "It was not begun."}


def notebook_rows(name: str, found: dict[str, Any]) -> list[str]:
    rows = []
    for stage, figures in found.get("stages", {}).items():
        if figures.get("seconds", 0) >= 1:
            rows.append(f"| {name}: {stage} | {' | '.join(cells_of(figures))} |")
    return rows


def cells_of(figures: dict[str, float]) -> list[str]:
    return [f"{figures.get(key, 0):.2f}" for key in ("seconds", "GPU, GiB", "main memory, GiB")]


def peak_of(found: dict[str, Any], key: str) -> float | None:
    values = [figures[key] for figures in found.get("stages", {}).values() if key in figures]
    return max(values) if values else None


def comparison(full: dict[str, Any], lora: dict[str, Any]) -> list[str]:
    def of(key: str, part: str) -> Callable[[dict[str, Any]], Any]:
        return lambda found: found.get(key, {}).get(part)

    rows: dict[str, Callable[[dict[str, Any]], Any]] = {
        "steps": of("options", "steps"),
        "precision": of("options", "precision"),
        "8-bit AdamW": of("options", "with_8bit_adam"),
        "gradient checkpointing": of("options", "with_checkpointing"),
        "seconds a step (median)": lambda found: found.get("seconds a step"),
        "photos to weights, s": lambda found: found.get("photos to weights, s"),
        "peak of the GPU, GiB": lambda found: peak_of(found, "GPU, GiB"),
        "peak of main memory, GiB": lambda found: peak_of(found, "main memory, GiB"),
        "run on the Drive, GiB": lambda found: found.get("run on the Drive, GiB"),
        "one picture, s": of("seconds to draw as many pictures", "1"),
        "four pictures, s": of("seconds to draw as many pictures", "4"),
    }
    lines = ["| | full | LoRA |", "|---|---|---|"]
    for name, value in rows.items():
        shown = ["" if value(found) is None else str(value(found)) for found in (full, lora)]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return lines


def make_section(out: Path) -> str:
    """All that is known, as Markdown; what failed is said with its reason."""
    found = {name: read(out, name) for name in PARTS}
    machine, ran = found["about"], found["tests"]
    versions = ", ".join(f"{k} {v}" for k, v in machine.get("versions", {}).items())
    widths = "tiny widths, to try the script" if machine.get("is tiny") else "the real widths"
    lines = [
        f"Made by `benchmarks/gpu_card.sh` on {machine.get('day')}: {machine.get('gpu')}, "
        f"driver {machine.get('driver') or 'unknown'}, {machine.get('cpu')}, Python "
        f"{machine.get('python')}, {versions}. Random weights of {widths}; a T4's attention "
        "kernels; peaks of the GPU are what PyTorch reserved, those of main memory a process's "
        "own, without mapped files. The full run drew the class images that the LoRA run found.",
        "",
        "| notebook, below its heading | seconds | GPU, GiB | main memory, GiB |",
        "|---|---|---|---|",
        *notebook_rows("2", found["notebook-2"]),
        *notebook_rows("3", found["notebook-3"]),
        "",
        *comparison(found["full"], found["lora"]),
        "",
    ]
    if "tests" in ran:
        bad = f" ({', '.join(ran['failed'])})" if ran["failed"] else ""
        lines += [
            f"`make cuda`'s tests, but for the whole run: {ran['tests']}, of which "
            f"{ran['failures'] + ran['errors']} failed{bad} and {ran['skipped']} were skipped.",
            "",
        ]
    for name, part in found.items():
        if part.get("problem"):
            lines += [f"**{name} has no whole figures.** {' '.join(part['problem'].split())}", ""]
    return "\n".join(lines).rstrip() + "\n"


def write_section(section: str, readme: Path = README) -> None:
    """Put it between its markers."""
    before, rest = readme.read_text().split(BEGIN)
    readme.write_text(before + BEGIN + section + END + rest.split(END)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=(*PARTS, "table"))
    parser.add_argument("--tiny", action="store_true", help="a few steps of tiny networks")
    parser.add_argument("--write", action="store_true", help="into benchmarks/README.md")
    parser.add_argument("--work", type=Path, help="a folder for what is not kept")
    chosen = parser.parse_args()
    out = Path(os.environ.get("OUT") or ROOT / "out" / "gpu").resolve()
    out.mkdir(parents=True, exist_ok=True)
    if chosen.part != "table":
        run_part(chosen.part, Sizes(chosen.tiny, chosen.work, out / f"{chosen.part}.json"))
        return
    section = make_section(out)
    (out / "table.md").write_text(section)
    if chosen.write:
        write_section(section)
    if lacking := [name for name in PARTS if read(out, name).get("problem")]:
        print(f"Not whole: {', '.join(lacking)}. {out / 'table.md'} says why.")
        sys.exit(1)


if __name__ == "__main__":
    main()

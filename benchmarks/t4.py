"""Where the minutes of a T4 go, on paper: the table in benchmarks/README.md.

    python -m benchmarks.t4 [--write]

From Run all of notebook 2 in Colab to weights of one's own subject, with Stable Diffusion 2.1 at
512 px and five photos. **Nothing here was measured on a T4**: counts of this project's code, times
seconds that others have published (`s2i_lib/training/duration.py` names them). The day somebody
runs it there, the seconds that they measure take their place.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from s2i_lib.models.registry import REGISTRY
from s2i_lib.training.duration import SPEEDS, Range, seconds_of_run, total
from s2i_lib.training.recipes import RECIPES, want

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- a T4: made by benchmarks/t4.py -->\n", "<!-- end of a T4 -->\n"

# What is not a matter of the GPU, in seconds.
AROUND: dict[str, Range] = {
    # pip adds bitsandbytes (60 MB) and the like; Python imports torch and diffusers. A guess.
    "set up": (60, 150),
    # 2.6 GB of Stable Diffusion and 1.7 of its scorer at 150 to 40 MB/s. A guess, too: on a bad day
    # 1.1 GB took twenty minutes (huggingface_hub issue 4528).
    "download": (4300 / 150, 4300 / 40),
    # Three times (plan, class images, training) 2.6 GB are hashed, read and cast to fp32, by two
    # slow cores; twice two trial steps. A guess.
    "load, trial steps": (60, 120),
    # The weights, 1.7 GB in fp16, written, hashed and put into the Drive's local cache. A guess.
    "end": (30, 120),
}
RUNS = {
    "an object": ("object", {}),
    "a person": ("person", {}),
    "an object, LoRA": ("object", {"method": "lora"}),
    "an object, as before (`classic`)": ("object", {"recipe": "classic"}),
}
N_PHOTOS = 5


def parts_of(kind: str, changes: dict[str, str]) -> tuple[dict[str, Range], Range]:
    """Each part of a run, and all until the first samples of the subject, in seconds."""
    base, others = REGISTRY["sd2.1-base"], {k: v for k, v in changes.items() if k != "recipe"}
    asked = changes.get("recipe", "auto")
    options = want(RECIPES[base.family], asked, kind, N_PHOTOS, False, others).options
    trained = seconds_of_run(options, base.size_px, SPEEDS["Tesla T4"])
    parts = AROUND | trained | ({"end": (5.0, 10.0)} if options.method == "lora" else {})  # 3 MB
    n_intervals = options.steps // options.sample_every
    shares = dict.fromkeys(parts, 1.0) | {"steps": 1 / n_intervals, "saves": 1 / n_intervals}
    shares |= {"samples": 2 / (n_intervals + 1), "end": 0.0}
    return parts, total(*((low * shares[k], high * shares[k]) for k, (low, high) in parts.items()))


def minutes(span: Range | None) -> str:
    return "" if span is None else f"{span[0] / 60:.1f} to {span[1] / 60:.1f}"


def whole_minutes(span: Range) -> str:
    return f"{span[0] / 60:.0f} to {span[1] / 60:.0f}"


def make_table() -> str:
    """The table as Markdown."""
    made = {name: parts_of(*run) for name, run in RUNS.items()}
    runs = {name: parts for name, (parts, _) in made.items()}
    names = list(dict.fromkeys(name for parts in runs.values() for name in parts))
    names.append(names.pop(names.index("end")))
    lines = [f"| minutes | {' | '.join(runs)} |", "|---" * (len(runs) + 1) + "|"]
    for name in names:
        lines.append(f"| {name} | {' | '.join(minutes(p.get(name)) for p in runs.values())} |")
    sums = {
        "**all**": [total(*parts.values()) for parts in runs.values()],
        "until the first samples of the subject": [first for _, first in made.values()],
    }
    for name, spans in sums.items():
        lines.append(f"| {name} | {' | '.join(whole_minutes(span) for span in spans)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into benchmarks/README.md")
    table = make_table()
    print(table)
    if parser.parse_args().write:
        text = README.read_text()
        made = re.sub(
            f"(?<={re.escape(BEGIN)}).*?(?={re.escape(END)})",
            lambda _: table,
            text,
            flags=re.DOTALL,
        )
        README.write_text(made)


if __name__ == "__main__":
    main()

"""Writes newest.txt: what ``make newest`` has just passed with, which is where doubts begin."""

from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
HEAD = """\
# The newest of everything that `make newest` has passed with, which writes this list.
# The set-up cell of the notebooks says where a later release line than these is installed.
"""


def main() -> None:
    lines = [
        line.partition("#")[0] for line in (ROOT / "requirements.txt").read_text().splitlines()
    ]
    names = [Requirement(line).name for line in lines if line.strip()]
    pins = "".join(f"{name}=={version(name).partition('+')[0]}\n" for name in names)
    (ROOT / "newest.txt").write_text(HEAD + pins)


if __name__ == "__main__":
    main()

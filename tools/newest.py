"""Writes newest.txt: what ``make newest`` has just passed with, which is where doubts begin."""

import re
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LIST = ROOT / "s2i_lib" / "newest.txt"
HEAD = """\
# The newest of everything that `make newest` has passed with, which writes this list.
# The set-up cell of the notebooks says where a later release line than these is installed.
"""


def main() -> None:
    lines = [
        line.partition("#")[0] for line in (ROOT / "requirements.txt").read_text().splitlines()
    ]
    names = [Requirement(line).name for line in lines if line.strip()]
    pins = "".join(f"{name}=={newest(name)}\n" for name in names)
    LIST.write_text(HEAD + pins)


def newest(name: str) -> Version:
    """Return the installed version, or what is listed, where a newer Python had a later one."""
    listed = re.search(rf"^{re.escape(name)}==(.+)$", LIST.read_text(), re.MULTILINE)
    installed = Version(Version(version(name)).public)
    return max(installed, Version(listed[1])) if listed else installed


if __name__ == "__main__":
    main()

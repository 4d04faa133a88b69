"""Write the address of the project's repository where a page needs it literally.

Badges that open a notebook in Colab, and REPO in a notebook's set-up cell, cannot look it up.

    make badges REPO=ada/s2i
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAME = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
PLACES = re.compile(
    r'(https://colab\.research\.google\.com/github/|(?:REPO = \\?"|git clone )https://github\.com/)'
    rf'{NAME}?(?=[/"\s\\])'
)


def main(repository: str, root: Path = ROOT) -> int:
    """Put ``repository`` (owner/name on GitHub) into README and notebooks; the exit status."""
    if not re.fullmatch(NAME, repository):
        print(
            f"Found REPO={repository!r}, expected owner/name as in github.com/owner/name: "
            "make badges REPO=ada/s2i",
            file=sys.stderr,
        )
        return 2
    for path in [root / "README.md", *sorted((root / "notebooks").glob("*.ipynb"))]:
        before = path.read_text(encoding="utf-8")
        after, count = PLACES.subn(rf"\g<1>{repository}", before)
        path.write_text(after, encoding="utf-8")
        print(f"{path.relative_to(root)}: {count} places")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))

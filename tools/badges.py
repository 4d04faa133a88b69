"""Write the address of the project's repository where a page needs it literally.

Badges that open a notebook in Colab, and the archive that a notebook installs, cannot look it up.

    make badges REPO=ada/s2i
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAME = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
PLACEHOLDER = "OWNER/s2i"
# Below .invalid, which nobody can own (RFC 2606), while there is no address: somebody may own the
# placeholder on GitHub, and a notebook would run what lies there.
ARCHIVE = re.compile(r"--no-deps https://github\.(?:com|invalid)/")
PLACES = re.compile(
    r"(https://colab\.research\.google\.com/github/|git clone https://github\.com/"
    rf'|{ARCHIVE.pattern}){NAME}(?=[/"\s\\])'
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
        host = "invalid" if repository == PLACEHOLDER else "com"
        before = ARCHIVE.sub(f"--no-deps https://github.{host}/", before)
        after, count = PLACES.subn(rf"\g<1>{repository}", before)
        path.write_text(after, encoding="utf-8")
        print(f"{path.relative_to(root)}: {count} places")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))

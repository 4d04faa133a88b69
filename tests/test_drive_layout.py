"""drive_layout.md is true: every folder that the code knows, and every file that it writes."""

import fnmatch
import re
from pathlib import Path

from s2i_lib import gallery
from s2i_lib.dataset import build_dataset, sample_subject
from s2i_lib.drive import Drive
from s2i_lib.generate import DrawOptions, draw

TABLE = (Path(__file__).parents[1] / "drive_layout.md").read_text()
PATTERNS = re.findall(r"^\| `([^`]+)` \|", TABLE, re.MULTILINE)


def matches(path: str, pattern: str) -> bool:
    """Whether a path fits: `*` is one name, a last `**` whatever lies below."""
    names, wanted = path.split("/"), pattern.split("/")
    if wanted[-1] == "**":
        wanted = wanted[:-1]
        names = names[: len(wanted)] if len(names) > len(wanted) else []
    return len(names) == len(wanted) and all(map(fnmatch.fnmatchcase, names, wanted))


def test_the_document_names_the_folders_that_the_code_knows():
    drive = Drive(Path("root"))
    known = {
        value.name
        for name, attribute in vars(Drive).items()
        if isinstance(attribute, property) and isinstance(value := getattr(drive, name), Path)
    }
    assert known == {pattern.split("/")[0] for pattern in PATTERNS}


def test_every_file_that_is_written_is_in_the_document(drive, pocket):
    subject = sample_subject(drive)
    build_dataset(subject, drive)
    drive.creations.mkdir(parents=True)
    [picture] = draw(pocket, "a cat", DrawOptions(steps=1))
    path = gallery.save(picture, drive.creations)
    gallery.write_page([gallery.Wish("a cat", [path])], drive.creations / "page.html", title="Page")
    files = [p.relative_to(drive.root).as_posix() for p in drive.root.rglob("*") if p.is_file()]
    assert [f for f in files if not any(matches(f, pattern) for pattern in PATTERNS)] == []
    for expected in [*PATTERNS[:5], "creations/*"]:
        assert any(matches(f, expected) for f in files), expected

"""Find everything that is kept of a subject, show it, and delete it for good."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from s2i_lib.drawing.gallery import is_of, without
from s2i_lib.errors import InputError, S2iError
from s2i_lib.storage.files import free_path, read_json, remove, size_of, write_file
from s2i_lib.storage.layout import Drive, folder_name, local_folder
from s2i_lib.storage.lease import LEASE, Lease

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trace:
    """One file or folder that would not be there without the subject."""

    what: str
    path: Path
    rest: str = ""
    """Rest of a page that shows others, too."""

    @property
    def size_bytes(self) -> int:
        return size_of(self.path)


def find_traces(drive: Drive, name: str) -> list[Trace]:
    """Find all that is kept of the subject called ``name``, and nothing of anybody else's.

    Its photos, dataset and card; its runs; class images that no other subject's run was made with;
    pictures that show it (drawn with a run of it, or with its name in the words) and the recordings
    that they came from; pages and reports with its pictures in them.

    Raises
    ------
    InputError
        When nothing is kept under that name; the known subjects are listed.
    """
    slug = folder_name(name)
    class_images = _own_class_images(drive, slug)
    runs = drive.runs / slug
    # What leads to something else comes after it, so that one cut short can be done once more.
    traces = [*_pages(drive.creations, slug), *_reports_beside_others(drive, slug)]
    traces += [Trace("picture", path) for path in _kept_with(drive.creations, slug)]
    traces += [Trace("recording", path) for path in _kept_with(drive.recordings, slug)]
    traces += [
        Trace(what, path)
        for what, folder in (
            ("photos, dataset and card", drive.subjects / slug),
            *(("class images", path) for path in class_images),
            # what training left on this computer's own disk
            *(("class images", local_folder(drive, path)) for path in class_images),
            ("fine-tuned runs", local_folder(drive, runs)),
            ("fine-tuned runs", runs),
        )
        for name in (folder.name, f".{folder.name}.part", f".{folder.name}.old")
        if (path := folder.with_name(name)).exists()
    ]
    if not traces:
        folders = {path.name for path in (*drive.subjects.glob("*/"), *drive.runs.glob("*/"))}
        known = ", ".join(sorted(folders)) or "none"
        raise InputError(
            f"Nothing is kept of {name!r} in {drive.root} (known there: {known}). "
            "Check the spelling, or name another Drive folder with --drive."
        )
    return traces


def forget(traces: list[Trace], report: Callable[[str], None] = log.warning) -> None:
    """Delete for good what `find_traces` found.

    Parameters
    ----------
    report : callable
        Is told when it has to wait to see whether a training on another computer still lives.

    Raises
    ------
    S2iError
        When one of the runs is being trained: it would be written again. Nothing is deleted then.
    """
    for trace in traces:
        for lease in trace.path.glob(f"*/{LEASE}"):
            if holder := Lease(lease.parent, report).living_holder():
                raise S2iError(
                    f"{lease.parent} is being trained by process {holder.get('pid')} on "
                    f"{holder.get('host')}. Nothing was deleted. Stop that training, then forget "
                    "again."
                )
    for trace in traces:
        if trace.rest:
            write_file(_path_of_rest(trace.path, trace.rest), trace.rest.encode())
        remove(trace.path)


def _path_of_rest(page: Path, rest: str) -> Path:
    """Return a free name, or that of the same rest, written by one who was cut short."""
    path = page.with_name(f"{page.stem}-rest{page.suffix}")
    is_same = path.exists() and path.read_bytes() == rest.encode()
    return path if is_same else free_path(path)


def _own_class_images(drive: Drive, slug: str) -> list[Path]:
    """Find class images that this subject's runs used, or of their prompts, and no other's."""
    # One that was being deleted when the process died is called .NAME.part.
    names = {path.name.removeprefix(".").split(".")[0] for path in drive.class_images.glob("*")}
    own: set[str] = set()
    others: set[str] = set()
    for path in drive.runs.glob("*/*/run.json"):
        card, used = read_json(path), own if path.parents[1].name == slug else others
        if folder := card.get("class_images"):
            used |= {folder, _without_key(folder)}
        elif prompt := card.get("class_prompt"):
            used.add(folder_name(prompt))
    own -= others
    return [
        drive.class_images / name
        for name in sorted(names - others)
        if name in own or _without_key(name) in own
    ]


def _without_key(name: str) -> str:
    """Return the prompt of a folder of class images; the key behind it has no dashes."""
    return name.rpartition("-")[0]


def _kept_with(folder: Path, slug: str) -> Iterator[Path]:
    """Find each file whose record is of the subject, the records last; no pages."""
    for record in sorted(folder.rglob("*.json")):
        if is_of(read_json(record), slug):
            beside = sorted(record.parent.glob(f"{record.stem}.*"))
            own = [file for file in beside if file.is_file() and file.suffix != ".html"]
            yield from sorted(own, key=lambda file: file.suffix == ".json")


def _pages(folder: Path, slug: str) -> Iterator[Trace]:
    """Find the pages that show the subject; one that shows others stays without its part."""
    for page in sorted(folder.rglob("*.html")):
        text = page.read_text(errors="replace")
        rest = without(text, slug)
        if rest != text:
            others = f"; the others stay in {_path_of_rest(page, rest).name}" if rest else ""
            yield Trace(f"page{others}", page, rest)


def _reports_beside_others(drive: Drive, slug: str) -> Iterator[Trace]:
    """Find evaluations of several runs: they lie with the first one's, and show photos of all."""
    for data in sorted(drive.runs.glob("*/*/evaluations/*.json")):
        runs = read_json(data).get("runs") or []
        shown = [run | {"subjects": [run.get("subject") or {}], "run": run.get("name")}
                 for run in runs if isinstance(run, dict)]  # fmt: skip
        if data.parents[2].name != slug and any(is_of(run, slug) for run in shown):
            yield from (Trace("report beside others", p) for p in (data.with_suffix(".html"), data)
                        if p.exists())  # fmt: skip

"""Find everything that is kept of a subject, show it, and delete it for good.

Nothing that lies on a Drive may stop this: what cannot be read is passed over, and named as that of
which nobody can tell whose it is (`find_doubts`).
"""

from __future__ import annotations

import glob
import logging
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2i_lib.drawing.gallery import is_of, read_record
from s2i_lib.drawing.pages import is_readable_page, without
from s2i_lib.errors import InputError, S2iError, first_line
from s2i_lib.photos.dataset import STAGED
from s2i_lib.storage.disk import list_folder, name_fault, size_of
from s2i_lib.storage.files import (
    abandoned_parts,
    free_path,
    is_abandoned,
    whole_name,
    without_ending,
    write_file,
)
from s2i_lib.storage.json_file import load_object, read_json
from s2i_lib.storage.layout import (
    Drive,
    composed,
    folder_name,
    local_folder,
    older_folder_names,
)
from s2i_lib.storage.lease import LEASE, Lease
from s2i_lib.storage.removal import remove
from s2i_lib.storage.run_card import RUN_CARD, read_card

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


@dataclass(frozen=True)
class Doubt:
    """A file or folder of which nobody can tell whose it is; it is never deleted."""

    path: Path
    why: str


@dataclass(frozen=True)
class _Search:
    """What is looked for, and what was found so far."""

    drive: Drive
    slug: str
    folders: frozenset[str]
    """Names of the subject's folders: by its name, and by what their cards say."""
    doubts: list[Doubt]

    def doubt(self, path: Path, why: str) -> None:
        self.doubts.append(Doubt(path, why))

    def shows(self, record: Any) -> bool:
        return is_of(record, self.slug, self.folders)

    def load(self, path: Path) -> dict[str, Any]:
        """Return the object in a file; nothing, and a doubt, where it cannot be read."""
        try:
            return load_object(path)
        except (OSError, ValueError) as error:
            self.doubt(path, f"it cannot be read ({first_line(error)})")
            return {}


def find_traces(drive: Drive, name: str) -> list[Trace]:
    """Find all that is kept of the subject called ``name``, and nothing of anybody else's.

    Its photos, dataset and card; its runs; class images that no other subject's run was made with;
    pictures that show it (drawn with a run of it, or with its name in the words) and the recordings
    that they came from; pages and reports with its pictures in them; what was left of its crops and
    runs on this computer. Its folders are those of its name in any spelling of the same letters,
    and those whose card says that name.

    Raises
    ------
    InputError
        When nothing is kept under that name; the known subjects are listed.
    S2iError
        When the Drive cannot be looked through.
    """
    traces, doubts = _look(drive, name)
    if not traces:
        folders = {path.name for path in (*_glob(drive.subjects, "*/"), *_glob(drive.runs, "*/"))}
        known = ", ".join(sorted(folders)) or "none"
        unsure = f" Nobody can tell whose these are: {_listed(doubts)}." if doubts else ""
        raise InputError(
            f"Nothing is kept of {name!r} in {drive.root} (known there: {known}). "
            f"Check the spelling, or name another Drive folder with --drive.{unsure}"
        )
    return traces


def find_doubts(drive: Drive, name: str) -> list[Doubt]:
    """Find what may be of the subject, too, but says nothing that can be read of whose it is."""
    return _look(drive, name)[1]


def _listed(doubts: list[Doubt]) -> str:
    shown = ", ".join(str(doubt.path) for doubt in doubts[:5])
    return shown + (f" and {len(doubts) - 5} more" if len(doubts) > 5 else "")


def _look(drive: Drive, name: str) -> tuple[list[Trace], list[Doubt]]:
    try:
        for folder in (drive.root, drive.subjects, drive.runs, drive.class_images):
            list_folder(folder)
    except OSError as error:
        raise S2iError(
            f"{drive.root} cannot be looked through: {name_fault(error)}. So nobody can tell what "
            f"is kept of {name!r}, and nothing was deleted. Ask again when it can be read."
        ) from error
    slug = folder_name(name)
    search = _Search(drive, slug, _folders_of(drive, slug), [])
    _doubt_what_cannot_be_listed(search)
    class_images = _own_class_images(drive, search.folders)
    # What leads to something else comes after it, so that one cut short can be done once more.
    traces = [*_pages(search), *_reports_beside_others(search)]
    for what, folder in (("picture", drive.creations), ("recording", drive.recordings)):
        traces += [Trace(what, path) for path in _kept_with(search, folder)]
    subjects = [drive.subjects / folder for folder in sorted(search.folders)]
    runs = [drive.runs / folder for folder in sorted(search.folders)]
    places = [
        *(("photos, dataset and card", path) for path in subjects),
        *(("class images", path) for path in class_images),
        # what training left on this computer's own disk
        *(("class images", local_folder(drive, path)) for path in class_images),
        *(("fine-tuned runs", local_folder(drive, path)) for path in runs),
        *(("fine-tuned runs", path) for path in _local_by_another_path(search)),
        *(("fine-tuned runs", path) for path in runs),
    ]
    traces += [
        Trace(what, path)
        for what, folder in places
        for name in (folder.name, f".{folder.name}.part", f".{folder.name}.old")
        if os.path.lexists(path := folder.with_name(name))
    ]
    traces += [Trace("crops left by a kill", path) for path in _staged_crops(search)]
    _doubt_what_is_linked(search, traces)
    _doubt_folders_like(search, older_folder_names(name))
    spoilt = _left_by_kills(search) if traces else set()
    traces += [Trace("left by a kill", path) for path in sorted(spoilt)
               if path not in {trace.path for trace in traces}]  # fmt: skip
    return traces, [doubt for doubt in search.doubts if doubt.path not in spoilt]


def _glob(folder: Path, pattern: str) -> list[Path]:
    """Return what matches; `Path.glob` raises or not where a folder cannot be listed, by version.

    Such folders are named by `_look` and `_doubt_what_cannot_be_listed`.
    """
    found = glob.glob(pattern, root_dir=folder, include_hidden=True)  # noqa: PTH207
    return [folder / name for name in found]


def _folders_of(drive: Drive, slug: str) -> frozenset[str]:
    """Return the names of a subject's folders of photos and runs: its own, and by their cards."""
    folders = [*_glob(drive.subjects, "*"), *_glob(drive.runs, "*")]
    own = {folder.name for folder in folders if composed(folder.name) == slug}
    for folder in folders:
        name = re.sub(r"^\.(.*)\.(part|old)$", r"\1", folder.name)  # of one cut short
        is_half = name != folder.name and re.sub(r" \(\d+\)$", "", composed(name)) == slug
        if is_half or slug in _whose(folder):
            own.add(name)
    return frozenset(own | {slug})


def _whose(folder: Path) -> set[str]:
    """Return what the cards of a folder of photos or runs say: folder names of subjects."""
    names = [read_json(folder / "subject.json").get("name")]
    names += [_subject_in(read_card(path.parent)).get("name")
              for path in _glob(folder, f"*/{RUN_CARD}")]  # fmt: skip
    return {slug for name in names if (slug := _slug_of(name))}


def _subject_in(card: dict[str, Any]) -> dict[str, Any]:
    subject = card.get("subject")
    return subject if isinstance(subject, dict) else {}


def _slug_of(name: Any) -> str | None:
    try:
        return folder_name(name) if isinstance(name, str) else None
    except InputError:
        return None


def _doubt_what_cannot_be_listed(search: _Search) -> None:
    """Doubt folders of subjects and runs that the Drive does not open."""
    drive = search.drive
    subjects = [
        folder for folder in _glob(drive.subjects, "*") if folder.name not in search.folders
    ]
    for folder in sorted([*subjects, *_glob(drive.runs, "*"), *_glob(drive.runs, "*/*")]):
        try:
            list_folder(folder)
        except NotADirectoryError:
            continue
        except OSError as error:
            search.doubt(folder, f"it cannot be listed ({name_fault(error)})")


def _doubt_what_is_linked(search: _Search, traces: list[Trace]) -> None:
    """Doubt what links among the traces lead to, such as a larger disk: it is not deleted."""
    gone = [Path(os.path.realpath(trace.path.parent), trace.path.name) for trace in traces]
    for link in (link for trace in traces for link in _links_in(trace.path)):
        target = Path(os.path.realpath(link))
        if os.path.lexists(target) and not any(target.is_relative_to(path) for path in gone):
            search.doubt(target, f"{link} is a link to it, and links are not followed")


def _links_in(path: Path) -> Iterator[Path]:
    if path.is_symlink():
        yield path
        return
    for place, folders, names in os.walk(path):
        yield from (one for name in (*folders, *names) if (one := Path(place, name)).is_symlink())


def _doubt_folders_like(search: _Search, older: set[str]) -> None:
    """Doubt folders without a card that may be the subject's by their name.

    A hand ("Rex"), an older version or Drive ("rex (1)") may have given it.
    """
    drive = search.drive
    for folder in sorted([*_glob(drive.subjects, "*"), *_glob(drive.runs, "*")]):
        title = re.sub(r" \(\d+\)$", "", composed(folder.name))
        is_like = title in search.folders | older or _slug_of(title) == search.slug
        if is_like and folder.name not in search.folders and not _whose(folder):
            search.doubt(folder, f"it is called like a folder of {search.slug}, and has no card")
    parts = (drive.subjects, drive.runs, drive.creations, drive.recordings)
    for folder in sorted(path for part in parts for path in _glob(drive.root, f"{part.name} (*)")):
        search.doubt(folder, "it is a second folder of that title, and is not looked through")


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
        When something could not be deleted: all the rest is gone, and what stays is named.
    """
    for trace in traces:
        for lease in _glob(trace.path, f"*/{LEASE}"):
            if holder := Lease(lease.parent, report).living_holder():
                raise S2iError(
                    f"{lease.parent} is being trained by process {holder.get('pid')} on "
                    f"{holder.get('host')}. Nothing was deleted. Stop that training, then forget "
                    "again."
                )
    # A full disk takes the rest of no page until something is deleted: those come once more.
    failed = [trace for trace in traces if _fault_of_deleting(trace)]
    faults = {trace.path: fault for trace in failed if (fault := _fault_of_deleting(trace))}
    if faults:
        named = "; ".join(f"{path} ({name_fault(fault)})" for path, fault in faults.items())
        raise S2iError(
            f"{len(faults)} of {len(traces)} could not be deleted: {named}. All the rest is gone. "
            "Mend that, then forget again."
        )


def _fault_of_deleting(trace: Trace) -> OSError | S2iError | None:
    try:
        if trace.rest and trace.path.exists():
            write_file(_path_of_rest(trace.path, trace.rest), trace.rest.encode())
        remove(trace.path)
    except (OSError, S2iError) as error:
        return error
    return None


def _path_of_rest(page: Path, rest: str) -> Path:
    """Return a free name, or that of the same rest, written by one who was cut short."""
    path = page.with_name(f"{page.stem}-rest{page.suffix}")
    is_same = path.is_file() and path.read_bytes() == rest.encode()
    return path if is_same else free_path(path)


def _own_class_images(drive: Drive, folders: frozenset[str]) -> list[Path]:
    """Find class images that this subject's runs used, or of their prompts, and no other's."""
    # One that was being deleted when the process died is called .NAME.part.
    names = {path.name.removeprefix(".").split(".")[0] for path in _glob(drive.class_images, "*")}
    own: set[str] = set()
    others: set[str] = set()
    for path in _glob(drive.runs, f"*/*/{RUN_CARD}"):
        card, used = read_card(path.parent), own if path.parents[1].name in folders else others
        if folder := card.get("class_images"):
            used |= {folder, _without_key(folder)}
        elif prompt := _slug_of(card.get("class_prompt")):
            used.add(prompt)
    own -= others
    return [
        drive.class_images / name
        for name in sorted(names - others)
        if name in own or _without_key(name) in own
    ]


def _without_key(name: str) -> str:
    """Return the prompt of a folder of class images; the key behind it has no dashes."""
    return name.rpartition("-")[0]


def _files_below(search: _Search, folder: Path) -> Iterator[Path]:
    """Find all files below a folder; links to folders are not followed, but are there."""

    def doubt(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            search.doubt(Path(error.filename), f"it cannot be listed ({error.strerror})")

    for place, folders, names in os.walk(folder, onerror=doubt):
        links = [name for name in folders if Path(place, name).is_symlink()]
        yield from (Path(place, name) for name in sorted([*names, *links]))


def _left_by_kills(search: _Search) -> set[Path]:
    """Find what is nobody's any more: files that were emptied to be deleted, or half written."""
    drive = search.drive
    folders = (drive.creations, drive.recordings)
    files = {file for folder in folders for file in _files_below(search, folder)}
    reports = _glob(drive.runs, "*/*/evaluations")
    parts = {part for folder in (*folders, *reports) for part in abandoned_parts(folder)}
    return parts | {file for file in files if file.is_file() and not file.lstat().st_size}


def _kept_with(search: _Search, folder: Path) -> Iterator[Path]:
    """Find each file whose record is of the subject, the records last; no pages.

    The record beside a file and that in a PNG both count: either may be cut, or of another name.
    """
    beside: dict[Path, list[Path]] = defaultdict(list)
    for file in _files_below(search, folder):
        if file.suffix.lower() != ".html":
            beside[without_ending(whole_name(file))].append(file)
    for _, files in sorted(beside.items()):
        records = [record for file in files if (record := _record_of(file))]
        if any(search.shows(record) for record in records):
            yield from sorted(files, key=lambda file: file.suffix == ".json")
        elif not records:
            for file in files:
                search.doubt(file, "it has no record that can be read of whose it is")


def _record_of(file: Path) -> dict[str, Any]:
    suffix = whole_name(file).suffix.lower()
    try:
        if suffix == ".json":
            return load_object(file)
        return read_record(file) if suffix == ".png" else {}
    except (OSError, ValueError, InputError):
        return {}


def _pages(search: _Search) -> Iterator[Trace]:
    """Find the pages that show the subject; one that shows others stays without its part."""
    pages = [file for file in _files_below(search, search.drive.creations)
             if file.suffix.lower() == ".html"]  # fmt: skip
    for page in pages:
        try:
            if not page.is_file():
                raise InputError("it is no file")
            text = page.read_bytes().decode(errors="replace")
        except (OSError, InputError) as error:
            search.doubt(page, f"it cannot be read ({first_line(error)})")
            continue
        rest = without(text, search.shows)
        if rest != text:
            others = f"; the others stay in {_path_of_rest(page, rest).name}" if rest else ""
            yield Trace(f"page{others}", page, rest)
        if not is_readable_page(rest or text):
            search.doubt(page, "it has parts without a record that can be read")


def _reports_beside_others(search: _Search) -> Iterator[Trace]:
    """Find evaluations of several runs: they lie with the first one's, and show photos of all."""
    for data in sorted(_glob(search.drive.runs, "*/*/evaluations/*.json")):
        if data.parents[2].name in search.folders:
            continue
        runs = search.load(data).get("runs")
        shown = [run for run in (runs if isinstance(runs, list) else []) if isinstance(run, dict)]
        if any(search.shows({"subjects": [r.get("subject")], "run": r.get("name")}) for r in shown):
            yield from (Trace("report beside others", p) for p in (data.with_suffix(".html"), data)
                        if os.path.lexists(p))  # fmt: skip


def _local_by_another_path(search: _Search) -> Iterator[Path]:
    """Find this computer's work for the same runs, begun when the Drive had another path here."""
    here = local_folder(search.drive, search.drive.root)
    patterns = (f"*/runs/{glob.escape(folder)}/*" for folder in search.folders)
    for run in sorted(path for one in patterns for path in _glob(here.parent, one)):
        if here in run.parents or not run.is_dir():
            continue
        card = read_card(run)
        there = read_card(search.drive.runs / run.parent.name / run.name)
        keys = ("subject", "dataset", "base")
        if card and [card.get(key) for key in keys] == [there.get(key) for key in keys]:
            yield run
        else:
            search.doubt(run, "it is of another Drive, or of this one by another path")


def _staged_crops(search: _Search) -> Iterator[Path]:
    """Find crops in the temporary folder whose `build_dataset` was killed."""
    own = {name[:40] for name in search.folders}
    for folder in sorted(_glob(Path(tempfile.gettempdir()), f"{STAGED}*")):
        whose, *rest = folder.name.removeprefix(STAGED).rsplit("-", 2)
        if len(rest) != 2:
            search.doubt(folder, "an older version left crops of somebody there")
        elif whose in own and is_abandoned(folder):
            yield folder

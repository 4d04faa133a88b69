"""The Hugging Face hub: from where, in which revision, and what of it is kept on the Drive.

The only way in which anything of a hub gets here: base models, the networks that look at pictures,
Whisper in CTranslate2's format. Each is looked for on the Drive, then in its repositories in turn,
pinned to a commit, since a repository may change or go; what arrives is compared with the hub's own
SHA-256, and kept on a Drive that has room for it. Without a network the hub's cache on this disk
serves. No token is sent: all of it is public, and asking Colab for one opens a dialog.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from s2i_lib.errors import InputError, S2iError, first_line
from s2i_lib.storage.disk import GIB, files_in, free_bytes
from s2i_lib.storage.files import sha256_of
from s2i_lib.storage.json_file import load_object
from s2i_lib.storage.publishing import NotTakenError, publish

log = logging.getLogger(__name__)

CHECKSUMS = "checksums.json"  # {file: SHA-256} beside the weights it vouches for
TIMEOUT_S = 20.0
# What a fine-tuning run of Stable Diffusion takes on the Drive where it has all the room that it
# likes, by `s2i_lib.training.storage_plan` (a test compares the two). A free Google Drive has 15 GB
# in all: there the hub, which is as quick, keeps the downloads.
ROOM_FOR_A_RUN_GIB = 13.0
SMALL_SHARE = 0.01  # of the free space: what takes no more is kept on any Drive

_NO_CONNECTION = (ConnectionError, TimeoutError, socket.gaierror)

Choose = Callable[[Collection[str]], list[str]]
"""Which files of a repository are wanted; raises S2iError where it lacks some that are needed."""


@dataclass(frozen=True)
class Source:
    """A place on the hub, in the state in which it was looked at."""

    repository: str
    revision: str = "main"
    """Commit, or a ref, such as refs/pr/41, where main has no safetensors."""
    commit: str = ""
    """Beginning of the commit that a ref was at."""
    folder: str = ""
    """Folder of the files, for a part of a larger model."""

    def __str__(self) -> str:
        return f"{self.repository}/{self.folder}" if self.folder else self.repository

    @property
    def below(self) -> str:
        """Return how the names of its files begin in the repository."""
        return f"{self.folder}/" if self.folder else ""


@dataclass(frozen=True)
class Wanted:
    """What is to be found, and where."""

    what: str
    """Beginning of a sentence about it: "The weights of sd2.1-base (2.6 GiB)"."""
    sources: tuple[Source, ...]
    """Places in the order in which they are tried."""
    kept: Path
    """Folder on the Drive, whether or not it is there yet."""
    choose: Choose
    """Choice of its files in a repository or folder."""
    remedy: str
    """Advice where none of them has it."""


def find(wanted: Wanted) -> tuple[Path, str]:
    """Return a folder with what is wanted, and the name of its source.

    Raises
    ------
    S2iError
        When no place has it; each is named with its reason.
    """
    tried = [f"{wanted.kept}: not there yet"]
    if is_whole(wanted.kept, wanted.choose):
        try:
            verify(wanted.kept)
            return wanted.kept, _source_of(wanted.kept)
        except (InputError, OSError) as error:  # damaged, or the Drive does not read it just now
            tried = [str(error)]
    folder, source = download_first(wanted, tried)
    return keep(folder, wanted.kept), source


def download_first(wanted: Wanted, tried: Collection[str] = ()) -> tuple[Path, str]:
    """Download from the first source that has it; raise as `find` does."""
    reasons = list(tried)
    for source in wanted.sources:
        try:
            folder, commit = download(source, wanted.choose)
        except Exception as error:  # the hub's client raises a dozen unrelated kinds
            reasons.append(f"{source}: {why_not(error)}")
            continue
        return folder, f"{source}@{commit[:12]}"
    raise S2iError(
        f"{wanted.what} could not be found. Tried: {'; '.join(reasons)}. {wanted.remedy}"
    )


def why_not(error: BaseException) -> str:
    """Say in a few words why a download failed: a network that is not there has many names.

    "[Errno -2] Name or service not known", "[Errno 111] Connection refused" and a dozen more, under
    errors of httpx, urllib and the hub's client, mean the same to people.
    """
    cause: BaseException | None = error
    while cause is not None:
        reason = getattr(cause, "reason", None)  # urllib keeps what happened there
        if any(isinstance(one, _NO_CONNECTION) for one in (cause, reason)):
            return "no connection"
        cause = cause.__cause__ or cause.__context__
    return first_line(error)


def is_whole(folder: Path, choose: Choose) -> bool:
    """Return whether ``folder`` holds what is wanted, and no download into it was cut off."""
    try:
        choose(_names_in(folder))
    except (OSError, S2iError):
        return False
    # Versions before this one downloaded straight to the Drive; checksums came last.
    return (folder / CHECKSUMS).is_file() or not (folder / ".cache").is_dir()


def _names_in(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*")]


def download(source: Source, choose: Choose) -> tuple[Path, str]:
    """Download what ``choose`` takes of a repository to this disk; return the folder and commit.

    The client shows a bar, goes on where a connection broke, and keeps whole files for next time.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        info = _look_up(source)
    except HfHubHTTPError:  # it can be reached, and says no
        raise
    except Exception:  # no network, in the words of the client's HTTP library: httpx2 since 2.4
        if found := from_cache(source, choose):
            return found
        raise
    below = source.below
    files = {s.rfilename: s for s in info.siblings or [] if s.rfilename.startswith(below)}
    names = choose([name.removeprefix(below) for name in files])
    root = snapshot_download(
        source.repository,
        revision=info.sha,
        allow_patterns=[below + name for name in names],
        max_workers=4,
        token=False,
    )
    folder = Path(root) / source.folder
    lfs = {name: files[below + name].lfs for name in names}
    theirs = {name: one.sha256 for name, one in lfs.items() if one is not None}
    write_checksums(folder, f"{source}@{info.sha[:12]}", theirs, names)
    return folder, info.sha


def _look_up(source: Source) -> Any:
    """Return what the hub says of a source; of main, with a warning, where the commit has gone."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    ask: Callable[..., Any] = functools.partial(
        HfApi(token=False).model_info, source.repository, timeout=TIMEOUT_S, files_metadata=True
    )
    try:
        info = ask(revision=source.revision)
    except RevisionNotFoundError:
        info = ask(revision="main")
        log.warning(
            "%s has no revision %s any more, which this was tested with: main (%s) is taken.",
            source, source.revision[:12], info.sha[:12],
        )  # fmt: skip
        return info
    if not info.sha.startswith(source.commit):
        log.warning(
            "%s %s has changed since this was tested with it: it was at %s and is at %s.",
            source, source.revision, source.commit, info.sha[:12],
        )  # fmt: skip
    return info


def from_cache(source: Source, choose: Choose) -> tuple[Path, str] | None:
    """Return what an earlier download of a source left whole on this disk, without a network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    where: dict[str, Any] = {"revision": source.revision, "local_files_only": True, "token": False}
    look = functools.partial(snapshot_download, source.repository, **where)
    try:
        root = Path(look(allow_patterns=[]))  # whatever is there
        folder = root / source.folder
        names = choose(_names_in(folder))
        look(allow_patterns=[source.below + name for name in names])  # each of them whole
    except (LocalEntryNotFoundError, S2iError, OSError):
        return None
    return folder, root.name


def keep(folder: Path, kept: Path) -> Path:
    """Copy a download, a folder or a file, to the Drive, whole or not at all; return what to use.

    It stays where it is where the Drive has no room for both it and a fine-tuning run.
    """
    try:
        # The hub's cache is links, and what they lead to is what is copied.
        size = sum(path.stat().st_size for path in files_in(folder))
        free = free_bytes(kept)
        if size > SMALL_SHARE * free and free - size < ROOM_FOR_A_RUN_GIB * GIB:
            log.warning(
                "%s (%.1f GiB) is not kept on the Drive, which has %.1f GiB free: fine-tuning may "
                "need them, and the next session downloads it as quickly.",
                kept.name, size / GIB, free / GIB,
            )  # fmt: skip
            return folder
        return publish(folder, kept)
    except (OSError, NotTakenError) as error:
        log.warning(
            "The weights could not be kept in %s (%s), so the next session downloads them again. "
            "Free some space there to avoid that.",
            kept,
            getattr(error, "strerror", None) or error,
        )
        return folder


# ---- Checksums: what lies beside weights and vouches for them ----


def verify(folder: Path) -> None:
    """Compare the weights in ``folder`` with its checksums.json, where it has one.

    Raises
    ------
    InputError
        Naming the first file that is missing or different.
    """
    listed = folder / CHECKSUMS
    if not listed.is_file():
        return
    for name, expected in read_checksums(folder).sha256.items():
        path = folder / name
        found = sha256_once(path) if path.is_file() else "nothing"
        if found != expected:
            raise InputError(
                f"The weights in {path} are not the ones that belong there: found SHA-256 "
                f"{found[:12]}, expected {expected[:12]}. The file is damaged or half copied. "
                "Install or copy it again."
            )


@dataclass(frozen=True)
class Checksums:
    """What a checksums.json says."""

    source: str
    """Place that the files came from."""
    sha256: dict[str, str]
    """File below the folder -> SHA-256 of it, in hexadecimal digits."""


def read_checksums(folder: Path) -> Checksums:
    """Return what a folder's checksums.json says.

    Raises
    ------
    InputError
        When it says something else than checksums of files in the folder.
    """
    path = folder / CHECKSUMS
    try:
        said = load_object(path)
        sums = Checksums(said["source"], dict(said["sha256"]))
        if not all(map(_is_sum, sums.sha256.items())) or not isinstance(sums.source, str):
            raise ValueError("it has other things in it")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{path} cannot be used ({error!r:.120}). Expected a source, and a SHA-256 for each "
            "file of weights beside it. Copy the whole folder again, or delete that file."
        ) from error
    return sums


def _is_sum(entry: tuple[Any, Any]) -> bool:
    name, sha256 = entry
    path = PurePosixPath(name) if isinstance(name, str) else PurePosixPath("/")
    if path.is_absolute() or ".." in path.parts or not isinstance(sha256, str):
        return False
    return re.fullmatch("[0-9a-f]{64}", sha256) is not None


def sha256_once(path: Path) -> str:
    """Return the SHA-256 of a file as it is now; a notebook loads gigabytes three times."""
    facts = path.stat()
    return _sha256_of_version(path, facts.st_size, facts.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256_of_version(path: Path, size: int, changed_ns: int) -> str:
    return sha256_of(path)


def write_checksums(
    folder: Path,
    source: str,
    theirs: Mapping[str, str] | None = None,
    names: Collection[str] = (),
) -> None:
    """Vouch for every safetensors file below ``folder``, and say where they came from.

    Parameters
    ----------
    theirs : mapping, optional
        Name of a file -> SHA-256 by the hub's word. Ours are of what arrived, and a bad download
        must not vouch for itself: it is deleted, so that the next try downloads it again.
    names : collection of str
        Other files to vouch for: a machine may go before its Drive has uploaded a vocabulary.

    Raises
    ------
    S2iError
        When a file differs from the hub's.
    """
    weights = (path.relative_to(folder) for path in folder.rglob("*.safetensors"))
    files = sorted({*weights, *map(Path, names)})
    sums = {path.as_posix(): sha256_once(folder / path) for path in files}
    theirs = theirs or {}
    others = {name: sha256_of(folder / name) for name in theirs if name not in sums}
    for name, found in {**sums, **others}.items():
        expected = theirs.get(name, found)
        if found != expected:
            (folder / name).resolve().unlink()  # in the hub's cache the file is a link to it
            (folder / name).unlink(missing_ok=True)
            raise S2iError(
                f"{name} arrived damaged (SHA-256 {found[:12]}, expected {expected[:12]})"
            )
    text = json.dumps({"source": source, "sha256": sums}, indent=1)
    (folder / CHECKSUMS).write_text(text + "\n")


def _source_of(folder: Path) -> str:
    """Return where a folder says that it is from, and that only its own file says so."""
    if not (folder / CHECKSUMS).is_file():
        return str(folder)
    return f"{read_checksums(folder).source}, by its {CHECKSUMS}"

"""The saves of a run on the disks: which counts, how they get to the Drive, and when they go.

A save is a state, or weights in fp16 where there is no room for states (`SO_FAR`). The newest that
verifies is the one to go on from. On the Drive lie two at most, and the older one goes only when
the newer has had the time to get there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from s2i_lib.errors import S2iError
from s2i_lib.storage.disk import has_had_time, list_folder, name_fault, size_of
from s2i_lib.storage.files import sha256_of, write_json
from s2i_lib.storage.json_file import load_object
from s2i_lib.storage.publisher import NotYetError
from s2i_lib.storage.publishing import publish
from s2i_lib.storage.removal import remove
from s2i_lib.storage.run_card import STEP, WEIGHTS
from s2i_lib.training.checkpoint import DamagedError, Tell, verify_state, verify_weights

MAX_SLOTS = 2
SO_FAR = "so-far"  # weights in fp16 to go on from, where there is no room for a state
_SAVE = re.compile(rf"(state|{SO_FAR})-\d+")


def has_weights(folder: Path) -> bool:
    """Check whether all files of weights are there: some may have gone with a machine."""
    try:
        listed = load_object(folder / STEP).get("sha256")
    except (OSError, ValueError):
        listed = None
    if isinstance(listed, dict) and listed:
        return all((folder / name).is_file() for name in listed)
    return any(folder.rglob("*.safetensors"))  # of an earlier version


def list_saves(folder: Path) -> list[Path]:
    """List the states and weights so far below ``folder``, oldest first, and nothing else.

    Raises
    ------
    OSError
        When the folder cannot be listed: that is not the same as that none is there.
    """
    found = [p for p in list_folder(folder) if _SAVE.fullmatch(p.name) and p.is_dir()]
    return sorted(found, key=age)


def list_states(folder: Path) -> list[Path]:
    """List the states among the saves."""
    return [save for save in list_saves(folder) if is_state(save)]


def is_state(save: Path) -> bool:
    return save.name.startswith("state-")


def age(save: Path) -> tuple[int, bool]:
    """Return what to sort by: the step, and of one step the state last, which is worth more."""
    return int(save.name.rpartition("-")[2]), is_state(save)


def newest_save(places: Iterable[Path], report: Callable[[str], None]) -> Path | None:
    """Find the newest save below any of ``places`` that verifies; damaged ones are reported.

    The last save of the first place wins a tie.

    Raises
    ------
    S2iError
        When none can be read since the Drive fails: what is there must not be started over.
    """
    fault: BaseException | None = None
    found = []
    for place in places:
        try:
            found += list_saves(place)
        except OSError as error:
            fault = error
    for save in sorted(found, key=age, reverse=True):
        try:
            verify_state(save) if is_state(save) else verify_weights(save)
        except DamagedError as error:
            report(f"{error} The state before it is used.")
            fault = error.__cause__ or fault
            continue
        return save
    if isinstance(fault, OSError) and not isinstance(fault, FileNotFoundError):
        raise S2iError(
            f"The saved states of this run cannot be read: {name_fault(fault)}. Nothing was "
            "changed. When the Drive is back, start the same again: it goes on where it was."
        ) from fault
    if found:
        report("No saved state of this run is whole, so it begins at step 0 again.")
    return None


def publish_save(
    save: Path, run: Path, callback: Tell = lambda name: None, *, is_tight: bool = False
) -> None:
    """Copy a save to the run's folder on the Drive; the oldest goes before it is written.

    Two saves lie there, this one included. An older one goes only when a newer one has had the time
    to get from this machine to Google. Where it has not, a third one is written beside them, or, if
    the Drive ``is_tight``, none yet.

    Raises
    ------
    NotYetError
        When this one has to wait for the upload of the one before.
    """
    if not _is_there(save, run / save.name):
        _make_room(save, run, callback, is_tight)
        publish(save, run / save.name, callback)
    callback("pointing")
    if is_state(save):
        pointer = {"state": save.name, "state_json": sha256_of(save / "state.json")}
        publish(write_json(save.parent / "latest.json", pointer), run / "latest.json")
    callback("pointed")
    for older in list_saves(save.parent):  # the local disk keeps what the Drive does not have yet
        if age(older)[0] < age(save)[0]:
            remove(older)


def _make_room(save: Path, run: Path, callback: Tell, is_tight: bool) -> None:
    """Delete all saves on the Drive but the newest, where that is uploaded by now."""
    before = [other for other in list_saves(run) if other.name != save.name]
    surplus = before[: max(0, len(before) - (MAX_SLOTS - 1))]
    if surplus and any(has_had_time(newer) for newer in before if age(newer) > age(surplus[-1])):
        callback("removing")
        for oldest in surplus:
            remove_save(oldest)
    elif surplus and is_tight:
        raise NotYetError(f"{save.name} waits until the one before it is uploaded")


def _is_there(save: Path, copy: Path) -> bool:
    """Whether ``copy`` was made from ``save``: it is published whole or not at all."""
    vouched = "state.json" if is_state(save) else STEP
    try:
        return (copy / vouched).read_bytes() == (save / vouched).read_bytes() and all(
            (copy / path.relative_to(save)).stat().st_size == path.stat().st_size
            for path in save.rglob("*")
            if path.is_file()
        )
    except FileNotFoundError:
        return False


def remove_save(save: Path) -> None:
    """Delete a save, and the pointer before the last state: it never points to nothing."""
    if not {state.name for state in list_states(save.parent)} - {save.name}:
        (save.parent / "latest.json").unlink(missing_ok=True)
    remove(save)


def drop_saves(run: Path, n_kept: int, *, is_uploaded: bool = False) -> int:
    """Delete all saves of a run but the newest ``n_kept``; return the bytes that this freed.

    None goes while what takes its place may be on its way to Google, unless all ``is_uploaded``.
    """
    own = list_saves(run)
    n_dropped = max(0, len(own) - n_kept)
    kept = own[n_dropped:]
    if not (is_uploaded or all(has_had_time(path) for path in (run / WEIGHTS, *kept))):
        return 0
    freed = 0
    for save in own[:n_dropped]:
        freed += size_of(save)
        remove_save(save)
    return freed

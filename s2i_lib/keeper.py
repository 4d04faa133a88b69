"""What a run keeps: saved on the local disk, published to the Drive in the background."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from s2i_lib import checkpoint
from s2i_lib.drive import Lease, Publisher, make_folder, publish, remove, tidy, write_file
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models import RUN_CARD, read_card
from s2i_lib.run import Run, read_lines

Watch = Callable[[str, dict[str, Any]], None]
"""Is told what happens as it happens: a name and what belongs to it. A live panel, a test."""


class Keeper:
    """Saves a run on the local disk and publishes it, in the background; holds the lease.

    Only the main process of several has one that writes.
    """

    def __init__(
        self,
        run: Run,
        report: Callable[[str], None],
        watch: Watch,
        patience_s: float,
        is_main: bool,
    ):
        self.run, self.report, self.watch = run, report, watch
        self.patience_s, self.is_main = patience_s, is_main
        self._lease: Lease | None = None
        self._copying: Path | None = None  # the local state that is on its way to the Drive
        self._lock = threading.Lock()  # for what is being copied and what is being deleted
        if is_main:
            make_folder(run.folder)
            self._lease = Lease(run.folder, report).acquire()
            run.local.mkdir(parents=True, exist_ok=True)
            tidy(run.folder)
            tidy(run.local)
            self._drive = Publisher(report)

    def begin(self, card: dict[str, Any]) -> None:
        if not self.is_main:
            return
        earlier = read_card(self.run.local) or self.run.card()
        if earlier:
            base = earlier["base"]
            if base["fingerprint"] != card["base"]["fingerprint"]:
                raise InputError(
                    f"{self.run.name} was made from {base['name']} with other weights than "
                    f"{card['base']['name']} has here. Start a new run with --name."
                )
            if earlier["dataset"]["sha256"] != card["dataset"]["sha256"]:
                self.report(
                    f"The photos have changed since {self.run.name} began: from here on it learns "
                    "the new ones. For a run of the new ones only, give another --name."
                )
        self.write_card(card)

    def check(self) -> None:
        """End this process's training when another one has taken the run over."""
        if self._is_lost:
            raise S2iError(f"Another process trains {self.run.name} now; this one has stopped.")

    def phase(self, name: str) -> None:
        self.watch(name, {})

    def write_card(self, card: dict[str, Any]) -> None:
        self.put(write_file(self.run.local / RUN_CARD, _as_bytes(card)))

    def put(self, path: Path, folder: Path | None = None) -> None:
        """Publish one file of the local folder to the same place on the Drive."""
        target = (folder or self.run.folder / path.relative_to(self.run.local).parent) / path.name
        self.submit(f"{target.parent.name}/{target.name}", lambda: publish(path, target))

    def submit(self, name: str, job: Callable[[], object]) -> None:
        """Queue what is to be written to the Drive; it is left undone once the lease is lost."""

        def if_still_ours() -> None:
            if not self._is_lost:
                job()

        self._drive.submit(name, if_still_ours)

    def save(self, state: checkpoint.State) -> None:
        """Write a state on this disk, which the caller waits for; then queue it for the Drive."""
        with self._lock:  # on a slow Drive each would be deleted before it has got there
            for old in checkpoint.states(self.run.local)[:-1]:
                if old != self._copying:
                    shutil.rmtree(old, ignore_errors=True)
        self.publish_state(checkpoint.save_state(state, self.run.local, self.phase))

    def publish_state(self, state: Path, if_newest: bool = False) -> None:
        """Queue a local state for the Drive, in place of an older one that still waits.

        With ``if_newest`` it is left where it is if another machine has trained on since.
        """

        def job() -> None:
            there = [other.name for other in checkpoint.states(self.run.folder)]
            if if_newest and there and state.name < there[-1]:
                return
            with self._lock:
                if not state.exists():
                    return  # a newer one has taken its place while this one waited for the Drive
                self._copying = state
            try:
                checkpoint.publish_state(state, self.run.folder, self.phase)
            finally:
                self._copying = None

        self.submit("the run's state", job)

    def catch_up(self) -> None:
        """Publish what an earlier session left on this disk only.

        Not the curves of one that another machine has trained on since.
        """
        if not self.is_main:
            return
        sheets = (self.run.local / "samples").glob("step-*.png")
        curves = [
            path
            for path in self.run.local.glob("*.jsonl")
            if read_lines((self.run.local, self.run.folder), path.name)
            == read_lines((self.run.local,), path.name)
        ]
        for path in sorted([*curves, *sheets]):
            self.put(path)
        for state in checkpoint.states(self.run.local)[-1:]:
            self.publish_state(state, if_newest=True)

    def end(
        self, weights: Path, card: dict[str, Any], then: Callable[[], None] = lambda: None
    ) -> None:
        """Publish the weights; only then does run.json say that the run is finished.

        Not on this disk either: the card of the beginning may still wait for the Drive, and what is
        copied then is what the file says by that time.
        """

        def job() -> None:
            publish(weights, self.run.folder / weights.name, self.phase)
            self.phase("finishing")
            path = write_file(self.run.local / RUN_CARD, _as_bytes(card))
            publish(path, self.run.folder / RUN_CARD)
            then()

        self.submit("the weights", job)

    def close(self) -> None:
        if not self.is_main:
            return
        try:
            unwritten = self._drive.close(self.patience_s)
            if unwritten:
                self.report(
                    f"Not on the Drive yet: {', '.join(unwritten)}. All of it is in "
                    f"{self.run.local}; run the same again when the Drive is back, and it is "
                    "copied without training anew."
                )
            elif self.run.card().get("status") == "finished" and not self._is_lost:
                remove(self.run.local)
        except BaseException:  # stopped once more: nothing new is begun that the next one tidies
            self._drive.close(0)
            raise
        finally:
            if self._lease:
                self._lease.release()

    @property
    def _is_lost(self) -> bool:
        """Whether another process has taken the run over: the Drive is its to write now."""
        return bool(self._lease and self._lease.is_lost)


def _as_bytes(card: dict[str, Any]) -> bytes:
    return (json.dumps(card, indent=2) + "\n").encode()

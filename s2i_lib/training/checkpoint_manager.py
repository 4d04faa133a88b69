"""What a run keeps: saved on the local disk, published to the Drive in the background."""

from __future__ import annotations

import json
import math
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2i_lib.errors import InputError, S2iError
from s2i_lib.storage.disk import free_bytes, has_had_time, size_of, upload_left_s
from s2i_lib.storage.files import make_folder, write_file, write_json
from s2i_lib.storage.lease import BEAT_S, STALE_S, Lease
from s2i_lib.storage.publisher import Publisher
from s2i_lib.storage.publishing import publish, tidy
from s2i_lib.storage.removal import remove
from s2i_lib.storage.run_card import RUN_CARD, WEIGHTS, read_card
from s2i_lib.training import checkpoint, saves
from s2i_lib.training.run import Run, Setup, learned_by, read_lines
from s2i_lib.training.saves import has_weights
from s2i_lib.training.storage_plan import USABLE, Storage

STATE_JOB = "the run's state"
SCORES = "scores.jsonl"
# What run.json says of weights, and not of the session that trains.
OF_WEIGHTS = (
    "step", "kept_step", "best_step", "scores",
    "subject", "instance_prompt", "class_prompt", "dataset",
)  # fmt: skip


@dataclass(frozen=True)
class Waits:
    """How long a run waits for the Drive, in seconds."""

    patience_s: float = 120.0
    """At its end, for a Drive that does not take what is left."""
    retry_s: float = 5.0
    """Until a copy that failed is tried again; longer each time, up to twelve times this."""
    beat_s: float = BEAT_S
    """Between two signs of life for others who want to train the run."""
    stale_s: float = STALE_S
    """Without one, until another session may take the run over."""


ROOMY, USUAL = Storage(), Waits()


class CheckpointManager:
    """Save a run on the local disk and publish it in the background; hold the lease.

    Only the main process of several has one that writes.
    """

    def __init__(self, run: Run, setup: Setup, storage: Storage = ROOMY, waits: Waits = USUAL):
        self.run, self.storage, self.waits = run, storage, waits
        self.report, self.callback, self.is_main = setup.report, setup.callback, setup.is_main
        self.card: dict[str, Any] = {}
        """What run.json said of it as training began."""
        self.compares_anew = False
        """Whether scores of an earlier session are of other photos, or of other prompts."""
        self._lease: Lease | None = None
        self._copying: int | None = None  # the step whose saves are on their way to the Drive
        self._lock = threading.Lock()  # for what is being copied and what is being deleted
        if self.is_main:
            make_folder(run.folder)
            self._lease = Lease(run.folder, self.report, waits.beat_s, waits.stale_s).acquire()
            try:
                run.local.mkdir(parents=True, exist_ok=True)
                tidy(run.folder)
                tidy(run.local)
            except BaseException:  # nobody can close it: the next start would find the run held
                self._lease.release()
                raise
            self._drive = Publisher(self.report, waits.retry_s, 12 * waits.retry_s)

    def begin(self, card: dict[str, Any], from_step: int = 0) -> None:
        """Compare a run with what it was, and write down that it is trained.

        Raises
        ------
        InputError
            When it is of another base, or would learn nothing of what has changed.
        """
        if not self.is_main:
            return
        cards = [one for one in (read_card(self.run.local), self.run.card()) if one]
        if cards:
            earlier = cards[0]
            base = earlier["base"]
            if base["fingerprint"] != card["base"]["fingerprint"]:
                raise InputError(
                    f"{self.run.name} was made from {base['name']} with other weights than "
                    f"{card['base']['name']} has here. Start a new run with --name."
                )
            self._report_what_has_changed(earlier, card, from_step)
        # Both: the one on this disk is written first.
        self.compares_anew = any(learned_by(one) != learned_by(card) for one in cards)
        if self.compares_anew:
            self._drop_scores()
        self.card = card | self._of_its_weights(card)
        self.write_card(self.card)

    def _report_what_has_changed(
        self, earlier: dict[str, Any], card: dict[str, Any], from_step: int
    ) -> None:
        before, now = learned_by(earlier), learned_by(card)
        changes = []
        if before["dataset"] != now["dataset"]:
            changes.append(f"The photos have changed since {self.run.name} began")
        # A card that was cut short, or is of an earlier version, may not say it.
        if before["instance_prompt"] not in (None, now["instance_prompt"]):
            changes.append(
                f"{self.run.name} has learned {before['instance_prompt']!r}, which is now "
                f"{now['instance_prompt']!r}"
            )
        steps = card.get("options", {}).get("steps", math.inf)
        if changes and from_step >= steps:
            raise InputError(
                f"{'. '.join(changes)}. It has all its {steps} steps, so it would learn nothing of "
                "that. Give it more --steps, or another --name for a new run."
            )
        for change in changes:
            self.report(
                f"{change}: from here on it learns what is new. For a run of that alone, give "
                "another --name."
            )

    def _drop_scores(self) -> None:
        """Forget what was scored against other photos or prompts, but for the untrained model."""
        there = read_lines((self.run.local, self.run.folder), SCORES)
        lines = "".join(json.dumps(line) + "\n" for line in there if not line["step"])
        if there:
            self.put(write_file(self.run.local / SCORES, lines.encode()))

    def _of_its_weights(self, card: dict[str, Any]) -> dict[str, Any]:
        """Return what run.json says of the weights that a run ended with: true until it has others.

        Whoever trains it on may be killed before that.
        """
        there = self.run.card() if has_weights(self.run.folder / WEIGHTS) else {}
        told = {name: there[name] for name in OF_WEIGHTS if name in there}
        return told | {"learns": learned_by(card)} if told else {}

    def check(self) -> None:
        """End this process's training when another one has taken the run over."""
        if self._is_lost:
            raise S2iError(f"Another process trains {self.run.name} now; this one has stopped.")

    def tell(self, event: str) -> None:
        self.callback(event, {})

    def write_card(self, card: dict[str, Any]) -> None:
        self.put(write_json(self.run.local / RUN_CARD, card))

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

    def save(
        self,
        snapshot: checkpoint.Snapshot,
        save_weights: Callable[[Path], object],
        is_last: bool = False,
    ) -> None:
        """Write a state on this disk, which the caller waits for; then queue it for the Drive.

        Where the Drive has no room for it ``save_weights`` writes what goes there. After the
        last step nothing does, if no state is to stay: the weights follow at once.
        """
        step = snapshot.meta["step"]
        with self._lock:  # on a slow Drive each would be deleted before it has got there
            newest = saves.list_states(self.run.local)[-1:]
            for old in saves.list_saves(self.run.local):
                if old not in newest and saves.age(old)[0] != self._copying:
                    shutil.rmtree(old, ignore_errors=True)
        goes_there = self.storage.keeps_state or not is_last
        if self.storage.slots_so_far and goes_there:
            save_weights(self.run.local / f"{saves.SO_FAR}-{step:08}")
        checkpoint.save_state(snapshot, self.run.local, self.tell)
        if goes_there:
            self.publish_saves(step)

    def publish_saves(self, step: int, if_newest: bool = False) -> None:
        """Queue what was saved at ``step`` for the Drive, in place of an older step that waits.

        With ``if_newest`` it is left where it is if another machine has trained on since.
        """

        def job() -> None:
            there = saves.list_saves(self.run.folder)
            if if_newest and there and step < saves.age(there[-1])[0]:
                return
            with self._lock:
                own = [s for s in saves.list_saves(self.run.local) if saves.age(s)[0] == step]
                if not own:
                    return  # a newer one has taken its place while this one waited for the Drive
                self._copying = step
            try:
                for save in own:
                    if self.storage.states or not saves.is_state(save):
                        is_tight = not self.storage.keeps_state
                        saves.publish_save(save, self.run.folder, self.tell, is_tight=is_tight)
            finally:
                self._copying = None

        self.submit(STATE_JOB, job)

    def catch_up(self, last_step: int) -> None:
        """Publish what an earlier session left on this disk only, but no state of the last step.

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
        for save in saves.list_saves(self.run.local)[-1:]:
            step, _ = saves.age(save)
            if step < last_step or self.storage.keeps_state:
                self.publish_saves(step, if_newest=True)

    def end(
        self, weights: Path, card: dict[str, Any], then: Callable[[], None] = lambda: None
    ) -> None:
        """Publish the weights; only then does run.json say that the run is finished.

        Not on this disk either: the card of the beginning may still wait for the Drive, and what is
        copied then is what the file says by that time. What the run would go on from goes last,
        except for a state that is small; but where the Drive is tight older saves make room first.
        """
        keeps_state = self.storage.keeps_state
        card = {**card, "keeps_state": keeps_state}
        if not keeps_state:
            self._drive.withdraw(STATE_JOB)

        def job() -> None:
            if not keeps_state:
                self._make_room(weights)
            publish(weights, self.run.folder / weights.name, self.tell)
            self.tell("finishing")
            path = write_json(self.run.local / RUN_CARD, card)
            publish(path, self.run.folder / RUN_CARD)
            then()
            saves.drop_saves(self.run.folder, int(keeps_state))

        self.submit("the weights", job)

    def _make_room(self, weights: Path) -> None:
        """Delete all saves on the Drive but the newest, where that is uploaded or room is short.

        In the second case the newest state and the weights are whole on this disk.
        """
        there = saves.list_saves(self.run.folder)
        is_short = size_of(weights) > USABLE * free_bytes(self.run.folder)
        if is_short or all(has_had_time(newest) for newest in there[-1:]):
            for older in there[:-1]:
                saves.remove_save(older)

    def close(self) -> None:
        if not self.is_main:
            return
        try:
            unwritten = self._drive.close(self.waits.patience_s)
            if unwritten:
                self.report(
                    f"Not on the Drive yet: {', '.join(unwritten)}. All of it is in "
                    f"{self.run.local}; run the same again when the Drive is back, and it is "
                    "copied without training again."
                )
            elif self._is_all_there and not self._is_lost:
                remove(self.run.local)
                self._say_what_is_uploaded()
        except BaseException:  # stopped once more: nothing new is begun that the next one tidies
            self._drive.close(0)
            raise
        finally:
            if self._lease:
                self._lease.release()

    def _say_what_is_uploaded(self) -> None:
        weights = self.run.folder / WEIGHTS
        if left_s := upload_left_s(weights):
            self.report(
                f"Still uploading: {size_of(weights) / 1e9:.1f} GB of weights are on their way "
                "from this machine to Google. Leave this tab open until the notebook's last cell "
                f"says that all is there, or for {math.ceil(left_s / 60)} min."
            )

    @property
    def _is_all_there(self) -> bool:
        """Whether the Drive has a finished run, and this disk nothing that came after it.

        One that was trained on while the Drive was away says so on this disk alone.
        """
        card = self.run.card()
        is_same = read_card(self.run.local) in ({}, card)
        return card.get("status") == "finished" and (is_same or not self.run.is_ahead_here)

    @property
    def _is_lost(self) -> bool:
        """Whether another process has taken the run over: the Drive is its to write now."""
        return bool(self._lease and self._lease.is_lost)

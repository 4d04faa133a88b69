"""While a run is trained: scores each sampling, and keeps the weights of the best step.

Points go to scores.jsonl beside the run's metrics; the best weights so far to ``best``, so that a
session that ends has lost neither. It draws nothing: it looks at the samples that are drawn anyway.
"""

from __future__ import annotations

import functools
import json
import logging
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.errors import S2iError
from s2i_lib.evaluation.model_selection import Point, Validation, as_curve, read_points
from s2i_lib.models.devices import pick_dtype
from s2i_lib.models.encoders import awake, load_clip
from s2i_lib.models.vision import find_network
from s2i_lib.photos.manifest import open_photo
from s2i_lib.speech.templates import fill_in
from s2i_lib.storage.files import write_file
from s2i_lib.storage.json_file import load_object
from s2i_lib.storage.layout import Drive
from s2i_lib.storage.publishing import NotTakenError, publish
from s2i_lib.storage.removal import remove
from s2i_lib.storage.run_card import STEP, WEIGHTS
from s2i_lib.training import checkpoint
from s2i_lib.training.checkpoint_manager import SCORES, CheckpointManager
from s2i_lib.training.run import Setup, read_lines

if TYPE_CHECKING:
    from PIL.Image import Image

    from s2i_lib.models.registry import BaseModel
    from s2i_lib.training.config import FinetuneOptions
    from s2i_lib.training.train_state import TrainState

log = logging.getLogger(__name__)

BEST = "best"
# Of the kept step, in the run's card:
SCORED = ("likeness", "fidelity", "class_likeness", "surroundings", "prior_drift", "leak", "value")


def keeps_best(base: BaseModel, options: FinetuneOptions) -> bool:
    """Return whether samples are to be scored, and the weights of the best step kept."""
    return options.keep == "best" and bool(options.sample_every) and base.scorer is not None


def find_scorer(
    base: BaseModel,
    options: FinetuneOptions,
    drive: Drive,
    report: Callable[[str], None] = lambda text: None,
) -> str | None:
    """Find the scorer's folder, downloaded where it is nowhere yet; None: nothing is to be scored.

    ``report`` is told where it was asked for and cannot be had: training goes on without.
    """
    source = base.scorer
    if source is None or not keeps_best(base, options):
        return None
    try:
        return str(find_network(source, drive))
    except S2iError as error:
        why = textwrap.shorten(str(error), 160)
        report(
            f"The scorer {source} could not be had, so nothing is scored while it trains, and the "
            f"last step is kept and not the best one ({why})"
        )
        return None


def make_validation(scorer: str, setup: Setup) -> Validation | None:
    """Make what scores the samples of a run; None where it cannot, which is reported.

    Parameters
    ----------
    scorer : str
        The folder of a CLIP (``find_scorer``), which works where the run is trained.
    """
    subject, dataset = setup.dataset.subject, setup.dataset
    try:
        clip = load_clip(scorer, setup.drive, dtype=pick_dtype(setup.device))
        with awake(clip.network, setup.device):
            validation = Validation(clip, subject, [open_photo(path) for path in dataset.images])
    except S2iError as error:
        setup.report(f"The last step is kept and not the best one: {error}")
        return None
    rows = fill_in(setup.options.sample_prompts, subject)
    if not any(validation.is_own(prompt) for row in rows for prompt in row.split("|")):
        setup.report(
            "No sample prompt has {subject} in it, so nothing says which step is best, and the "
            "last one is kept."
        )
        return None
    return validation


class BestCheckpoint:
    """The best step of a run so far, and its weights.

    Where the Drive has no room for them while it trains this disk alone has them, and where that
    goes the last ones are kept.
    """

    def __init__(
        self,
        validation: Validation,
        state: TrainState,
        options: FinetuneOptions,
        manager: CheckpointManager,
    ):
        self.validation, self.state, self.options = validation, state, options
        self.local, self.folder = manager.run.local, manager.run.folder
        self.submit, self.is_on_drive = manager.submit, manager.storage.with_best
        # Of an earlier session, up to the step that training goes on from.
        lines = read_lines((self.local, self.folder), SCORES, state.step)
        validation.points = read_points(lines)
        if manager.compares_anew:  # what other photos were like says nothing of these
            validation.points = [point for point in validation.points if not point.step]
            self._write_scores()

    def validate(self, step: int, drawn: Mapping[str, Sequence[Image]]) -> Point | None:
        """Score one sampling; where it is the best so far, keep the weights."""
        if not drawn:
            return None
        device = next(self.state.unet.parameters()).device
        try:
            with awake(self.validation.scorer.network, device):
                point = self.validation.add(step, drawn)
        except S2iError as error:  # training is worth more than its scores
            log.warning("The samples of step %d are not scored: %s", step, error)
            return None
        self._write_scores()
        if step and self.validation.is_best:
            self._keep(step)
        return point

    def _write_scores(self) -> None:
        lines = "".join(json.dumps(p.to_json()) + "\n" for p in self.validation.points)
        # Jobs hold paths, not this object: one that hangs would hold the model with it.
        path, target = write_file(self.local / SCORES, lines.encode()), self.folder / SCORES
        self.submit(SCORES, lambda: publish(path, target))

    def choose(self, last: Path) -> tuple[Path, dict[str, Any]]:
        """Put the best step's weights, if found, in the place of the ``last``, with a record.

        Where the best weights are gone (a session that ended before the Drive had them) or cannot
        be read whole, it is the last ones, and the record for run.json says so: without scores
        where that step has none.
        """
        kept, best = self.state.step, self.validation.best
        if best is None or not best.step:
            return last, {}
        if best.step != kept and self._take(best.step, last):
            kept = best.step
        shown = next(
            (line for line in as_curve(self.validation.points) if line["step"] == kept), {}
        )
        scores = {k: shown[k] for k in SCORED if shown.get(k) is not None}
        return last, {"kept_step": kept, "best_step": best.step, "scores": scores}

    @property
    def drop(self) -> Callable[[], None]:
        """Job that deletes the Drive's copy of the best weights: the run now ends with them."""
        return functools.partial(remove, self.folder / BEST)

    def _keep(self, step: int) -> None:
        path = checkpoint.save_weights(self.state, self.options, self._place(step))
        local, target = self.local, self.folder / BEST
        # Those of the last step go there in a moment, as the run's own.
        is_last = step >= max(self.options.steps, self.options.most_steps)
        is_on_drive = self.is_on_drive and not is_last

        def job() -> None:
            if is_on_drive:
                publish(path, target)
            for other in local.glob(f"{BEST}-*"):
                if other.name < path.name:
                    shutil.rmtree(other, ignore_errors=True)

        self.submit("the best weights", job)

    def _place(self, step: int) -> Path:
        return self.local / f"{BEST}-{step:08}"

    def _take(self, step: int, last: Path) -> bool:
        """Put the weights of ``step`` in the place of the last; where that fails, these stay.

        A run that was finished and goes on has them in the weights that it ended with.
        """
        for place in (self._place(step), self.folder / BEST, self.folder / WEIGHTS):
            try:
                said = load_object(place / STEP)
                if said["step"] == step:
                    if "sha256" in said:  # a machine may have gone before Google had all of them
                        checkpoint.verify_weights(place)
                    publish(place, last)
                    return True
            except (OSError, ValueError, KeyError, TypeError):
                continue
            except (NotTakenError, checkpoint.DamagedError) as error:
                log.warning("The weights of step %d could not be copied: %s", step, error)
        return False

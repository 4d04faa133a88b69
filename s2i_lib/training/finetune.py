"""One run from a subject's photos to weights: class images, training, saving, publishing.

This ties the modules above it together; each of them can be read alone. Training works on the local
disk; what lasts goes to ``runs/<subject>/<run>`` in the background.
"""

from __future__ import annotations

import copy
import logging
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from s2i_lib.distributed import from_main
from s2i_lib.errors import InputError, S2iError
from s2i_lib.evaluation.model_selection import is_still_rising
from s2i_lib.models.devices import pick_device
from s2i_lib.models.loading import Model, load
from s2i_lib.models.registry import REGISTRY, BaseModel, choose
from s2i_lib.photos.manifest import Dataset
from s2i_lib.storage.layout import Drive, is_there, local_folder
from s2i_lib.storage.run_card import read_card
from s2i_lib.training import dreambooth
from s2i_lib.training.best_checkpoint import BestCheckpoint, find_scorer, make_validation
from s2i_lib.training.callbacks import EarlyStop, Recorder
from s2i_lib.training.checkpoint_manager import CheckpointManager, Waits
from s2i_lib.training.class_images import SHEET, ClassImages
from s2i_lib.training.data import (
    SCENES,
    draw_scenes,
    get_class_latents,
    prepare_data,
)
from s2i_lib.training.memory import leaving_nothing_in_memory
from s2i_lib.training.plan import Plan, SayTime, make_plan
from s2i_lib.training.recipes import AUTO, Wanted, recipes_for, suit, want
from s2i_lib.training.resources import fit_drive, settle_options
from s2i_lib.training.resume import begun, find_save, newest_step, read_earlier, resume
from s2i_lib.training.run import (
    Callback,
    Report,
    Run,
    Setup,
    choose_run,
    drop_finished,
    ignore,
    is_finished,
    run_card,
    steps_to_train_on,
)
from s2i_lib.training.train_state import TrainState, make_train_state
from s2i_lib.training.trial import try_steps
from s2i_lib.training.views import learned

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A run that was chosen, before the machine's limits change its options."""

    setup: Setup
    """Its options are those that are wanted."""
    run: Run
    wanted: Wanted
    earlier: dict[str, Any]
    """The run's card of an earlier session; empty where it begins."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to train or to copy.

        What an earlier session could not copy to the Drive is on this disk still, and goes there.
        """
        return is_finished(self.run, self.setup) and not self.run.is_ahead_here


class FinetuneRun:
    """A model that is fine-tuned on a subject, going on where an earlier session stopped.

    ``plan`` says what it needs, ``class_images`` draws what it will compare with, and ``train``
    makes the weights. Each can be called alone, and again.

    Parameters
    ----------
    dataset : Dataset
        Square photos, the subject's card, a hash that changes when they do (``load_dataset``).
    model : str
        A name in the registry, a diffusers folder, or "auto".
    recipe : str
        One of the model's recipes, or "auto" for the one that is for the subject's kind and for
        photos that were cut out or not. A run that was begun keeps its own, unless another one is
        named.
    name : str, optional
        The run's name; without it the newest unfinished run of this subject and model goes on, and
        where there is none a new one begins.
    callback : callable
        Gets events: class_images, step, samples, saving, saved, publishing, verifying, ...
    report : callable
        Gets sentences for the user.
    patience_s : float
        How long to wait at the end for a Drive that does not take the result.
    retry_s : float
        How long to wait until a copy that failed is tried again, the first time.
    **changes
        Fields of ``FinetuneOptions`` that differ from the recipe's.
    """

    rises = staticmethod(is_still_rising)
    """Rule that says of the scored points whether the run goes on past its steps."""

    def __init__(
        self,
        drive: Drive,
        dataset: Dataset,
        *,
        model: str = "auto",
        recipe: str = AUTO,
        name: str | None = None,
        callback: Callback = ignore,
        report: Report = log.info,
        patience_s: float = 120.0,
        retry_s: float = 5.0,
        **changes: Any,
    ):
        self.drive, self.dataset = drive, dataset
        self.model, self.recipe, self.name = model, recipe, name
        self.callback, self.report = callback, report
        self.waits = Waits(patience_s, retry_s)
        self.changes = changes

    @leaving_nothing_in_memory
    def plan(self) -> Plan:
        """Say what ``train`` would do; nothing is trained or written.

        If nothing stands in the way, a copy makes two real steps, which tell the time of one.
        """
        said: list[str] = []
        prepared = self._prepare(log.info)
        setup = self._settle(prepared, said.append)
        plan = self._plan(setup, None, prepared)
        if not plan.problems:
            plan = self._plan(*try_steps(setup), prepared)
        return replace(plan, notes=tuple(said))

    @leaving_nothing_in_memory
    def class_images(self) -> Path | None:
        """Draw what ``train`` would draw first, to look at it before.

        Returns
        -------
        Path or None
            The contact sheet on the Drive; None without prior preservation.
        """
        _, present = choose_recipe(self.dataset, self.model, self.recipe, self.changes)
        if not present.options.with_prior:
            return None
        prepared = self._prepare(log.info)
        setup = replace(prepared.setup, report=self.report)
        with closing(CheckpointManager(prepared.run, setup, waits=self.waits)) as manager:
            get_class_latents(setup, manager)
        images = ClassImages.for_run(setup.model, self.dataset.subject, setup.options)
        kept = self.drive.class_images / images.name
        places = (kept, local_folder(self.drive, kept))  # the second where the Drive takes nothing
        return next(place / SHEET for place in places if is_there(place / SHEET))

    @leaving_nothing_in_memory
    def scenes(self) -> Path | None:
        """Set the cut-out subject into grounds, as ``train`` would, to look at it before.

        Returns
        -------
        Path or None
            The contact sheet; None without such grounds, or where no photo has a mask to use.
        """
        prepared = self._prepare(self.report)
        setup, run = prepared.setup, prepared.run
        with closing(CheckpointManager(run, setup, waits=self.waits)) as manager:
            drawn, _ = draw_scenes(setup, manager, learned(setup))
        # On this disk while the Drive takes nothing, and until training ends.
        places = (run.folder / SCENES, run.local / SCENES)
        return next((place for place in places if is_there(place)), None) if drawn else None

    @leaving_nothing_in_memory
    def train(self) -> Path:
        """Fine-tune the model.

        Returns
        -------
        Path
            The run's folder on the Drive.

        Raises
        ------
        InputError
            When options or data cannot be used, or do not fit the run that is to go on.
        S2iError
            When training fails: not-a-number, black pictures, a run that somebody else holds.
        """
        prepared = self._prepare(self.report)
        setup, run = prepared.setup, prepared.run
        # What one process finds on the Drive may change before another looks: the first decides.
        if from_main(setup.accelerator, prepared.is_done):
            setup.report(f"{run.name} is finished already; there is nothing left to train.")
            return run.folder
        setup = self._settle(prepared, setup.report)
        seconds = None
        dreambooth.share_of_batch(setup.options, setup.accelerator.num_processes)  # may refuse
        if setup.device.type == "cuda":
            setup, seconds = try_steps(setup)
        scorer = None
        if setup.is_main:
            drop_finished(self.drive)
            scorer = find_scorer(setup.model.base, setup.options, self.drive, setup.report)
        scorer = from_main(setup.accelerator, scorer)
        keep = setup.options.keep if scorer else "last"
        planned = replace(setup, options=replace(setup.options, keep=keep))
        plan = from_main(setup.accelerator, self._plan(planned, seconds, prepared))
        setup.report(str(plan))
        plan.check()
        with ExitStack() as stack:
            stack.enter_context(dreambooth.deterministic(setup.options.is_deterministic))
            manager = CheckpointManager(run, setup, plan.storage, self.waits)
            stack.callback(manager.close)
            self._train_and_keep(setup, manager, scorer, plan, run_card(setup, prepared.wanted))
        return run.folder

    def load_base(self, base: BaseModel) -> Model:
        """Load the model that is trained; a subclass may have another, or look at this one."""
        return load_for_training(base, self.drive)

    def longer(self, run: Path) -> FinetuneRun:
        """Return what trains a run of this subject on, to twice the steps that it has.

        One that has not ended yet goes on to the steps that it was to have.
        """
        again = copy.copy(self)
        again.name = run.name
        again.changes = self.changes | {"steps": steps_to_train_on(read_card(run))}
        return again

    def _prepare(self, report: Report) -> Prepared:
        """Choose the recipe and the run, load the model: what plan, class images and run share."""
        base, present = choose_recipe(self.dataset, self.model, self.recipe, self.changes)
        accelerator = make_accelerator(
            settle_options(present.options, pick_device(), lambda text: None).precision
        )
        setup = Setup(
            self.drive,
            self.dataset,
            self.load_base(base),
            present.options,
            accelerator,
            self.callback,
            report if accelerator.is_main_process else (lambda text: None),
        )
        run = from_main(accelerator, choose_run(setup, self.name))
        earlier = from_main(accelerator, read_earlier(run))
        wanted = present.for_run(earlier)
        return Prepared(replace(setup, options=wanted.options), run, wanted, earlier)

    def _settle(self, prepared: Prepared, report: Report) -> Setup:
        """Change the options to what this machine can do and the Drive has room for."""
        setup, earlier = prepared.setup, prepared.earlier
        options = settle_options(begun(earlier, setup.options), setup.device, setup.report)
        if not (earlier or self.changes.get("method")):  # what was begun or asked for stays
            options = fit_drive(replace(setup, options=options), prepared.run.folder, report)
        # bitsandbytes may work in one process only: all do as the first one can.
        return replace(setup, options=from_main(setup.accelerator, options))

    def _plan(self, setup: Setup, seconds: float | None, prepared: Prepared) -> Plan:
        plan = make_plan(setup, prepared.run.folder)
        return replace(
            plan,
            recipe=prepared.wanted.sentence,
            seconds_a_step=seconds,
            from_step=newest_step(prepared.run),
        )

    def _train_and_keep(
        self,
        setup: Setup,
        manager: CheckpointManager,
        scorer: str | None,
        plan: Plan,
        card: dict[str, Any],
    ) -> None:
        """Train from the newest save to the end, and keep what comes of it."""
        run, options, accelerator = manager.run, setup.options, setup.accelerator
        save = find_save(run, setup)
        manager.begin(card, newest_step(run))
        data = prepare_data(setup, manager)
        state = make_train_state(setup.model.pipeline, options, setup.device)
        resume(state, run, save, setup)
        accelerator.wait_for_everyone()  # catching up may replace the state that others still read
        manager.catch_up(options.steps)
        distribute(accelerator, state)
        validation = make_validation(scorer, setup) if scorer and setup.is_main else None
        best = BestCheckpoint(validation, state, options, manager) if validation else None
        recorder = Recorder(setup, state, manager, best, self.rises)
        recorder.start()
        try:
            try:
                said = SayTime(plan, recorder, setup.report)
                while state.step < options.steps:
                    dreambooth.train(state, data, options, accelerator, said)
                    options = recorder.options = from_main(accelerator, recorder.options)
            except EarlyStop as stop:
                setup.report(str(stop))
            recorder.finish(card)
        except OSError as error:  # what goes to the Drive is written elsewhere and tried again
            raise S2iError(
                f"This disk does not take what training writes ({error.strerror or error}). Free "
                "some space on it and start the same again: it goes on from the last saved state."
            ) from error


def choose_recipe(
    dataset: Dataset, model: str, recipe: str, changes: dict[str, Any]
) -> tuple[BaseModel, Wanted]:
    """Choose the base model, and its recipe for this subject with what the user changed."""
    if not dataset.images:
        raise InputError(
            f"The dataset of {dataset.subject.name} has no images (found 0, need 1 or more). "
            "Run notebooks/1_capture_dataset.ipynb, or `python -m s2i_lib dataset`."
        )
    base = choose(model)
    kind, n_photos = dataset.subject.kind, len(dataset.images)
    recipes = recipes_for(base.family, kind)
    n_cut_out = sum(dataset.mask_of(image) is not None for image in dataset.images)
    suited = suit(recipes, kind, n_cut_out / n_photos)
    return base, want(recipes, recipe, suited, n_photos, dataset.mirror, changes)


def load_for_training(base: BaseModel, drive: Drive) -> Model:
    """Load on the CPU in fp32: the master weights, of which what trains moves to the device."""
    source = base.name if base == REGISTRY.get(base.name) else str(base.folder)
    return load(source, drive=drive, device=torch.device("cpu"), dtype=torch.float32)


def make_accelerator(precision: str) -> Accelerator:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # it keeps the precision of a process's first run for ever
    return Accelerator(mixed_precision="no" if precision == "fp32" else precision)


def distribute(accelerator: Accelerator, state: TrainState) -> None:
    """Let the accelerator wrap what it computes with; the parameters stay the same objects."""
    state.unet = accelerator.prepare(state.unet)
    if state.text_encoder is not None:
        state.text_encoder = accelerator.prepare(state.text_encoder)
    state.optimizer = accelerator.prepare(state.optimizer)

"""One run from a subject's photos to weights: class images, training, saving, publishing.

This ties the modules above it together; each of them can be read alone. Training works on the local
disk; what lasts goes to ``runs/<subject>/<run>`` in the background.
"""

from __future__ import annotations

import functools
import gc
import json
import logging
import traceback
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch

from s2i_lib import distributed
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.devices import pick_device
from s2i_lib.models.loading import Model, load
from s2i_lib.models.registry import REGISTRY, BaseModel, choose
from s2i_lib.storage.layout import Drive, local_folder
from s2i_lib.storage.run_card import WEIGHTS, read_card
from s2i_lib.training import checkpoint, dreambooth
from s2i_lib.training.best_checkpoint import Judge, find_scorer, make_watcher
from s2i_lib.training.callbacks import PastPeak, Recorder, Sampler
from s2i_lib.training.checkpoint_manager import Keeper, Watch
from s2i_lib.training.class_images import SHEET, ClassImages
from s2i_lib.training.config import FinetuneOptions
from s2i_lib.training.data import get_class_latents, is_there, prepare_data
from s2i_lib.training.recipes import AUTO, RECIPES, Wanted, want
from s2i_lib.training.resources import (
    Plan,
    SayTime,
    as_lora,
    fit_drive,
    make_plan,
    settle_options,
    try_steps,
)
from s2i_lib.training.run import (
    Dataset,
    Run,
    choose_run,
    drop_finished,
    is_finished,
    run_card,
    wants,
)
from s2i_lib.training.train_state import Learner, make_learner

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def leaving_nothing_in_memory(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: the model that ``function`` worked with is gone when it has ended, in any way.

    Networks and optimizers refer to each other in circles, and a notebook keeps the traceback of a
    cell that was stopped, with all that its frames hold. Started again, it would find the GPU full
    and go down the memory ladder for nothing.
    """

    @functools.wraps(function)
    def call(*args: P.args, **named: P.kwargs) -> R:
        try:
            return function(*args, **named)
        except BaseException as error:
            empty_frames(error)
            raise
        finally:
            gc.collect()
            if torch.cuda.is_available():
                with suppress(RuntimeError):  # after some errors CUDA answers nothing any more
                    torch.cuda.empty_cache()

    return call


def empty_frames(error: BaseException) -> None:
    """Let go of what the frames of an error's traceback hold, and of those of its causes."""
    found: list[BaseException | None] = [error]
    seen: set[int] = set()
    while found:
        one = found.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            traceback.clear_frames(one.__traceback__)
            found += [one.__cause__, one.__context__]


@leaving_nothing_in_memory
def finetune(
    drive: Drive,
    dataset: Dataset,
    *,
    model: str = "auto",
    recipe: str = AUTO,
    name: str | None = None,
    watch: Watch = lambda event, info: None,
    report: Callable[[str], None] = log.info,
    patience_s: float = 120.0,
    **changes: Any,
) -> Path:
    """Fine-tune a model on a subject, going on where an earlier session stopped.

    Parameters
    ----------
    dataset : Dataset
        Square photos, the subject's card, a hash that changes when they do (``load_dataset``).
    model : str
        A name in the registry, a diffusers folder, or "auto".
    recipe : str
        One of the model's recipes, or "auto" for the one that is for the subject's kind. A run
        that was begun keeps its own, unless another one is named.
    name : str, optional
        The run's name; without it the newest unfinished run of this subject and model goes on, and
        where there is none a new one begins.
    watch : callable
        Gets events: class_images, step, samples, saving, saved, publishing, verifying, ...
    report : callable
        Gets sentences for the user.
    patience_s : float
        How long to wait at the end for a Drive that does not take the result.
    **changes
        Fields of ``FinetuneOptions`` that differ from the recipe's.

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
    base, present = choose_recipe(dataset, model, recipe, changes)
    precision = settle_options(present.options, pick_device(), lambda text: None).precision
    accelerator = make_accelerator(precision)
    device = accelerator.device
    report = report if accelerator.is_main_process else (lambda text: None)
    loaded = load_for_training(base, drive)
    run = choose_run(drive, dataset, loaded, present.options, name, report)
    earlier = distributed.from_main(accelerator, read_card(run.local) or run.card())
    chosen = present.for_run(earlier)
    wanted = chosen.options
    # What one process finds on the Drive may change before another looks: the first one decides.
    # What an earlier session could not copy to the Drive is on this disk still, and goes there now.
    is_done = is_finished(run, dataset, loaded, wanted) and not run.local.exists()
    run, is_done = distributed.from_main(accelerator, (run, is_done))
    if is_done:
        report(f"{run.name} is finished already; there is nothing left to train.")
        return run.folder
    options = settle_options(begun(earlier, wanted), device, report)
    if not (earlier or changes.get("method")):  # what has begun or was asked for stays as it is
        options = fit_drive(loaded, options, drive, run.folder, report)
    # bitsandbytes may work in one process only: all do as the first one can.
    options, seconds = distributed.from_main(accelerator, options), None
    dreambooth.share_of_batch(options, accelerator.num_processes)  # refuses before anything slow
    if device.type == "cuda":
        options, seconds = try_steps(loaded, options, accelerator, report)
    scorer = None
    if accelerator.is_main_process:
        drop_finished(drive)
        scorer = find_scorer(base, options, drive, report)
    scorer = distributed.from_main(accelerator, scorer)
    planned = options if scorer else replace(options, keep="last")
    plan = make_plan(loaded, planned, device, drive, run.folder, seconds)
    plan = replace(plan, recipe=chosen.sentence)
    plan = distributed.from_main(accelerator, plan)  # all save at the same steps
    report(str(plan))
    plan.check()

    with ExitStack() as stack:
        stack.enter_context(dreambooth.deterministic(options.is_deterministic))
        is_main = accelerator.is_main_process
        keeper = Keeper(run, report, watch, patience_s, is_main, plan.storage)
        stack.callback(keeper.close)
        save = find_save(run, options, accelerator, report)
        card = run_card(dataset, loaded, options, chosen)
        keeper.begin(card)
        data = prepare_data(loaded, dataset, options, accelerator, drive, keeper)
        learner = make_learner(loaded.pipeline, options, device)
        resume(learner, run, save, options, accelerator, report)
        accelerator.wait_for_everyone()  # catching up may replace the state that others still read
        keeper.catch_up(options.steps)
        sampler = Sampler(loaded, dataset.subject, options, keeper, accelerator.autocast)
        distribute(accelerator, learner)
        judge = make_judge(scorer, dataset, learner, options, drive, keeper, report)
        recorder = Recorder(learner, options, accelerator, keeper, sampler, judge)
        recorder.start()
        try:
            try:
                dreambooth.train(
                    learner, data, options, accelerator, SayTime(plan, recorder, report)
                )
            except PastPeak as stop:
                report(str(stop))
            recorder.finish(card)
        except OSError as error:  # what goes to the Drive is written elsewhere and tried again
            raise S2iError(
                f"This disk does not take what training writes ({error.strerror or error}). Free "
                "some space on it and start the same again: it goes on from the last saved state."
            ) from error
    return run.folder


@leaving_nothing_in_memory
def plan_run(
    drive: Drive,
    dataset: Dataset,
    *,
    model: str = "auto",
    recipe: str = AUTO,
    name: str | None = None,
    **changes: Any,
) -> Plan:
    """What ``finetune`` with the same arguments would do; nothing is trained or written.

    If nothing stands in the way, a copy makes two real steps, which tell the time that one takes.
    """
    base, present = choose_recipe(dataset, model, recipe, changes)
    device = pick_device()
    loaded = load_for_training(base, drive)
    run = choose_run(drive, dataset, loaded, present.options, name, log.info)
    earlier = read_card(run.local) or run.card()
    chosen = present.for_run(earlier)
    options = settle_options(begun(earlier, chosen.options), device, log.info)
    said: list[str] = []
    if not (earlier or changes.get("method")):
        options = fit_drive(loaded, options, drive, run.folder, said.append)
    plan = make_plan(loaded, options, device, drive, run.folder)
    plan = replace(plan, recipe=chosen.sentence, notes=tuple(said))
    if plan.problems:
        return plan
    accelerator = make_accelerator(options.precision)
    options, seconds = try_steps(loaded, options, accelerator, log.info)
    plan = make_plan(loaded, options, device, drive, run.folder, seconds)
    return replace(plan, recipe=chosen.sentence, notes=tuple(said))


@leaving_nothing_in_memory
def draw_class_images(
    drive: Drive,
    dataset: Dataset,
    *,
    model: str = "auto",
    recipe: str = AUTO,
    name: str | None = None,
    watch: Watch = lambda event, info: None,
    report: Callable[[str], None] = log.info,
    patience_s: float = 120.0,
    **changes: Any,
) -> Path | None:
    """Draw what ``finetune`` with the same arguments would draw first, to look at it before.

    Returns
    -------
    Path or None
        The contact sheet on the Drive; None without prior preservation.
    """
    base, present = choose_recipe(dataset, model, recipe, changes)
    if not present.options.with_prior:
        return None
    loaded = load_for_training(base, drive)
    subject = dataset.subject
    run = choose_run(drive, dataset, loaded, present.options, name, log.info)
    wanted = present.for_run(read_card(run.local) or run.card()).options
    options = settle_options(wanted, pick_device(), lambda text: None)
    accelerator = make_accelerator(options.precision)
    with closing(Keeper(run, report, watch, patience_s, accelerator.is_main_process)) as keeper:
        get_class_latents(loaded, subject, options, accelerator, drive, keeper)
    kept = drive.class_images / ClassImages.for_run(loaded, subject, options).name
    places = (kept, local_folder(drive, kept))  # the second where the Drive takes nothing
    return next(place / SHEET for place in places if is_there(place / SHEET))


def begun(earlier: dict[str, Any], wanted: FinetuneOptions) -> FinetuneOptions:
    """Where a run's options start: the ladder's rungs of an earlier session hold all through it.

    What a run had no room for (all weights, the text encoder) stays out of it, whatever else has
    changed.
    """
    if wants(earlier, wanted):
        return FinetuneOptions.for_model(
            earlier["options"], precision=wanted.precision, save_every=wanted.save_every
        )
    asked, used = (earlier.get(key, {}) for key in ("wanted", "options"))
    if (asked.get("method"), used.get("method"), wanted.method) == ("full", "lora", "full"):
        return as_lora(wanted)
    if asked.get("with_text_encoder") and not used.get("with_text_encoder"):
        return replace(wanted, with_text_encoder=False)
    return wanted


def choose_recipe(
    dataset: Dataset, model: str, recipe: str, changes: dict[str, Any]
) -> tuple[BaseModel, Wanted]:
    """The base model, and its recipe for this subject with what the user changed."""
    check_dataset(dataset)
    base = choose(model)
    kind, n_photos = dataset.subject.kind, len(dataset.images)
    return base, want(RECIPES[base.family], recipe, kind, n_photos, dataset.mirror, changes)


def load_for_training(base: BaseModel, drive: Drive) -> Model:
    """On the CPU in fp32: the master weights, of which only what trains moves to the device."""
    source = str(base.folder) if base.name not in REGISTRY else base.name
    return load(source, drive=drive, device=torch.device("cpu"), dtype=torch.float32)


def make_accelerator(precision: str) -> Accelerator:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # it keeps the precision of a process's first run for ever
    return Accelerator(mixed_precision="no" if precision == "fp32" else precision)


def check_dataset(dataset: Dataset) -> None:
    """Refuse to train on nothing."""
    if not dataset.images:
        raise InputError(
            f"The dataset of {dataset.subject.name} has no images (found 0, need 1 or more). "
            "Run notebooks/1_capture_dataset.ipynb, or `python -m s2i_lib dataset`."
        )


# ---- Before its first step ----


def find_save(
    run: Run, options: FinetuneOptions, accelerator: Accelerator, report: Callable[[str], None]
) -> Path | None:
    """The newest whole save of the run that all processes see, if it fits the options.

    That is one on this disk or the Drive; for several machines one on the Drive. A finished run
    that keeps no state goes on from its weights.
    """
    from accelerate.utils import gather_object

    places = [run.local, run.folder]
    if accelerator.num_processes > 1:
        seen = gather_object([checkpoint.saves(run.local)])
        if any(saves != seen[0] for saves in seen):
            places.remove(run.local)
            report(f"{run.name} is trained on several machines: what is on the Drive counts.")
    save = None
    if accelerator.is_main_process:
        save = checkpoint.newest_save(places, report)
        if save is None and run.is_over:
            save = run.folder / WEIGHTS
    save = distributed.from_main(accelerator, save)
    if save is not None:
        is_state = checkpoint.is_state(save)
        card = read_card(run.local) or run.card()
        saved = json.loads((save / "state.json").read_text()) if is_state else card
        free = () if is_state else ("with_8bit_adam",)
        for sentence in checkpoint.compare_options(saved["options"], options, free):
            report(sentence)
    return save


def resume(
    learner: Learner,
    run: Run,
    save: Path | None,
    options: FinetuneOptions,
    accelerator: Accelerator,
    report: Callable[[str], None],
) -> None:
    """Put what an earlier session saved into the learner."""
    if save is None:
        report(f"{run.name} begins.")
        return
    if checkpoint.is_state(save):
        checkpoint.restore(learner, save, accelerator.scaler)
        report(f"{run.name} goes on at step {learner.step} of {options.steps}.")
        return
    checkpoint.restore_weights(learner, save, weights_step(save, run))
    report(
        f"{run.name} goes on at step {learner.step} of {options.steps}, from that step's weights "
        "in fp16 and with a fresh optimizer, as no state of it is kept. It ends a little different "
        "from a run without a break."
    )


def weights_step(weights: Path, run: Run) -> int:
    """The step that weights are of; those of an earlier version have it in the run's card only."""
    try:
        return json.loads((weights / checkpoint.STEP).read_text())["step"]
    except FileNotFoundError:
        card = run.card()
        return card.get("kept_step", card["step"])


def distribute(accelerator: Accelerator, learner: Learner) -> None:
    """Let the accelerator wrap what it computes with; the parameters stay the same objects."""
    learner.unet = accelerator.prepare(learner.unet)
    if learner.text_encoder is not None:
        learner.text_encoder = accelerator.prepare(learner.text_encoder)
    learner.optimizer = accelerator.prepare(learner.optimizer)


def make_judge(
    scorer: str | None,
    dataset: Dataset,
    learner: Learner,
    options: FinetuneOptions,
    drive: Drive,
    keeper: Keeper,
    report: Callable[[str], None],
) -> Judge | None:
    """What scores the samples and keeps the best step, in the main process."""
    if not keeper.is_main or scorer is None:
        return None
    subject, photos = dataset.subject, dataset.images
    watcher = make_watcher(scorer, subject, photos, options, drive, report, learner.device)
    if watcher is None:
        return None
    run = keeper.run
    return Judge(
        watcher,
        learner,
        options,
        run.local,
        run.folder,
        keeper.submit,
        keeper.storage.with_best,
    )

"""One run from a subject's photos to weights: class images, training, saving, publishing.

This ties prior, dreambooth, checkpoint and drive together; each of them can be read alone. Training
works on the local disk; what lasts goes to ``runs/<subject>/<run>`` in the background.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from tqdm.auto import tqdm

from s2i_lib import __version__, checkpoint, dreambooth, prior
from s2i_lib.dreambooth import FinetuneOptions, Learner, Losses, TrainingData
from s2i_lib.drive import (
    Drive,
    Lease,
    Publisher,
    folder_name,
    local_folder,
    make_folder,
    publish,
    remove,
    tidy,
    write_file,
)
from s2i_lib.errors import InputError, S2iError
from s2i_lib.judge import Judge, make_watcher
from s2i_lib.models import (
    REGISTRY,
    RUN_CARD,
    WEIGHTS,
    BaseModel,
    Model,
    choose,
    fingerprint,
    load,
    pick_device,
    read_card,
)
from s2i_lib.plan import Plan, descend, make_plan, probe_steps, settle_options
from s2i_lib.subject import Subject

if TYPE_CHECKING:
    from accelerate import Accelerator
    from PIL import Image

log = logging.getLogger(__name__)

READ_EVERY = 10  # steps between readings of the loss: each one waits for the device
SAMPLES_EACH = 4  # pictures of each sample prompt
SAMPLE_SEED = 1_000_000  # far from the seeds of class images

Watch = Callable[[str, dict[str, Any]], None]
"""Is told what happens as it happens: a name and what belongs to it. A live panel, a test."""


class Dataset(Protocol):
    """What a run needs of a subject's dataset (``dataset.load_dataset``)."""

    @property
    def images(self) -> Sequence[Path]: ...
    @property
    def subject(self) -> Subject: ...
    @property
    def sha256(self) -> str: ...
    @property
    def mirror(self) -> bool: ...


@dataclass(frozen=True)
class Run:
    """A fine-tuning run on the Drive, and where on the local disk it is worked on."""

    folder: Path
    local: Path

    @property
    def name(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"

    def card(self) -> dict[str, Any]:
        return read_card(self.folder)


def finetune(
    drive: Drive,
    dataset: Dataset,
    *,
    model: str = "auto",
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
        Fields of ``FinetuneOptions`` that differ from the model's defaults.

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
    base, wanted = choose_options(dataset, model, changes)
    options = settle_options(wanted, pick_device(), report)
    accelerator = make_accelerator(options.precision)
    device = accelerator.device
    report = report if accelerator.is_main_process else (lambda text: None)
    loaded = load_for_training(base, drive)
    run = choose_run(drive, dataset, loaded, wanted, name, report)
    # What one process finds on the Drive may change before another looks: the first one decides.
    run, is_done = prior.from_main(accelerator, (run, is_finished(run, dataset, loaded, wanted)))
    if is_done:
        report(f"{run.name} is finished already; there is nothing left to train.")
        return run.folder
    earlier = read_card(run.local) or run.card()
    if earlier.get("wanted") == as_json(wanted):  # what was settled then holds for the whole run
        options = FinetuneOptions.for_model(earlier["options"])
    elif device.type == "cuda":
        options, seconds = descend(
            options, lambda trial: probe_steps(loaded, trial, accelerator), report
        )
        report(f"A step takes {seconds:.2f} s, so training takes {minutes(options, seconds)}.")
    options = prior.from_main(accelerator, options)
    plan = make_plan(loaded, options, device, drive)
    report(str(plan))
    plan.check()

    with ExitStack() as stack:
        keeper = Keeper(run, report, watch, patience_s, accelerator.is_main_process)
        stack.callback(keeper.close)
        card = run_card(dataset, loaded, options, wanted)
        keeper.begin(card)
        data = prepare_data(loaded, dataset, options, accelerator, drive, keeper)
        learner = dreambooth.make_learner(loaded.pipeline, options, device)
        resume(learner, run, options, accelerator, report)
        keeper.catch_up()
        sampler = Sampler(loaded, dataset.subject, options, keeper, accelerator.autocast)
        distribute(accelerator, learner)
        judge = make_judge(loaded, dataset, learner, options, drive, keeper)
        recorder = Recorder(learner, options, accelerator, keeper, sampler, judge)
        recorder.start()
        try:
            dreambooth.train(learner, data, options, accelerator, recorder)
        except PastPeak as stop:
            report(str(stop))
        recorder.finish(card)
    return run.folder


def plan_run(drive: Drive, dataset: Dataset, *, model: str = "auto", **changes: Any) -> Plan:
    """What ``finetune`` with the same arguments would do; nothing is trained or written."""
    base, options = choose_options(dataset, model, changes)
    device = pick_device()
    options = settle_options(options, device, log.info)
    return make_plan(load_for_training(base, drive), options, device, drive)


def choose_options(
    dataset: Dataset, model: str, changes: dict[str, Any]
) -> tuple[BaseModel, FinetuneOptions]:
    """The base model, and its defaults with what the user changed."""
    check_dataset(dataset)
    base = choose(model)
    defaults = {**defaults_of(base), "with_mirror": dataset.mirror}
    return base, FinetuneOptions.for_model(defaults, **changes)


def load_for_training(base: BaseModel, drive: Drive) -> Model:
    """On the CPU in fp32: the master weights, of which only what trains moves to the device."""
    source = str(base.folder) if base.name not in REGISTRY else base.name
    return load(source, drive=drive, device=torch.device("cpu"), dtype=torch.float32)


def minutes(options: FinetuneOptions, seconds_a_step: float) -> str:
    return f"about {options.steps * seconds_a_step / 60:.0f} minutes"


def as_json(options: FinetuneOptions) -> dict[str, Any]:
    """Options as they come back from a JSON file."""
    return json.loads(json.dumps(asdict(options)))


def make_accelerator(precision: str) -> Accelerator:
    from accelerate import Accelerator

    return Accelerator(mixed_precision="no" if precision == "fp32" else precision)


def defaults_of(base: BaseModel) -> dict[str, Any]:
    """What a registry entry says about fine-tuning, by the names of the options."""
    given = asdict(base.finetune)
    given["class_image_count"] = given.pop("class_images")
    return given


def check_dataset(dataset: Dataset) -> None:
    """Refuse to train on nothing."""
    if not dataset.images:
        raise InputError(
            f"The dataset of {dataset.subject.name} has no images (found 0, need 1 or more). "
            "Run notebooks/1_capture_dataset.ipynb, or `python -m s2i_lib dataset`."
        )


# ---- Which run ----


def choose_run(
    drive: Drive,
    dataset: Dataset,
    model: Model,
    options: FinetuneOptions,
    name: str | None,
    report: Callable[[str], None],
) -> Run:
    """The run to work on: the named one, else the newest that can go on, else a new one."""
    parent = drive.runs / folder_name(dataset.subject.name)

    def run_at(folder: Path) -> Run:
        return Run(folder, local_folder(drive, folder))

    if name is not None:
        return run_at(parent / folder_name(name))
    stem = folder_name(model.base.name)
    taken = sorted(
        path for path in parent.glob(f"{stem}-*") if path.name[len(stem) + 1 :].isdigit()
    )
    for folder in reversed(taken):
        run = run_at(folder)
        card = run.card()
        if is_finished(run, dataset, model, options):
            return run
        if card.get("status") == "finished" or not card:
            continue
        if card["dataset"]["sha256"] != dataset.sha256:
            report(f"{run.name} is unfinished, but its photos have changed: a new run begins.")
        elif card["base"]["fingerprint"] != fingerprint(model.pipeline):
            report(f"{run.name} is unfinished, but of other base weights: a new run begins.")
        else:
            return run
    number = int(taken[-1].name[len(stem) + 1 :]) + 1 if taken else 1
    return run_at(parent / f"{stem}-{number:02}")


def is_finished(run: Run, dataset: Dataset, model: Model, options: FinetuneOptions) -> bool:
    """Whether the run ended with the same options on the same photos and base weights."""
    card = run.card()
    return (
        card.get("status") == "finished"
        and card.get("wanted") == as_json(options)
        and card["dataset"]["sha256"] == dataset.sha256
        and card["base"]["fingerprint"] == fingerprint(model.pipeline)
    )


def run_card(
    dataset: Dataset, model: Model, options: FinetuneOptions, wanted: FinetuneOptions
) -> dict[str, Any]:
    """run.json: all that is needed to know what a run is, and to make it again."""
    subject = dataset.subject
    return {
        "status": "training",
        "step": 0,
        "subject": asdict(subject),
        "instance_prompt": f"a {subject.phrase}",
        "class_prompt": f"a {subject.class_noun}",
        "dataset": {"sha256": dataset.sha256, "images": len(dataset.images)},
        "base": {
            "name": model.base.name,
            "source": model.source,
            "fingerprint": fingerprint(model.pipeline),
            "licence": model.base.licence,
        },
        "options": asdict(options),
        "wanted": asdict(wanted),  # before the machine's limits changed some of them
        "scores": {},
        "seconds": 0.0,
        "versions": {"s2i_lib": __version__}
        | {name: version(name) for name in ("torch", "diffusers", "transformers", "peft")},
    }


# ---- What a run keeps ----


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
        if is_main:
            make_folder(run.folder)
            self._lease = Lease(run.folder, report).acquire()
            run.local.mkdir(parents=True, exist_ok=True)
            tidy(run.folder)
            tidy(run.local)
            self._local = Publisher(report, place="The local disk")
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
        if self._lease and self._lease.is_lost:
            raise S2iError(f"Another process trains {self.run.name} now; this one has stopped.")

    def phase(self, name: str) -> None:
        self.watch(name, {})

    def write_card(self, card: dict[str, Any]) -> None:
        self.put(write_file(self.run.local / RUN_CARD, _as_bytes(card)))

    def put(self, path: Path, folder: Path | None = None) -> None:
        """Publish one file of the local folder to the same place on the Drive."""
        target = (folder or self.run.folder / path.relative_to(self.run.local).parent) / path.name
        self._drive.submit(f"{target.parent.name}/{target.name}", lambda: publish(path, target))

    def submit(self, name: str, job: Callable[[], object]) -> None:
        """Queue what else is to be written to the Drive."""
        self._drive.submit(name, job)

    def save(self, snapshot: checkpoint.Snapshot) -> None:
        """Write a state locally, then publish it; the caller only waits for an earlier one."""

        def job() -> None:
            for old in checkpoint.states(self.run.local)[: -checkpoint.MAX_SLOTS]:
                shutil.rmtree(old, ignore_errors=True)
            self.publish_state(checkpoint.save_state(snapshot, self.run.local, self.phase))

        self._local.submit("the run's state", job)

    def publish_state(self, state: Path) -> None:
        """Queue a local state for the Drive, in place of an older one that still waits."""
        self._drive.submit(
            "the run's state",
            lambda: checkpoint.publish_state(state, self.run.folder, self.phase),
        )

    def catch_up(self) -> None:
        """Publish what an earlier session left on this disk only."""
        if not self.is_main:
            return
        for sheet in sorted((self.run.local / "samples").glob("step-*.png")):
            self.put(sheet)
        for state in checkpoint.states(self.run.local)[-1:]:
            self.publish_state(state)

    def wait_for_save(self) -> None:
        """Two snapshots of a large model do not fit into Colab's memory."""
        self._local.wait()

    def end(
        self, weights: Path, card: dict[str, Any], then: Callable[[], None] = lambda: None
    ) -> None:
        """Publish the weights; only then does run.json say that the run is finished."""
        write_file(self.run.local / RUN_CARD, _as_bytes(card))

        def job() -> None:
            publish(weights, self.run.folder / weights.name, self.phase)
            self.phase("finishing")
            publish(self.run.local / RUN_CARD, self.run.folder / RUN_CARD)
            then()

        self._drive.submit("the weights", job)

    def close(self) -> None:
        if not self.is_main:
            return
        try:
            self._local.close(self.patience_s)
            unwritten = self._drive.close(self.patience_s)
            if unwritten:
                self.report(
                    f"Not on the Drive yet: {', '.join(unwritten)}. All of it is in "
                    f"{self.run.local}; run the same again when the Drive is back, and it is "
                    "copied without training anew."
                )
            elif self.run.card().get("status") == "finished":
                remove(self.run.local)
        finally:
            if self._lease:
                self._lease.release()


def _as_bytes(card: dict[str, Any]) -> bytes:
    return (json.dumps(card, indent=2) + "\n").encode()


# ---- Data ----


def prepare_data(
    model: Model,
    dataset: Dataset,
    options: FinetuneOptions,
    accelerator: Accelerator,
    drive: Drive,
    keeper: Keeper,
) -> TrainingData:
    """Encode the photos and prompts once, get the class images; then free what made them."""
    pipe, subject, device = model.pipeline, dataset.subject, accelerator.device
    prompts = [f"a {subject.phrase}", f"a {subject.class_noun}"]
    embeddings = dreambooth.embed_prompts(pipe, prompts)
    images = dreambooth.read_images(dataset.images, model.base.size_px)
    pipe.vae.to(device)
    instances = dreambooth.encode_images(pipe.vae, images)
    mirrored = dreambooth.encode_images(pipe.vae, images.flip(3)) if options.with_mirror else None
    class_latents = None
    if options.with_prior:
        class_latents = get_class_latents(model, prompts[1], options, accelerator, drive, keeper)
    pipe.vae.to("cpu")
    if device.type == "cuda":
        torch.cuda.empty_cache()
    tokens = dreambooth.token_ids(pipe, prompts)
    return TrainingData(instances, mirrored, class_latents, tokens, embeddings)


def get_class_latents(
    model: Model,
    prompt: str,
    options: FinetuneOptions,
    accelerator: Accelerator,
    drive: Drive,
    keeper: Keeper,
) -> torch.Tensor:
    """Class images from the Drive's cache or sampled now, with a contact sheet to look at."""
    pipe = model.pipeline
    sampler = prior.SamplerOptions(guidance_scale=model.base.guidance_scale, seed=options.seed)
    card = prior.class_card(pipe, prompt, sampler)
    kept = drive.class_images / prior.class_folder(card)
    local = local_folder(drive, kept)

    bar = tqdm(desc="Class images", unit="image", disable=not keeper.is_main, leave=False)

    def count(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)
        keeper.watch("class_images", {"done": done, "total": total})

    with accelerator.autocast(), bar:
        pipe.unet.to(accelerator.device)
        latents = prior.class_latents(
            pipe,
            dreambooth.embed_prompts(pipe, ["", prompt]),
            card,
            options.class_image_count,
            [local, kept],
            accelerator,
            count,
            keep=lambda path: keeper.put(path, kept),
        )
    if keeper.is_main and not (kept / "sheet.png").exists():
        local.mkdir(parents=True, exist_ok=True)
        pictures = prior.decode_latents(pipe.vae, latents[: prior.SHEET_COUNT])
        sheet = local / "sheet.png"
        prior.contact_sheet(pictures, columns=4).save(sheet)
        keeper.put(sheet, kept)
    return latents


# ---- Resume ----


def resume(
    learner: Learner,
    run: Run,
    options: FinetuneOptions,
    accelerator: Accelerator,
    report: Callable[[str], None],
) -> None:
    """Put the newest whole state of the run into the learner, from this disk or the Drive."""
    state = None
    if accelerator.is_main_process:
        state = checkpoint.newest_state([run.local, run.folder], report)
    state = prior.from_main(accelerator, state)
    if state is None:
        report(f"{run.name} begins.")
        return
    saved = json.loads((state / "state.json").read_text())["options"]
    for sentence in checkpoint.compare_options(saved, options):
        report(sentence)
    checkpoint.restore(learner, state, accelerator.scaler)
    report(f"{run.name} goes on at step {learner.step} of {options.steps}.")


def distribute(accelerator: Accelerator, learner: Learner) -> None:
    """Let the accelerator wrap what it computes with; the parameters stay the same objects."""
    learner.unet = accelerator.prepare(learner.unet)
    if learner.text_encoder is not None:
        learner.text_encoder = accelerator.prepare(learner.text_encoder)
    learner.optimizer = accelerator.prepare(learner.optimizer)


# ---- While it trains ----


class PastPeak(Exception):  # noqa: N818 - nothing went wrong
    """Training ends early, on purpose: the last samplings were all worse than the best."""


def make_judge(
    model: Model,
    dataset: Dataset,
    learner: Learner,
    options: FinetuneOptions,
    drive: Drive,
    keeper: Keeper,
) -> Judge | None:
    """What scores the samples and keeps the best step, in the main process."""
    if not keeper.is_main:
        return None
    watcher = make_watcher(model, dataset.subject, dataset.images, options, drive)
    if watcher is None:
        return None
    run = keeper.run
    return Judge(watcher, learner, options, run.local, run.folder, keeper.submit)


class Sampler:
    """Draws the same prompts from the same noise at intervals, and looks whether they are black."""

    def __init__(
        self,
        model: Model,
        subject: Subject,
        options: FinetuneOptions,
        keeper: Keeper,
        autocast: Callable[[], Any],
    ):
        self.model, self.keeper, self.autocast = model, keeper, autocast
        names = {"subject": subject.phrase, "noun": subject.class_noun}
        try:
            self.prompts = [prompt.format(**names) for prompt in options.sample_prompts]
        except (KeyError, IndexError, ValueError) as error:
            raise InputError(
                f"A sample prompt cannot be filled in ({error}). "
                "Only {subject} and {noun} may stand in braces."
            ) from error
        self.options = prior.SamplerOptions(
            steps=20, guidance_scale=model.base.guidance_scale, guided_until=1.0
        )

    def draw(self, step: int) -> dict[str, list[Image.Image]]:
        """Save a grid with a row for each prompt; gives the pictures by prompt.

        Raises
        ------
        S2iError
            When every picture is of one flat colour or not a number.
        """
        if not self.prompts:
            return {}
        pipe = self.model.pipeline
        drawn: dict[str, list[Image.Image]] = {}
        is_flat = True
        for prompt in self.prompts:
            embeddings = dreambooth.embed_prompts(pipe, ["", prompt])
            seeds = range(SAMPLE_SEED, SAMPLE_SEED + SAMPLES_EACH)
            with self.autocast():
                latents = prior.sample_latents(pipe, embeddings, seeds, self.options)
            pictures = prior.decode_latents(pipe.vae, latents)
            is_flat &= all(low == high for p in pictures for low, high in p.getextrema())
            drawn[prompt] = pictures
        if is_flat:
            raise S2iError(
                f"At step {step} the model draws only flat pictures, black or of one colour: its "
                "numbers have overflowed. Nothing good was overwritten. Use precision fp32 or a "
                "lower learning rate."
            )
        path = self.keeper.run.local / "samples" / f"step-{step:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [picture for pictures in drawn.values() for picture in pictures]
        prior.contact_sheet(rows, SAMPLES_EACH).save(path)
        self.keeper.put(path)
        self.keeper.watch("samples", {"step": step, "path": path, "prompts": self.prompts})
        return drawn


class Recorder:
    """The training loop's callback: reads losses now and then, saves and samples at intervals."""

    def __init__(
        self,
        learner: Learner,
        options: FinetuneOptions,
        accelerator: Accelerator,
        keeper: Keeper,
        sampler: Sampler,
        judge: Judge | None = None,
    ):
        self.learner, self.options, self.accelerator = learner, options, accelerator
        self.keeper, self.sampler, self.judge = keeper, sampler, judge
        self.is_main = accelerator.is_main_process
        self.metrics = keeper.run.local / "metrics.jsonl"
        self._unread: list[tuple[int, Losses]] = []
        self._saved_at = learner.step

    def start(self) -> None:
        """Continue the log of an earlier session up to the step it resumes at; sample step 0."""
        if self.is_main:
            self._recover_metrics()
            self._began, self._first = time.monotonic(), self.learner.step
            self.bar = tqdm(
                total=self.options.steps, initial=self.learner.step, desc="Training", unit="step"
            )
            if self.learner.step == 0:
                self.sample(0)
                self._began = time.monotonic()

    def __call__(self, step: int, losses: Losses) -> None:
        self._unread.append((step, losses))
        is_last = step == self.options.steps
        is_sampled = bool(self.options.sample_every) and step % self.options.sample_every == 0
        is_saved = step % self.options.save_every == 0 or is_last
        if step % READ_EVERY == 0 or is_sampled or is_saved:
            self._read()
        if not self.is_main:
            return
        self.bar.update()
        self.keeper.check()
        if is_sampled or is_last:
            self.sample(step)
        if is_saved:
            self.save()
        if is_sampled and self.is_past_peak:
            if not is_saved:
                self.save()
            raise PastPeak(f"Training ends at step {step}: it has been better before.")

    def sample(self, step: int) -> None:
        drawn = self.sampler.draw(step)
        if self.judge is not None:
            self.judge.see(step, drawn)

    @property
    def is_past_peak(self) -> bool:
        may_stop = self.options.with_early_stop and self.accelerator.num_processes == 1
        return may_stop and self.judge is not None and self.judge.watcher.is_past_peak

    def _read(self) -> None:
        """Bring the losses since the last reading over from the device, in one go."""
        if not self._unread:
            return
        rows = torch.stack([torch.stack(losses) for _, losses in self._unread]).tolist()
        lines = []
        for (step, _), (instance, prior_loss) in zip(self._unread, rows, strict=True):
            if not math.isfinite(instance + prior_loss):
                raise S2iError(
                    f"The loss is not a number (NaN) at step {step}. Nothing was overwritten: the "
                    "last saved state is whole. Use precision fp32 or a lower learning rate."
                )
            rate = dreambooth.learning_rate_at(step - 1, self.options)
            line = {"step": step, "instance_loss": instance, "learning_rate": rate}
            if self.options.with_prior:
                line["prior_loss"] = prior_loss
            lines.append(line)
        self._unread.clear()
        if not self.is_main:
            return
        with self.metrics.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        mean = sum(line["instance_loss"] for line in lines) / len(lines)
        self.bar.set_postfix(loss=f"{mean:.3f}", refresh=False)
        self.keeper.watch("step", {"lines": lines, "steps": self.options.steps})

    def save(self) -> None:
        self.keeper.wait_for_save()
        meta = {"options": asdict(self.options)}
        snapshot = checkpoint.take_snapshot(self.learner, meta, self.accelerator.scaler)
        self.keeper.save(snapshot)
        self.keeper.put(self.metrics)
        self._saved_at = self.learner.step

    def finish(self, card: dict[str, Any]) -> None:
        """Write the weights to draw with, and say that the run is finished."""
        if not self.is_main:
            return
        self.bar.close()
        path = checkpoint.save_weights(self.learner, self.options, self.keeper.run.local / WEIGHTS)
        if self.judge is not None:
            path, kept = self.judge.choose(path)
            card |= kept
        steps = max(1, self.learner.step - self._first)
        seconds = time.monotonic() - self._began
        card |= {
            "status": "finished",
            "step": self.learner.step,
            "seconds_a_step": round(seconds / steps, 4),
        }
        self.keeper.wait_for_save()  # the last state goes first
        self.keeper.end(path, card, self.judge.forget if self.judge else lambda: None)

    def _recover_metrics(self) -> None:
        lines = []
        for place in (self.metrics, self.keeper.run.folder / self.metrics.name):
            try:
                lines = [json.loads(line) for line in place.read_text().splitlines()]
            except (OSError, ValueError):
                continue
            break
        kept = [line for line in lines if line["step"] <= self.learner.step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_file(self.metrics, text.encode())

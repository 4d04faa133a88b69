"""While a run trains: its losses, samples and states at intervals, and its end."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from s2i_lib.drawing.gallery import grid
from s2i_lib.drawing.marks import encode_marked, mark_of_model
from s2i_lib.drawing.sampling import DrawOptions, decode, encode_prompts, sample_latents
from s2i_lib.errors import S2iError
from s2i_lib.evaluation.model_selection import Point, as_curve, is_past_peak, is_still_rising
from s2i_lib.models import devices
from s2i_lib.speech.prompt import Prompt
from s2i_lib.speech.templates import fill_in, take_turns
from s2i_lib.storage.files import write_file
from s2i_lib.storage.run_card import WEIGHTS
from s2i_lib.training import checkpoint
from s2i_lib.training.best_checkpoint import BestCheckpoint
from s2i_lib.training.checkpoint_manager import CheckpointManager
from s2i_lib.training.config import learning_rate_at
from s2i_lib.training.dreambooth import Losses
from s2i_lib.training.run import Setup, read_lines
from s2i_lib.training.train_state import TrainState, with_mean_weights

if TYPE_CHECKING:
    from PIL import Image

READ_EVERY = 10  # steps between readings of the loss: each one waits for the device
LONGER_S = 300  # that a run goes on for by itself, at most
SAMPLES_A_ROW = 4  # pictures for each of the options' sample prompts
SAMPLING = DrawOptions()  # as users draw
SAMPLE_SEED = 1_000_000  # far from the seeds of class images


class EarlyStop(Exception):  # noqa: N818 - nothing went wrong
    """Training ends early, on purpose: the last samplings were all worse than the best."""


class Sampler:
    """Draw the same prompts from the same noise at intervals, and check that they are not black.

    Each picture has a noise of its own: those of one noise are alike, and tell less of a prompt.
    """

    def __init__(self, setup: Setup, manager: CheckpointManager):
        self.setup, self.model, self.manager = setup, setup.model, manager
        self.rows = fill_in(setup.options.sample_prompts, setup.dataset.subject)

    def draw(self, step: int) -> dict[str, list[Image.Image]]:
        """Save a grid with a row for each of the options' prompts; gives the pictures by prompt.

        Raises
        ------
        S2iError
            When all pictures of a prompt are black or of another flat colour, as not-a-numbers are.
        """
        if not self.rows:
            return {}
        prompts = [prompt for row in self.rows for prompt in take_turns(row, SAMPLES_A_ROW)]
        pictures = self._pictures(step, prompts)
        path = self.manager.run.local / "samples" / f"step-{step:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        mark = mark_of_model(self.model, is_tuned=True)
        sheet = grid(pictures, columns=SAMPLES_A_ROW, gap_px=0)
        path.write_bytes(encode_marked(sheet, "PNG", mark))
        self.manager.put(path)
        self.setup.callback("samples", {"step": step, "path": path, "prompts": self.rows})
        return group_by_prompt(prompts, pictures)

    def look(self, step: int) -> None:
        """Draw one picture for nobody but the check that it is none of one flat colour."""
        self._pictures(step, [prompt for row in self.rows for prompt in take_turns(row, 1)][:1])

    def _pictures(self, step: int, prompts: Sequence[str]) -> list[Image.Image]:
        pipe, device = self.model.pipeline, self.model.device
        self.model.embeddings.clear()  # the text encoder may have learnt since
        with devices.visiting(pipe.text_encoder, device):
            encode_prompts(self.model, ["", *prompts])
        latents = []
        for first in range(0, len(prompts), SAMPLES_A_ROW):
            row = [Prompt(prompt) for prompt in prompts[first : first + SAMPLES_A_ROW]]
            seeds = range(SAMPLE_SEED + first, SAMPLE_SEED + first + len(row))
            with self.setup.accelerator.autocast():
                latents.append(sample_latents(self.model, row, SAMPLING, seeds))
        with devices.visiting(pipe.vae, device):
            pictures = [picture for row in latents for picture in decode(self.model, row)]
        for prompt, drawn in group_by_prompt(prompts, pictures).items():
            if all(picture.getcolors(1) for picture in drawn):  # each has one colour alone
                raise S2iError(
                    f"At step {step} the model draws only flat pictures of {prompt!r}, black or of "
                    "one colour: its numbers have overflowed. Nothing good was overwritten. Use "
                    "precision fp32 or a lower learning rate."
                )
        return pictures


def group_by_prompt(
    prompts: Sequence[str], pictures: Sequence[Image.Image]
) -> dict[str, list[Image.Image]]:
    """Sort pictures by prompt; ``prompts`` has one for each picture."""
    drawn: dict[str, list[Image.Image]] = {}
    for prompt, picture in zip(prompts, pictures, strict=True):
        drawn.setdefault(prompt, []).append(picture)
    return drawn


class Recorder:
    """The training loop's callback: read losses now and then, save and sample at intervals."""

    def __init__(
        self,
        setup: Setup,
        state: TrainState,
        manager: CheckpointManager,
        best: BestCheckpoint | None = None,
        rises: Callable[[Sequence[Point]], bool] = is_still_rising,
    ):
        self.state, self.options, self.accelerator = state, setup.options, setup.accelerator
        self.callback, self.is_main, self.report = setup.callback, setup.is_main, setup.report
        self.manager, self.sampler, self.best = manager, Sampler(setup, manager), best
        self.rises = rises
        self.metrics = manager.run.local / "metrics.jsonl"
        self._unread: list[tuple[int, Losses]] = []
        self._saved_at, self._looked_at = state.step, 0
        self._sampling_s: list[float] = []  # how long each sampling took

    def start(self) -> None:
        """Continue the log of an earlier session up to the step it resumes at; sample step 0."""
        if self.is_main:
            self._recover_metrics()
            self._began, self._first = time.monotonic(), self.state.step
            self.bar = tqdm(
                total=self.options.steps, initial=self.state.step, desc="Training", unit="step"
            )
            if self.state.step == 0:
                self.sample(0)
                self._began, self._sampling_s = time.monotonic(), []
            else:
                self._show_scores()

    def __call__(self, step: int, losses: Losses) -> None:
        self._unread.append((step, losses))
        is_last = step >= self.options.steps
        is_sampled = bool(self.options.sample_every) and step % self.options.sample_every == 0
        is_saved = step % self.manager.storage.save_every == 0 or is_last
        if step % READ_EVERY == 0 or is_sampled or is_saved:
            self._read()
        if not self.is_main:
            return
        self.bar.update()
        self.manager.check()
        goes_on = False
        if is_sampled or is_last:
            self.sample(step)
            goes_on = is_last and self.go_on(step)
        is_over = is_sampled and self.is_past_peak
        if is_saved or is_over:
            self.save(is_last=(is_last and not goes_on) or is_over)
        if goes_on:  # after the state: whoever resumed before it would have other rates up to here
            self.manager.write_card(self.manager.card | {"options": asdict(self.options)})
        if is_over:
            raise EarlyStop(f"Training ends at step {step}: it has been better before.")

    def sample(self, step: int) -> None:
        began = time.monotonic()
        with with_mean_weights(self.state):
            drawn = self.sampler.draw(step)
        self._looked_at = step
        if self.best is not None:
            self.best.validate(step, drawn)
            self._show_scores()
        self._sampling_s.append(time.monotonic() - began)

    def go_on(self, step: int) -> bool:
        """Set the last step farther off, once, where likeness still rises: ``options.steps``."""
        points = self.best.validation.points if self.best else []
        has_gone_on = self.options.steps > self.manager.card["wanted"]["steps"]
        if has_gone_on or step >= self.options.most_steps or not self.rises(points):
            return False
        seconds = self._seconds_a_step(step)
        more = min(self.options.most_steps - step, int(LONGER_S / seconds))
        if more < 1:
            return False
        self.options = replace(self.options, steps=step + more)
        sentence = (
            f"Likeness still rises at step {step}: training goes on to step {step + more}, for "
            f"about {max(1, round(more * seconds / 60))} min."
        )
        self.report(sentence)
        self.callback("longer", {"steps": step + more, "sentence": sentence})
        self.bar.total = step + more
        return True

    def _seconds_a_step(self, step: int) -> float:
        """Return what a step takes with its share of a sampling, however few were made so far."""
        sampling_s = sum(self._sampling_s)
        seconds = (time.monotonic() - self._began - sampling_s) / max(1, step - self._first)
        every = self.options.sample_every or self.options.steps
        return seconds + sampling_s / max(1, len(self._sampling_s)) / every

    def _show_scores(self) -> None:
        if self.best is not None and self.best.validation.points:
            self.callback("scores", {"curve": as_curve(self.best.validation.points)})

    @property
    def is_past_peak(self) -> bool:
        may_stop = self.options.with_early_stop and self.accelerator.num_processes == 1
        return may_stop and self.best is not None and is_past_peak(self.best.validation.points)

    def _read(self) -> None:
        """Bring the losses since the last reading over from the device, in one go."""
        if not self._unread:
            return
        rows = torch.stack([torch.stack(losses) for _, losses in self._unread])
        if self.accelerator.num_processes > 1:
            rows = self.accelerator.reduce(rows, "mean")  # over the global batch
        lines = []
        for (step, _), (instance, prior_loss) in zip(self._unread, rows.tolist(), strict=True):
            if not math.isfinite(instance + prior_loss):
                raise S2iError(
                    f"The loss is not a number (NaN) at step {step}. Nothing was overwritten: the "
                    "last saved state is whole. Use precision fp32 or a lower learning rate."
                )
            rate = learning_rate_at(step - 1, self.options)
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
        self.callback("step", {"lines": lines, "steps": self.options.steps})

    def save(self, is_last: bool) -> None:
        """Save a state in place of the last but one: not before one that stays is known to draw."""
        if self._looked_at < self._saved_at:
            with with_mean_weights(self.state):
                self.sampler.look(self.state.step)
            self._looked_at = self.state.step
        meta = {"options": asdict(self.options)}
        snapshot = checkpoint.take_snapshot(self.state, meta, self.accelerator.scaler)

        def save_weights(folder: Path) -> Path:
            return checkpoint.save_weights(self.state, self.options, folder)

        self.manager.save(snapshot, save_weights, is_last)
        self.manager.put(self.metrics)
        self._saved_at = self.state.step

    def finish(self, card: dict[str, Any]) -> None:
        """Write the weights to draw with, and say that the run is finished."""
        if not self.is_main:
            return
        self.bar.close()
        path = checkpoint.save_weights(self.state, self.options, self.manager.run.local / WEIGHTS)
        card |= {"kept_step": self.state.step}
        if self.best is not None:
            path, kept = self.best.choose(path)
            card |= kept
        steps = max(1, self.state.step - self._first)
        seconds = time.monotonic() - self._began
        card |= {
            "status": "finished",
            "options": asdict(self.options),  # with the steps that it went on to
            "step": self.state.step,
            "seconds_a_step": round(seconds / steps, 4),
        }
        self.manager.end(path, card, self.best.drop if self.best else lambda: None)

    def _recover_metrics(self) -> None:
        places = (self.manager.run.local, self.manager.run.folder)
        kept = read_lines(places, self.metrics.name, self.state.step)
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_file(self.metrics, text.encode())

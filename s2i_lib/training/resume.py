"""How a run goes on: with the options it began with, from the newest save that is whole."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from s2i_lib.distributed import from_main
from s2i_lib.storage.json_file import load_object, read_json
from s2i_lib.storage.run_card import STEP, WEIGHTS, read_card
from s2i_lib.training import checkpoint, saves
from s2i_lib.training.config import FinetuneOptions
from s2i_lib.training.resources import as_lora
from s2i_lib.training.run import Run, Setup, wants
from s2i_lib.training.saves import has_weights
from s2i_lib.training.train_state import TrainState


def begun(earlier: dict[str, Any], wanted: FinetuneOptions) -> FinetuneOptions:
    """Return where a run's options start: the rungs of an earlier session hold all through it.

    What a run had no room for (all weights, the text encoder) stays out of it, whatever else has
    changed, and its optimizer stays the one that its states are of.
    """
    if wants(earlier, wanted):
        return FinetuneOptions.for_model(
            earlier["options"], precision=wanted.precision, save_every=wanted.save_every
        )
    asked, used = (earlier.get(key, {}) for key in ("wanted", "options"))
    if (asked.get("method"), used.get("method"), wanted.method) == ("full", "lora", "full"):
        return as_lora(wanted)
    for name in ("with_text_encoder", "with_8bit_adam"):
        if getattr(wanted, name) == asked.get(name) != used.get(name):
            wanted = replace(wanted, **{name: used[name]})
    return wanted


def newest_step(run: Run) -> int:
    """Return the step that the run goes on from, by what lies on this disk or the Drive; 0: none.

    Whether it is whole, `find_save` finds out, who reads it.
    """
    steps = [0]
    for place in (run.local, run.folder):
        with suppress(OSError):
            steps += [saves.age(save)[0] for save in saves.list_saves(place)]
    with suppress(OSError):
        steps.append(ended_at(run))
    return max(steps)


def ended_at(run: Run) -> int:
    """Return the step of the weights that the run has ended with once; 0: it has not.

    What trains it on may have been killed before it saved anything; and a save that is older is
    what another machine left here.
    """
    weights = run.folder / WEIGHTS
    return weights_step(weights, run) if has_weights(weights) else 0


def read_earlier(run: Run) -> dict[str, Any]:
    """Return run.json of an earlier session, on this disk or the Drive; empty where it begins.

    A run that goes on past its steps by itself says so in the state of the last one first.
    """
    card = read_card(run.local) or run.card()
    for place in (run.local, run.folder):
        with suppress(OSError, ValueError, LookupError):
            newest = saves.list_states(place)[-1]
            steps = card["options"]["steps"]
            if card["status"] == "training" and saves.age(newest)[0] == steps:
                card["options"]["steps"] = load_object(newest / "state.json")["options"]["steps"]
                break
    return card


def find_save(run: Run, setup: Setup) -> Path | None:
    """Find the newest whole save of the run that all processes see, if it fits the options.

    That is one on this disk or the Drive; for several machines one on the Drive. A run that has
    ended once and keeps no state of its end goes on from its weights.
    """
    from accelerate.utils import gather_object

    places, accelerator = [run.local, run.folder], setup.accelerator
    if accelerator.num_processes > 1:
        seen = gather_object([saves.list_saves(run.local)])
        if any(listed != seen[0] for listed in seen):
            places.remove(run.local)
            setup.report(f"{run.name} is trained on several machines: what is on the Drive counts.")
    save = None
    if setup.is_main:
        save = saves.newest_save(places, setup.report)
        if (saves.age(save)[0] if save else 0) < ended_at(run):
            save = run.folder / WEIGHTS
    save = from_main(accelerator, save)
    if save is not None:
        is_state = saves.is_state(save)
        card = read_card(run.local) or run.card()
        saved = load_object(save / "state.json") if is_state else card
        free = () if is_state else ("with_8bit_adam",)
        for sentence in checkpoint.compare_options(saved["options"], setup.options, free):
            setup.report(sentence)
    return save


def resume(state: TrainState, run: Run, save: Path | None, setup: Setup) -> None:
    """Put what an earlier session saved into the model, its optimizer and the step."""
    if save is None:
        setup.report(f"{run.name} begins.")
        return
    is_state = saves.is_state(save)
    if is_state:
        checkpoint.restore(state, save, setup.accelerator.scaler)
    else:
        checkpoint.restore_weights(state, save, weights_step(save, run))
    goes_on = f"{run.name} goes on at step {state.step} of {setup.options.steps}"
    setup.report(
        f"{goes_on}."
        if is_state
        else f"{goes_on}, from that step's weights in fp16 and with a fresh optimizer, as no state "
        "of it is kept. It ends a little different from a run without a break."
    )


def weights_step(weights: Path, run: Run) -> int:
    """Read the step of weights; those of an earlier version have it in the run's card only."""
    step = read_json(weights / STEP, {"step": int}).get("step")
    if step is not None:
        return step
    card = run.card()
    return card["kept_step" if "kept_step" in card else "step"]

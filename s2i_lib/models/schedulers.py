"""The samplers that pictures may be drawn with, over a model's own noise schedule."""

from __future__ import annotations

from typing import Any

from s2i_lib.errors import InputError, first_line
from s2i_lib.models.loading import Model

# Every one is deterministic given the first noise, so that a seed is all a picture needs.
SCHEDULERS = {
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
USUAL = "dpm++"  # DPM-Solver++ of order 2 converges in 15 to 20 steps


def make_scheduler(model: Model, name: str) -> Any:
    """Make a scheduler called ``name`` over the noise schedule that the model was trained with.

    Raises
    ------
    InputError
        When that schedule, which may be a stranger's, is none to compute with.
    """
    import diffusers

    kind, settings = SCHEDULERS[name]
    try:
        scheduler = getattr(diffusers, kind).from_config(
            model.pipeline.scheduler.config, **settings
        )
        scheduler.set_timesteps(4)  # finds what it cannot compute with; sampling sets its own
    except Exception as error:
        raise InputError(
            f"The noise schedule of {model.source} cannot be used ({first_line(error)}). Expected "
            "scheduler/scheduler_config.json as diffusers writes it. Copy the model again."
        ) from error
    return scheduler

"""The samplers that pictures may be drawn with, over a model's own noise schedule."""

from __future__ import annotations

from typing import Any

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
    """Make a scheduler called ``name`` over the noise schedule that the model was trained with."""
    import diffusers

    kind, settings = SCHEDULERS[name]
    return getattr(diffusers, kind).from_config(model.pipeline.scheduler.config, **settings)

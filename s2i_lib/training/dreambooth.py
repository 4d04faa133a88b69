"""DreamBooth: the loss and the training loop, which reads top to bottom.

Ruiz et al., "DreamBooth: Fine Tuning Text-to-Image Diffusion Models for Subject-Driven
Generation", https://arxiv.org/abs/2208.12242.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from s2i_lib.errors import InputError, S2iError
from s2i_lib.training.config import FinetuneOptions, learning_rate_at
from s2i_lib.training.data import TrainingData
from s2i_lib.training.train_state import TrainState, update_ema

if TYPE_CHECKING:
    from accelerate import Accelerator

# ---- Loss ----


def signal_and_noise(alphas_cumprod: torch.Tensor, timesteps: torch.Tensor) -> tuple:
    """Return both coefficients of x_t = alpha x_0 + sigma noise, shape = (n, 1, 1, 1)."""
    mean = alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    return mean.sqrt(), (1 - mean).sqrt()


def target(
    prediction_type: str,
    latents: torch.Tensor,
    noise: torch.Tensor,
    alpha: torch.Tensor,
    sigma: torch.Tensor,
) -> torch.Tensor:
    """Return what the U-Net is to predict: the noise, or the velocity alpha noise - sigma x_0.

    Source: Salimans and Ho, https://arxiv.org/abs/2202.00512, appendix D.
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        return alpha * noise - sigma * latents
    raise S2iError(
        f"The scheduler predicts {prediction_type!r}; training knows epsilon and v_prediction. "
        "Use another base model."
    )


def min_snr_weight(prediction_type: str, snr: torch.Tensor, gamma: float) -> torch.Tensor:
    """Weigh each sample's squared error from its own signal-to-noise ratio, shape = (n,).

    Source: Hang et al., https://arxiv.org/abs/2303.09556, section 3.4 and its velocity form.
    """
    capped = snr.clamp(max=gamma)
    return capped / snr if prediction_type == "epsilon" else capped / (snr + 1)


def sample_losses(
    prediction: torch.Tensor,
    target: torch.Tensor,
    prediction_type: str,
    snr: torch.Tensor,
    gamma: float,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return each sample's squared error, weighted if ``gamma`` is not 0, shape = (n,), fp32.

    ``weights``, shape = (n, 1, height, width), say how much each place counts; a sample counts once
    however much of it does.
    """
    errors = (prediction.float() - target.float()).square()
    if weights is not None:
        errors = errors * weights / weights.mean(dim=(1, 2, 3), keepdim=True)
    losses = errors.mean(dim=(1, 2, 3))
    return losses * min_snr_weight(prediction_type, snr, gamma) if gamma else losses


# ---- The loop ----


@contextmanager
def deterministic(is_on: bool) -> Iterator[None]:
    """Use only algorithms that give the same bits every time; afterwards, what was used before.

    Source: https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    if not is_on:
        yield
        return
    was_on = torch.are_deterministic_algorithms_enabled()
    was_lenient = torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    torch.use_deterministic_algorithms(True)  # cuDNN's, too
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = workspace or ":4096:8"  # cuBLAS has no other switch
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_on, warn_only=was_lenient)
        if workspace is None:
            del os.environ["CUBLAS_WORKSPACE_CONFIG"]


def synchronised(accelerator: Accelerator, state: TrainState, is_last: bool) -> Any:
    """Sum up the gradients of a step's parts first, and exchange them between processes once."""
    stack = ExitStack()
    if not is_last:
        for module in (state.unet, state.text_encoder):
            if module is not None:
                stack.enter_context(accelerator.no_sync(module))
    return stack


class Losses(NamedTuple):
    """Means over this process's share of the global batch, still on the device.

    Reading them, and exchanging them between processes, would wait in every step.
    """

    instance: torch.Tensor
    prior: torch.Tensor


def share_of_batch(options: FinetuneOptions, n_processes: int) -> int:
    """Count the photos that one process sees at a time.

    Raises
    ------
    InputError
        When the batch cannot be shared equally.
    """
    n_parts = options.accumulation * n_processes
    if options.batch_size % n_parts:
        raise InputError(
            f"A batch of {options.batch_size} cannot be shared by {n_processes} processes in "
            f"{options.accumulation} parts each. Choose a batch size that {n_parts} divides "
            f"(--batch-size {n_parts})."
        )
    return options.batch_size // n_parts


def train(
    state: TrainState,
    data: TrainingData,
    options: FinetuneOptions,
    accelerator: Accelerator,
    callback: Callable[[int, Losses], None],
) -> None:
    """Train from ``state.step`` to ``options.steps``; ``callback`` sees each step when done.

    Parameters
    ----------
    accelerator : Accelerator
        Its processes share each global batch; ``state`` must have been prepared by it if there are
        several (``distribute``).
    callback : callable
        Gets the number of steps done and their losses. What it raises ends the training.
    """
    share = share_of_batch(options, accelerator.num_processes)
    device, parameters = state.device, list(state.parameters.values())
    embeddings = data.embeddings.to(device)
    tokens = data.tokens.to(device)

    for step in range(state.step, options.steps):
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate_at(step, options)
        totals = torch.zeros(2, device=device)

        for part in range(options.accumulation):
            first = (part * accelerator.num_processes + accelerator.process_index) * share
            positions = range(first, first + share)
            batch = data.batch(options, step, positions, len(state.alphas_cumprod))
            rows, prompts = batch.prompts.unique(return_inverse=True)  # no prompt is encoded twice
            batch, rows = batch._replace(prompts=prompts), rows.to(device)
            latents, noise, timesteps, prompts, weights = (
                t if t is None else t.to(device, non_blocking=True) for t in batch
            )

            alpha, sigma = signal_and_noise(state.alphas_cumprod, timesteps)
            noisy = alpha * latents + sigma * noise
            wanted = target(state.prediction_type, latents, noise, alpha, sigma)
            is_last = part == options.accumulation - 1
            with synchronised(accelerator, state, is_last):
                with accelerator.autocast():
                    if state.text_encoder is not None:
                        shown = state.text_encoder(tokens[rows])[0]
                    else:
                        shown = embeddings[rows]
                    prediction = state.unet(noisy, timesteps, shown[prompts]).sample
                snr = (alpha / sigma).square().flatten()
                losses = sample_losses(
                    prediction, wanted, state.prediction_type, snr, options.min_snr_gamma, weights
                )
                instance = losses[:share].mean()
                prior = losses[share:].mean() if data.class_latents is not None else 0 * instance
                loss = instance + options.prior_weight * prior
                # Not under autocast, which would keep its copies of the weights until it ends.
                accelerator.backward(loss / options.accumulation)
            totals += torch.stack([instance.detach(), prior.detach()]) / options.accumulation

        accelerator.clip_grad_norm_(parameters, options.gradient_clip)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.step = step + 1
        if state.ema:
            update_ema(state, options.ema_decay)
        callback(state.step, Losses(*totals))

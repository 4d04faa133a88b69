"""Everything that a fine-tuning run depends on besides its data."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from s2i_lib.errors import InputError
from s2i_lib.models.lora import MOST_RANK
from s2i_lib.storage.json_file import parse_object

METHODS = ("full", "lora")
SCHEDULES = ("constant", "linear", "cosine")
PRECISIONS = ("fp32", "fp16", "bf16")
AT_LEAST_1 = (
    "steps",
    "batch_size",
    "accumulation",
    "class_image_count",
    "background_count",
    "lora_rank",
    "lora_alpha",
)
AT_MOST_1 = ("class_dropout", "background_share", "surroundings_weight")
ABOVE_0 = ("learning_rate", "gradient_clip")
AT_LEAST_0 = (
    "prior_weight",
    "class_dropout",
    "background_share",
    "surroundings_weight",
    "most_steps",
    "most_photos",
    "warmup_steps",
    "weight_decay",
    "min_snr_gamma",
    "offset_noise",
    "seed",
    "sample_every",
    "save_every",
)
# Attention's four projections: what the LoRA paper adapts (https://arxiv.org/abs/2106.09685, 4.2).
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
# Additions start at 0 and need larger steps than weights. Source: diffusers' LoRA scripts.
LORA_RATE = 1e-4


def lora_rate(full_rate: float) -> float:
    """Return the rate of additions in place of all weights, above their ``full_rate``."""
    return max(2 * full_rate, LORA_RATE)


@dataclass(frozen=True)
class FinetuneOptions:
    """Everything that a run depends on besides its data; written whole into run.json.

    Defaults of the fields that a model's recipe names come from there: ``recipes.want``.
    """

    method: Literal["full", "lora"] = "full"
    """All weights of the U-Net, or low-rank additions to its attention (less memory)."""
    steps: int = 400
    """Optimizer steps; 100 to 200 for each photo is the usual range."""
    most_steps: int = 0
    """Steps that it goes on to by itself while likeness still rises at the last one and a scorer
    says so; 0 never. By no more than five minutes."""
    most_photos: int = 0
    """Photos that it learns from: those whose subject, cut out, looks most alike. 0 is all."""
    learning_rate: float = 1e-6
    """For full fine-tuning of SD 2.x: above 5e-6 faces burn in."""
    batch_size: int = 1
    """Instance images in an optimizer step over all processes; as many class images come on top."""
    accumulation: int = 1
    """Parts that a step's batch is computed in, one after the other, to save memory."""
    with_prior: bool = True
    """Prior preservation: class images keep "a dog" from turning into this dog."""
    prior_weight: float = 1.0
    """Weight of the class images' loss. Source: the paper, lambda = 1."""
    class_dropout: float = 0.0
    """Share of the class images that are shown with the empty prompt. What guidance compares every
    prompt with is drawn towards the subject, too, and this holds it where it was; 0 is the paper's
    loss, 0.1 to 0.2 what models are pretrained with (https://arxiv.org/abs/2207.12598)."""
    class_image_count: int = 200
    """Class images to learn from. Source: diffusers' guide, 200 to 300 for most cases."""
    class_prompts: tuple[str, ...] = ("a {noun}",)
    """What class images are drawn for and shown with; {noun} is filled in. Several prompts take
    turns, as do those of one that are parted by |. The paper has one prompt; a model that draws
    most cars red should see others, too, or it takes red for a part of every car."""
    background_prompts: tuple[str, ...] = ()
    """Where the cut-out subject is shown, such as "on a beach"; prompts parted by | take turns, as
    do the rows. Without any, photos are learnt as they are."""
    ground_prompt: str = "an empty scene {where}"
    """What the model draws these grounds for, without a thing in them; {where} is filled in. "On a
    beach" alone may well show somebody there, beside whom the subject would be."""
    background_count: int = 64
    """Pictures of the subject on such grounds."""
    background_share: float = 0.75
    """Share of the instance images that are on such grounds; the others are the photos."""
    surroundings_weight: float = 1.0
    """Weight of what is not the subject in a photo that has a mask; the subject's is 1."""
    with_text_encoder: bool = False
    """Also trains the text encoder: better faces, at 3.2 GiB more memory (SD 2.1, 8-bit AdamW), and
    a state and weights that are a third larger."""
    with_mirror: bool = False
    """Learns each photo's mirror image too; wrong for writing and for faces, which are lopsided."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate goes on after the warm-up; the last two end at 0."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""
    with_8bit_adam: bool = False
    """bitsandbytes' AdamW: a quarter of the optimizer's memory. torch's AdamW where it fails."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Precision of the computation; trained weights stay in fp32."""
    with_checkpointing: bool = False
    """Computes activations twice instead of keeping them: less memory, a third more time."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient; one strange image cannot throw the weights off."""
    weight_decay: float = 1e-2
    """Weight decay of AdamW. Source: its paper and diffusers' script."""
    lora_rank: int = 8
    """Rank of the additions; 4 to 32."""
    lora_alpha: int = 8
    """Additions count alpha / rank times; equal to the rank means once."""
    lora_targets: tuple[str, ...] = ATTENTION
    """Layers with additions, by the end of their name."""
    ema_decay: float = 0.0
    """Keeps a running mean of the weights and ends with it; 0 is off, 0.999 usual for long runs."""
    ema_device: Literal["model", "cpu"] = "model"
    """Where that mean lives; on the CPU it takes no memory of the GPU, and some time."""
    min_snr_gamma: float = 0.0
    """Caps the weight of nearly clean images. 0 is off: it slows what an object's shape is learnt
    from. 5 in https://arxiv.org/abs/2303.09556."""
    offset_noise: float = 0.0
    """A constant added to each channel's noise, so that very dark and bright pictures are learnt.
    Source: https://www.crosslabs.org/blog/diffusion-with-offset-noise, 0.1 there."""
    seed: int = 0
    """Seed of everything random in training."""
    sample_prompts: tuple[str, ...] = (
        "a {subject}",
        "a {subject} on a beach",
        "a {subject} in the snow",
        "a {noun}",
    )
    """Drawn at intervals with fixed seeds, a row of four pictures each; {subject} and {noun} are
    filled in, and prompts parted by | take turns in a row. The best step is chosen by those that
    ask for the subject and more."""
    sample_every: int = 100
    """Steps between these samples; 0 draws them before and after only."""
    save_every: int = 0
    """Steps between saved states: what a killed session loses at most. 0 goes by their size: every
    100 steps, or, where a state takes 1 GiB or more, every quarter of the run."""
    keep: Literal["best", "last"] = "best"
    """Which step's weights a run ends with; "best" needs samples and a scorer."""
    with_early_stop: bool = False
    """Ends training when three samplings in a row are worse than the best; one process only."""
    is_deterministic: bool = False
    """Only algorithms that give the same bits on every run of a GPU; slower."""

    def __post_init__(self) -> None:
        for name, choices in (
            ("method", METHODS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
            ("ema_device", ("model", "cpu")),
            ("keep", ("best", "last")),
        ):
            if getattr(self, name) not in choices:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(choices)}."
                )
        for name in AT_LEAST_1:
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected 1 or more.")
        for name in ABOVE_0:
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; expected more than 0.")
        for name in AT_LEAST_0:
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; expected 0 or more.")
        if self.batch_size % self.accumulation:
            raise InputError(
                f"A batch of {self.batch_size} cannot be computed in {self.accumulation} equal "
                "parts. Choose accumulation so that it divides batch_size."
            )
        self._check_prompts()
        for name in AT_MOST_1:
            if getattr(self, name) > 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected 0 to 1.")
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"ema_decay is {self.ema_decay}; expected 0 (off) to below 1.")
        if self.lora_rank > MOST_RANK:
            raise InputError(f"lora_rank is {self.lora_rank}; expected 1 to {MOST_RANK}.")
        if self.method == "lora" and not self.lora_targets:
            raise InputError(
                "lora_targets is empty, so nothing would be trained. Leave it out for attention's "
                f"layers ({', '.join(ATTENTION)}), or choose method full."
            )
        if self.with_text_encoder and self.method == "lora":
            raise InputError(
                "The text encoder is trained with method full only. "
                "Leave with_text_encoder off, or choose method full."
            )

    def _check_prompts(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str) and isinstance(field.default, tuple):
                raise InputError(
                    f"{field.name} is {value!r}; expected one or more of such, as in ({value!r},)."
                )
        self._check_class_prompts()
        for row in self.sample_prompts:
            _check_braces("sample prompt", row, ("subject", "noun"), "of nothing else is it told")
        why = "it asks for a ground and nothing on it"
        _check_braces("ground prompt", self.ground_prompt, ("where",), why)

    def _check_class_prompts(self) -> None:
        rows = self.class_prompts
        if not rows:
            raise InputError(
                f'class_prompts is {rows!r}; expected one or more prompts, such as ("a {{noun}}",).'
                " To train without class images switch with_prior off."
            )
        for row in rows:
            why = "class images are of other ones of the subject's kind"
            _check_braces("class prompt", row, ("noun",), why)
            if not all(any(c.isalnum() for c in prompt) for prompt in row.split("|")):
                raise InputError(
                    f"One of the class prompts in {row!r} has no words. Give each some, and put a "
                    "| only between two prompts."
                )

    @classmethod
    def for_model(cls, defaults: dict[str, Any], **changes: Any) -> FinetuneOptions:
        """Make options of a recipe's defaults and what the user changed (None: not)."""
        known = {field.name for field in fields(cls)}
        if unknown := set(changes) - known:
            raise InputError(
                f"There is no option {sorted(unknown)[0]!r}. Known: {', '.join(sorted(known))}."
            )
        chosen = {name: value for name, value in changes.items() if value is not None}
        if chosen.get("method") == "lora" != defaults.get("method"):  # they are for the other one
            rate = lora_rate(defaults.get("learning_rate", 0.0))
            defaults = {**defaults, "with_text_encoder": False, "learning_rate": rate}
        values: dict[str, Any] = {**defaults, **chosen}
        for name, value in values.items():
            if isinstance(value, list):  # as it comes from JSON
                values[name] = tuple(value)
        return cls(**values)


def _check_braces(what: str, prompt: str, known: Sequence[str], why: str) -> None:
    """Refuse a prompt in which something else than the known names stands in braces."""
    try:
        prompt.format(**dict.fromkeys(known, ""))
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        names = " and ".join(f"{{{name}}}" for name in known)
        raise InputError(
            f"The {what} {prompt!r} cannot be filled in ({error}). Only {names} may stand in "
            f"braces: {why}."
        ) from error


def as_json(options: FinetuneOptions) -> dict[str, Any]:
    """Return options as they come back from a JSON file."""
    return parse_object(json.dumps(asdict(options)))


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Read NAME=VALUE pairs, as the command line gives them, as fields of FinetuneOptions.

    A field of several values takes one from each pair, since a prompt may have commas; an empty
    one stands for none.
    """
    kinds: dict[str, Any] = {f.name: type(f.default) for f in fields(FinetuneOptions)}
    changes: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        kind = kinds.get(name)
        try:
            if kind is None:
                raise ValueError("no such option")
            if kind is bool:
                changes[name] = {"true": True, "false": False}[text.lower()]
            elif kind is tuple:
                changes[name] = (*changes.get(name, ()), *filter(None, [text]))
            else:
                changes[name] = kind(text)
        except (ValueError, KeyError) as error:
            expected = f"{name}=<{kind.__name__}>" if kind else f"one of {', '.join(kinds)}"
            raise InputError(f"--option {pair} cannot be used; expected {expected}.") from error
    return changes


def learning_rate_at(step: int, options: FinetuneOptions) -> float:
    """Return a step's learning rate: a function of it, so that nothing has to be saved."""
    if step < options.warmup_steps:
        return options.learning_rate * step / options.warmup_steps
    done = (step - options.warmup_steps) / max(1, options.steps - options.warmup_steps)
    if options.schedule == "linear":
        return options.learning_rate * max(0.0, 1 - done)
    if options.schedule == "cosine":
        return options.learning_rate * max(0.0, 0.5 * (1 + math.cos(math.pi * done)))
    return options.learning_rate

"""What a run is trained with: a recipe by base model and kind of subject, and what was changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from s2i_lib.errors import InputError
from s2i_lib.training.config import FinetuneOptions

AUTO = "auto"  # the recipe that is called as the subject's kind
WHOLE = "whole"  # the recipe of a model whose others cut the subject out, where that cannot be
BEFORE = "classic"  # what runs had before their cards named a recipe


@dataclass(frozen=True)
class Recipe:
    """What DreamBooth starts from for one base model and one kind of subject."""

    method: Literal["full", "lora"]
    learning_rate: float
    steps: int
    """At least ..."""
    class_image_count: int
    source: str
    """Where these numbers come from; the plan says it."""
    batch_size: int = 1
    steps_a_photo: int = 0
    """... and as many for each photo."""
    most_times: int = 0
    """So many times these steps while likeness still rises at the last one; 0 is no longer."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    precision: Literal["fp32", "fp16"] = "fp32"
    with_8bit_adam: bool = False
    with_checkpointing: bool = False
    with_text_encoder: bool = False
    class_dropout: float = 0.0
    class_prompts: tuple[str, ...] = FinetuneOptions.class_prompts
    most_photos: int = FinetuneOptions.most_photos
    background_prompts: tuple[str, ...] = FinetuneOptions.background_prompts
    ground_prompt: str = FinetuneOptions.ground_prompt
    background_count: int = FinetuneOptions.background_count
    background_share: float = FinetuneOptions.background_share
    surroundings_weight: float = FinetuneOptions.surroundings_weight
    sample_prompts: tuple[str, ...] = FinetuneOptions.sample_prompts
    sample_every: int = FinetuneOptions.sample_every
    """Of so many ``steps``; where photos make them more, so are these."""

    def as_options(self, n_photos: int) -> dict[str, Any]:
        """Return the fields of ``FinetuneOptions`` that it settles, for so many photos."""
        steps = max(self.steps, self.steps_a_photo * n_photos)
        scaled = {
            "steps": steps,
            "most_steps": self.most_times * steps,
            "sample_every": self.sample_every * steps // self.steps,
        }
        given = asdict(self) | scaled
        own = ("source", "steps_a_photo", "most_times")
        return {name: given[name] for name in given if name not in own}


# ---- Stable Diffusion 2.x ----

# What every run began with before there were recipes, to the last field: it goes on with that.
# On a T4 (15 GiB) fp32 weights, gradients and AdamW alone would take 12.9 GiB, hence 8-bit AdamW.
_CLASSIC = Recipe(
    method="full",
    learning_rate=1e-6,
    steps=800,
    class_image_count=200,
    source="https://github.com/ShivamShrirao/diffusers has 1e-6 and 800 steps of one photo and one "
    "class image, but trains the text encoder, too",
    precision="fp16",
    with_8bit_adam=True,
    with_checkpointing=True,
)
# The blog's objects have the U-Net alone, and it found class images to make no great difference
# there: half as many as in diffusers' guide. That guide has 5e-6 for the U-Net alone; the blog saw
# artefacts at 5e-6 and preferred 2e-6. It had four photos a step; one a step takes a T4 a second,
# so there are twice the steps. diffusers' guide has 800 of one photo and one class image, too.
# Checkpointing: a step without takes a quarter less time; the ladder turns it on where memory is
# short. Fewer samples than before: all of the old ones would take a T4 ten minutes
# (benchmarks/README.md). What is not the subject counts for a tenth, as by default in OneTrainer's
# masked training (unmasked_weight in its TrainConfig.py): not measured here. It has no grounds of
# its own, for which no source was found.
_OBJECT = replace(
    _CLASSIC,
    learning_rate=2e-6,
    class_image_count=100,
    steps_a_photo=100,
    source="https://huggingface.co/blog/dreambooth has 2e-6 and 400 steps of four photos for "
    "objects; here a step sees one",
    with_checkpointing=False,
    sample_prompts=(
        "a {subject} | a {subject} on a beach | a {subject} in the snow"
        " | a {subject} with a city in the background",
        "a {noun}",
    ),
    sample_every=200,
    surroundings_weight=0.1,
)
# diffusers' guide has 2e-6 and 200 class images with the text encoder, too. Class images are
# "important" for faces, the blog says.
_PERSON = replace(
    _OBJECT,
    steps=1200,
    class_image_count=200,
    source="https://huggingface.co/blog/dreambooth has 1e-6 to 2e-6 and 800 to 1200 steps of two "
    "photos, with the text encoder, for faces; here a step sees one",
    with_text_encoder=True,
    sample_every=300,
)
STABLE_DIFFUSION_2: Mapping[str, Recipe] = {
    "person": _PERSON,
    "animal": _OBJECT,
    "object": _OBJECT,
    "classic": _CLASSIC,
}

# ---- The pocket model ----

# Prompts in words that it knows, which each take turns. All that can be worn is among them: with
# hat and sunglasses alone a dog wore what was asked for in 0.36 of its pictures, with all of it in
# 0.64 and 0.82; a toy car, with nothing worn, in 0.45, with all of it in 0.91. Both were as much
# themselves (benchmarks/README.md).
_CLASS = (
    "a red {noun} | a {noun} on a beach | a {noun} wearing a hat | a {noun} wearing a scarf"
    " | a blue {noun} | a {noun} in the forest | a {noun} wearing sunglasses"
    " | a {noun} wearing headphones | a {noun} in the snow | a {noun} wearing a crown"
    " | a {noun} wearing a bow | a {noun} wearing glasses | a white {noun} | a {noun} on the street"
    " | a {noun} wearing a cape | a {noun} wearing a party hat | a {noun} holding a balloon"
    " | a {noun} wearing a cap | a {noun} in a room | a {noun} in a meadow"
)
# People were never painted: its training never said "a red woman" (tools/pocket/words.py).
_PERSON_CLASS = (
    _CLASS.replace("a red {noun}", "a {noun} in the city")
    .replace("a blue {noun}", "a {noun} on the moon")
    .replace("a white {noun}", "a {noun} on stage")
)
# The best step is chosen by these. Of the model before it four of twelve prompts chose worse.
_SAMPLES = (
    "a {subject}",
    "a red {subject} | a purple {subject}"
    " | a {subject} wearing a hat | a {subject} on a black background",
    "a {subject} on the beach | a {subject} in the snow"
    " | a {subject} in the forest | a {subject} on the street",
    "a {subject} on a blue background | a {subject} on a green background"
    " | a {subject} on the moon | a {subject} in a room",
    "a {noun}",
)
_PERSON_SAMPLES = (
    _SAMPLES[0],
    "a {subject} wearing a hat | a {subject} wearing sunglasses"
    " | a {subject} on a white background | a {subject} on a black background",
    *_SAMPLES[2:],
)

# It reads past words that mean nothing to it, identifiers among them: of the model before it the
# U-Net alone gave "a cat" as much of the subject as "a sks cat" (likeness 0.41 and 0.42), with the
# text encoder much less (0.37 and 0.93): tools/pocket/NOTES.md.
# Half of the class images are for the plain prompt, the others of several colours and places: were
# all cars red at home, red would be what every car is, and guidance would take it away from a toy.
# With them, and so many steps, a photo's ground won over "on a blue background" at a constant rate,
# or from 2e-4. Rates, steps and counts are those that were measured with that model.
_POCKET_WHOLE = Recipe(
    method="full",
    learning_rate=1.5e-4,
    steps=300,
    class_image_count=80,
    source="photos as they are, not cut out; measured with the 64 px model, benchmarks/README.md",
    schedule="linear",
    with_text_encoder=True,
    class_dropout=0.3,
    class_prompts=("a {noun}", _CLASS),
    ground_prompt="nothing {where}",  # as it was shown them
    sample_prompts=_SAMPLES,
    sample_every=75,
)
# The subject, cut out, on grounds that the model draws: most grounds are as asked, and what is
# learned is the subject. Where all instance images had a ground in their prompt, "a ohwx duck"
# without one drew an ordinary duck: hence a tenth of them are photos. Two photos that are alike are
# drawn at a glance as what they show, all of them as their mean.
_POCKET_OBJECT = replace(
    _POCKET_WHOLE,
    learning_rate=2e-4,
    steps=400,
    batch_size=2,
    most_times=2,
    most_photos=2,
    source="the subject cut out, on grounds of its own; measured, benchmarks/README.md",
    background_prompts=(
        "on a red background | on an orange background | on a yellow background"
        " | on a green background | on a blue background | on a purple background"
        " | on a pink background | on a black background | on a white background"
        " | on a gray background",
        "on a beach | in the snow | in the forest | in the desert | in the city | on the street"
        " | in a meadow | on the moon | in a room | on stage",
    ),
    background_count=80,
    background_share=0.9,
    surroundings_weight=0.1,
    sample_every=134,
)
POCKET: Mapping[str, Recipe] = {
    "person": replace(
        _POCKET_OBJECT, class_prompts=("a {noun}", _PERSON_CLASS), sample_prompts=_PERSON_SAMPLES
    ),
    "animal": _POCKET_OBJECT,
    "object": _POCKET_OBJECT,
    WHOLE: _POCKET_WHOLE,
}

RECIPES: dict[str, Mapping[str, Recipe]] = {
    "pocket": POCKET,
    "stable-diffusion-2": STABLE_DIFFUSION_2,
}
"""By the family of a base model, then by name: those called as a kind of subject are for it, others
are asked for."""


# ---- Which one, and what the user changed of it ----


@dataclass(frozen=True)
class Wanted:
    """What a run is asked to be: a recipe, and the options that the user changed."""

    recipes: Mapping[str, Recipe]
    """Those of the base model."""
    asked: str
    """``AUTO``, or the name of a recipe that the user chose."""
    name: str
    source: str
    defaults: Mapping[str, Any]
    """What the recipe settles, by the names of ``FinetuneOptions``."""
    changes: Mapping[str, Any]
    """By the same names; None where nothing was changed."""

    @property
    def options(self) -> FinetuneOptions:
        defaults = dict(self.defaults)
        if self.changes.get("steps") is not None:  # who names their number gets that
            defaults["most_steps"] = 0
        return FinetuneOptions.for_model(defaults, **self.changes)

    @property
    def sentence(self) -> str:
        """Which recipe, and where it is from, for the plan."""
        return f"{self.name}: {self.source}"

    def for_run(self, card: Mapping[str, Any]) -> Wanted:
        """Return the same for the run of this card, which keeps the recipe that it began with.

        Recipes change between versions; a run that was begun must not change with them. Only where
        the user names another recipe it goes on with that.
        """
        begun = card.get("recipe")
        if card and begun is None and BEFORE in self.recipes:
            recipe = self.recipes[BEFORE]
            begun = {"name": BEFORE, "source": recipe.source, "options": recipe.as_options(0)}
        if not begun or self.asked not in (AUTO, begun["name"]):
            return self
        mirror = {"with_mirror": self.defaults["with_mirror"]}  # the dataset's, not the recipe's
        return replace(
            self,
            name=begun["name"],
            source=begun["source"],
            defaults={**begun["options"], **mirror},
        )

    def to_json(self) -> dict[str, Any]:
        """Return what run.json says of it."""
        return {"name": self.name, "source": self.source, "options": dict(self.defaults)}


def recipes_for(family: str, kind: str) -> Mapping[str, Recipe]:
    """Return the recipes of a family of models for a kind of subject.

    The one for whole photos asks for what the kind's own does: what can be said of somebody does
    not go by whether their photos could be cut out.
    """
    recipes = RECIPES[family]
    if WHOLE not in recipes:
        return recipes
    own = recipes[kind]
    whole = replace(
        recipes[WHOLE], class_prompts=own.class_prompts, sample_prompts=own.sample_prompts
    )
    return {**recipes, WHOLE: whole}


def suit(recipes: Mapping[str, Recipe], kind: str, share_cut_out: float) -> str:
    """Return the name of the recipe for a subject of a kind, by the share of its photos cut out."""
    return WHOLE if WHOLE in recipes and share_cut_out < 0.5 else kind


def want(
    recipes: Mapping[str, Recipe],
    asked: str,
    suited: str,
    n_photos: int,
    with_mirror: bool,
    changes: Mapping[str, Any],
) -> Wanted:
    """Take the recipe that was ``asked`` for, with the options that were changed.

    Parameters
    ----------
    asked : str
        ``AUTO`` for the one that is ``suited`` to the subject (``suit``), or a recipe's name.

    Raises
    ------
    InputError
        When the model has no such recipe.
    """
    name = suited if asked == AUTO else asked
    if name not in recipes:
        raise InputError(
            f"This model has no recipe {name!r}. It has {', '.join(recipes)}; {AUTO} takes the one "
            f"for the subject's kind. Take {AUTO}, or another model."
        )
    recipe = recipes[name]
    defaults = recipe.as_options(n_photos) | {"with_mirror": with_mirror}
    return Wanted(recipes, asked, name, recipe.source, defaults, changes)

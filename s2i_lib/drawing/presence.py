"""Whether whom a prompt asks for came out: the drawn subject, cut out, beside that of the photos.

A run's card has how alike its own subject was to the photos at the step that was kept, and how
alike an ordinary one of the class was. A picture that lies nearer to the second shows another.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.encoders import ClipScorer, load_clip, unit
from s2i_lib.models.loading import Model
from s2i_lib.photos.cut_out import alone, split
from s2i_lib.photos.manifest import inspect_dataset, open_photo
from s2i_lib.photos.mask import read_mask
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.prompt import Prompt
from s2i_lib.storage.layout import Drive
from s2i_lib.storage.run_card import find_run, read_card

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Looks:
    """What a subject looks like to a scorer, and how alike is alike enough."""

    scorer: ClipScorer
    photos: np.ndarray
    """Embeddings of the subject in each photo, shape = (photos, features)."""
    least: float
    """Mean cosine with them from which on it is the subject."""

    def likeness(self, pictures: Sequence[Image]) -> np.ndarray:
        """Return each picture's mean cosine with the photos, both cut out, shape = (n,)."""
        seen = self.scorer.images([split(picture).subject for picture in pictures])
        return (unit(seen) @ unit(self.photos).T).mean(axis=1)


def say_absent(subject: Subject) -> str:
    """Return the note on a subject that came out in none of the pictures."""
    return f"{subject.name} did not come out; another try?"


class Lookout:
    """Look for subjects in pictures; what each run's looks like is computed once."""

    def __init__(self, drive: Drive):
        self.drive = drive
        self._known: dict[str, Looks | None] = {}

    def find_absent(
        self, model: Model, prompt: Prompt, pictures: Sequence[Image]
    ) -> Subject | None:
        """Return whom the prompt asks for and no picture shows; None where nobody can tell.

        That is so for a run without scores of cut-outs, without photos on this Drive, and for a
        base model whose scorer does not ship with us: a picture should not wait for a download.
        """
        asked = (subject for subject in prompt.by_looks if subject.phrase in model.taught)
        subject = next(asked, None)
        if subject is None or not model.run or not pictures:
            return None
        try:
            if model.run not in self._known:
                self._known[model.run] = learn_looks(self.drive, model, subject)
            looks = self._known[model.run]
            if looks is None or (looks.likeness(pictures) >= looks.least).any():
                return None
        except (S2iError, OSError) as error:  # a picture is worth more than what is said of it
            log.warning("Nobody looked for %s in the picture: %s", subject.name, error)
            return None
        return subject


def learn_looks(drive: Drive, model: Model, subject: Subject) -> Looks | None:
    """Embed a subject's photos, cut out; None where its run or this Drive does not tell enough."""
    scores = read_card(find_run(drive, model.run or "")).get("scores", {})
    own, of_class = (scores.get(key) for key in ("likeness", "class_likeness"))
    scorer = model.base.scorer
    if None in (own, of_class, scores.get("surroundings")) or own <= of_class:
        return None
    if scorer is None or not Path(scorer).is_dir():
        return None
    try:
        dataset, damaged = inspect_dataset(drive, subject.name)
    except InputError:
        return None
    clip, cut_outs = load_clip(scorer, drive), []
    for path in dataset.images:
        if path not in damaged:
            photo, mask = open_photo(path), dataset.mask_of(path)
            cut_outs.append(alone(photo, read_mask(mask, photo.size)) if mask else photo)
    return Looks(clip, clip.images(cut_outs), (own + of_class) / 2) if cut_outs else None

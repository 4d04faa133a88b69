"""Which photos a run learns from: those that show the subject most alike.

Photos from several sides give one name several shapes, and a small model that has some hundred
steps for them draws their mean: a grey cat in five poses was a grey cat without a face. From the
two photos that are most alike it is learned with one, and drawn more like the other three, too
(benchmarks/README.md). What a run is scored by, and its best step chosen by, stays all photos.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from s2i_lib.errors import S2iError
from s2i_lib.evaluation.metrics import cosines
from s2i_lib.models.encoders import load_clip
from s2i_lib.photos.cut_out import alone
from s2i_lib.photos.manifest import Dataset, open_photo
from s2i_lib.photos.mask import read_mask
from s2i_lib.training.config import FinetuneOptions
from s2i_lib.training.run import Setup


def learned(setup: Setup) -> tuple[Path, ...]:
    """Return the crops that a run learns from: all, or ``most_photos`` whose subject is most alike.

    Cut-outs alone are compared, by the scorer of the base model; without one all are learned.
    """
    dataset, options, scorer = setup.dataset, setup.options, setup.model.base.scorer
    if scorer is None or count_learned(dataset, options) == len(dataset.images):
        return dataset.images
    try:
        clip = load_clip(scorer, setup.drive)
    except S2iError as error:
        setup.report(f"It learns from all photos, as nothing says which are alike: {error}")
        return dataset.images
    masks = {image: mask for image in dataset.images if (mask := dataset.mask_of(image))}
    subjects = []
    for image, mask in masks.items():
        photo = open_photo(image)
        subjects.append(alone(photo, read_mask(mask, photo.size)))
    chosen = most_alike(clip.images(subjects), options.most_photos)
    return tuple(image for i, image in enumerate(masks) if i in chosen)


def count_learned(dataset: Dataset, options: FinetuneOptions) -> int:
    """Return of how many crops a run learns, where there is a scorer to choose them."""
    n_cut_out = sum(bool(dataset.mask_of(image)) for image in dataset.images)
    return options.most_photos if 0 < options.most_photos <= n_cut_out else len(dataset.images)


def most_alike(features: np.ndarray, count: int) -> list[int]:
    """Choose ``count`` of some pictures, one and those nearest to it; their numbers.

    Parameters
    ----------
    features : np.ndarray
        What a scorer sees in each of them, shape = (pictures, width).
    """
    apart = 1 - cosines(features, features)
    np.fill_diagonal(apart, -1)  # the first that is near each is itself
    near = apart.argsort(axis=1, kind="stable")[:, :count]
    spread = np.take_along_axis(apart, near, axis=1).sum(axis=1)
    middle = min(range(len(apart)), key=lambda i: (spread[i], apart[i].sum()))
    return sorted(int(i) for i in near[middle])

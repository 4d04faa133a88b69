"""Verdicts, on photos that the limits were not set with and on the sample that is shipped."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import skimage.data
from PIL import Image

from benchmarks import photos as measured
from s2i_lib.photos.diversity import Traits, advise
from s2i_lib.photos.quality import DatasetOptions
from s2i_lib.photos.reading import read_photo

SAMPLES = Path(__file__).parents[2] / "s2i_lib" / "samples" / "rc_car"
GRACE_HOPPER = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
# Three photos of a person, a cat and a cup that come with scikit-image, one with matplotlib.
STRANGERS = {
    "person": lambda: Image.fromarray(skimage.data.astronaut()),
    "cat": lambda: Image.fromarray(skimage.data.chelsea()),
    "cup": lambda: Image.fromarray(skimage.data.coffee()),
    "portrait": lambda: Image.open(GRACE_HOPPER).convert("RGB"),
}


def shipped(count: int) -> list[Image.Image]:
    size = (measured.LARGEST_PX,) * 2
    paths = sorted(SAMPLES.glob("*.jpg"))[:count]
    return [measured.ImageOps.contain(read_photo(path).image, size) for path in paths]


@pytest.fixture(scope="module")
def cases(full) -> list[tuple[str, str, str]]:
    """What was done to a photo, the verdict that is right, and the one that was given."""
    subjects = {"rc_car": shipped(5 if full else 1)}
    for name, photo in list(STRANGERS.items())[: None if full else 2]:
        subjects[name] = [photo()]
    return list(measured.cases(subjects))


@pytest.mark.slow
def test_every_verdict_has_the_precision_and_recall_that_is_promised(cases):
    wrong = [case for case in cases if case[1] != case[2]]
    for verdict, (precision, recall, count) in measured.score(cases).items():
        assert precision >= 0.95 and recall >= 0.95, (verdict, count, wrong)


@pytest.mark.slow
def test_a_subject_that_the_edge_cuts_off_is_mostly_noticed_and_seldom_invented(full):
    cases = list(measured.cuts({"rc_car": shipped(5 if full else 2)}))
    scores = measured.score(cases)
    assert scores["cut off"][1] >= 0.8, cases
    assert scores["whole"][1] >= 0.8, cases


TRAITS = Traits(np.zeros((96, 96), np.float32), np.zeros(245), 50.0, np.zeros(1764))


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 usable photos, and 1 is needed; 4 from different sides are better."),
        (1, "1 usable photo: it can be trained. Expect the sides and poses that it shows, and"),
        (3, "3 usable photos: it can be trained. Expect the sides and poses that they show, and"),
        (4, "4 usable photos: enough to train with."),
    ],
)
def test_one_to_three_photos_are_allowed_with_what_to_expect(count, said):
    assert advise([TRAITS] * count, 0, DatasetOptions())[0].startswith(said)

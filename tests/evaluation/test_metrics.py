"""The formulas against values worked out by hand, and against second implementations."""

import numpy as np
import pytest

from s2i_lib.errors import InputError, S2iError
from s2i_lib.evaluation.metrics import (
    bootstrap,
    bootstrap_pairs,
    bootstrap_ratio,
    caption,
    mean_cosines,
    mean_distance,
    name_recall,
    nearest_real,
    r_precision,
    speech_gap,
    text_cosines,
    unit,
    word_error_rate,
)
from s2i_lib.photos.subject import Subject

RIGHT, UP, DIAGONAL = [1.0, 0.0], [0.0, 1.0], [3.0, 3.0]  # lengths must not matter
HALF = 0.5**0.5  # the cosine of 45 degrees


def test_likeness_is_the_mean_pairwise_cosine():
    each = mean_cosines(np.array([RIGHT, DIAGONAL]), np.array([RIGHT, UP]))
    assert each == pytest.approx([0.5, HALF])  # (1 + 0) / 2, (cos 45 + cos 45) / 2


def test_likeness_agrees_with_scipy():
    from scipy.spatial.distance import cdist

    rng = np.random.default_rng(0)
    some, others = rng.normal(size=(5, 7)), rng.normal(size=(3, 7))
    assert mean_cosines(some, others).mean() == pytest.approx(
        (1 - cdist(some, others, "cosine")).mean()
    )


def test_prompt_fidelity_compares_each_picture_with_its_own_text_only():
    each = text_cosines(np.array([RIGHT, UP]), np.array([DIAGONAL, RIGHT]))
    assert each == pytest.approx([HALF, 0.0])


def test_diversity_is_the_mean_over_pairs_of_different_pictures():
    table = np.array([[0, 1, 2], [1, 0, 6], [2, 6, 0]])
    assert mean_distance(table) == pytest.approx(3.0)  # (1 + 2 + 6) / 3, the diagonal left out


def test_a_copy_is_nearer_to_a_photo_than_photos_are_to_each_other():
    photos = np.array([RIGHT, DIAGONAL, [-1.0, 0.0]])  # the nearest two: 45 degrees apart
    close, far = [np.cos(0.2), -np.sin(0.2)], [np.cos(1.0), -np.sin(1.0)]
    first, second = nearest_real(np.array([close, far]), photos)
    assert (first.index, first.is_copy) == (0, True)
    assert (second.index, second.is_copy) == (0, False)
    assert first.cosine == pytest.approx(np.cos(0.2))


def test_with_one_photo_nothing_is_called_a_copy():
    [nearest] = nearest_real(np.array([RIGHT]), np.array([RIGHT]))
    assert nearest.cosine == pytest.approx(1.0)
    assert not nearest.is_copy


@pytest.mark.parametrize("bad", [[0.0, 0.0], [np.nan, 1.0]])
def test_embeddings_without_a_direction_are_an_error(bad):
    with pytest.raises(S2iError, match="zero or not numbers"):
        mean_cosines(np.array([bad]), np.array([RIGHT]))


@pytest.mark.parametrize(("generated", "real"), [(0, 2), (2, 0)])
def test_no_pictures_are_an_error_that_counts_them(generated, real):
    with pytest.raises(InputError, match=f"Found {generated} generated and {real} real"):
        mean_cosines(np.ones((generated, 2)), np.ones((real, 2)))


# --- confidence ---------------------------------------------------------------------------------


def test_bootstrap_agrees_with_scipy():
    from scipy.stats import bootstrap as reference

    values = np.random.default_rng(1).gamma(2.0, size=60)
    ours = bootstrap(values, resamples=9000)
    theirs = reference((values,), np.mean, n_resamples=9000, method="percentile", rng=5)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.mean == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.04 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.04 * width)


def test_bootstrap_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    hits = sum(
        score.low <= 3 <= score.high
        for score in (bootstrap(rng.normal(3, 1, 40), resamples=400) for _ in range(300))
    )
    assert 0.90 <= hits / 300 <= 0.98


def test_pictures_of_one_prompt_do_not_count_as_independent():
    by_prompt = np.repeat([[0.0], [1.0], [2.0]], 50, axis=1)  # 50 seeds that all say the same
    apart = bootstrap(by_prompt.ravel())
    together = bootstrap(by_prompt)
    assert together.mean == apart.mean == 1.0
    assert together.high - together.low > 4 * (apart.high - apart.low)
    assert together.n == 150


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(3).normal(size=20)
    assert bootstrap(values, seed=4) == bootstrap(values, seed=4) != bootstrap(values, seed=5)


@pytest.mark.slow
def test_the_interval_of_a_diversity_covers_it_although_pairs_share_their_pictures():
    rng = np.random.default_rng(6)

    def distances(n):
        seen = unit(rng.normal([2, 1, 0, 0, 0, 0], size=(n, 6)))
        return 1 - seen @ seen.T

    truth = np.mean([distances(2)[0, 1] for _ in range(40_000)])
    found = [bootstrap_pairs(distances(16), resamples=400) for _ in range(300)]
    assert np.mean([score.mean for score in found]) == pytest.approx(truth, rel=0.01)
    assert 0.88 <= np.mean([score.low <= truth <= score.high for score in found]) <= 0.98


def test_a_diversity_by_hand():
    far = np.array([[0.0, 0.2, 0.4], [0.2, 0.0, 0.6], [0.4, 0.6, 0.0]])
    score = bootstrap_pairs(far)
    assert (score.mean, score.n) == (pytest.approx(0.4), 3)
    assert (score.low, score.high) == (pytest.approx(0.2), pytest.approx(0.6))


def test_one_of_a_kind_has_no_interval():
    two = np.array([[0.0, 0.3], [0.3, 0.0]])
    for score in (bootstrap([[0.2, 0.4]]), bootstrap_ratio([1], [4]), bootstrap_pairs(two)):
        assert (score.low, score.high) == (None, None)
        assert str(score).endswith("(of one: no interval)")


# --- words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noun", "prompt", "expected"),
    [
        ("dog", "a sks dog in the snow", "a dog in the snow"),
        ("apple", "a sks apple on a red background", "an apple on a red background"),
        ("dog", "a photo of sks dog", "a photo of dog"),
        ("dog", "a purple sks dog", "a purple dog"),
        ("dog", "A Sks dog asks", "a dog asks"),
        ("dog", "a dog", "a dog"),
    ],
)
def test_captions_have_no_identifier_and_the_right_article(noun, prompt, expected):
    assert caption(prompt, Subject("Rex", noun, "sks")) == expected


def test_r_precision_counts_ties_as_misses():
    similarity = np.array([[0.9, 0.1, 0.2], [0.5, 0.5, 0.1], [0.3, 0.2, 0.1]])
    assert list(r_precision(similarity, [0, 1, 2])) == [1.0, 0.0, 0.0]


def test_word_error_rate_by_hand():
    said = ["a red car on a yellow background", "Rex, in the snow!"]
    heard = ["A red cart on yellow background.", "rex in the snow"]
    assert word_error_rate(said, heard).mean == pytest.approx(2 / 11)  # cart, and "a" is gone


def test_word_error_rate_agrees_with_a_second_implementation():
    from rapidfuzz.distance import Levenshtein

    rng = np.random.default_rng(6)
    words = ["red", "car", "on", "a", "blue", "cat"]
    said = [" ".join(rng.choice(words, 8)) for _ in range(20)]
    heard = [" ".join(rng.choice(words, rng.integers(5, 10))) for _ in range(20)]
    errors = sum(
        Levenshtein.distance(a.split(), b.split()) for a, b in zip(said, heard, strict=True)
    )
    assert word_error_rate(said, heard).mean == pytest.approx(errors / (20 * 8))


@pytest.mark.parametrize(("said", "heard"), [([], []), (["a"], []), (["..."], ["a"])])
def test_word_error_rate_of_nothing_is_an_error(said, heard):
    with pytest.raises(InputError, match="were said"):
        word_error_rate(said, heard)


def test_name_recall_by_hand():
    found = name_recall([["Rex"], ["Rex", "Mimi"], []], [["rex"], ["Mimi"], ["Rex"]])
    assert (found.mean, found.low, found.high, found.n) == (2 / 3, 0.5, 1.0, 2)
    assert name_recall([[], []], [[], ["Rex"]]) is None


def test_interval_of_a_ratio_weighs_clips_by_their_words():
    from scipy.stats import bootstrap as reference

    errors, words = [0, 6, 1, 0, 2], [4, 6, 12, 5, 8]
    score = bootstrap_ratio(errors, words)
    assert score.mean == 9 / 35 and score.low < score.mean < score.high
    assert (
        bootstrap_ratio([1, 2, 3], [4, 8, 12]).low == bootstrap_ratio([1, 1], [4, 4]).high == 0.25
    )
    theirs = reference(
        (np.array(errors), np.array(words)), lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True, method="percentile", n_resamples=20_000, rng=0,
    ).confidence_interval  # fmt: skip
    assert (score.low, score.high) == pytest.approx(tuple(theirs), abs=0.02)


def test_speech_gap_is_negative_where_speech_lost_fidelity():
    gap = speech_gap([[0.2, 0.3], [0.3, 0.3]], [[0.3, 0.3], [0.4, 0.4]])
    assert gap.mean == pytest.approx(-0.075)
    assert gap.n == 4

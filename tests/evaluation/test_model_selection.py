"""Which checkpoint is kept, and when training may stop."""

import pytest

from s2i_lib.errors import InputError
from s2i_lib.evaluation.model_selection import (
    Point,
    as_curve,
    choose_best,
    drift,
    is_past_peak,
    is_still_rising,
    leak,
    read_points,
    value,
)


def curve(*triples) -> list[Point]:
    """Points of steps 100, 200, ..."""
    return [Point(100 * i, *triple) for i, triple in enumerate(triples, start=1)]


def test_value_by_hand():
    points = curve((0.5, 0.3, 0.6), (0.8, 0.25, 0.7))
    assert drift(points[1], points[0]) == pytest.approx(0.25)  # 0.1 of the 0.4 that is left
    assert value(points[1], points[0]) == pytest.approx(0.8 * 0.25 * 0.75)


def test_the_best_is_neither_the_most_alike_nor_the_most_faithful():
    points = curve((0.5, 0.30, 0.5), (0.8, 0.28, 0.5), (0.9, 0.15, 0.5))
    assert choose_best(points).step == 200


def test_drift_of_the_class_decides_between_equals():
    points = curve((0.5, 0.3, 0.5), (0.8, 0.3, 0.9), (0.8, 0.3, 0.55))
    assert choose_best(points).step == 300


def test_scaling_a_score_changes_nothing():
    """Another backbone has another scale; the choice must not depend on it."""
    points = curve((0.5, 0.30, None), (0.8, 0.28, None), (0.9, 0.15, None))
    smaller = curve((0.25, 0.03, None), (0.4, 0.028, None), (0.45, 0.015, None))
    assert choose_best(points).step == choose_best(smaller).step


def test_what_was_not_scored_is_left_out():
    assert choose_best(curve((None, 0.2, None), (None, 0.3, None))).step == 200
    assert choose_best(curve((0.7, None, None), (0.6, None, None))).step == 100


def test_the_model_before_training_is_never_what_a_run_ends_with():
    points = [Point(0, 0.9, 0.9, 0.5), *curve((0.5, 0.3, 0.5), (0.6, 0.3, 0.5))]
    assert choose_best(points).step == 200
    assert choose_best(points[:1]).step == 0


def test_of_equals_the_earliest_is_kept():
    assert choose_best(curve((0.5, 0.3, 0.5), (0.8, 0.3, 0.5), (0.8, 0.3, 0.5))).step == 200


def test_a_negative_cosine_is_worth_nothing_even_beside_another_negative():
    assert choose_best(curve((-0.5, -0.5, None), (0.1, 0.1, None))).step == 200


@pytest.mark.parametrize("points", [[], curve((None, None, 0.5))])
def test_nothing_scored_is_an_error(points):
    with pytest.raises(InputError, match="No checkpoint has"):
        choose_best(points)


def rising_then(*values: float) -> list[Point]:
    return curve(*[(v, 1.0, None) for v in (0.5, 0.7, 0.9, *values)])


def test_training_stops_only_after_a_descent_not_after_one_bad_point():
    assert not is_past_peak(rising_then(0.8))
    assert not is_past_peak(rising_then(0.8, 0.91, 0.8))
    assert is_past_peak(rising_then(0.8, 0.85, 0.8))


def test_a_plateau_within_the_noise_does_not_stop_training():
    assert not is_past_peak(rising_then(0.89, 0.88, 0.885))


def test_a_rising_curve_never_stops():
    points = curve(*[(0.1 * i, 1.0, None) for i in range(1, 10)])
    assert not any(is_past_peak(points[:n]) for n in range(1, 10))


def test_leak_of_the_photos_surroundings_decides_between_equals_and_is_shown():
    bare = [Point(0, 0.4, 0.3, 0.5, 0.2)]
    leaking, clean = (Point(100 * i, 0.8, 0.3, 0.5, s) for i, s in ((1, 0.8), (2, 0.28)))
    points = [*bare, leaking, clean]
    assert leak(leaking, bare[0]) == pytest.approx(0.75)  # 0.6 of the 0.8 that is left
    assert value(clean, bare[0]) == pytest.approx(0.8 * 0.3 * 0.9)
    assert choose_best(points).step == 200
    assert [line["leak"] for line in as_curve(points)] == pytest.approx([0.0, 0.75, 0.1])


def test_points_of_the_version_before_are_read_and_have_no_leak():
    lines = [{"step": s, "likeness": 0.5, "fidelity": 0.3, "class_likeness": 0.4} for s in (0, 50)]
    points = read_points([*lines, {"step": 1, "instance_loss": 0.1}])
    assert points == [Point(**line) for line in lines]
    assert [line["leak"] for line in as_curve(points)] == [None, None]
    assert read_points([points[0].to_json()]) == points[:1]


@pytest.mark.parametrize(
    ("likeness", "expected"),
    [
        ((0.5, 0.6, 0.7), True),
        ((0.5, 0.7, 0.71), False),  # within the noise
        ((0.5, 0.7, 0.6), False),
        ((0.7,), False),
        ((), False),
    ],
)
def test_what_rises_at_the_last_step_is_not_learned_yet(likeness, expected):
    points = [Point(0, 0.1, 0.3, 0.1), *curve(*[(each, 0.3, None) for each in likeness])]
    assert is_still_rising(points) is expected


def test_likeness_that_costs_the_class_more_does_not_count_as_rising():
    points = [Point(0, 0.1, 0.3, 0.1), *curve((0.5, 0.3, 0.1), (0.7, 0.3, 0.9))]
    assert not is_still_rising(points)

"""Which checkpoint to keep, and when to stop: pure functions over what was scored while training.

The rule: the best checkpoint has the largest product of likeness, prompt fidelity, what is left of
the prior and what has not leaked of the photos' surroundings. A product has no weights to choose,
and the scale of neither score matters to it; DreamBench++ ranks models by such a product, too (Peng
et al. 2024, https://arxiv.org/abs/2406.16855). Too few steps give little likeness; too many cost
prompt fidelity (every picture is the photo) and the prior ("a dog" is this dog).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from s2i_lib.errors import InputError, first_line
from s2i_lib.evaluation.metrics import caption, mean_cosines, text_cosines
from s2i_lib.photos.cut_out import split
from s2i_lib.storage.json_file import NUMBER, check_fields

if TYPE_CHECKING:
    from PIL.Image import Image

    from s2i_lib.models.encoders import ClipScorer
    from s2i_lib.photos.subject import Subject

PATIENCE = 3  # samplings: one may be bad luck of few pictures, three in a row are a descent
TOLERANCE = 0.03  # of the best value: the noise that few prompts and seeds have


@dataclass(frozen=True)
class Point:
    """What was scored at one step of training; a score that is missing is None."""

    step: int
    likeness: float | None
    """Mean pairwise cosine of the subject, cut out of its pictures, with that of the photos."""
    fidelity: float | None
    """Mean cosine of each picture with its caption."""
    class_likeness: float | None
    """The same as likeness, of pictures of the class: it grows as the class turns into it."""
    surroundings: float | None = None
    """The same of what is around the subject: it grows as the photos' surroundings leak into the
    pictures. Points of earlier versions have none, and their likeness is of whole pictures."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Point:
        """Read what `to_json` gave; ValueError where that is not it."""
        check_fields(line, {"step": int, "*": (*NUMBER, type(None))}, "a score")
        try:
            return cls(**line)
        except TypeError as error:
            raise ValueError(first_line(error)) from error


def read_points(lines: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Return the points among the lines of a file; what else stands there is passed over."""
    points = []
    for line in lines:
        with suppress(ValueError):
            points.append(Point.from_json(line))
    return points


def drift(point: Point, first: Point) -> float:
    """Return how far the class has moved to the subject, 0 (not at all) to 1 (it is the subject).

    The growth of the class's likeness since ``first``, over all the growth there can be.
    """
    return _growth(point.class_likeness, first.class_likeness)


def leak(point: Point, first: Point) -> float:
    """Return how much of the photos' surroundings pictures of other grounds show, 0 to 1.

    The growth of the surroundings' likeness since ``first``, as ``drift`` has it.
    """
    return _growth(point.surroundings, first.surroundings)


def _growth(now: float | None, first: float | None) -> float:
    if now is None or first is None:
        return 0.0
    return min(1.0, max(0.0, (now - first) / max(1e-6, 1 - first)))


def value(point: Point, first: Point) -> float:
    """Return likeness x fidelity x (1 - drift) x (1 - leak) of what was scored; below 0 is 0."""
    product = (1.0 - drift(point, first)) * (1.0 - leak(point, first))
    for score in (point.likeness, point.fidelity):
        product *= 1.0 if score is None else max(0.0, score)
    return product


def as_curve(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return a line for each point: prior drift, leak, value, and whether it is the best so far."""
    try:
        best = choose_best(points)
    except InputError:
        best = None
    return [
        point.to_json()
        | {
            "prior_drift": None if point.class_likeness is None else drift(point, points[0]),
            "leak": None if point.surroundings is None else leak(point, points[0]),
            "value": value(point, points[0]),
            "is_best": point is best,
        }
        for point in points
    ]


def choose_best(points: Sequence[Point]) -> Point:
    """Return the point of the largest ``value``; of equals the earliest, trained the least.

    The first point is what drift is measured from, so it should be that of step 0; this one, the
    model before it was trained, is chosen only where there is no other.

    Raises
    ------
    InputError
        When there is none, or nothing was scored.
    """
    if not points:
        raise InputError("No checkpoint has been scored yet (found 0, need 1 or more).")
    if not _trained(points):
        raise InputError(
            "No checkpoint has a likeness or a prompt fidelity, so none can be called the best. "
            "Sample prompts with {subject} in them, and have a scorer and photos."
        )
    return max(_trained(points), key=lambda point: value(point, points[0]))


def _trained(points: Sequence[Point]) -> Sequence[Point]:
    """Those that can be compared: of a step that was trained, if there is any, with a score."""
    scored = [p for p in points if p.likeness is not None or p.fidelity is not None]
    return [point for point in scored if point.step] or scored


def is_past_peak(points: Sequence[Point]) -> bool:
    """Return whether to stop: the last `PATIENCE` points all lie `TOLERANCE` below the best.

    Source: early stopping with patience, Prechelt 1998, "Early Stopping - But When?".
    """
    values = [value(point, points[0]) for point in _trained(points)]
    if len(values) <= PATIENCE:
        return False
    return max(values[-PATIENCE:]) < (1 - TOLERANCE) * max(values[:-PATIENCE])


def is_still_rising(points: Sequence[Point]) -> bool:
    """Return whether the last point is the best, and its likeness `TOLERANCE` above all earlier.

    Then the subject is not learned yet. One point of a trained step says nothing.
    """
    trained = _trained(points)
    if len(trained) < 2 or choose_best(points) is not trained[-1]:
        return False
    *before, last = [point.likeness for point in trained if point.likeness is not None] or [0.0]
    if trained[-1].likeness is None or not before:
        return False
    return last > (1 + TOLERANCE) * max(before)


class Validation:
    """Score the pictures that training draws at intervals, and know the best step so far.

    Give it the sampled pictures by prompt, and ask whether this is the step
    to keep and whether to stop. It draws nothing, so it costs the embedding of a few pictures.
    """

    def __init__(self, scorer: ClipScorer, subject: Subject, photos: Sequence[Image]):
        """
        Parameters
        ----------
        photos
            The real images. Without any, likeness and drift are not scored.
        """
        self.scorer, self.subject = scorer, subject
        self.points: list[Point] = []
        self._real = self._see(photos) if photos else None
        self._captions: dict[str, np.ndarray] = {}

    def add(self, step: int, drawn: Mapping[str, Sequence[Image]]) -> Point:
        """Score one sampling: ``drawn`` has the pictures of each prompt.

        Prompts with the identifier count for likeness and fidelity, the others for the class. One
        that asks for the subject and nothing else is there to be looked at: it is learnt first and
        anything fits it, so it is scored only where there is no other (measured: benchmarks).
        """
        own = {p: images for p, images in drawn.items() if self.is_own(p)}
        other = {p: images for p, images in drawn.items() if p not in own}
        own = {p: images for p, images in own.items() if not self._is_plain(p)} or own
        pictures = [image for images in own.values() for image in images]
        texts = [self._caption(p) for p, images in own.items() for _ in images]
        of_class = [image for images in other.values() for image in images]
        likeness, surroundings = self._likeness(pictures)
        fidelity = None
        if pictures:
            cosines = text_cosines(self.scorer.images(pictures), np.stack(texts))
            fidelity = float(cosines.mean())
        point = Point(step, likeness, fidelity, self._likeness(of_class)[0], surroundings)
        # A resumed run scores its last steps again: the new score takes the old one's place.
        self.points = [p for p in self.points if p.step < step] + [point]
        return point

    @property
    def best(self) -> Point | None:
        """None as long as nothing was scored."""
        return choose_best(self.points) if _trained(self.points) else None

    @property
    def is_best(self) -> bool:
        """Whether the last point is the best so far: then these weights are the ones to keep."""
        return self.best is self.points[-1]

    def is_own(self, prompt: str) -> bool:
        """Return whether a prompt asks for the subject."""
        return self.subject.identifier.lower() in prompt.lower().split()

    def _is_plain(self, prompt: str) -> bool:
        return prompt.lower() == f"a {self.subject.phrase}".lower()

    def _see(self, pictures: Sequence[Image]) -> tuple[np.ndarray, np.ndarray]:
        """Embed pictures' subjects, and their surroundings."""
        subjects, surroundings = zip(*[split(picture) for picture in pictures], strict=True)
        return self.scorer.images(subjects), self.scorer.images(surroundings)

    def _likeness(self, pictures: Sequence[Image]) -> tuple[float | None, float | None]:
        """Compare the subject of pictures, and the surroundings, with those of the photos."""
        if not pictures or self._real is None:
            return None, None
        (subject, around), (real, real_around) = self._see(pictures), self._real
        return (
            float(mean_cosines(subject, real).mean()),
            float(mean_cosines(around, real_around).mean()),
        )

    def _caption(self, prompt: str) -> np.ndarray:
        if prompt not in self._captions:
            self._captions[prompt] = self.scorer.texts([caption(prompt, self.subject)])[0]
        return self._captions[prompt]

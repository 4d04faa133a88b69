"""The formulas: embeddings, distances and words in, numbers out.

Embeddings are unit vectors in the rows of an array, so that a product of two rows is their cosine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from s2i_lib.errors import InputError
from s2i_lib.models.encoders import unit
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.templates import article_for

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


RESAMPLES = 2000  # of the bootstrap: its own error is then below a tenth of the interval
LEVEL = 0.95


@dataclass(frozen=True)
class Score:
    """A mean with its bootstrap confidence interval."""

    mean: float
    low: float | None
    """Lower end of the interval; None, as ``high``, where there is but one prompt or clip: nothing
    says how others differ."""
    high: float | None
    n: int
    """Number of values that it is the mean of."""

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.3f} (of one: no interval)"
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


# --- embeddings ---------------------------------------------------------------------------------


def cosines(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the cosine of every row with every other, shape = (len(some), len(others))."""
    return unit(some) @ unit(others).T


def mean_cosines(generated: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Return each generated picture's mean cosine with all real ones, shape = (len(generated),).

    Their mean is the mean pairwise cosine: CLIP-I with CLIP's embeddings, DINO with DINO's, and
    PRES when the generated pictures are of the class and not of the subject (lower is better).
    Source: Ruiz et al. 2023, https://arxiv.org/abs/2208.12242, sections 4.2 and 4.3.
    """
    if not len(generated) or not len(real):
        raise InputError(
            f"Found {len(generated)} generated and {len(real)} real pictures; a likeness needs at "
            "least one of each."
        )
    return cosines(generated, real).mean(axis=1)


def text_cosines(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Return the cosine of each picture with its own text, shape = (n,): CLIP-T.

    Source: the same, section 4.2. The texts are ``caption``s: the identifier means nothing to CLIP.
    """
    if len(images) != len(texts):
        raise InputError(f"Found {len(images)} pictures and {len(texts)} texts; expected pairs.")
    return np.einsum("nf,nf->n", unit(images), unit(texts))


def mean_distance(distances: np.ndarray) -> float:
    """Return the mean over all pairs of different pictures; ``distances`` is symmetric, (n, n).

    DIV, with the LPIPS distances of pictures of one prompt (the same, section 4.3).
    """
    n = len(distances)
    if n < 2:
        raise InputError(f"Found {n} picture; diversity needs at least two of one prompt.")
    return float(distances[np.triu_indices(n, k=1)].mean())


@dataclass(frozen=True)
class Nearest:
    """The real picture that a generated one is closest to."""

    index: int
    cosine: float
    is_copy: bool


def nearest_real(generated: np.ndarray, real: np.ndarray) -> list[Nearest]:
    """Return the real picture nearest to each generated one, flagged where it looks copied.

    A copy is closer to one photo than any two different photos are to each other: photos of one
    subject set the scale, so that it needs no threshold for each scorer. With fewer than two
    photos, or two that are the same to the scorer, nothing is flagged.
    """
    between = cosines(real, real)[np.triu_indices(len(real), k=1)]
    limit = float(between.max()) if len(between) else 1.0
    return [
        Nearest(int(row.argmax()), float(row.max()), bool(row.max() > limit < 1 - 1e-6))
        for row in cosines(generated, real)
    ]


# --- confidence ---------------------------------------------------------------------------------


def bootstrap(values: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Score:
    """Return the mean of ``values`` and its percentile bootstrap interval.

    Parameters
    ----------
    values : array, shape = (n,) or (groups, n_each)
        Of two dimensions, whole rows are drawn: the pictures of one prompt resemble each other, and
        to count each as news would make the interval too narrow.

    Notes
    -----
    Source: Efron and Tibshirani 1993, chapter 13.
    """
    table = np.asarray(values, dtype=np.float64)
    rows = table if table.ndim == 2 else table[:, None]
    if not rows.size:
        raise InputError("There are no values to take the mean of (found 0, need 1 or more).")
    means = rows.mean(axis=1)
    resampled = means[_draw(len(means), resamples, seed)].mean(axis=1)
    return _score(float(means.mean()), resampled if len(means) > 1 else None, rows.size)


def bootstrap_ratio(
    parts: ArrayLike,
    wholes: ArrayLike,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Score:
    """Return the sum of ``parts`` over that of ``wholes``, and its percentile bootstrap interval.

    Whole clips are drawn, with their errors and their words: a long one weighs more, as in a word
    error rate. ``n`` is the number of clips.

    Parameters
    ----------
    parts, wholes : array, shape = (clips,)
        Every whole is above 0.

    Notes
    -----
    Source: Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance
    evaluation".
    """
    above, below = np.asarray(parts, float), np.asarray(wholes, float)
    drawn = _draw(len(above), resamples, seed)
    ratios = above[drawn].sum(axis=1) / below[drawn].sum(axis=1)
    ratio = float(above.sum() / below.sum())
    return _score(ratio, ratios if len(above) > 1 else None, len(above))


def bootstrap_pairs(distances: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES) -> Score:
    """Return ``mean_distance`` and its percentile bootstrap interval: whole pictures are drawn.

    A picture is part of many pairs, so pairs cannot be drawn one by one; a pair of a picture with
    itself, drawn twice, is left out. ``n`` is the number of pictures.

    Parameters
    ----------
    distances : array, shape = (n, n)
        Symmetric, of 2 or more pictures.

    Notes
    -----
    Source: the bootstrap of U-statistics, Arcones and Gine 1992, "On the bootstrap of U and V
    statistics".
    """
    mean, n = mean_distance(distances), len(distances)
    drawn = _draw(n, resamples, seed)
    often = np.stack([np.bincount(row, minlength=n) for row in drawn]).astype(float)
    between = distances - np.diag(np.diag(distances))
    pairs = n * n - (often**2).sum(axis=1)  # of two different pictures, in both orders
    sums = ((often @ between) * often).sum(axis=1)
    resampled = sums[pairs > 0] / pairs[pairs > 0]
    return _score(mean, resampled if n > 2 else None, n)


def _draw(n: int, resamples: int, seed: int) -> np.ndarray:
    """Numbers of what each resample consists of, shape = (resamples, n)."""
    return np.random.default_rng(seed).integers(n, size=(resamples, n))


def _score(mean: float, resampled: np.ndarray | None, n: int) -> Score:
    """With the interval of ``resampled`` means; None where there is nothing to resample."""
    if resampled is None:
        return Score(mean, None, None, int(n))
    low, high = np.percentile(resampled, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Score(mean, float(low), float(high), int(n))


# --- words --------------------------------------------------------------------------------------


def caption(prompt: str, subject: Subject) -> str:
    """Return ``prompt`` without the identifier: "a ohwx apple" becomes "an apple"."""
    name = re.escape(subject.identifier)
    text = re.sub(
        rf"\b(a|an)\s+{name}\s+(\w+)",
        lambda m: f"{article_for(m[2])} {m[2]}",
        prompt,
        flags=re.IGNORECASE,
    )
    return " ".join(re.sub(rf"\b{name}\b", "", text, flags=re.IGNORECASE).split())


def r_precision(similarity: np.ndarray, own: Sequence[int]) -> np.ndarray:
    """Return whether each picture is nearest to its own caption, shape = (n,), 0 or 1.

    Parameters
    ----------
    similarity : array, shape = (pictures, captions)
    own
        Number of each picture's caption. A tie counts as a miss.

    Notes
    -----
    Source: CLIP R-precision with R = 1, Park et al. 2021 (Benchmark for Compositional
    Text-to-Image Synthesis, NeurIPS datasets and benchmarks).
    """
    table = np.asarray(similarity, dtype=np.float64)
    right = table[np.arange(len(table)), list(own)]
    return ((table >= right[:, None]).sum(axis=1) == 1).astype(float)


def plain_words(text: str) -> str:
    """Return lower case without punctuation, so that a word error is an error in a word."""
    return " ".join(re.sub(r"[^\w\s']|_", " ", text.lower()).split())


def word_error_rate(said: Sequence[str], heard: Sequence[str], **settings: int) -> Score:
    """Return the errors over the words said, by jiwer, after ``plain_words``.

    Errors are substitutions, deletions and insertions.

    Parameters
    ----------
    **settings
        seed, resamples: as ``bootstrap_ratio`` has them.

    Raises
    ------
    InputError
        When the lists are not pairs or a reference has no words.
    """
    import jiwer

    references = [plain_words(text) for text in said]
    if len(said) != len(heard) or not references or not all(references):
        raise InputError(
            f"Found {len(said)} texts that were said and {len(heard)} that were heard. Expected "
            "as many of each, at least one, and at least one word in every text that was said."
        )
    words, errors = [len(text.split()) for text in references], []
    for reference, text in zip(references, heard, strict=True):
        found = jiwer.process_words(reference, plain_words(text))
        errors.append(found.substitutions + found.deletions + found.insertions)
    return bootstrap_ratio(errors, words, **settings)


def name_recall(
    said: Sequence[Sequence[str]], heard: Sequence[Sequence[str]], **settings: int
) -> Score | None:
    """Return the share of names said that arrived in the prompt; None if none was said.

    Both by clip: the names that its text has, the names of the subjects that its prompt has.
    """
    pairs = [(spoken, names) for spoken, names in zip(said, heard, strict=True) if spoken]
    if not pairs:
        return None
    found = [
        sum(name.lower() in {other.lower() for other in names} for name in spoken)
        for spoken, names in pairs
    ]
    return bootstrap_ratio(found, [len(spoken) for spoken, _ in pairs], **settings)


def speech_gap(spoken: ArrayLike, typed: ArrayLike, **settings: int) -> Score:
    """Return prompt fidelity from speech minus from typing, pair by pair; below 0 speech cost some.

    Parameters
    ----------
    spoken, typed : array, shape = (clips, seeds)
        CLIP-T against the text that was meant, with the same seeds.
    **settings : int
        Of `bootstrap`.
    """
    return bootstrap(np.asarray(spoken, float) - np.asarray(typed, float), **settings)

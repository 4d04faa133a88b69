"""Words of a recording that is still being made: which of them are firm."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from s2i_lib.errors import InputError
from s2i_lib.speech.audio import LIMIT_S, RATE_HZ, read_audio
from s2i_lib.speech.windows import find_windows

SAME_S = 0.15  # two ends of the same speech differ by less, as the detector sees them


@dataclass(frozen=True)
class Partial:
    """What has been heard so far of a wish that is still being spoken."""

    firm: str
    """Words on which two hearings agree; they stay."""
    loose: str = ""
    """Words behind them, which the next hearing may change."""

    @property
    def text(self) -> str:
        """All of the words."""
        return f"{self.firm} {self.loose}".strip()


class LocalAgreement:
    """Takes words for firm as soon as two hearings in a row say the same.

    Source: LocalAgreement-2 (Liu et al. 2020), as Macháček, Dabre and Bojar 2023
    (arXiv:2307.14743) use it for Whisper; here the whole wish is heard each time, as it is short.
    """

    def __init__(self) -> None:
        self._firm: list[str] = []
        self._last: list[str] = []

    @property
    def is_whole(self) -> bool:
        """Whether two hearings agree on every word."""
        return bool(self._firm) and len(self._firm) == len(self._last)

    def add(self, text: str) -> Partial:
        """Take what the newest hearing says; return what is firm now, and what is not."""
        words = text.split()
        pairs = zip(map(_plain, self._last), map(_plain, words), strict=False)
        agreed = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
        if agreed > len(self._firm):
            self._firm += words[len(self._firm) : agreed]
        self._last = words
        return Partial(" ".join(self._firm), " ".join(words[len(self._firm) :]))


def _plain(word: str) -> str:
    """Return a word without what a longer sentence changes: its case and the marks around it."""
    return word.strip(".,;:!?…\"'“”").casefold()


def is_all_heard(
    heard: np.ndarray, recording: np.ndarray, margin_s: float, limit_s: float = LIMIT_S
) -> bool:
    """Check whether all speech of a recording is in what was heard of it, its beginning.

    Then nothing but silence came after it, and what was heard is what would be heard now.
    """
    try:
        before, after = (
            find_windows(read_audio(samples, rate_hz=RATE_HZ, limit_s=limit_s), margin_s)
            for samples in (heard, recording)
        )
    except InputError:
        return False
    return len(before) == len(after) and all(
        abs(a.start - b.start) < SAME_S * RATE_HZ
        and abs(len(a.samples) - len(b.samples)) < SAME_S * RATE_HZ
        for a, b in zip(before, after, strict=True)
    )

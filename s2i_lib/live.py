"""A wish that is heard, and sketched, while it is spoken.

`Live` gets the recording in pieces. A thread hears all of it again and again, three to four times a
second, always the newest; what two hearings agree on is firm. After each hearing that changed the
wish it draws a draft of four steps, from the noise that the picture will have; once two hearings
agree on every word, all steps. Whatever is drawn ends as soon as there is something newer, and the
end of speech waits for one hearing at most. What was heard and drawn by then is used, not made
again, where nothing but silence came after it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from s2i_lib.errors import S2iError
from s2i_lib.pipeline import Cancelled, Heard, Sketch, SpeechToImage, Wish
from s2i_lib.speech.audio import RATE_HZ
from s2i_lib.speech.live import LocalAgreement, Partial, is_all_heard
from s2i_lib.speech.prompt import Prompt
from s2i_lib.speech.transcript import Transcript

if TYPE_CHECKING:
    from PIL.Image import Image

    from s2i_lib.pipeline import Recording

DRAFT_STEPS = 4  # DPM-Solver++ shows the picture from there on; it takes a fifth of twenty
EVERY_S = 0.27  # between the beginnings of two hearings: three to four a second
LEAST_S = 0.6  # of sound, before which Whisper makes words up
SLOW_DRAFT_S = 0.7  # a draft that takes longer comes too late to be one: words only from then on
SPEECH_DB = -38.0  # louder than a quiet room, below full scale; speech is at -30 to -10


@dataclass(frozen=True)
class Draft:
    """A picture of what was understood so far."""

    image: Image
    prompt: str
    steps: int


LiveEvent: TypeAlias = Partial | Draft


class Live:
    """One wish while it is spoken.

    Parameters
    ----------
    speech : SpeechToImage
        Hears and draws. What it has not loaded yet is left out until it is there.
    on_event : callable
        Is told every `Partial` and `Draft`, on the thread that hears, the newest last.
    drafts : bool
        Whether pictures are drawn before the wish has ended.
    foresee : callable
        ``foresee(transcript)`` returns the prompt that it will become, and the seed if that is
        another; None: that of a new wish.
    """

    def __init__(
        self,
        speech: SpeechToImage,
        on_event: Callable[[LiveEvent], object] = lambda event: None,
        *,
        drafts: bool = True,
        foresee: Callable[[Transcript], tuple[Prompt, int | None]] | None = None,
    ) -> None:
        self.speech, self.drafts = speech, drafts
        self._foresee = foresee or (lambda transcript: (speech.prompt(transcript), None))
        self.options = speech.options.with_seed()
        self.seconds: list[tuple[str, float]] = []
        """Kind of each event, and when it was told, in seconds since the first piece."""
        self._on_event = on_event
        self._pieces: list[np.ndarray] = []
        self._news = threading.Condition()
        self._is_closed = False
        self._began_s = time.perf_counter()
        self._agreement = LocalAgreement()
        self._heard: tuple[np.ndarray, Transcript] | None = None
        self._draft_s: list[float] = []  # what each draft took
        self._notes: tuple[str, ...] = ()  # a listener tells them once, with its first hearing
        self.sketch: Sketch | None = None
        """The newest pictures, for `SpeechToImage.ready`."""
        self._thread = threading.Thread(target=self._work, name="live", daemon=True)
        self._thread.start()

    def add(self, samples: np.ndarray) -> None:
        """Take the next piece of the recording: float32, 16 kHz, shape = (n_samples,)."""
        with self._news:
            if not self._pieces:
                self._began_s = time.perf_counter()
            self._pieces.append(samples)
            self._news.notify()

    def close(self, *, wait: bool = True) -> None:
        """End hearing and drawing, and wait for a hearing that runs."""
        with self._news:
            self._is_closed = True
            self._news.notify()
        if wait:
            self._thread.join()

    def hear(self, recording: Recording | None = None) -> Transcript:
        """End, and return what was said in the whole recording; None: in the pieces."""
        self.close()
        self.speech.start_wish()
        samples = self._samples() if recording is None else recording
        transcript = self._all_of(samples) if isinstance(samples, np.ndarray) else None
        if transcript:
            self.speech.callback(Heard(transcript))
        else:
            transcript = self.speech.hear(samples)
        notes = dict.fromkeys((*self._notes, *transcript.notes))
        return replace(transcript, notes=tuple(notes))

    def finish(self, recording: Recording | None = None) -> Wish:
        """End, and draw what was said; see `SpeechToImage.__call__` for what is raised."""
        transcript = self.hear(recording)
        speech, own = self.speech, self.speech.options
        speech.ready, speech.options = self.sketch, replace(own, seed=self.options.seed)
        try:
            return speech.draw_heard(
                transcript, self._samples() if recording is None else recording
            )
        finally:
            speech.options = own

    # ---- On the thread ----

    def _samples(self) -> np.ndarray:
        return np.concatenate(self._pieces or [np.zeros(0, np.float32)])

    def _work(self) -> None:
        n_heard, next_s = 0, 0.0
        while True:
            with self._news:
                while not self._is_closed and len(self._pieces) <= n_heard:
                    self._news.wait()
                self._news.wait_for(lambda: self._is_closed, max(0.0, next_s - time.perf_counter()))
                if self._is_closed:
                    return
                n_heard, samples = len(self._pieces), self._samples()
            next_s = time.perf_counter() + EVERY_S
            if len(samples) < LEAST_S * RATE_HZ or not self.speech.can_hear:
                continue
            try:
                self._hear_and_sketch(samples, n_heard)
            except (S2iError, Cancelled):
                continue  # nothing was said yet, or something newer came; the end tells the rest

    def _hear_and_sketch(self, samples: np.ndarray, n_heard: int) -> None:
        # Whether speech has ended is asked of the detector that decides it in the end: a last
        # syllable may be no louder than a room.
        transcript = self._all_of(samples)
        if transcript is None:
            with self.speech.use_listener() as listener:
                transcript = listener.hear(samples, RATE_HZ)
            self._notes += transcript.notes
            self._heard = samples, transcript
            self._tell(self._agreement.add(transcript.text))
        elif not self._agreement.is_whole:
            self._tell(self._agreement.add(transcript.text))
        if self.drafts and self.speech.can_draw:
            self._draft(transcript, n_heard)

    def _draft(self, transcript: Transcript, n_heard: int) -> None:
        """Draw what was understood: four steps, or all of them once the words are firm."""
        is_firm = self._agreement.is_whole
        options = self.options
        if not is_firm:
            few = min(DRAFT_STEPS, options.steps or DRAFT_STEPS)
            options = replace(options, steps=few, count=1)
        began_s = time.perf_counter()
        prompt, seed = self._foresee(transcript)
        options = options if seed is None else replace(options, seed=seed)
        sketch = self.speech.sketch(
            prompt, options, self.sketch, lambda: self._check(n_heard, is_firm=is_firm)
        )
        if sketch is self.sketch:
            return
        self.sketch = sketch
        steps = sketch.pictures[0].record["steps"]
        self._tell(Draft(sketch.pictures[0].image, sketch.prompt.text, steps))
        if steps <= DRAFT_STEPS:
            self._draft_s.append(time.perf_counter() - began_s)
            # The first of a session is slower than the others: it readies what they find ready.
            self.drafts = len(self._draft_s) < 2 or min(self._draft_s) <= SLOW_DRAFT_S

    def _check(self, n_heard: int, *, is_firm: bool) -> None:
        """End what is drawn when the wish has ended, or goes on after it seemed to have."""
        if self._is_closed or (is_firm and not self._is_quiet_after(n_heard)):
            raise Cancelled

    def _all_of(self, recording: np.ndarray) -> Transcript | None:
        """Return what was heard last, if nothing but silence came since."""
        if self._heard is None:
            return None
        (heard, transcript), hearing = self._heard, self.speech.hearing
        is_all = is_all_heard(heard, recording, hearing.margin_s, hearing.limit_s)
        return transcript if is_all else None

    def _is_quiet_after(self, n_pieces: int) -> bool:
        return not any(map(is_loud, self._pieces[n_pieces:]))

    def _tell(self, event: LiveEvent) -> None:
        if not self._is_closed:
            self.seconds.append((type(event).__name__, time.perf_counter() - self._began_s))
            self._on_event(event)


def is_loud(samples: np.ndarray) -> bool:
    """Return whether somebody may be speaking in samples."""
    power = float(np.square(samples).mean()) if len(samples) else 0.0
    return 10 * math.log10(power + 1e-10) > SPEECH_DB


def listen_live(
    speech: SpeechToImage,
    pieces: Iterable[np.ndarray],
    on_event: Callable[[LiveEvent], object] = lambda event: None,
    *,
    drafts: bool = True,
) -> Wish:
    """Hear a wish piece by piece, as a microphone gives them, and draw it when they end.

    Examples
    --------
    >>> listen_live(SpeechToImage(model="pocket").load(), microphone_pieces(), print)
    """
    live = Live(speech, on_event, drafts=drafts)
    try:
        for piece in pieces:
            live.add(piece)
    except BaseException:
        live.close()
        raise
    return live.finish()

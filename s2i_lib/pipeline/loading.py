"""What draws and what hears: which one it is, loaded when it is needed, for one wish at a time.

A studio loads ahead while somebody speaks, changes models between two wishes, and hears on one
thread while it draws on another. So each of the two has a lock: whoever uses one has it alone, and
it is not exchanged meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from s2i_lib.errors import S2iError
from s2i_lib.models.loading import Model, base_name, load
from s2i_lib.models.registry import REGISTRY, BaseModel, choose_for_machine
from s2i_lib.photos.subject import Subject
from s2i_lib.pipeline.events import Event, Loaded, Loading
from s2i_lib.speech.transcribe import HearOptions, Listener
from s2i_lib.speech.vocabulary import Vocabulary, vocabulary_of
from s2i_lib.storage.layout import Drive, folder_name
from s2i_lib.storage.run_card import (
    best_run,
    find_run,
    finished_runs,
    name_run,
    newest_run,
    read_card,
)

Tell = Callable[[Event], object]
Wanted = tuple[str, str | None]
"""A model and a run, as `s2i_lib.models.loading.load` takes them."""
AUTO: Wanted = ("auto", None)


class ModelChoice:
    """The model that draws: the one that was asked for, or where nobody asked a run that fits.

    Parameters
    ----------
    drive : Drive
        Where runs and weights are found.
    model, run
        As `SpeechToImage` takes them.
    tell : callable
        Is told when a wish waits for a model, and when one is there.
    """

    def __init__(self, drive: Drive, model: str | Model, run: str | None, tell: Tell) -> None:
        self.lock = threading.RLock()
        """Held while the model is loaded or used."""
        self.taught: Subject | None = None
        """Subject whose run was taken, where nobody chose a model."""
        self._drive, self._tell = drive, tell
        self._model = None if isinstance(model, str) else model
        self._wanted: Wanted = (model if isinstance(model, str) else model.source, run)
        self._loaded = self._wanted if self._model else None
        self.is_auto = self._wanted == AUTO
        """Whether nobody chose a model."""
        self._auto_base = ""
        self._expected: tuple[Wanted, BaseModel | None] | None = None
        # What was loaded in the background, and why it could not be.
        self._failure: tuple[Wanted, Exception] | None = None
        self._is_loading_ahead = False

    @property
    def is_loaded(self) -> bool:
        """Whether the model that was chosen is loaded."""
        return self._model is not None and self._loaded == self._wanted

    @property
    def run(self) -> str | None:
        """SUBJECT/RUN, or the path, of the weights that are loaded."""
        return self._model.run if self._model else None

    # ---- Which one ----

    def vocabulary(self, subjects: Sequence[Subject]) -> Vocabulary | None:
        """Return the words of the model that will draw, loaded or not.

        None where it knows most that people say, or nobody knows yet which one it is.
        """
        model, is_loaded = self._model, self.is_loaded
        if model is not None and is_loaded:
            return vocabulary_of(model.base, model.taught, subjects)
        wanted = self._wanted
        if self._expected is None or self._expected[0] != wanted:
            self._expected = wanted, self._expect(wanted)
        base = self._expected[1]
        return vocabulary_of(base, subjects=subjects) if base else None

    def _expect(self, wanted: Wanted) -> BaseModel | None:
        """Return the base model of weights that are not loaded yet; None where nobody knows."""
        name, run = wanted
        if run is not None:
            name = ""
            with suppress(S2iError):  # the wish itself says what is wrong with it
                folder = find_run(self._drive, run)
                name = base_name(folder, read_card(folder))
        elif name == "auto":
            name = choose_for_machine()[0].name
        return REGISTRY.get(name)

    def choose(self, model: str, run: str | None) -> None:
        """Draw with another model or run from the next wish on."""
        self._wanted = (model, run)
        self.is_auto = self._wanted == AUTO
        self.taught = None

    def let_go(self) -> None:
        """Forget which run was taken, and the model: the Drive may hold others by now."""
        with self.lock:
            self._model = self._loaded = self.taught = None
            self._wanted, self._auto_base = AUTO, ""

    def take_best(self, subjects: Sequence[Subject]) -> list[str]:
        """Take the best run of the first subject that has one; a note that says so."""
        runs, base = finished_runs(self._drive), self._base()
        for subject in subjects:
            if best := best_run(runs, folder_name(subject.name), base):
                self._wanted, self.taught = ("auto", name_run(best)), subject
                return [f"Drawn with {subject.name}'s run {name_run(best)}."]
        self.taught = None
        return []

    def _take_newest(self) -> None:
        """Where nobody chose, and nobody was named yet, take the newest run."""
        if self.is_auto and self._wanted == AUTO:
            base = self._base()
            if newest := newest_run(finished_runs(self._drive), base):
                self._wanted = ("auto", name_run(newest))

    def _base(self) -> str:
        """Name the base model for this machine, once: loaded, it leaves a GPU less room."""
        self._auto_base = self._auto_base or choose_for_machine()[0].name
        return self._auto_base

    # ---- Loading it ----

    def load_in_background(self) -> None:
        """Load on a thread, while something is heard; the wish says what went wrong."""
        self._failure = None
        if self._loaded != self._wanted:
            threading.Thread(target=self._load_quietly, name="load model", daemon=True).start()

    @contextmanager
    def use(self) -> Iterator[Model]:
        """Have the model that was chosen, loaded; nobody exchanges it meanwhile."""
        if not self.lock.acquire(blocking=False):
            if self._is_loading_ahead:
                self._tell_loading()
            self.lock.acquire()
        try:
            self._take_newest()
            failure, self._failure = self._failure, None
            if failure and failure[0] == self._wanted:
                raise failure[1]
            self._tell_loading()
            model = self._load(self._wanted)
            with model.lock:  # two studios may have been given the same one
                yield model
        finally:
            self.lock.release()

    def _load_quietly(self) -> None:
        """Load without a word: a wish that waits for it says so, one that has ended is not heard"""
        with self.lock:
            self._take_newest()
            wanted = self._wanted
            self._is_loading_ahead = True
            try:
                self._load(wanted)
            except Exception as error:  # told to the wish that waits for it
                self._failure = wanted, error
            finally:
                self._is_loading_ahead = False

    def _load(self, wanted: Wanted) -> Model:
        if self._model is None or self._loaded != wanted:
            name, run = wanted
            self._model = None  # frees the old one before the new one needs room
            self._model = load(name, drive=self._drive, run=run)
            self._loaded = wanted
            self._tell(Loaded(self._model))
        return self._model

    def _tell_loading(self) -> None:
        if not self.is_loaded:
            name, run = self._wanted
            self._tell(Loading(f"the model {run or name}"))


class ListenerChoice:
    """The listener that hears: for the options that are set, loaded when it is needed.

    Parameters
    ----------
    drive : Drive
        Where its weights are found.
    hearing : HearOptions or Listener
        How to listen, or a listener that has been loaded.
    tell : callable
        Is told when a wish waits for it.
    """

    def __init__(self, drive: Drive, hearing: HearOptions | Listener, tell: Tell) -> None:
        self._drive, self._tell, self._lock = drive, tell, threading.RLock()
        self._listener = None if isinstance(hearing, HearOptions) else hearing
        self.options = hearing if isinstance(hearing, HearOptions) else hearing.options
        """How to listen from the next recording on."""

    @property
    def is_loaded(self) -> bool:
        """Whether a listener is loaded, so that nothing waits for it."""
        return self._listener is not None and self._listener.is_loaded

    @contextmanager
    def use(self, vocabulary: Vocabulary | None = None) -> Iterator[Listener]:
        """Have a listener for ``options``, loaded; nobody exchanges it meanwhile.

        It is told the ``vocabulary`` of the model that will draw, where the options have none.
        """
        with self._lock:
            if self._listener is None or self._listener.options.loads != self.options.loads:
                self._tell(Loading("Whisper"))
                self._listener = None
                self._listener = Listener(self.options, self._drive)
            # The names, for instance, need no other weights.
            vocabulary = self.options.vocabulary or vocabulary
            self._listener.options = replace(self.options, vocabulary=vocabulary)
            self._listener.load()
            yield self._listener

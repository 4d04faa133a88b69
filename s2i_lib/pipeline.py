"""Speech in, picture out: the product as one object.

A wish takes one way through this file: a recording is *heard*, its words become a *prompt*, the
prompt is *drawn*, the pictures are *saved*. `SpeechToImage` does all four, or each alone; the
command line, the studio, and the evaluation of speech are made of it. What goes on is told by
events to one callback, never printed, and a callback that raises `Cancelled` ends the wish between
two steps. The last wish is remembered with its noise, so that it can be drawn again, changed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from s2i_lib.drawing.advice import explain_unknown_words, explain_untaught
from s2i_lib.drawing.draw import EMPTY_PROMPT, draw
from s2i_lib.drawing.gallery import save, save_recording
from s2i_lib.drawing.keeping import kept_of
from s2i_lib.drawing.pages import Section
from s2i_lib.drawing.presence import Lookout, say_absent
from s2i_lib.drawing.records import Chain, Picture
from s2i_lib.drawing.sampling import SEEDS, DrawOptions, Step, guidance_of, preview
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.loading import Model, load
from s2i_lib.models.registry import choose_for_machine
from s2i_lib.photos.subject import Subject, find_subject, known_subjects
from s2i_lib.speech.prompt import Prompt, find_negatives, make_prompt, with_negative
from s2i_lib.speech.transcribe import HearOptions, Listener
from s2i_lib.speech.transcript import Transcript
from s2i_lib.storage.files import make_folder
from s2i_lib.storage.layout import Drive, folder_name, open_drive
from s2i_lib.storage.run_card import best_run, finished_runs, name_run, newest_run

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image

    from s2i_lib.drawing.safety import Classroom
    from s2i_lib.drawing.told import Seen

    Recording: TypeAlias = str | Path | bytes | np.ndarray
    """A file, a file's bytes, or samples at 16 kHz."""

RATE_HZ = 16_000


class Cancelled(Exception):  # noqa: N818  (it is no error: nobody wants the picture any more)
    """Raised by a callback to end the running wish between two steps."""


# ---- What a callback is told, in the order in which it happens ----


@dataclass(frozen=True)
class Loading:
    """A model is being loaded; a wish waits for it."""

    what: str
    """Name for people: "the model pocket", "Whisper"."""


@dataclass(frozen=True)
class Loaded:
    """The model that draws has been loaded."""

    model: Model


@dataclass(frozen=True)
class Hearing:
    """A recording is being listened to."""


@dataclass(frozen=True)
class Heard:
    """The words are known."""

    transcript: Transcript


@dataclass(frozen=True)
class Taken:
    """Sentence of a conversation has been taken for a wish or a change, and is drawn next."""

    sentence: str
    """What it was taken for, in words for the user."""


@dataclass(frozen=True)
class Understood:
    """The prompt is known, and is drawn next."""

    model: Model
    prompt: Prompt
    notes: tuple[str, ...]
    """Sentences on what was made of the words."""


@dataclass(frozen=True)
class Drawing:
    """A denoising step has been made."""

    step: Step
    model: Model
    classroom: Classroom | None = None

    def preview(self) -> PIL.Image.Image:
        """Return the first picture as far as it has come: a pixel a latent.

        In classroom mode it is gray where the checker that looks at the model's pictures flags it.
        """
        image = preview(self.model, self.step.denoised[:1])[0]
        rules, checker = self.classroom, self.model.base.safety_checker
        if rules and checker and any(rules.find_unfit(self.model, [image])):
            image.paste("gray", (0, 0, *image.size))
        return image


Event: TypeAlias = Loading | Loaded | Hearing | Heard | Taken | Understood | Drawing


@dataclass(frozen=True)
class Wish:
    """What somebody asked for, and what came of it."""

    prompt: Prompt
    options: DrawOptions
    """How it was drawn, with the seed that was drawn from."""
    notes: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    paths: tuple[Path | None, ...] = ()
    """File of each picture; None for one that was not saved."""
    failures: tuple[S2iError, ...] = ()
    """Why pictures could not be saved, where they could not."""
    absent: Subject | None = None
    """Subject that was asked for and came out in none of the pictures; another try may help."""
    recording: Recording | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds that each stage took."""

    @property
    def transcript(self) -> Transcript | None:
        """What was heard; None for typed words."""
        return self.prompt.transcript

    @property
    def doubts(self) -> tuple[str, ...]:
        """Sentences on why what was heard may not be what was said."""
        return self.transcript.doubts if self.transcript else ()

    @property
    def unsaved_seeds(self) -> list[int]:
        """Seeds of the pictures that were not saved."""
        both = zip(self.pictures, self.paths, strict=True)
        return [picture.record["seed"] for picture, path in both if path is None]

    def section(self) -> Section:
        """Return its part of a page: the saved pictures, the words, the recording."""
        from s2i_lib.speech.audio import load_audio

        clip = self.recording
        return Section(
            self.prompt.text,
            [path for path in self.paths if path],
            heard=self.transcript.text if self.transcript else None,
            clip=load_audio(clip) if isinstance(clip, (str, Path, bytes)) else clip,
            notes=[*self.doubts, *self.notes],
        )


@dataclass(frozen=True)
class Sketch:
    """Pictures of a wish that has not ended yet, saved nowhere."""

    model: Model
    prompt: Prompt
    options: DrawOptions
    pictures: tuple[Picture, ...]

    def is_of(self, model: Model, prompt: Prompt, options: DrawOptions) -> bool:
        """Return whether drawing this would give the same pictures and records."""
        return (self.model, self.prompt, self.options) == (model, prompt, options)


class SpeechToImage:
    """Hears a wish, makes a prompt of it, draws it and saves the pictures.

    Models are loaded when they are first needed, or by ``load``; one that is in use is not
    exchanged. The attributes may be changed between two wishes.

    Parameters
    ----------
    drive : Drive, optional
        Where subjects, runs and weights are found, and pictures go.
    model : str or Model
        A name in the registry, a diffusers folder, a loaded model, or "auto": then whoever names a
        subject gets the best run of it, and without a name the newest run draws; where there is
        none, the base model that suits this machine.
    run : str, optional
        SUBJECT/RUN, SUBJECT, or the path of weights.
    subject : Subject or str, optional
        The one that the model knows, by name, where several may be named.
    options : DrawOptions, optional
        How it is drawn.
    hearing : HearOptions or Listener, optional
        How to listen, or a listener that has been loaded.
    negative : str, optional
        What is left out of every picture; None for the model's own words.
    classroom : Classroom, optional
        Refuses words and looks at pictures.
    folder : Path, optional
        Where pictures are saved [default: creations on the Drive]; set the attribute to None to
        save none.
    callback : callable
        Is told every `Event`; what it raises ends the wish.

    Examples
    --------
    >>> speech = SpeechToImage(model="pocket")
    >>> speech("red_car.wav").pictures[0].image.show()
    >>> speech.say("a red car").paths
    >>> speech.again(steps=40)  # the last wish, from the same noise
    """

    def __init__(
        self,
        drive: Drive | None = None,
        *,
        model: str | Model = "auto",
        run: str | None = None,
        subject: Subject | str | None = None,
        options: DrawOptions | None = None,
        hearing: HearOptions | Listener | None = None,
        negative: str | None = None,
        classroom: Classroom | None = None,
        folder: Path | None = None,
        callback: Callable[[Event], object] = lambda event: None,
    ) -> None:
        self.drive = drive or open_drive()
        self.options = options or DrawOptions()
        self.negative, self.classroom, self.callback = negative, classroom, callback
        self.folder: Path | None = folder or self.drive.creations
        self.mark = ""
        """End of the files' names, for several processes that write at once."""
        self.look: Callable[[Picture], Seen | None] | None = None
        """Says what a picture shows (`s2i_lib.evaluation.look.Looker`); None: nobody looks."""
        self.recordings: Path | None = None
        """Folder where recordings are kept; None keeps none."""
        self.chosen = find_subject(self.drive, subject) if isinstance(subject, str) else subject
        self.subjects = known_subjects(self.drive, [self.chosen] if self.chosen else [])
        self.last: Wish | None = None
        self.ready: Sketch | None = None
        """Pictures that the next wish need not draw, where it is that of the sketch."""
        self.seconds: dict[str, float] = {}
        """Seconds of each stage, of all wishes together."""
        self._wish_seconds: dict[str, float] = {}
        self._model: Model | None = None if isinstance(model, str) else model
        self._wanted = (model if isinstance(model, str) else model.source, run)
        self._loaded = self._wanted if self._model else None
        self._is_auto = self._wanted == ("auto", None)
        self._lookout = Lookout(self.drive)
        self._taught: Subject | None = None  # whose run was taken, where nobody chose one
        self._auto_base = ""
        # What was loaded in the background, and why it could not be.
        self._failure: tuple[tuple[str, str | None], Exception] | None = None
        self._is_loading_ahead = False
        self._model_lock, self._listener_lock = threading.RLock(), threading.RLock()
        if hearing is None:
            hearing = HearOptions(names=tuple(one.spoken for one in self.subjects))
        self._listener = None if isinstance(hearing, HearOptions) else hearing
        self.hearing = hearing if isinstance(hearing, HearOptions) else hearing.options

    # ---- Loading ----

    def choose(self, model: str, run: str | None = None) -> None:
        """Draw with another model or run from the next wish on."""
        self._wanted = (model, run)
        self._is_auto = (model, run) == ("auto", None)
        self._taught = None

    def look_again(self) -> None:
        """Know the subjects and runs that have come to the Drive since, or gone from it.

        What was loaded because nobody chose is let go: a run may have been trained further under
        its name, or been deleted.
        """
        self.subjects = known_subjects(self.drive)
        if self.chosen not in self.subjects:
            self.chosen = None
        self.hearing = replace(self.hearing, names=tuple(one.spoken for one in self.subjects))
        if not self._is_auto:
            return
        with self._model_lock:
            self._model = self._loaded = self._taught = None
            self._wanted, self._auto_base = ("auto", None), ""
            self._lookout = Lookout(self.drive)

    @property
    def run(self) -> str | None:
        """SUBJECT/RUN, or the path, of the weights that are loaded."""
        return getattr(self._model, "run", None)

    def load(self) -> SpeechToImage:
        """Load what hears and what draws."""
        self.load_listener()
        self.load_model()
        return self

    def load_in_background(self) -> None:
        """Load the model on a thread, while something is heard; the wish says what went wrong."""
        self._failure = None
        if self._loaded != self._wanted:
            threading.Thread(target=self._load_quietly, name="load model", daemon=True).start()

    def _load_quietly(self) -> None:
        """Load without a word: a wish that waits for it says so, one that has ended is not heard"""
        with self._model_lock:
            self.take_run()
            wanted = self._wanted
            self._is_loading_ahead = True
            try:
                self._load_wanted(wanted)
            except Exception as error:  # told to the wish that waits for it
                self._failure = wanted, error
            finally:
                self._is_loading_ahead = False

    def _load_wanted(self, wanted: tuple[str, str | None]) -> None:
        if self._model is None or self._loaded != wanted:
            name, run = wanted
            self._model = None  # frees the old one before the new one needs room
            self._model = load(name, drive=self.drive, run=run)
            self._loaded = wanted
            self.callback(Loaded(self._model))

    def _tell_loading(self) -> None:
        if not self.can_draw:
            name, run = self._wanted
            self.callback(Loading(f"the model {run or name}"))

    def take_run(self, words: str | Transcript | None = None) -> list[str]:
        """Where nobody chose a model, take the run of who is named, else the newest; a note."""
        if not self._is_auto:
            return []
        # Once: with a model loaded, a GPU has less room than it had.
        base = self._auto_base = self._auto_base or choose_for_machine()[0].name
        runs = finished_runs(self.drive)
        if words is None:
            if self._wanted == ("auto", None) and (newest := newest_run(runs, base)):
                self._wanted = ("auto", name_run(newest))
            return []
        named = make_prompt(words, self.subjects, chosen=self.chosen).subjects
        for subject in [*filter(None, [self.chosen]), *named]:
            if best := best_run(runs, folder_name(subject.name), base):
                self._wanted, self._taught = ("auto", name_run(best)), subject
                return [f"Drawn with {subject.name}'s run {name_run(best)}."]
        self._taught = None
        return []

    @property
    def taught(self) -> Subject | None:
        """Subject that gets its identifier: who was chosen, else whose run was taken."""
        return self.chosen or self._taught

    def load_model(self) -> None:
        """Load what draws, or wait until it is loaded."""
        with self._stage("load model"), self.use_model():
            pass

    def load_listener(self) -> None:
        """Load what hears, or wait until it is loaded."""
        with self._stage("load Whisper"), self.use_listener():
            pass

    @contextmanager
    def use_model(self) -> Iterator[Model]:
        """Have the model that was chosen, loaded; nobody exchanges it meanwhile."""
        if not self._model_lock.acquire(blocking=False):
            if self._is_loading_ahead:
                self._tell_loading()
            self._model_lock.acquire()
        try:
            self.take_run()
            failure, self._failure = self._failure, None
            if failure and failure[0] == self._wanted:
                raise failure[1]
            self._tell_loading()
            self._load_wanted(self._wanted)
            assert self._model is not None
            with self._model.lock:  # two studios may have been given the same one
                yield self._model
        finally:
            self._model_lock.release()

    @contextmanager
    def use_listener(self) -> Iterator[Listener]:
        """Have a listener for ``hearing``, loaded; nobody exchanges it meanwhile."""
        with self._listener_lock:
            if self._listener is None or self._listener.options != self.hearing:
                self.callback(Loading("Whisper"))
                self._listener = None
                self._listener = Listener(self.hearing, self.drive)
            self._listener.load()
            yield self._listener

    # ---- The way of a wish ----

    def __call__(self, recording: Recording) -> Wish:
        """Hear a recording, and draw what was said.

        Raises
        ------
        InputError
            When the recording cannot be used, nothing was said, or it cannot be drawn.
        S2iError
            When the weights or the room for a picture are not to be had.
        """
        self.start_wish()
        return self.draw_heard(self.hear(recording), recording)

    def start_wish(self) -> None:
        """Count the seconds of a new wish, and load what it needs."""
        self._wish_seconds = {}
        self.load_listener()
        self.load_in_background()

    def draw_heard(self, transcript: Transcript, recording: Recording) -> Wish:
        """Draw what ``hear`` returned."""
        notes = self.keep_recording(recording, transcript)
        return self._fulfil(transcript, notes, recording)

    def say(
        self, text: str | Transcript, *, notes: Sequence[str] = (), chain: Chain | None = None
    ) -> Wish:
        """Draw typed words, as if they had been spoken, or what was heard before.

        Parameters
        ----------
        notes : put before what is noted here
        chain : what was said so far, for the pictures' records
        """
        said = text.english if isinstance(text, Transcript) else text
        if not said.strip():
            raise InputError(EMPTY_PROMPT)
        make_prompt(text, self.subjects, chosen=self.chosen)  # refuses before anything slow
        if self.classroom:
            self.classroom.check(said)
        self._wish_seconds = {}
        return self._fulfil(text, notes, chain=chain)

    def hear(self, recording: Recording) -> Transcript:
        """Listen to a recording (samples at 16 kHz, a file, or a file's bytes)."""
        with self.use_listener() as listener:
            self.callback(Hearing())
            rate_hz = None if isinstance(recording, (str, Path, bytes)) else RATE_HZ
            with self._stage("hear"):
                transcript = listener.hear(recording, rate_hz)
        self.callback(Heard(transcript))
        return transcript

    def prompt(self, words: str | Transcript) -> Prompt:
        """Make the prompt that the model is given for words."""
        with self.use_model() as model:
            return make_prompt(
                words,
                self.subjects,
                chosen=self.taught,
                count_tokens=model.count_tokens,
                token_limit=model.base.token_limit,
            )

    def draw(
        self,
        prompt: Prompt,
        *,
        options: DrawOptions | None = None,
        notes: Sequence[str] = (),
        chain: Chain | None = None,
    ) -> Wish:
        """Draw a prompt and save the pictures; ``notes`` and ``chain`` as in `say`."""
        self._wish_seconds = {}
        self.load_model()
        return self._draw(prompt, options or self.options, notes, chain)

    def again(self, prompt: Prompt | None = None, **changes: Any) -> Wish:
        """Draw the last wish again from the same noise: with another prompt, or other options.

        Parameters
        ----------
        prompt : Prompt, optional
            The last one, changed; the same noise keeps what both have in common alike.
        **changes
            Fields of `DrawOptions`.

        Raises
        ------
        InputError
            When nothing has been drawn yet.
        """
        if self.last is None:
            raise InputError("There is no wish yet that could be drawn again. Call say first.")
        prompt = prompt or self.last.prompt
        return self.draw(prompt, options=replace(self.last.options, **changes))

    def _fulfil(
        self,
        words: str | Transcript,
        notes: Sequence[str] = (),
        recording: Recording | None = None,
        chain: Chain | None = None,
    ) -> Wish:
        said_of_hearing = words.notes if isinstance(words, Transcript) else ()
        notes = [*said_of_hearing, *notes, *self.take_run(words)]
        self.load_model()
        wish = self._draw(self.prompt(words), self.options, notes, chain)
        self.last = replace(wish, recording=recording)
        return self.last

    @property
    def can_hear(self) -> bool:
        """Whether a listener is loaded, so that nothing waits for it."""
        return self._listener is not None and self._listener.is_loaded

    @property
    def can_draw(self) -> bool:
        """Whether the model that was chosen is loaded."""
        return self._model is not None and self._loaded == self._wanted

    def sketch(
        self,
        prompt: Prompt,
        options: DrawOptions,
        last: Sketch | None,
        check: Callable[[], object],
    ) -> Sketch:
        """Draw what was understood so far, with the model that is loaded; save and tell nothing.

        Returns ``last`` where it would be the same again. ``check`` is called between two steps;
        what it raises ends the drawing.
        """
        with self.use_model() as model:
            asked = self._ask(prompt, model, options)
            if last and (last.prompt.text, last.options) == (asked.text, options):
                return last
            pictures = draw(
                model, asked, options, on_step=lambda step: check(), classroom=self.classroom
            )
            return Sketch(model, asked, options, tuple(pictures))

    def _ask(self, prompt: Prompt, model: Model, options: DrawOptions) -> Prompt:
        """Return the prompt with all that is left out; a class's rules come before anything."""
        prompt = replace(prompt, negative=find_negatives(prompt.text))
        asked = with_negative(prompt, self.negative, model.base.negative)
        if self.classroom:
            self.classroom.check_prompt(asked, guidance_of(model, options))
        return asked

    def _draw(
        self,
        prompt: Prompt,
        options: DrawOptions,
        notes: Sequence[str],
        chain: Chain | None = None,
    ) -> Wish:
        options = options.with_seed()
        sketch, self.ready = self.ready, None
        with self.use_model() as model:
            asked = self._ask(prompt, model, options)
            unknown = explain_unknown_words(model.base, prompt.text, model.taught)
            untaught = explain_untaught(model, prompt, self.drive)
            said = (*notes, *prompt.notes, *filter(None, [untaught, unknown]))
            self.callback(Understood(model, asked, said))
            with self._stage("draw"):
                kept = kept_of(model, chain, options)
                if sketch and not kept and sketch.is_of(model, asked, options):
                    pictures = list(sketch.pictures)
                else:
                    pictures = draw(
                        model,
                        asked,
                        options,
                        on_step=lambda step: self.callback(Drawing(step, model, self.classroom)),
                        classroom=self.classroom,
                        kept=kept,
                    )
                shown = [picture.image for picture in pictures]
                absent = self._lookout.find_absent(model, asked, shown)
        if absent:
            said = (*said, say_absent(absent))
        if self.look:
            with self._stage("look"):
                pictures = [self._looked_at(picture) for picture in pictures]
        if chain is not None:
            first = options.seed or 0  # a class may have been shown fewer than were drawn
            pictures = [
                chain.write_in(one, (one.record["seed"] - first) % SEEDS) for one in pictures
            ]
        with self._stage("save"):
            saved = [self._save(picture) for picture in pictures]
        self.last = Wish(
            asked,
            options,
            said,
            tuple(pictures),
            tuple(one if isinstance(one, Path) else None for one in saved),
            tuple(one for one in saved if isinstance(one, S2iError)),
            absent=absent,
            seconds=self._wish_seconds,
        )
        return self.last

    def _looked_at(self, picture: Picture) -> Picture:
        """The picture with what is seen in its record, where that can be told."""
        seen = self.look(picture) if self.look else None
        return replace(picture, record=picture.record | {"seen": asdict(seen)}) if seen else picture

    # ---- Saving ----

    def _save(self, picture: Picture) -> Path | S2iError | None:
        """Save a picture, or say why that was not possible: the next one may find room."""
        if self.folder is None:
            return None
        try:
            return save(picture, make_folder(self.folder), self.mark, root=self.drive.root)
        except S2iError as error:
            return error

    def keep_recording(self, recording: Recording, transcript: Transcript) -> list[str]:
        """Keep a recording where that is wanted; a note where it could not be."""
        from s2i_lib.speech.audio import load_audio
        from s2i_lib.speech.name_matching import find_names

        if self.recordings is None:
            return []
        samples = load_audio(recording) if isinstance(recording, (str, Path, bytes)) else recording
        named = {m.subject.name: m.subject for m in find_names(transcript.english, self.subjects)}
        try:
            folder = make_folder(self.recordings)
            save_recording(samples, transcript, list(named.values()), folder)
        except S2iError as error:  # the picture can be drawn all the same
            return [f"Your recording is not kept: {error}"]
        return []

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        """Add the seconds that the body takes to those of a stage."""
        began = time.perf_counter()
        yield
        took = time.perf_counter() - began
        for table in (self._wish_seconds, self.seconds):
            table[name] = table.get(name, 0.0) + took

"""The session: hears wishes, draws them, saves the pictures, and remembers the last one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.drawing.advice import explain_unknown_words, explain_untaught
from s2i_lib.drawing.draw import EMPTY_PROMPT, draw
from s2i_lib.drawing.gallery import save, save_recording
from s2i_lib.drawing.keeping import kept_of
from s2i_lib.drawing.presence import Lookout, say_absent
from s2i_lib.drawing.records import Chain, Picture
from s2i_lib.drawing.sampling import SEEDS, DrawOptions, guidance_of
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.loading import Model
from s2i_lib.photos.subject import Subject, find_subject, known_subjects
from s2i_lib.pipeline.events import Drawing, Event, Heard, Hearing, Understood
from s2i_lib.pipeline.loading import ListenerChoice, ModelChoice
from s2i_lib.pipeline.wish import Sketch, Wish
from s2i_lib.speech.audio import Recording, rate_of, samples_of
from s2i_lib.speech.prompt import Prompt, find_negatives, make_prompt, with_negative
from s2i_lib.speech.transcribe import HearOptions, Listener
from s2i_lib.speech.transcript import Transcript
from s2i_lib.storage.files import make_folder
from s2i_lib.storage.layout import Drive, open_drive

if TYPE_CHECKING:
    from s2i_lib.drawing.safety import Classroom
    from s2i_lib.drawing.told import Seen


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
        self.lookout = Lookout(self.drive)
        """Finds out who was asked for and did not come out."""
        if hearing is None:
            hearing = HearOptions(subjects=tuple(self.subjects))
        self._listener = ListenerChoice(self.drive, hearing, self._tell)
        self._model = ModelChoice(self.drive, model, run, self._tell)

    def _tell(self, event: Event) -> None:
        self.callback(event)  # the one that is set now

    # ---- What draws and what hears ----

    @property
    def hearing(self) -> HearOptions:
        """How to listen; what is set counts from the next recording on."""
        return self._listener.options

    @hearing.setter
    def hearing(self, options: HearOptions) -> None:
        self._listener.options = options

    def choose(self, model: str, run: str | None = None) -> None:
        """Draw with another model or run from the next wish on."""
        self._model.choose(model, run)

    def look_again(self) -> None:
        """Know the subjects and runs that have come to the Drive since, or gone from it.

        What was loaded because nobody chose is let go: a run may have been trained further under
        its name, or been deleted.
        """
        self.subjects = known_subjects(self.drive)
        if self.chosen not in self.subjects:
            self.chosen = None
        self.hearing = replace(self.hearing, subjects=tuple(self.subjects))
        if self._model.is_auto:
            with self._model.lock:
                self._model.let_go()
                self.lookout = Lookout(self.drive)

    @property
    def run(self) -> str | None:
        """SUBJECT/RUN, or the path, of the weights that are loaded."""
        return self._model.run

    @property
    def taught(self) -> Subject | None:
        """Subject that gets its identifier: who was chosen, else whose run was taken."""
        return self.chosen or self._model.taught

    @property
    def can_hear(self) -> bool:
        """Whether a listener is loaded, so that nothing waits for it."""
        return self._listener.is_loaded

    @property
    def can_draw(self) -> bool:
        """Whether the model that was chosen is loaded."""
        return self._model.is_loaded

    def use_model(self) -> AbstractContextManager[Model]:
        """Have the model that was chosen, loaded; nobody exchanges it meanwhile."""
        return self._model.use()

    def use_listener(self) -> AbstractContextManager[Listener]:
        """Have a listener for ``hearing``, loaded; nobody exchanges it meanwhile.

        It knows the words of the model that will draw.
        """
        return self._listener.use(self._model.vocabulary(self.subjects))

    def load(self) -> SpeechToImage:
        """Load what hears and what draws."""
        self.load_listener()
        self.load_model()
        return self

    def load_in_background(self) -> None:
        """Load the model on a thread, while something is heard; the wish says what went wrong."""
        self._model.load_in_background()

    def load_model(self) -> None:
        """Load what draws, or wait until it is loaded."""
        with self._stage("load model"), self.use_model():
            pass

    def load_listener(self) -> None:
        """Load what hears, or wait until it is loaded."""
        with self._stage("load Whisper"), self._listener.use():
            pass

    def take_run(self, words: str | Transcript) -> list[str]:
        """Where nobody chose a model, take the best run of who is named; a note of it."""
        if not self._model.is_auto:
            return []
        named = make_prompt(words, self.subjects, chosen=self.chosen).subjects
        return self.take_run_of([*filter(None, [self.chosen]), *named])

    def take_run_of(self, subjects: Sequence[Subject]) -> list[str]:
        """Where nobody chose a model, take the best run of the first that has one; a note of it."""
        return self._model.take_best(subjects) if self._model.is_auto else []

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
            with self._stage("hear"):
                transcript = listener.hear(recording, rate_of(recording))
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
                drawn = sketch.pictures_of(model, asked, options) if sketch and not kept else None
                pictures = drawn or draw(
                    model,
                    asked,
                    options,
                    on_step=lambda step: self.callback(Drawing(step, model, self.classroom)),
                    classroom=self.classroom,
                    kept=kept,
                )
                shown = [picture.image for picture in pictures]
                absent = self.lookout.find_absent(model, asked, shown)
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
        from s2i_lib.speech.name_matching import find_names

        if self.recordings is None:
            return []
        said = f"{transcript.english} {transcript.first_heard}"  # `forget` finds both
        named = {m.subject.name: m.subject for m in find_names(said, self.subjects)}
        model = None
        if not (named and self._model.is_auto):  # whose run is taken is who was named
            with suppress(S2iError), self._stage("load model"), self.use_model() as model:
                pass  # the wish says why it cannot be loaded
        try:
            folder, root = make_folder(self.recordings), self.drive.root
            samples, subjects = samples_of(recording), list(named.values())
            save_recording(samples, transcript, subjects, folder, model, root)
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

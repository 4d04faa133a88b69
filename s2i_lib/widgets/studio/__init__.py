"""Press, speak, see: one widget from the microphone to the picture."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.conversation import Conversation
from s2i_lib.conversation.turns import Answer
from s2i_lib.drawing.marks import encode_marked, mark_of_record
from s2i_lib.errors import InputError, S2iError
from s2i_lib.live import Live
from s2i_lib.models.registry import split_choice
from s2i_lib.pipeline import (
    Cancelled,
    Drawing,
    Event,
    Heard,
    Hearing,
    Loaded,
    Loading,
    SpeechToImage,
    Taken,
    Understood,
)
from s2i_lib.speech.commands import NEW_WISH
from s2i_lib.storage.files import files_beside
from s2i_lib.storage.layout import Drive
from s2i_lib.storage.removal import remove
from s2i_lib.widgets import join_modules, join_styles
from s2i_lib.widgets.microphone import pcm_to_float
from s2i_lib.widgets.studio.controls import (
    LANGUAGES,
    begin_with,
    draw_options,
    find_chosen,
    list_models,
    what_came,
)
from s2i_lib.widgets.studio.figure import FigureMaker
from s2i_lib.widgets.studio.page import StudioPage
from s2i_lib.widgets.studio.takes import Takes
from s2i_lib.widgets.studio.worker import Worker
from s2i_lib.widgets.texts import catalogue

if TYPE_CHECKING:
    from s2i_lib.models.loading import Model
    from s2i_lib.pipeline import Recording
    from s2i_lib.speech.transcribe import Listener

log = logging.getLogger(__name__)

FIGURE = "figure:"  # before the id of a picture: the page of its figure


class Studio(StudioPage):
    """Hears a wish, shows the prompt that it becomes, and draws it before your eyes.

    Models load in the background from the moment that the studio is made. Work happens on a thread
    of its own, so that the kernel stays free; a new wish stops the running one between two steps.

    Parameters
    ----------
    drive : Drive
        Where subjects and runs are found, and pictures are kept.
    keep : bool
        Whether each picture is kept on the Drive as it comes; otherwise only where "Keep" is
        pressed.
    settings
        What the controls begin with; see ``controls.DEFAULTS``.
    classroom : bool
        Whether words of a list are refused and pictures looked at by a safety checker; see
        ``s2i_lib.drawing.safety``. It is no control of the widget, lest the class switch it off.
    listener, model
        Loaded ones, to share what a notebook has loaded before.
    """

    _esm = join_modules("studio/studio.js")
    _css = join_styles("microphone/microphone.css", "studio/studio.css")

    def __init__(
        self,
        drive: Drive,
        *,
        keep: bool = True,
        settings: dict[str, Any] | None = None,
        classroom: bool = True,
        listener: Listener | None = None,
        model: Model | None = None,
    ) -> None:
        from s2i_lib.drawing.safety import Classroom

        settings = begin_with(settings)
        self.drive, self.keep = drive, keep
        self._keeps_this = keep
        self._worker = Worker(self._report)
        self._chosen_model = settings["model"]
        base, run = split_choice(settings["model"])
        self._speech = SpeechToImage(
            drive,
            model=model or base,
            run=run,
            hearing=listener,
            classroom=Classroom(drive) if classroom else None,
            callback=self._on_event,
        )
        self.seconds: list[dict[str, float]] = []
        """Seconds of the stages, of each wish."""
        self._figures = FigureMaker(drive)
        self._takes = Takes(self._listen)
        self._seed: int | None = None  # of the drafts that were drawn while somebody spoke
        self._doubted: Callable[[], None] | None = None  # draws what waits for a yes
        super().__init__(
            Conversation(self._speech),
            settings=settings,
            subjects=[subject.name for subject in self._speech.subjects],
            models=list_models(drive, settings["model"]),
            languages=LANGUAGES,
            texts=catalogue(),
        )
        self.observe(self._load_choice, "settings")
        self._starter = threading.Thread(target=self._load_all, name="studio-load", daemon=True)
        self._starter.start()

    # --- what the browser asks for ---------------------------------------------------------------

    def _received(self, data: bytes, meta: dict[str, Any]) -> str:
        """A recording as PCM, a piece of one that is being made, or a file that was dropped."""
        kind, take = meta.get("kind"), str(meta.get("take", ""))
        if kind == "piece":
            self._takes.add(take, int(meta["index"]), pcm_to_float(data))
            return "heard"
        self.problem = self.problem_code = ""
        source = pcm_to_float(data) if kind == "speech" else data
        live = self._takes.pop(take)
        self._wish(lambda: self._hear_and_draw(source, live))
        return "queued"

    def _asked(self, name: str) -> bytes:
        if name.startswith(FIGURE):
            return self._figures.page(name.removeprefix(FIGURE))
        picture = self._shown[name].picture
        return encode_marked(picture.image, "PNG", mark_of_record(picture.record))

    def _told(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "hello":
            self._tell_in(str(message.get("language") or "en"))
        elif kind == "say":
            self.say(str(message["text"]))
        elif kind == "draw":
            prompt = str(message["text"])
            self._wish(lambda: self._draw_prompt(prompt))
        elif kind == "other":
            self._wish(lambda: self._finish(self._talk.otherwise()))
        elif kind == "another":
            self._wish(self._draw_another)
        elif kind == "hold" and self._worker.is_busy:
            self._say(("hold_later", {}))  # a wish that is being heard must not end for it
        elif kind == "hold":
            self._worker.submit(lambda: self._hold(str(message["id"])), drops=False)
        elif kind == "put_down":
            self.held = {}
        elif kind == "yes" and self._doubted:
            self._wish(self._doubted)
        elif kind == "set":
            self._set(str(message["name"]), message["value"])
        elif kind == "cancel_take":
            self._takes.pop(str(message["take"]))
        elif kind == "cancel_wish":
            is_waiting = self.state == "waiting"
            self._say(("stopping_loaded" if is_waiting else "stopping", {}))
            self._worker.cancel()
        elif kind in ("show", "undo", "redo") and self._worker.is_busy:
            self._say(("stopping", {}))  # what is drawn ends first: it may not come after this
            self._wish(lambda: self._press(kind, str(message.get("id", "")), message))
        elif kind in ("show", "keep", "delete", "undo", "redo"):
            self.complaint = ""
            try:
                self._press(kind, str(message.get("id", "")), message)
            except (S2iError, OSError) as error:
                self.complaint = f"That did not work: {error}"

    def _press(self, kind: str, key: str, message: dict[str, Any]) -> None:
        """Do what a button at a picture or at the strip says."""
        if kind == "keep":
            self._set_kept(key, is_kept=bool(message["is_kept"]))
        elif kind == "delete":
            shown = self._shown[key]
            if shown.turn is None:
                self._shown.take_over(key)
                shown.turn = self._talk.position
                self._forget_earlier(key)
            self._answer(self._talk.delete(shown.turn, shown.place))
        elif kind == "show":
            self._show_again(key)
        else:
            self._answer(self._talk.undo() if kind == "undo" else self._talk.redo())

    def say(self, text: str, *, keep: bool | None = None) -> None:
        """Wish for a picture in words, as if they had been spoken.

        ``keep`` is for this picture what the studio's ``keep`` is for all.
        """
        self._wish(lambda: self._draw_words(text), keep)

    def hear(self, source: Recording, *, keep: bool | None = None) -> None:
        """Wish for a picture with a recording; nobody is asked whether doubted words are right.

        ``keep`` is for this picture what the studio's ``keep`` is for all.
        """
        self._wish(lambda: self._hear_and_draw(source, None, asks=False), keep)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the wishes so far; never do so in a cell that the browser has to answer to."""
        return self._worker.wait(timeout_s)

    def png(self, key: str) -> bytes:
        """Return a picture in the strip, by its id, as a PNG to give away: pixels and mark."""
        return self._asked(key)

    def write_page(self, title: str = "Said and drawn") -> Path:
        """Return one self-contained HTML page of what this session has kept, to hand out.

        Raises
        ------
        InputError
            When nothing has been kept.
        """
        from s2i_lib.drawing.gallery import file_stem
        from s2i_lib.drawing.pages import write_page

        kept = []
        for turn in self._talk.turns:
            paths = [path for path in turn.wish.paths if path and path.exists()]
            if paths:
                kept.append(replace(turn.wish.section(), pictures=paths, notes=()))
        if not kept:
            raise InputError(
                "No picture of this session has been kept, so there is nothing to make a page of. "
                'Press "Keep" below a picture first.'
            )
        return write_page(kept, self.drive.creations / f"{file_stem(title)}.html", title=title)

    def look_again(self, subject: str = "") -> None:
        """Know the subjects and runs that the Drive has now, and choose one, or none."""
        self._speech.look_again()
        with self.hold_sync():
            names = [one.name for one in self._speech.subjects]
            self.subjects = names
            self.models = list_models(self.drive, self.settings["model"])
            self.settings = {**self.settings, "subject": subject if subject in names else ""}
        threading.Thread(target=self._load_all, name="studio-load", daemon=True).start()

    # --- the way of a wish -----------------------------------------------------------------------

    def _wish(self, work: Callable[[], None], keep: bool | None = None) -> None:
        def run() -> None:
            self._keeps_this = self.keep if keep is None else keep
            # The page has cleared its lines: the same words must be news again.
            self.complaint, self.offers, self._doubted = "", [], None
            self._is_new_wish = False
            if self.state == "loading":
                self._show("waiting", ("waiting", {}))
            work()

        # One that waits while a model loads is read, too: the next may be a change of it.
        self._worker.submit(run, drops=False)

    def _listen(self) -> Live:
        """Begin to hear, and sketch, what is being spoken."""
        self._seed = None
        self._configure()
        return Live(
            self._speech,
            self._show_live,
            drafts=bool(self.settings["drafts"]),
            foresee=self._talk.foresee,
        )

    def _hear_and_draw(self, recording: Recording, live: Live | None, *, asks: bool = True) -> None:
        self.heard = {}  # so that the same words again are news to the page
        self._seed = live.options.seed if live else None
        self._configure()
        before = dict(self._speech.seconds)
        if live:
            self._show("hearing", ("hearing", {}))
            transcript = live.hear(recording)
        else:
            self._speech.start_wish()
            transcript = self._speech.hear(recording)

        def draw() -> None:
            self._speech.ready = live.sketch if live else None
            self._finish(self._talk.take(transcript, recording, before=before))

        if transcript.doubts and asks:
            self._doubted = draw
            self._show("asking", ("did_you_say", {"text": transcript.text}))
        else:
            draw()

    def _draw_words(self, text: str) -> None:
        self.heard = {"text": text, "language": "", "code": "", "english": "", "doubts": []}
        self._seed = None
        self._configure()
        self._finish(self._talk.say(text))

    def _draw_another(self) -> None:
        """Draw the last wish from another noise, as whoever says "another one" has it."""
        self._seed = None
        self._configure()
        self._finish(self._talk.say("another one"))

    def _draw_prompt(self, text: str) -> None:
        """Draw what the page's box says: the last prompt, as it was or edited.

        What was said, and of whom, goes along, so that `forget` finds the picture.
        """
        from s2i_lib.speech.prompt import Prompt

        last = self._prompt or Prompt("")
        named = [subject for subject in self._speech.subjects if subject.is_in(text)]
        subjects = tuple(dict.fromkeys([*last.subjects, *named]))
        self._seed = None
        self._configure()
        self._finish(self._talk.draw(replace(last, text=text.strip(), subjects=subjects, notes=())))

    def _configure(self) -> None:
        """Tell the pipeline what the controls say; they may change while something is heard."""
        settings, speech = self.settings, self._speech
        if settings["model"] != self._chosen_model:
            self._chosen_model = settings["model"]
            speech.choose(*split_choice(settings["model"]))
        language = settings["language"] or None
        if speech.hearing.language != language:
            speech.hearing = replace(speech.hearing, language=language)
        run = None if settings["model"] == "auto" else speech.run  # "auto" goes by who is named
        speech.chosen = find_chosen(settings, speech.subjects, run)
        speech.negative = settings["negative"]
        speech.folder = self.drive.creations if self._keeps_this else None
        speech.recordings = self.drive.recordings if settings["keep_recordings"] else None
        speech.options = draw_options(settings, self._seed)

    def _on_event(self, event: Event) -> None:
        """Show what goes on, wherever it goes on; a wish that nobody wants any more ends here."""
        is_heard = isinstance(event, Hearing | Heard) or event == Loading("Whisper")
        if not (is_heard and self._worker.is_overtaken):  # the newer one may be a change of it
            self._worker.check()
        if isinstance(event, Loading):
            self._show_loading(event.what)
        elif isinstance(event, Loaded):
            self._show_model(event.model)
        elif isinstance(event, Hearing):
            self._show("hearing", ("hearing", {}))
        elif isinstance(event, Heard):
            self._show_heard(event.transcript)
            self._configure()
        elif isinstance(event, Understood):
            self._show_prompt(event.prompt, event.notes)
            heard = event.prompt.transcript if self._is_new_wish else None
            first = [heard.first_heard] if heard and heard.first_heard else []
            self.offers = [*(near.sentence for near in event.prompt.near_names), *first]
            self._show("drawing", ("drawing", {"model": event.model.base.name}))
        elif isinstance(event, Taken):
            self._is_new_wish = event.sentence == NEW_WISH
            if not self._is_new_wish:
                self.answer = {**self.answer, "taken": event.sentence, "other": ""}
        elif isinstance(event, Drawing):
            self._show_step(event)

    def _finish(self, answer: Answer) -> None:
        """Put a wish's pictures where they are seen; or what was obeyed."""
        turn = answer.turn
        if turn is None or not answer.is_drawn:
            self._answer(answer)
            return
        wish = turn.wish
        self.seconds.append(wish.seconds)
        if not self.settings["keep_recordings"]:
            self._talk.history.amend(turn.number, recording=None)
        with self.hold_sync():
            self._show_answer(answer)
            self._set("seed", wish.pictures[0].record["seed"])
            count, seconds = len(wish.pictures), sum(wish.seconds.values())
            self._show("done", *what_came(count, wish.options.count - count, seconds))
            if wish.failures:
                self.complaint = _explain_unkept(self.pictures, str(wish.failures[0]))

    def _answer(self, answer: Answer) -> None:
        """Show where the conversation is now, after something was pressed or obeyed."""
        with self.hold_sync():
            if self._worker.is_busy and not self._worker.is_mine:  # what is drawn goes on
                self._show_pictures()
                return
            self._show_answer(answer)
            self._show("done", ("obeyed", {"what": answer.taken}))

    # --- pictures --------------------------------------------------------------------------------

    def _set_kept(self, key: str, *, is_kept: bool) -> None:
        shown = self._shown[key]
        if shown.turn is None:
            return  # it is kept, and deleting it is another button
        if is_kept:
            self._talk.keep(shown.turn, shown.place)
        elif shown.path is not None:
            for file in files_beside(shown.path):
                remove(file)
            paths = list(self._talk.turns[shown.turn].wish.paths)
            paths[shown.place] = None
            self._talk.history.amend(shown.turn, paths=tuple(paths))
        with self.hold_sync():
            self._show_pictures()

    def _hold(self, key: str) -> None:
        """Make a figure of a picture, show it, and put its files beside the kept picture."""
        shown, before = self._shown[key], (self.state, self.messages)
        self._show("holding", ("holding", {}))
        failure, files = None, []
        try:
            files = self._figures.make(key, shown, self._worker.check)
        except S2iError as error:
            failure = error
        with self.hold_sync():
            if not isinstance(failure, InputError):  # a full Drive: it can be looked at
                self.held = {"id": key}
            if self._doubted:  # what was asked before waits for its answer still
                self._show(before[0], *map(tuple, before[1]))
            elif failure:
                self._show("error")
            elif files:
                self._show("done", ("held", {"folder": str(files[0].parent)}))
            else:
                self._show("done", ("held_unkept", {}))
            self.complaint = str(failure or "")

    def _show_again(self, key: str) -> None:
        """Go back to a picture of the strip, and go on from there."""
        shown = self._shown[key]
        if shown.turn is None:
            self._shown.take_over(key)
            self._forget_earlier(key)
            assert self._talk.answer is not None
            self._answer(self._talk.answer)
        else:
            self._answer(self._talk.go_to(shown.turn))
            self.pictures = [entry for entry in self.pictures if entry["id"] == key]

    def _forget_earlier(self, key: str) -> None:
        self.earlier = [entry for entry in self.earlier if entry["id"] != key]

    # --- models ----------------------------------------------------------------------------------

    def _load_choice(self, change: dict[str, Any]) -> None:
        """Load what has just been chosen, so that the next wish need not wait."""
        old, new = change["old"], change["new"]
        if any(old[name] != new[name] for name in ("model", "language")):
            threading.Thread(target=self._load_all, name="studio-load", daemon=True).start()

    def _load_all(self) -> None:
        try:
            if threading.current_thread() is self._starter:
                self.earlier = self._shown.read_earlier(self.drive.creations)
            self._configure()
            with self._speech.use_model() as model, self._speech.use_listener():
                self._show_model(model)  # one that was loaded before has not been shown
                # "waiting" where the wish ended while this still waited to load
                with self.hold_sync():
                    waits = self.state == "waiting" and not self._worker.is_busy
                    if self.state == "loading" or waits:
                        self._show("ready", ("ready", {}))
        except Exception as error:
            self._report(error)

    def _show_model(self, model: Model) -> None:
        """Show what the loaded model brings along: its own negative prompt, the class's rules."""
        if self._speech.classroom:
            self.rules = self._speech.classroom.describe(model)
        self._offer_negative(model.base.negative)
        self._configure()

    def _show_loading(self, what: str) -> None:
        is_start = threading.current_thread() is self._starter
        if what == "Whisper" and (language := self._speech.hearing.language):
            what += f" for {self.languages.get(language, language)}"
        with self.hold_sync():  # or a wish that ends in between would have its last words lost
            if is_start and self.state not in ("loading", "ready"):
                return  # a wish has been quicker, and its own words matter more
            if self._worker.is_busy:  # a wish waits for it and can be stopped, whoever asked first
                self._show("waiting", ("loading_wish", {"what": what}))
            else:
                self._show("loading", ("loading", {"what": what}))

    # --- what is said ----------------------------------------------------------------------------

    def _report(self, error: Exception) -> None:
        if isinstance(error, Cancelled):
            if not self._worker.is_overtaken:  # somebody pressed Stop
                self._talk.unfinished = None
            with self.hold_sync():
                self._show_what_is_left()
                self._show("stopped", ("stopped", {}))
            return
        if not isinstance(error, S2iError):
            log.error("The studio has failed", exc_info=error)
        words = str(error) if isinstance(error, S2iError) else f"{type(error).__name__}: {error}"
        with self.hold_sync():
            self._show_what_is_left()
            self.state, self.complaint = "error", words
            self._say()


def _explain_unkept(entries: list[dict[str, Any]], failure: str) -> str:
    numbers = [str(i) for i, entry in enumerate(entries, 1) if not entry["is_kept"]]
    them, are = ("it", "is") if len(numbers) == 1 else ("them", "are")
    return (
        f"Not kept on the Drive {are} picture{'s'[: len(numbers) > 1]} {', '.join(numbers)}: "
        f"{failure} "
        f'Then press "Keep" below {them}; without it the notebook forgets {them} when it ends.'
    )

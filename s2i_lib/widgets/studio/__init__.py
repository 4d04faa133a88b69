"""Press, speak, see: one widget from the microphone to the picture."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.registry import REGISTRY, split_choice
from s2i_lib.photos.reading import encode_image
from s2i_lib.pipeline import (
    Cancelled,
    Drawing,
    Event,
    Heard,
    Hearing,
    Loaded,
    Loading,
    SpeechToImage,
    Understood,
    Wish,
)
from s2i_lib.storage.files import make_folder
from s2i_lib.storage.layout import Drive, folder_name
from s2i_lib.widgets import join_modules, join_styles
from s2i_lib.widgets.microphone import pcm_to_float
from s2i_lib.widgets.studio.worker import Worker
from s2i_lib.widgets.transport import ByteWidget

if TYPE_CHECKING:
    import numpy as np

    from s2i_lib.drawing.gallery import Section
    from s2i_lib.drawing.records import Picture
    from s2i_lib.models.loading import Model
    from s2i_lib.photos.subject import Subject
    from s2i_lib.pipeline import Recording
    from s2i_lib.speech.prompt import Prompt
    from s2i_lib.speech.transcribe import Listener
    from s2i_lib.speech.transcript import Transcript

log = logging.getLogger(__name__)

MOST_PICTURES = 8
PREVIEW_EVERY_S = 0.2  # five rough pictures a second are enough to see it appear
STRIP_LENGTH = 24  # pictures that stay in the strip; older ones stay on the Drive

# A choice of Whisper's hundred; what is heard in another is named by its code.
LANGUAGES = {
    "en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian",
    "pt": "Portuguese", "nl": "Dutch", "pl": "Polish", "cs": "Czech", "sv": "Swedish",
    "da": "Danish", "fi": "Finnish", "el": "Greek", "tr": "Turkish", "ru": "Russian",
    "uk": "Ukrainian", "ar": "Arabic", "he": "Hebrew", "hi": "Hindi", "id": "Indonesian",
    "vi": "Vietnamese", "th": "Thai", "zh": "Chinese", "ja": "Japanese", "ko": "Korean",
}  # fmt: skip

DEFAULTS: dict[str, Any] = {
    "subject": "",  # the name of the one whose identifier the model knows; "" for none
    "model": "auto",
    "steps": 20,
    "guidance": None,  # None: the model's own
    "count": 1,
    "seed": 0,
    "is_seed_locked": False,
    "negative": None,  # None: the model's own, which the field shows; "": nothing
    "language": "",  # "": found out
    "stop_on_silence": False,
    "keep_recordings": False,
    "read_aloud": False,
}


@dataclass
class Shown:
    """A picture in the strip."""

    picture: Picture
    path: Path | None
    """Where it is kept, if it is."""


class Studio(ByteWidget):
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
        What the controls begin with; see ``DEFAULTS``.
    classroom : bool
        Whether words of a list are refused and pictures looked at by a safety checker; see
        ``s2i_lib.drawing.safety``. It is no control of the widget, lest the class switch it off.
    listener, model
        Loaded ones, to share what a notebook has loaded before.
    """

    _esm = join_modules("studio/studio.js")
    _css = join_styles("microphone/microphone.css", "studio/studio.css")

    state = traitlets.Unicode(
        "loading", help="loading, ready, waiting, hearing, drawing, done, stopped, error"
    ).tag(sync=True)
    status = traitlets.Unicode("", help="what goes on, in words").tag(sync=True)
    complaint = traitlets.Unicode("", help="what went wrong, in words").tag(sync=True)
    subjects: traitlets.List[Any] = traitlets.List(help="names that can be spoken").tag(sync=True)
    models: traitlets.List[Any] = traitlets.List(help="models and runs to choose from").tag(
        sync=True
    )
    languages = traitlets.Dict(help="code -> name").tag(sync=True)
    settings = traitlets.Dict(help="what the controls say").tag(sync=True)
    heard = traitlets.Dict(help="text, language, code, english, doubts").tag(sync=True)
    prompt = traitlets.Dict(help="text, negative, marks (start, end), notes").tag(sync=True)
    pictures: traitlets.List[Any] = traitlets.List(
        help="the last wish's: id, alt, seed, is_kept"
    ).tag(sync=True)
    strip: traitlets.List[Any] = traitlets.List(help="all of this session, the newest first").tag(
        sync=True
    )
    rules = traitlets.Unicode("", help="what classroom mode does, in words").tag(sync=True)
    max_s = traitlets.Float(60.0, help="longest recording, in seconds").tag(sync=True)

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

        if unknown := set(settings or {}) - set(DEFAULTS):
            raise InputError(
                f"The studio has no setting {sorted(unknown)[0]!r}. It has {', '.join(DEFAULTS)}."
            )
        self.drive, self.keep = drive, keep
        settings = {**DEFAULTS, **(settings or {})}
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
        self._sections: list[tuple[Section, list[Shown]]] = []
        self._prompt: Prompt | None = None  # the one in the page's box, as it was before any edit
        self._shown: dict[str, Shown] = {}
        self._ids = itertools.count(1)
        self._own_negative: str | None = None  # of the model whose words the field shows
        self._previewed_at = 0.0
        models = ["auto", *REGISTRY, *_list_runs(drive), settings["model"]]
        super().__init__(
            settings=settings,
            subjects=[subject.name for subject in self._speech.subjects],
            models=list(dict.fromkeys(models)),
            languages=LANGUAGES,
        )
        self.observe(self._load_choice, "settings")
        self._starter = threading.Thread(target=self._load_all, name="studio-load", daemon=True)
        self._starter.start()

    # --- what the browser asks for ---------------------------------------------------------------

    def _received(self, data: bytes, meta: dict[str, Any]) -> str:
        """A recording as PCM, or a file that was dropped."""
        source: np.ndarray | bytes = data
        if meta.get("kind") == "speech":
            source = pcm_to_float(data)
        self.problem = self.problem_code = ""
        self.hear(source)
        return "queued"

    def _asked(self, name: str) -> bytes:
        shown = self._shown.get(name)
        if shown is None:
            raise InputError(f"There is no picture {name!r} any more.")
        return encode_image(shown.picture.image, "PNG")

    def _told(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "say":
            self.say(str(message["text"]))
        elif kind == "draw":
            prompt = str(message["text"])
            self._wish(lambda: self._draw_prompt(prompt))
        elif kind == "set":
            self._set(str(message["name"]), message["value"])
        elif kind == "show":
            self._show_again(str(message["id"]))
        elif kind == "cancel_wish":
            is_waiting = self.state == "waiting"
            self.status = f"Stopping {'when that is loaded' if is_waiting else 'after this step'}."
            self._worker.cancel()
        elif kind in ("keep", "delete"):
            self.complaint = ""
            try:
                if kind == "delete":
                    self._delete(str(message["id"]))
                else:
                    self._set_kept(str(message["id"]), is_kept=bool(message["is_kept"]))
            except (S2iError, OSError) as error:
                self.complaint = f"That did not work: {error}"

    def say(self, text: str) -> None:
        """Wish for a picture in words, as if they had been spoken."""
        self._wish(lambda: self._draw_words(text))

    def hear(self, source: Recording) -> None:
        """Wish for a picture with a recording."""
        self._wish(lambda: self._hear_and_draw(source))

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the wishes so far; never do so in a cell that the browser has to answer to."""
        return self._worker.wait(timeout_s)

    def png(self, key: str) -> bytes:
        """Return the PNG of a picture in the strip, by its id."""
        return self._asked(key)

    def write_page(self, title: str = "Said and drawn") -> Path:
        """Return one self-contained HTML page of what this session has kept, to hand out.

        Raises
        ------
        InputError
            When nothing has been kept.
        """
        from s2i_lib.drawing.gallery import file_stem, write_page

        kept = []
        for section, shown in self._sections:
            if paths := [each.path for each in shown if each.path and each.path.exists()]:
                kept.append(replace(section, pictures=paths))
        if not kept:
            raise InputError(
                "No picture of this session has been kept, so there is nothing to make a page of. "
                'Press "Keep" below a picture first.'
            )
        return write_page(kept, self.drive.creations / f"{file_stem(title)}.html", title=title)

    # --- the way of a wish -----------------------------------------------------------------------

    def _wish(self, work: Callable[[], None]) -> None:
        def run() -> None:
            self.complaint = ""  # the page has cleared its line: the same words must be news again
            if self.state == "loading":
                self._show("waiting", "Still loading; your wish comes next.")
            work()

        self._worker.submit(run)

    def _hear_and_draw(self, recording: Recording) -> None:
        self.heard = {}  # so that the same words again are news to the page
        self._configure()
        self._finish(self._speech(recording))

    def _draw_words(self, text: str) -> None:
        self.heard = {"text": text, "language": "", "code": "", "english": "", "doubts": []}
        self._configure()
        self._finish(self._speech.say(text))

    def _draw_prompt(self, text: str) -> None:
        """Draw what the page's box says: the last prompt, as it was or edited.

        What was said, and of whom, goes along, so that `forget` finds the picture.
        """
        from s2i_lib.speech.prompt import Prompt

        last = self._prompt or Prompt("")
        named = [subject for subject in self._speech.subjects if subject.phrase in text]
        subjects = tuple(dict.fromkeys([*last.subjects, *named]))
        self._configure()
        self._finish(
            self._speech.draw(replace(last, text=text.strip(), subjects=subjects, notes=()))
        )

    def _configure(self) -> None:
        """Tell the pipeline what the controls say; they may change while something is heard."""
        settings, speech = self.settings, self._speech
        if settings["model"] != self._chosen_model:
            self._chosen_model = settings["model"]
            speech.choose(*split_choice(settings["model"]))
        language = settings["language"] or None
        if speech.hearing.language != language:
            speech.hearing = replace(speech.hearing, language=language)
        speech.chosen = self._chosen(speech.run)
        speech.negative = settings["negative"]
        speech.folder = self.drive.creations if self.keep else None
        speech.recordings = self.drive.recordings if settings["keep_recordings"] else None
        speech.options = DrawOptions(
            steps=settings["steps"],
            guidance_scale=settings["guidance"],
            count=min(settings["count"], MOST_PICTURES),
            seed=settings["seed"] if settings["is_seed_locked"] else None,
        )

    def _on_event(self, event: Event) -> None:
        """Show what goes on, wherever it goes on; a wish that nobody wants any more ends here."""
        self._worker.check()
        if isinstance(event, Loading):
            self._show_loading(event.what)
        elif isinstance(event, Loaded):
            self._show_model(event.model)
        elif isinstance(event, Hearing):
            self._show("hearing", "Hearing what you said.")
        elif isinstance(event, Heard):
            self._show_heard(event.transcript)
            self._configure()
        elif isinstance(event, Understood):
            self._show_prompt(event.prompt, event.notes)
            self._show("drawing", f"Drawing with {event.model.base.name}.")
        elif isinstance(event, Drawing):
            self._show_step(event)

    def _finish(self, wish: Wish) -> None:
        """Put a wish's pictures where they are seen."""
        entries = [self._enter(*one) for one in zip(wish.pictures, wish.paths, strict=True)]
        self.seconds.append(wish.seconds)
        if not self.settings["keep_recordings"]:
            wish = replace(wish, recording=None)
        section = replace(wish.section(), notes=())
        self._sections.append((section, [self._shown[entry["id"]] for entry in entries]))
        with self.hold_sync():
            self._show_prompt(wish.prompt, wish.notes)  # an older one may be shown meanwhile
            self.pictures = entries
            self.strip = [*entries, *self.strip][:STRIP_LENGTH]
            self._set("seed", wish.pictures[0].record["seed"])
            count = "the picture is" if len(entries) == 1 else f"{len(entries)} pictures are"
            done = f"Done: {count} here after {sum(wish.seconds.values()):.1f} seconds."
            if held_back := wish.options.count - len(entries):
                done += f" The safety checker held {held_back} more back."
            self._show("done", done)
            if wish.failures:
                self.complaint = _explain_unkept(entries, str(wish.failures[0]))
        self._forget_old()

    def _show_heard(self, transcript: Transcript) -> None:
        self.heard = {
            "text": transcript.text,
            "language": self.languages.get(transcript.language, transcript.language),
            "code": transcript.language,
            "english": transcript.english if transcript.language != "en" else "",
            "doubts": list(transcript.doubts),
        }

    def _show_step(self, event: Drawing) -> None:
        """Send a rough picture now and then, and the last one always."""
        step, now = event.step, time.monotonic()
        if now - self._previewed_at < PREVIEW_EVERY_S and step.number < step.total:
            return
        self._previewed_at = now
        self.send(
            {"type": "step", "number": step.number, "total": step.total},
            buffers=[encode_image(event.preview(), "JPEG", quality=80)],
        )

    def _set(self, name: str, value: Any) -> None:
        """Change what one control says, whatever the others have come to say meanwhile."""
        if name in DEFAULTS:
            with self.hold_sync():
                self.settings = {**self.settings, name: value}

    # --- pictures --------------------------------------------------------------------------------

    def _enter(self, picture: Picture, path: Path | None) -> dict[str, Any]:
        """The entry of a new picture, kept or not: it is worth seeing all the same."""
        key = f"picture-{next(self._ids)}"
        self._shown[key] = Shown(picture, path)
        return {
            "id": key,
            "alt": picture.record["prompt"],
            "seed": picture.record["seed"],
            "is_kept": path is not None,
        }

    def _save(self, picture: Picture) -> Path:
        from s2i_lib.drawing.gallery import save

        return save(picture, make_folder(self.drive.creations), root=self.drive.root)

    def _set_kept(self, key: str, *, is_kept: bool) -> None:
        shown = self._shown[key]
        if is_kept and shown.path is None:
            shown.path = self._save(shown.picture)
        elif not is_kept and shown.path is not None:
            _remove(shown.path)
            shown.path = None
        self._update(key, is_kept=shown.path is not None)

    def _show_again(self, key: str) -> None:
        """Put a picture of the strip, and its prompt, where the last wish's are."""
        from s2i_lib.drawing.records import prompt_of

        with self.hold_sync():
            self._show_prompt(prompt_of(self._shown[key].picture.record))
            self.pictures = [entry for entry in self.strip if entry["id"] == key]

    def _show_prompt(self, prompt: Prompt, notes: Sequence[str] = ()) -> None:
        self._prompt = prompt
        self.prompt = {
            "text": prompt.text,
            "negative": prompt.negative,
            "marks": _marks(prompt.text, self._speech.subjects),
            "notes": list(notes),
        }

    def _delete(self, key: str) -> None:
        shown = self._shown[key]
        if shown.path is not None:
            _remove(shown.path)
            shown.path = None
        del self._shown[key]
        with self.hold_sync():
            self.pictures = [entry for entry in self.pictures if entry["id"] != key]
            self.strip = [entry for entry in self.strip if entry["id"] != key]

    def _update(self, key: str, **changes: Any) -> None:
        def changed(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [{**e, **changes} if e["id"] == key else e for e in entries]

        with self.hold_sync():
            self.pictures, self.strip = changed(self.pictures), changed(self.strip)

    def _forget_old(self) -> None:
        shown = {entry["id"] for entry in [*self.strip, *self.pictures]}
        for key in set(self._shown) - shown:
            del self._shown[key]

    # --- models ----------------------------------------------------------------------------------

    def _load_choice(self, change: dict[str, Any]) -> None:
        """Load what has just been chosen, so that the next wish need not wait."""
        old, new = change["old"], change["new"]
        if any(old[name] != new[name] for name in ("model", "language")):
            threading.Thread(target=self._load_all, name="studio-load", daemon=True).start()

    def _load_all(self) -> None:
        try:
            self._configure()
            with self._speech.use_model() as model, self._speech.use_listener():
                self._show_model(model)  # one that was loaded before has not been shown
                # "waiting" where the wish ended while this still waited to load
                if self.state == "loading" or (
                    self.state == "waiting" and not self._worker.is_busy
                ):
                    self._show("ready", "Ready. Press Speak, or hold it while you speak.")
        except Exception as error:
            self._report(error)

    def _show_model(self, model: Model) -> None:
        """Show what the loaded model brings along: its own negative prompt, the class's rules."""
        if self._speech.classroom:
            self.rules = self._speech.classroom.describe(model)
        self._offer_negative(model.base.negative)
        self._configure()

    def _offer_negative(self, own: str) -> None:
        """Put a model's own negative prompt into the field, unless the user has changed it."""
        said = self.settings["negative"]
        if said in (None, self._own_negative) and said != own:
            self._set("negative", own)
        if said in (None, self._own_negative):
            self._own_negative = own

    def _show_loading(self, what: str) -> None:
        is_start = threading.current_thread() is self._starter
        if is_start and self.state not in ("loading", "ready"):
            return  # a wish has been quicker, and its own words matter more
        if what == "Whisper" and (language := self._speech.hearing.language):
            what += f" for {self.languages.get(language, language)}"
        if self._worker.is_busy:  # a wish waits for it and can be stopped, whoever asked first
            self._show("waiting", f"Loading {what}.")
        else:
            self._show("loading", f"Loading {what}. You can speak already.")

    def _chosen(self, run: str | None) -> Subject | None:
        """The subject that was chosen, else the one that the run was trained on."""
        name = self.settings["subject"]
        folder = folder_name(name) if name else (run or "").partition("/")[0]
        return next(
            (each for each in self._speech.subjects if folder_name(each.name) == folder), None
        )

    # --- what is said ----------------------------------------------------------------------------

    def _show(self, state: str, status: str) -> None:
        with self.hold_sync():
            self.state, self.status = state, status
            if state != "error":
                self.complaint = ""

    def _report(self, error: Exception) -> None:
        if isinstance(error, Cancelled):
            self._show("stopped", "Stopped. Nothing was kept of it.")
            return
        if not isinstance(error, S2iError):
            log.error("The studio has failed", exc_info=error)
        words = str(error) if isinstance(error, S2iError) else f"{type(error).__name__}: {error}"
        with self.hold_sync():
            self.state, self.status, self.complaint = "error", "", words


def _explain_unkept(entries: list[dict[str, Any]], failure: str) -> str:
    seeds = [str(entry["seed"]) for entry in entries if not entry["is_kept"]]
    them, are = ("it", "is") if len(seeds) == 1 else ("them", "are")
    return (
        f"Not kept on the Drive {are} seed{'s'[: len(seeds) > 1]} {', '.join(seeds)}: {failure} "
        f'Then press "Keep" below {them}; without it the notebook forgets {them} when it ends.'
    )


def _marks(text: str, subjects: list[Subject]) -> list[list[int]]:
    """Where subjects are named in a prompt: [start, end] of each."""
    found = []
    for subject in subjects:
        start = text.find(subject.phrase)
        if start >= 0:
            found.append([start, start + len(subject.phrase)])
    return sorted(found)


def _remove(path: Path) -> None:
    """Delete a kept picture and its record."""
    for file in (path, path.with_suffix(".json")):
        file.unlink(missing_ok=True)


def _list_runs(drive: Drive) -> list[str]:
    """All finished runs on the Drive as SUBJECT/RUN, the newest first."""
    from s2i_lib.storage.run_card import finished_runs

    newest = sorted(finished_runs(drive), key=lambda path: path.stat().st_mtime, reverse=True)
    return [f"{path.parent.name}/{path.name}" for path in newest]

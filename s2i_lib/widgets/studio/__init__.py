"""Press, speak, see: one widget from the microphone to the picture."""

from __future__ import annotations

import functools
import io
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import traitlets

from s2i_lib.errors import InputError, S2iError
from s2i_lib.storage.files import make_folder
from s2i_lib.storage.layout import Drive, folder_name
from s2i_lib.widgets import join_modules, join_styles
from s2i_lib.widgets.microphone import RATE_HZ, pcm_to_float
from s2i_lib.widgets.studio.worker import Cancelled, Worker
from s2i_lib.widgets.transport import ByteWidget

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from s2i_lib.drawing.gallery import Wish
    from s2i_lib.drawing.records import Picture
    from s2i_lib.drawing.safety import Classroom
    from s2i_lib.drawing.sampling import Step
    from s2i_lib.models.loading import Model
    from s2i_lib.photos.subject import Subject
    from s2i_lib.speech.prompt import Prompt
    from s2i_lib.speech.transcribe import Listener
    from s2i_lib.speech.transcript import Transcript

log = logging.getLogger(__name__)

Asker = Literal["start", "choice", "wish"]  # of models to be loaded

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
        from s2i_lib.models.registry import REGISTRY
        from s2i_lib.photos.subject import list_subjects

        if unknown := set(settings or {}) - set(DEFAULTS):
            raise InputError(
                f"The studio has no setting {sorted(unknown)[0]!r}. It has {', '.join(DEFAULTS)}."
            )
        self.drive, self.keep = drive, keep
        self.classroom: Classroom | None = Classroom(drive) if classroom else None
        self.seconds: list[dict[str, float]] = []
        """Of each wish: the seconds of its stages."""
        self._wishes: list[tuple[Wish, list[Shown]]] = []
        self._clip: np.ndarray | None = None  # of the running wish, where it may be kept
        self._prompt: Prompt | None = None  # the one in the page's box, as it was before any edit
        self._shown: dict[str, Shown] = {}
        self._ids = itertools.count(1)
        self._listener = listener
        self._listening_to = None if listener is None else ""
        self._model = model
        self._loaded_name: str | None = None
        self._own_negative: str | None = None  # of the model whose words the field shows
        self._loading = threading.Lock()
        self._in_use = threading.Lock()  # a model that draws is not exchanged
        self._worker = Worker(self._report)
        self._subjects = list_subjects(drive)
        settings = {**DEFAULTS, **(settings or {})}
        models = ["auto", *REGISTRY, *_list_runs(drive), settings["model"]]
        super().__init__(
            settings=settings,
            subjects=[subject.name for subject in self._subjects],
            models=list(dict.fromkeys(models)),
            languages=LANGUAGES,
        )
        if model is not None:
            self._loaded_name = self.settings["model"]
        self.observe(self._load_choice, "settings")
        threading.Thread(target=self._load_all, name="studio-load", daemon=True).start()

    # --- what the browser asks for ---------------------------------------------------------------

    def _received(self, data: bytes, meta: dict[str, Any]) -> str:
        """A recording as PCM, or a file that was dropped."""
        source: np.ndarray | bytes = data
        if meta.get("kind") == "speech":
            source = pcm_to_float(data)
        self.problem = self.problem_code = ""
        self._wish(lambda: self._hear_and_draw(source))
        return "queued"

    def _asked(self, name: str) -> bytes:
        shown = self._shown.get(name)
        if shown is None:
            raise InputError(f"There is no picture {name!r} any more.")
        stream = io.BytesIO()
        shown.picture.image.save(stream, "PNG")
        return stream.getvalue()

    def _told(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "say":
            text = str(message["text"])
            self._wish(lambda: self._draw_words(text))
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

    def hear(self, source: str | Path | bytes | np.ndarray) -> None:
        """Wish for a picture with a recording."""
        self._wish(lambda: self._hear_and_draw(source))

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the wishes so far; never do so in a cell that the browser has to answer to."""
        return self._worker.wait(timeout_s)

    def png(self, key: str) -> bytes:
        """The PNG of a picture in the strip, by its id."""
        return self._asked(key)

    def write_page(self, title: str = "Said and drawn") -> Path:
        """One self-contained HTML page of what this session has kept, to hand out.

        Raises
        ------
        InputError
            When nothing has been kept.
        """
        from s2i_lib.drawing.gallery import file_stem, write_page

        kept = []
        for wish, shown in self._wishes:
            if paths := [each.path for each in shown if each.path and each.path.exists()]:
                kept.append(replace(wish, pictures=paths))
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

    def _hear_and_draw(self, source: str | Path | bytes | np.ndarray) -> None:
        times: dict[str, float] = {}
        self._clip = None
        self.heard = {}  # so that the same words again are news to the page
        with _stage(times, "load Whisper"):
            listener = self._get_listener()
        self._worker.check()
        self._show("hearing", "Hearing what you said.")
        with _stage(times, "hear"), self._in_use:
            rate_hz = None if isinstance(source, (str, Path, bytes)) else RATE_HZ
            transcript = listener.hear(source, rate_hz)
        notes = []
        if self.settings["keep_recordings"]:
            self._clip, failure = self._keep_recording(source, transcript)
            notes += [f"Your recording is not kept: {failure}"] if failure else []
        self.heard = {
            "text": transcript.text,
            "language": self.languages.get(transcript.language, transcript.language),
            "code": transcript.language,
            "english": transcript.english if transcript.language != "en" else "",
            "doubts": list(transcript.doubts),
        }
        self._draw_words(transcript, times, notes)

    def _draw_words(
        self,
        heard: str | Transcript,
        times: dict[str, float] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        from s2i_lib.speech.prompt import make_prompt

        times = {} if times is None else times
        if isinstance(heard, str):
            self._clip = None
            self.heard = {"text": heard, "language": "", "code": "", "english": "", "doubts": []}
        with _stage(times, "load model"):
            model = self._get_model()
        self._worker.check()
        with _stage(times, "prompt"):
            prompt = make_prompt(
                heard,
                self._subjects,
                chosen=self._chosen(model.run),
                count_tokens=model.count_tokens,
                token_limit=model.base.token_limit,
            )
        self._draw(model, prompt, times, notes)

    def _draw_prompt(self, text: str) -> None:
        """Draw what the page's box says: the last prompt, as it was or edited.

        What was said, and of whom, goes along, so that `forget` finds the picture.
        """
        from s2i_lib.speech.prompt import Prompt

        times: dict[str, float] = {}
        last = self._prompt or Prompt("")
        named = [subject for subject in self._subjects if subject.phrase in text]
        subjects = tuple(dict.fromkeys([*last.subjects, *named]))
        with _stage(times, "load model"):
            model = self._get_model()
        self._worker.check()
        self._draw(model, replace(last, text=text.strip(), subjects=subjects, notes=()), times)

    def _draw(
        self, model: Model, prompt: Prompt, times: dict[str, float], notes: Sequence[str] = ()
    ) -> None:
        from s2i_lib.drawing.advice import explain_unknown_words, explain_untaught
        from s2i_lib.drawing.draw import draw
        from s2i_lib.drawing.gallery import Wish
        from s2i_lib.drawing.sampling import DrawOptions
        from s2i_lib.speech.prompt import find_negatives, with_negative

        prompt = replace(prompt, negative=find_negatives(prompt.text))
        prompt = with_negative(prompt, self.settings["negative"], model.base.negative)
        if self.classroom:
            self.classroom.check_prompt(prompt)  # before it is shown
        unknown = explain_unknown_words(model.base, prompt.text, model.taught)
        untaught = explain_untaught(model, prompt, self.drive)
        notes = [*notes, *prompt.notes, *filter(None, [untaught, unknown])]
        self._show_prompt(prompt, notes)
        settings = self.settings
        options = DrawOptions(
            steps=settings["steps"],
            guidance_scale=settings["guidance"],
            count=min(settings["count"], MOST_PICTURES),
            seed=settings["seed"] if settings["is_seed_locked"] else None,
        )
        self._show("drawing", f"Drawing with {model.base.name}.")
        with _stage(times, "draw"), self._in_use:
            pictures = draw(
                model,
                prompt,
                options,
                on_step=self._make_step_callback(model),
                classroom=self.classroom,
            )
        with _stage(times, "save"):
            entries, failures = [], []
            for picture in pictures:
                entry, failure = self._enter(picture)
                entries.append(entry)
                failures += [failure] if failure else []
        self.seconds.append(times)
        transcript = prompt.transcript
        wish = Wish(prompt.text, (), transcript.text if transcript else None, self._clip)
        self._wishes.append((wish, [self._shown[entry["id"]] for entry in entries]))
        with self.hold_sync():
            self._show_prompt(prompt, notes)  # an older picture may have been shown meanwhile
            self.pictures = entries
            self.strip = [*entries, *self.strip][:STRIP_LENGTH]
            self._set("seed", pictures[0].record["seed"])
            count = "the picture is" if len(entries) == 1 else f"{len(entries)} pictures are"
            done = f"Done: {count} here after {sum(times.values()):.1f} seconds."
            if held_back := options.count - len(entries):
                done += f" The safety checker held {held_back} more back."
            self._show("done", done)
            if failures:
                self.complaint = _explain_unkept(entries, failures[0])
        self._forget_old()

    def _make_step_callback(self, model: Model) -> Callable[[Step], None]:
        last = 0.0

        def on_step(step: Step) -> None:
            nonlocal last
            self._worker.check()
            now = time.monotonic()
            if now - last < PREVIEW_EVERY_S and step.number < step.total:
                return
            last = now
            self.send(
                {"type": "step", "number": step.number, "total": step.total},
                buffers=[_rough_picture(model, step)],
            )

        return on_step

    def _set(self, name: str, value: Any) -> None:
        """Change what one control says, whatever the others have come to say meanwhile."""
        if name in DEFAULTS:
            with self.hold_sync():
                self.settings = {**self.settings, name: value}

    # --- pictures --------------------------------------------------------------------------------

    def _enter(self, picture: Picture) -> tuple[dict[str, Any], str | None]:
        """The entry of a new picture; beside it why it could not be kept, if it could not."""
        key = f"picture-{next(self._ids)}"
        path = failure = None
        if self.keep:
            try:
                path = self._save(picture)
            except S2iError as error:  # it is worth seeing all the same
                failure = str(error)
        self._shown[key] = Shown(picture, path)
        entry = {
            "id": key,
            "alt": picture.record["prompt"],
            "seed": picture.record["seed"],
            "is_kept": path is not None,
        }
        return entry, failure

    def _save(self, picture: Picture) -> Path:
        from s2i_lib.drawing.gallery import save

        return save(picture, make_folder(self.drive.creations))

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
            self._show_prompt(prompt_of(self._shown[key].picture.record), [])
            self.pictures = [entry for entry in self.strip if entry["id"] == key]

    def _show_prompt(self, prompt: Prompt, notes: list[str]) -> None:
        self._prompt = prompt
        self.prompt = {
            "text": prompt.text,
            "negative": prompt.negative,
            "marks": _marks(prompt.text, self._subjects),
            "notes": notes,
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
            load = functools.partial(self._load_all, "choice")
            threading.Thread(target=load, name="studio-load", daemon=True).start()

    def _load_all(self, asked_by: Asker = "start") -> None:
        try:
            self._get_model(asked_by)
            self._get_listener(asked_by)
            with self._loading:
                # "waiting" where the wish ended while this still waited to load
                if self.state == "loading" or (
                    self.state == "waiting" and not self._worker.is_busy
                ):
                    self._show("ready", "Ready. Press Speak, or hold it while you speak.")
        except Exception as error:
            self._report(error)

    def _get_model(self, asked_by: Asker = "wish") -> Model:
        """The chosen model, loaded."""
        from s2i_lib.models.loading import load
        from s2i_lib.models.registry import split_choice

        with self._loading:
            name = self.settings["model"]
            if self._model is None or self._loaded_name != name:
                with self._in_use:
                    self._show_loading(f"the model {name}", asked_by)
                    self._model = None  # frees the old one before the new one needs room
                    base, run = split_choice(name)
                    self._model = load(base, drive=self.drive, run=run)
                    self._loaded_name = name
            if self.classroom:
                self.rules = self.classroom.describe(self._model)
            self._offer_negative(self._model.base.negative)
            return self._model

    def _offer_negative(self, own: str) -> None:
        """Put a model's own negative prompt into the field, unless the user has changed it."""
        said = self.settings["negative"]
        if said in (None, self._own_negative) and said != own:
            self._set("negative", own)
        if said in (None, self._own_negative):
            self._own_negative = own

    def _get_listener(self, asked_by: Asker = "wish") -> Listener:
        """A listener for the chosen language, loaded."""
        from s2i_lib.speech.transcribe import HearOptions, Listener

        with self._loading:
            language = self.settings["language"]
            if self._listener is None or self._listening_to != language:
                with self._in_use:
                    spoken = f" for {self.languages.get(language, language)}" if language else ""
                    self._show_loading(f"Whisper{spoken}", asked_by)
                    names = tuple(subject.name for subject in self._subjects)
                    options = HearOptions(language=language or None, names=names)
                    self._listener = Listener(options, self.drive).load()
                    self._listening_to = language
            return self._listener.load()

    def _show_loading(self, what: str, asked_by: Asker) -> None:
        if asked_by == "start" and self.state not in ("loading", "ready"):
            return  # a wish has been quicker, and its own words matter more
        if self._worker.is_busy:  # a wish waits for it and can be stopped, whoever asked first
            self._show("waiting", f"Loading {what}.")
        else:
            self._show("loading", f"Loading {what}. You can speak already.")

    def _chosen(self, run: str | None) -> Subject | None:
        """The subject that was chosen, else the one that the run was trained on."""
        name = self.settings["subject"]
        folder = folder_name(name) if name else (run or "").partition("/")[0]
        return next((each for each in self._subjects if folder_name(each.name) == folder), None)

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

    def _keep_recording(
        self, source: str | Path | bytes | np.ndarray, transcript: Transcript
    ) -> tuple[np.ndarray, str | None]:
        """The recording's samples; beside them why it could not be kept, if it could not."""
        from s2i_lib.drawing.gallery import save_recording
        from s2i_lib.speech.audio import load_audio
        from s2i_lib.speech.name_matching import find_names

        samples = load_audio(source) if isinstance(source, (str, Path, bytes)) else source
        named = {m.subject.name: m.subject for m in find_names(transcript.english, self._subjects)}
        try:
            folder = make_folder(self.drive.recordings)
            save_recording(samples, transcript, list(named.values()), folder)
        except S2iError as error:  # the picture can be drawn all the same
            return samples, str(error)
        return samples, None


@contextmanager
def _stage(times: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    times[name] = times.get(name, 0.0) + time.perf_counter() - began


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


def _rough_picture(model: Model, step: Step) -> bytes:
    """The first picture of a batch as far as it has come, as a small JPEG."""
    from s2i_lib.drawing.sampling import preview

    image: Image = preview(model, step.denoised[:1])[0]
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def _remove(path: Path) -> None:
    """Delete a kept picture and its record."""
    for file in (path, path.with_suffix(".json")):
        file.unlink(missing_ok=True)


def _list_runs(drive: Drive) -> list[str]:
    """All finished runs on the Drive as SUBJECT/RUN, the newest first."""
    from s2i_lib.storage.run_card import WEIGHTS, read_card

    done = [path.parent for path in drive.runs.glob(f"*/*/{WEIGHTS}") if read_card(path.parent)]
    newest = sorted(done, key=lambda path: path.stat().st_mtime, reverse=True)
    return [f"{path.parent.name}/{path.name}" for path in newest]

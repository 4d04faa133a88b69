"""Speech or a typed sentence becomes pictures; or only the prompt, to look at."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm.auto import tqdm

from s2i_lib.cli.app import Hearing, ModelOption, Order, find_subject, for_each, known_subjects
from s2i_lib.cli.output import complain, emit, notes
from s2i_lib.drawing.draw import EMPTY_PROMPT
from s2i_lib.drawing.gallery import Wish, save, write_page
from s2i_lib.errors import InputError, S2iError
from s2i_lib.storage.files import make_folder
from s2i_lib.storage.layout import Drive

if TYPE_CHECKING:
    from s2i_lib.models.loading import Model
    from s2i_lib.speech.transcribe import HearOptions, Transcript

Recordings = Annotated[list[str], typer.Argument(help="Recordings: wav, mp3, m4a, webm ...")]


def speak(
    audio: Recordings,
    hearing: Hearing,
    order: Order,
    drive: Drive,
) -> None:
    """Turn spoken sentences into pictures, and a page of the clips, words and pictures."""
    from s2i_lib.speech.transcribe import Listener

    studio = _Studio(order, drive)
    options = hearing.options(studio.subjects)
    _check(audio, options)
    with studio.processes.main_first():  # it downloads, the others find what it has kept
        with studio.stage("load Whisper"):
            listener = Listener(options, drive).load()
        if studio.processes.is_alone:
            studio.start_loading()  # beside hearing the first clip
        else:
            studio.load_model()

    def handle(clip: str) -> None:
        with studio.stage("hear"):
            transcript = listener.hear(clip)
        studio.load_model()
        studio.fulfil(transcript, clip=clip)

    try:
        for_each(audio, handle, processes=studio.processes)
    finally:
        studio.finish()


def draw(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")],
    order: Order,
    drive: Drive,
) -> None:
    """Turn a typed sentence into pictures: the same as speak, without speech."""
    from s2i_lib.speech.prompt import make_prompt

    if not prompt.strip():
        raise InputError(EMPTY_PROMPT)
    studio = _Studio(order, drive)
    make_prompt(prompt, studio.subjects, chosen=studio.chosen)  # refuses before anything slow
    if studio.classroom:
        studio.classroom.check(prompt)
    studio.load_model()
    try:
        studio.fulfil(prompt)
    finally:
        studio.finish()


def hear(
    audio: Recordings,
    hearing: Hearing,
    drive: Drive,
    subject: Annotated[
        list[str] | None,
        typer.Option("--subject", help="NAME:CLASS_NOUN:IDENTIFIER of a name; repeatable."),
    ] = None,
    model: ModelOption = "auto",
    words: Annotated[bool, typer.Option("--words", help="Say when each word was said.")] = False,
) -> None:
    """Write down what was said, and the prompt that it becomes."""
    from s2i_lib.models.loading import token_counter
    from s2i_lib.models.registry import choose
    from s2i_lib.speech.prompt import make_prompt
    from s2i_lib.speech.transcribe import Listener

    base = choose(model)
    known = known_subjects(drive, [find_subject(drive, text) for text in subject or []])
    options = hearing.options(known, word_times=words)
    _check(audio, options)
    listener = Listener(options, drive).load()
    counter = token_counter(base, drive)

    def handle(clip: str) -> None:
        transcript = listener.hear(clip)
        prompt = make_prompt(transcript, known, count_tokens=counter, token_limit=base.token_limit)
        # The prompt's record holds the transcript, too: it is pulled out, not said twice.
        record = replace(prompt, transcript=None).to_json()
        emit(
            {"clip": clip, "transcript": transcript.to_json(), "prompt": record},
            *_heard(transcript, clip),
            *(f"          {word.start_s:6.2f} s  {word.text}" for word in transcript.words),
            f"Prompt    {prompt.text}",
            *([f"Negative  {prompt.negative}"] if prompt.negative else []),
            *notes([*transcript.doubts, *prompt.notes]),
        )

    for_each(audio, handle)


def _check(audio: list[str], options: HearOptions) -> None:
    """Read all recordings before anything slow, and refuse what cannot be heard."""
    from s2i_lib.speech.audio import load_audio

    for clip in audio:
        load_audio(clip, limit_s=options.limit_s)


class _Studio:
    """What `speak` and `draw` share: the checks before anything slow, then wish by wish."""

    def __init__(self, order: Order, drive: Drive) -> None:
        from s2i_lib.distributed import Processes
        from s2i_lib.drawing.safety import Classroom
        from s2i_lib.drawing.sampling import DrawOptions
        from s2i_lib.models.registry import REGISTRY, choose
        from s2i_lib.storage.run_card import find_run

        self.processes = Processes()
        self.order = order
        self.options = DrawOptions(
            steps=order.steps,
            guidance_scale=order.guidance,
            count=order.count,
            seed=order.seed,
        )
        self.drive = drive
        self.classroom = Classroom(self.drive) if order.classroom else None
        self.model_name = order.model
        if order.run is not None:
            find_run(self.drive, order.run)
        if order.run is None or order.model != "auto":  # what a run was made from, it knows best
            base = choose(order.model)
            self.model_name = base.name if base.name in REGISTRY else order.model
        self.chosen = find_subject(self.drive, order.subject) if order.subject else None
        self.subjects = known_subjects(self.drive, [self.chosen] if self.chosen else [])
        self.folder = make_folder(order.out or self.drive.creations)
        self.seconds: dict[str, float] = {}
        self.wishes: list[Wish] = []
        self._loading: Future[Model] | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds that the body takes to those of the stage called ``name``."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def start_loading(self) -> None:
        """Load the model on a thread, while something else is done."""
        from s2i_lib.models.loading import load

        def work() -> None:
            try:
                loading.set_result(load(self.model_name, drive=self.drive, run=self.order.run))
            except BaseException as error:
                loading.set_exception(error)

        loading = self._loading = Future()
        threading.Thread(target=work, name="load model", daemon=True).start()

    def load_model(self) -> None:
        """Wait until the model is loaded; the seconds are those that were waited."""
        if self._loading is None:
            self.start_loading()
        assert self._loading is not None
        with self.stage("load model"):
            self.model = self._loading.result()

    def fulfil(self, heard: str | Transcript, *, clip: str | None = None) -> None:
        """One wish: words -> prompt -> pictures -> files -> report.

        Raises
        ------
        S2iError
            At the end, when the disk did not take each of the pictures.
        """
        from s2i_lib.drawing.advice import explain_unknown_words, explain_untaught
        from s2i_lib.drawing.draw import draw
        from s2i_lib.speech.audio import load_audio
        from s2i_lib.speech.prompt import make_prompt, with_negative

        base, options = self.model.base, self.options
        prompt = make_prompt(
            heard,
            self.subjects,
            chosen=self.chosen,
            count_tokens=self.model.count_tokens,
            token_limit=base.token_limit,
        )
        prompt = with_negative(prompt, self.order.negative, base.negative)
        unknown = explain_unknown_words(base, prompt.text, self.model.taught)
        untaught = explain_untaught(self.model, prompt, self.drive)
        doubts = prompt.transcript.doubts if prompt.transcript else ()
        remarks = [*doubts, *prompt.notes, *filter(None, [untaught, unknown])]
        with self.stage("draw"), tqdm(total=options.steps, desc="Drawing", leave=False) as bar:
            pictures = draw(
                self.model,
                prompt,
                options,
                on_step=lambda _: bar.update(),
                classroom=self.classroom,
            )
        paths: list[Path] = []
        failures: dict[int, S2iError] = {}  # by the seed of the picture
        with self.stage("save"):
            for picture in pictures:
                try:
                    paths.append(save(picture, self.folder, self.processes.mark))
                except S2iError as error:  # the next one may find room
                    failures[picture.record["seed"]] = error
        transcript = prompt.transcript
        if paths:
            self.wishes.append(
                Wish(
                    prompt.text,
                    paths,
                    heard=transcript.text if transcript else None,
                    clip=load_audio(clip) if clip else None,
                    notes=remarks,
                )
            )
        report = {"clip": clip, "prompt": prompt.to_json(), "notes": remarks}
        emit(
            report | {"pictures": [str(path) for path in paths]},
            *(_heard(transcript, clip) if transcript else []),
            f"Drawn     {prompt.text}  (by {base.name})",
            *notes(remarks),
            *(f"Picture   {path}" for path in paths),
        )
        if failures:
            seeds = ", ".join(map(str, failures))
            raise S2iError(
                f"{len(failures)} of {len(pictures)} pictures could not be kept: "
                f"{next(iter(failures.values()))} `--seed` draws the same again: {seeds}."
            )

    def finish(self) -> None:
        """Write the page of all wishes, of all processes, and report the seconds of each stage."""
        self.wishes = self.processes.gather(self.wishes)
        self.processes.close()
        if not self.wishes or not self.processes.is_main:
            return
        page: Path | None
        with self.stage("save"):
            stem = self.wishes[0].pictures[0].stem
            title = "Spoken and drawn" if self.wishes[0].heard else "Drawn"
            try:
                page = write_page(self.wishes, self.folder / f"{stem}.html", title=title)
            except (S2iError, OSError) as error:  # the pictures are there without it
                complain(f"There is no page of the pictures: {error}")
                page = None
        seconds = {name: round(value, 2) for name, value in self.seconds.items()}
        emit(
            {"page": page and str(page), "seconds": seconds},
            *([f"Page      {page}"] if page else []),
            "Seconds   " + ", ".join(f"{name} {took:.2f}" for name, took in seconds.items()),
        )


def _heard(transcript: Transcript, clip: str | None) -> list[str]:
    """Return the lines that say what was heard in a clip."""
    sure = f"{transcript.language} {transcript.language_probability:.0%}"
    is_translated = transcript.english != transcript.text
    return [
        f"Heard     {transcript.text}",
        f"          ({clip}, {transcript.audio_s:.1f} s, {sure}, {transcript.model})",
        *([f"English   {transcript.english}"] if is_translated else []),
    ]

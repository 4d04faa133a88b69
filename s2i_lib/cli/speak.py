"""Speech or a typed sentence becomes pictures; or only the prompt, to look at."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm.auto import tqdm

from s2i_lib.cli.app import (
    DebugOption,
    DriveOption,
    EngineOption,
    JsonOption,
    LanguageOption,
    LimitOption,
    ModelOption,
    Order,
    WhisperOption,
    for_each,
    takes_order,
)
from s2i_lib.cli.output import complain, print_notes
from s2i_lib.drawing.draw import EMPTY_PROMPT
from s2i_lib.drawing.gallery import Section, write_page
from s2i_lib.errors import InputError, S2iError
from s2i_lib.storage.files import make_folder
from s2i_lib.storage.layout import open_drive

if TYPE_CHECKING:
    from s2i_lib.distributed import Processes
    from s2i_lib.pipeline import Event, SpeechToImage, Wish
    from s2i_lib.speech.transcript import Transcript


@takes_order
def speak(
    audio: Annotated[list[str], typer.Argument(help="Recordings: wav, mp3, m4a, webm ...")],
    engine: EngineOption = "auto",
    whisper: WhisperOption = "auto",
    language: LanguageOption = None,
    limit_s: LimitOption = 60.0,
    *,
    order: Order,
) -> None:
    """Turn spoken sentences into pictures, and a page of the clips, words and pictures."""
    from s2i_lib.distributed import Processes

    processes = Processes()
    speech = _make_pipeline(order, processes)
    speech.hearing = replace(
        speech.hearing, engine=engine, model=whisper, language=language, limit_s=limit_s
    )
    unusable = _check_clips(audio, limit_s)
    if len(unusable) < len(set(audio)):
        with processes.main_first():  # it downloads, the others find what it has kept
            speech.load_listener()
            if not processes.is_alone:  # alone it loads the model while it hears the first clip
                speech.load_model()
    sections: list[Section] = []

    def handle(clip: str) -> None:
        wish = speech(clip)
        if any(wish.paths):
            sections.append(wish.section())
        _report(wish, clip, order.as_json)

    try:
        for_each(audio, handle, processes=processes, unusable=unusable)
    finally:
        _finish(speech, sections, processes, order.as_json)


@takes_order
def draw(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")],
    *,
    order: Order,
) -> None:
    """Turn a typed sentence into pictures: the same as speak, without speech."""
    from s2i_lib.distributed import Processes

    if not prompt.strip():
        raise InputError(EMPTY_PROMPT)
    processes = Processes()
    speech = _make_pipeline(order, processes)
    sections: list[Section] = []
    try:
        wish = speech.say(prompt)
        if any(wish.paths):
            sections.append(wish.section())
        _report(wish, None, order.as_json)
    finally:
        _finish(speech, sections, processes, order.as_json)


def hear(
    audio: Annotated[list[str], typer.Argument(help="Recordings: wav, mp3, m4a, webm ...")],
    subject: Annotated[
        list[str] | None,
        typer.Option("--subject", help="NAME:CLASS_NOUN:IDENTIFIER of a name; repeatable."),
    ] = None,
    model: ModelOption = "auto",
    engine: EngineOption = "auto",
    whisper: WhisperOption = "auto",
    language: LanguageOption = None,
    limit_s: LimitOption = 60.0,
    words: Annotated[bool, typer.Option("--words", help="Say when each word was said.")] = False,
    drive: DriveOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write down what was said, and the prompt that it becomes."""
    from s2i_lib.models.loading import token_counter
    from s2i_lib.models.registry import choose
    from s2i_lib.photos.subject import find_subject, known_subjects
    from s2i_lib.speech.prompt import make_prompt
    from s2i_lib.speech.transcribe import HearOptions, Listener

    place = open_drive(drive)
    base = choose(model)
    known = known_subjects(place, [find_subject(place, text) for text in subject or []])
    names = tuple(each.name for each in known)
    options = HearOptions(
        engine=engine,
        model=whisper,
        language=language,
        names=names,
        limit_s=limit_s,
        word_times=words,
    )
    unusable = _check_clips(audio, limit_s)
    listener = Listener(options, place)
    counter = token_counter(base, place) if len(unusable) < len(set(audio)) else None

    def handle(clip: str) -> None:
        transcript = listener.hear(clip)
        prompt = make_prompt(transcript, known, count_tokens=counter, token_limit=base.token_limit)
        if as_json:
            # the prompt's record holds the transcript, too: it is pulled out, not said twice
            record = replace(prompt, transcript=None).to_json()
            report = {"clip": clip, "transcript": transcript.to_json(), "prompt": record}
            print(json.dumps(report), flush=True)
            return
        _print_heard(transcript, clip)
        for word in transcript.words:
            print(f"          {word.start_s:6.2f} s  {word.text}")
        print(f"Prompt    {prompt.text}")
        if prompt.negative:
            print(f"Negative  {prompt.negative}")
        print_notes([*transcript.doubts, *prompt.notes])

    for_each(audio, handle, unusable=unusable)


def _check_clips(clips: Sequence[str], limit_s: float) -> dict[str, InputError]:
    """Return why clips cannot be used, before anything slow is begun."""
    from s2i_lib.speech.audio import read_audio

    unusable = {}
    for clip in clips:
        try:
            read_audio(clip, limit_s=limit_s)
        except InputError as error:
            unusable[clip] = error
    return unusable


def _make_pipeline(order: Order, processes: Processes) -> SpeechToImage:
    """Make what hears and draws, and check all that can be checked before anything slow."""
    from s2i_lib.drawing.safety import Classroom
    from s2i_lib.drawing.sampling import DrawOptions
    from s2i_lib.models.registry import REGISTRY, choose
    from s2i_lib.pipeline import SpeechToImage
    from s2i_lib.storage.run_card import find_run

    options = DrawOptions(
        steps=order.steps, guidance_scale=order.guidance, count=order.count, seed=order.seed
    )
    drive, model = open_drive(order.drive), order.model
    classroom = Classroom(drive) if order.classroom else None
    if order.run is not None:
        find_run(drive, order.run)
    if order.run is None or model != "auto":  # what a run was made from, it knows best
        base = choose(model)
        model = base.name if base.name in REGISTRY else model
    speech = SpeechToImage(
        drive,
        model=model,
        run=order.run,
        subject=order.subject,
        options=options,
        negative=order.negative,
        classroom=classroom,
        folder=make_folder(order.out or drive.creations),
        callback=_Progress(),
    )
    speech.mark = processes.mark
    return speech


class _Progress:
    """A bar for the steps of a drawing."""

    bar: tqdm[Any] | None = None

    def __call__(self, event: Event) -> None:
        from s2i_lib.pipeline import Drawing

        if not isinstance(event, Drawing):
            return
        number, total = event.step.number, event.step.total
        self.bar = self.bar or tqdm(total=total, desc="Drawing", leave=False)
        self.bar.update(number - self.bar.n)
        if number == total:
            self.bar.close()
            self.bar = None


def _report(wish: Wish, clip: str | None, as_json: bool) -> None:
    """Say what was understood and drawn.

    Raises
    ------
    S2iError
        When the disk did not take each of the pictures.
    """
    notes = [*wish.doubts, *wish.notes]
    paths = [path for path in wish.paths if path]
    if as_json:
        report = {"clip": clip, "prompt": wish.prompt.to_json(), "notes": notes}
        print(json.dumps(report | {"pictures": [str(path) for path in paths]}), flush=True)
    else:
        if wish.transcript:
            _print_heard(wish.transcript, clip)
        print(f"Drawn     {wish.prompt.text}  (by {wish.pictures[0].record['model']})")
        print_notes(notes)
        for path in paths:
            print(f"Picture   {path}")
    if wish.failures:
        raise S2iError(
            f"{len(wish.failures)} of {len(wish.pictures)} pictures could not be kept: "
            f"{wish.failures[0]} `--seed` draws the same again: "
            f"{', '.join(map(str, wish.unsaved_seeds))}."
        )


def _finish(
    speech: SpeechToImage, sections: list[Section], processes: Processes, as_json: bool
) -> None:
    """Write the page of all wishes, of all processes, and report the seconds of each stage."""
    sections = processes.gather(sections)
    processes.close()
    if not sections or not processes.is_main:
        return
    assert speech.folder is not None
    began, page = time.perf_counter(), None
    stem = sections[0].pictures[0].stem
    title = "Spoken and drawn" if sections[0].heard else "Drawn"
    try:
        page = write_page(sections, speech.folder / f"{stem}.html", title=title)
    except (S2iError, OSError) as error:  # the pictures are there without it
        complain(f"There is no page of the pictures: {error}")
    seconds = dict(speech.seconds)
    seconds["save"] += time.perf_counter() - began
    seconds = {name: round(value, 2) for name, value in seconds.items()}
    if as_json:
        print(json.dumps({"page": page and str(page), "seconds": seconds}))
    else:
        if page:
            print(f"Page      {page}")
        print("Seconds   " + ", ".join(f"{name} {took:.2f}" for name, took in seconds.items()))


def _print_heard(transcript: Transcript, clip: str | None) -> None:
    sure = f"{transcript.language} {transcript.language_probability:.0%}"
    print(f"Heard     {transcript.text}")
    print(f"          ({clip}, {transcript.audio_s:.1f} s, {sure}, {transcript.model})")
    if transcript.english != transcript.text:
        print(f"English   {transcript.english}")

"""Speech or a typed sentence becomes pictures; or only the prompt, to look at."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm.auto import tqdm

from s2i_lib.ar.page import room_page
from s2i_lib.cli.app import Hearing, ModelOption, Order, for_each
from s2i_lib.cli.output import complain, emit, notes
from s2i_lib.drawing.draw import EMPTY_PROMPT
from s2i_lib.drawing.pages import Section, write_page
from s2i_lib.drawing.told import alt_text
from s2i_lib.errors import InputError, S2iError
from s2i_lib.storage.files import ROOM, make_folder, write_new
from s2i_lib.storage.layout import Drive

if TYPE_CHECKING:
    from s2i_lib.conversation.turns import Answer
    from s2i_lib.distributed import Processes
    from s2i_lib.drawing.records import Picture
    from s2i_lib.drawing.told import Seen
    from s2i_lib.pipeline import Event, SpeechToImage, Wish
    from s2i_lib.speech.prompt import Prompt
    from s2i_lib.speech.transcript import Transcript

Recordings = Annotated[list[str], typer.Argument(help="Recordings: wav, mp3, m4a, webm ...")]
ConversationOption = Annotated[
    bool,
    typer.Option(
        "--conversation",
        help='Each after the first may change the last picture: "make it blue", "undo".',
    ),
]


def speak(
    audio: Recordings,
    hearing: Hearing,
    order: Order,
    drive: Drive,
    keep_recordings: Annotated[
        bool, typer.Option("--keep-recordings", help="Keep the voice, on the page and the Drive.")
    ] = False,
    conversation: ConversationOption = False,
) -> None:
    """Turn spoken sentences into pictures, and a page of the words and pictures."""
    from s2i_lib.distributed import Processes

    processes = Processes()
    if conversation and not processes.is_alone:
        raise InputError(
            "A conversation goes one sentence after another, and several processes would share it "
            "out. Give --conversation to one process."
        )
    speech = _make_pipeline(order, drive, processes)
    speech.hearing = hearing.options(speech.subjects)
    speech.recordings = drive.recordings if keep_recordings else None
    unusable = _check(audio, hearing)
    if len(unusable) < len(set(audio)):
        with processes.main_first():  # it downloads, the others find what it has kept
            if processes.is_alone:  # it takes longer than Whisper, and most of it is imports
                speech.load_in_background()
            speech.load_listener()
            if not processes.is_alone:
                speech.load_model()
    if conversation:
        _converse(speech, audio, processes, unusable)
        return
    sections: list[Section] = []
    try:
        for_each(
            audio,
            lambda clip: _report(speech(clip), clip, sections),
            processes=processes,
            unusable=unusable,
        )
    finally:
        _finish(speech, sections, processes)


def draw(
    prompt: Annotated[list[str], typer.Argument(help="What the picture shows.")],
    order: Order,
    drive: Drive,
    conversation: ConversationOption = False,
) -> None:
    """Turn a typed sentence into pictures: the same as speak, without speech."""
    from s2i_lib.distributed import Processes

    if not all(one.strip() for one in prompt):
        raise InputError(EMPTY_PROMPT)
    if len(prompt) > 1 and not conversation:
        raise InputError(
            f"{len(prompt)} sentences were given and one was expected. Put quotes around it, or "
            "give --conversation to draw one after another."
        )
    processes = Processes()
    speech = _make_pipeline(order, drive, processes)
    if conversation:
        _converse(speech, prompt, processes)
        return
    sections: list[Section] = []
    try:
        _report(speech.say(prompt[0]), None, sections)
    finally:
        _finish(speech, sections, processes)


def hear(
    audio: Recordings,
    hearing: Hearing,
    drive: Drive,
    subject: Annotated[
        list[str] | None,
        typer.Option(help="Subject on the Drive, or NAME:CLASS_NOUN:IDENTIFIER; repeatable."),
    ] = None,
    model: ModelOption = "auto",
    words: Annotated[bool, typer.Option("--words", help="Say when each word was said.")] = False,
) -> None:
    """Write down what was said, and the prompt that it becomes."""
    from s2i_lib.models.parts import token_counter
    from s2i_lib.models.registry import choose
    from s2i_lib.photos.subject import find_subject, known_subjects
    from s2i_lib.speech.prompt import make_prompt
    from s2i_lib.speech.transcribe import Listener
    from s2i_lib.speech.vocabulary import vocabulary_of

    base = choose(model)
    known = known_subjects(drive, [find_subject(drive, text) for text in subject or []])
    unusable = _check(audio, hearing)
    listener = Listener(hearing.options(known, words, vocabulary_of(base, subjects=known)), drive)
    counter = token_counter(base, drive) if len(unusable) < len(set(audio)) else None

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
            *notes([*transcript.doubts, *transcript.notes, *prompt.notes, *_offers(prompt)]),
        )

    for_each(audio, handle, unusable=unusable)


def _check(clips: list[str], hearing: Hearing) -> dict[str, InputError]:
    """Read all recordings before anything slow, and return why some cannot be heard."""
    from s2i_lib.speech.audio import read_audio

    unusable = {}
    for clip in clips:
        try:
            read_audio(clip, limit_s=hearing.limit_s)
        except InputError as error:
            unusable[clip] = error
    return unusable


def _make_pipeline(order: Order, drive: Drive, processes: Processes) -> SpeechToImage:
    """Make what hears and draws, and check all that can be checked before anything slow."""
    from s2i_lib.drawing.safety import Classroom
    from s2i_lib.drawing.sampling import DrawOptions
    from s2i_lib.models.registry import REGISTRY, choose
    from s2i_lib.pipeline import SpeechToImage
    from s2i_lib.storage.run_card import find_run

    options = DrawOptions(
        steps=order.steps,
        guidance_scale=order.guidance,
        count=order.count,
        seed=order.seed,
        is_panorama=order.panorama,
    )
    model = order.model
    classroom = Classroom(drive) if order.classroom else None
    if order.run is not None:
        find_run(drive, order.run)
    if model != "auto":  # what a run was made from, it knows best
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
    if order.check:
        from s2i_lib.evaluation.look import Looker  # a second of imports

        speech.look = _telling(Looker(drive))
    return speech


def _telling(look: Callable[[Picture], Seen | None]) -> Callable[[Picture], Seen | None]:
    """Return what looks as ``look`` does, and says of which picture it can say nothing."""

    def looked(picture: Picture) -> Seen | None:
        seen = look(picture)
        if seen is None:
            complain(
                f"“{picture.record['prompt']}” is not checked: there is no scorer, or it knows no "
                "thing that was asked for.",
                "Note",
            )
        return seen

    return looked


def _converse(
    speech: SpeechToImage,
    given: list[str],
    processes: Processes,
    unusable: dict[str, InputError] | None = None,
) -> None:
    """Do one sentence after another, recordings where some may be ``unusable``, and write a page.

    The page has every picture that is left at the end, with what was said for it.
    """
    from s2i_lib.conversation import Conversation

    talk = Conversation(speech)

    def handle(one: str) -> None:
        is_spoken = unusable is not None
        answer = talk(one) if is_spoken else talk.say(one)
        _report_answer(answer, one if is_spoken else None)

    try:
        for_each(given, handle, what="sentences", unusable=unusable)
    finally:
        left = [talk.turns[number] for number in talk.history.left]
        sections = [turn.section() for turn in left if any(turn.wish.paths)]
        _finish(speech, sections, processes)


def _report_answer(answer: Answer, clip: str | None) -> None:
    """Say what a sentence was taken for, and what came of it."""
    turn = answer.turn
    drawn = {"kind": answer.kind, "taken": answer.taken, "turn": turn.number if turn else None}
    lines = [f"Said      {answer.said}", f"Taken     {answer.taken.removeprefix('Taken as ')}"]
    if turn is not None and answer.is_drawn:
        _report(turn.wish, clip, [], drawn | {"said": answer.said}, lines)
        return
    shown = turn.wish.prompt.text if turn else None
    emit(
        {"clip": clip, "said": answer.said, **drawn, "prompt": shown},
        *lines,
        f"Shown     {shown or 'nothing: a new beginning'}",
    )


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


def _report(
    wish: Wish,
    clip: str | None,
    sections: list[Section],
    more: Mapping[str, Any] | None = None,
    lines: Sequence[str] = (),
) -> None:
    """Say what was understood and drawn, and add it to the page's ``sections``.

    ``more`` and ``lines`` are said before it: to programs, and to people.

    Raises
    ------
    S2iError
        When the disk did not take each of the pictures.
    """
    kept = [(one.record, path) for one, path in zip(wish.pictures, wish.paths, strict=True) if path]
    paths = [path for _, path in kept]
    if paths:
        sections.append(wish.section())
    remarks = [*wish.doubts, *wish.notes, *_offers(wish.prompt)]
    record = {**(more or {}), "clip": clip, "prompt": wish.prompt.to_json(), "notes": remarks}
    drawn = wish.pictures[0].record
    by = drawn["model"] + (f", run {drawn['run']}" if drawn["run"] else "")
    emit(
        {
            **record,
            "model": drawn["model"],
            "run": drawn["run"],
            "pictures": [str(path) for path in paths],
            "alt": [alt_text(one) for one, _ in kept],
            "seen": [one.get("seen") for one, _ in kept],
        },
        *(_heard(wish.transcript, clip) if wish.transcript else []),
        *lines,
        f"Drawn     {wish.prompt.text}  (by {by})",
        *notes(remarks),
        *(f"Picture   {path}" for path in paths),
        *(f"Alt text  {alt_text(one.record)}" for one in wish.pictures if "seen" in one.record),
    )
    for path in paths if wish.options.is_panorama else []:
        room = write_new(path.with_suffix(ROOM), room_page(path).encode())
        emit({"room": str(room)}, f"Room      {room}")
    if wish.failures:
        raise S2iError(
            f"{len(wish.failures)} of {len(wish.pictures)} pictures could not be kept: "
            f"{wish.failures[0]} `--seed` draws the same again: "
            f"{', '.join(map(str, wish.unsaved_seeds))}."
        )


def _finish(speech: SpeechToImage, sections: list[Section], processes: Processes) -> None:
    """Write the page of all wishes, of all processes, and report the seconds of each stage."""
    if speech.recordings is None:  # a page would keep the voice
        sections = [replace(section, clip=None) for section in sections]
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
    emit(
        {"page": page and str(page), "seconds": seconds},
        *([f"Page      {page}"] if page else []),
        "Seconds   " + ", ".join(f"{name} {took:.2f}" for name, took in seconds.items()),
    )


def _offers(prompt: Prompt) -> list[str]:
    """Return sentences that ask for names that were nearly said."""
    return [f"{near.question} Then say or draw: {near.sentence}" for near in prompt.near_names]


def _heard(transcript: Transcript, clip: str | None) -> list[str]:
    """Return the lines that say what was heard in a clip."""
    sure = f"{transcript.language} {transcript.language_probability:.0%}"
    is_translated = transcript.english != transcript.text
    return [
        f"Heard     {transcript.text}",
        *([f"At first  {transcript.first_heard}"] if transcript.first_heard else []),
        f"          ({clip}, {transcript.audio_s:.1f} s, {sure}, {transcript.model})",
        *([f"English   {transcript.english}"] if is_translated else []),
    ]

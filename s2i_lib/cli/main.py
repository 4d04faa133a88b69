"""The command line: everything that a notebook does, one call away from the shell."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_type_hints

import typer
from tqdm.auto import tqdm

from s2i_lib.drawing.draw import EMPTY_PROMPT
from s2i_lib.drawing.gallery import Wish, same_pixels, save, write_page
from s2i_lib.errors import InputError, S2iError
from s2i_lib.photos.subject import RARE_TOKENS
from s2i_lib.storage.files import make_folder
from s2i_lib.storage.layout import Drive, open_drive

if TYPE_CHECKING:
    from s2i_lib.distributed import Processes
    from s2i_lib.models.loading import Model
    from s2i_lib.photos.manifest import Dataset
    from s2i_lib.photos.subject import Kind, Subject
    from s2i_lib.speech.transcribe import Transcript

app = typer.Typer(
    help="Speak a sentence, see the picture.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_debug = False


def _set_debug(value: bool) -> None:
    global _debug
    _debug = value


# The options that several commands share.
DriveOption = Annotated[
    Path | None,
    typer.Option("--drive", envvar="S2I_DRIVE", help="Folder of photos, weights and pictures."),
]
ModelOption = Annotated[
    str, typer.Option("--model", help="pocket, sd2.1-base, sd2.1, auto, or a diffusers folder.")
]
SubjectOption = Annotated[
    str | None,
    typer.Option("--subject", help="Subject on the Drive, or NAME:CLASS_NOUN:IDENTIFIER."),
]
RunOption = Annotated[
    str | None,
    typer.Option(
        "--run", help="Weights: SUBJECT/RUN, SUBJECT, or the path of a LoRA, checkpoint or folder."
    ),
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="The same seed, the same picture.")]
StepsOption = Annotated[int, typer.Option("--steps", help="Denoising steps.")]
CountOption = Annotated[int, typer.Option("--count", help="Pictures for each prompt.")]
NegativeOption = Annotated[
    str | None,
    typer.Option(
        "--negative",
        help='What must not be in the picture; "" for nothing [default: the model\'s own].',
    ),
]
GuidanceOption = Annotated[
    float | None, typer.Option("--guidance", help="How closely to follow the prompt; 1 is off.")
]
ClassroomOption = Annotated[
    bool,
    typer.Option("--classroom", help="Refuse words of a list; have a safety checker look."),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for pictures [default: creations on the Drive]."),
]
EngineOption = Annotated[
    str, typer.Option("--engine", help="auto, faster-whisper or openai-whisper.")
]
WhisperOption = Annotated[
    str, typer.Option("--whisper", help="tiny.en ... turbo, or auto for this machine.")
]
LanguageOption = Annotated[
    str | None, typer.Option("--language", help="Language spoken, such as de [default: detected].")
]
LimitOption = Annotated[
    float, typer.Option("--limit-s", help="Longest recording that is accepted, in seconds.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line, nothing else.")]
DebugOption = Annotated[
    bool, typer.Option("--debug", callback=_set_debug, help="Show the traceback of an error.")
]


@dataclass(frozen=True)
class _Order:
    """What `speak` and `draw` are both told: each field is an option of theirs."""

    model: ModelOption = "auto"
    run: RunOption = None
    subject: SubjectOption = None
    seed: SeedOption = None
    steps: StepsOption = 20
    count: CountOption = 1
    negative: NegativeOption = None
    guidance: GuidanceOption = None
    classroom: ClassroomOption = False
    out: OutOption = None
    drive: DriveOption = None
    as_json: JsonOption = False
    debug: DebugOption = False


def _takes_order(command: Callable[..., None]) -> Callable[..., None]:
    """Give typer a command with the options of `_Order` in place of its parameter ``order``."""
    hints = get_type_hints(command, include_extras=True)
    hints |= get_type_hints(_Order, include_extras=True)
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "order"]
    shared = [inspect.Parameter(f.name, own[0].KEYWORD_ONLY, default=f.default)
              for f in fields(_Order)]  # fmt: skip

    @functools.wraps(command)
    def run(**given: Any) -> None:
        order = _Order(**{field.name: given.pop(field.name) for field in fields(_Order)})
        command(**given, order=order)

    parameters = [p.replace(annotation=hints[p.name]) for p in (*own, *shared)]
    vars(run)["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


@app.command()
@_takes_order
def speak(
    audio: Annotated[list[str], typer.Argument(help="Recordings: wav, mp3, m4a, webm ...")],
    engine: EngineOption = "auto",
    whisper: WhisperOption = "auto",
    language: LanguageOption = None,
    limit_s: LimitOption = 60.0,
    *,
    order: _Order,
) -> None:
    """Turn spoken sentences into pictures, and a page of the clips, words and pictures."""
    from s2i_lib.speech.audio import load_audio
    from s2i_lib.speech.transcribe import HearOptions, Listener

    studio = _Studio(order)
    names = tuple(subject.name for subject in studio.subjects)
    hearing = HearOptions(
        engine=engine, model=whisper, language=language, names=names, limit_s=limit_s
    )
    for clip in audio:
        load_audio(clip, limit_s=limit_s)  # all are checked before anything slow
    with studio.processes.main_first():  # it downloads, the others find what it has kept
        with studio.stage("load Whisper"):
            listener = Listener(hearing, studio.drive).load()
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
        _for_each(audio, handle, processes=studio.processes)
    finally:
        studio.finish()


@app.command()
@_takes_order
def draw(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")],
    *,
    order: _Order,
) -> None:
    """Turn a typed sentence into pictures: the same as speak, without speech."""
    from s2i_lib.speech.prompt import make_prompt

    if not prompt.strip():
        raise InputError(EMPTY_PROMPT)
    studio = _Studio(order)
    make_prompt(prompt, studio.subjects, chosen=studio.chosen)  # refuses before anything slow
    if studio.classroom:
        studio.classroom.check(prompt)
    studio.load_model()
    try:
        studio.fulfil(prompt)
    finally:
        studio.finish()


@app.command()
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
    from s2i_lib.speech.audio import load_audio
    from s2i_lib.speech.prompt import make_prompt
    from s2i_lib.speech.transcribe import HearOptions, Listener

    place = open_drive(drive)
    base = choose(model)
    known = _known_subjects(place, [_subject(place, text) for text in subject or []])
    names = tuple(each.name for each in known)
    options = HearOptions(
        engine=engine,
        model=whisper,
        language=language,
        names=names,
        limit_s=limit_s,
        word_times=words,
    )
    for clip in audio:
        load_audio(clip, limit_s=limit_s)  # all are checked before anything slow
    listener = Listener(options, place).load()
    counter = token_counter(base, place)

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
        _print_notes([*transcript.doubts, *prompt.notes])

    _for_each(audio, handle)


@app.command()
def finetune(
    subject: Annotated[str, typer.Option("--subject", help="Subject with a dataset on the Drive.")],
    model: ModelOption = "auto",
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            help="auto: by the subject's kind; classic: 1e-6 and 800 steps, the U-Net alone.",
        ),
    ] = "auto",
    name: Annotated[
        str | None,
        typer.Option("--name", help="The run [default: the unfinished one, else a new one]."),
    ] = None,
    method: Annotated[str | None, typer.Option("--method", help="full or lora.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Optimizer steps.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Photos a step, over all processes.")
    ] = None,
    accumulation: Annotated[
        int | None, typer.Option("--accumulation", help="Parts a step is computed in.")
    ] = None,
    prior: Annotated[bool, typer.Option(help="Learn class images too.")] = True,
    class_images: Annotated[int | None, typer.Option("--class-images")] = None,
    text_encoder: Annotated[
        bool | None, typer.Option(help="Train the text encoder too [default: the recipe's].")
    ] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="fp32, fp16, bf16.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of all that is random.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", help="Any other field of FinetuneOptions, NAME=VALUE; repeatable."
        ),
    ] = None,
    drive: DriveOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Teach a model a subject (DreamBooth); the same command goes on where a session stopped."""
    from s2i_lib.distributed import Processes
    from s2i_lib.photos.manifest import load_dataset
    from s2i_lib.storage.run_card import read_card
    from s2i_lib.training.config import parse_options
    from s2i_lib.training.finetune import FinetuneRun

    place = open_drive(drive)
    changes = {
        "method": method,
        "steps": steps,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "accumulation": accumulation,
        "with_prior": prior,
        "class_image_count": class_images,
        "with_text_encoder": text_encoder,
        "precision": precision,
        "seed": seed,
    }
    run = FinetuneRun(
        place,
        load_dataset(place, subject),
        model=model,
        recipe=recipe,
        name=name,
        **{**changes, **parse_options(option or [])},
    ).train()
    if not Processes().is_main:
        return
    if as_json:
        print(json.dumps({"run": str(run), **read_card(run)}))
    else:
        print(f"Run       {run}")
        prompt = read_card(run).get("instance_prompt", "")
        where = f"{run.parent.name}/{run.name}"
        print(f'Draw it   python -m s2i_lib draw "{prompt}" --run {where}')


@app.command()
def evaluate(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="SUBJECT/RUN, SUBJECT or a path.")
    ],
    prompts: Annotated[int, typer.Option("--prompts", help="Of DreamBench's 25.")] = 25,
    seeds: Annotated[int, typer.Option("--seeds", help="Pictures of each prompt.")] = 4,
    first_seed: Annotated[int, typer.Option("--seed", help="The first of these seeds.")] = 0,
    steps: StepsOption = 20,
    subject: SubjectOption = None,
    base: Annotated[
        bool, typer.Option("--base", help="Score the model before fine-tuning beside it.")
    ] = False,
    speech: Annotated[
        Path | None,
        typer.Option("--speech", help="Folder of clips, each with what it says in a .txt."),
    ] = None,
    clip: Annotated[
        str | None, typer.Option("--clip", help="Another CLIP: a folder or hub repository.")
    ] = None,
    dino: Annotated[
        str | None, typer.Option("--dino", help="Another DINO: a folder or hub repository.")
    ] = None,
    lpips: Annotated[
        str | None, typer.Option("--lpips", help="LPIPS: a file, or REPOSITORY:FILE.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the report [default: evaluations in the run]."),
    ] = None,
    drive: DriveOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure how alike, how faithful and how free a run's pictures are; several side by side."""
    from s2i_lib.evaluation.dreambench import EvaluateOptions
    from s2i_lib.evaluation.evaluate import evaluate_run
    from s2i_lib.evaluation.report import write_report
    from s2i_lib.evaluation.speech import read_clips

    place = open_drive(drive)
    options = EvaluateOptions(prompts, seeds, first_seed=first_seed, steps=steps)
    chosen = _subject(place, subject) if subject else None
    clips = read_clips(speech) if speech else []
    folder = make_folder(out) if out else _report_folder(place, runs)
    done, measured = [], []

    def measure(run: str, is_base: bool = False) -> None:
        with tqdm(desc=f"Evaluating {run}", unit="prompt", leave=False) as bar:

            def show(number: int, total: int) -> None:
                bar.total, bar.n = total, number
                bar.refresh()

            done.append(
                evaluate_run(
                    place,
                    run,
                    options,
                    subject=chosen,
                    is_base=is_base,
                    clips=clips,
                    callback=show,
                    clip=clip,
                    dino=dino,
                    lpips=lpips,
                )
            )
            measured.append(run)

    refused: S2iError | KeyboardInterrupt | None = None
    try:  # what has been measured took an hour, and is worth a page, whatever ends the rest
        _for_each(runs, measure, what="runs")
    except (S2iError, KeyboardInterrupt) as error:
        if not done:
            raise
        refused = error
    if base and not isinstance(refused, KeyboardInterrupt):
        try:
            measure(measured[0], is_base=True)
        except (S2iError, KeyboardInterrupt) as error:
            if refused:
                _complain(str(refused))
            refused = error
    for each in done:  # before the page, which a full disk may refuse
        if as_json:
            print(json.dumps(each.to_json(), ensure_ascii=False))
            continue
        print(f"Run       {each.name}")
        for name, score in each.scores.items():
            print(f"  {name:16}{score}")
        if each.speech:
            print(f"  word error rate {each.speech['word_error_rate']}")
        _print_notes(each.notes)
    page, data = write_report(done, folder)
    if as_json:
        print(json.dumps({"page": str(page), "data": str(data)}))
    else:
        print(f"Page      {page}\nNumbers   {data}")
    if refused:
        raise refused


@app.command()
def redo(
    picture: Annotated[Path, typer.Argument(help="A PNG that this program made.")],
    out: OutOption = None,
    drive: DriveOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Make the same picture again, from the record inside it."""
    from s2i_lib.drawing import records
    from s2i_lib.drawing.draw import redo
    from s2i_lib.drawing.gallery import read_record
    from s2i_lib.models.loading import load

    record = read_record(picture)
    place = open_drive(drive)
    folder = make_folder(out or place.creations)
    model = load(records.model_named_in(record), drive=place, run=record.get("run"))
    doubt = records.compare_weights(model, record)
    if doubt:
        _complain(doubt, "Note")
    with tqdm(total=record.get("steps"), desc="Drawing", leave=False) as bar:
        again = redo(model, record, on_step=lambda _: bar.update())
    path = save(again, folder)
    is_same = same_pixels(picture, path)
    if as_json:
        print(json.dumps({"picture": str(path), "is_same": is_same, "weights": doubt or "same"}))
        return
    print(f"Picture   {path}")
    why_not = "other weights" if doubt else "another machine or other versions"
    print(f"The same  {'yes, bit for bit' if is_same else f'no: {why_not}'}")


@app.command()
def gallery(
    subject: Annotated[
        str | None, typer.Option("--subject", help="Only pictures of this subject.")
    ] = None,
    prompt: Annotated[
        str, typer.Option("--prompt", help="Only those whose prompt has these words.")
    ] = "",
    grid: Annotated[
        Path | None, typer.Option("--grid", help="PNG to write: all of them side by side.")
    ] = None,
    drive: DriveOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List the pictures that were made, the oldest first, and put them side by side."""
    from s2i_lib.drawing.gallery import grid_png, list_pictures, read_record
    from s2i_lib.storage.files import free_path, write_file

    pictures = list_pictures(open_drive(drive).creations, subject=subject, prompt=prompt)
    for path in pictures:
        record = read_record(path)
        if as_json:
            print(json.dumps({"picture": str(path), **record}))
        else:
            print(f"Picture   {path}\n          {record['prompt']} (seed {record['seed']})")
    if not pictures and not as_json:
        print("There are no such pictures yet.")
    if pictures and grid:
        sheet = write_file(free_path(grid), grid_png(pictures))
        print(json.dumps({"grid": str(sheet)}) if as_json else f"Grid      {sheet}")


@app.command()
def forget(
    name: Annotated[str, typer.Argument(help="The subject's name.")],
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    drive: DriveOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Delete everything that is kept of a subject, after listing it."""
    from s2i_lib import privacy

    traces = privacy.find_traces(open_drive(drive), name)
    if not as_json:
        for trace in traces:
            print(f"{trace.what:26} {trace.size_bytes / 1e6:8.1f} MB  {trace.path}")
        yes = yes or typer.confirm(f"Delete all of this for good, all of {name}?")
    if yes:
        privacy.forget(traces, report=_complain)
    if as_json:
        for trace in traces:
            print(json.dumps({"what": trace.what, "path": str(trace.path), "deleted": yes}))
    if not yes:
        _complain("Nothing was deleted. Answer y, or give --yes, to delete what is listed.")
        return
    print(f"Nothing is kept of {name} any more.", file=sys.stderr)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="SUBJECT/RUN, SUBJECT, or a run's folder.")],
    form: Annotated[str, typer.Option("--format", help="diffusers, single-file or lora.")],
    out: Annotated[Path | None, typer.Option("--out", help="File or folder to write.")] = None,
    drive: DriveOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a run's weights in a format that other programs load."""
    from s2i_lib.models.export import export as export_run

    path = export_run(open_drive(drive), run, form, out)
    print(json.dumps({"path": str(path), "format": form}) if as_json else f"Written   {path}")


@app.command()
def runs(
    prune: Annotated[bool, typer.Option("--prune", help="Offer to delete states.")] = False,
    delete: Annotated[
        list[str] | None,
        typer.Option("--delete", help="SUBJECT/RUN to delete, weights and all; repeatable."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete states of finished runs, or the runs, unasked.")
    ] = False,
    drive: DriveOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List fine-tuned runs with size and scores; delete what they no longer need, or all of one."""
    from s2i_lib.storage.files import size_of
    from s2i_lib.training.run import delete_runs, list_runs, prunable, select_runs
    from s2i_lib.training.run import prune as prune_states

    place = open_drive(drive)
    found = list_runs(place)
    doomed = select_runs(found, delete or [])
    for run in found:
        facts = {"run": run.name, "status": run.status, "step": run.step, "scores": run.scores}
        if as_json:
            print(json.dumps({**facts, "bytes": run.size_bytes, "state_bytes": run.state_bytes}))
            continue
        scores = ", ".join(f"{key} {value:.2f}" for key, value in run.scores.items())
        print(
            f"{run.name:30} {run.status:10} step {run.step:5}  {run.size_bytes / 1e6:9.1f} MB"
            f" ({run.state_bytes / 1e6:.1f} in states)  {scores}"
        )
    if not found and not as_json:
        print("There are no runs yet.")
    freed = 0
    if doomed:
        named = ", ".join(run.name for run in doomed)
        question = f"Delete all of {named} for good, weights and pictures of its training too?"
        if yes or typer.confirm(question, err=True):
            freed += delete_runs(place, doomed)
    if prune:
        chosen = []
        left = [run for run in found if run not in doomed]
        for path, meaning in prunable(left, with_unfinished=not yes):
            question = f"{meaning}. Delete its {size_of(path) / 1e6:.1f} MB?"
            if yes or typer.confirm(question, err=True):
                chosen.append(path)
        freed += prune_states(chosen)
    if prune or doomed:
        print(json.dumps({"freed_bytes": freed}) if as_json else f"Freed     {freed / 1e6:.1f} MB")


class _Studio:
    """What `speak` and `draw` share: the checks before anything slow, then wish by wish."""

    def __init__(self, order: _Order) -> None:
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
        self.drive = open_drive(order.drive)
        self.classroom = Classroom(self.drive) if order.classroom else None
        self.model_name = order.model
        if order.run is not None:
            find_run(self.drive, order.run)
        if order.run is None or order.model != "auto":  # what a run was made from, it knows best
            base = choose(order.model)
            self.model_name = base.name if base.name in REGISTRY else order.model
        self.chosen = _subject(self.drive, order.subject) if order.subject else None
        self.subjects = _known_subjects(self.drive, [self.chosen] if self.chosen else [])
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
        notes = [*doubts, *prompt.notes, *filter(None, [untaught, unknown])]
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
                    notes=notes,
                )
            )
        if self.order.as_json:
            report = {"clip": clip, "prompt": prompt.to_json(), "notes": notes}
            print(json.dumps(report | {"pictures": [str(path) for path in paths]}), flush=True)
        else:
            if transcript:
                _print_heard(transcript, clip)
            print(f"Drawn     {prompt.text}  (by {base.name})")
            _print_notes(notes)
            for path in paths:
                print(f"Picture   {path}")
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
                _complain(f"There is no page of the pictures: {error}")
                page = None
        seconds = {name: round(value, 2) for name, value in self.seconds.items()}
        if self.order.as_json:
            print(json.dumps({"page": page and str(page), "seconds": seconds}))
        else:
            if page:
                print(f"Page      {page}")
            print("Seconds   " + ", ".join(f"{name} {took:.2f}" for name, took in seconds.items()))


@app.command()
def dataset(
    photos: Annotated[
        Path | None,
        typer.Argument(help="Folder or zip of photos [default: the subject's on the Drive]."),
    ] = None,
    subject: Annotated[str, typer.Option("--subject", help="Name, as it is spoken.")] = "",
    class_noun: Annotated[
        str, typer.Option("--class-noun", help="What the subject is one of: dog, mug, woman.")
    ] = "",
    identifier: Annotated[
        str | None,
        typer.Option(
            "--identifier",
            help=f"A token that means nothing, such as {', '.join(RARE_TOKENS)} "
            f"[default: the subject's so far, else {RARE_TOKENS[0]}].",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--kind", help="person, animal or object [default: by the class noun]."),
    ] = None,
    consent_by: Annotated[
        str | None,
        typer.Option("--consent-by", help="Of a person: the name of who agrees to this."),
    ] = None,
    consent_on: Annotated[
        str | None,
        typer.Option("--consent-on", help="And the day, as 2026-08-19."),
    ] = None,
    crop: Annotated[
        list[str] | None,
        typer.Option("--crop", help="PHOTO=LEFT,TOP,SIZE in pixels of the upright photo."),
    ] = None,
    mirror: Annotated[
        bool | None,
        typer.Option("--mirror/--no-mirror", help="Train on mirror images [default: animals]."),
    ] = None,
    classroom: Annotated[
        bool, typer.Option("--classroom", help="Leave out photos that a checker finds unfit.")
    ] = False,
    drive: DriveOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Check and crop photos of a subject: crops, contact sheet and manifest to train from."""
    from s2i_lib.photos.consent import Consent
    from s2i_lib.photos.crop import parse_crop
    from s2i_lib.photos.dataset import build_dataset
    from s2i_lib.photos.quality import DatasetOptions
    from s2i_lib.photos.subject import Subject, choose_identifier, guess_kind, load_subject

    if not subject:
        raise InputError(
            "Whose photos are these? Say --subject with the name as it is spoken, and --class-noun "
            "with what it is one of, for instance --subject Rex --class-noun dog."
        )
    root = open_drive(drive)
    if not class_noun:  # a known one, built again
        who = load_subject(root, subject)
    else:
        said = cast("Kind | None", kind)  # Subject checks that it is one
        token = identifier or choose_identifier(root, subject)
        who = Subject(subject, class_noun, token, said or guess_kind(class_noun))
    built = build_dataset(
        who,
        root,
        photos=photos,
        options=DatasetOptions(mirror=mirror, is_for_class=classroom),
        crops=dict(parse_crop(text) for text in crop or []),
        consent=Consent.given(consent_by, consent_on),
    )
    if as_json:
        for verdict in built.verdicts:
            print(json.dumps(asdict(verdict), ensure_ascii=False))
        summary = {
            "subject": asdict(who),
            "kept": len(built.images),
            "ignored": built.ignored,
            "advice": built.advice,
            "dataset": str(built.folder),
            "contact_sheet": str(built.contact_sheet),
            "manifest": str(built.manifest),
            "sha256": built.sha256,
        }
        print(json.dumps(summary, ensure_ascii=False))
    else:
        _print_dataset(built)
    if not built.images:
        raise InputError(
            f"None of the {len(built.verdicts)} photos can be used. The reasons stand above and in "
            f"{built.contact_sheet}. Take others and run this again."
        )


def _print_dataset(built: Dataset) -> None:
    for verdict in built.verdicts:
        print(_wrap(f"{verdict.photo}  {verdict.verdict}. {verdict.reason}", indent=4))
    if built.ignored:
        print(_wrap(f"Left alone  {', '.join(built.ignored)}", indent=12))
    for sentence in built.advice:
        print(_wrap(f"Note  {sentence}", indent=6))
    print(f"Crops     {built.folder} ({len(built.images)} of {len(built.verdicts)})")
    print(f"Sheet     {built.contact_sheet}")
    print(f"Manifest  {built.manifest}")
    if built.consent:
        print(_wrap(f"Consent   {built.consent.sentence(built.subject.name)}", indent=10))


def _subject(drive: Drive, given: str) -> Subject:
    """NAME:CLASS_NOUN:IDENTIFIER, or the name of a subject on the Drive."""
    from s2i_lib.photos.subject import Subject, load_subject

    return Subject.parse(given) if ":" in given else load_subject(drive, given)


def _known_subjects(drive: Drive, given: list[Subject]) -> list[Subject]:
    """Every subject whose name may be spoken: those that were given, then those on the Drive."""
    from s2i_lib.photos.subject import list_subjects

    names = {subject.name for subject in given}
    return [*given, *(subject for subject in list_subjects(drive) if subject.name not in names)]


def _report_folder(drive: Drive, runs: Sequence[str]) -> Path:
    """The folder "evaluations" in the first run that is there, or beside it if it is a file.

    That it can be made is proved before anything is drawn; it is made when it is needed.
    """
    from s2i_lib.storage.run_card import find_run

    path = None
    for run in runs:
        with suppress(InputError):  # it is said when its turn comes
            path = path or find_run(drive, run)
    path = path or find_run(drive, runs[0])
    return make_folder(path if path.is_dir() else path.parent) / "evaluations"


def _for_each(
    given: list[str],
    handle: Callable[[str], None],
    what: str = "clips",
    processes: Processes | None = None,
) -> None:
    """Handle one by one; one that fails does not stop the others, but is reported.

    Of several processes none may leave early: the others wait for it to say what it refused.
    """
    refused: list[tuple[str, type[S2iError]]] = []
    for one in processes.share(given) if processes else given:
        try:
            handle(one)
        except S2iError as error:
            if len(given) == 1 and (processes is None or processes.is_alone):
                raise
            refused.append((one, type(error)))
            _complain(f"{one}: {error}")
    if processes:
        refused = processes.gather(refused)
    if refused:
        is_input = all(issubclass(kind, InputError) for _, kind in refused)
        raise (InputError if is_input else S2iError)(
            f"{len(refused)} of {len(given)} {what} could not be used; see above."
        )


def _print_heard(transcript: Transcript, clip: str | None) -> None:
    sure = f"{transcript.language} {transcript.language_probability:.0%}"
    print(f"Heard     {transcript.text}")
    print(f"          ({clip}, {transcript.audio_s:.1f} s, {sure}, {transcript.model})")
    if transcript.english != transcript.text:
        print(f"English   {transcript.english}")


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(_wrap(f"Note      {note}", indent=10))


def _wrap(text: str, indent: int = 0) -> str:
    """``text`` in lines of at most 100 characters; paths and names are never broken."""
    return textwrap.fill(
        text,
        100,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _complain(message: str, kind: str = "Error") -> None:
    print(_wrap(f"{kind}: {message}"), file=sys.stderr)


def _log_to_stderr() -> None:
    """Our own messages as plain lines; those of the libraries only when something is wrong."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.ERROR)
    logging.getLogger("s2i_lib").setLevel(logging.INFO)


def main() -> int:
    """Run the command line; the exit status says how it went (0, 1 for ours, 2 for the input)."""
    _log_to_stderr()
    try:
        app()
    except S2iError as error:
        if _debug:
            raise
        _complain(str(error))
        return error.exit_status
    except SystemExit as stop:
        if stop.code == 130:  # what Typer makes of Ctrl-C, without a word
            _complain("What was saved so far is kept.", "Stopped")
        raise
    return 0

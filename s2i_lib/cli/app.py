"""What several commands share: their options, and one thing after another."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from s2i_lib.cli.output import complain, speaking_json
from s2i_lib.errors import InputError, S2iError
from s2i_lib.storage.layout import Drive, at_home, open_drive

if TYPE_CHECKING:
    from s2i_lib.distributed import Processes
    from s2i_lib.photos.subject import Subject
    from s2i_lib.speech.transcribe import HearOptions
    from s2i_lib.speech.vocabulary import Vocabulary


# What is told to more than one command. An option of one command stands in its signature.
DriveOption = Annotated[
    Path | None,
    typer.Option("--drive", envvar="S2I_DRIVE", help="Folder of photos, weights and pictures."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line, nothing else.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
ModelOption = Annotated[
    str, typer.Option("--model", help="pocket, sd2.1-base, sd2.1, auto, or a diffusers folder.")
]
SubjectOption = Annotated[
    str | None,
    typer.Option("--subject", help="Subject on the Drive, or NAME:CLASS_NOUN:IDENTIFIER."),
]
StepsOption = Annotated[
    int | None, typer.Option("--steps", help="Denoising steps [default: the model's own].")
]
ClassroomOption = Annotated[
    bool, typer.Option("--classroom", help="Refuse words of a list; have a safety checker look.")
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for pictures [default: creations on the Drive]."),
]


@dataclass(frozen=True)
class Order:
    """What `speak` and `draw` are both told of the pictures."""

    model: ModelOption = "auto"
    run: Annotated[
        str | None,
        typer.Option(
            help="Weights: SUBJECT/RUN, SUBJECT, or the path of a LoRA, checkpoint or folder "
            "[default: a run of who is named, else the newest; none with --model]."
        ),
    ] = None
    subject: SubjectOption = None
    seed: Annotated[int | None, typer.Option(help="The same seed, the same picture.")] = None
    steps: StepsOption = None
    count: Annotated[int, typer.Option(help="Pictures for each prompt.")] = 1
    negative: Annotated[
        str | None,
        typer.Option(
            help='What must not be in the picture; "" for nothing [default: the model\'s own].'
        ),
    ] = None
    guidance: Annotated[
        float | None, typer.Option(help="How closely to follow the prompt; 1 is off.")
    ] = None
    classroom: ClassroomOption = False
    panorama: Annotated[
        bool, typer.Option("--panorama", help="A room to stand in: twice as wide, edges meet.")
    ] = False
    check: Annotated[
        bool,
        typer.Option("--check", help="Have a scorer look, and tell what it sees in alt texts."),
    ] = False
    out: OutOption = None


@dataclass(frozen=True)
class Hearing:
    """What `speak` and `hear` are both told of the recordings."""

    engine: Annotated[str, typer.Option(help="auto, faster-whisper or openai-whisper.")] = "auto"
    whisper: Annotated[str, typer.Option(help="tiny.en ... turbo, or auto for this machine.")] = (
        "auto"
    )
    language: Annotated[
        str | None, typer.Option(help="Language spoken, such as de [default: detected].")
    ] = None
    limit_s: Annotated[
        float, typer.Option(help="Longest recording that is accepted, in seconds.")
    ] = 60.0

    def options(
        self,
        subjects: list[Subject],
        word_times: bool = False,
        vocabulary: Vocabulary | None = None,
    ) -> HearOptions:
        """Return the library's options for this, which listens for the names of ``subjects``."""
        from s2i_lib.speech.transcribe import HearOptions

        return HearOptions(
            engine=self.engine,
            model=self.whisper,
            language=self.language,
            subjects=tuple(subjects),
            vocabulary=vocabulary,
            limit_s=self.limit_s,
            word_times=word_times,
        )


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Return ``function`` as typer takes it: all of its parameters as options and arguments.

    A parameter that is a dataclass becomes an option for each of its fields, and a Drive the option
    --drive. Every command has --json, which `emit` obeys, and --debug, which `main` looks for.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, tuple[type, list[str]]] = {}
    options: dict[str, tuple[Any, Any]] = {}  # name -> type for typer, default
    for name, parameter in inspect.signature(function).parameters.items():
        if hints[name] is Drive:
            options["drive"] = (DriveOption, None)
        elif is_dataclass(hints[name]):
            types = get_type_hints(hints[name], include_extras=True)
            own = {field.name: (types[field.name], field.default) for field in fields(hints[name])}
            groups[name] = (hints[name], list(own))
            options |= own
        else:
            options[name] = (hints[name], parameter.default)
    options |= {"as_json": (JsonOption, False), "debug": (DebugOption, False)}

    @functools.wraps(function)
    def run(*, as_json: bool, debug: bool, **given: Any) -> None:
        given = {name: _at_home(value) for name, value in given.items()}
        for name, (group, names) in groups.items():
            given[name] = group(**{field: given.pop(field) for field in names})
        if "drive" in given:
            given["drive"] = open_drive(given["drive"])
        with speaking_json(as_json):
            function(**given)

    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
        for name, (hint, default) in options.items()
    ]
    vars(run)["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {name: hint for name, (hint, _) in options.items()}
    return run


def _at_home(value: Any) -> Any:
    """Return a path below the home folder whose ~ a shell left, as it does between quotes."""
    if isinstance(value, list):
        return [_at_home(one) for one in value]
    is_path = isinstance(value, Path) or (isinstance(value, str) and value.startswith("~/"))
    return type(value)(at_home(value)) if is_path else value


def for_each(
    given: list[str],
    handle: Callable[[str], None],
    what: str = "clips",
    processes: Processes | None = None,
    unusable: Mapping[str, S2iError] | None = None,
) -> None:
    """Handle one by one; one that fails does not stop the others, but is reported.

    Of several processes none may leave early: the others wait for it to say what it refused. What
    is ``unusable``, as was seen before, is not handled.
    """
    refused: list[tuple[str, type[S2iError]]] = []
    for one in processes.share(given) if processes else given:
        try:
            if unusable and one in unusable:
                raise unusable[one]
            handle(one)
        except S2iError as error:
            if len(given) == 1 and (processes is None or processes.is_alone):
                raise
            refused.append((one, type(error)))
            is_named = re.search(rf"(?<!\w){re.escape(one)}(?!\w)", str(error))
            complain(str(error) if is_named else f"{one}: {error}")
    if processes:
        refused = processes.gather(refused)
    if refused:
        is_input = all(issubclass(kind, InputError) for _, kind in refused)
        raise (InputError if is_input else S2iError)(
            f"{len(refused)} of {len(given)} {what} could not be used; see above."
        )

"""What several commands share: their options, and one thing after another."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from s2i_lib.cli.output import complain
from s2i_lib.errors import InputError, S2iError

if TYPE_CHECKING:
    from s2i_lib.distributed import Processes


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
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@dataclass(frozen=True)
class Order:
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


def takes_order(command: Callable[..., None]) -> Callable[..., None]:
    """Give typer a command with the options of `Order` in place of its parameter ``order``."""
    hints = get_type_hints(command, include_extras=True)
    hints |= get_type_hints(Order, include_extras=True)
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "order"]
    shared = [inspect.Parameter(f.name, own[0].KEYWORD_ONLY, default=f.default)
              for f in fields(Order)]  # fmt: skip

    @functools.wraps(command)
    def run(**given: Any) -> None:
        order = Order(**{field.name: given.pop(field.name) for field in fields(Order)})
        command(**given, order=order)

    parameters = [p.replace(annotation=hints[p.name]) for p in (*own, *shared)]
    vars(run)["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


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
            complain(f"{one}: {error}")
    if processes:
        refused = processes.gather(refused)
    if refused:
        is_input = all(issubclass(kind, InputError) for _, kind in refused)
        raise (InputError if is_input else S2iError)(
            f"{len(refused)} of {len(given)} {what} could not be used; see above."
        )

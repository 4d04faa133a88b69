"""Pictures that were made: again, side by side, or deleted with all of a subject."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from tqdm.auto import tqdm

from s2i_lib.cli.app import DebugOption, DriveOption, JsonOption, OutOption
from s2i_lib.cli.output import complain
from s2i_lib.drawing.gallery import same_pixels, save
from s2i_lib.storage.files import make_folder
from s2i_lib.storage.layout import open_drive


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
        complain(doubt, "Note")
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


def forget(
    name: Annotated[str, typer.Argument(help="The subject's name.")],
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    drive: DriveOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Delete everything that is kept of a subject, after listing it."""
    from s2i_lib import privacy

    place = open_drive(drive)
    traces, doubts = privacy.find_traces(place, name), privacy.find_doubts(place, name)
    if not as_json:
        for trace in traces:
            print(f"{trace.what:26} {trace.size_bytes / 1e6:8.1f} MB  {trace.path}")
        yes = yes or typer.confirm(f"Delete all of this for good, all of {name}?")
    if yes:
        privacy.forget(traces, report=complain)
    if as_json:
        for trace in traces:
            print(json.dumps({"what": trace.what, "path": str(trace.path), "deleted": yes}))
    for doubt in doubts:
        complain(f"{doubt.path}: {doubt.why}", "Cannot tell whose")
    if not yes:
        complain("Nothing was deleted. Answer y, or give --yes, to delete what is listed.")
        return
    unsure = f", as far as can be told: look at the {len(doubts)} named above" if doubts else ""
    print(f"Nothing is kept of {name} any more{unsure}.", file=sys.stderr)

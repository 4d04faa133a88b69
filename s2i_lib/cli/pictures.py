"""Pictures that were made: again, side by side, or deleted with all of a subject."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm.auto import tqdm

from s2i_lib.cli.app import ClassroomOption, OutOption, for_each
from s2i_lib.cli.output import agree, complain, emit, wrap
from s2i_lib.errors import InputError
from s2i_lib.storage.files import make_folder, write_new
from s2i_lib.storage.layout import Drive

if TYPE_CHECKING:
    from s2i_lib.drawing.records import Picture
    from s2i_lib.drawing.safety import Classroom
    from s2i_lib.models.loading import Model


def redo(
    picture: Annotated[Path, typer.Argument(help="A PNG that this program made.")],
    drive: Drive,
    model: Annotated[
        str | None, typer.Option(help="Folder of its model, where that is none of ours.")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Its weights, where they are no run on the Drive.")
    ] = None,
    conversation: Annotated[
        bool, typer.Option("--conversation", help="Each picture of its conversation, too.")
    ] = False,
    classroom: ClassroomOption = False,
    out: OutOption = None,
) -> None:
    """Make the same picture again, from the record inside it."""
    from s2i_lib.drawing import records
    from s2i_lib.drawing.gallery import from_drive, read_record, same_pixels, save
    from s2i_lib.drawing.safety import Classroom
    from s2i_lib.models.loading import load

    record = from_drive(read_record(picture), drive.root)
    rules = Classroom(drive) if classroom else None
    folder = make_folder(out or drive.creations)
    steps = records.steps_of(record)[:-1] if conversation else []
    taken = None
    for step in [*steps, record]:
        named = records.weights_named_in(step, drive, model, run)
        if named != taken:  # a change may have taken another subject's run
            loaded, taken = load(named[0], drive=drive, run=named[1]), named
        doubt = records.compare_weights(loaded, step)
        if doubt:
            complain(doubt, "Note")
        path = save(_draw_again(loaded, step, rules), folder, root=drive.root)
        if step is not record:
            emit({"said": step["said"], "picture": str(path)},
                 f"Said      {step['said']}", f"Picture   {path}")  # fmt: skip
    is_same = same_pixels(picture, path)
    why_not = "other weights" if doubt else "another machine or other versions"
    emit(
        {"picture": str(path), "is_same": is_same, "weights": doubt or "same"},
        f"Picture   {path}",
        f"The same  {'yes, bit for bit' if is_same else f'no: {why_not}'}",
    )


def _draw_again(model: Model, record: dict[str, Any], rules: Classroom | None) -> Picture:
    from s2i_lib.drawing.draw import redo

    with tqdm(total=record.get("steps"), desc="Drawing", leave=False) as bar:
        return redo(model, record, on_step=lambda _: bar.update(), classroom=rules)


def gallery(
    drive: Drive,
    subject: Annotated[str | None, typer.Option(help="Only pictures of this subject.")] = None,
    prompt: Annotated[str, typer.Option(help="Only those whose prompt has these words.")] = "",
    grid: Annotated[
        Path | None, typer.Option(help="PNG to write: all of them side by side.")
    ] = None,
    share: Annotated[
        Path | None, typer.Option(help="Folder for copies to give away, without their records.")
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(help="Your C2PA certificate chain (PEM), to sign the copies of --share with."),
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
) -> None:
    """List the pictures that were made, the oldest first, and put them side by side."""
    from s2i_lib.drawing.credentials import Signer
    from s2i_lib.drawing.gallery import grid_png, list_pictures, read_record
    from s2i_lib.drawing.gallery import share as share_pictures

    signer = Signer(certificate, key) if certificate and key and share else None
    if signer is None and (certificate or key):
        raise InputError("To sign, give all of --certificate, --key and, where to, --share FOLDER.")
    if grid and not grid.suffix and not grid.is_dir():
        grid = grid.with_suffix(".png")
    if grid and (grid.suffix.lower() != ".png" or grid.is_dir()):
        raise InputError(f"{grid} cannot be the grid, which is a PNG. Name a file, as grid.png.")
    pictures = list_pictures(drive.creations, subject=subject, prompt=prompt)
    for folder in [share, grid and grid.parent] if pictures else []:
        if folder:
            make_folder(folder)
    for path in pictures:
        record = read_record(path)
        emit(
            {"picture": str(path), **record},
            f"Picture   {path}",
            f"          {record['prompt']} (seed {record['seed']})",
        )
    if not pictures:
        emit(None, "There are no such pictures yet.")
        if grid or share:
            complain(
                f"Nothing was written, for {drive.creations} has no such pictures. Draw some, or "
                "choose others with --subject and --prompt.",
                "Note",
            )
    if pictures and share:
        for path in share_pictures(pictures, share, signer):
            emit({"shared": str(path)}, f"Shared    {path}")
    if pictures and grid:
        sheet = write_new(grid, grid_png(pictures))
        emit({"grid": str(sheet)}, f"Grid      {sheet}")


def ar(
    pictures: Annotated[list[Path], typer.Argument(help="PNGs that this program saved or shared.")],
    drive: Drive,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to [default: beside each picture].")
    ] = None,
    relief: Annotated[
        bool, typer.Option("--relief", help="Also an STL relief of 60 mm, for a 3D printer.")
    ] = False,
    stereo: Annotated[
        bool, typer.Option("--stereo", help="Also a pair of views for a viewer with two lenses.")
    ] = False,
    depth: Annotated[
        bool,
        typer.Option(
            "--depth",
            help="A relief of the whole picture by its depth (a network of 99 MB), no figure.",
        ),
    ] = False,
    address: Annotated[
        str, typer.Option(help="Where the page will lie on the web, for a QR code on it.")
    ] = "",
) -> None:
    """Make figures of pictures, to hold in the hand: GLB, USDZ, and a page that shows them."""
    from s2i_lib.ar.hold import hold

    def handle(name: str) -> None:
        path = Path(name)
        folder = out or path.parent
        if out or path.exists():
            make_folder(folder)  # before anything slow
        held = hold(path, drive=drive, is_whole=depth)
        written = held.write(
            folder, path.stem, address=address, with_relief=relief, with_stereo=stereo
        )
        emit(
            {
                "picture": name,
                "kind": "figure" if held.depth is None else "relief",
                "alt": held.alt,
                "files": [str(one) for one in written],
            },
            *(f"Written   {one}" for one in written),
        )

    for_each([str(picture) for picture in pictures], handle, what="pictures")


def made_by(
    files: Annotated[
        list[Path], typer.Argument(help="Pictures, pages, GLBs or USDZs, of this program or not.")
    ],
) -> None:
    """Say what a file says of how it was made, by this program or by others."""
    from s2i_lib.drawing.made_by import read_statements

    def handle(name: str) -> None:
        found = read_statements(Path(name))
        is_by_machine = any(one.is_of_machine for one in found)
        verdict = "It says that a machine made it, or part of it." if is_by_machine else (
            "It does not say that a machine made it. That proves nothing: messengers, screenshots "
            "and other programs take such marks away."
        )  # fmt: skip
        emit(
            {"file": name, "says_machine": is_by_machine, "says": [one._asdict() for one in found]},
            f"File      {name}",
            *(wrap(f"{one.where:9} {one.what}: {one.said}", indent=10) for one in found),
            wrap(f"So        {verdict}", indent=10),
        )

    for_each([str(file) for file in files], handle, what="files")


def forget(
    name: Annotated[str, typer.Argument(help="The subject's name.")],
    drive: Drive,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
) -> None:
    """Delete everything that is kept of a subject, after listing it."""
    from s2i_lib import privacy

    traces, doubts = privacy.find_traces(drive, name), privacy.find_doubts(drive, name)
    for trace in traces:
        emit(None, f"{trace.what:26} {trace.size_bytes / 1e6:8.1f} MB  {trace.path}")
    yes = yes or agree(f"Delete all of this for good, all of {name}?")
    if yes:
        privacy.forget(traces, report=complain)
    for trace in traces:
        emit({"what": trace.what, "path": str(trace.path), "deleted": yes})
    for doubt in doubts:
        emit({"doubt": str(doubt.path), "why": doubt.why})
        complain(f"{doubt.path}: {doubt.why}", "Cannot tell whose")
    if not yes:
        complain("Nothing was deleted. Answer y, or give --yes, to delete what is listed.")
        return
    unsure = f", as far as can be told: look at the {len(doubts)} named above" if doubts else ""
    print(f"Nothing is kept of {name} any more{unsure}.", file=sys.stderr)

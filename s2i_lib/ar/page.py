"""Pages that show a figure or a room without a network: everything is inside one HTML file."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from s2i_lib.drawing.gallery import for_others, read_record, shared_png
from s2i_lib.drawing.marks import Mark, mark_of_record
from s2i_lib.drawing.pages import fill_in
from s2i_lib.drawing.panorama import WIDTHS
from s2i_lib.drawing.told import alt_text
from s2i_lib.errors import InputError, S2iError
from s2i_lib.photos.own_png import open_png
from s2i_lib.storage.files import data_uri, sha256_of

FIGURE, ROOM = (Path(__file__).with_name(f"{name}_page.html") for name in ("figure", "room"))
PROGRAM = Path(__file__).with_name("room.js")
# @google/model-viewer 4.4.0 of the npm registry, dist/model-viewer.min.js (Apache-2.0).
VIEWER = Path(__file__).with_name("model-viewer.min.js")
VIEWER_SHA256 = "18b2e711035aa4705ee281530a55dc2338ff05eed3d70ae16d54105282a75ed5"


@functools.cache
def read_viewer() -> str:
    """Return the program that shows the figure, as it was published.

    Raises
    ------
    S2iError
        When it is missing or another one.
    """
    if not VIEWER.is_file() or sha256_of(VIEWER) != VIEWER_SHA256:
        raise S2iError(
            f"The program that shows figures, {VIEWER}, is missing, or not the one that was "
            "published. Install this package again, or get the repository again."
        )
    return VIEWER.read_text(encoding="utf-8")


def qr_svg(address: str) -> str:
    """Return a QR code of an address as SVG for a page.

    Raises
    ------
    InputError
        When it is no address of the web, or too long for a code.
    """
    import segno

    if not address.startswith(("https://", "http://")):
        raise InputError(
            f"{address!r} is no address of the web. Give where the page will lie, such as "
            "https://example.org/cat.html; phones place figures by https alone."
        )
    try:
        code = segno.make(address, micro=False)
    except segno.DataOverflowError as error:
        raise InputError(
            f"The address has {len(address)} letters, and a QR code holds 2,900 at most. "
            "Give a shorter one."
        ) from error
    return code.svg_inline(omitsize=True, svgclass="qr", title=f"QR code of {address}")


def figure_page(
    glb: bytes, mark: Mark, *, title: str, alt: str, stem: str, address: str = "",
    record: dict[str, Any] | None = None, is_relief: bool = False,
) -> str:  # fmt: skip
    """Return the page of a figure, or of a relief of a whole picture, as HTML.

    Parameters
    ----------
    stem
        Name of the GLB and the USDZ beside the page, without their ending.
    address
        Where the page is going to lie on the web, for its QR code.
    record
        How the picture was made, to show on the page.
    """
    return _fill_in(
        FIGURE,
        mark,
        title=title,
        alt=alt,
        stem=stem,
        glb=data_uri("model/gltf-binary", glb),
        viewer=read_viewer(),
        address=address,
        record=record,
        is_relief=is_relief,
    )


def room_page(path: Path, *, address: str = "") -> str:
    """Return the page of a room to stand in, as HTML, of a panorama that this program saved.

    Raises
    ------
    InputError
        When it has no record, or is not twice as wide as high.
    """
    record, image = read_record(path), open_png(path)
    if image.width != WIDTHS * image.height:
        raise InputError(
            f"{path} has {image.width} x {image.height} pixels, and a panorama is twice as wide as "
            "high. Draw one with --panorama."
        )
    asked = str(record["prompt"])
    return _fill_in(
        ROOM,
        mark_of_record(record),
        title=asked[:1].upper() + asked[1:],
        alt=alt_text(record),
        picture=data_uri("image/png", shared_png(path)),
        program=PROGRAM.read_text(encoding="utf-8"),
        address=address,
        record=for_others(record),
    )


def _fill_in(template: Path, mark: Mark, *, address: str, **said: Any) -> str:
    """Return a page of a template, with its mark, and a QR code where it has an address."""
    qr = qr_svg(address) if address else ""
    return fill_in(template, mark, address=address, qr=qr, **said)

"""A picture in the hand: from a PNG to a figure, or a relief of all of it, as files and a page."""

from __future__ import annotations

import html
import json
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.ar import files, relief
from s2i_lib.ar.depth import estimate_depth
from s2i_lib.ar.page import figure_page
from s2i_lib.ar.solid import Solid, inflate
from s2i_lib.drawing.gallery import for_others, read_record
from s2i_lib.drawing.made_by import read_statements
from s2i_lib.drawing.marks import Mark, encode_marked, mark_of_record
from s2i_lib.drawing.records import Picture
from s2i_lib.drawing.told import alt_text
from s2i_lib.errors import InputError, S2iError
from s2i_lib.photos.mask import Mask, find_mask
from s2i_lib.photos.own_png import open_png
from s2i_lib.storage.files import STEREO, free_path, make_folder, write_file
from s2i_lib.storage.layout import Drive, open_drive

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

log = logging.getLogger(__name__)

MOST_PX = 4096  # a side: eight times what the largest of our models draws
FRAME = (
    '<iframe title="{title}" width="100%" height="640" style="border: 0" srcdoc="{page}"></iframe>'
)


@dataclass(frozen=True)
class Held:
    """A figure of a picture, or a relief of it. In a notebook it shows itself, spinning."""

    image: Image
    mask: Mask
    mark: Mark
    title: str
    alt: str
    record: dict[str, Any] | None = None
    """How the picture was made; None of one that was given away without."""
    depth: np.ndarray | None = None
    """How near each part is, 0 to 1, of a relief of the whole picture; None: a figure."""

    @cached_property
    def solid(self) -> Solid:
        """The figure, or the relief, as a closed surface with the picture on it."""
        if self.depth is not None:
            return relief.to_solid(self.image, self.depth)
        return inflate(self.image, self.mask.alpha)

    @cached_property
    def glb(self) -> bytes:
        """The figure as binary glTF."""
        return files.to_glb(self.solid, self.mark)

    def page(self, stem: str = "figure", address: str = "") -> str:
        """Return the page that shows the figure, as HTML; see `figure_page`."""
        return figure_page(
            self.glb, self.mark, title=self.title, alt=self.alt, stem=stem, address=address,
            record=for_others(self.record) if self.record else None,
            is_relief=self.depth is not None,
        )  # fmt: skip

    def _repr_html_(self) -> str:
        return FRAME.format(title=html.escape(self.title), page=html.escape(self.page()))

    def write(
        self, folder: Path, stem: str, *, address: str = "", with_relief: bool = False,
        with_stereo: bool = False,
    ) -> list[Path]:  # fmt: skip
        """Write GLB, USDZ and page, of one name, and where wanted an STL and two views.

        The record lies beside them, so that who forgets a subject finds them. Nothing is written
        over: files of the same name get a number.

        Raises
        ------
        S2iError
            When the disk does not take them.
        """
        written = {
            ".glb": self.glb,
            ".usdz": files.to_usdz(self.solid, self.mark, self.title),
        }
        if with_relief or with_stereo:
            edge_mm, heights = relief.EDGE_MM, self.depth
            if heights is None:
                heights = relief.figure_heights(self.mask.alpha)
            else:
                edge_mm, heights = 0.0, relief.resized(heights, relief.POINTS)
            if with_relief:
                written[".stl"] = files.to_stl(relief.to_relief(heights, edge_mm))
            if with_stereo:
                pair = relief.stereo_pair(self.image, heights)
                written[STEREO] = encode_marked(pair, "JPEG", self.mark, quality=92)
        stem = free_path(make_folder(folder) / f"{stem}.html", *written).stem
        written[".html"] = self.page(stem, address).encode()
        if self.record and not (folder / f"{stem}.json").exists():
            text = json.dumps(self.record, ensure_ascii=False, indent=1) + "\n"
            written = {".json": text.encode()} | written
        return [write_file(folder / (stem + end), data) for end, data in written.items()]


def hold(
    picture: Path | str | Picture, *, drive: Drive | None = None, is_whole: bool = False
) -> Held:
    """Return what to hold of a picture that a machine drew: a file of ours, or a `Picture`.

    A figure of what stands out in it. Where nothing does, a relief of the whole picture, by a
    network that sees depth, if that is on the Drive or the hub can be reached.

    Parameters
    ----------
    drive
        Where that network is kept; None: the one that `open_drive` finds.
    is_whole
        Whether a relief is wanted though something stands out. Without the network it is a figure
        all the same, and that is said.

    Examples
    --------
    >>> s2i.hold(wish.pictures[0])  # spins in a notebook
    >>> s2i.hold("cat.png").write(Path("figures"), "cat")

    Raises
    ------
    InputError
        When it is no picture of ours, too large, transparent, or there is neither a figure nor a
        relief of it.
    """
    record: dict[str, Any] | None
    mark: Mark | None
    if isinstance(picture, Picture):
        name, image, record, mark = "The picture", picture.image, picture.record, None
    else:
        path = Path(picture)
        name, image = str(path), open_png(path)
        record, mark = _what_is_said(path)
    _check(image, name)
    mask = find_mask(image := image.convert("RGB"))
    depth = _depth_of(image, mask, name, drive) if is_whole or mask.doubt else None
    alt = alt_text(record or {})
    asked = str(record["prompt"]) if record else "a picture that a machine drew"
    title = asked[:1].upper() + asked[1:]
    return Held(image, mask, mark or mark_of_record(record or {}), title, alt, record, depth)


def _depth_of(image: Image, mask: Mask, name: str, drive: Drive | None) -> np.ndarray | None:
    """Return how near each part is; None where that cannot be known and a figure can be made."""
    try:
        return estimate_depth(image, drive or open_drive())
    except S2iError as error:
        if mask.doubt:
            raise InputError(
                f"No figure can be cut out of {name}: {mask.doubt}. Draw another one, or ask for "
                f'it "on a white background". Nor is there a relief of the whole picture: {error}'
            ) from error
        log.warning("There is a figure of %s and no relief of all of it: %s", name, error)
        return None


def _what_is_said(path: Path) -> tuple[dict[str, Any] | None, Mark | None]:
    """Return the record or the mark of a PNG; a stranger's is refused, for it may be a photo."""
    said = read_statements(path)
    if any(one.what == "s2i" for one in said):
        return read_record(path), None
    if any(one.is_of_machine for one in said):  # given away, or drawn by another machine
        model = next((one.said for one in said if (one.where, one.what) == ("XMP", "model")), "")
        return None, Mark(model, is_composite=any("composite" in one.said for one in said))
    raise InputError(
        f"{path} does not say that a machine drew it, so its figure could not truly be marked as "
        "drawn. Give a PNG that this program saved, or a copy that it shared."
    )


def _check(image: Image, name: str) -> None:
    if max(image.size) > MOST_PX:
        raise InputError(
            f"{name} has {image.width:,} x {image.height:,} pixels, and a figure is made of at "
            f"most {MOST_PX:,} a side. Make it smaller first."
        )
    if "A" in image.getbands() and image.getchannel("A").getextrema() != (255, 255):
        raise InputError(
            f"{name} is transparent, and no picture of ours is: somebody has changed it. Lay it "
            "over a ground of one colour first, or give the picture as it was saved."
        )

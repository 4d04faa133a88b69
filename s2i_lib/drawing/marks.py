"""The mark: every picture, page and model that a machine drew says so, for machines to read.

It says how the thing came to be in the words of the IPTC (`digitalSourceType`), which tool wrote
it and which model drew it, and never whom it shows. Pictures carry it as XMP, pages as `<meta>`,
GLB and USDZ in what they say of themselves. `s2i_lib.drawing.made_by` reads it back. The European
AI Act asks for it (Regulation (EU) 2024/1689, article 50(2)). A messenger that compresses a picture
again, and a screenshot, take it away.

There is no watermark in the pixels beside it: see docs/marks.md.

Source: IPTC Photo Metadata Standard 2025.1; https://cv.iptc.org/newscodes/digitalsourcetype/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

from s2i_lib import __version__
from s2i_lib.models.registry import REGISTRY
from s2i_lib.photos.reading import encode_image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL.Image import Image

    from s2i_lib.models.loading import Model

TOOL = "s2i"
SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
DRAWN, COMPOSITE = "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"
PNG_XMP = "XML:com.adobe.xmp"  # the PNG text chunk that holds XMP
# Namespaces of XMP, as their makers abbreviate them.
IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
XMP = "http://ns.adobe.com/xap/1.0/"


@dataclass(frozen=True)
class Mark:
    """How something came to be."""

    model: str = ""
    """Name in the registry, with ", fine-tuned" where it was; empty where nobody knows."""
    is_composite: bool = False
    """Whether part of it is a photo's: its cut-out, or a photo beside what was drawn."""

    @property
    def source_type(self) -> str:
        """The IPTC's digital source type."""
        return COMPOSITE if self.is_composite else DRAWN

    @property
    def tool(self) -> str:
        """Name and version of what wrote the file."""
        return f"{TOOL} {__version__}"

    def to_json(self) -> dict[str, str]:
        """Return the mark as GLB and USDZ carry it."""
        said = {"digitalSourceType": SOURCES + self.source_type, "creatorTool": self.tool}
        return said | ({"aiSystemUsed": self.model} if self.model else {})

    def xmp(self) -> bytes:
        """Return the mark as an XMP packet."""
        fields = {
            "Iptc4xmpExt:DigitalSourceType": SOURCES + self.source_type,
            "xmp:CreatorTool": self.tool,
        }
        if self.model:
            fields["Iptc4xmpExt:AISystemUsed"] = self.model
        said = " ".join(f"{name}={quoteattr(value)}" for name, value in fields.items())
        return (
            '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
            '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
            '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{IPTC}" xmlns:xmp="{XMP}" {said}/>'
            '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
        ).encode()

    def html(self) -> str:
        """Return the mark as tags for the head of a page."""
        names = {"digitalSourceType": SOURCES + self.source_type, "generator": self.tool}
        if self.model:
            names["aiSystemUsed"] = self.model
        return "".join(
            f"<meta name={quoteattr(name)} content={quoteattr(value)}>\n"
            for name, value in names.items()
        )


def mark_of_record(record: Mapping[str, Any]) -> Mark:
    """Return the mark of a picture for its record. Names that are not ours are left out of it."""
    return Mark(_name(record.get("model"), is_tuned=bool(record.get("run"))))


def mark_of_model(model: Model, *, is_tuned: bool = False, is_composite: bool = False) -> Mark:
    """Return the mark of what ``model`` draws now; a model in training is tuned."""
    return Mark(_name(model.base.name, is_tuned=is_tuned or bool(model.run)), is_composite)


def _name(model: Any, *, is_tuned: bool) -> str:
    """Name a model of the registry: others' names are of folders, which may name somebody."""
    if not isinstance(model, str) or model not in REGISTRY:
        return ""
    return f"{model}, fine-tuned" if is_tuned else model


def encode_marked(
    image: Image, file_format: str, mark: Mark, *, text: Mapping[str, str] | None = None,
    **options: Any,
) -> bytes:  # fmt: skip
    """Return a picture as the bytes of a PNG, JPEG or WebP that carries its mark.

    Parameters
    ----------
    text
        Further texts of a PNG.
    **options
        Pillow's for the format, such as ``quality``.
    """
    if file_format != "PNG":
        return encode_image(image, file_format, xmp=mark.xmp(), **options)
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt(PNG_XMP, mark.xmp().decode())
    for key, value in (text or {}).items():
        info.add_itxt(key, value)
    return encode_image(image, "PNG", pnginfo=info, **options)

"""What a file says of how it was made: our marks, and those of others.

A file may be anybody's, so each is opened as nothing but what it is, within limits; and what it
says may be untrue, unless a signature vouches for it. A file that says nothing proves nothing.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

from s2i_lib.drawing.credentials import has_manifest, read_manifest
from s2i_lib.drawing.marks import IPTC, XMP
from s2i_lib.errors import InputError, first_line
from s2i_lib.photos.reading import open_to_read_texts, read_bytes
from s2i_lib.storage.json_file import parse_object

if TYPE_CHECKING:
    from PIL.Image import Image

# Of the IPTC's and C2PA's types: trainedAlgorithmicMedia, compositeWithTrainedAlgorithmicMedia,
# algorithmicMedia, compositeSynthetic.
MADE_BY_MACHINE = re.compile("algorithmicMedia|compositeSynthetic", re.IGNORECASE)
MOST_LETTERS = 400  # of one statement: a workflow of another tool has a hundred thousand
# PNG texts that other tools write, by their key.
TOOLS = {
    "s2i": "s2i: the record that it can be made again from",
    "parameters": "AUTOMATIC1111 or Forge: how it was sampled",
    "workflow": "ComfyUI: its workflow",
    "prompt": "ComfyUI: what was asked of it",
    "sd-metadata": "InvokeAI",
    "invokeai_metadata": "InvokeAI",
    "invokeai_graph": "InvokeAI: its graph",
    "Dream": "InvokeAI",
    "dream": "Stable Diffusion of 2022: its command",
    "generation_data": "TensorArt",
    "fooocus_scheme": "Fooocus",
    "Software": "the program that wrote it",
    "Source": "where it came from",
}
EXIF_SOFTWARE, EXIF_IFD, USER_COMMENT = 0x0131, 0x8769, 0x9286


class Statement(NamedTuple):
    """One thing that a file says of itself."""

    where: str
    """Place in the file, such as "XMP", "C2PA" or "PNG text"."""
    what: str
    said: str

    @property
    def is_of_machine(self) -> bool:
        """Whether it says that a machine made the picture, or part of it."""
        is_source = self.what == "digital source type"
        if is_source or self.where == "C2PA":
            return bool(MADE_BY_MACHINE.search(self.said))
        return self.where == "PNG text" and self.what not in ("Software", "Source")


def read_statements(path: Path) -> list[Statement]:
    """Return what a picture, page, GLB or USDZ says of how it was made; nothing is no proof.

    Raises
    ------
    InputError
        When it cannot be opened, or is of another kind.
    """
    if not path.exists():
        raise InputError(f"There is no file {path}. Check the path.")
    from PIL import UnidentifiedImageError

    data = read_bytes(path)
    readers: tuple[tuple[bool, Callable[[bytes], Iterator[Statement]]], ...] = (
        (data.startswith(b"glTF"), _in_glb),
        (data.startswith(b"PK\x03\x04"), _in_usdz),
        (path.suffix.lower() in (".html", ".htm"), _in_page),
    )
    read = next((reader for is_its, reader in readers if is_its), _in_picture)
    try:
        return list(read(data))
    except InputError:
        raise
    except Exception as error:  # decoders raise anything for files that are odd on purpose
        # Whose own words for that name an object in memory.
        is_other = isinstance(error, UnidentifiedImageError)
        reason = "it is of another kind, or its beginning is damaged" if is_other else (
            first_line(error)
        )  # fmt: skip
        raise InputError(
            f"{path} cannot be read ({reason}). Give a picture (PNG, JPEG, WebP, HEIC, "
            "AVIF, TIFF), a page (HTML), a GLB or a USDZ."
        ) from error


def _in_picture(data: bytes) -> Iterator[Statement]:
    from PIL import Image

    image = open_to_read_texts(data)
    if packet := image.info.get("xmp"):
        yield from _in_xmp(packet if isinstance(packet, bytes) else str(packet).encode())
    yield from _in_credentials(data, Image.MIME.get(image.format or "", ""))
    for key, value in image.info.items():
        if image.format == "PNG" and key in TOOLS and isinstance(value, str):
            yield Statement("PNG text", key, f"{TOOLS[key]}: {_short(value)}")
    yield from _in_exif(image)


def _in_exif(image: Image) -> Iterator[Statement]:
    exif = image.getexif()
    if software := exif.get(EXIF_SOFTWARE):
        yield Statement("EXIF", "Software", _short(str(software)))
    comment = exif.get_ifd(EXIF_IFD).get(USER_COMMENT)
    if isinstance(comment, bytes) and len(comment) > 8:  # an encoding's name of 8 letters first
        wide = comment.startswith(b"UNICODE")
        text = comment[8:].decode("utf-16-be" if wide else "utf-8", errors="replace")
        yield Statement("EXIF", "UserComment", _short(text))


def _in_xmp(packet: bytes) -> Iterator[Statement]:
    """Find the fields in which XMP says what made a picture, in either of its spellings."""
    start, end = packet.find(b"<x:xmpmeta"), packet.rfind(b"</x:xmpmeta>")
    text = packet[start : end + len(b"</x:xmpmeta>")] if 0 <= start < end else packet.strip(b"\0 ")
    if b"<!" in text:  # a document type could make a small file a large one
        return
    names = {
        f"{{{IPTC}}}DigitalSourceType": "digital source type",
        f"{{{IPTC}}}digitalSourceType": "digital source type",
        f"{{{IPTC}}}AISystemUsed": "model",
        f"{{{IPTC}}}AISystemVersionUsed": "version of the model",
        f"{{{XMP}}}CreatorTool": "tool",
    }
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        yield Statement("XMP", "damaged", first_line(error))
        return
    for node in root.iter():
        said = {**node.attrib, node.tag: node.text or next(iter(node.attrib.values()), "")}
        for name, what in names.items():
            if value := said.get(name, "").strip():
                yield Statement("XMP", what, _short(value))


def _in_credentials(data: bytes, media_type: str) -> Iterator[Statement]:
    if not has_manifest(data):
        return
    try:
        manifest = read_manifest(data, media_type) or {}
    except InputError as error:
        yield Statement("C2PA", "manifest", str(error))
        return
    signature = manifest.get("signature_info") or {}
    by = signature.get("common_name") or signature.get("issuer") or "nobody who is named"
    yield Statement("C2PA", "signature", f"{manifest['state'].lower()}, by {by}")
    for one in manifest.get("claim_generator_info") or []:
        yield Statement("C2PA", "tool", _short(f"{one.get('name')} {one.get('version', '')}"))
    for assertion in manifest.get("assertions") or []:
        data_of = assertion.get("data")
        for action in data_of.get("actions", []) if isinstance(data_of, dict) else []:
            kind = str(action.get("digitalSourceType", ""))
            yield Statement("C2PA", "action", _short(f"{action.get('action')} {kind}".strip()))


def _in_json(where: str, said: Any) -> Iterator[Statement]:
    names = {
        "digitalSourceType": "digital source type",
        "aiSystemUsed": "model",
        "creatorTool": "tool",
        "generator": "tool",
    }
    for key, value in said.items() if isinstance(said, dict) else ():
        if key in names and isinstance(value, str):
            yield Statement(where, names[key], _short(value))


def _in_glb(data: bytes) -> Iterator[Statement]:
    """Read ``asset`` of the JSON chunk (glTF 2.0, section 4.4.3)."""
    length, kind = struct.unpack_from("<I4s", data, 12)
    if kind != b"JSON":
        raise InputError("This GLB does not begin with JSON, so it says nothing of itself.")
    asset = parse_object(data[20 : 20 + length]).get("asset")
    yield from _in_json("GLB", asset)
    yield from _in_json("GLB", asset.get("extras") if isinstance(asset, dict) else None)


def _in_usdz(data: bytes) -> Iterator[Statement]:
    """Read ``customLayerData`` of the first layer, where that is text; USDZ stores without zip."""
    archive = zipfile.ZipFile(io.BytesIO(data))
    first = archive.infolist()[0]
    if first.compress_type != zipfile.ZIP_STORED:
        raise InputError("This is a zip whose files are compressed, which no USDZ has.")
    head = archive.read(first)[: 1 << 16].decode(errors="replace")
    found = dict(re.findall(r'string (\w+) = "((?:[^"\\\n]|\\.)*)"', head))
    yield from _in_json("USDZ", {key: re.sub(r"\\(.)", r"\1", text) for key, text in found.items()})


def _in_page(data: bytes) -> Iterator[Statement]:
    class Head(HTMLParser):
        found: dict[str, str] = {}  # noqa: RUF012  (of this one page)

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            said = dict(attrs)
            if tag == "meta" and said.get("name"):
                self.found.setdefault(str(said["name"]), said.get("content") or "")

    head = Head()
    head.feed(data.partition(b"</head>")[0].decode(errors="replace"))
    yield from _in_json("page", head.found)


def _short(text: str) -> str:
    """Return a text in one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= MOST_LETTERS else line[:MOST_LETTERS] + " ..."

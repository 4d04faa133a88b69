"""Tell what colours a photo's numbers mean, wherever its file says so, and make sRGB of them."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from PIL.ImageCms import ImageCmsTransform

    Curve = Callable[[np.ndarray], np.ndarray]

# x and y of white, red, green and blue, by their number in ITU-T H.273, table 2, which HEIF, AVIF
# (nclx) and PNG (cICP) use.
D65 = (0.3127, 0.3290)
PRIMARIES = {
    1: (*D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060),  # BT.709: those of sRGB
    4: (0.310, 0.316, 0.670, 0.330, 0.210, 0.710, 0.140, 0.080),  # NTSC of 1953
    5: (*D65, 0.640, 0.330, 0.290, 0.600, 0.150, 0.060),  # PAL
    6: (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),  # SMPTE 170M
    7: (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),  # BT.2020
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # P3 of the cinema
    12: (*D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # Display P3
    22: (*D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
UNSPECIFIED = 2
PAPER_WHITE_NITS = 203  # ITU-R BT.2408: what HDR pictures show a white sheet with
MAX_ERROR = 2  # of 255: a profile that changes no colour by more is sRGB's

EXIF_IFD, INTEROP_IFD = 0x8769, 0xA005
COLOR_SPACE, INTEROP_INDEX, GAMMA = 0xA001, 0x0001, 0xA500
WHITE_POINT, PRIMARY_CHROMATICITIES = 0x013E, 0x013F
SRGB_SPACE, ADOBE_SPACE = 1, 2  # of COLOR_SPACE; what some cameras write beside the standard


@dataclass(frozen=True)
class Encoding:
    """What the numbers of an RGB picture mean."""

    primaries: tuple[float, ...] = PRIMARIES[1]
    """Chromaticities: x and y of white, red, green, blue."""
    curve: float | str = "sRGB"
    """Exponent that makes light of the numbers, or "sRGB", "PQ", "HLG"."""


# Adobe RGB (1998), section 4.3: its exponent is 2 51/256. Exif calls it DCF option file, R03.
ADOBE_RGB = Encoding((*D65, 0.640, 0.330, 0.210, 0.710, 0.150, 0.060), 563 / 256)


def to_srgb_colours(image: Image, profile: bytes) -> Image | None:
    """Return ``image`` in sRGB, or None where its profile is that of sRGB or cannot be used.

    Its primaries and curves decide; what a profile is called does not.
    """
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[source.profile.xcolor_space.strip()]
        if mode != image.mode:
            if mode != "RGB" or image.mode != "L":
                return None
            image = image.convert("RGB")
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode != "CMYK" and _changes_nothing(transform, mode):
            return None
        return ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError):
        return None


def _changes_nothing(transform: ImageCmsTransform, mode: str) -> bool:
    """Try a transform on colours from all over the cube."""
    import numpy as np
    from PIL import Image, ImageCms

    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(27, 27, 3)
    tried = Image.fromarray(cube).convert(mode)
    given = np.asarray(tried.convert("RGB"), int)
    found = np.asarray(ImageCms.applyTransform(tried, transform), int)
    return bool(np.abs(found - given).max() <= MAX_ERROR)


def profile_told(image: Image, data: bytes) -> bytes | None:
    """Return the ICC profile of what a file says of its colours; None where that is nothing.

    Its own profile, or one that is made of the numbers in a PNG's cICP, cHRM and gAMA, in the nclx
    of HEIF and AVIF, or in Exif. Where two of them differ, the one counts that the format's
    standard puts first.
    """
    code = _coded_in(image, data)
    if image.format == "PNG" and code:
        return icc_profile(code)
    if image.info.get("icc_profile"):
        return bytes(image.info["icc_profile"])
    encoding = code or _in_png(image) or in_exif(image)
    return icc_profile(encoding) if encoding and encoding != Encoding() else None


def _coded_in(image: Image, data: bytes) -> Encoding | None:
    """Return what the numbers of ITU-T H.273 say: in a PNG's cICP, HEIF's and AVIF's nclx."""
    if image.format == "PNG":
        chunk = next((chunk for kind, chunk in png_chunks(data) if kind == b"cICP"), b"")
        codes = (chunk[8], chunk[9]) if len(chunk) == 16 else (UNSPECIFIED, UNSPECIFIED)
    elif nclx := image.info.get("nclx_profile"):
        codes = nclx["color_primaries"], nclx["transfer_characteristics"]
    elif image.format == "AVIF":  # Pillow passes over it: the first box of the picture's properties
        at = data.find(b"colrnclx")
        codes = struct.unpack(">HH", data[at + 8 : at + 12]) if at >= 0 else (UNSPECIFIED,) * 2
    else:
        return None
    primaries, transfer = codes
    if primaries not in PRIMARIES:
        return None
    # The curve of television (1, 6, ...) is shown by about that of sRGB, so it counts as that.
    curves: dict[int, float | str] = {4: 2.2, 5: 2.8, 8: 1.0, 16: "PQ", 18: "HLG"}
    return Encoding(PRIMARIES[primaries], curves.get(transfer, "sRGB"))


def _in_png(image: Image) -> Encoding | None:
    """Return what a PNG's sRGB, cHRM and gAMA say."""
    if "srgb" in image.info:
        return Encoding()
    gamma = image.info.get("gamma") if image.format == "PNG" else None
    primaries = image.info.get("chromaticity") if image.format == "PNG" else None
    if not gamma and not primaries:
        return None
    curve = 1 / gamma if gamma else Encoding.curve
    return Encoding(tuple(primaries or Encoding.primaries), curve)


def in_exif(image: Image) -> Encoding | None:
    """Return what Exif (and a TIFF's own tags) say: Adobe RGB, or primaries in numbers."""
    try:
        exif = image.getexif()
        details = dict(exif.get_ifd(EXIF_IFD))
        space = details.get(COLOR_SPACE)
        if space == SRGB_SPACE:
            return Encoding()
        told = (*exif.get(WHITE_POINT, D65), *exif.get(PRIMARY_CHROMATICITIES, ()))
        if len(told) == 8:
            primaries = tuple(round(float(number), 4) for number in told)
            return Encoding(primaries, float(details.get(GAMMA, 2.2)))
        if space == ADOBE_SPACE:
            return ADOBE_RGB
        # KeyError where there is none
        is_adobe = str(exif.get_ifd(INTEROP_IFD).get(INTEROP_INDEX)).startswith("R03")
    except Exception:  # damaged EXIF must not cost a good photo, and its parser raises anything
        return None
    return ADOBE_RGB if is_adobe else None


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each chunk of a PNG, its kind and all its bytes, to its end or as far as it goes."""
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        yield kind, data[at : at + 12 + length]
        at += 12 + length
        if kind == b"IEND":
            return


# ---- an ICC profile of primaries and a curve ----

BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))


@functools.lru_cache(64)
def icc_profile(encoding: Encoding) -> bytes | None:
    """Return the ICC profile of an encoding; None where its primaries span no colours.

    Source: ICC.1:2010, sections 7 to 10, the three-component matrix-based profile. Adapted to D50
    by Bradford's matrix (annex E).
    """
    import numpy as np

    xy = np.array(encoding.primaries, float).reshape(4, 2)
    area = np.linalg.det(np.column_stack([xy[1:], np.ones(3)]))
    if not np.isfinite(xy).all() or xy[:, 1].min() <= 0.001 or abs(area) < 0.01:
        return None
    xyz = np.column_stack([xy[:, 0], xy[:, 1], 1 - xy.sum(1)]) / xy[:, 1:]
    white, primaries = xyz[0], xyz[1:].T
    d50 = np.array([0.9642, 1.0, 0.8249])  # as ICC rounds it
    bradford = np.array(BRADFORD)
    adapt = np.linalg.inv(bradford) @ np.diag(bradford @ d50 / (bradford @ white)) @ bradford
    red, green, blue = (adapt @ (primaries * np.linalg.solve(primaries, white))).T
    light = _curve(encoding.curve)(np.linspace(0, 1, 4096))
    table = (np.clip(light, 0, 1) * 65535).round().astype(">u2").tobytes()
    curve = b"curv" + struct.pack(">II", 0, 4096) + table
    tags = {
        b"desc": _text("made of what the file says"), b"cprt": _text("none"),
        b"wtpt": _numbers(b"XYZ ", d50), b"chad": _numbers(b"sf32", adapt.ravel()),
        b"rXYZ": _numbers(b"XYZ ", red), b"gXYZ": _numbers(b"XYZ ", green),
        b"bXYZ": _numbers(b"XYZ ", blue), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve,
    }  # fmt: skip
    return _assemble(tags, d50)


def _curve(name: float | str) -> Curve:
    """Return the function from numbers (0 to 1) to light, of which 1 is a white sheet of paper."""
    import numpy as np

    if isinstance(name, float):
        return lambda value: value**name

    def srgb(value: np.ndarray) -> np.ndarray:
        return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)

    def pq(value: np.ndarray) -> np.ndarray:  # ITU-R BT.2100, table 4
        root = value ** (32 / 2523)
        bright = np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)
        return bright ** (16384 / 2610) * 10_000 / PAPER_WHITE_NITS

    def hlg(value: np.ndarray) -> np.ndarray:  # BT.2100, table 5, on a display of 1000 nits
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)
        return scene**1.2 * 1000 / PAPER_WHITE_NITS

    return {"sRGB": srgb, "PQ": pq, "HLG": hlg}[name]


def _numbers(kind: bytes, values: np.ndarray) -> bytes:
    fixed = (round(float(value) * 65536) for value in values)
    return kind + bytes(4) + b"".join(struct.pack(">i", value) for value in fixed)


def _text(text: str) -> bytes:
    coded = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(coded), 28) + coded


def _assemble(tags: dict[bytes, bytes], d50: np.ndarray) -> bytes:
    """Put a display profile of RGB together: header, table of tags, tags."""
    at, table, bodies = 128 + 4 + 12 * len(tags), b"", b""
    places: dict[bytes, int] = {}  # equal tags are stored once
    for name, body in tags.items():
        if body not in places:
            places[body] = at + len(bodies)
            bodies += body + bytes(-len(body) % 4)
        table += struct.pack(">4sII", name, places[body], len(body))
    size = at + len(bodies)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x04200000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28)
    header += b"".join(struct.pack(">i", round(float(value) * 65536)) for value in d50)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + bodies

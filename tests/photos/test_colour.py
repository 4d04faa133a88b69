"""Colours: what a file says of them counts, wherever it says so and whatever it calls it."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from s2i_lib.photos.colour import PRIMARIES, Encoding, icc_profile
from s2i_lib.photos.importing import keep_photo
from s2i_lib.photos.reading import decode_photo, read_photo

ODD = Path(__file__).parents[1] / "data" / "odd"
TYPED = (201, 60, 50)  # what the files' numbers are; their colours differ
pillow_heif.register_heif_opener()

# Published matrices from linear RGB to XYZ. Source: CSS Color Module Level 4, section 18 (P3,
# BT.2020), Adobe RGB (1998), section 4.3.5.3; from XYZ to sRGB: IEC 61966-2-1.
TO_XYZ = {
    "srgb": [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]],
    "p3": [[0.48657, 0.26567, 0.19822], [0.22897, 0.69174, 0.07929], [0.0, 0.04511, 1.04394]],
    "adobe": [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.9913]],
    "2020": [[0.63696, 0.14462, 0.16888], [0.2627, 0.678, 0.0593], [0.0, 0.02807, 1.06099]],
}  # fmt: skip
FROM_XYZ = [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.204, 1.057]]


def in_srgb(space, curve=None, typed=TYPED):
    """The sRGB numbers of a colour, by the published matrices."""
    value = np.array(typed) / 255
    srgb_light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    light = value**curve if curve else srgb_light
    linear = np.clip(np.array(FROM_XYZ) @ np.array(TO_XYZ[space]) @ light, 0, 1)
    coded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return coded * 255


def plain(mode="RGB", typed=TYPED):
    return Image.new("RGB", (64, 64), typed).convert(mode)


def encode(image, file_format, **options):
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def png_with(*chunks, image=None):
    """A PNG with further chunks behind its header."""
    data = encode(image or plain(), "PNG")
    more = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return data[:33] + more + data[33:]


def chromaticities(*xy):
    return b"".join(struct.pack(">I", round(number * 100_000)) for number in xy)


def exif(**tags):
    """Exif with a colour space, an index of interoperability, primaries, as cameras write them."""
    made = Image.Exif()
    if "space" in tags:
        made.get_ifd(0x8769)[0xA001] = tags["space"]
    if "index" in tags:
        made.get_ifd(0x8769)[0xA005] = {1: tags["index"]}
    if "primaries" in tags:
        made[0x013E], made[0x013F] = tags["primaries"][:2], tags["primaries"][2:]
    return made.tobytes()


def avif(primaries, transfer):
    data = encode(plain(), "AVIF", quality=95, subsampling="4:4:4")
    at = data.find(b"colrnclx")
    return data[: at + 8] + struct.pack(">HH", primaries, transfer) + data[at + 12 :]


P3, ADOBE = PRIMARIES[12], (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
RENAMED = icc_profile(Encoding(P3)).replace(
    "made of what".encode("utf-16-be"), "sRGB IEC6196".encode("utf-16-be")
)
nclx = {"save_nclx_profile": True, "quality": 100, "chroma": 444}
FILES = {
    "p3_named_srgb.jpg": ((ODD / "p3_named_srgb.jpg").read_bytes(), in_srgb("p3")),
    "adobe_r03.jpg": ((ODD / "adobe_r03.jpg").read_bytes(), in_srgb("adobe", 563 / 256)),
    "renamed.png": (encode(plain(), "PNG", icc_profile=RENAMED), in_srgb("p3")),
    "renamed.webp": (encode(plain(), "WEBP", lossless=True, icc_profile=RENAMED), in_srgb("p3")),
    "space_2.jpg": (encode(plain(), "JPEG", quality=98, exif=exif(space=2)),
                    in_srgb("adobe", 563 / 256)),
    "numbers.jpg": (encode(plain(), "JPEG", quality=98, exif=exif(space=65535, primaries=ADOBE)),
                    in_srgb("adobe", 2.2)),
    "r03.png": (encode(plain(), "PNG", exif=exif(space=65535, index="R03")),
                in_srgb("adobe", 563 / 256)),
    "space_2.webp": (encode(plain(), "WEBP", lossless=True, exif=exif(space=2)),
                     in_srgb("adobe", 563 / 256)),
    "tags.tif": (encode(plain(), "TIFF", tiffinfo={0x13E: P3[:2], 0x13F: P3[2:]}),
                 in_srgb("p3", 2.2)),
    "p3.heic": (encode(plain(), "HEIF", color_primaries=12, transfer_characteristics=13, **nclx),
                in_srgb("p3")),
    "2020.heic": (encode(plain(), "HEIF", color_primaries=9, transfer_characteristics=1, **nclx),
                  in_srgb("2020")),
    "p3.avif": (avif(12, 13), in_srgb("p3")),
    "cicp.png": (png_with((b"cICP", bytes((12, 13, 0, 1)))), in_srgb("p3")),
    "cicp_over_srgb.png": (png_with((b"cICP", bytes((12, 13, 0, 1))), (b"sRGB", b"\0")),
                           in_srgb("p3")),
    "chrm.png": (png_with((b"gAMA", struct.pack(">I", 45455)), (b"cHRM", chromaticities(*ADOBE))),
                 in_srgb("adobe", 2.2)),
    "gamma_1.png": (png_with((b"gAMA", struct.pack(">I", 100_000))), in_srgb("srgb", 1.0)),
    "gamma_grey.png": (png_with((b"gAMA", struct.pack(">I", 55_556)),
                                image=plain("L", (90, 90, 90))),
                       in_srgb("srgb", 1.8, (90, 90, 90))),
    # and what says sRGB, or nothing that can be meant, leaves the numbers as they are
    "srgb_over_gamma.png": (png_with((b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 90_000))),
                            np.array(TYPED)),
    "space_1.jpg": (encode(plain(), "JPEG", quality=98, exif=exif(space=1, primaries=ADOBE)),
                    np.array(TYPED)),
    "r98.jpg": (encode(plain(), "JPEG", quality=98, exif=exif(space=1, index="R98")),
                np.array(TYPED)),
    "nonsense.png": (png_with((b"cHRM", chromaticities(*[0.3] * 8))), np.array(TYPED)),
    "zeros.png": (png_with((b"cHRM", bytes(32)), (b"gAMA", bytes(4))), np.array(TYPED)),
    "television.heic": (encode(plain(), "HEIF", color_primaries=1, transfer_characteristics=1,
                               **nclx), np.array(TYPED)),
    "unspecified.avif": (avif(2, 2), np.array(TYPED)),
    "srgb.jpg": (encode(plain(), "JPEG", quality=98, icc_profile=ImageCms.ImageCmsProfile(
        ImageCms.createProfile("sRGB")).tobytes()), np.array(TYPED)),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_colours_are_read_and_kept_as_the_file_means_them(name, tmp_path):
    data, expected = FILES[name]
    for photo in (decode_photo(data, name), read_photo(keep_photo(data, name, tmp_path))):
        found = np.asarray(photo.image, float).mean((0, 1))
        assert np.abs(found - expected).max() <= 4, (found, expected)


def test_a_copy_without_exif_still_shows_its_colours_to_other_programs(tmp_path):
    for name in ("adobe_r03.jpg", "r03.png"):
        kept = Image.open(keep_photo(FILES[name][0], name, tmp_path))
        assert kept.info["icc_profile"] and not dict(kept.getexif())
        assert np.asarray(kept)[9, 9] == pytest.approx(TYPED, abs=2), "its numbers are as they were"


@pytest.mark.parametrize("curve", ["PQ", "HLG"])
def test_a_white_sheet_is_white_in_pictures_of_high_range(curve):
    """BT.2408, table 1: white is 58 % in PQ, 75 % in HLG (203 nits), a grey card 38 % (26 nits)."""
    white, grey = {"PQ": (148, 97), "HLG": (191, 97)}[curve]
    code = bytes((9, {"PQ": 16, "HLG": 18}[curve], 0, 1))
    for typed, expected in ((white, 255), (grey, 100)):  # 100 of 255 is 26 / 203 of the light
        data = png_with((b"cICP", code), image=plain(typed=(typed,) * 3))
        pixel = decode_photo(data, "hdr.png").image.getpixel((5, 5))
        assert max(pixel) - min(pixel) <= 1 and abs(pixel[0] - expected) <= 4


def test_a_grey_photo_with_a_colour_profile_is_read_by_its_curve():
    linear = icc_profile(Encoding(curve=1.0))
    data = encode(plain("L", (90, 90, 90)), "JPEG", quality=98, icc_profile=linear)
    pixel = decode_photo(data, "grey.jpg").image.getpixel((5, 5))
    assert pixel == pytest.approx(in_srgb("srgb", 1.0, (90, 90, 90)), abs=2)

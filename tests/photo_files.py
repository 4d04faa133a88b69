"""Makes the files that folders of photos really hold: good ones of every kind, and bad ones."""

import io
import struct
import zipfile
import zlib
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
import tifffile
from PIL import Image, ImageCms, ImageOps

from s2i_lib.photos.reading import UPRIGHT

SAMPLES = Path(__file__).parents[1] / "s2i_lib" / "samples" / "rc_car"
GPS, MAKE, DATE = 0x8825, 0x010F, 0x0132
pillow_heif.register_heif_opener()


@cache
def photo(side: int = 480, number: int = 1) -> Image.Image:
    with Image.open(SAMPLES / f"{number:02}.jpg") as image:
        return image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)


def encode(image: Image.Image, file_format: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def exif(orientation: int = 1, *, private: bool = False) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    if private:
        tags[MAKE] = "SecretPhone"
        tags[DATE] = "2026:08:19 12:00:00"
        tags.get_ifd(GPS).update({1: "N", 2: (47.0, 22.0, 40.5), 3: "E", 4: (8.0, 32.0, 27.0)})
    return tags


def held_sideways(image: Image.Image, orientation: int) -> Image.Image:
    """As a camera that was turned stores it: what makes it upright gives ``image`` back."""
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    assert set(back) == set(UPRIGHT)
    return image.transpose(Image.Transpose(back[orientation]))


def deep(image: Image.Image) -> np.ndarray:
    """16 bits a channel, for OpenCV to write."""
    pixels = np.asarray(image).astype(np.uint16) * 257
    return pixels[..., ::-1] if pixels.ndim == 3 else pixels


def png_of(width: int, height: int, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG that claims a size and has almost no data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in parts)


def wide_gamut_profile() -> bytes:
    """A matrix profile with swapped red and green primaries: ignoring it cannot go unseen."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", profile[128:132])[0]
    at = {profile[132 + 12 * i : 136 + 12 * i].decode(): 132 + 12 * i for i in range(count)}
    red, green = at["rXYZ"] + 4, at["gXYZ"] + 4
    profile[red : red + 8], profile[green : green + 8] = (
        profile[green : green + 8],
        profile[red : red + 8],
    )
    return bytes(profile).replace(b"s\0R\0G\0B", b"w\0i\0d\0e")


def misnamed_files() -> dict[str, bytes]:
    """Whole photos under the suffix of another format."""
    image = photo()
    return {
        "jpg_inside.heic": encode(image, "JPEG", quality=95),
        "jpg_inside.PNG": encode(image, "JPEG", quality=95),
        "png_inside.jpg": encode(image, "PNG"),
        "heic_inside.jpg": encode(image, "HEIF", quality=95),
        "avif_inside.heic": encode(image, "AVIF", quality=95),
        "gif_inside.png": encode(image, "GIF"),
        "tif_inside.gif": encode(image, "TIFF"),
        "bmp_inside.webp": encode(image, "BMP"),
        "webp_inside.jpeg": encode(image, "WEBP", quality=95),
    }


def good_files() -> dict[str, bytes]:
    """Every one of these shows the sample photo."""
    image = photo()
    alpha = image.copy()
    alpha.putalpha(Image.new("L", image.size, 255))
    jpg = encode(image, "JPEG", quality=95)
    frames = [image, ImageOps.invert(image)]
    sideways = {
        f"exif_{n}.jpg": encode(held_sideways(image, n), "JPEG", quality=95, exif=exif(n))
        for n in UPRIGHT
    }
    return {
        **sideways,
        **misnamed_files(),
        **faulty_files(),
        "plain.jpg": jpg,
        "UPPER.JPG": jpg,
        "suffix.jpeg": jpg,
        "suffix.jfif": jpg,
        "name with spaces & 'quotes'.jpg": jpg,
        "Ünï-写真.jpg": jpg,
        "progressive.jpg": encode(image, "JPEG", quality=95, progressive=True),
        "grey.jpg": encode(image.convert("L"), "JPEG", quality=95),
        "cmyk.jpg": encode(image.convert("CMYK"), "JPEG", quality=95),
        "broken_profile.jpg": encode(image, "JPEG", quality=95, icc_profile=b"no profile" * 20),
        "wide_gamut.jpg": encode(image, "JPEG", quality=95, icc_profile=wide_gamut_profile()),
        "gps.jpg": encode(image, "JPEG", quality=95, exif=exif(private=True)),
        "odd_orientation.jpg": encode(image, "JPEG", quality=95, exif=exif(99)),
        "broken_exif.jpg": encode(image, "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"),
        "motion_photo.jpg": jpg + b"\0\0\0\x18ftypmp42" + bytes(5000),
        "two_pictures.jpg": encode(image, "MPO", save_all=True, append_images=[photo(200)]),
        "plain.png": encode(image, "PNG"),
        "alpha.png": encode(alpha, "PNG"),
        "grey_alpha.png": encode(alpha.convert("LA"), "PNG"),
        "palette.png": encode(image.quantize(256), "PNG"),
        "deep.png": cv2.imencode(".png", deep(image))[1].tobytes(),
        "deep_grey.png": cv2.imencode(".png", deep(image.convert("L")))[1].tobytes(),
        "moving.png": encode(image, "PNG", save_all=True, append_images=frames[1:]),
        "turned.png": encode(held_sideways(image, 6), "PNG", exif=exif(6, private=True)),
        "plain.webp": encode(image, "WEBP", quality=95),
        "alpha.webp": encode(alpha, "WEBP", lossless=True),
        "moving.webp": encode(image, "WEBP", save_all=True, append_images=frames[1:], quality=95),
        "turned.webp": encode(held_sideways(image, 8), "WEBP", quality=95, exif=exif(8)),
        "phone.heic": encode(image, "HEIF", quality=95),
        "phone.HIF": encode(image, "HEIF", quality=95),
        "gps.heic": encode(image, "HEIF", quality=95, exif=exif(private=True).tobytes()),
        "turned.heic": encode(held_sideways(image, 6), "HEIF", quality=95, exif=exif(6).tobytes()),
        "phone.avif": encode(image, "AVIF", quality=95),
        "turned.avif": encode(held_sideways(image, 3), "AVIF", quality=95, exif=exif(3)),
        "plain.tif": encode(image, "TIFF"),
        "packed.tiff": encode(image, "TIFF", compression="tiff_lzw"),
        "cmyk.tif": encode(image.convert("CMYK"), "TIFF"),
        "deep.tif": cv2.imencode(".tif", deep(image))[1].tobytes(),
        "deep_grey.tif": cv2.imencode(".tif", deep(image.convert("L")))[1].tobytes(),
        "float.tif": encode(
            Image.fromarray(np.asarray(image.convert("L")).astype(np.float32) / 255), "TIFF"
        ),
        **tiffs_of_other_programs(image),
        "pages.tif": encode(image, "TIFF", save_all=True, append_images=frames[1:]),
        "plain.bmp": encode(image, "BMP"),
        "still.gif": encode(image, "GIF"),
        "moving.gif": encode(image, "GIF", save_all=True, append_images=frames[1:]),
    }


def faulty_files() -> dict[str, bytes]:
    """Whole photos, whatever is wrong around their pixels."""
    image = photo()
    hidden = image.copy()
    hidden.putalpha(Image.new("L", image.size, 0))
    jpg = encode(image, "JPEG", quality=95)
    progressive = encode(image, "JPEG", quality=95, progressive=True)
    png = encode(image, "PNG")
    size = struct.unpack(">II", png[16:24])

    def with_chunk(kind: bytes, body: bytes) -> bytes:
        head = png_of(*size, (kind, body))
        return head[: head.find(b"IDAT") - 4] + png[png.find(b"IDAT") - 4 :]

    return {
        "no_end.jpg": jpg[:-2],
        "half_an_end.jpg": jpg[:-1],
        "no_end_progressive.jpg": progressive[:-2],
        "no_end_grey.jpg": encode(image.convert("L"), "JPEG", quality=95)[:-2],
        "no_end.png": png[:-12],
        "no_end.gif": encode(image, "GIF")[:-1],
        "large_text.png": with_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3 << 20))),
        "huge_text.png": with_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80 << 20))),
        "large_xmp.png": with_chunk(
            b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"x" * (6 << 20))
        ),
        "broken_text.png": with_chunk(b"zTXt", b"Comment\0\7abc"),
        "broken_size.png": with_chunk(b"pHYs", b"\0\0"),
        "broken_primaries.png": with_chunk(b"cHRM", b"\0\0"),
        "hidden.png": encode(hidden, "PNG"),
        "hidden.webp": encode(hidden, "WEBP", lossless=True, exact=True),
        "hidden.tif": encode(hidden, "TIFF"),
    }


def bad_files() -> dict[str, bytes]:
    """Every one of these is called like a photo and cannot be read."""
    image = photo()
    whole = {
        "jpg": encode(image, "JPEG"),
        "png": encode(image, "PNG"),
        "webp": encode(image, "WEBP"),
        "heic": encode(image, "HEIF"),
        "avif": encode(image, "AVIF"),
        "tif": encode(image, "TIFF"),
        "bmp": encode(image, "BMP"),
        "gif": encode(image, "GIF"),
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("a.jpg", whole["jpg"])
    wrong_crc = bytearray(whole["png"])
    wrong_crc[len(wrong_crc) // 2] ^= 0xFF
    huge_tiff = bytearray(encode(Image.new("L", (8, 8)), "TIFF"))
    for tag in (struct.pack("<HHII", 256, 4, 1, 8), struct.pack("<HHII", 257, 4, 1, 8)):
        at = huge_tiff.find(tag)
        assert at > 0
        huge_tiff[at + 8 : at + 12] = struct.pack("<I", 60_000)
    huge_gif = (
        b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(3) + b",\0\0\0\0\xff\xff\xff\xff\0"
    )
    huge_bmp = bytearray(whole["bmp"][:2000])
    huge_bmp[18:26] = struct.pack("<ii", 40_000, 40_000)
    text_bomb = (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80 * 2**20)))
    return {
        **{f"half.{suffix}": data[: len(data) // 2] for suffix, data in whole.items()},
        **{f"head.{suffix}": data[:24] for suffix, data in whole.items()},
        "nearly.jpg": whole["jpg"][:-60],
        "nearly_progressive.jpg": encode(image, "JPEG", progressive=True)[:-60],
        "empty.jpg": b"",
        "empty.heic": b"",
        "text.jpg": b"this is no photo\n" * 50,
        "page.png": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "drawing.png": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "paper.jpg": b"%PDF-1.7\n" + bytes(500),
        "program.jpg": b"\x7fELF" + bytes(500),
        "archive.jpg": archive.getvalue(),
        "noise.jpg": np.random.default_rng(0).bytes(20_000),
        "noise.heic": b"\0\0\0\x18ftypheic" + np.random.default_rng(1).bytes(20_000),
        "wrong_crc.png": bytes(wrong_crc),
        "bomb.png": png_of(30_000, 30_000),
        "bomb_below_pillows_limit.png": png_of(12_000, 12_000),
        "bomb_of_text.png": png_of(480, 480, text_bomb),
        "bomb.tif": bytes(huge_tiff),
        "half_ycbcr.tif": encode(photo().convert("YCbCr"), "TIFF")[:300_000],
        "bomb.gif": huge_gif,
        "bomb.bmp": bytes(huge_bmp),
        "no_pixels.png": png_of(0, 0),
    }


def tiffs_of_other_programs(image: Image.Image) -> dict[str, bytes]:
    """TIFF 6.0 as Photoshop, GIMP and scanners save it, written by tifffile and by Pillow."""

    def written(values: np.ndarray, **options) -> bytes:
        stream = io.BytesIO()
        tifffile.imwrite(stream, values, **options)
        return stream.getvalue()

    values = np.asarray(image)
    by_plane = np.moveaxis(deep(image)[..., ::-1], -1, 0)  # OpenCV's order is blue first
    in_float, turned = values.astype(np.float32) / 255, held_sideways(image, 6).convert("YCbCr")
    return {
        "ycbcr.tif": encode(image.convert("YCbCr"), "TIFF"),
        "ycbcr_turned.tif": encode(turned, "TIFF", exif=exif(6)),
        "planes.tif": written(np.moveaxis(values, -1, 0), photometric="rgb", planarconfig=2),
        "deep_planes.tif": written(by_plane, photometric="rgb", planarconfig=2),
        "float_colour.tif": written(in_float, photometric="rgb"),
        "big.tif": written(values, photometric="rgb", bigtiff=True),
    }


def poor_files() -> dict[str, tuple[bytes, str]]:
    """These can be read, and are of no use to training: bytes and verdict."""
    image = photo()
    dark = image.point(lambda value: value // 8)
    return {
        "dot.png": (encode(image.resize((1, 1)), "PNG"), "too small"),
        "icon.png": (encode(image.resize((64, 64)), "PNG"), "too small"),
        "preview.jpg": (encode(image.resize((200, 200)), "JPEG"), "too small"),
        "strip.png": (encode(image.resize((3000, 20)), "PNG"), "too small"),
        "night.png": (encode(dark, "PNG"), "too dark"),
        "lens_cap.jpg": (encode(Image.new("RGB", (480, 480)), "JPEG"), "too dark"),
        "sun.jpg": (encode(Image.new("RGB", (480, 480), "white"), "JPEG"), "too bright"),
        "see_through.png": (encode(Image.new("RGBA", (480, 480)), "PNG"), "too bright"),
        "fog.jpg": (encode(Image.new("RGB", (480, 480), (170, 170, 170)), "JPEG"), "blurry"),
        "shaken.png": (
            encode(Image.fromarray(cv2.GaussianBlur(np.asarray(image), (0, 0), 4)), "PNG"),
            "blurry",
        ),
    }


STRAYS = {
    ".DS_Store": b"Bud1",
    "._plain.jpg": b"\0\x05\x16\x07",
    ".hidden.jpg": b"x",
    "Thumbs.db": b"\xd0\xcf\x11\xe0",
    "desktop.ini": b"[.ShellClassInfo]",
    "IMG_0001.MOV": b"\0\0\0\x14ftypqt  ",
    "IMG_0001.AAE": b"<plist/>",
    "IMG_0001.dng": b"II*\0",
    "notes.txt": b"hello",
    "plain.jpg.crdownload": b"\xff\xd8",
    "no_suffix": b"\xff\xd8\xff",
}

"""Reading: every kind of file a phone, a messenger or a stranger puts into a folder of photos."""

import io
import re
import stat
import zipfile
from pathlib import Path

import numpy as np
import photo_files as made
import pytest
from PIL import Image

from s2i_lib.errors import InputError
from s2i_lib.photos.dataset import build_dataset
from s2i_lib.photos.importing import import_zip, keep_photo
from s2i_lib.photos.quality import DatasetOptions
from s2i_lib.photos.reading import decode_photo, is_photo_name, read_photo
from s2i_lib.photos.subject import Subject
from s2i_lib.storage.layout import Drive

GOOD, BAD, POOR = made.good_files(), made.bad_files(), made.poor_files()
GREY = {name for name in GOOD if "grey" in name or name == "float.tif"}
ROUGH = {  # few colours, inks
    "palette.png", "still.gif", "moving.gif", "gif_inside.png", "no_end.gif",
    "cmyk.jpg", "cmyk.tif",
}  # fmt: skip
ODD = Path(__file__).parents[1] / "data" / "odd"


def difference(image: Image.Image, reference: Image.Image) -> float:
    """Mean difference of a channel, 0 to 255."""
    assert image.mode == "RGB" and image.size == reference.size
    return float(np.abs(np.asarray(image, float) - np.asarray(reference, float)).mean())


@pytest.mark.parametrize("name", GOOD)
def test_every_good_file_is_read_upright_in_srgb(name, tmp_path):
    (tmp_path / name).write_bytes(GOOD[name])
    photo = read_photo(tmp_path / name)
    expected = made.photo()
    if name in GREY:
        expected = expected.convert("L").convert("RGB")
    if name == "wide_gamut.jpg":
        pixels = np.asarray(photo.image, int)
        assert difference(photo.image, expected) > 10  # red and green have changed places
        assert (pixels[..., 1] > pixels[..., 0] + 60).mean() > 0.02
    else:
        assert difference(photo.image, expected) < (8 if name in ROUGH else 4)
    assert (photo.width, photo.height) == photo.image.size


@pytest.mark.parametrize("name", BAD)
def test_every_bad_file_is_refused_with_one_sentence_that_names_it(name, tmp_path):
    (tmp_path / name).write_bytes(BAD[name])
    with pytest.raises(InputError) as error:
        read_photo(tmp_path / name)
    message = str(error.value)
    assert message.startswith(name) and message.endswith(".") and "\n" not in message
    assert len(message) < 200
    with pytest.raises(InputError):
        keep_photo(BAD[name], name, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


@pytest.mark.slow
def test_the_nasty_folder_gets_the_expected_verdict_on_every_file(tmp_path):
    source = tmp_path / "from the phone"
    source.mkdir()
    for name, data in (GOOD | BAD | made.STRAYS).items():
        (source / name).write_bytes(data)
    for name, (data, _) in POOR.items():
        (source / name).write_bytes(data)
    (source / ".ipynb_checkpoints").mkdir()
    (source / "a folder.jpg").mkdir()
    (source / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    before = {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()}

    options = DatasetOptions(min_crop_px=240, warn_crop_px=240, max_likeness=2)
    drive = Drive(tmp_path / "drive")
    dataset = build_dataset(Subject("Car", "car"), drive, photos=source, options=options)

    given = {verdict.photo: verdict for verdict in dataset.verdicts}
    assert len(BAD) + len(POOR) + len(GOOD) >= 60
    for name in BAD:
        assert given[name].verdict == "unreadable", name
    assert given["link.jpg"].verdict == "unreadable"
    for name, (_, expected) in POOR.items():
        assert given[name].verdict == expected, name
    photos = drive.subject("Car") / "photos"
    kept = {verdict.photo for verdict in dataset.verdicts if verdict.is_kept}
    for name, data in GOOD.items():
        assert keep_photo(data, name, photos).name in kept, name
    assert set(dataset.ignored) == {*made.STRAYS, ".ipynb_checkpoints", "a folder.jpg"}
    assert before == {p.name: p.read_bytes() for p in source.iterdir() if p.is_file()}


def test_what_is_kept_says_nothing_of_place_phone_or_time(tmp_path):
    for name in ("gps.jpg", "turned.png", "gps.heic"):
        path = keep_photo(GOOD[name], name, tmp_path)
        with Image.open(path) as image:
            tags = dict(image.getexif())
        assert not set(tags) - {0x0112}, name
        assert b"SecretPhone" not in path.read_bytes()
    with Image.open(io.BytesIO(GOOD["gps.jpg"])) as original:
        assert original.getexif().get_ifd(0x8825), "the file did say where"


@pytest.mark.parametrize(
    "name",
    [n for n in GOOD if n.lower().endswith(("jpg", "png")) and n not in made.misnamed_files()],
)
def test_jpeg_and_png_keep_their_pixels_bit_for_bit(name, tmp_path):
    path = keep_photo(GOOD[name], name, tmp_path / "kept")
    (tmp_path / name).write_bytes(GOOD[name])
    assert difference(read_photo(path).image, read_photo(tmp_path / name).image) == 0
    assert len(path.read_bytes()) <= len(GOOD[name]) + 20


def test_a_motion_photo_keeps_no_video(tmp_path):
    path = keep_photo(GOOD["motion_photo.jpg"], "motion_photo.jpg", tmp_path)
    assert b"ftyp" not in path.read_bytes()


def test_the_same_photo_is_kept_once_and_another_of_its_name_beside_it(tmp_path):
    one, other = GOOD["plain.jpg"], GOOD["grey.jpg"]
    first = keep_photo(one, "IMG_1.jpg", tmp_path)
    assert keep_photo(one, "IMG_1.jpg", tmp_path) == first
    assert keep_photo(other, "IMG_1.jpg", tmp_path).name == "IMG_1-2.jpg"
    assert keep_photo(made.encode(made.photo(300), "JPEG"), "img_1.JPG", tmp_path).stem == "img_1-3"
    assert len(list(tmp_path.iterdir())) == 3


def test_transparency_is_laid_over_white(tmp_path):
    image = made.photo().copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    path = tmp_path / "fading.png"
    image.save(path)
    expected = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    assert difference(read_photo(path).image, expected) < 1


def test_what_is_missing_of_a_photo_is_said_in_rows():
    with pytest.raises(InputError, match=r"not whole: (\d+) of its 480 rows are missing") as error:
        decode_photo(BAD["nearly.jpg"], "nearly.jpg")
    assert int(re.search(r"(\d+) of", str(error.value))[1]) <= 32
    data = made.encode(made.photo(1024), "JPEG", quality=95)
    for at_least in (None, 256):
        with pytest.raises(InputError, match="of its 1024 rows") as error:
            decode_photo(data[: len(data) // 2], "half.jpg", at_least_px=at_least)
        assert 300 < int(re.search(r"(\d+) of", str(error.value))[1]) < 724


@pytest.mark.slow
def test_two_hundred_megapixels_are_read_smaller():
    """The sensors of large phones since 2022: 16,320 x 12,240."""
    image = made.photo(512).resize((16_320, 12_240))
    data = made.encode(image, "JPEG", quality=30)
    photo = decode_photo(data, "large.jpg", at_least_px=512)
    assert (photo.width, photo.height) == (16_320, 12_240)
    assert photo.image.size == (2040, 1530)
    assert decode_photo(data, "large.jpg").image.size == (8160, 6120)


@pytest.mark.slow
def test_two_hundred_megapixels_of_a_png_are_halved():
    image = made.photo(512).resize((16_320, 12_240))
    photo = decode_photo(made.encode(image, "PNG", compress_level=1), "large.png")
    assert photo.image.size == (8160, 6120) and "200 megapixels" in photo.notes[0]


def test_what_is_too_large_is_said_in_numbers():
    for name, number in (("bomb.png", "900"), ("bomb.bmp", "1,600")):
        with pytest.raises(InputError, match=rf"has {number} megapixels, and at most 220"):
            decode_photo(BAD[name], name)


def test_a_smaller_decoding_is_the_same_picture_and_large_enough(tmp_path):
    big = made.photo(1600)
    big.save(tmp_path / "big.jpg", quality=95)
    photo = read_photo(tmp_path / "big.jpg", at_least_px=300)
    assert photo.image.size == (400, 400) and (photo.width, photo.height) == (1600, 1600)
    assert difference(photo.image, big.reduce(4)) < 2


def zip_of(*entries: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return stream.getvalue()


def test_a_zip_gives_its_photos_and_says_what_it_left(tmp_path):
    data = zip_of(
        ("album/IMG_1.jpg", GOOD["plain.jpg"]),
        ("album/deeper/IMG_1.jpg", GOOD["grey.jpg"]),
        ("again.jpg", GOOD["plain.jpg"]),
        ("broken.jpg", BAD["half.jpg"]),
        ("__MACOSX/album/._IMG_1.jpg", b"x"),
        ("notes.txt", b"hello"),
    )
    result = import_zip(data, tmp_path / "photos")
    assert [path.name for path in result.kept] == ["IMG_1.jpg", "IMG_1-2.jpg"]
    assert {name for name, _ in result.refused} == {
        "broken.jpg", "__MACOSX/album/._IMG_1.jpg", "notes.txt",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "../evil.jpg", "a/../../evil.jpg", "/etc/evil.jpg", "C:\\evil.jpg", "C:evil.jpg",
        "..\\evil.jpg", "a\\..\\..\\evil.jpg", "\\evil.jpg", "//host/evil.jpg",
        "\\\\host\\evil.jpg",
    ],
)  # fmt: skip
def test_a_zip_never_writes_outside_of_its_folder(name, tmp_path):
    folder = tmp_path / "deep" / "photos"
    result = import_zip(zip_of((name, GOOD["plain.jpg"])), folder)
    assert not result.kept and len(result.refused) == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_backslashes_in_a_zip_are_taken_for_slashes(tmp_path):
    """Windows programs of old write them: .NET before 4.6.1, and some phones' file managers."""
    result = import_zip(ODD / "backslashes.zip", tmp_path / "one")
    assert [path.name for path in result.kept] == ["IMG_0.jpg"] and not result.refused
    data = zip_of(
        ("album\\", b""),
        ("album\\deeper\\IMG_1.jpg", GOOD["plain.jpg"]),
        ("album/mixed\\IMG_2.png", GOOD["grey_alpha.png"]),
        ("__MACOSX\\album\\._IMG_1.jpg", b"x"),
        ("album\\half.jpg", BAD["half.jpg"]),
    )
    result = import_zip(data, tmp_path / "two")
    assert [path.name for path in result.kept] == ["IMG_1.jpg", "IMG_2.png"]
    assert [name for name, _ in result.refused] == [
        "__MACOSX/album/._IMG_1.jpg", "album/half.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("IMG_1.jpg(1)", "IMG_1.jpg"), ("IMG_1.JPG (2)", "IMG_1.JPG"),
        ("IMG_1.jpeg~2", "IMG_1.jpeg"), ("IMG_1.jpg_large", "IMG_1.jpg"),
        ("IMG_1.jpg-orig", "IMG_1.jpg"), ("IMG_1.jpg.", "IMG_1.jpg"),
        ("IMG_1.HEIC.jpg", "IMG_1.HEIC.jpg"), ("IMG_1.png~3", "IMG_1.jpg"),
    ],
)  # fmt: skip
def test_what_programs_put_behind_a_suffix_hides_no_photo(name, kept, tmp_path):
    """Browsers (a second download), Android ("~2"), X ("_large"), Windows (a stray dot)."""
    data = made.encode(made.photo(64), "JPEG")
    assert keep_photo(data, name, tmp_path / "kept").name == kept
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr(f"album/{name}", data)
    assert [path.name for path in import_zip(zipped.getvalue(), tmp_path / "zip").kept] == [kept]


@pytest.mark.parametrize("name", ["IMG_1.jpg.crdownload", "jpg", "IMG_1.jpg.json", "IMG_1.jpgs"])
def test_what_only_begins_like_a_photo_s_name_is_none(name):
    assert not is_photo_name(name)


@pytest.mark.parametrize("name", made.misnamed_files())
def test_a_wrong_suffix_is_noted_and_what_is_kept_has_the_right_one(name, tmp_path, caplog):
    (tmp_path / name).write_bytes(GOOD[name])
    inside = Image.open(tmp_path / name).format
    assert any(f"{inside} by its content" in note for note in read_photo(tmp_path / name).notes)
    with caplog.at_level("INFO", "s2i_lib"):
        path = keep_photo(GOOD[name], name, tmp_path / "kept")
    assert name in caplog.text and inside in caplog.text
    assert not any("by its content" in note for note in read_photo(path).notes)
    assert path.stem == Path(name).stem


@pytest.mark.parametrize("name", ["jpeg_called.heic", "webp_called.jpg"])
def test_the_names_of_googles_takeout_are_no_hindrance(name, tmp_path):
    photo = read_photo(ODD / name)
    assert photo.image.size == (300, 300)
    assert np.abs(np.asarray(photo.image, int)[150, 150] - (201, 60, 50)).max() <= 3


@pytest.mark.slow
def test_links_passwords_and_bombs_in_zips_are_refused(tmp_path):
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    locked = bytearray(zip_of(("locked.jpg", GOOD["plain.jpg"])))
    locked[6] |= 1
    locked[locked.find(b"PK\x01\x02") + 8] |= 1
    bomb = zip_of(("bomb.jpg", bytes(150 * 2**20)))
    assert len(bomb) < 2**20
    for data, word in ((zip_of((link, b"/etc/passwd")), "link"), (bytes(locked), "password"),
                       (bomb, "MiB")):  # fmt: skip
        result = import_zip(data, tmp_path / "photos")
        assert not result.kept and word in result.refused[0][1]
    with pytest.raises(InputError, match="not a zip"):
        import_zip(b"PK\x03\x04 no zip", tmp_path / "photos")
    with pytest.raises(InputError, match="501 files"):
        import_zip(zip_of(*((f"{i}.jpg", b"x") for i in range(501))), tmp_path / "photos")
    assert not (tmp_path / "photos").exists()


def test_a_zip_that_lies_about_sizes_or_checksums_is_refused(tmp_path):
    data = bytearray(zip_of(("a.jpg", GOOD["plain.jpg"])))
    at = data.find(b"PK\x01\x02")
    data[at + 16] ^= 0xFF  # the checksum in the directory
    data[14] ^= 0xFF
    result = import_zip(bytes(data), tmp_path / "photos")
    assert not result.kept and "cannot be unpacked" in result.refused[0][1]

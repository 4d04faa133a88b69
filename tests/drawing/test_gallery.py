"""Pictures keep the record of how they were made, and nothing is written over."""

import base64
import html
import io
import json
import re
import wave
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from s2i_lib.drawing import gallery, pages
from s2i_lib.drawing.draw import draw
from s2i_lib.drawing.records import Picture
from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.errors import InputError, S2iError
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.prompt import make_prompt


@pytest.fixture(scope="module")
def picture(pocket) -> Picture:
    return draw(pocket, "a cat, “Mieze”, 100 % <b>", DrawOptions(steps=2, seed=4))[0]


def test_the_record_survives_the_png_and_lies_beside_it(picture, tmp_path):
    path = gallery.save(picture, tmp_path)
    record = gallery.read_record(path)
    assert picture.record.items() <= record.items()
    assert json.loads(path.with_suffix(".json").read_text()) == record
    with Image.open(path) as image:
        assert image.tobytes() == picture.image.tobytes()


def test_saving_where_the_name_is_taken_keeps_both(picture, tmp_path):
    now, words = datetime.now(UTC), gallery.save(picture, tmp_path).stem[len("20261128-211046") :]
    for seconds in range(600):  # whichever second it is saved in
        (tmp_path / f"{now + timedelta(seconds=seconds):%Y%m%d-%H%M%S}{words}.png").touch()
    path = gallery.save(picture, tmp_path)
    assert path.stem.endswith("-2") and path.stat().st_size
    assert sum(not other.stat().st_size for other in tmp_path.glob("*.png")) >= 599


def test_one_odd_picture_of_many_costs_none_of_the_others(tmp_path, caplog):
    """A record without a prompt, and a picture whose pixels are gone while its record is there."""
    whole = gallery.save(
        Picture(Image.new("RGB", (8, 8)), {"prompt": "a cat", "seed": 1}), tmp_path
    )
    cut = tmp_path / "cut.png"
    data = whole.read_bytes()
    cut.write_bytes(data[: data.index(b"IDAT") + 6])
    info = PngInfo()
    info.add_itxt(gallery.RECORD_KEY, '{"seed": 1}')
    Image.new("RGB", (8, 8)).save(tmp_path / "odd.png", pnginfo=info)
    listed = gallery.list_pictures(tmp_path)
    assert listed == [whole, cut] and "prompt is missing" in caplog.text
    (tmp_path / "shared").mkdir()
    assert len(gallery.share(listed, tmp_path / "shared")) == 1
    assert "cut.png cannot be read" in caplog.text
    assert gallery.grid_png(listed)


def test_pictures_without_a_record_are_told_apart(tmp_path):
    plain, text = tmp_path / "plain.png", tmp_path / "text.png"
    Image.new("RGB", (4, 4)).save(plain)
    text.write_text("not a picture")
    with pytest.raises(InputError, match="carries no record"):
        gallery.read_record(plain)
    with pytest.raises(InputError, match=r"cannot be read as a picture \(it is no PNG"):
        gallery.read_record(text)
    with pytest.raises(InputError, match="no picture"):
        gallery.read_record(tmp_path / "none.png")


def test_the_page_holds_everything_and_trusts_nothing(picture, tmp_path):
    path = gallery.save(picture, tmp_path)
    sound = np.sin(np.arange(16_000) / 10).astype(np.float32)
    wish = pages.Section(
        picture.record["prompt"], [path], heard="<script>alert(1)</script>", clip=sound, notes=["n"]
    )
    page = pages.write_page([wish], tmp_path / "page.html", title="A page").read_text()
    assert "<script" not in page
    assert "100 % &lt;b&gt;" in page
    assert not re.search(r'(src|href)="(?!data:)', page)  # nothing outside is needed
    [clip] = re.findall(r"data:audio/wav;base64,([^\"]+)", page)
    with wave.open(io.BytesIO(base64.b64decode(clip))) as file:
        assert (file.getframerate(), file.getnframes()) == (16_000, 16_000)
    [alt] = re.findall(r'<img [^>]*alt="([^"]*)"', page)
    seen, _, by_whom = html.unescape(alt).partition(". ")
    assert seen.lower() == wish.prompt.lower() and by_whom.startswith("Drawn by a machine")
    [png] = re.findall(r"data:image/png;base64,([^\"]+)", page)
    with Image.open(io.BytesIO(base64.b64decode(png))) as shown:
        assert shown.tobytes() == picture.image.tobytes()
        assert gallery.RECORD_KEY not in shown.info  # it stands below the picture


def test_a_disk_that_takes_nothing_leaves_nothing_behind(picture, tmp_path):
    with pytest.raises(S2iError, match="could not be written"):
        gallery.save(picture, tmp_path / "not there")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("room", [0, 1])
def test_no_half_of_a_picture_is_left_on_a_full_drive(picture, faulty_drive, room):
    folder = faulty_drive.path / "creations"
    folder.mkdir()
    faulty_drive.fault(f"room for {room}")
    with pytest.raises(S2iError, match="No space left on device"):
        gallery.save(picture, folder)
    assert list(folder.iterdir()) == []
    faulty_drive.fault("room for 2")
    path = gallery.save(picture, folder)
    assert set(folder.iterdir()) == {path, path.with_suffix(".json")}


def test_pictures_are_listed_by_subject_and_words(picture, pocket, tmp_path):
    rex = Subject("Mr. Rex", "dog")
    [dog] = draw(pocket, make_prompt("Mr. Rex", [rex]), DrawOptions(steps=2, seed=9))
    saved = [gallery.save(each, tmp_path) for each in (picture, dog)]
    Image.new("RGB", (4, 4)).save(tmp_path / "stray.png")
    assert set(gallery.list_pictures(tmp_path)) == set(saved)
    assert gallery.list_pictures(tmp_path, prompt="DOG") == [saved[1]]
    assert gallery.list_pictures(tmp_path, subject="mr-rex") == [saved[1]]
    assert gallery.list_pictures(tmp_path, subject="Mia") == []
    assert gallery.list_pictures(tmp_path, subject="Mr. Rex", prompt="mieze") == []


def test_the_grid_shows_every_picture_in_its_place():
    colours = ["red", "lime", "blue", "yellow", "black"]
    images = [Image.new("RGB", (8, 8), colour) for colour in colours]
    sheet = gallery.grid(images, columns=3, cell_px=16)
    assert sheet.size == (3 * 20 - 4, 2 * 20 - 4)
    centres = [sheet.getpixel((i % 3 * 20 + 8, i // 3 * 20 + 8)) for i in range(5)]
    assert centres == [Image.new("RGB", (1, 1), colour).getpixel((0, 0)) for colour in colours]
    assert sheet.getpixel((50, 30)) == (255, 255, 255)


def test_a_panorama_in_the_grid_keeps_its_shape():
    wide, square = Image.new("RGB", (32, 16), "red"), Image.new("RGB", (16, 16), "blue")
    sheet = gallery.grid([wide, square], cell_px=16, gap_px=0)
    assert sheet.size == (32, 16)
    rows = [sheet.getpixel((3, y)) for y in (1, 8, 14)]
    assert rows == [(255, 255, 255), (255, 0, 0), (255, 255, 255)]
    assert sheet.crop((16, 0, 32, 16)).getcolors() == [(256, (0, 0, 255))]

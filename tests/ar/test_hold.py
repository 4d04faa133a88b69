"""A picture becomes a figure that others' validators find nothing wrong with, and that is marked.

Outside judges: Khronos' glTF validator, OpenUSD's validators, trimesh for what a printer needs.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from s2i_lib import privacy
from s2i_lib.ar import relief
from s2i_lib.ar.hold import hold
from s2i_lib.ar.page import VIEWER, qr_svg, read_viewer
from s2i_lib.ar.solid import HELD_M, inflate
from s2i_lib.drawing import gallery
from s2i_lib.drawing.made_by import read_statements
from s2i_lib.drawing.records import Picture
from s2i_lib.errors import InputError, S2iError

NOUNS = ["cat", "car", "cactus", "star", "spider", "banana", "house", "guitar", "teapot", "chair"]
MORE = ["dog", "horse", "butterfly", "cloud", "bus", "airplane", "key", "umbrella", "mug", "heart"]
NOBODY = 65534  # the user whom nothing belongs to, on every Unix
DRAWN = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def ball(side: int = 64) -> np.ndarray:
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    return (x**2 + y**2 < 0.3**2).astype(np.float32)


def test_a_disk_becomes_a_closed_body_as_thick_as_it_says():
    solid = inflate(Image.new("RGB", (64, 64), "red"), ball())
    assert solid.mesh.is_watertight and solid.mesh.is_volume and solid.mesh.body_count == 1
    wide, high, deep = np.ptp(solid.vertices, axis=0)
    assert wide == pytest.approx(HELD_M, rel=0.05) and high == pytest.approx(HELD_M, rel=0.05)
    assert deep / wide == pytest.approx(0.7, rel=0.1)
    # Faces look outwards, and so do the normals.
    assert solid.mesh.volume > 0
    assert ((solid.vertices * solid.normals).sum(axis=1) > 0).mean() > 0.99
    assert np.allclose(np.linalg.norm(solid.normals, axis=1), 1, atol=1e-4)


def test_the_front_shows_the_picture_upright_and_not_mirrored():
    """Red on the left, blue on the right, and white on top: seen from +z it is so, too."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32], pixels[:, 32:], pixels[:24] = (255, 0, 0), (0, 0, 255), 255
    solid = inflate(Image.fromarray(pixels), ball())
    texture = np.asarray(solid.texture)

    def colour_at(x: float, y: float) -> tuple[int, ...]:
        front = solid.vertices[:, 2] > 0.01
        place = solid.vertices[front, :2] - (x, y)
        u, v = solid.uv[front][np.square(place).sum(axis=1).argmin()]
        high, wide = texture.shape[:2]
        return tuple(texture[min(int(v * high), high - 1), min(int(u * wide), wide - 1)] // 128)

    assert colour_at(-0.05, -0.02) == (1, 0, 0)
    assert colour_at(0.05, -0.02) == (0, 0, 1)
    assert colour_at(0, 0.07) == (1, 1, 1)


def test_no_ground_is_left_on_the_rim():
    """A red disk on green: nothing of the texture where the figure is shows green."""
    pixels = np.full((64, 64, 3), (0, 200, 0), np.uint8)
    pixels[ball() > 0] = (200, 0, 0)
    blurred = Image.fromarray(pixels).resize((40, 40), Image.Resampling.BILINEAR).resize((64, 64))
    solid = inflate(blurred, ball())
    texture = np.asarray(solid.texture)
    high, wide = texture.shape[:2]
    at = np.minimum((solid.uv * (wide, high)).astype(int), (wide - 1, high - 1))
    assert texture[at[:, 1], at[:, 0], 1].max() < 100


TWENTY = pytest.param(NOUNS + MORE, marks=pytest.mark.full, id="twenty")


@pytest.mark.slow
@pytest.mark.parametrize("nouns", [NOUNS[:3], TWENTY])
def test_khronos_validator_finds_no_error_and_no_warning(render, khronos, tmp_path, nouns):
    files = []
    for noun in nouns:
        began = time.process_time()
        held = hold(render(noun))
        path = tmp_path / f"{noun}.glb"
        path.write_bytes(held.glb)
        assert time.process_time() - began < 6  # three seconds on two idle cores
        assert path.stat().st_size <= 1.5e6
        files.append(path)
    for issues in khronos(files):
        assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]


@pytest.mark.slow
def test_openusds_validators_find_nothing(render, tmp_path):
    pytest.importorskip("pxr", reason="OpenUSD is missing: pip install usd-core")
    from pxr import Usd, UsdGeom, UsdValidation

    held = hold(render("cat"))
    path = next(p for p in held.write(tmp_path, "cat") if p.suffix == ".usdz")
    stage = Usd.Stage.Open(str(path))
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    found = UsdValidation.ValidationContext(validators).Validate(stage)
    assert [(one.GetName(), one.GetMessage()) for one in found] == []
    assert len(validators) > 10
    layer = stage.GetRootLayer()
    assert layer.customLayerData["digitalSourceType"] == DRAWN
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/Figure/Surface"))
    assert len(mesh.GetPointsAttr().Get()) == len(held.solid.vertices)


@pytest.mark.slow
def test_members_of_a_usdz_are_stored_and_begin_on_64_bytes(render, tmp_path):
    path = next(p for p in hold(render("star")).write(tmp_path, "star") if p.suffix == ".usdz")
    data = path.read_bytes()
    members = zipfile.ZipFile(io.BytesIO(data)).infolist()
    assert [one.filename for one in members] == ["model.usda", "texture.jpg"]
    for one in members:
        at = one.header_offset
        name, extra = (int.from_bytes(data[at + i : at + i + 2], "little") for i in (26, 28))
        assert one.compress_type == zipfile.ZIP_STORED
        assert (at + 30 + name + extra) % 64 == 0


@pytest.mark.slow
def test_each_file_says_that_a_machine_drew_it(render, tmp_path):
    written = hold(render("car", run="rex/pocket-01")).write(
        tmp_path / "out", "car", with_stereo=True
    )
    assert [path.suffix for path in written] == [".json", ".glb", ".usdz", ".jpg", ".html"]
    for path in written[1:]:
        said = {one.what: one.said for one in read_statements(path)}
        assert said["digital source type"] == DRAWN, path
        assert said["model"] == "pocket, fine-tuned" and said["tool"].startswith("s2i "), path


@pytest.mark.slow
def test_a_relief_is_closed_60_mm_wide_and_stands_out(render):
    held = hold(render("cat"))
    plate = relief.to_relief(relief.figure_heights(held.mask.alpha))
    again = trimesh.load(io.BytesIO(plate.export(file_type="stl")), file_type="stl")
    assert again.is_watertight and again.is_volume and again.volume > 0
    assert max(again.extents[:2]) == pytest.approx(60)
    assert again.extents[2] == pytest.approx(relief.PLATE_MM + relief.RAISED_MM, rel=0.02)


def test_the_left_eye_sees_what_is_near_further_to_the_right():
    image = Image.new("RGB", (100, 100), "white")
    image.paste("red", (40, 40, 60, 60))
    heights = np.zeros((100, 100))
    heights[40:60, 40:60] = 1
    pair = np.asarray(relief.stereo_pair(image, heights))
    assert pair.shape == (100, 200, 3)
    red = (pair == (255, 0, 0)).all(axis=2)[50]
    left, right = np.flatnonzero(red[:100]).mean(), np.flatnonzero(red[100:]).mean()
    assert left - right == pytest.approx(100 * relief.SHIFT, abs=1)
    assert ((pair == (255, 0, 0)).all(axis=2) | (pair == 255).all(axis=2)).all()  # no holes


@pytest.mark.slow
def test_a_name_that_is_taken_is_never_written_over_and_forget_finds_all(render, drive):
    drive.creations.mkdir(parents=True)
    who = [{"name": "Rex", "class_noun": "cat", "identifier": "ohwx", "kind": "animal"}]
    path = render("cat", drive.creations, subjects=who)
    held = hold(path)
    first = held.write(drive.creations, path.stem, with_relief=True, with_stereo=True)
    before = {one: one.read_bytes() for one in first}
    second = held.write(drive.creations, path.stem)
    assert not set(first) & set(second)
    assert {one: one.read_bytes() for one in first} == before
    traces = {trace.path for trace in privacy.find_traces(drive, "Rex")}
    assert traces == {path, path.with_suffix(".json"), *first, *second}
    doubts = [one for one in privacy.find_doubts(drive, "Rex") if drive.root in one.path.parents]
    assert doubts == []  # what other programs left in the temporary folder is not ours


@pytest.mark.slow
def test_a_shared_copy_is_held_without_a_record(render, tmp_path):
    [copy] = gallery.share([render("cat")], tmp_path)
    held = hold(copy)
    assert held.record is None and held.mark.model == "pocket"
    assert "a cat" not in held.page() and "machine" in held.alt


@pytest.mark.slow
def test_in_a_notebook_it_shows_itself_without_a_network(render):
    record = {"prompt": 'a "cat" <b>', "model": "pocket"}
    html = hold(Picture(Image.open(render("cat")), record))._repr_html_()
    assert html.startswith("<iframe") and "<b>" not in html.split("srcdoc")[0]


# ---- What cannot be held: one sentence each ----


def refused(path, match):
    with pytest.raises(InputError, match=match) as caught:
        hold(path)
    assert "\n" not in str(caught.value)


def saved(image: Image.Image, folder) -> object:
    record = {"prompt": "x", "seed": 1, "negative": "", "model": "pocket"}
    return gallery.save(Picture(image, record), folder)


@pytest.mark.slow
def test_what_cannot_be_held_is_said_in_a_sentence(tmp_path):
    refused(saved(Image.new("RGB", (64, 64), "blue"), tmp_path), "No figure can be cut out")
    refused(saved(Image.new("RGBA", (64, 64), (9, 9, 9, 0)), tmp_path), "is transparent")
    refused(saved(Image.new("RGB", (10_000, 8)), tmp_path), "10,000 x 8 pixels")
    foreign = tmp_path / "foreign.png"
    Image.new("RGB", (64, 64)).save(foreign)
    refused(foreign, "does not say that a machine drew it")
    refused(tmp_path / "none.png", "no picture")
    (tmp_path / "text.png").write_text("hello")
    refused(tmp_path / "text.png", "cannot be read")


@pytest.mark.slow
def test_a_folder_that_takes_nothing_is_said_in_a_sentence(render, faulty_drive):
    faulty_drive.fault("room for 0")
    with pytest.raises(S2iError, match=r"cannot be written|could not be written"):
        hold(render("cat")).write(faulty_drive.path / "out", "cat")


@pytest.fixture
def read_only():
    """A folder that may be read and not written, for whoever runs this; root may write anywhere."""
    with tempfile.TemporaryDirectory() as name:  # where others may enter, as tmp_path is not
        folder, user = Path(name), os.geteuid()
        folder.chmod(0o555)
        if user == 0:
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            os.seteuid(user)


@pytest.mark.slow
def test_a_read_only_folder_is_said_in_a_sentence(render, tmp_path, request):
    held = hold(render("cat"))
    held.write(tmp_path / "out", "cat", with_relief=True)  # all that it needs is loaded now
    folder = request.getfixturevalue("read_only")
    with pytest.raises(S2iError, match=r"Permission denied") as said:
        held.write(folder, "cat", with_relief=True)
    assert str(folder) in str(said.value) and "\n" not in str(said.value)
    assert list(folder.iterdir()) == []


def test_the_viewer_is_the_one_that_was_published(monkeypatch, tmp_path):
    assert "model-viewer" in read_viewer()
    other = tmp_path / VIEWER.name
    other.write_text(VIEWER.read_text() + "//")
    monkeypatch.setattr("s2i_lib.ar.page.VIEWER", other)
    read_viewer.cache_clear()
    with pytest.raises(S2iError, match="not the one that was published"):
        read_viewer()
    monkeypatch.undo()
    read_viewer.cache_clear()


def test_a_qr_code_is_of_an_address_of_the_web():
    assert qr_svg("https://example.org/cat.html").startswith("<svg")
    for wrong in ("cat.html", "https://a/" + "x" * 4000):
        with pytest.raises(InputError, match=r"no address|letters"):
            qr_svg(wrong)


@pytest.mark.slow
def test_what_a_figure_says_in_json_is_what_its_mark_says(render):
    glb = hold(render("cat")).glb
    said = json.loads(glb[20 : 20 + int.from_bytes(glb[12:16], "little")])["asset"]
    assert said["extras"]["digitalSourceType"] == DRAWN and said["version"] == "2.0"

"""A relief of a whole picture: what a network sees nearer stands out further, and says who drew it.

The network is tiny and random, in the real one's layout (tests/twin/repositories.py); what it sees
is compared with what transformers' own classes make of the same files.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from safetensors.torch import load_file, save_file

from s2i_lib.ar import relief
from s2i_lib.ar.depth import estimate_depth
from s2i_lib.ar.hold import hold
from s2i_lib.drawing.made_by import read_statements
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.folder import check_network
from s2i_lib.models.registry import DEPTH
from s2i_lib.models.vision import Preparation
from s2i_lib.storage.layout import Drive, folder_name
from tests.renders import landscape, save_landscape
from tests.twin import repositories
from tests.twin.repositories import write_depth, write_json

DRAWN = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


COMMIT = "5426e4f0f36572d16453bbda7a8389317b1bef99"


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    write_depth(folder := tmp_path_factory.mktemp("depth") / "small")
    return folder


@pytest.fixture(scope="module")
def stocked(network, tmp_path_factory) -> Drive:
    """A Drive that the network is kept on."""
    drive = Drive(tmp_path_factory.mktemp("stocked"))
    shutil.copytree(network, drive.models / folder_name(DEPTH))
    return drive


@pytest.fixture
def hub(serve_hub, network):
    return serve_hub({DEPTH: {"main": network, COMMIT: network}})


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A saved picture in which nothing stands out."""
    return save_landscape(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def held(stocked, scene):
    return hold(scene, drive=stocked)


def by_transformers(folder, image: Image.Image) -> np.ndarray:
    from transformers import AutoModelForDepthEstimation, DPTImageProcessorPil

    prepare = DPTImageProcessorPil.from_pretrained(folder)
    network = AutoModelForDepthEstimation.from_pretrained(folder)
    with torch.inference_mode():
        return network(**prepare(image, return_tensors="pt")).predicted_depth[0].numpy()


@pytest.mark.slow
@pytest.mark.parametrize("width", [64, 128, 40])
def test_depth_is_what_transformers_own_classes_see(network, stocked, width):
    image = landscape(width)
    theirs = by_transformers(network, image)
    ours = estimate_depth(image, stocked)
    low, high = np.percentile(theirs, [1, 99])
    assert ours.shape == theirs.shape and (ours.min(), ours.max()) == (0, 1)
    assert np.abs(ours - ((theirs - low) / (high - low)).clip(0, 1)).max() < 0.02


@pytest.mark.slow
def test_the_real_one_has_as_many_bytes_as_were_published(tmp_path):
    write_depth(tmp_path / "real", is_tiny=False)
    assert (tmp_path / "real" / "model.safetensors").stat().st_size == 99_173_660
    check_network(tmp_path / "real", ["backbone_config"])


def test_it_comes_from_the_pinned_commit_once_and_stays_on_the_drive(hub, drive):
    estimate_depth(landscape(), drive)
    assert (drive.models / folder_name(DEPTH) / "model.safetensors").is_file()
    assert any(COMMIT in path for path in hub.asked)
    hub.asked.clear()
    estimate_depth(landscape(), drive)
    assert hub.asked == [] and hub.with_token == []


@pytest.mark.slow
def test_what_is_near_stands_out_of_a_closed_relief(network, held, tmp_path):
    near = by_transformers(network, landscape())
    solid = held.solid
    assert solid.mesh.is_watertight and solid.mesh.is_volume and solid.mesh.volume > 0
    written = {path.suffix: path for path in held.write(tmp_path / "out", "m", with_relief=True)}
    plate = trimesh.load(written[".stl"])
    assert plate.is_watertight and plate.is_volume and plate.volume > 0
    assert max(plate.extents[:2]) == pytest.approx(relief.SIDE_MM)
    assert plate.extents[2] == pytest.approx(relief.PLATE_MM + relief.RAISED_MM, rel=0.05)
    front = solid.normals[:, 2] > 0.05
    top = plate.vertices[:, 2] > 1
    for places, side in ((plate.vertices[top], 60), (solid.vertices[front], 0.2)):
        x, y = (places[:, i] - places[:, i].min() for i in (0, 1))
        row = ((1 - y / side) * (near.shape[0] - 1)).round().astype(int).clip(0, near.shape[0] - 1)
        column = (x / side * (near.shape[1] - 1)).round().astype(int).clip(0, near.shape[1] - 1)
        assert np.corrcoef(places[:, 2], near[row, column])[0, 1] > 0.98


def test_the_picture_lies_upright_on_the_relief():
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32], pixels[:, 32:], pixels[:16] = (255, 0, 0), (0, 0, 255), 255
    solid = relief.to_solid(Image.fromarray(pixels), np.zeros((64, 64)))
    texture, front = np.asarray(solid.texture), solid.normals[:, 2] > 0.9

    def colour_at(x: float, y: float) -> tuple[int, ...]:
        nearest = np.square(solid.vertices[front, :2] - (x, y)).sum(axis=1).argmin()
        u, v = solid.uv[front][nearest] * (texture.shape[1] - 1, texture.shape[0] - 1)
        return tuple(texture[round(v), round(u)] // 128)

    assert colour_at(-0.05, -0.05) == (1, 0, 0) and colour_at(0.05, -0.05) == (0, 0, 1)
    assert colour_at(0, 0.09) == (1, 1, 1)


@pytest.mark.slow
def test_the_two_views_differ_by_the_depth(held):
    """Marks of one colour each, one a place: the nearer, the further apart in the two views."""
    image, side, size = Image.new("RGB", (512, 512), "black"), 512, 8
    near = np.asarray(Image.fromarray(held.depth).resize((side, side)))
    places = [(x, y) for x in range(64, 480, 64) for y in range(64, 480, 64)]
    for number, (x, y) in enumerate(places):
        image.paste((255, number * 3, 100), (x, y, x + size, y + size))
    pair = np.asarray(relief.stereo_pair(image, held.depth)).astype(int)
    apart, depths = [], []
    for number, (x, y) in enumerate(places):
        is_it = (pair == (255, number * 3, 100)).all(axis=2)
        left, right = (np.nonzero(half)[1] for half in (is_it[:, :side], is_it[:, side:]))
        if len(left) and len(right):
            apart.append(np.median(left) - np.median(right))
            depths.append(near[y : y + size, x : x + size].mean())
    assert len(apart) > 40 and np.ptp(depths) > 0.5
    assert np.corrcoef(apart, depths)[0, 1] > 0.95
    assert np.abs(np.array(apart) - np.array(depths) * relief.SHIFT * side).max() < 3


@pytest.mark.slow
def test_each_file_of_a_relief_says_that_a_machine_drew_it(held, tmp_path, khronos):
    written = held.write(tmp_path / "out", "meadow", with_relief=True, with_stereo=True)
    ends = [path.suffix for path in written]
    assert ends == [".json", ".glb", ".usdz", ".stl", ".jpg", ".html"]
    for path in written:
        if path.suffix in (".json", ".stl"):
            continue
        said = {one.what: one.said for one in read_statements(path)}
        assert said["digital source type"] == DRAWN and said["model"] == "pocket", path
    glb = written[1]
    assert glb.stat().st_size <= 1.5e6
    [issues] = khronos([glb])
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]
    page = written[-1].read_text()
    assert "relief of the whole picture" in page and "puffy" not in page


@pytest.mark.slow
def test_something_that_stands_out_is_a_figure_unless_the_whole_is_asked_for(
    serve_hub, drive, stocked, render
):
    hub = serve_hub({})
    assert hold(render("cat"), drive=drive).depth is None and hub.asked == []
    whole = hold(render("cat"), drive=stocked, is_whole=True)
    assert whole.depth is not None and "relief" in whole.page()


# ---- Where there is no depth ----


@pytest.mark.slow
def test_without_the_network_something_that_stands_out_is_a_figure_and_that_is_said(
    serve_hub, drive, render, caplog
):
    serve_hub({})
    held = hold(render("cat"), drive=drive, is_whole=True)
    assert held.depth is None and held.solid.mesh.is_watertight
    assert "no relief of all of it" in caplog.text and DEPTH in caplog.text


@pytest.mark.slow
def test_without_the_network_a_scene_is_refused_in_one_paragraph(serve_hub, drive, scene):
    serve_hub({})
    with pytest.raises(InputError, match=r"No figure can be cut out.*Nor is there a") as said:
        hold(scene, drive=drive)
    assert DEPTH in str(said.value) and "\n" not in str(said.value)


def test_a_picture_of_one_colour_has_no_depth_and_nothing_is_downloaded(hub, drive):
    with pytest.raises(InputError, match="of one colour"):
        estimate_depth(Image.new("RGB", (64, 64), "blue"), drive)
    assert hub.asked == []


def test_weights_that_give_no_numbers_are_said(network, drive):
    folder = shutil.copytree(network, drive.models / folder_name(DEPTH))
    tensors = load_file(folder / "model.safetensors")
    tensors["head.conv3.bias"].fill_(float("nan"))
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(S2iError, match="not numbers"):
        estimate_depth(landscape(), drive)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"backbone": "resnet50"}, "backbone has code or another file loaded"),
        ({"use_timm_backbone": True}, "use_timm_backbone has code"),
        ({"fusion_hidden_size": 100_000}, "fusion_hidden_size is 100000"),
        ({"backbone_config": {"model_type": "evil"}}, "of its backbone_config is 'evil'"),
        ({"backbone_config": {"model_type": "dinov2", "hidden_size": 8192}}, "calls for"),
    ],
)
def test_a_changed_network_is_refused_before_it_is_built(network, tmp_path, change, what):
    folder = shutil.copytree(network, tmp_path / "changed")
    write_json(folder / "config.json", repositories.DEPTH | change)
    with pytest.raises(InputError, match=what):
        check_network(folder, ["backbone_config"])


def test_the_network_wants_pictures_of_a_size_that_it_can_have(tmp_path):
    for change in ({"size": {"height": 10**6, "width": 10**6}}, {"ensure_multiple_of": "x"}):
        write_json(tmp_path / "preprocessor_config.json", repositories.DEPTH_PREPARATION | change)
        with pytest.raises(InputError, match="does not say how pictures are prepared"):
            Preparation.read(tmp_path)

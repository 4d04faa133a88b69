"""The subject's mask: on photographs whose subjects were boxed by eye, and where it doubts."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from benchmarks.photos import BOXES
from s2i_lib.errors import S2iError
from s2i_lib.models.registry import PACKAGE
from s2i_lib.photos.mask import WEIGHTS, find_mask, load_network

PHOTOS = sorted((PACKAGE / "samples" / "rc_car").glob("*.jpg"))


def overlap(one, other) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(0, width) * max(0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both)


@pytest.mark.slow
def test_photographed_toy_is_cut_out():
    """The antenna is as thin as a pixel of the network's, so that a box may end below it."""
    found = []
    for path, box in zip(PHOTOS, BOXES["rc_car"], strict=True):
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        mask = find_mask(image)
        assert mask.alpha.shape == image.size[::-1] and mask.doubt == ""
        sides = np.array(image.size * 2)
        found.append(overlap(np.array(box) * sides, mask.box))
        assert mask.alpha[:20].max() < 0.5, "the wall above is not the toy"
    assert min(found) > 0.6 and np.mean(found) > 0.75, found


@pytest.mark.slow
def test_photo_takes_at_most_a_second_and_a_half_of_one_core():
    image = Image.open(PHOTOS[0])
    find_mask(image)
    began = time.process_time()
    find_mask(image)
    assert time.process_time() - began < 1.5


def scene(*discs: tuple[int, int, int, str], ground: str = "white") -> Image.Image:
    """Discs (x, y, radius, colour) on a plain ground."""
    image = Image.new("RGB", (400, 300), ground)
    draw = ImageDraw.Draw(image)
    for x, y, radius, colour in discs:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
    return image


@pytest.mark.slow
def test_second_thing_at_the_edge_is_not_the_subject():
    mask = find_mask(scene((190, 150, 90, "red"), (385, 280, 28, "blue")))
    assert mask.alpha[150, 190] > 0.9 and mask.alpha[270:, 370:].max() < 0.2
    assert overlap(mask.box, (100, 60, 280, 240)) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("second", "is_rival"), [((320, 150, 60, "blue"), True), ((300, 150, 20, "blue"), False)]
)
def test_second_subject_of_the_same_size_is_a_rival_and_a_small_one_is_none(second, is_rival):
    mask = find_mask(scene((110, 150, 60, "red"), second))
    assert mask.doubt == "" and ("two things stand out" in mask.rival) == is_rival


@pytest.mark.slow
def test_photographed_toy_has_no_rival():
    assert find_mask(Image.open(PHOTOS[0]).convert("RGB")).rival == ""


@pytest.mark.slow
def test_small_subject_is_looked_at_from_close_by():
    mask = find_mask(scene((120, 200, 12, "darkgreen")))
    assert overlap(mask.box, (108, 188, 132, 212)) > 0.75


def cut_off_on_both_sides() -> Image.Image:
    image = Image.open(PHOTOS[1]).convert("RGB")
    return image.crop((round(0.38 * image.width), 0, round(0.66 * image.width), image.height))


def filled_by_its_subject() -> Image.Image:
    """The toy's box, and of that the middle: nothing but toy."""
    image = ImageOps.exif_transpose(Image.open(PHOTOS[0])).convert("RGB")
    left, top, right, bottom = BOXES["rc_car"][0] * np.array(image.size * 2)
    across, down = 0.3 * (right - left), 0.3 * (bottom - top)
    return image.crop(tuple(map(round, (left + across, top + down, right - across, bottom - down))))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("image", "doubt"),
    [
        (scene(), "nothing stands out"),
        (cut_off_on_both_sides(), "two edges of the photo cut"),
        (
            scene(*[(60 + 70 * x, 75 + 150 * y, 22, "red") for x in range(5) for y in range(2)]),
            "many pieces",
        ),
        (filled_by_its_subject(), "subject"),
    ],
    ids=["a plain wall", "cut by edges", "ten balls", "nothing but subject"],
)
def test_doubtful_mask_says_why(image, doubt):
    assert doubt in find_mask(image).doubt


def test_missing_or_damaged_weights_are_named_with_the_next_step(tmp_path):
    with pytest.raises(S2iError, match=r"is missing\. Install this package again"):
        load_network(tmp_path / "u2netp.onnx")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(WEIGHTS.read_bytes()[:-1])
    with pytest.raises(S2iError, match="SHA-256 differs"):
        load_network(damaged)

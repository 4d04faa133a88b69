"""The square: always inside, always square, and around what is in the photo."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings
from PIL import Image

from s2i_lib.errors import InputError
from s2i_lib.photos.crop import Box, Region, find_subject, parse_crop, square_around, without_bars

sides = st.integers(1, 6000)
margins = st.floats(0, 2)


@st.composite
def regions(draw, inside: Region = Region(0.0, 0.0, 1.0, 1.0)) -> Region:  # noqa: B008
    across = sorted(draw(st.tuples(st.floats(0, 1), st.floats(0, 1))))
    down = sorted(draw(st.tuples(st.floats(0, 1), st.floats(0, 1))))
    return Region(
        inside.left + across[0] * inside.width,
        inside.top + down[0] * inside.height,
        inside.left + across[1] * inside.width,
        inside.top + down[1] * inside.height,
    )


@given(regions(), regions(), sides, sides, margins)
@example(Region(0, 0, 0, 0), Region(0, 1, 0, 1), 1, 1, 0.0)
def test_every_crop_lies_in_the_photo(region, frame, width, height, margin):
    box = square_around(region, frame, width, height, margin)
    assert box.check("photo", width, height) is box


@given(st.data(), sides, sides, margins)
def test_a_crop_keeps_out_of_the_bars(data, width, height, margin):
    frame = Region(0.1, 0.2, 0.9, 0.8)
    box = square_around(data.draw(regions(frame)), frame, width, height, margin)
    left, top, right, bottom = box.corners
    if min(width, height) >= 10:
        assert round(0.1 * width) <= left and right <= round(0.9 * width)
        assert round(0.2 * height) <= top and bottom <= round(0.8 * height)


@given(regions(), st.integers(50, 6000), st.integers(50, 6000), margins)
def test_a_crop_holds_the_whole_subject_where_a_square_can(region, width, height, margin):
    box = square_around(region, Region(0.0, 0.0, 1.0, 1.0), width, height, margin)
    pixels = (
        region.left * width, region.top * height, region.right * width, region.bottom * height,
    )  # fmt: skip
    if max(region.width * width, region.height * height) <= min(width, height):
        left, top, right, bottom = box.corners
        assert left <= pixels[0] + 1 and top <= pixels[1] + 1
        assert right >= pixels[2] - 1 and bottom >= pixels[3] - 1
    else:
        assert box.size == min(width, height)


def test_of_what_is_too_tall_the_top_is_kept():
    standing = Region(0.2, 0.05, 0.8, 0.95)
    box = square_around(standing, Region(0.0, 0.0, 1.0, 1.0), 900, 1600, 0.2)
    assert box.top <= 0.05 * 1600 and box.size == 900


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    st.integers(24, 200), st.integers(24, 200), st.integers(0, 2**32 - 1),
    st.sampled_from(["noise", "flat", "blob"]),
)  # fmt: skip
def test_any_picture_gives_a_region_inside_it(width, height, seed, what):
    random = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 128, np.uint8)
    if what == "noise":
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
    if what == "blob":
        pixels[height // 3 : height // 2, width // 3 : width // 2] = random.integers(0, 256, 3)
    found = find_subject(Image.fromarray(pixels), look_for_faces=seed % 2 == 0)
    r = found.region
    assert 0 <= r.left < r.right <= 1 and 0 <= r.top < r.bottom <= 1
    assert found.frame.left <= r.left and r.right <= found.frame.right


@pytest.mark.slow
@pytest.mark.parametrize("at", [(60, 40), (250, 40), (150, 150), (40, 170)])
def test_what_stands_out_is_found_wherever_it_is(at):
    pixels = np.random.default_rng(0).normal(150, 6, (300, 400, 3)).clip(0, 255).astype(np.uint8)
    x, y = at
    pixels[y : y + 80, x : x + 80] = (200, 40, 40)
    found = find_subject(Image.fromarray(pixels), look_for_faces=False)
    assert found.method == "what stands out"
    edges = np.array([found.region.left * 400, found.region.top * 300,
                      found.region.right * 400, found.region.bottom * 300])  # fmt: skip
    assert np.abs(edges - [x, y, x + 80, y + 80]).max() < 16  # a fifth of it


@pytest.mark.slow
def test_where_nothing_stands_out_the_centre_is_cropped():
    found = find_subject(Image.new("RGB", (400, 300), (90, 120, 150)), look_for_faces=True)
    assert found.method == "centre"
    assert square_around(found.region, found.frame, 400, 300, 0.2) == Box(50, 0, 300)


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [-8, 0, 8])
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_a_face_is_found_and_its_crop_holds_the_head(degrees, scale):
    from skimage.data import astronaut  # Eileen Collins, NASA; ships with scikit-image

    picture = Image.fromarray(astronaut()).rotate(degrees, center=(220, 120))
    picture = picture.resize([int(side * scale) for side in picture.size])
    found = find_subject(picture, look_for_faces=True)
    assert found.method == "face"
    head = np.array([0.34, 0.13, 0.54, 0.38])  # forehead to chin, ear to ear
    region = found.region
    assert region.left <= head[0] and region.top <= head[1]
    assert region.right >= head[2] and region.bottom >= head[3]
    assert region.width < 0.6


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "others"), [(1.0, 1), (0.7, 1), (0.35, 0)])
def test_a_second_face_is_counted_unless_it_stands_far_behind(scale, others):
    """What a model that learns one person has to be told of; a mug has no face."""
    from skimage.data import astronaut

    face = Image.fromarray(astronaut()).crop((120, 0, 340, 220))
    pair = Image.new("RGB", (480, 240), (90, 120, 150))
    pair.paste(face, (10, 10))
    pair.paste(face.resize([int(side * scale) for side in face.size]), (250, 10))
    found = find_subject(pair, look_for_faces=True)
    assert found.n_others == others
    assert scale == 1 or found.region.right < 0.55, "the larger one is taken"
    assert find_subject(pair, look_for_faces=False).n_others == 0


def test_bars_of_one_colour_are_cut_off_and_a_plain_sky_is_not():
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (200, 200, 3), np.uint8)
    barred = picture.copy()
    barred[:40] = barred[160:] = 0
    frame = without_bars(barred)
    assert (frame.top, frame.bottom) == pytest.approx((0.2, 0.8), abs=0.011)
    assert (frame.left, frame.right) == (0.0, 1.0)
    sky = picture.copy()
    sky[:60] = (120, 170, 230)
    assert without_bars(sky) == without_bars(picture) == Region(0.0, 0.0, 1.0, 1.0)


def test_a_crop_can_be_written_on_the_command_line():
    assert parse_crop("a=b.jpg=10,20,300") == ("a=b.jpg", Box(10, 20, 300))
    assert parse_crop("a.jpg=auto") == ("a.jpg", None)
    for text in ("a.jpg", "a.jpg=1,2", "a.jpg=1,2,x", "=1,2,3"):
        with pytest.raises(InputError, match="LEFT,TOP,SIZE"):
            parse_crop(text)
    with pytest.raises(InputError, match="does not lie in the photo"):
        Box(0, 0, 101).check("a.jpg", 100, 200)

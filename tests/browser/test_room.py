"""The page of a room in Chromium: it shows the picture around, and steps into it under WebXR.

The headset is Meta's emulator, `iwer`, which stands in for the browser's own WebXR.
"""

from __future__ import annotations

import io

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from s2i_lib.ar.page import room_page
from s2i_lib.drawing import gallery
from s2i_lib.drawing.records import Picture
from s2i_lib.errors import InputError
from tests import npm
from tests.browser import screenshots
from tests.browser.test_figure import WEBGL

HEADSET = "new IWER.XRDevice(IWER.metaQuest3).installRuntime();"
# Ahead, right, behind, left: the colours of the picture's quarters, beginning in its middle.
AHEAD, RIGHT, BEHIND, LEFT = (220, 30, 30), (30, 200, 30), (30, 30, 220), (220, 200, 30)


@pytest.fixture
def room_file(tmp_path):
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, :16] = pixels[:, 112:] = BEHIND
    pixels[:, 16:48], pixels[:, 48:80], pixels[:, 80:112] = LEFT, AHEAD, RIGHT
    pixels[:10] = 255  # the sky
    record = {"prompt": "a room <b>", "seed": 1, "negative": "", "model": "pocket"}
    path = gallery.save(Picture(Image.fromarray(pixels), record), tmp_path)
    page = tmp_path / "room.html"
    page.write_text(room_page(path))
    return page


def colour(page) -> tuple[int, ...]:
    """What is seen in the middle."""
    shot = page.locator("canvas").screenshot()
    image = Image.open(io.BytesIO(shot)).convert("RGB")
    return image.getpixel((image.width // 2, image.height // 2))


@pytest.mark.timeout(600)
def test_a_room_is_seen_around_offline_and_stepped_into(chromium, room_file, tmp_path):
    page = chromium(args=WEBGL)
    page.set_default_timeout(120_000)
    page.add_init_script(
        path=npm.install("iwer@2.2.1", tmp_path) / "iwer" / "build" / "iwer.min.js"
    )
    page.add_init_script(HEADSET)
    failed = []
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.context.set_offline(True)
    page.goto(room_file.as_uri())
    page.wait_for_function("() => window.room.frames > 0")
    screenshots.keep(page.screenshot(), "room")

    for turn, expected in ((0, AHEAD), (90, RIGHT), (180, BEHIND), (270, LEFT)):
        page.evaluate("(yaw) => { room.yaw = yaw - 0.1; room.pitch = 0; }", np.deg2rad(turn))
        page.locator("canvas").press("ArrowRight")
        page.wait_for_timeout(500)
        assert np.abs(np.subtract(colour(page), expected)).max() < 12
    page.evaluate("() => { room.pitch = 1.4; }")
    page.locator("canvas").press("ArrowUp")
    page.wait_for_timeout(500)
    assert min(colour(page)) > 240, "above is the sky"

    results = Axe().run(page, options={"resultTypes": ["violations"]})
    assert results.violations_count == 0, results.generate_report()
    page.get_by_role("button", name="Step into it").click()
    page.wait_for_function("() => window.room.xrFrames > 2")
    assert failed == []


def test_a_picture_that_is_no_panorama_is_a_sentence(tmp_path):
    record = {"prompt": "x", "seed": 1, "negative": "", "model": "pocket"}
    path = gallery.save(Picture(Image.new("RGB", (64, 64)), record), tmp_path)
    with pytest.raises(InputError, match="twice as wide as high"):
        room_page(path)

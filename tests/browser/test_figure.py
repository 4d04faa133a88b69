"""The page of a figure in Chromium, without a network: it loads, turns, and can be used by all."""

from __future__ import annotations

import io

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from s2i_lib.ar.hold import Held
from s2i_lib.drawing.marks import Mark
from s2i_lib.photos.mask import Mask
from tests.browser import screenshots

# Chromium draws WebGL on the CPU where there is no GPU.
WEBGL = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
LOADED = "() => document.querySelector('model-viewer')?.loaded"
TURN_TO = """async (orbit) => {
  const figure = document.querySelector('model-viewer');
  figure.removeAttribute('auto-rotate');
  figure.setAttribute('interaction-prompt', 'none');
  figure.resetTurntableRotation(0);
  figure.cameraOrbit = orbit;
  figure.jumpCameraToGoal();
  await new Promise((done) => setTimeout(done, 1500));
}"""
SIDES = {
    "front": "0deg 90deg auto", "right": "90deg 90deg auto", "back": "180deg 90deg auto",
    "left": "270deg 90deg auto", "top": "0deg 1deg auto", "bottom": "0deg 179deg auto",
}  # fmt: skip


@pytest.fixture
def page_file(tmp_path):
    """A disk, red on the left and blue on the right, as its page."""
    y, x = (np.mgrid[:64, :64] + 0.5) / 64 - 0.5
    alpha = (x**2 + y**2 < 0.4**2).astype(np.float32)
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32], pixels[:, 32:] = (220, 20, 20), (20, 20, 220)
    held = Held(Image.fromarray(pixels), Mask(alpha), Mark("pocket"), "A disk", "A disk. Drawn.")
    path = tmp_path / "disk.html"
    path.write_text(held.page("disk", "https://example.org/disk.html"))
    return path


@pytest.mark.timeout(600)
def test_a_figure_is_shown_offline_from_six_sides_and_for_all(chromium, page_file):
    page = chromium(args=WEBGL)
    page.set_default_timeout(120_000)
    failed = []
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.on("request", lambda one: failed.append(one.url) if one.url.startswith("http") else None)
    page.context.set_offline(True)
    page.goto(page_file.as_uri())
    page.wait_for_function(LOADED)
    assert failed == []
    results = Axe().run(page, options={"resultTypes": ["violations"]})
    assert results.violations_count == 0, results.generate_report()
    button = page.get_by_role("button", name="Turn it")
    was = button.get_attribute("aria-pressed")
    button.click()
    assert button.get_attribute("aria-pressed") != was

    seen = {}
    for side, orbit in SIDES.items():
        page.evaluate(TURN_TO, orbit)
        shot = page.locator("model-viewer").screenshot()
        screenshots.keep(shot, f"figure-{side}")
        seen[side] = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)
    for side, is_red_left in (("front", True), ("back", False), ("top", True)):
        red, blue = (_where(seen[side], channel) for channel in (0, 2))
        assert (red < blue) == is_red_left, side
    assert _is_shown(seen["right"], 2) and not _is_shown(seen["right"], 0)
    assert _is_shown(seen["left"], 0) and not _is_shown(seen["left"], 2)


def _is_shown(pixels: np.ndarray, channel: int) -> bool:
    return bool(_inside(pixels, channel).sum() > 200)


def _inside(pixels: np.ndarray, channel: int) -> np.ndarray:
    """Where red (0) or blue (2) is seen."""
    return pixels[:, :, channel] > pixels.sum(axis=2) - pixels[:, :, channel] + 20


def _where(pixels: np.ndarray, channel: int) -> float:
    """Mean place of a colour from left (0) to right (1)."""
    assert _is_shown(pixels, channel)
    return float(np.nonzero(_inside(pixels, channel))[1].mean() / pixels.shape[1])

"""One JupyterLab for all browser tests, and Chromium with the devices that a test asks for."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from s2i_lib.drawing.gallery import wav_bytes
from s2i_lib.speech.audio import load_audio
from tests.browser import screenshots
from tests.browser.lab import run_lab
from tests.browser.voices import CLIP, put_quiet_around

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--mute-audio",
]  # fmt: skip
DEFAULTS_IN_THE_WAY = ["--mute-audio", "--hide-scrollbars"]  # of Playwright

# The notebook whose cells the tests write: fakes no device, only names a folder.
SET_UP = """
import os
from pathlib import Path
from s2i_lib.storage.layout import Drive
drive = Drive(Path({root!r}))
"""


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="no chromium: apt-get install chromium"))


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    with run_lab(tmp_path_factory.mktemp("notebooks")) as server:
        yield server


@pytest.fixture(scope="session")
def playwright():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        yield running


@pytest.fixture
def chromium(playwright, tmp_path):
    """``chromium(wav=, video=, allow=, has_devices=, args=, locale=)`` opens, and gives a page."""
    with contextlib.ExitStack() as stack:

        def start(*, wav=None, video=None, allow=True, has_devices=True, args=(), locale="en"):
            flags = [*QUIET, *args]
            flags.append("--use-fake-ui-for-media-stream" if allow else "--deny-permission-prompts")
            if has_devices:
                flags.append("--use-fake-device-for-media-stream")
            if wav:
                flags.append(f"--use-file-for-fake-audio-capture={wav}")
            if video:
                flags.append(f"--use-file-for-fake-video-capture={video}")
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=flags, ignore_default_args=DEFAULTS_IN_THE_WAY
            )
            stack.callback(browser.close)
            page = browser.new_page(locale=locale, viewport={"width": 1000, "height": 1200})
            page.set_default_timeout(20_000)
            return page

        yield start


@pytest.fixture
def set_up(tmp_path) -> str:
    """The first cell of a test's notebook: ``drive`` is an empty folder."""
    return SET_UP.format(root=str(tmp_path / "drive"))


@pytest.fixture
def look():
    """``look(element, name)`` keeps a screenshot in $S2I_SCREENSHOTS, if that is set."""

    return lambda locator, name: screenshots.keep(locator.screenshot(), name)


@pytest.fixture
def assert_accessible():
    """Fails with axe-core's own words where a widget in the page violates a rule (WCAG 2 AA)."""

    def check(page) -> None:
        results = Axe().run(page, context=".s2i", options={"resultTypes": ["violations"]})
        assert results.violations_count == 0, results.generate_report()

    return check


@pytest.fixture(scope="session")
def speech():
    """The sample clip twice, float32 at 16 kHz: browsers take tones for noise and remove them."""
    clip = load_audio(CLIP)
    return np.concatenate([clip, clip])


@pytest.fixture(scope="session")
def wav(tmp_path_factory, speech):
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    path.write_bytes(wav_bytes(speech))
    return f"{path}%noloop"


@pytest.fixture(scope="session")
def voice(tmp_path_factory):
    """The sample clip with quiet around it (Chromium plays it as soon as it opens), its seconds."""
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    return path, 2.5 + put_quiet_around(CLIP, path)

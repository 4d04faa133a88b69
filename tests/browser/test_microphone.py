"""What the microphone hears is what Python gets, by the widget and by Colab's fallback."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import fftconvolve

from s2i_lib.errors import S2iError
from s2i_lib.widgets.microphone.colab import record

RATE_HZ = 16_000

MICROPHONE = """
import base64

from s2i_lib.widgets.microphone import Microphone
w = Microphone()
heard = []
w.on_recording(heard.append)
w
"""


def likeness(heard: np.ndarray, played: np.ndarray) -> float:
    """Correlation of the loudness over time where it fits best, -1 to 1.

    Of the loudness, not the wave: browsers take echo and noise out of what they record.
    """

    def envelope(x):
        hop = RATE_HZ // 100
        x = x[: len(x) // hop * hop].reshape(-1, hop)
        rms = np.sqrt((x**2).mean(1))
        return rms - rms.mean()

    a, b = envelope(heard), envelope(played)
    correlation = fftconvolve(a, b[::-1])
    lag = int(correlation.argmax()) - (len(b) - 1)
    start, skip = max(0, lag), max(0, -lag)
    n = min(len(a) - start, len(b) - skip)
    x, y = a[start : start + n], b[skip : skip + n]
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y) + 1e-12))


def test_recordings_arrive_as_spoken_one_after_another(
    lab, chromium, set_up, wav, speech, look, assert_accessible
):
    page = chromium(wav=wav)
    notebook = lab.open(page, set_up, MICROPHONE)
    frame = page.locator("section.s2i")
    button = frame.locator(".s2i-speak")
    button.press("Space")
    page.wait_for_selector("section.s2i[data-state=listening]")
    page.wait_for_timeout(len(speech) / RATE_HZ * 1000)
    look(frame, "microphone-listening")
    button.press("Enter")
    frame.get_by_text("seconds arrived").wait_for()
    pcm = notebook.python("base64.b64encode(heard[0].tobytes()).decode()")
    heard = np.frombuffer(base64.b64decode(pcm), np.float32)
    assert abs(len(heard) - len(speech)) < 2 * RATE_HZ
    assert likeness(heard, speech) > 0.8
    assert_accessible(page)
    button.click()
    page.wait_for_selector("section.s2i[data-state=listening]")
    page.keyboard.press("Escape")
    frame.get_by_text("Cancelled").wait_for()
    assert notebook.python("len(heard)") == 1
    box = button.bounding_box()  # hold to speak
    page.mouse.move(box["x"] + 10, box["y"] + 10)
    page.mouse.down()
    page.wait_for_selector("section.s2i[data-state=listening]")
    page.wait_for_timeout(1000)
    page.mouse.up()
    assert notebook.wait_for("len(heard) == 2")


def open_plain_page(page, **headers):
    """A secure page without Jupyter, as Colab's output frame is."""
    body = "<title>x</title>"
    page.route(
        "**/*",
        lambda route: route.fulfill(body=body, content_type="text/html", headers=headers),
    )
    page.goto("https://colab.example/")


def by_hand(page, seconds: float):
    """``eval_js`` with somebody who presses the button, speaks, and presses again."""

    def eval_js(script: str):
        if "recordOnce" not in script:
            return page.evaluate(script)
        page.evaluate(f"() => {{ window.answer = {script}; }}")
        button = page.locator(".s2i-speak")
        button.click()
        page.wait_for_timeout(seconds * 1000)
        if button.get_attribute("aria-pressed") == "true":
            button.click()
        return page.evaluate("() => window.answer")

    return eval_js


def test_colab_fallback_records_the_same(chromium, wav, speech, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "fake_colab")
    from google.colab import output

    page = chromium(wav=wav)
    open_plain_page(page)
    monkeypatch.setattr(output, "_page", by_hand(page, len(speech) / RATE_HZ))
    heard = record()  # as a cell of notebook 3 says it
    assert heard.dtype == np.float32 and likeness(heard, speech) > 0.8


WHY_NOT = {
    "refused": ({"allow": False}, {}, "The microphone was refused"),
    "missing": ({"has_devices": False}, {}, "No microphone was found"),
    "blocked": ({}, {"Permissions-Policy": "microphone=()"}, "does not let it use the microphone"),
}


@pytest.mark.parametrize("code", WHY_NOT)
def test_colab_fallback_says_why_not(chromium, code):
    devices, headers, sentence = WHY_NOT[code]
    page = chromium(**devices)
    open_plain_page(page, **headers)
    with pytest.raises(S2iError, match=sentence):
        record(eval_js=by_hand(page, 0.5))

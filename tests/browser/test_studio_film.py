"""A spoken wish becomes a picture before one's eyes: all that JupyterLab shows on the way.

``make screenshots`` keeps it as docs/studio-film.png.
"""

from __future__ import annotations

import re
import time

import pytest

from s2i_lib.models.registry import REGISTRY
from tests.browser.screenshots import Frame, choose, contact_sheet, keep
from tests.browser.test_studio import PATIENCE, SECONDS, state, until_understood

CELL = """
from s2i_lib.storage.layout import open_drive
from s2i_lib.widgets.studio import Studio

settings = {"model": "pocket"}
studio = Studio(open_drive("film"), settings=settings)
studio
"""
WINDOW = {"width": 620, "height": 1120}
EVERY_S = 0.1  # besides the time that a screenshot takes
IN_THE_FILM = {"ready": 1, "listening": 5, "drawing": 1, "done": 1}

# Notes every change that somebody could see or hear, however short it is.
_WATCH = """() => {
  const frame = document.querySelector('section.s2i');
  const names = ['.s2i-rough:not(.s2i-draft)', '.s2i-draft', '.s2i-live', '.s2i-progress .s2i-time',
                 '.s2i-gallery'];
  const [rough, draft, words, count, gallery] = names.map((name) => frame.querySelector(name));
  window.seen = [];
  const note = () => {
    const now = {state: frame.dataset.state, count: count.textContent, words: words.textContent,
                 isRough: !rough.hidden || !draft.hidden,
                 pictures: gallery.hidden ? 0 : gallery.querySelectorAll('img').length};
    if (JSON.stringify(now) !== JSON.stringify(seen.at(-1))) seen.push(now);
  };
  new MutationObserver(note).observe(
    frame, {subtree: true, childList: true, characterData: true, attributes: true});
}"""


@pytest.mark.screenshots
def test_everything_is_seen_from_the_press_to_the_picture(lab, chromium, voice):
    wav, _ = voice
    page = chromium(wav=f"{wav}%noloop")
    page.set_viewport_size(WINDOW)
    lab.open(page, CELL.strip(), name="studio.ipynb")
    frame = page.locator("section.s2i")
    state(frame, "ready")
    began = time.monotonic()
    film: list[Frame] = []

    def film_until(is_over) -> None:
        while True:
            before, after_s = frame.get_attribute("data-state"), time.monotonic() - began
            png, now = page.screenshot(), frame.get_attribute("data-state")
            if now == before:  # else nobody knows which of the two is on it
                film.append(Frame(after_s, now, png))
            if is_over(now, after_s):
                return
            page.wait_for_timeout(EVERY_S * SECONDS)

    def speak() -> None:
        page.evaluate(_WATCH)
        film.clear()
        film_until(lambda now, after_s: True)
        frame.locator(".s2i-speak").press("Enter")
        ends = ("done", "error", "asking")
        film_until(lambda now, after_s: now in ends or after_s > PATIENCE / SECONDS)

    until_understood(frame, speak)
    page.wait_for_function("() => document.querySelector('.s2i-gallery img').naturalWidth === 128")
    film_until(lambda now, after_s: True)

    seen = page.evaluate("() => window.seen")
    states = [each["state"] for each in seen]
    order = [name for i, name in enumerate(states) if i == 0 or name != states[i - 1]]
    assert order.pop(0) in ("ready", "asking")
    assert order == ["opening", "listening", "sending", "hearing", "drawing", "done"]
    # None where the drafts had all steps before the silence ended.
    own = REGISTRY["pocket"].steps
    steps = [re.fullmatch(rf"(\d+) / {own}", each["count"]) for each in seen]
    numbers = [int(match[1]) for match in steps if match]
    assert numbers == sorted(numbers) and all(n <= own for n in numbers)
    assert any(each["words"].strip() for each in seen if each["state"] == "listening")
    assert any(each["isRough"] for each in seen)
    assert not any(each["pictures"] for each in seen if each["state"] != "done")
    assert not seen[-1]["isRough"] and seen[-1]["pictures"] == 1
    keep(contact_sheet(choose(film, IN_THE_FILM)), "studio-film")

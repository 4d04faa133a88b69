"""Studios that draw at once, and a plain page that shows one: its two halves without Jupyter.

The page is in a real Chromium and the studio is a real one; what they say to each other goes by
Playwright's calls in place of a kernel's messages.
"""

from __future__ import annotations

import base64
import queue
import time
from types import SimpleNamespace
from typing import Any

from s2i_lib.speech.transcribe import HearOptions
from s2i_lib.speech.transcript import Transcript
from s2i_lib.widgets.studio import Studio

ADDRESS = "https://studio.example/"  # a secure page, as the clipboard and the microphone ask for
PAGE = """<!doctype html><html lang="en"><head><meta name="viewport"
content="width=device-width"><title>Studio</title></head><body style="margin: 0"></body></html>"""
SHOW = """async ({ code, css, state }) => {
  const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const textOf = (buffer) =>
    btoa(Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join(''));
  const listeners = {};
  const emit = (name, ...what) => (listeners[name] || []).slice().forEach((each) => each(...what));
  const model = {
    get: (name) => state[name],
    on: (name, each) => (listeners[name] ||= []).push(each),
    off: (name, each) => (listeners[name] = (listeners[name] || []).filter((one) => one !== each)),
    send: (message, _, buffers = []) => toPython(message, buffers.map(textOf)),
  };
  document.head.append(Object.assign(document.createElement('style'), { textContent: css }));
  const url = URL.createObjectURL(new Blob([code], { type: 'text/javascript' }));
  const { default: widget } = await import(url);
  widget.render({ model, el: document.body });
  setInterval(async () => {
    for (const { changes, content, buffers } of await fromPython()) {
      Object.assign(state, changes);
      Object.keys(changes).forEach((name) => emit(`change:${name}`));
      const whole = buffers.map((one) => new DataView(bytesOf(one).buffer));
      if (content) emit('msg:custom', content, whole);
    }
  }, 30);
}"""


def listener_that_hears(transcript: Transcript | None = None) -> SimpleNamespace:
    """Stand for a loaded listener that hears always the same."""
    return SimpleNamespace(
        options=HearOptions(), load=lambda: None, is_loaded=True, hear=lambda *_: transcript
    )


def quick_studio(drive, pocket, heard=None, **settings) -> Studio:
    """A studio with a loaded model, which draws at once and hears always the same."""
    settings = {"model": "pocket", "steps": 1, **settings}
    listener = listener_that_hears(heard)
    return Studio(drive, settings=settings, classroom=False, listener=listener, model=pocket)


def records(studio: Studio) -> list[dict]:
    """Those of the pictures in the strip, the oldest first."""
    assert studio.wait(240) and studio.complaint == ""
    return [studio._shown[entry["id"]].picture.record for entry in reversed(studio.strip)]


def wait_until(is_true, timeout_s: float = 120.0) -> None:
    end = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.05)


class Bridge:
    """What a studio has for a kernel here: its messages go to every page that shows it."""

    def __init__(self, studio: Studio) -> None:
        self.comm_id, self.is_alive = "bridge", True
        self._studio, self._pages = studio, []
        self._deliver = lambda message: None
        studio.comm = self

    def on_msg(self, deliver) -> None:
        self._deliver = deliver

    def send(self, data=None, metadata=None, buffers=None) -> None:
        news = {"changes": data.get("state", {}), "content": data.get("content"), "buffers": []}
        news["buffers"] = [base64.b64encode(one).decode() for one in buffers or ()]
        for page in self._pages:
            page.put(news)

    def show(self, page) -> Any:
        """Show the studio in a page; return its frame."""
        news: queue.SimpleQueue = queue.SimpleQueue()
        self._pages.append(news)

        def from_python() -> list[dict]:
            return [news.get() for _ in range(news.qsize())] if self.is_alive else []

        def to_python(message: dict, buffers: list[str]) -> None:
            whole = [memoryview(base64.b64decode(one)) for one in buffers]
            content = {"method": "custom", "content": message}
            if self.is_alive:
                self._deliver({"content": {"data": content}, "buffers": whole})

        page.route(f"{ADDRESS}**", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
        page.goto(ADDRESS)
        page.expose_function("fromPython", from_python)
        page.expose_function("toPython", to_python)
        state = self._studio.get_state()
        code, css = state.pop("_esm"), state.pop("_css")
        shown = {name: value for name, value in state.items() if not name.startswith("_")}
        page.evaluate(SHOW, {"code": code, "css": css, "state": shown})
        return page.locator("section.s2i")

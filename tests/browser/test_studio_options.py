"""What the studio's controls change, in a real JupyterLab: silence, reading aloud, the number."""

from __future__ import annotations

import json

import pytest

from s2i_lib.drawing.gallery import read_record
from tests.browser.lab import fill_in
from tests.browser.test_studio import (
    SECONDS,
    STUDIO,
    WORDS,
    open_more,
    state,
    until_understood,
    words_of,
)
from tests.browser.voices import CLIP, put_quiet_around


def with_settings(**settings) -> str:
    """The cell that shows a studio with these settings."""
    return STUDIO.replace('"stop_on_silence": False', f"**{settings!r}")


def test_recording_stops_by_itself_after_speech_not_before(lab, chromium, set_up, tmp_path):
    wav = tmp_path / "voice.wav"  # the pause before is longer than the one that ends a recording
    seconds = put_quiet_around(CLIP, wav, before_s=3, after_s=30)
    page = chromium(wav=f"{wav}%noloop")
    notebook = lab.open(page, set_up, with_settings())
    frame = page.locator("section.s2i")
    state(frame, "ready")
    frame.evaluate(
        """(frame) => new MutationObserver(() => {
          const text = frame.querySelector('.s2i-countdown').textContent;
          window.counted ||= /^Stops in \\d\\.\\d s$/.test(text);
        }).observe(frame, {subtree: true, childList: true, characterData: true})"""
    )

    def speak() -> None:
        frame.locator(".s2i-speak").press("Enter")  # and nothing is pressed after this
        state(frame, "listening")
        page.wait_for_timeout(3 * SECONDS)
        assert frame.get_attribute("data-state") == "listening", "silence before speech is no end"

    until_understood(frame, speak)
    assert notebook.python("studio.complaint") == ""
    assert page.evaluate("window.counted"), "the end was counted down"
    assert words_of(notebook.python("studio.heard['text']")) >= WORDS
    minutes, shown = frame.locator(".s2i-record .s2i-time").text_content().split(":")
    assert 3 + seconds < int(shown) + 1 < 3 + seconds + 5 and minutes == "0"
    assert len(list((tmp_path / "drive/creations").glob("*.png"))) == 1


@pytest.mark.parametrize("count", [4, 8])
def test_several_pictures_of_one_wish(
    lab, chromium, set_up, tmp_path, look, assert_accessible, count
):
    page = chromium()
    notebook = lab.open(page, set_up, with_settings(steps=6))
    frame = page.locator("section.s2i")
    state(frame, "ready")
    open_more(frame)
    number = frame.get_by_label("Pictures", exact=True)
    fill_in(number, str(count))
    number.press("Tab")
    notebook.wait_for(f"studio.settings['count'] == {count}")
    said = frame.get_by_label("What you said, or type it")
    fill_in(said, "a red car on a yellow background")
    said.press("Enter")
    state(frame, "done", "error")
    assert notebook.python("studio.complaint") == ""
    frame.get_by_text(f"Done: {count} pictures are here").wait_for()
    alt = notebook.python("studio.pictures[0]['alt']")
    page.wait_for_function(  # a large one, and each small
        "(count) => [...document.querySelectorAll('.s2i-gallery img')]"
        ".filter((image) => image.naturalWidth === 128).length === count + 1",
        arg=count,
    )
    assert frame.locator(".s2i-gallery").get_by_role("img", name=alt, exact=True).count() == 1
    seeds = [entry["seed"] for entry in notebook.python("studio.pictures")]
    assert len(set(seeds)) == count
    kept = list((tmp_path / "drive/creations").glob("*.png"))
    assert sorted(read_record(path)["seed"] for path in kept) == sorted(seeds)
    assert len({path.read_bytes() for path in kept}) == count
    boxes = [each.bounding_box() for each in frame.locator(".s2i-tiles button").all()]
    edge = frame.bounding_box()
    for box in boxes:
        assert edge["x"] <= box["x"] and box["x"] + box["width"] <= edge["x"] + edge["width"]
    assert len({(box["x"], box["y"]) for box in boxes}) == count, json.dumps(boxes)
    look(frame, f"studio-pictures-{count}")
    assert_accessible(page)
    # The large one has the buttons, and whoever has no mouse is not thrown out of them.
    ids = [entry["id"] for entry in notebook.python("studio.pictures")]
    enlarge(frame, ids[1])
    button(frame, "Keep", ids[1]).press("Enter")
    notebook.wait_for("not studio.pictures[1]['is_kept']")
    has_focus(page, "Keep", ids[1], pressed="false")
    page.keyboard.press("Enter")
    notebook.wait_for("studio.pictures[1]['is_kept']")
    has_focus(page, "Keep", ids[1], pressed="true")
    enlarge(frame, ids[0])
    button(frame, "Delete", ids[0]).press("Enter")
    has_focus(page, "Delete", ids[1])
    enlarge(frame, ids[-1])
    button(frame, "Delete", ids[-1]).press("Enter")
    has_focus(page, "Delete", ids[-2])
    notebook.wait_for(f"len(studio.pictures) == {count - 2}")
    assert len(list((tmp_path / "drive/creations").glob("*.png"))) == count - 2
    fill_in(number, "1")
    number.press("Tab")
    notebook.wait_for("studio.settings['count'] == 1")
    said.press("Enter")  # the strip has what is not seen above
    notebook.wait_for("len(studio.pictures) == 1", timeout_s=60)
    state(frame, "done")
    button(frame, "Show again", ids[2]).press("Enter")
    notebook.wait_for(f"[entry['id'] for entry in studio.pictures] == ['{ids[2]}']")
    has_focus(page, "Show again", ids[2])
    for left in (ids[2], ids[1], *ids[3:-1]):  # what is left of the wish is shown then
        enlarge(frame, left)
        button(frame, "Delete", left).press("Enter")
        notebook.wait_for(f"{left!r} not in [entry['id'] for entry in studio.pictures]")
    assert notebook.python("studio.pictures") == []
    page.wait_for_function("() => document.activeElement.classList.contains('s2i-speak')")


def enlarge(frame, picture: str) -> None:
    """Press the small picture, unless it is the only one and large."""
    frame.locator(f"[data-id='{picture}']").first.wait_for()
    if frame.locator(".s2i-tiles button").count():
        button(frame, "Make", picture).press("Enter")


def button(frame, does: str, picture: str):
    """The button of a picture whose name begins with what it does."""
    return frame.locator(f"[data-id='{picture}'] button[aria-label^='{does}']")


def has_focus(page, does: str, picture: str, pressed: str | None = None) -> None:
    """Wait until that button of a picture has the keyboard's focus."""
    page.wait_for_function(
        """([does, picture, pressed]) => {
          const now = document.activeElement;
          return now.getAttribute('aria-label')?.startsWith(does)
            && now.closest('[data-id]').dataset.id === picture
            && now.getAttribute('aria-pressed') === pressed;
        }""",
        arg=[does, picture, pressed],
    )


def test_number_of_pictures_stays_between_one_and_eight(lab, chromium, set_up):
    page = chromium()
    notebook = lab.open(page, set_up, STUDIO)
    frame = page.locator("section.s2i")
    open_more(frame)
    number = frame.get_by_label("Pictures", exact=True)
    for wrong in ("9", "0"):
        fill_in(number, wrong)
        number.press("Tab")
        assert not number.evaluate("(input) => input.checkValidity()")
    fill_in(number, "2")
    number.press("Tab")
    notebook.wait_for("studio.settings['count'] == 2")
    assert number.evaluate("(input) => input.checkValidity()")


def test_controls_are_heard_beside_a_running_cell_and_after_it(lab, chromium, set_up):
    page = chromium()
    notebook = lab.open(page, set_up, STUDIO)
    frame = page.locator("section.s2i")
    state(frame, "ready")
    open_more(frame)
    page.evaluate(
        """() => {
          const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
          kernel.requestExecute({ code: 'import asyncio; await asyncio.sleep(3)' });
        }"""
    )
    number = frame.get_by_label("Pictures", exact=True)
    for count in (3, 5):
        fill_in(number, str(count))
        number.press("Tab")
        notebook.wait_for(f"studio.settings['count'] == {count}")


LOSE_ONE = """() => {
  const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
  const send = kernel.sendShellMessage;
  kernel.sendShellMessage = (message, ...more) => {
    if (message.content.data?.content?.type !== 'set' || window.lost)
      return send.call(kernel, message, ...more);
    window.lost = true;
  };
}"""

# What a page does when it is opened: a shell of its own, and then its end. Meanwhile a thread of
# the studio says something, as those that load do.
END_A_SHELL = """async () => {
  const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
  const { content } = await kernel.requestCreateSubshell({}).done;
  kernel.subshellId = content.subshell_id;
  const code = `import threading
threading.Timer(2, lambda: studio._say(("copied", {}))).start()`;
  const done = kernel.requestExecute({ code }).done;
  kernel.subshellId = null;
  await done;
  await kernel.requestDeleteSubshell({ subshell_id: content.subshell_id }).done;
}"""


@pytest.mark.parametrize(
    "accident", [LOSE_ONE, END_A_SHELL], ids=["a message lost", "a shell ended"]
)
def test_control_is_heard_in_spite_of(lab, chromium, set_up, accident):
    page = chromium()
    notebook = lab.open(page, set_up, STUDIO)
    frame = page.locator("section.s2i")
    state(frame, "ready")
    open_more(frame)
    page.evaluate(accident)
    if accident is END_A_SHELL:
        frame.locator(".s2i-status", has_text="copied").wait_for()
    fill_in(frame.get_by_label("Pictures", exact=True), "3")  # the focus stays in the field
    notebook.wait_for("studio.settings['count'] == 3")
    assert accident is END_A_SHELL or page.evaluate("window.lost")

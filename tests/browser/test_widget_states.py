"""States that widgets reach and leave, each in a plain page: silence, presses, focus, closing."""

from __future__ import annotations

import io
import zipfile

import pytest

from s2i_lib.widgets import join_modules
from s2i_lib.widgets.app.part import Part
from s2i_lib.widgets.camera import Camera
from s2i_lib.widgets.microphone import Microphone
from s2i_lib.widgets.photos.folder import PhotoFolder
from s2i_lib.widgets.upload import Upload
from tests.browser.test_capture import drop, photo
from tests.studios import Bridge, wait_until

SECONDS = 1000
TRANSPORT = """async (source) => {
  const url = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }));
  const { Transport } = await import(url);
  window.sent = [], window.silences = [], window.ended = '';
  const on = (_, each) => (window.answer = each);
  const model = { on, off() {}, send: (one) => sent.push(one) };
  const heard = (isSilent) => silences.push(isSilent);
  window.transport = new Transport(model, (key) => key, () => {}, heard);
}"""
STREAMS = """() => {
  window.streams = [];
  const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (what) => {
    streams.push(await open(what));
    return streams.at(-1);
  };
}"""
LIVE = """() => streams.flatMap((one) => one.getTracks())
  .filter(({ readyState }) => readyState === 'live').length"""
FOCUSED = "() => document.activeElement.textContent"


@pytest.fixture
def show(chromium):
    """``show(widget)`` gives what stands for a kernel, the page and the widget's frame."""

    def show(widget, init="", **devices):
        page = chromium(**devices)
        if init:
            page.add_init_script(f"({init})()")
        bridge = Bridge(widget)
        return bridge, page, bridge.show(page)

    return show


@pytest.fixture
def transport(chromium):
    """A page whose clock the test moves, with a Transport that nobody answers."""
    page = chromium()
    page.clock.install()
    page.goto("about:blank")
    page.evaluate(TRANSPORT, join_modules("transport/transport.js"))
    return page


def told(part: Part) -> list[dict]:
    heard: list[dict] = []
    part._tell = heard.append
    return heard


def until(page, is_true) -> None:
    wait_until(lambda: is_true() or page.wait_for_timeout(30))


def test_silence_stays_said_until_there_is_an_answer(transport):
    """After five minutes the page took its own complaint away, as if Python had answered."""
    transport.evaluate("() => window.transport.tell('undo')")
    transport.clock.run_for(6 * 60 * SECONDS)
    assert set(transport.evaluate("silences")) == {True}
    transport.evaluate("() => { transport.tell('undo'); answer({ told: sent.at(-1).told }); }")
    assert transport.evaluate("silences.at(-1)") is False


def test_answer_that_comes_after_all_ends_the_silence(transport):
    """A cell ran for six minutes; what was pressed meanwhile is done, and said to be lost."""
    transport.evaluate("() => window.transport.tell('undo')")
    transport.clock.run_for(6 * 60 * SECONDS)
    transport.evaluate("() => answer({ told: sent[0].told })")
    assert transport.evaluate("silences.at(-1)") is False


def test_phone_that_was_locked_has_not_waited(transport):
    """What was on its way when the page fell asleep is sent again when it wakes."""
    transport.evaluate(
        """() => {
          transport.push(new Blob(['x'])).then(() => (ended = 'done'), (e) => (ended = e.message));
          transport.tell('undo');
        }"""
    )
    transport.wait_for_function("() => sent.length === 2")
    transport.clock.fast_forward(20 * 60 * SECONDS)
    transport.clock.run_for(1 * SECONDS)
    transport.wait_for_function("() => sent.length >= 4 || ended")
    assert transport.evaluate("ended") == ""
    again = {one["type"] for one in transport.evaluate("sent.slice(2)")}
    assert again == {"chunk", "undo"}


def test_page_that_is_closed_asks_for_nothing_more(transport):
    transport.evaluate(
        "() => (transport.pull('a'), transport.push(new Blob(['x'])), transport.tell('undo'), 0)"
    )
    transport.wait_for_function("() => sent.length === 3")
    transport.evaluate("() => transport.close()")
    transport.clock.run_for(60 * SECONDS)
    assert transport.evaluate("sent.length") == 3


def test_why_photos_of_a_zip_were_refused_stands_when_all_has_been_sent(show, tmp_path):
    frame = show(Upload(PhotoFolder(tmp_path / "photos")))[-1]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("good.jpg", photo("red"))
        archive.writestr("bad.jpg", b"no photo")
    drop(frame.locator(".s2i-zone"), {"x.zip": stream.getvalue()})
    frame.get_by_text("1 file arrived, 1 photo kept.").wait_for()
    assert "bad.jpg" in frame.locator("[role=alert]").inner_text()


def test_photo_that_is_deleted_twice_is_deleted_once_and_brought_back(show, tmp_path):
    folder = PhotoFolder(tmp_path / "photos")
    for name, colour in {"a.jpg": "red", "b.jpg": "blue"}.items():
        folder.add(name, photo(colour))
    widget = Upload(folder)
    _, page, frame = show(widget)
    frame.get_by_role("button", name="Delete a.jpg").evaluate("(x) => { x.click(); x.click(); }")
    until(page, lambda: widget.photos == ["b.jpg"])
    page.wait_for_timeout(200)
    assert frame.locator("[role=alert]").inner_text() == "" and widget.n_removed == 1
    undo = frame.get_by_role("button", name="Undo delete")
    undo.press("Enter")
    frame.get_by_text("The photo is back.").wait_for()
    undo.wait_for(state="hidden")
    assert widget.photos == ["b.jpg", "a.jpg"] or widget.photos == ["a.jpg", "b.jpg"]
    assert page.evaluate(FOCUSED).startswith("2 of 4 to 30 photos")


def test_folder_is_copied_by_nobody_which_is_said(show, tmp_path):
    bridge, page, frame = show(Upload(PhotoFolder(tmp_path / "photos")))
    bridge.is_alive = False
    frame.get_by_label("Folder on the Drive").fill("MyDrive/holiday")
    page.keyboard.press("Enter")
    frame.locator("[role=alert]", has_text="Python does not answer").wait_for()


def test_camera_that_is_started_twice_is_one_and_goes_off_while_python_is_busy(show, tmp_path):
    widget = Camera(PhotoFolder(tmp_path / "photos"))
    bridge, page, frame = show(widget, init=STREAMS)
    frame.get_by_role("button", name="Start camera").dblclick()
    take = frame.get_by_role("button", name="Take photo")
    take.wait_for()
    page.wait_for_timeout(500)
    assert page.evaluate(LIVE) == 1
    bridge.is_alive = False  # a cell runs
    take.click()
    frame.get_by_text("Photo taken, sending it.").wait_for()
    frame.get_by_role("button", name="Stop camera").press("Enter")
    frame.get_by_text("The camera is off.").wait_for()
    assert page.evaluate(LIVE) == 0
    bridge.is_alive = True
    until(page, lambda: len(widget.photos) == 1)


def test_camera_that_goes_away_in_a_burst_says_what_was_taken(show, tmp_path):
    widget = Camera(PhotoFolder(tmp_path / "photos"), burst=4, countdown_s=0, pause_s=1)
    _, page, frame = show(widget, init=STREAMS)
    frame.get_by_role("button", name="Start camera").click()
    frame.get_by_role("button", name="4 photos after 0 seconds").press("Enter")
    frame.get_by_text("Photo 2 of 4").wait_for()
    page.evaluate("() => streams[0].getTracks()[0].dispatchEvent(new Event('ended'))")
    frame.get_by_text("2 photos taken.").wait_for()
    frame.locator("[role=alert]", has_text="The camera was unplugged").wait_for()
    assert page.evaluate(FOCUSED) == "Start camera", "the button under the focus has gone"


def test_key_that_never_comes_up_lets_no_press_elsewhere_send_what_is_said(show):
    """A question of the browser takes the key: then "Cancel" sent what it was to cancel."""
    widget = Microphone()
    heard: list = []
    widget.on_recording(heard.append)
    _, page, frame = show(widget)
    button = frame.locator(".s2i-speak")
    button.focus()
    page.keyboard.down("Space")
    page.wait_for_selector("section.s2i[data-state=listening]")
    page.wait_for_timeout(600)
    frame.get_by_role("button", name="Cancel").click()
    frame.get_by_text("Cancelled; nothing was sent.").wait_for()
    page.wait_for_timeout(300)
    assert heard == []


def test_training_is_not_read_out_step_by_step(show):
    part = Part("teach", lambda message: None)
    part.show(
        is_open=True, name="Rex", state="training", share=None, messages=[("app_preparing", {})]
    )
    _, page, frame = show(part)
    status = frame.locator(".s2i-status")
    assert status.get_attribute("aria-live") == "polite"
    status.evaluate(
        "(one) => new MutationObserver(() => (window.changes = (window.changes || 0) + 1))"
        ".observe(one, { childList: true })"
    )
    learning = [("app_learning", {"percent": "3"})]
    for share in (0.031, 0.032, 0.033):
        part.show(share=share, messages=learning)
        page.wait_for_function(f"() => document.querySelector('progress').value === {share}")
    assert page.evaluate("window.changes") == 1 and status.get_attribute("aria-live") == "off"
    part.show(state="done", share=1.0, messages=[("app_learned", {"name": "Rex"})])
    status.get_by_text("Rex has been learned").wait_for()
    assert status.get_attribute("aria-live") == "polite"


def test_complaint_comes_back_after_python_was_silent(show):
    part = Part("teach", lambda message: None)
    part.show(is_open=True, name="Rex", state="failed", complaint="The disk is full.")
    bridge, _, frame = show(part)
    alert = frame.locator("[role=alert]")
    bridge.is_alive = False
    frame.get_by_role("button", name="Start").click()
    alert.filter(has_text="Python does not answer").wait_for()
    bridge.is_alive = True
    alert.filter(has_text="The disk is full.").wait_for()


def test_focus_goes_from_start_to_stop_and_back(show):
    part = Part("teach", lambda message: None)
    part.show(is_open=True, name="Rex", state="ready")
    _, page, frame = show(part)
    frame.get_by_role("button", name="Start").press("Enter")
    focus = {"training": "Stop", "stopping": "Stop", "stopped": "Go on teaching"}
    for state, focused in focus.items():
        part.show(state=state)
        page.wait_for_selector(f"section[data-state={state}]")
        page.wait_for_timeout(50)  # for the browser to take it from what is hidden
        assert page.evaluate(FOCUSED) == focused


def test_focus_goes_back_from_what_would_be_forgotten_and_the_press_says_who(show):
    part = Part("keep", lambda message: None)
    heard = told(part)
    part.show(name="Rex", traces=None)
    _, page, frame = show(part)
    forget = frame.get_by_role("button", name="Forget Rex")
    forget.press("Enter")
    part.show(traces=[{"what": "photos", "path": "subjects/rex/", "size": "1 MB"}])
    keep = frame.get_by_role("button", name="Keep it")
    keep.wait_for()
    page.wait_for_function("() => document.activeElement.textContent === 'Keep it'")
    keep.press("Enter")
    part.show(traces=None)
    keep.wait_for(state="hidden")
    page.wait_for_timeout(50)
    assert page.evaluate(FOCUSED) == "Forget Rex"
    part.show(traces=[])
    frame.get_by_role("button", name="Delete all of this").press("Enter")
    until(page, lambda: heard[-1]["type"] == "forget")
    assert heard[-1]["name"] == "Rex"


def test_focus_goes_to_the_form_of_a_new_one_and_from_there_to_the_face(show):
    part = Part("faces", lambda message: None)
    rex, bella = ({"name": name, "thumb": ""} for name in ("Rex", "Bella"))
    part.show(subjects=[rex], chosen="Rex")
    _, page, frame = show(part)
    frame.get_by_role("button", name="New").press("Enter")
    part.show(chosen="")
    name = frame.get_by_label("What is it called?")
    name.wait_for()
    page.wait_for_timeout(50)
    assert page.evaluate("() => document.activeElement.type") == "text"
    frame.get_by_role("button", name="Go on").press("Enter")
    part.show(subjects=[rex, bella], chosen="Bella")
    name.wait_for(state="hidden")
    page.wait_for_timeout(50)
    assert "Bella" in page.evaluate(FOCUSED)

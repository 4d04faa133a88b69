"""From a voice to a picture in a real JupyterLab: real Whisper, the pocket model, a WAV file."""

from __future__ import annotations

import re
from functools import partial

import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from sounds import speak

from s2i_lib.drawing.gallery import read_record
from s2i_lib.speech.habits import join_background
from tests.browser.lab import Notebook, fill_in
from tests.browser.test_capture import drop
from tests.browser.voices import CLIP, put_quiet_around

WORDS = {"red", "car", "yellow", "background"}

STUDIO = """
from s2i_lib.widgets.studio import Studio
studio = Studio(drive, settings={"model": "pocket", "stop_on_silence": False})
studio
"""
SECONDS = 1000
PATIENCE = 300 * SECONDS  # imports and weights from a cold disk on a busy machine


def state(frame, *states: str) -> None:
    """Wait until the studio is in one of these states."""
    selector = ", ".join(f"section.s2i[data-state={each}]" for each in states)
    try:
        frame.page.wait_for_selector(selector, timeout=PATIENCE)
    except PlaywrightTimeout as error:
        stayed, says = frame.get_attribute("data-state"), frame.inner_text()
        raise TimeoutError(
            f"The studio stayed {stayed!r} and says:\n{says}\n{Notebook(frame.page).explain()}"
        ) from error


def until_understood(frame, speak) -> None:
    """Speak, again where the studio asks: the microphone of a busy machine loses sound."""
    for _ in range(3):
        speak()
        state(frame, "done", "error", "asking")
        if frame.get_attribute("data-state") != "asking":
            return
    raise AssertionError(f"Three times the studio asked:\n{frame.inner_text()}")


def open_more(frame) -> None:
    """Open, or close, what stands behind "More"."""
    frame.locator(".s2i-more > summary").press("Enter")


def words_of(text: str) -> set[str]:
    return set(re.findall(r"\w+", join_background(text.lower())))


THEMES = pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])


@pytest.mark.screenshots
@THEMES
def test_spoken_wish_becomes_a_picture_in_the_page_and_on_the_drive(
    lab, chromium, set_up, tmp_path, voice, look, assert_accessible, is_dark
):
    wav, seconds = voice
    theme = "dark" if is_dark else "light"
    page = chromium(wav=f"{wav}%noloop")
    notebook = lab.open(page, set_up, STUDIO, is_dark=is_dark)
    frame = page.locator("section.s2i")
    state(frame, "ready")
    look(frame, f"studio-idle-{theme}")
    button = frame.locator(".s2i-speak")

    def speak_by_keyboard_alone() -> None:
        button.press("Enter")
        state(frame, "listening")
        page.wait_for_timeout(seconds * SECONDS)
        look(frame, f"studio-listening-{theme}")
        assert button.get_attribute("aria-pressed") == "true"
        button.press("Space")
        frame.locator(".s2i-rough:visible, .s2i-gallery img").first.wait_for(timeout=PATIENCE)

    until_understood(frame, speak_by_keyboard_alone)
    assert notebook.python("studio.complaint") == ""
    heard = notebook.python("studio.heard['text']")
    assert words_of(heard) >= WORDS, heard
    prompt = notebook.python("studio.prompt['text']")
    alt = notebook.python("studio.pictures[0]['alt']")
    assert alt.endswith("nobody has checked the picture.")
    image = frame.get_by_role("img", name=alt, exact=True)
    page.wait_for_function(
        "() => [...document.querySelectorAll('.s2i-gallery img')].some(i => i.naturalWidth === 128)"
    )
    assert image.count() == 1
    look(frame, f"studio-done-{theme}")
    assert_accessible(page)
    (kept,) = (tmp_path / "drive/creations").glob("*.png")
    record = read_record(kept)
    assert record["prompt"] == prompt and record["model"] == "pocket"
    assert record["transcript"]["text"] == heard
    assert record["seed"] == notebook.python("studio.pictures[0]['seed']")
    assert not (tmp_path / "drive/recordings").exists(), "nobody asked to keep the recording"


def test_pictures_are_kept_deleted_and_outlive_the_page(lab, chromium, set_up, tmp_path, look):
    page = chromium()
    notebook = lab.open(page, set_up, STUDIO)
    frame = page.locator("section.s2i")
    state(frame, "ready")
    said = frame.get_by_label("What you said, or type it")
    fill_in(said, "two yellow balls")
    said.press("Enter")
    state(frame, "done")
    first = notebook.python("studio.pictures[0]['seed']")
    folder = tmp_path / "drive/creations"
    assert len(list(folder.glob("*.png"))) == 1
    frame.get_by_role("button", name="Keep picture 1").click()
    notebook.wait_for("not studio.pictures[0]['is_kept']")
    assert not list(folder.iterdir())
    frame.get_by_role("button", name="Keep picture 1").click()
    notebook.wait_for("studio.pictures[0]['is_kept']")
    open_more(frame)
    frame.get_by_role("button", name="New seed").click()
    notebook.wait_for("len(studio.strip) == 2", timeout_s=60)
    state(frame, "done")
    assert notebook.python("studio.pictures[0]['seed']") != first
    assert len(list(folder.glob("*.png"))) == 2
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_timeout(1 * SECONDS)
    notebook = lab.reopen(page, "test.ipynb")  # the same kernel goes on
    frame = page.locator("section.s2i")
    frame.locator(".s2i-strip2 li").nth(1).wait_for()
    assert said.input_value() == "two yellow balls"
    open_more(frame)
    assert frame.get_by_label("The prompt that it becomes").input_value() == "two yellow balls"
    open_more(frame)
    frame.get_by_role("button", name="Show again: two yellow balls (picture 1)").click()
    notebook.wait_for(f"studio.pictures[0]['seed'] == {first}")
    frame.get_by_role("button", name="Delete picture 1").click()
    notebook.wait_for("len(studio.strip) == 1")
    assert notebook.python("studio.strip[0]['seed']") != first
    assert len(list(folder.glob("*.png"))) == 1


@pytest.mark.full
def test_restarted_kernel_is_said_and_the_next_one_has_the_pictures(
    lab, chromium, set_up, look, assert_accessible
):
    """Its short form, with a page alone, is in test_studio_page.py."""
    page = chromium()
    notebook = lab.open(page, set_up, STUDIO)
    frame = page.locator("section.s2i")
    state(frame, "ready")
    said = frame.get_by_label("What you said, or type it")
    fill_in(said, "a red car")
    said.press("Enter")
    state(frame, "done")
    page.wait_for_function("() => document.querySelector('.s2i-gallery img').naturalWidth === 128")
    page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    frame.locator("[role=alert]", has_text="If the kernel was restarted").wait_for()  # no press
    assert frame.locator(".s2i-gallery img").evaluate("(image) => image.naturalWidth") == 128
    look(frame, "studio-restarted")
    assert_accessible(page)
    notebook.run_all()
    frame = page.locator("section.s2i")
    frame.get_by_role("button", name="Show again: a red car (picture 1)").click()
    notebook.wait_for("studio.pictures and studio.pictures[0]['said'] == 'a red car'")
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    lab.reopen(page, "test.ipynb")
    page.wait_for_function("() => document.querySelector('.s2i-gallery img')?.naturalWidth === 128")


def test_new_wish_takes_the_place_of_the_running_one_and_stop_stops(
    lab, chromium, set_up, tmp_path, look
):
    page = chromium()
    notebook = lab.open(page, set_up, STUDIO.replace('"pocket"', '"pocket", "steps": 100'))
    frame = page.locator("section.s2i")
    state(frame, "ready")
    said = frame.get_by_label("What you said, or type it")
    fill_in(said, "a red car")
    said.press("Enter")
    state(frame, "drawing")
    frame.get_by_text(re.compile(r"^\d+ / 100$")).wait_for()
    frame.get_by_role("img", name="The picture so far, rough").wait_for()
    fill_in(said, "a blue tree")
    said.press("Enter")
    notebook.wait_for("studio.prompt.get('text') == 'a blue tree'")
    frame.get_by_role("button", name="Stop drawing").press("Enter")
    state(frame, "stopped")
    focused = frame.locator(":focus")
    assert focused.inner_text() == "Speak", "the button under the focus has gone"
    frame.get_by_text("Stopped.").wait_for()
    assert notebook.python("studio.strip") == []
    assert not (tmp_path / "drive/creations").exists(), "a stopped wish leaves nothing behind"


def put_in(way: str, frame) -> None:
    """Give the studio the sample clip as a file."""
    if way == "dropped":
        drop(frame, {CLIP.name: CLIP.read_bytes()})
        return
    with frame.page.expect_file_chooser() as chooser:
        open_more(frame)
        frame.page.keyboard.press("Tab")  # to "Use a recording"
        frame.page.keyboard.press("Enter")
    chooser.value.set_files(CLIP)


@pytest.mark.parametrize("way", ["dropped", "chosen"])
def test_recording_in_a_file_becomes_a_picture_without_a_microphone(
    lab, chromium, set_up, tmp_path, way
):
    page = chromium(has_devices=False)
    notebook = lab.open(page, set_up, STUDIO)
    frame = page.locator("section.s2i")
    state(frame, "ready")
    put_in(way, frame)
    state(frame, "done", "error")
    assert notebook.python("studio.complaint") == ""
    assert words_of(frame.get_by_label("What you said, or type it").input_value()) >= WORDS
    (kept,) = (tmp_path / "drive/creations").glob("*.png")
    assert words_of(read_record(kept)["transcript"]["text"]) >= WORDS
    drop(frame, {"notes.txt": b"red car"})  # the next file is none that can be heard
    state(frame, "error")
    frame.locator("[role=alert]", has_text="is not a sound file").wait_for()
    assert len(list((tmp_path / "drive/creations").glob("*.png"))) == 1


def test_two_recordings_in_a_row_are_two_wishes(lab, chromium, set_up, tmp_path):
    wishes = [CLIP, speak("a green tree on a blue background", tmp_path / "tree.wav")]
    heard = [WORDS, {"green", "tree", "blue", "background"}]
    wav = tmp_path / "microphone.wav"  # Chromium reads it anew for each recording
    page = chromium(wav=f"{wav}%noloop")
    notebook = lab.open(page, set_up, STUDIO)
    frame = page.locator("section.s2i")
    state(frame, "ready")
    button = frame.locator(".s2i-speak")

    def speak_into(seconds: float) -> None:
        button.click()
        state(frame, "listening")
        page.wait_for_timeout((seconds + 1.5) * SECONDS)
        button.click()

    for count, clip in enumerate(wishes, 1):
        seconds = put_quiet_around(clip, wav, before_s=1)
        until_understood(frame, partial(speak_into, seconds))
        assert notebook.python("studio.complaint") == ""
        assert notebook.python("len(studio.strip)") == count
        text = notebook.python("studio.heard['text']")
        assert words_of(text) >= heard[count - 1], text
        others = heard[count % 2] - heard[count - 1]
        assert not words_of(text) & others, "a recording has what was said in another"
    records = [
        read_record(p)["transcript"]["text"] for p in (tmp_path / "drive/creations").glob("*.png")
    ]
    assert sorted(len(words_of(text) & WORDS) for text in records) == [1, 4]
    assert len(set(notebook.python("[p['seed'] for p in studio.strip]"))) == 2


def test_recording_goes_on_while_the_models_become_ready(lab, chromium, set_up, voice):
    """What the kernel has to say does not hide that the microphone is open."""
    page = chromium(wav=f"{voice[0]}%noloop")
    slow = "import time; from s2i_lib.widgets.studio import Studio; load = Studio._load_all\n"
    slow += "Studio._load_all = lambda self: (time.sleep(3), load(self))"
    notebook = lab.open(page, set_up, slow, STUDIO)
    frame = page.locator("section.s2i")
    button = frame.locator(".s2i-speak")
    button.press("Enter")
    state(frame, "listening")
    assert notebook.python("studio.state") == "loading"
    notebook.wait_for("studio.state == 'ready'", timeout_s=120)
    page.wait_for_timeout(1 * SECONDS)
    assert frame.get_attribute("data-state") == "listening"
    assert frame.locator(".s2i-status").inner_text().startswith("Listening")
    page.keyboard.press("Escape")
    state(frame, "ready")
    assert frame.locator(".s2i-status").inner_text().startswith("Cancelled")
    assert not frame.locator(".s2i-live").is_visible()


def test_wish_that_fails_twice_says_so_twice(lab, chromium, set_up):
    page = chromium()
    lab.open(page, set_up, STUDIO)
    frame = page.locator("section.s2i")
    state(frame, "ready")
    said = frame.get_by_label("What you said, or type it")
    fill_in(said, "please draw me")
    alert = frame.locator("[role=alert]")
    for _ in range(2):
        said.press("Enter")
        alert.filter(has_text="Nothing is left to draw").wait_for(timeout=PATIENCE)
        page.wait_for_timeout(0.2 * SECONDS)


@pytest.mark.screenshots
@THEMES
def test_refused_microphone_is_explained(lab, chromium, set_up, look, assert_accessible, is_dark):
    page = chromium(allow=False)
    notebook = lab.open(page, set_up, STUDIO, is_dark=is_dark)
    frame = page.locator("section.s2i")
    state(frame, "ready")
    frame.locator(".s2i-speak").click()
    frame.locator("[role=alert]", has_text="The microphone was refused.").wait_for()
    assert notebook.wait_for("studio.problem_code") == "refused"
    look(frame, f"studio-error-{'dark' if is_dark else 'light'}")
    assert_accessible(page)


def test_missing_microphone_is_explained(lab, chromium, set_up, assert_accessible):
    page = chromium(has_devices=False)
    notebook = lab.open(page, set_up, STUDIO)
    frame = page.locator("section.s2i")
    frame.locator(".s2i-speak").click()  # perhaps before the models are ready
    frame.locator("[role=alert]", has_text="No microphone was found. Connect one").wait_for()
    assert notebook.wait_for("studio.problem_code") == "missing"
    assert_accessible(page)


def test_every_control_is_reached_by_tab_and_shows_its_focus(lab, chromium, set_up):
    page = chromium()
    lab.open(page, set_up, STUDIO)
    frame = page.locator("section.s2i")
    open_more(frame)
    frame.get_by_label("What you said, or type it").focus()
    reached = set()
    for _ in range(40):
        found = page.evaluate(
            """() => {
              const e = document.activeElement, inside = e.closest('section.s2i');
              return inside && [e.tagName + (e.textContent || e.ariaLabel || e.type).slice(0, 12),
                                getComputedStyle(e).outlineStyle];
            }"""
        )
        if not found:
            break
        assert found[1] == "solid", found
        reached.add(found[0])
        page.keyboard.press("Tab")
    assert len(reached) >= 12, reached

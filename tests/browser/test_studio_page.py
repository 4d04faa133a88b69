"""The studio's page alone, without Jupyter: layouts, what leaves it, the figure, two tabs."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from s2i_lib.drawing.made_by import read_statements
from s2i_lib.live import Draft
from s2i_lib.photos.own_png import text_of_png
from s2i_lib.photos.subject import Subject, save_subject
from s2i_lib.speech.transcript import Transcript
from s2i_lib.storage.files import make_folder
from s2i_lib.widgets.texts import catalogue
from tests.browser.test_figure import LOADED, WEBGL
from tests.browser.test_studio import SECONDS, open_more, state
from tests.renders import save_render
from tests.studios import ADDRESS, Bridge, quick_studio, wait_until

TEXTS = catalogue()
HIGH = {"forced_colors": "active"}
LAYOUTS = [("en", 360, {}), ("ar", 360, {}), ("ar", 1200, HIGH), ("en", 1200, HIGH)]
EVERY_LAYOUT = [
    (language, width, look)
    for language in TEXTS
    for width in (360, 1200)
    for look in ({}, HIGH, {"color_scheme": "dark"}, {"contrast": "more"})
]
SPOKEN = """() => {
  window.spoken = [];
  speechSynthesis.speak = ({ text, lang }) => window.spoken.push([text, lang]);
}"""
SHARED = """() => {
  navigator.canShare = () => true;
  navigator.share = async (what) => (window.shared = what);
}"""
WHAT_WAS_SHARED = """async () => {
  const { files: [file], ...more } = window.shared;
  const bytes = new Uint8Array(await file.arrayBuffer());
  return [file.name, btoa(String.fromCharCode(...bytes)), more];
}"""
WHAT_WAS_COPIED = """async () => {
  const [item] = await navigator.clipboard.read();
  return [item.types, await (await item.getType('text/html')).text()];
}"""
WIDER = """() => [...document.querySelectorAll('.s2i, .s2i *')]
  .filter((each) => {
    const { left, right } = each.getBoundingClientRect();
    const isSeen = each.checkVisibility() && !each.closest('.s2i-strip2');  // which is scrolled
    return isSeen && (right > document.documentElement.clientWidth + 1 || left < -1);
  }).map((each) => each.outerHTML.slice(0, 90))"""
ALL_DRAWN = """() => {
  const images = [...document.querySelectorAll('.s2i-gallery img')];
  return images.length === 5 && images.every((image) => image.naturalWidth === 128);
}"""
DARK = "() => document.body.classList.add('vscode-dark')"  # how a notebook says so
DRAWN = "() => document.querySelector('.s2i-gallery img')?.naturalWidth === 128"


@pytest.fixture
def studio(drive, pocket):
    """A studio with two kept pictures of Rex, who came out in neither, and a near name."""
    rex = Subject("Rex", "dog", "sks")
    save_subject(drive, rex)
    for noun in ("dog", "cat"):
        save_render(noun, make_folder(drive.creations))
    heard = Transcript("a red car", "en", 0.9, "a red car", (), "e", "m", 1.0, 1.0)
    studio = quick_studio(drive, pocket, heard, steps=8)
    wait_until(lambda: len(studio.earlier) == 2)
    studio._speech.lookout = SimpleNamespace(find_absent=lambda *_: rex)
    studio.say("Rex on a yellow background")
    assert studio.wait(240) and studio.complaint == ""
    studio.offers = ["Bella on the beach"]
    return studio


@pytest.fixture
def show(chromium):
    """``show(studio, locale=, width=, args=, bridge=, ...)`` opens a page: bridge, page, frame."""
    browsers: dict = {}

    def show(studio, *, locale="en", width=1200, height=900, args=(), bridge=None, init="", **look):
        if args not in browsers:
            browsers[args] = chromium(args=args).context.browser
        context = browsers[args].new_context(
            locale=locale, viewport={"width": width, "height": height}, **look
        )
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=ADDRESS)
        page = context.new_page()
        page.set_default_timeout(60 * SECONDS)
        if init:
            page.add_init_script(f"({init})()")
        bridge = bridge or Bridge(studio)
        return bridge, page, bridge.show(page)

    return show


def press(frame, key: str, language: str = "en") -> None:
    frame.get_by_role("button", name=TEXTS[language][key], exact=True).first.click()


def look_at(show, look, assert_accessible, studio, layouts) -> None:
    for language, width, appearance in layouts:
        _, page, frame = show(studio, locale=language, width=width, **appearance)
        page.wait_for_function(
            "() => document.querySelector('.s2i-gallery img').naturalWidth === 128"
        )
        text = TEXTS[language]
        assert frame.get_attribute("dir") == ("rtl" if language == "ar" else "ltr")
        frame.get_by_text(text["absent"].format(name="Rex")).wait_for()
        open_more(frame)
        name = "-".join([f"studio-{language}-{width}", *map(str, appearance.values())])
        assert page.evaluate(WIDER) == [], name
        first, last = (frame.locator(".s2i-gallery button").nth(i).bounding_box() for i in (0, 1))
        assert (first["x"] > last["x"]) == (language == "ar"), "the other way round"
        assert_accessible(page)
        if width == 1200:
            top = frame.locator(".s2i-gallery img").bounding_box()
            assert top["y"] + top["height"] < 768, "the picture is above the edge of a laptop"
        page.set_viewport_size({"width": width, "height": 2200})  # no bar beside what is looked at
        look(frame, name)
        page.context.close()


def test_every_script_width_and_contrast_has_all_of_it(show, look, assert_accessible, studio):
    look_at(show, look, assert_accessible, studio, LAYOUTS)


@pytest.mark.full
def test_every_script_width_and_contrast_has_all_of_it_in_full(
    show, look, assert_accessible, studio
):
    look_at(show, look, assert_accessible, studio, EVERY_LAYOUT)


FOUR = [(360, {}), (1200, {"color_scheme": "dark"})]
EVERY_FOUR = [(w, {"color_scheme": c}) for w in (360, 1200) for c in ("light", "dark")]
SMALL = """() => [...document.querySelectorAll('.s2i-gallery button')]
  .filter((each) => each.checkVisibility())
  .map((each) => [each, each.getBoundingClientRect()])
  .filter(([, { width, height }]) => width < 44 || height < 44)
  .map(([each]) => each.outerHTML.slice(0, 90))"""


@pytest.mark.parametrize("layouts", [FOUR, pytest.param(EVERY_FOUR, marks=pytest.mark.full)])
def test_one_of_four_pictures_is_large_and_has_the_buttons(
    show, drive, pocket, look, assert_accessible, layouts
):
    studio = quick_studio(drive, pocket, steps=6, count=4)
    studio.say("a red car on a yellow background")
    assert studio.wait(240) and studio.complaint == ""
    for width, appearance in layouts:
        _, page, frame = show(studio, width=width, **appearance)
        page.wait_for_function(ALL_DRAWN)
        ids = [entry["id"] for entry in studio.pictures]
        assert frame.locator(".s2i-gallery figure").count() == 1
        assert frame.get_by_role("button", name=re.compile("^Keep picture")).count() == 1
        page.evaluate(DARK if appearance.get("color_scheme") == "dark" else "() => {}")
        frame.get_by_role("button", name="Make picture 3 large").click()
        frame.locator(f"figure[data-id='{ids[2]}'] img").wait_for()
        assert page.locator("button[aria-pressed=true][aria-label^=Make]").count() == 1
        assert page.evaluate("() => document.activeElement.ariaLabel") == "Make picture 3 large"
        assert not frame.locator(".s2i-said").is_visible(), "it stands in the field already"
        assert not frame.locator(".s2i-strip2").is_visible(), "all of it is seen above"
        tops = {each.bounding_box()["y"] for each in frame.locator(".s2i-tiles button").all()}
        assert len(tops) == 1, "four in a row"
        assert page.evaluate(SMALL) == [] and page.evaluate(WIDER) == []
        assert_accessible(page)
        page.set_viewport_size({"width": width, "height": 1400})
        look(frame, "-".join(["studio-four", str(width), *appearance.values()]))
    # What is pressed is done to the large one, and the next takes the place of a deleted one.
    press_named(frame, "Delete picture 3")
    wait_until(lambda: len(studio.pictures) == 3 or page.wait_for_timeout(50))
    frame.locator(f"figure[data-id='{ids[3]}']").wait_for()
    assert ids[2] not in [entry["id"] for entry in studio.pictures]
    assert page.evaluate("() => document.activeElement.ariaLabel") == "Delete picture 3"
    press(frame, "undo")
    wait_until(lambda: len(studio.pictures) == 4 or page.wait_for_timeout(50))
    frame.locator(f"figure[data-id='{ids[3]}']").wait_for()  # what was large stays so


def press_named(frame, name: str) -> None:
    frame.get_by_role("button", name=name, exact=True).press("Enter")


def test_another_try_a_near_name_and_a_second_tab(show, studio):
    """What one tab does is seen in the other."""
    bridge, page, frame = show(studio)
    _, other_page, other = show(studio, bridge=bridge, locale="de")
    first = studio.pictures[0]["seed"]
    press(frame, "another_try")
    page.wait_for_function("() => document.querySelectorAll('.s2i-strip2 li').length === 4")
    assert studio.wait(60) and studio.pictures[0]["seed"] != first
    other_page.wait_for_function("() => document.querySelectorAll('.s2i-strip2 li').length === 4")
    other.get_by_role("button", name=re.compile("Bella on the beach")).wait_for(state="detached")
    press(other, "undo", "de")
    page.wait_for_function(DRAWN)
    assert studio.pictures[0]["seed"] == first and studio.complaint == ""
    assert frame.get_by_role("button", name="Another try").is_visible()


def test_what_leaves_the_page_says_that_a_machine_drew_it_and_not_of_whom(show, studio, tmp_path):
    _, page, frame = show(studio, init=SHARED)

    def check(data: bytes, name: str) -> None:
        path = tmp_path / name
        path.write_bytes(data)
        assert any(one.is_of_machine for one in read_statements(path)), name
        assert text_of_png(path, "s2i") is None and b"Rex" not in data and "ex" not in name

    with page.expect_download() as download:
        press(frame, "save")
    check(Path(download.value.path()).read_bytes(), download.value.suggested_filename)
    press(frame, "share")
    page.wait_for_function("() => window.shared")
    name, data, more = page.evaluate(WHAT_WAS_SHARED)
    check(base64.b64decode(data), name)
    assert more == {}, "no title: it would be what was said"
    press(frame, "copy")
    frame.get_by_text(TEXTS["en"]["copied"]).wait_for()
    types, html = page.evaluate(WHAT_WAS_COPIED)
    assert "image/png" in types
    found = re.search(r'src="data:image/png;base64,([^"]+)"', html)
    check(base64.b64decode(found[1]), "copied.png")
    assert "Drawn by a machine" in html


def test_the_figure_is_shown_below_and_put_down(show, studio, drive):
    _, page, frame = show(studio)
    frame.locator(".s2i-strip2 button").last.click()  # the dog or the cat
    frame.locator("figure[data-id=picture-1-0]").wait_for()
    press(frame, "hold")
    inner = page.frame_locator(".s2i-held iframe")
    shown = inner.locator("model-viewer[alt*='Drawn by a machine']")
    shown.wait_for(state="attached", timeout=240 * SECONDS)  # three seconds of an idle core
    assert studio.wait(60) and len(list(drive.creations.glob("*.glb"))) == 1
    frame.locator(".s2i-status", has_text="Here is its figure").wait_for()
    press(frame, "put_down")
    frame.locator(".s2i-held").wait_for(state="hidden")
    wait_until(lambda: studio.held == {} or page.wait_for_timeout(50))


@pytest.mark.full
def test_the_figure_turns_inside_the_studio(show, studio, look, assert_accessible):
    _, page, frame = show(studio, args=tuple(WEBGL))
    frame.locator(".s2i-strip2 button").last.click()
    frame.locator("figure[data-id=picture-1-0]").wait_for()
    press(frame, "hold")
    frame.locator(".s2i-held iframe").wait_for()
    [inner] = [one for one in page.frames if one.parent_frame]
    inner.wait_for_function(LOADED, timeout=240 * SECONDS)
    page.wait_for_timeout(2 * SECONDS)
    look(frame, "studio-held")
    assert_accessible(page)


def test_pictures_are_read_aloud_each_part_in_its_language(show, studio):
    _, page, frame = show(studio, locale="de", init=SPOKEN)
    press(frame, "read_it", "de")
    (words, in_english), (rest, in_german) = page.evaluate("() => window.spoken")
    assert (in_english, in_german) == ("en", "de")
    assert words.startswith("Rex, a dog") and "Von einer Maschine gezeichnet" in rest


def test_a_kernel_that_is_gone_is_said_and_the_pictures_stay(show, studio):
    bridge, page, frame = show(studio)
    page.wait_for_function(DRAWN)
    bridge.is_alive = False
    press(frame, "undo")
    frame.locator("[role=alert]", has_text="Python does not answer").wait_for()
    assert frame.locator(".s2i-strip2 img").count() == 3
    bridge.is_alive = True  # it was busy: what was pressed is done, and nothing is complained of
    frame.locator("[role=alert]", has_text="Python does not answer").wait_for(state="detached")
    wait_until(lambda: studio.pictures == [] or page.wait_for_timeout(50))


MICROPHONE = """() => {
  const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (what) => (window.microphone = await open(what));
}"""


def test_what_was_said_before_a_microphone_went_away_is_heard(show, studio):
    """Unplugged in the middle: the browser ends its track."""
    heard: list[bytes] = []
    receive = studio._received
    studio._inbox._deliver = lambda data, meta: (
        meta["kind"] == "speech" and heard.append(data),
        receive(data, meta),
    )[1]
    _, page, frame = show(studio, init=MICROPHONE)
    frame.locator(".s2i-speak").press("Enter")
    state(frame, "listening")
    page.wait_for_timeout(1.5 * SECONDS)
    page.evaluate("() => window.microphone.getTracks()[0].dispatchEvent(new Event('ended'))")
    frame.locator("[role=alert]", has_text="The microphone has gone").wait_for()
    wait_until(lambda: heard or page.wait_for_timeout(50))
    assert 16_000 < len(heard[0]) // 2 < 10 * 16_000
    assert frame.get_by_role("button", name="Speak").is_visible()


def test_draft_that_is_cancelled_gives_its_place_back_to_the_picture(show, studio):
    _, page, frame = show(studio)
    page.wait_for_function(DRAWN)
    frame.locator(".s2i-speak").press("Enter")
    state(frame, "listening")
    image = studio._shown[studio.pictures[0]["id"]].picture.image
    studio._show_live(Draft(image, "a car", steps=1))
    frame.get_by_role("img", name=TEXTS["en"]["draft"]).wait_for()
    assert not frame.locator(".s2i-gallery").is_visible()
    page.keyboard.press("Escape")
    frame.get_by_text(TEXTS["en"]["cancelled"]).wait_for()
    assert frame.locator(".s2i-gallery img").is_visible()


def test_what_is_typed_meanwhile_is_not_overwritten_by_what_was_heard(show, studio):
    _, page, frame = show(studio)
    said = frame.get_by_label(TEXTS["en"]["words"])
    said.fill("a red car on a")
    studio.heard = {"text": "a green tree", "language": "", "code": "", "english": "", "doubts": []}
    page.wait_for_function("() => document.querySelector('.s2i-live').textContent.includes('tree')")
    assert said.input_value() == "a red car on a"
    frame.locator(".s2i-speak").focus()
    studio.heard = {**studio.heard, "text": "a blue tree"}
    page.wait_for_function("() => document.querySelector('textarea').value === 'a blue tree'")


def test_focus_stays_in_the_studio_when_its_button_goes(show, studio):
    _, page, frame = show(studio)
    focused = "() => document.activeElement.textContent"

    def goes(key: str, change, expected: str, **values) -> None:
        button = frame.get_by_role("button", name=TEXTS["en"][key].format(**values), exact=True)
        button.wait_for()
        button.focus()
        change()
        button.wait_for(state="hidden")
        page.wait_for_timeout(50)
        assert page.evaluate(focused) == TEXTS["en"][expected], key

    studio.state = "asking"
    goes("yes_draw", lambda: studio._show("hearing", ("hearing", {})), "stop_drawing")
    studio._show("done", ("ready", {}))
    offer = "Bella on the beach"
    goes("did_you_mean", lambda: setattr(studio, "offers", []), "speak", text=offer)
    gone = {**studio.answer, "absent": ""}
    goes("another_try", lambda: setattr(studio, "answer", gone), "speak")


def test_list_that_is_offered_anew_keeps_its_choice_under_the_focus(show, studio):
    _, page, frame = show(studio)
    studio._set("subject", "Rex")
    open_more(frame)
    subject = frame.locator("select").first
    page.wait_for_function("() => document.querySelector('select').value === 'Rex'")
    subject.focus()
    studio.subjects = [*studio.subjects, "Bella"]
    subject.locator("option", has_text="Bella").wait_for(state="attached")
    assert subject.input_value() == "Rex"

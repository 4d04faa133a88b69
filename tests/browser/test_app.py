"""Notebook 0 in a real JupyterLab: from files to a picture of one's own by pressing and speaking.

Real photos, a WAV as the microphone, the pocket model; every press is counted. The short form
trains a few steps, `make full` as many as users get.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import nbformat
import pytest
from sounds import speak

from s2i_lib.drawing.gallery import read_record
from s2i_lib.storage.layout import Drive
from s2i_lib.storage.run_card import finished_runs
from tests.browser.lab import REPOSITORY
from tests.browser.voices import put_quiet_around
from tools.site.execute import peak_rss_bytes

START = REPOSITORY / "notebooks" / "0_start_here.ipynb"
PHOTOS = sorted((REPOSITORY / "s2i_lib/samples/rc_car").glob("*.jpg"))
SECONDS = 1000
PATIENCE = 600 * SECONDS
MOST_PRESSES = 8
# Of FinetuneRun, so that a run takes seconds and not minutes.
FEW_STEPS = (
    "steps=6, class_image_count=4, background_count=4, sample_every=3, save_every=2,"
    " sample_prompts=('a {subject}',)"
)

SAVE = "() => window.jupyterapp.commands.execute('docmanager:save')"
# What a person sees of the page: which panels are open, the photos' verdicts, progress, samples.
SEEN = """() => {
  const cards = [...document.querySelectorAll('.s2i-app section.s2i-card')];
  const strip = [...document.querySelectorAll('.s2i-app .s2i-strip li')];
  const teach = cards.find((one) => one.ariaLabel === 'Teach');
  const shows = (one) => one.offsetParent !== null;
  const inTeach = (what) => [...(teach?.querySelectorAll(what) || [])].filter(shows);
  return {
    open: [...document.querySelectorAll('.s2i-app .s2i-fold')]
      .filter((one) => one.getAttribute('aria-expanded') === 'true').map((one) => one.innerText),
    faces: [...document.querySelectorAll('.s2i-app .s2i-face')].filter(shows)
      .map((one) => [one.innerText.trim(), one.getAttribute('aria-pressed')]),
    verdicts: strip.map((one) => [one.dataset.kept, one.title]),
    thumbs: strip.map((one) => one.querySelector('img').naturalWidth > 0),
    state: teach?.dataset.state,
    samples: inTeach('.s2i-samples img').map((one) => one.src),
    buttons: inTeach('.s2i-row button').map((one) => one.innerText),
  };
}"""


class Presses:
    """Presses what a person would, and counts; typing into a field counts once."""

    def __init__(self) -> None:
        self.count = 0

    def press(self, locator) -> None:
        self.count += 1
        locator.click()

    def type(self, field, text: str) -> None:
        self.press(field)
        field.fill(text)


class Laps:
    """How long each part took: by the clock, which a busy machine stretches, and by the CPU."""

    def __init__(self) -> None:
        self.took: dict[str, tuple[float, float]] = {}
        self._before = (time.monotonic(), 0.0)

    def end(self, what: str, notebook) -> None:
        now = (time.monotonic(), notebook.python("__import__('time').process_time()"))
        seconds, cpu_s = (round(b - a, 1) for a, b in zip(self._before, now, strict=True))
        self.took[what], self._before = (seconds, cpu_s), now


def cells(tmp_path: Path, changes: str = FEW_STEPS) -> list[str]:
    """The cells of notebook 0, with a Drive of the test's own, and short runs."""
    notebook = nbformat.read(START, as_version=4)
    set_up, page = (cell.source for cell in notebook.cells if cell.cell_type == "code")
    folders = {"S2I_DRIVE": tmp_path / "drive", "S2I_LOCAL": tmp_path / "local"}
    environment = "\n".join(f"os.environ[{k!r}] = {str(v)!r}" for k, v in folders.items())
    page = page.replace("open_app(drive)", f"page = open_app(drive, {changes})\npage")
    return [f"import os\n{environment}", set_up, page]


def card(page, title: str):
    return page.locator(f"section.s2i-card[aria-label='{title}']")


def state(page, *states: str) -> None:
    """Wait until teaching is in one of these states."""
    selector = ", ".join(f"section.s2i-card[data-state={each}]" for each in states)
    page.wait_for_selector(selector, timeout=PATIENCE)


def studio_state(page, *states: str) -> str:
    """Wait until the studio is in one of these states; which one it is."""
    studio = "section.s2i[aria-label=Studio]"  # the upload widget above it has a state, too
    page.wait_for_selector(
        ", ".join(f"{studio}[data-state={each}]" for each in states), timeout=PATIENCE
    )
    return page.locator(studio).get_attribute("data-state")


def bring(presses: Presses, page, files: list[Path]) -> None:
    with page.expect_file_chooser() as chooser:
        presses.press(page.get_by_role("button", name="Choose photos"))
    chooser.value.set_files(files)


def name_it(presses: Presses, page, name: str, noun: str) -> None:
    form = card(page, "Who is there already")
    presses.type(form.get_by_label("What is it called?"), name)
    presses.press(form.get_by_label("a thing"))
    presses.type(form.get_by_label("One of what?"), noun)
    presses.press(form.get_by_role("button", name="Go on"))


def shown(page, look, name: str) -> None:
    """Keep how the whole page looks, of which a window shows a part."""
    window = page.viewport_size
    page.set_viewport_size({**window, "height": 2400})
    look(page.locator(".s2i-app").first, f"app-{name}")
    page.set_viewport_size(window)


def assert_nothing_sticks_out(page) -> None:
    """No card is wider than the page that it is in."""
    wide = page.evaluate(
        """() => [...document.querySelectorAll('.s2i-app section.s2i')]
          .filter((card) => card.offsetParent && card.scrollWidth > card.clientWidth + 1)
          .map((card) => `${card.ariaLabel}: ${card.scrollWidth} in ${card.clientWidth}`)"""
    )
    assert wide == []


def seen(page, wanted: dict | None = None) -> dict:
    """What the page shows, once its photos are there (and it shows what is wanted).

    Asked in one go: the page may draw a photo anew right after the moment that was waited for.
    """
    shown_then = page.wait_for_function(
        f"(wanted) => {{ const now = ({SEEN})(); return now.state && now.thumbs.every(Boolean)"
        " && (!wanted || JSON.stringify(now) === wanted) && now; }",
        arg=json.dumps(wanted, separators=(",", ":"), ensure_ascii=False) if wanted else None,
        timeout=60_000,
    )
    return shown_then.json_value()


def second_tab(lab, page):
    tab = page.context.browser.new_page(viewport=page.viewport_size)
    return tab, lab.reopen(tab, "test.ipynb")


@pytest.mark.timeout(1800)
def test_from_files_to_the_first_own_picture_in_eight_presses_and_again(
    lab, chromium, tmp_path, look, assert_accessible, full
):
    clip = speak("cuppa on a blue background", tmp_path / "clip.wav")
    seconds = put_quiet_around(clip, tmp_path / "microphone.wav")
    page = chromium(wav=f"{tmp_path / 'microphone.wav'}%noloop")
    presses, laps = Presses(), Laps()
    notebook = lab.open(page, *cells(tmp_path, "" if full else FEW_STEPS))
    card(page, "Who is there already").wait_for(timeout=PATIENCE)
    laps.end("opening", notebook)
    shown(page, look, "new")
    assert_accessible(page)
    name_it(presses, page, "Cuppa", "car")
    bring(presses, page, PHOTOS)
    page.locator(".s2i-strip li[data-kept=true]").nth(4).wait_for(timeout=PATIENCE)
    laps.end("photos", notebook)
    state(page, "ready")
    shown(page, look, "photos")
    assert_accessible(page)
    laps.end("plan", notebook)
    presses.press(card(page, "Teach").get_by_role("button", name="Start"))
    card(page, "Teach").get_by_role("button", name="Stop").wait_for(timeout=PATIENCE)
    shown(page, look, "teaching")
    assert_accessible(page)
    state(page, "done", "failed")
    assert notebook.python("page.teaching.of('Cuppa').complaint") == ""
    laps.end("teaching", notebook)
    studio = page.locator("section.s2i[aria-label=Studio]")
    button = studio.locator(".s2i-speak")
    studio_state(page, "ready")
    shown(page, look, "taught")
    presses.press(button)
    studio_state(page, "listening")
    page.wait_for_timeout((seconds + 4.5) * SECONDS)  # then it stops by itself
    if studio_state(page, "done", "asking", "error") == "asking":
        presses.press(studio.get_by_role("button", name="Yes, draw it"))
        studio_state(page, "done", "error")
    laps.end("first picture", notebook)
    shown(page, look, "spoken")  # that of the full length is docs/start-here.png
    assert_accessible(page)
    [kept] = (tmp_path / "drive/creations").glob("*.png")
    record = read_record(kept)
    assert record["run"] and "cuppa" in record["run"], record
    peak = peak_rss_bytes(notebook.python("os.getpid()")) / 1e9
    print(f"{presses.count} presses; seconds, and CPU seconds of the kernel: {laps.took}")
    print(f"memory of the kernel: {peak:.2f} GB at most")
    assert presses.count <= MOST_PRESSES
    shows_the_same_when_opened_again(lab, page, tmp_path)
    if full:  # tests/widgets/test_app.py has it without a browser
        go_on_in_a_new_kernel(lab, page, tmp_path, look)


def shows_the_same_when_opened_again(lab, page, tmp_path: Path) -> None:
    """In a second tab, and where the page was not saved, so that its cells are run again."""
    [run] = finished_runs(Drive(tmp_path / "drive"))
    before, wanted = (run / "run.json").read_bytes(), seen(page)
    page.evaluate(SAVE)
    tab, _ = second_tab(lab, page)
    assert seen(tab, wanted) == wanted
    studio_state(tab, "done")
    tab.close()
    notebook = lab.reopen(page, "test.ipynb")
    notebook.run_all()
    assert seen(page, wanted) == wanted
    studio_state(page, "done")
    assert notebook.python("page.teaching.busy") == ""
    assert (run / "run.json").read_bytes() == before


def go_on_in_a_new_kernel(lab, page, tmp_path: Path, look) -> None:
    """What a session that died had begun goes on by itself."""
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.restartKernel()")
    note = tmp_path / "drive/subjects/cuppa/teaching.json"
    note.write_text(json.dumps({"goes_on": True, "run": "", "steps": 0}))
    notebook = lab.reopen(page, "test.ipynb")
    notebook.run_all()
    state(page, "done")
    assert json.loads(note.read_text())["goes_on"] is False
    shown(page, look, "again")


@pytest.mark.parametrize("width", [360, pytest.param(1366, marks=pytest.mark.full)])
def test_without_camera_the_sample_is_tried_and_forgotten_on_a_phone_and_a_laptop(
    lab, chromium, tmp_path, look, assert_accessible, width
):
    page = chromium(has_devices=False)
    notebook = lab.open(page, *cells(tmp_path), is_dark=width == 360)
    if width == 360:  # as a phone has it: without JupyterLab's side bar
        page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    page.set_viewport_size({"width": width, "height": 900})
    faces = card(page, "Who is there already")
    faces.wait_for(timeout=PATIENCE)
    faces.get_by_label("a person").check()
    faces.get_by_role("button", name="Go on").click()
    faces.locator("[role=alert]", has_text="Type a name first.").wait_for()
    shown(page, look, f"person-{width}")
    assert_accessible(page)
    faces.get_by_role("button", name="try it with a toy car").click()
    page.locator(".s2i-strip li[data-kept=true]").nth(4).wait_for(timeout=PATIENCE)
    page.get_by_role("button", name="Start camera").click()
    page.locator("[role=alert]", has_text="No camera was found. Connect one").wait_for()
    state(page, "ready")
    shown(page, look, f"sample-{width}")
    assert_accessible(page)
    assert_nothing_sticks_out(page)
    keep = card(page, "Show it, or delete it")
    keep.get_by_role("button", name="Make a page").click()
    keep.locator("[role=alert]", has_text="There is no picture of Racer yet").wait_for()
    keep.get_by_role("button", name="Forget Racer").click()
    keep.get_by_text("subjects/racer").wait_for()
    assert (tmp_path / "drive/subjects/racer").is_dir(), "listed, not deleted"
    shown(page, look, f"forget-{width}")
    assert_accessible(page)
    assert_nothing_sticks_out(page)
    keep.get_by_role("button", name="Delete all of this").click()
    faces.get_by_text("Racer has been forgotten.").wait_for()
    assert [p for p in (tmp_path / "drive").rglob("*") if p.is_file()] == []
    assert notebook.python("page.subject is None")

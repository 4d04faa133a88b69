"""Notebook 0 in a second tab and after a reload: the kernel has it all, so both show the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.browser.test_app import (
    FEW_STEPS,
    PATIENCE,
    PHOTOS,
    SAVE,
    Presses,
    assert_nothing_sticks_out,
    bring,
    card,
    cells,
    name_it,
    second_tab,
    seen,
    shown,
    state,
    studio_state,
)


@pytest.mark.full  # tests/browser/test_app.py has a reload and a second tab after it
@pytest.mark.timeout(1800)
def test_in_the_middle_of_teaching_a_reload_and_a_second_tab_show_how_far_it_is(
    lab, chromium, tmp_path, look
):
    page = chromium()
    steps = FEW_STEPS.replace("steps=6", "steps=900").replace("sample_every=3", "sample_every=5")
    notebook = lab.open(page, *cells(tmp_path, steps))
    card(page, "Who is there already").get_by_role("button", name="try it with a toy car").click()
    state(page, "ready")
    card(page, "Teach").get_by_role("button", name="Start").click()
    teach = card(page, "Teach")
    teach.locator(".s2i-samples img[alt^='Drawn for Racer']").first.wait_for(timeout=PATIENCE)
    page.evaluate(SAVE)
    tab, _ = second_tab(lab, page)
    state(tab, "training")
    assert seen(tab)["buttons"] == ["Stop"] and seen(tab)["open"] == seen(page)["open"]
    notebook = lab.reopen(page, "test.ipynb")
    state(page, "training")
    shown(page, look, "reloaded")
    before = float(teach.locator("progress").get_attribute("value"))
    page.wait_for_function(
        "(before) => document.querySelector('[data-state=training] progress').value > before",
        arg=before, timeout=PATIENCE,
    )  # fmt: skip
    card(tab, "Teach").get_by_role("button", name="Stop").click()
    state(page, "stopped")
    assert seen(tab, seen(page))["buttons"] == ["Go on teaching"]
    shown(tab, look, "second-tab")
    card(page, "Speak").get_by_role("button").first.click()
    studio_state(tab, "ready")
    page.evaluate(SAVE)
    lab.reopen(tab, "test.ipynb")
    studio_state(tab, "ready")
    assert seen(tab, seen(page))["open"] == ["1\nPhotos", "2\nTeach", "3\nSpeak"][1:]
    assert notebook.python("page.teaching.busy") == ""


@pytest.mark.full  # tests/widgets/test_app.py has five, without a browser
@pytest.mark.timeout(900)
def test_forty_photos_at_once_come_in_their_order_and_get_their_verdicts_one_by_one(
    lab, chromium, tmp_path, look, assert_accessible
):
    page = chromium(has_devices=False)
    notebook = lab.open(page, *cells(tmp_path), is_dark=True)
    presses = Presses()
    card(page, "Who is there already").wait_for(timeout=PATIENCE)
    name_it(presses, page, "Cuppa", "car")
    bring(presses, page, forty_photos(tmp_path))
    page.locator(".s2i-strip li").nth(39).wait_for(timeout=PATIENCE)
    names = page.locator(".s2i-strip li img").evaluate_all("(all) => all.map((one) => one.alt)")
    assert [name.partition(":")[0] for name in names] == [f"IMG_{i:02}.jpg" for i in range(40)]
    page.wait_for_function(
        "() => { const marked = document.querySelectorAll('.s2i-strip li[data-kept]').length;"
        " return 0 < marked && marked < 40; }",
        timeout=PATIENCE,
    )
    page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    page.set_viewport_size({"width": 360, "height": 900})
    shown(page, look, "forty-arriving-360")
    state(page, "ready", "failed")
    page.get_by_text("40 photos, more than the 30 that are of use").wait_for()
    assert_accessible(page)
    assert_nothing_sticks_out(page)
    reasons = card(page, "Photos").locator(".s2i-notes li:visible")
    assert reasons.count() < 10, "the camera's button is under them"
    shown(page, look, "forty-360")
    notebook.set_theme("JupyterLab Light")
    page.set_viewport_size({"width": 1366, "height": 900})
    shown(page, look, "forty-1366")


def forty_photos(folder: Path) -> list[Path]:
    """Forty that differ, as far as cutting five into pieces gives them."""
    made = []
    for i in range(40):
        image = Image.open(PHOTOS[i % len(PHOTOS)])
        cut = 12 * (i // len(PHOTOS))
        image = image.crop((cut, cut, image.width - cut, image.height))
        made.append(folder / f"IMG_{i:02}.jpg")
        image.resize((512, 512)).save(made[-1])
    return made

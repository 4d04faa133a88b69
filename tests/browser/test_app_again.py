"""Notebook 0 in a second tab and after a reload: the kernel has it all, so both show the same."""

from __future__ import annotations

import pytest

from tests.browser.test_app import (
    FEW_STEPS,
    PATIENCE,
    SAVE,
    card,
    cells,
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
    steps = FEW_STEPS.replace("steps=6", "steps=900").replace("sample_every=3", "sample_every=30")
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
    before = teach.locator("progress").get_attribute("value")
    page.wait_for_function(
        "(before) => document.querySelector('.s2i-app progress').getAttribute('value') > before",
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

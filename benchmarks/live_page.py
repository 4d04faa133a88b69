"""A picture while one speaks, as somebody sees it: in Chromium, with a WAV file as its microphone.

    python -m benchmarks.live_page             # 6 sentences, with drafts and without, four minutes
    python -m benchmarks.live_page --cores 1   # browser, server, kernel, all at half the speed
    python -m benchmarks.live_page --write     # both, into benchmarks/README.md

JupyterLab, its kernel, real weights. The page itself notes when the microphone opened (Chromium
plays the file from there on), when a draft of words with the noun stood in it, and when the picture
did. The recording ends by itself after the silence that the studio waits for. Needs Debian's
chromium and flite, which tells when noun and sentence end, and the tests' own packages.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hearing import speak
from benchmarks.live import end_of_noun_s, run, sounds
from benchmarks.pocket import Asked
from benchmarks.speech_to_image import make_wishes

MARKS = ("<!-- live page: made by benchmarks/live_page.py -->", "<!-- end of live page -->")
BEFORE_S, AFTER_S = 1.0, 6.0  # of quiet around each sentence
PATIENCE_MS = 300_000
WAYS = {"with drafts": True, "without drafts": False}
STUDIO = """
from s2i_lib.widgets.studio import Studio
studio = Studio(drive, settings={"model": "pocket", "drafts": True})
studio
"""
# When the microphone opened, and what stood in the page from then on: [ms, words, draft, state].
NOTES = """
window.notes = [];
const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (what) => {
  const stream = await open(what);
  window.openedAt = performance.now();
  return stream;
};
const note = () => {
  const frame = document.querySelector('section.s2i');
  if (!frame || !window.openedAt) return;
  const draft = frame.querySelector('.s2i-draft'), words = frame.querySelector('.s2i-live');
  const one = [words.innerText, draft.hidden ? '' : draft.src, frame.dataset.state];
  const last = window.notes.at(-1);
  if (!last || one.some((part, i) => part !== last[i + 1]))
    window.notes.push([performance.now() - window.openedAt, ...one]);
};
setInterval(note, 20);
"""


def measure(folder: Path, prompts: int, cores: int) -> str:
    """Say every sentence both ways to one studio, and return the table of it."""
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import CHROMIUM, DEFAULTS_IN_THE_WAY, QUIET, SET_UP
    from tests.browser.lab import run_lab
    from tests.browser.voices import put_quiet_around

    wishes = make_wishes(prompts)
    for name in ("clips", "notebooks"):
        (folder / name).mkdir()
    rows: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with run_lab(folder / "notebooks") as lab, sync_playwright() as playwright:
        wav = folder / "voice.wav"
        for number, wish in enumerate(wishes):
            clip = speak(f"{wish.prompt}.", folder / "clips")
            put_quiet_around(clip, wav, before_s=BEFORE_S, after_s=AFTER_S)
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM,
                args=[*QUIET, "--use-fake-ui-for-media-stream",
                      "--use-fake-device-for-media-stream",
                      f"--use-file-for-fake-audio-capture={wav}%noloop"],
                ignore_default_args=DEFAULTS_IN_THE_WAY,
            )  # fmt: skip
            page = browser.new_page(viewport={"width": 1000, "height": 1200})
            page.add_init_script(NOTES)
            set_up = SET_UP.format(root=str(folder / "drive"))
            notebook = lab.open(page, set_up, STUDIO, name=f"{number}.ipynb")
            page.wait_for_selector("section.s2i[data-state=ready]", timeout=PATIENCE_MS)
            notebook.python("studio.say('a red car')")
            page.wait_for_selector("section.s2i[data-state=done]", timeout=PATIENCE_MS)
            for way, drafts in WAYS.items():
                rows[way].append(_ask(page, notebook, wish, drafts=drafts))
            browser.close()
    return write_table(wishes, rows, cores)


def _ask(page: Any, notebook: Any, wish: Asked, *, drafts: bool) -> dict[str, Any]:
    """Press, let the file speak, wait for the picture; seconds after the noun and the sentence."""
    sentence = f"{wish.prompt}."
    notebook.python(f"studio.settings.update(drafts={drafts})")
    page.evaluate("() => { window.notes = []; window.openedAt = 0; }")
    page.locator(".s2i-speak").click()
    is_done = "() => window.notes.some((one) => one[3] === 'done')"
    page.wait_for_function(is_done, timeout=PATIENCE_MS)
    notes = page.evaluate("() => window.notes")
    noun_s = BEFORE_S + end_of_noun_s(wish.noun, sentence)
    end_s = BEFORE_S + sounds(sentence)[-1]
    drawn = [at for at, words, draft, _ in notes if draft and wish.noun in words.lower()]
    done = next(at for at, *_, state in notes if state == "done")
    return {
        "draft": drawn[0] / 1000 - noun_s if drawn else None,
        "done": done / 1000 - end_s,
        "heard": wish.noun in notebook.python("studio.prompt['text']").lower(),
    }


def write_table(wishes: list[Asked], rows: dict[str, list[dict[str, Any]]], cores: int) -> str:
    lines = []
    for way, some in rows.items():
        delays = [one["draft"] for one in some if one["draft"] is not None]
        draft = f"{np.median(delays):.2f} ({len(delays)} of {len(some)})" if delays else ""
        done = [one["done"] for one in some]
        heard = f"{sum(one['heard'] for one in some)} of {len(some)}"
        lines.append(f"| {way} | {draft} | {np.median(done):.2f} | {max(done):.2f} | {heard} |")
    return "\n".join(
        [
            f"### In Chromium, on {cores} core{'s'[: cores > 1]}: {len(wishes)} sentences",
            "",
            "| | noun said to a draft with it, s | last word to the picture, median, s | "
            "slowest, s | noun heard |",
            "|---|---|---|---|---|",
            *lines,
        ]
    )


HEAD = (
    f"Made by `{{command}}` on {platform.machine()}: JupyterLab and Chromium with a WAV file as "
    "its microphone, on the same cores as all else. A recording ends by itself after 1.5 s of "
    "silence, and the picture comes after that."
)

if __name__ == "__main__":
    run(__doc__, measure, 6, HEAD, MARKS)

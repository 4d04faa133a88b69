"""The same widget classes under the versions that Colab ships: Python 3.13, ipywidgets 7, no torch.

Colab's own page is not to be had; notebook 6 has the ipywidgets 7 front end that is nearest to it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.lab import REPOSITORY, fill_in, free_port, wait_until_up
from tests.browser.test_capture import drop, noise_png
from tests.browser.test_microphone import MICROPHONE, RATE_HZ, likeness


class Classic:
    """A notebook 6 server, and notebooks opened in its page."""

    def __init__(self, address: str, token: str, root: Path) -> None:
        self.address, self.token, self.root = address, token, root

    def open(self, page, *cells: str) -> None:
        source = [
            {"cell_type": "code", "metadata": {}, "source": cell, "outputs": [],
             "execution_count": None} for cell in cells
        ]  # fmt: skip
        kernel = {"name": "python3", "display_name": "Python 3"}
        notebook = {
            "cells": source, "metadata": {"kernelspec": kernel}, "nbformat": 4,
            "nbformat_minor": 4,
        }  # fmt: skip
        (self.root / "test.ipynb").write_text(json.dumps(notebook))
        page.goto(f"{self.address}/notebooks/test.ipynb?token={self.token}")
        page.wait_for_function(
            "() => window.Jupyter && Jupyter.notebook && Jupyter.notebook.kernel"
            " && Jupyter.notebook.kernel.is_connected() && !Jupyter.notebook.kernel_busy",
            timeout=90_000,
        )
        page.wait_for_timeout(3000)  # the widget manager first tries the protocol of ipywidgets 8
        page.evaluate("() => Jupyter.notebook.execute_all_cells()")

    @staticmethod
    def python(page, expression: str):
        """The value of an expression in the kernel."""
        code = f"import json; print(json.dumps({expression}))"
        out = page.evaluate(
            """(code) => new Promise((resolve, reject) => {
              let out = '';
              Jupyter.notebook.kernel.execute(code, {iopub: {output: (m) => {
                if (m.msg_type === 'stream') out += m.content.text;
                if (m.msg_type === 'error') reject(new Error(m.content.evalue));
              }}, shell: {reply: () => setTimeout(() => resolve(out), 200)}},
              {silent: false, store_history: false});
            })""",
            code,
        )
        return json.loads(out)


@pytest.fixture(scope="session")
def classic(colab_python, tmp_path_factory):
    root, port = tmp_path_factory.mktemp("classic"), free_port()
    with tempfile.TemporaryDirectory(prefix="jupyter") as home:
        environment = {
            **os.environ,
            "JUPYTER_CONFIG_DIR": f"{home}/config",
            "JUPYTER_RUNTIME_DIR": f"{home}/run",
            "JUPYTER_DATA_DIR": f"{home}/data",
            "IPYTHONDIR": f"{home}/ipython",
            "PYTHONPATH": str(REPOSITORY),
        }
        log = Path(home, "server.log")
        command = [
            colab_python, "-m", "notebook", "--no-browser", "--allow-root", "--ip=127.0.0.1",
            f"--port={port}", "--port-retries=0", "--NotebookApp.token=test",
            f"--notebook-dir={root}",
        ]  # fmt: skip
        with log.open("w") as stream:
            server = subprocess.Popen(
                command, env=environment, stdout=stream, stderr=stream, cwd=root
            )
        try:
            address = f"http://127.0.0.1:{port}"
            wait_until_up(f"{address}/api/status?token=test", server, log)
            yield Classic(address, "test", root)
        finally:
            server.terminate()
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()


def test_versions_are_colabs_and_torch_is_not_there(classic, colab_python):
    code = "import ipywidgets, IPython; print(ipywidgets.__version__, IPython.__version__)"
    done = subprocess.run([colab_python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["7.7.1", "7.34.0"]
    code = "import importlib.util as u; print(u.find_spec('torch'))"
    done = subprocess.run([colab_python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"


def test_recording_arrives(classic, chromium, wav, speech, look):
    page = chromium(wav=wav)
    classic.open(page, MICROPHONE)
    frame = page.locator("section.s2i")
    button = frame.locator(".s2i-speak")
    button.press("Space")
    page.wait_for_selector("section.s2i[data-state=listening]")
    page.wait_for_timeout(len(speech) / RATE_HZ * 1000)
    button.press("Enter")
    frame.get_by_text("seconds arrived").wait_for()
    look(frame, "microphone-classic")
    pcm = classic.python(page, "base64.b64encode(heard[0].tobytes()).decode()")
    assert likeness(np.frombuffer(base64.b64decode(pcm), np.float32), speech) > 0.8


def test_upload_arrives_whole(classic, chromium, set_up):
    data = noise_png(3)
    page = chromium()
    classic.open(page, set_up, UPLOAD_AND_REMEMBER)
    frame = page.locator("section.s2i")
    drop(frame.locator(".s2i-zone"), {"large.png": data})
    frame.get_by_text("1 file arrived, 1 photo kept.").wait_for(timeout=60_000)
    assert classic.python(page, "arrived") == [hashlib.sha256(data).hexdigest()]


def test_the_studio_hears_and_is_set_there_and_says_what_it_lacks(
    classic, chromium, set_up, wav, speech, look
):
    """Its page and its transport; without torch it cannot draw, and says so."""
    page = chromium(wav=wav)
    classic.open(page, set_up, STUDIO_AND_REMEMBER)
    frame = page.locator("section.s2i")
    frame.locator("[role=alert]", has_text="torch").wait_for(timeout=60_000)
    frame.locator(".s2i-more > summary").press("Enter")
    number = frame.get_by_label("Pictures", exact=True)
    fill_in(number, "2")
    number.press("Tab")
    frame.get_by_label("Lock the seed").press("Space")
    button = frame.locator(".s2i-speak")
    button.press("Space")
    page.wait_for_selector("section.s2i[data-state=listening]")
    page.wait_for_timeout(len(speech) / RATE_HZ * 1000)
    button.press("Enter")
    ended = "section.s2i:is([data-state=error], [data-state=asking])"
    page.wait_for_selector(ended, timeout=60_000)
    if frame.get_attribute("data-state") == "asking":  # a busy machine's microphone loses a part
        frame.get_by_role("button", name="Yes, draw it").press("Enter")
    page.wait_for_selector("section.s2i[data-state=error]")
    # The state and what is said with it come in messages of their own.
    expect(frame.get_by_label("What you said, or type it")).not_to_have_value("")
    expect(frame.locator(".s2i-status")).to_have_text("")
    look(frame, "studio-classic")
    settings = classic.python(page, "studio.settings")
    assert settings["count"] == 2 and settings["is_seed_locked"]
    pcm = np.frombuffer(base64.b64decode(classic.python(page, "heard[0]")), np.int16)
    assert likeness(pcm / 32768, speech) > 0.8


def test_the_page_of_notebook_0_opens_its_panels_there(classic, chromium, set_up, look):
    """Widgets inside of boxes, as ipywidgets 7 has them; photos arrive, whatever can check them."""
    page = chromium()
    classic.open(page, set_up, "from s2i_lib.widgets.app import App\napp = App(drive)\napp")
    form = page.locator("section.s2i-card[aria-label='Who is there already']")
    fill_in(form.get_by_label("What is it called?"), "Rex")
    form.get_by_label("an animal").check()
    fill_in(form.get_by_label("One of what?"), "dog")
    form.get_by_role("button", name="Go on").press("Enter")
    zone = page.locator(".s2i-zone")
    zone.wait_for(timeout=60_000)
    drop(zone, {"large.png": noise_png(1)})
    page.get_by_text("1 file arrived, 1 photo kept.").wait_for(timeout=60_000)
    look(page.locator(".s2i-app"), "app-classic")
    assert classic.python(page, "app._store.names()") == ["large.png"]
    assert classic.python(page, "app.subject.class_noun") == "dog"


STUDIO_AND_REMEMBER = """
import base64
from s2i_lib.widgets.studio import Studio
heard = []
class Remembering(Studio):
    def _received(self, data, meta):
        if meta["kind"] == "speech":
            heard.append(base64.b64encode(data).decode())
        return super()._received(data, meta)
studio = Remembering(drive, settings={'model': 'pocket', 'stop_on_silence': False})
studio
"""


UPLOAD_AND_REMEMBER = """
import hashlib
from s2i_lib.widgets.capture import upload
w = upload(drive, 'Rex')
arrived = []
keep = w.store.add
def add(name, data):
    arrived.append(hashlib.sha256(data).hexdigest())
    return keep(name, data)
w.store.add = add
w
"""

"""A real JupyterLab on loopback, and notebooks opened in it in a real Chromium."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat

REPOSITORY = Path(__file__).parents[2]
START_S = 180  # ten on a quiet machine; a busy one has taken more than sixty
MILLISECONDS = 1000

# JupyterLab's own object, through --expose-app-in-browser: whether the kernel is there and idle.
_IS_IDLE = """() => {
  const panel = window.jupyterapp && window.jupyterapp.shell.currentWidget;
  const session = panel && panel.context && panel.context.isReady && panel.sessionContext.session;
  return !!(session && session.kernel && session.kernel.status === 'idle');
}"""

_EXECUTE = """async (code) => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  let out = '', error = null;
  const future = kernel.requestExecute({code, store_history: false});
  future.onIOPub = (message) => {
    if (message.header.msg_type === 'stream' && message.content.name === 'stdout')
      out += message.content.text;
    if (message.header.msg_type === 'error')
      error = message.content.ename + ': ' + message.content.evalue;
  };
  await future.done;
  return {out, error};
}"""

# What was done in the page, and what it and the kernel have said to each other, for whoever asks
# why something did not arrive.
_LISTEN = """() => {
  const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
  window.log = [];
  const note = (...what) => window.log.push([Math.round(performance.now()), ...what].join(' '));
  kernel.anyMessage.connect((_, { msg, direction }) => {
    const { msg_type, subshell_id } = msg.header;
    if (msg_type.startsWith('comm_') || msg_type.includes('subshell'))
      note(direction, msg_type, subshell_id, JSON.stringify(msg.content).slice(0, 200));
  });
  for (const type of ['input', 'change', 'focusin', 'focusout'])
    document.addEventListener(type, ({ target }) =>
      note(type, target.tagName, target.type, target.value), true);
}"""
_STACKS = """{
    thread.name: "".join(__import__("traceback").format_stack(frame)[-5:])
    for thread in __import__("threading").enumerate()
    if (frame := __import__("sys")._current_frames().get(thread.ident))
}"""


class Lab:
    """A running server; ``root`` is the folder that it serves."""

    def __init__(self, address: str, token: str, root: Path) -> None:
        self.address, self.token, self.root = address, token, root

    def open(self, page, *cells: str, name: str = "test.ipynb", is_dark: bool = False) -> Notebook:
        """Write a notebook with these code cells, open it in ``page`` and run all of it."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, self.root / name)
        opened = self.reopen(page, name)
        opened.set_theme("JupyterLab Dark" if is_dark else "JupyterLab Light")  # it outlasts a page
        opened.run_all()
        return opened

    def reopen(self, page, name: str) -> Notebook:
        """Load the page of a notebook (again); its kernel, if it has one, goes on."""
        page.goto(f"{self.address}/doc/tree/{name}?token={self.token}&reset")
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=START_S * MILLISECONDS)
        page.wait_for_function(_IS_IDLE, timeout=START_S * MILLISECONDS)
        page.evaluate(_LISTEN)
        return Notebook(page)


class Notebook:
    """A notebook that is open in a page."""

    def __init__(self, page) -> None:
        self.page = page

    def run_all(self, longest_s: float = START_S) -> None:
        page = self.page
        page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.wait_for_function(_IS_IDLE, timeout=longest_s * MILLISECONDS)

    def set_theme(self, name: str) -> None:
        self.page.evaluate(
            "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", name
        )
        is_light = "Light" in name
        selector = f"[data-jp-theme-light='{str(is_light).lower()}']"
        self.page.wait_for_selector(selector, state="attached")

    def python(self, expression: str):
        """The value of an expression in the kernel (what JSON can say of it)."""
        code = f"import json; print(json.dumps({expression}))"
        answer = self.page.evaluate(_EXECUTE, code)
        if answer["error"]:
            raise RuntimeError(answer["error"])
        return json.loads(answer["out"])

    def wait_for(self, expression: str, timeout_s: float = 30.0):
        """Wait until an expression in the kernel is true; return its value."""
        end = time.monotonic() + timeout_s
        while not (value := self.python(expression)):
            if time.monotonic() > end:
                raise TimeoutError(
                    f"{expression} stayed {value!r} for {timeout_s} s.\n{self.explain()}"
                )
            time.sleep(0.1)
        return value

    def explain(self) -> str:
        """Say what the kernel's threads do, and what page and kernel said last to each other."""
        stacks = "\n".join(map(": ".join, self.python(_STACKS).items()))
        seen = "\n".join(self.page.evaluate("() => window.log.slice(-40)"))
        return f"Threads of the kernel:\n{stacks}\nEvents and messages:\n{seen}"


def fill_in(field, text: str) -> None:
    """Type into a field, again where JupyterLab took the focus and with it what was typed."""
    end = time.monotonic() + 10
    field.fill(text)
    while field.input_value() != text:
        assert time.monotonic() < end, f"{field.input_value()!r} stands where {text!r} was typed"
        field.fill(text)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def run_lab(root: Path, **plugins: str) -> Iterator[Lab]:
    """Start JupyterLab with a home of its own, so that nobody's settings change the tests.

    ``plugins`` are settings as JSON, by "extension/plugin" of JupyterLab's own.
    """
    port, token = free_port(), "test"
    with tempfile.TemporaryDirectory(prefix="jupyter") as home:
        plugins = {"apputils-extension/notification": '{"fetchNews": "false"}', **plugins}
        for plugin, text in plugins.items():
            settings = Path(home, "settings", "@jupyterlab", f"{plugin}.jupyterlab-settings")
            settings.parent.mkdir(parents=True, exist_ok=True)
            settings.write_text(text)
        environment = {
            **os.environ,
            "JUPYTER_CONFIG_DIR": f"{home}/config",
            "JUPYTER_RUNTIME_DIR": f"{home}/run",
            "JUPYTER_DATA_DIR": f"{home}/data",
            "JUPYTERLAB_SETTINGS_DIR": f"{home}/settings",
            "IPYTHONDIR": f"{home}/ipython",
            "PYTHONPATH": str(REPOSITORY),
        }
        command = [
            sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
            "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}",
            "--LabApp.expose_app_in_browser=True",
        ]  # fmt: skip
        log = Path(home, "server.log")
        with log.open("w") as stream:
            server = subprocess.Popen(
                command, env=environment, stdout=stream, stderr=stream, cwd=root
            )
        try:
            address = f"http://127.0.0.1:{port}"
            wait_until_up(f"{address}/api/status?token={token}", server, log)
            yield Lab(address, token, root)
        finally:
            server.terminate()
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()


def wait_until_up(address: str, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}") from None
            time.sleep(0.1)

"""The documentation site, as `make docs` builds it: whole, without dead links, and on its own."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup

import s2i_lib
from tools.site import execute

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SHORT = NOTEBOOKS[:2]  # the page that presses make, and a notebook that draws
PAGES = [
    "index.html",
    "docs/architecture.html",
    "docs/api.html",
    "notebooks/0_start_here.html",
    "notebooks/1_capture_dataset.html",
]


@pytest.fixture(scope="session")
def executed(tmp_path_factory, full) -> Path:
    """The notebooks with their pictures: the shortest ones, and in `make full` all."""
    folder, scratch = tmp_path_factory.mktemp("executed"), tmp_path_factory.mktemp("scratch")
    if full:
        execute.execute_all(folder)
        return folder
    for path in SHORT:  # over one Drive, as all of them are
        notebook, figures = execute.execute(path, scratch)
        assert sum(figures.cpu_s.values()) > 1 and figures.peak_rss_bytes > 100e6
        nbformat.write(notebook, folder / path.name)
    return folder


@pytest.fixture(scope="session")
def site(tmp_path_factory, executed) -> Path:
    folder = tmp_path_factory.mktemp("built") / "site"
    # No network: a plug-in that asked for anything would be refused by this proxy.
    nobody = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, **nobody, "S2I_EXECUTED": str(executed), "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def soups(site) -> dict[Path, BeautifulSoup]:
    return {p: BeautifulSoup(p.read_text(), "html.parser") for p in site.rglob("*.html")}


def test_every_page_and_notebook_is_there_and_in_the_menu(site, soups):
    pages = [ROOT / "drive_layout.md", *(ROOT / "docs").glob("*.md"), *NOTEBOOKS]
    wanted = {p.relative_to(ROOT).with_suffix(".html").as_posix() for p in pages}
    wanted |= {"index.html", "benchmarks/index.html", "docs/api.html"}
    menu = soups[site / "404.html"].select(".md-nav--primary a.md-nav__link[href]")
    assert wanted <= {link["href"].removeprefix("/") for link in menu}


def test_no_link_is_dead(site, soups):
    """Read from the pages themselves: files, and the places in them."""
    ids = {page: {tag["id"] for tag in soup.select("[id]")} for page, soup in soups.items()}
    dead, count = [], 0
    for page, soup in soups.items():
        for tag in soup.select("a[href], img[src], script[src], link[href]"):
            address = urlsplit(tag.get("href", tag.get("src")))
            if address.scheme or address.netloc:
                continue
            target = page
            if address.path:
                home = site if address.path.startswith("/") else page.parent  # 404.html's do
                target = Path(os.path.normpath(home / unquote(address.path).lstrip("/")))
            target = target / "index.html" if target.is_dir() else target
            count += 1
            place = unquote(address.fragment)
            if not target.is_file() or (place and place not in ids.get(target, {place})):
                dead.append((page.relative_to(site), tag.get("href", tag.get("src"))))
    assert count > 500 and dead == []


def test_the_reference_has_every_name_of_the_face_with_its_words(site, soups):
    page = soups[site / "docs" / "api.html"]
    headings = {heading.get_text(" ", strip=True).split()[0] for heading in page.select("h2")}
    assert {f"s2i.{name}" for name in s2i_lib._FACE} <= headings
    told = [len(one.select_one(".doc-contents").get_text()) for one in page.select(".doc-object")]
    assert min(told) > 20


def test_a_notebook_is_shown_with_its_pictures_and_what_they_show(site, soups, full):
    """Of the committed notebooks none has any (tests/notebooks)."""
    for path in NOTEBOOKS if full else SHORT:
        page = soups[site / "notebooks" / f"{path.stem}.html"]
        pictures = page.select("article img")
        assert len(pictures) >= 1 and all(len(one["alt"]) > 10 for one in pictures), path.name
        assert str(ROOT) not in page.get_text() and "Traceback" not in page.get_text()
        for code in page.select("pre"):
            code.extract()
        assert not re.search(r"\]\(|## ", page.select_one("article").get_text()), "plain Markdown"


def test_what_follows_the_html_of_a_cell_is_still_markdown(tmp_path, monkeypatch):
    """As notebook 3 shows its page: a frame in a paragraph that nothing ends."""
    import markdown

    from tools.site import pages

    frame = {"text/html": '<p><iframe srcdoc="&lt;p&gt;said"></iframe>', "text/plain": "HTML"}
    output = nbformat.v4.new_output("display_data", frame)
    dot = (ROOT / "tests" / "data" / "dot.png").read_bytes()
    told = {"image/png": {"alt": "a dot", "width": 320}}
    shown = nbformat.v4.new_output(
        "display_data", {"image/png": base64.b64encode(dot).decode()}, metadata=told
    )
    cells = [
        nbformat.v4.new_code_cell("show()", outputs=[output, shown]),
        nbformat.v4.new_markdown_cell("## After"),
    ]
    path = tmp_path / "notebooks" / "9_x.ipynb"
    path.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    monkeypatch.setattr(pages, "REPOSITORY", tmp_path)
    (_, text), (name, picture) = pages.notebook_page(path)
    made = markdown.markdown(text, extensions=["attr_list", "md_in_html", "tables"])
    page = BeautifulSoup(pages.on_page_content(made, page=None), "html.parser")
    assert page.h2.get_text() == "After" and page.h2.find_parent("p") is None
    assert page.iframe["srcdoc"] == "<p>said"
    assert (page.img["alt"], page.img["width"]) == ("a dot", "320")
    assert picture == dot and name.endswith(page.img["src"])


@contextlib.contextmanager
def served(folder: Path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_pages_ask_nothing_of_the_network_and_fit_a_phone(site, chromium):
    page = chromium()
    page.set_default_timeout(120_000)  # the index is read in the page: seconds, on an idle machine
    outside, failed = [], []
    with served(site) as address:
        page.route(
            re.compile(rf"^(?!{re.escape(address)}|data:|blob:)"),
            lambda route: (outside.append(route.request.url), route.abort()),
        )
        page.on("response", lambda r: failed.append(r.url) if r.status >= 400 else None)
        for width in (1366, 360):
            page.set_viewport_size({"width": width, "height": 800})
            for name in PAGES:
                page.goto(f"{address}/{name}", wait_until="networkidle")
                widest = page.evaluate("document.documentElement.scrollWidth")
                assert widest <= width, f"{name} is {widest} px wide where there are {width}"
                if "architecture" in name:
                    assert_diagram_is_drawn(page)
        page.locator(".md-header [for=__search]").first.click()
        page.get_by_role("textbox", name="Search").press_sequentially("classroom")  # hears keys
        page.locator(".md-search-result__link").first.wait_for()
    assert (outside, failed) == ([], [])


def assert_diagram_is_drawn(page) -> None:
    """Material puts the drawing where nobody can look (a closed shadow): its size tells."""
    page.wait_for_function("!document.querySelector('pre.mermaid')")
    box = page.locator("div.mermaid").bounding_box()
    assert box["width"] > 200 and box["height"] > 60


def test_notebooks_are_run_again_only_where_something_has_changed(tmp_path, monkeypatch, capsys):
    library, notebook = tmp_path / "s2i_lib" / "draw.py", tmp_path / "notebooks" / "1_a.ipynb"
    for path in (library, notebook):
        path.parent.mkdir()
    library.write_text("")
    cell = nbformat.v4.new_code_cell("import os; print(6 * 7, os.environ['S2I_DRIVE'])")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), notebook)
    monkeypatch.setattr(execute, "REPOSITORY", tmp_path)
    monkeypatch.setattr(execute, "NOTEBOOKS", [notebook])
    for change in ("", "x = 1"):
        library.write_text(change)
        execute.execute_all(tmp_path / "out")
        assert "Running 1_a.ipynb" in capsys.readouterr().out
        execute.execute_all(tmp_path / "out")
        assert "up to date" in capsys.readouterr().out
    [output] = nbformat.read(tmp_path / "out" / "1_a.ipynb", as_version=4).cells[0].outputs
    assert output.text == "42 ~/s2i_drive\n", "the site names a folder of the machine"

"""What mkdocs is told of this repository: which pages there are, and what links on them mean.

Pages lie on the site where they lie in the repository, so a link that works there works here. What
a page links to comes along: another page, a picture, a source file (as a page that shows it), a
folder (as a list of its files). A link to what is not there fails the build.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url
from nbconvert import MarkdownExporter

import s2i_lib

REPOSITORY = Path(__file__).parents[2]
API = "docs/api.md"
MERMAID = "assets/mermaid.js"
# The first pages by their place in the menu; a page of docs/ that is not named here comes last.
NAV = {
    "Use": ["docs/studio.md", "docs/command_line.md", "docs/messages.md", "drive_layout.md"],
    "With a class": ["docs/teaching.md"],
    "Trust": ["docs/security.md", "docs/tested.md", "benchmarks/README.md"],
    "Inside": ["docs/architecture.md", API, "docs/stable_diffusion.md"],
}
LINK = re.compile(r'(?P<before>\]\(|src=")(?!\w+:|#)(?P<target>[^)"#\s]+)')
FENCE = re.compile(r"^( *)(`{3,})[^`]*?^\1\2`*$", re.MULTILINE | re.DOTALL)
BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\((?P<address>[^)]*)\)")
DIAGRAM = re.compile(r'<pre class="mermaid">.*?</pre>', re.DOTALL)
# Python-Markdown takes a list that follows a line for more of that line.
LIST_AFTER_LINE = re.compile(r"^(?![-*] |\d+\. | |\|)(.+)\n(?=(?:[-*]|1\.) )", re.MULTILINE)
LANGUAGES = {".py": "python", ".sh": "bash", ".json": "json", ".js": "js", ".yaml": "yaml"}
PICTURES = (".png", ".jpg", ".svg", ".gif", ".webp")
WIDGET = "application/vnd.jupyter.widget-view+json"
# How a notebook's widgets look once somebody has pressed something, which nobody does in a build.
PRESSED = {
    "0_start_here": "![The page after teaching a toy car and saying a sentence: photos on green, "
    "what the model drew before and now, and the picture](../docs/start-here.png)\n\n"
}
# nbconvert's own, and what its pictures lack: their alternative texts and their widths.
TEMPLATE = """{% extends 'markdown/index.md.j2' %}
{% macro picture(output, kind) %}
{% set told = output.metadata.get(kind, {}) %}
![{{ told.get('alt', 'What the cell above has drawn') }}](
{{- output.metadata.filenames[kind] | path2url }})
{%- if told.get('width') %}{ width="{{ told.width }}" }{% endif %}
{% endmacro %}
{% block data_png %}{{ picture(output, 'image/png') }}{% endblock %}
{% block data_jpg %}{{ picture(output, 'image/jpeg') }}{% endblock %}
"""
# What cells show as HTML: Markdown would take what follows an open tag for more of it.
HTML: list[str] = []
KEPT_HTML = re.compile(r"<p>html-of-a-cell-(\d+)</p>")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Write the menu: the notebooks in their order, then the pages."""
    notebooks = [page_of(p) for p in sorted((REPOSITORY / "notebooks").glob("*.ipynb"))]
    sections = {"Notebooks": notebooks} | {name: list(pages) for name, pages in NAV.items()}
    named = {page for pages in sections.values() for page in pages}
    more = sorted({page_of(path) for path in (REPOSITORY / "docs").glob("*.md")} - named)
    sections["Inside"] += more
    config.nav = [{"Start": "README.md"}, *({name: pages} for name, pages in sections.items())]
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Replace mkdocs' own walk of docs/ by the pages of the menu and all that they link to."""
    found = {one.src_uri: one for one in files if one.src_dir != config.docs_dir}  # the theme's
    [mermaid] = importlib.util.find_spec("mermaidx").submodule_search_locations
    program = str(Path(mermaid, "assets", "mermaid.js"))
    found[MERMAID] = File.generated(config, MERMAID, abs_src_path=program)
    menu = [page for entry in config.nav for pages in entry.values() for page in as_list(pages)]
    waiting = list(menu)
    while waiting:
        uri = waiting.pop()
        if uri in found:
            continue
        level = InclusionLevel.INCLUDED if uri in menu else InclusionLevel.NOT_IN_NAV
        for name, content in contents(uri):
            found[name] = File.generated(config, name, content=content, inclusion=level)
        if uri.endswith(".md"):
            text = found[uri].content_string
            waiting += [t for t in (resolve(uri, m["target"]) for m in links(text)) if t]
    return Files(list(found.values()))


def on_page_markdown(markdown: str, *, page: Page, **_) -> str:
    """Make GitHub's Markdown mkdocs', and links to files links to the pages that show them."""
    uri = page.file.src_uri

    def rewrite(text: str) -> str:
        text = LIST_AFTER_LINE.sub(r"\1\n\n", BADGE.sub(colab_link, text))
        return LINK.sub(lambda m: m["before"] + new_target(uri, m["target"]), text)

    return outside_code(markdown, rewrite)


def on_page_content(html: str, *, page: Page, **_) -> str:
    """Put the HTML of cells in its place, and a diagram's program, so that none is downloaded."""
    html = KEPT_HTML.sub(lambda found: f"<div>{HTML[int(found[1])]}</div>", html)
    wide = '<div style="overflow-x: auto"><div style="min-width: 34rem">{}</div></div>'
    html, count = DIAGRAM.subn(lambda found: wide.format(found[0]), html)
    if not count:
        return html
    return f'<script src="{get_relative_url(MERMAID, page.url)}"></script>\n{html}'


# --- addresses -----------------------------------------------------------------------------------


def as_list(pages: str | list[str]) -> list[str]:
    return [pages] if isinstance(pages, str) else pages


def page_of(path: Path) -> str:
    """Return the address, below the repository, of the page or picture that shows a file."""
    uri = path.relative_to(REPOSITORY).as_posix()
    if path.is_dir():
        return f"{uri}/files.md"
    if path.suffix == ".ipynb":
        return uri.removesuffix(".ipynb") + ".md"
    return uri if path.suffix in (".md", *PICTURES) else f"{uri}.md"


def resolve(uri: str, target: str) -> str | None:
    """Return the page that ``target`` means on the page ``uri``; None where no such file is."""
    path = Path(os.path.normpath(REPOSITORY / posixpath.dirname(uri) / target))
    return page_of(path) if path.exists() and path.is_relative_to(REPOSITORY) else None


def new_target(uri: str, target: str) -> str:
    page = resolve(uri, target)
    return posixpath.relpath(page, posixpath.dirname(uri) or ".") if page else target


def links(text: str) -> Iterator[re.Match]:
    return LINK.finditer(FENCE.sub("", text))


def outside_code(text: str, change) -> str:
    """Return ``text`` with ``change`` made everywhere but in fenced code."""
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [change(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(text[end:])])


def colab_link(badge: re.Match) -> str:
    """Return words for Colab's badge, a picture from outside; nothing while there is no address."""
    is_published = "OWNER/" not in badge["address"]
    return f"[Open in Colab]({badge['address']})" if is_published else ""


# --- contents ------------------------------------------------------------------------------------


def contents(uri: str) -> Iterator[tuple[str, str | bytes]]:
    """Yield the page or picture at an address, and the pictures that belong to it."""
    path = REPOSITORY / uri
    if uri == API:
        yield uri, api_page()
    elif path.is_file():
        yield uri, path.read_text() if path.suffix == ".md" else path.read_bytes()
    elif uri.endswith("/files.md"):
        yield uri, folder_page(path.parent)
    elif (notebook := path.with_suffix(".ipynb")).is_file():
        yield from notebook_page(notebook)
    else:
        yield uri, source_page(path.with_suffix(""))


def source_page(path: Path) -> str:
    name, text = path.relative_to(REPOSITORY).as_posix(), path.read_text()
    language = LANGUAGES.get(path.suffix, "text")
    return f"{UNSEARCHED}# {name}\n\n``````{language}\n{text}\n``````\n"


def folder_page(folder: Path) -> str:
    """Return a list of a folder's files, with what the Python ones say of themselves."""
    rows = []
    for path in sorted(p for p in folder.iterdir() if p.is_file() and p.name[0] != "."):
        story = ast.get_docstring(ast.parse(path.read_text())) if path.suffix == ".py" else None
        rows.append(f"| `{path.name}` | {(story or '').partition(chr(10))[0]} |")
    name = folder.relative_to(REPOSITORY).as_posix()
    return "\n".join([f"{UNSEARCHED}# {name}\n", "| file | what |", "|---|---|", *rows])


UNSEARCHED = "---\nsearch: {exclude: true}\n---\n\n"


def api_page() -> str:
    """Return the reference of the face, in the order in which a project uses it."""
    names = [
        f'::: s2i_lib.{where}\n    options: {{show_root_heading: true, heading: "s2i.{name}"}}\n'
        for name, where in s2i_lib._FACE.items()
    ]
    return "\n".join(
        ["# The Python interface\n", "::: s2i_lib\n    options: {members: []}\n", *names]
    )


def notebook_page(path: Path) -> Iterator[tuple[str, str | bytes]]:
    """Yield a notebook as Markdown with its pictures, where $S2I_EXECUTED has it with them."""
    executed = Path(os.environ.get("S2I_EXECUTED", ""), path.name)
    notebook = nbformat.read(executed if executed.is_file() else path, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if WIDGET in output.get("data", {}):
                is_bar = "%|" in output.data.get("text/plain", "")  # of tqdm: it has passed
                pressed = PRESSED.get(path.stem, "")
                note = "" if is_bar else f"{pressed}*A widget stands here in a running notebook.*"
                output.data = {"text/markdown": note}
            elif "text/html" in output.get("data", {}):
                HTML.append(output.data["text/html"])
                output.data = {"text/markdown": f"html-of-a-cell-{len(HTML) - 1}"}
    names = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    exporter = MarkdownExporter(raw_template=TEMPLATE)
    text, resources = exporter.from_notebook_node(notebook, resources=names)
    yield page_of(path), text
    for name, picture in resources["outputs"].items():
        yield f"notebooks/{name}", picture

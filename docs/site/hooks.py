"""What the site has beside docs/*.md, and what is checked of each page while it is built.

README.md and CHANGELOG.md are pages, so is the notebook, and so is each source file that a page links to:
links between files of the repository become links between pages. A page that GitHub and MkDocs would show
differently, a code block in an unknown language, and a page that loads something from a network are faults."""

import base64
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "docs/notebook.ipynb": "notebook.md",
}
LANGUAGES = {
    ".cff": "yaml",
    ".ipynb": "json",
}  # of files that Pygments does not know by their ending
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"^( *)```(\w*).*?^\1```", re.MULTILINE | re.DOTALL)
LIST_WITHOUT_BLANK = re.compile(r"^[^\s\-*|#>`<\d][^\n]*\n(?:[-*] |1\. )", re.MULTILINE)
LOADED = re.compile(r"<(?:script|img|link|iframe|source)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//")
# a page's place among the results of a search: answers first, docstrings and changes last
BOOSTS = {"faq.md": 4.0, "api/kaccore.md": 0.3, "api/kacflow.md": 0.3, "changelog.md": 0.3}
log = logging.getLogger("mkdocs.plugins.kacflow")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    for name in ("README.md", "CHANGELOG.md"):
        files.append(File.generated(config, PAGES[name], abs_src_path=str(ROOT / name)))
    for name, content in notebook(ROOT / "docs/notebook.ipynb"):
        files.append(File.generated(config, name, content=content))
    for path in sorted((ROOT / "docs/site/assets").iterdir()):
        files.append(File.generated(config, f"assets/{path.name}", abs_src_path=str(path)))
    for path in linked_sources():
        added = File.generated(config, uri(path), content=shown(path))
        added.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(added)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links lead to pages of the site, wherever the files lie in the repository."""
    source = next((name for name, at in PAGES.items() if at == page.file.src_uri), None)
    folder = (ROOT / (source or f"docs/{page.file.src_uri}")).parent
    here = os.path.dirname(page.file.src_uri)

    def moved(link: re.Match[str]) -> str:
        target = (folder / link[1]).resolve()
        if not target.is_file() or ROOT not in target.parents:
            return link[0]
        return f"]({os.path.relpath(uri(target), here or '.')}{link[2] or ''})"

    if page.file.src_uri in BOOSTS:
        page.meta["search"] = {"boost": BOOSTS[page.file.src_uri]}
    if not page.file.src_uri.startswith("files/"):
        check(markdown, page.file.src_uri)
        markdown = LINK.sub(moved, markdown)
    return markdown


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    if found := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} loads something from a network: {found[0]}")
    return output


def check(markdown: str, name: str) -> None:
    """Warn, which is a fault in a strict build, of what would not be shown as it is meant."""
    for fence in FENCE.finditer(markdown):
        try:
            get_lexer_by_name(fence[2] or "text")
        except ClassNotFound:
            log.warning("%s: a code block in %s, which Pygments does not know", name, fence[2])
    for found in LIST_WITHOUT_BLANK.finditer(FENCE.sub("", markdown)):
        log.warning("%s: a list needs a blank line before it: %s", name, found[0].strip())


def uri(path: Path) -> str:
    """The page or file of the site that shows a file of the repository."""
    name = path.relative_to(ROOT).as_posix()
    if name in PAGES:
        return PAGES[name]
    if name.startswith("docs/") and path.suffix in (".md", ".png"):
        return name.removeprefix("docs/")
    return f"files/{name}.md"


def linked_sources() -> list[Path]:
    """The source files that pages link to."""
    found = set()
    for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")):
        targets = {(page.parent / link[1]).resolve() for link in LINK.finditer(page.read_text())}
        found |= {path for path in targets if path.is_file() and ROOT in path.parents}
    return sorted(path for path in found if uri(path).startswith("files/"))


def shown(path: Path) -> str:
    """A page that shows a source file; search leaves it out."""
    name = path.relative_to(ROOT).as_posix()
    language = LANGUAGES.get(path.suffix, path.suffix.lstrip("."))
    text = path.read_text().rstrip().replace("```", "` ` `")
    return f"---\ntitle: {name}\nsearch: {{exclude: true}}\n---\n# {name}\n\n```{language}\n{text}\n```\n"


def notebook(path: Path) -> Iterator[tuple[str, str | bytes]]:
    """The page of a notebook, with its outputs as text, and its pictures."""
    parts = []
    for number, cell in enumerate(json.loads(path.read_text())["cells"]):
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        printed = [plain(output) for output in cell.get("outputs", [])]
        if any(printed):
            parts.append("```text\n" + "\n".join(filter(None, printed)) + "\n```")
        for output in cell.get("outputs", []):
            if picture := output.get("data", {}).get("image/png"):
                yield f"images/notebook_{number}.png", base64.b64decode(picture)
                parts.append(f"![Output of the cell above](images/notebook_{number}.png)")
    yield "notebook.md", "\n\n".join(parts)


def plain(output: dict[str, Any]) -> str:
    """An output of a notebook's cell as text; empty where it is a picture or HTML alone."""
    data = output.get("data", {})
    text = "".join(data.get("text/plain", output.get("text", ""))).rstrip()
    return "" if "image/png" in data or text.startswith("<IPython.core") else text

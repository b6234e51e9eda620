"""A report's page read again as a browser would: its charts, its table, its text."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from typing import Any, NamedTuple

from PIL import Image

from orchestrator.reports.page import page as html_page
from orchestrator.sweeps.records import Records


class Page(NamedTuple):
    """What a reader finds on the page."""

    text: str
    charts: dict[str, dict[str, Any]]
    tags: list[tuple[str, dict[str, str | None]]]
    rows: list[dict[str, str]]  # of the table: what is shown
    values: list[dict[str, str]]  # and what it is sorted by
    said: str


class Reader(HTMLParser):
    """Collects the tags and what is said between them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if not self.tags or self.tags[-1][0] not in ("script", "style"):
            self.said.append(data)


def page(records: Records) -> Page:
    """The report of `records`, read again."""
    text = html_page(records)
    reader, decoder = Reader(), json.JSONDecoder()
    reader.feed(text)
    charts = {}
    for match in re.finditer(r'Plotly\.newPlot\(\s*"chart-([^"]+)",\s*', text):
        data, end = decoder.raw_decode(text, match.end())
        layout, _ = decoder.raw_decode(text, re.compile(r",\s*").match(text, end).end())
        charts[match[1]] = {"data": data, "layout": layout}
    return Page(text, charts, reader.tags, *_table(text), " ".join(reader.said))


def _table(text: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    found = re.search(r'<table class="sortable">(.*?)</table>', text, re.S)
    if not found:
        return [], []
    heads = re.findall(r'<button type="button">(.*?)</button>', found[1])
    cells = [
        re.findall(r'<td data-value="(.*?)">(.*?)</td>', row) for row in found[1].split("<tr")[2:]
    ]
    shown = [{h: c[1] for h, c in zip(heads, row, strict=True)} for row in cells]
    return shown, [{h: c[0] for h, c in zip(heads, row, strict=True)} for row in cells]


def lines(chart: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """The points of each line by its name."""
    return {t["name"]: list(zip(t["x"], t["y"], strict=True)) for t in chart["data"]}


def strips_of(found: Page) -> list[Image.Image]:
    """The strips of samples, in order."""
    sources = [
        str(a["src"])
        for tag, a in found.tags
        if tag == "img" and str(a["alt"]).startswith("samples")
    ]
    return [Image.open(io.BytesIO(base64.b64decode(s.partition(",")[2]))) for s in sources]

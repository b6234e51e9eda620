"""The table of trials: cells carry the number that they are sorted by."""

import html
from typing import Any

from orchestrator.plan.plan import plain
from orchestrator.reports.aggregates import Results, SeedGroup, Spread, said
from orchestrator.sweeps.records import MEASURES, OF_POINTS
from orchestrator.sweeps.status import Status

# sorts by the clicked column, again the other way round; empty cells stay last
SCRIPT = """
document.querySelectorAll("table.sortable").forEach(table => {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach(h => h.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = row => row.cells[column].dataset.value;
    const rows = [...body.rows];
    const numeric = rows.every(row => value(row) === "" || !isNaN(value(row)));
    rows.sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      return (up ? 1 : -1) * (numeric ? x - y : x.localeCompare(y, undefined, {numeric: true}));
    });
    body.append(...rows);
  }));
});
"""


def table(results: Results, settings: list[SeedGroup]) -> str:
    """The settings in the order given, one row each, as HTML; columns that are empty everywhere are
    left out."""
    rows = [_row(results, setting) for setting in settings]
    columns = [
        c
        for c in dict.fromkeys(c for row in rows for c in row)
        if any(row.get(c, ("", ""))[0] for row in rows)
    ]
    head = "".join(
        f'<th scope="col"><button type="button">{html.escape(c)}</button></th>' for c in columns
    )
    body = ""
    for setting, row in zip(settings, rows, strict=True):
        cells = "".join(_cell(*row.get(c, ("", ""))) for c in columns)
        kind = "done" if set(setting.statuses) == {Status.DONE} else "open"
        body += (
            f'<tr class="{"failed" if Status.FAILED in setting.statuses else kind}">{cells}</tr>'
        )
    head = f"<thead><tr>{head}</tr></thead>"
    return f'<div class="scroll"><table class="sortable">{head}<tbody>{body}</tbody></table></div>'


def spread_text(spread: Spread | None) -> str:
    """`0.512 ± 0.013`, the spread where there is one; empty for None."""
    if spread is None:
        return ""
    return f"{spread.mean:.4g}" + (f" ± {spread.std:.2g}" if spread.std else "")


def _row(results: Results, setting: SeedGroup) -> dict[str, tuple[str, Any]]:
    """By column what is shown and what it is sorted by."""
    indices = [t.index for t in setting.trials]
    row: dict[str, tuple[str, Any]] = {
        "trial": (", ".join(map(str, indices)), indices[0]),
        "status": (setting.status, setting.status),
    }
    for key, value in setting.overrides.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        row[results.names[key]] = (plain(value), repr(value) if number else plain(value))
    seeds = [str(t.config.seed) for t in setting.trials]
    row["seed"] = (", ".join(seeds), seeds[0])
    if len(results.features) > 1:
        row["features"] = (setting.features, setting.features)
    for name in dict.fromkeys(
        (*MEASURES[:1], results.metric, *results.metrics, *MEASURES, *OF_POINTS)
    ):
        found = setting.values.get(name)
        row[said(name)] = (spread_text(found), "" if found is None else repr(found.mean))
    return row


def _cell(shown: str, value: Any) -> str:
    return f'<td data-value="{html.escape(str(value))}">{html.escape(shown)}</td>'

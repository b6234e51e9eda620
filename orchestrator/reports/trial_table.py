"""The sortable HTML table of trials: each cell has the value that it is sorted by."""

import html
from typing import Any

from orchestrator.plan.plan import plain
from orchestrator.reports.aggregates import Results, SeedGroup, Spread, display_name
from orchestrator.sweeps.records import MEASURES, OF_POINTS, SECOND
from orchestrator.sweeps.status import Status

# sorts by the clicked column, at the second click in reverse order; empty cells stay last
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


def table(results: Results, groups: list[SeedGroup]) -> str:
    """The groups in the order given, one row each, as HTML; empty columns are left out."""
    rows = [_row(results, group) for group in groups]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = [name for name in names if any(row.get(name, ("", ""))[0] for row in rows)]
    head = "".join(
        f'<th scope="col"><button type="button">{html.escape(c)}</button></th>' for c in columns
    )
    body = ""
    for group, row in zip(groups, rows, strict=True):
        cells = "".join(_cell(*row.get(c, ("", ""))) for c in columns)
        if Status.FAILED in group.statuses:
            kind = "failed"
        else:
            kind = "done" if set(group.statuses) == {Status.DONE} else "open"
        body += f'<tr class="{kind}">{cells}</tr>'
    head = f"<thead><tr>{head}</tr></thead>"
    return f'<div class="scroll"><table class="sortable">{head}<tbody>{body}</tbody></table></div>'


def spread_text(spread: Spread | None) -> str:
    """`0.512 ± 0.013`, without ± if the standard deviation is zero; empty for None."""
    if spread is None:
        return ""
    return f"{spread.mean:.4g}" + (f" ± {spread.std:.2g}" if spread.std else "")


def _row(results: Results, group: SeedGroup) -> dict[str, tuple[str, Any]]:
    """By column the text and the value that it is sorted by."""
    indices = [t.index for t in group.trials]
    row: dict[str, tuple[str, Any]] = {
        "trial": (", ".join(map(str, indices)), indices[0]),
        "status": (group.status, group.status),
    }
    rank = results.ranks.get(indices[0], "")
    row["of its steps"] = (rank, rank)
    for key, value in group.overrides.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        row[results.names[key]] = (plain(value), repr(value) if number else plain(value))
    seeds = [str(t.config.seed) for t in group.trials]
    row["seed"] = (", ".join(seeds), seeds[0])
    if len(results.features) > 1:
        row["features"] = (group.features, group.features)
    for name in dict.fromkeys(
        (*MEASURES[:1], results.metric, *SECOND, *results.metrics, *MEASURES, *OF_POINTS)
    ):
        spread = group.values.get(name)
        row[display_name(name)] = (spread_text(spread), "" if spread is None else repr(spread.mean))
    return row


def _cell(text: str, value: Any) -> str:
    return f'<td data-value="{html.escape(str(value))}">{html.escape(text)}</td>'

"""The verdict of a sweep as HTML: its answers, and the best at each value of a swept setting."""

import html

from orchestrator.reports.aggregates import display_name
from orchestrator.reports.html_table import cell_table, text_table
from orchestrator.sweeps.intervals import Interval
from orchestrator.sweeps.measured import count_text
from orchestrator.sweeps.verdict import BEST, Answer, ValueRow, Verdict


def verdict_section(found: Verdict) -> str:
    """The verdict as a table, without columns that would be empty, with what it leaves out below it."""
    metric = display_name(found.metric)
    compared = "times the yardstick" if _ratios(found) else "less the yardstick"
    columns: dict[str, list[str]] = {
        "": [answer.question for answer in found.answers],
        "best": [answer.setting for answer in found.answers],
        metric: [_text(answer.value) for answer in found.answers],
        compared: [_text(answer.ratio) for answer in found.answers],
        "second": [_text(answer.second) for answer in found.answers],
        f"{compared} ": [_text(answer.second_ratio) for answer in found.answers],  # by the second
        "cannot be told from": [
            "; ".join([*answer.ties, *answer.doubts()]) for answer in found.answers
        ],
        "the next": [_next(answer) for answer in found.answers],
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    table = text_table(shown, zip(*shown.values(), strict=True))
    notes = [*found.notes(), *found.missing]
    title = f"Verdict: {metric} on {found.scale}" if found.scale else f"Verdict: {metric}"
    below = "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes)
    return (
        f'<section class="verdict"><h2>{html.escape(title)}</h2>{table}{below}{_front(found)}{_by_values(found)}'
        "</section>"
    )


def _front(found: Verdict) -> str:
    """The Pareto front as a table."""
    if not found.front:
        return ""
    heads = ("setting", *map(display_name, found.front[0].values), "")
    rows = ((point.setting, *point.texts().values(), point.rank) for point in found.front)
    note = (
        "Front: no other setting beats it in all. Tie: another does, but in nothing beyond noise."
    )
    return f'<h3>{html.escape(found.front_title())}</h3><p class="note">{note}</p>{text_table(heads, rows)}'


def _by_values(found: Verdict) -> str:
    """A table for each swept setting: the best of the others at each of its values, by the number of
    steps."""
    tables = []
    for key in dict.fromkeys(part.key for part in found.by_value):
        parts = [part for part in found.by_value if part.key == key]
        cells = {(row.value, part.steps): _cell(row) for part in parts for row in part.rows}
        values = dict.fromkeys(value for value, _ in cells)
        name = parts[0].name
        rows = [
            [
                f"<td>{html.escape(value)}</td>",
                *(cells.get((value, part.steps), "<td></td>") for part in parts),
            ]
            for value in values
        ]
        heads = (name, *(count_text(part.steps) for part in parts))
        tables.append(f"<h3>By {html.escape(name)}</h3>{cell_table(heads, rows)}")
    if not tables:
        return ""
    note = (
        "Each cell is the best of the settings with this value. <b>Best</b>: of its column. "
        "Tie: it cannot be told from the best, corrected for the number of values."
    )
    return f'<p class="note">{note}</p>{"".join(tables)}'


def _cell(row: ValueRow) -> str:
    text = html.escape(row.measure.text())
    if row.rank:
        text = f"<b>{text}, {row.rank}</b>" if row.rank == BEST else f"{text}, {row.rank}"
    if row.setting:
        text += f"<br>{html.escape(row.setting)}"
    if row.ties:
        hint = html.escape("; ".join(row.ties), quote=True)
        text += f' <span title="{hint}">({len(row.ties)} more cannot be told from it)</span>'
    return f"<td>{text}</td>"


def _next(answer: Answer) -> str:
    """The next best setting where it is not a tie, and its ratio to the best."""
    ratio = answer.next_ratio
    if ratio is None or answer.ties:
        return ""
    return f"{answer.next_best}, {ratio.text()} {'times it' if answer.ratios else 'from it'}"


def _ratios(found: Verdict) -> bool:
    return all(answer.ratios for answer in found.answers)


def _text(interval: Interval | None) -> str:
    """An interval that is not broken into lines."""
    return "" if interval is None else interval.text().replace(" ", "\N{NO-BREAK SPACE}")

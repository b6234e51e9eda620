"""What a sweep leaves for people: results.csv, figures, report.html, and the table that ends a run."""

from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestrator import figures, tracking
from orchestrator.plan import Plan, short_key, skipped_lines
from orchestrator.records import LEFT, STOPPED, Records
from orchestrator.report_page.results import Results
from orchestrator.view import ranking

SHOWN = ("nfe", "fid", "kid", "precision", "recall", "w2", "log_likelihood", "seconds_per_image")


def write(records: Records) -> None:
    """Write results.csv, the figures and report.html into the sweep's folder."""
    from orchestrator.report_page.page import page

    records.save()
    figures.write_figures(records)
    (records.folder / "report.html").put(page(records).encode())


def conclude(records: Records, console: Console, problem: str = "") -> None:
    """Print the trials best first, where everything lies, and how to open the MLflow UI."""
    table = Table(title="trials, best first" if records.plan.goal == "evaluation" else None, title_justify="left")
    rows, swept = records.rows(), list(records.plan.trials[0].overrides) if records.plan.trials else []
    shown = [k for k in SHOWN if any(r.get(k, "") != "" for r in rows)]
    for name in ("trial", "status", *swept, *shown):
        table.add_column(short_key(name), justify="right")
    for index, _ in ranking(records):
        table.add_row(*(_text(rows[index][k]) for k in ("trial", "status", *swept, *shown)))
    console.print(table)
    for reason, count in Counter(e.error for e in records.endings if e.status == LEFT).items():
        console.print(f"{count} trials not started: {reason}", markup=False, highlight=False, soft_wrap=True)
    for index, ending in enumerate(records.endings):
        if ending.error and ending.status != LEFT:
            line, style = f"trial {index} {ending.status}: {ending.error}", None if ending.status == STOPPED else "red"
            console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
    if records.problem:
        what = f"{tracking.short(records.folder)} could not be written: {records.problem}"
        remedy = "then run the same command again: what is finished is kept"
        console.print(f"{what}; {remedy}", style="red", markup=False, highlight=False, soft_wrap=True)
    features = Results(records).features
    lines = [f"features  {', '.join(sorted(features))}"] if features else []
    lines += [f"results   {tracking.short(records.folder / 'results.csv')}"]
    lines += [f"report    {tracking.short(records.folder / 'report.html')}"]
    lines += [f"MLflow    {tracking.ui_command(records)}"]
    if records.plan.goal == "sweep":
        lines += [f"filter    {tracking.best_filter(records)}"]
    if problem:
        again = f"python -m orchestrator.report {tracking.short(records.folder)} --publish"
        lines += [f"MLflow could not be written: {problem}", f"publish what is missing with: {again}"]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_skipped(plan: Plan, console: Console) -> None:
    """Say which combinations were left out and why, each reason once."""
    for line in skipped_lines(plan):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

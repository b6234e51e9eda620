"""What a sweep leaves for people: results.csv, figures, report.html, and the table that ends a
run."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestrator.host.printed import command, quoted, short
from orchestrator.plan.plan import Plan, short_key, skipped_lines
from orchestrator.reports import png_figures
from orchestrator.reports.aggregates import Results
from orchestrator.store import integrity, layout, notices
from orchestrator.sweeps.feature_notes import own_features
from orchestrator.sweeps.ranking import rankings
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status
from orchestrator.tracking.hints import best_filters, database_location_note, ui_command

SHOWN = ("nfe", "fid", "kid", "precision", "recall", "w2", "log_likelihood", "seconds_per_image")


def write(records: Records) -> None:
    """Write results.csv, the figures and report.html into the sweep's folder."""
    from orchestrator.reports.page import page

    records.save()
    png_figures.write_figures(records)
    (records.folder / layout.REPORT).put(page(records).encode())


def conclude(records: Records, console: Console, problem: str = "") -> None:
    """Print the trials best first, where everything lies, and how to open the MLflow UI."""
    for table in _tables(records):
        console.print(table)
    for reason, count in Counter(
        e.error for e in records.endings if e.status == Status.NOT_STARTED
    ).items():
        say(console, f"{count} trials not started: {reason}")
    for index, ending in enumerate(records.endings):
        if ending.error and ending.status != Status.NOT_STARTED:
            style = None if ending.status == Status.STOPPED else "red"
            say(console, f"trial {index} {ending.status}: {ending.error}", style)
    print_warnings(records, console)
    for key, what in dict(records.damaged).items():
        say(
            console,
            f"{records.plan.names.get(key, 'stage')} {key}: {what}; {integrity.AGAIN} by the next run",
            "red",
        )
    if records.problem:
        what = f"{short(records.folder)} could not be written: {records.problem}"
        remedy = "then run the same command again: what is finished is kept"
        say(console, f"{what}; {remedy}", "red")
    features = Results(records).features
    lines = [f"features  {', '.join(sorted(features))}"] if features else []
    lines += (
        [f"          {note}" for note in own_features(records.plan, records.store)]
        if features
        else []
    )
    lines += [f"results   {quoted(records.folder / layout.RESULTS)}"]
    lines += [f"report    {quoted(records.folder / layout.REPORT)}"]
    lines += [f"MLflow    {ui_command(records)}"]
    if records.plan.goal == "sweep":
        lines += [f"filter    {text}" for text in best_filters(records)]
    if line := database_location_note(records):
        lines.append(line)
    if problem:
        again = command("report", records.folder, "--publish")
        lines += [
            f"MLflow could not be written: {problem}",
            f"publish what is missing with: {again}",
        ]
    for line in lines:
        say(console, line)


def _tables(records: Records) -> Iterator[Table]:
    """The trials best first: a table for those whose numbers compare, and the unmeasured ones below
    the last."""
    rows = records.rows()
    swept = list(records.plan.trials[0].overrides) if records.plan.trials else []
    shown = [k for k in SHOWN if any(r.get(k, "") != "" for r in rows)]
    columns = ("trial", "status", *swept, *shown)
    scales = rankings(records)
    groups = {scale: [index for index, _ in best] for scale, best in scales.items()} or {"": []}
    known = {index for indices in groups.values() for index in indices}
    groups[list(groups)[-1]] += [
        trial.index for trial in records.plan.trials if trial.index not in known
    ]
    for scale, indices in groups.items():
        title = f"trials, {scale}, best first" if len(groups) > 1 else "trials, best first"
        said = len(groups) > 1 or records.plan.goal == "evaluation"
        table = Table(title=title if said else None, title_justify="left")
        for name in columns:
            table.add_column(short_key(name), justify="right")
        for index in indices:
            table.add_row(*(_text(rows[index][k]) for k in columns))
        yield table


def print_skipped(plan: Plan, console: Console) -> None:
    """Say which combinations were left out and why, each reason once."""
    for line in skipped_lines(plan):
        say(console, line)


def say(console: Console, line: str, style: str | None = None) -> None:
    """Print a line as it stands: it may be there to be copied."""
    console.print(line, style=style, markup=False, emoji=False, highlight=False, soft_wrap=True)


def print_warnings(records: Records, console: Console) -> None:
    """Print how many warnings there are about the plan's data and stages, and the last few."""
    for line in notices.lines(notices.of_plan(records.plan, records.store.root)):
        say(console, line, "yellow")


def print_again(records: Records, console: Console, command: str) -> None:
    """Say what of an interrupted run is kept, and that `command` goes on with it."""
    stages = list(records.plan.stages())
    kept = sum(records.store.done(stage.key) for stage in stages)
    work = records.store.root / layout.WORK
    begun = sum(
        bool((work / stage.key / layout.CHECKPOINTS).find("step-*.json")) for stage in stages
    )
    line = f"{kept} of {len(stages)} stages are kept"
    line += f", {begun} more up to a checkpoint" if begun else ""
    line += f"; the same command goes on: {command}" if command else "; the same command goes on"
    say(console, line)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

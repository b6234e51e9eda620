"""The end of a run: writes results.csv, figures and report.html, and prints the final table."""

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
from orchestrator.sweeps.feature_notes import calibrated, own_features, second_features
from orchestrator.sweeps.ranking import rankings
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status
from orchestrator.sweeps.verdict import to_json, verdicts
from orchestrator.tracking.hints import (
    best_filters,
    database_location_note,
    mean_filter,
    ui_address,
    ui_command,
)
from orchestrator.tracking.views import views

SHOWN = (
    "nfe",
    "fid",
    "fid_second",
    "kid",
    "precision",
    "recall",
    "w2",
    "log_likelihood",
    "seconds_per_image",
)


def write(records: Records) -> None:
    """Write results.csv, verdict.json, the figures and report.html into the sweep's folder."""
    from orchestrator.reports.page import page

    records.save()
    png_figures.write_figures(records)
    (records.folder / layout.REPORT).put(page(records).encode())
    (records.folder / layout.VERDICT).put(to_json(verdicts(records)).encode())


def print_conclusion(
    records: Records, console: Console, problem: str = "", experiment_id: str = ""
) -> None:
    """Print the trials best first, what went wrong, the verdict, where the results are, and how to
    open the MLflow UI. `problem`: why MLflow could not be written; `experiment_id`: MLflow's id of
    the experiment, empty where it is not known."""
    for table in _tables(records):
        console.print(table)
    _print_endings(records, console)
    print_warnings(records, console)
    for key, damage in dict(records.damaged).items():
        name = records.plan.names.get(key, "stage")
        print_line(console, f"{name} {key}: {damage}; {integrity.AGAIN} by the next run", "red")
    if records.problem:
        what = f"{short(records.folder)} could not be written: {records.problem}"
        remedy = "then run the same command again: what is finished is kept"
        print_line(console, f"{what}; {remedy}", "red")
    print_verdicts(records, console)
    lines = [*second_features(records), *calibrated(records)]
    if features := Results(records).features:
        lines.append(f"features  {', '.join(sorted(features))}")
        lines += [f"          {note}" for note in own_features(records.plan, records.store)]
    lines.append(f"results   {quoted(records.folder / layout.RESULTS)}")
    lines.append(f"report    {quoted(records.folder / layout.REPORT)}")
    lines.append(f"MLflow    {ui_command(records)}")
    if records.plan.goal == "sweep":
        if experiment_id:
            address = f"{ui_address(records)}/#/experiments/{experiment_id}"
            lines += [f"open      {v.link(address, saved=not problem)}" for v in views(records)]
        lines += [f"filter    {text}" for text in best_filters(records)]
        if text := mean_filter(records):
            lines.append(f"means     {text}")
    if line := database_location_note(records):
        lines.append(line)
    if problem:
        publish = command("report", records.folder, "--publish")
        lines.append(f"MLflow could not be written: {problem}")
        lines.append(f"publish what is missing with: {publish}")
    for line in lines:
        print_line(console, line)


def print_verdicts(records: Records, console: Console) -> None:
    """Print the verdict on each scale."""
    for found in verdicts(records):
        first, *others = found.lines()
        for line in (f"verdict   {first}", *(f"        {line}" for line in others)):
            print_line(console, line)


def _print_endings(records: Records, console: Console) -> None:
    """Print why trials were not started, each reason once, and the errors of single trials."""
    not_started = [e.error for e in records.endings if e.status == Status.NOT_STARTED]
    for reason, count in Counter(not_started).items():
        print_line(console, f"{count} trials not started: {reason}")
    for index, ending in enumerate(records.endings):
        if ending.error and ending.status != Status.NOT_STARTED:
            style = None if ending.status.well else "red"
            print_line(console, f"trial {index} {ending.status}: {ending.error}", style)


def _tables(records: Records) -> Iterator[Table]:
    """The trials, best first: one table for each scale; unmeasured trials are at the end of the
    last."""
    rows = records.rows()
    swept = list(records.plan.trials[0].overrides) if records.plan.trials else []
    metrics = [metric for metric in SHOWN if any(row.get(metric, "") != "" for row in rows)]
    columns = ("trial", "status", *swept, *metrics)
    groups = {scale: [index for index, _ in best] for scale, best in rankings(records).items()}
    groups = groups or {"": []}
    measured = {index for indices in groups.values() for index in indices}
    last = list(groups)[-1]
    groups[last] += [t.index for t in records.plan.trials if t.index not in measured]
    for scale, indices in groups.items():
        title = None
        if len(groups) > 1:
            title = f"trials, {scale}, best first"
        elif records.plan.goal == "evaluation":
            title = "trials, best first"
        table = Table(title=title, title_justify="left")
        for name in columns:
            table.add_column(short_key(name), justify="right")
        for index in indices:
            table.add_row(*(_text(rows[index][name]) for name in columns))
        yield table


def print_skipped(plan: Plan, console: Console) -> None:
    """Print which combinations were left out and why, each reason once."""
    for line in skipped_lines(plan):
        print_line(console, line)


def print_line(console: Console, line: str, style: str | None = None) -> None:
    """Print a line unchanged, neither wrapped nor marked up, so that it can be copied."""
    console.print(line, style=style, markup=False, emoji=False, highlight=False, soft_wrap=True)


def print_warnings(records: Records, console: Console) -> None:
    """Print how many warnings there are about the plan's data and stages, and the last few."""
    for line in notices.lines(notices.of_plan(records.plan, records.store.root)):
        print_line(console, line, "yellow")


def print_resume(records: Records, console: Console, command: str) -> None:
    """Print what an interrupted run has kept, and the `command` that resumes it."""
    stages = list(records.plan.stages())
    finished = sum(records.store.done(stage.key) for stage in stages)
    work = records.store.root / layout.WORK
    checkpoints = [(work / stage.key / layout.CHECKPOINTS).find("step-*.json") for stage in stages]
    begun = sum(bool(files) for files in checkpoints)
    line = f"{finished} of {len(stages)} stages are kept"
    if begun:
        line += f", {begun} more up to a checkpoint"
    line += "; the same command resumes"
    if command:
        line += f": {command}"
    print_line(console, line)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

"""What a sweep leaves for people: results.csv, figures, report.html, and the table that ends a run."""

import base64
import html
import re
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestrator import figures, tracking
from orchestrator.plan import Plan
from orchestrator.records import Records
from orchestrator.view import ranking

SHOWN = ("nfe", "fid", "kid", "precision", "recall", "seconds_per_image")
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;font-size:13px}th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #ddd}
th{border-bottom:2px solid #888}img{max-width:100%}figure{display:inline-block;margin:.5rem}
figure img{width:300px;image-rendering:pixelated}figcaption{font-size:12px}
pre{background:#f5f5f5;padding:.8rem;overflow:auto}
.failed{color:#a00}
"""


def write(records: Records) -> None:
    """Write results.csv, the figures and report.html into the sweep's folder."""
    records.save()
    pictures = figures.write_figures(records)
    (records.folder / "report.html").write_text(page(records, pictures), encoding="utf-8")


def page(records: Records, pictures: list[Path]) -> str:
    """The whole report as one HTML page that needs nothing else."""
    plan = records.plan
    features = ", ".join(sorted(figures.features_of(records))) or "none"
    parts = [
        f"<h1>{html.escape(plan.experiment.name)}</h1>",
        f"<p>Sweep {plan.id}: {len(plan.trials)} trials. Features of FID and KID: {html.escape(features)}.</p>",
        *(f'<p><img alt="{p.stem}" src="{_inline(p)}"></p>' for p in pictures),
        "<h2>Trials, best first</h2>",
        _html_table(records),
    ]
    if plan.skipped:
        items = "".join(f"<li>{html.escape(line)}</li>" for line in skipped_lines(plan))
        parts.append(f"<h2>Left out</h2><ul>{items}</ul>")
    parts += ["<h2>Samples</h2><p>The same noise everywhere: image k of every grid starts from the same draw.</p>"]
    for index, _ in ranking(records):
        path = records.folder / "samples" / f"trial-{index:03d}.png"
        if path.exists():
            caption = html.escape(f"{index}: {plan.trials[index].title}")
            image = f'<img alt="samples" src="{_inline(path)}">'
            parts.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    parts += ["<h2>Configuration</h2>", f"<pre>{html.escape(plan.experiment.to_yaml())}</pre>"]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(plan.experiment.name)}</title>'
        f"<style>{STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )


def conclude(records: Records, console: Console, problem: str = "") -> None:
    """Print the trials best first, where everything lies, and how to open the MLflow UI."""
    table = Table(title="trials, best first" if records.plan.goal == "evaluation" else None, title_justify="left")
    rows, swept = records.rows(), list(records.plan.trials[0].overrides)
    shown = [k for k in SHOWN if any(r[k] != "" for r in rows)]
    for name in ("trial", "status", *swept, *shown):
        table.add_column(name.rsplit(".", 1)[-1], justify="right")
    for index, _ in ranking(records):
        table.add_row(*(_text(rows[index][k]) for k in ("trial", "status", *swept, *shown)))
    console.print(table)
    for index, ending in enumerate(records.endings):
        if ending.error:
            line = f"trial {index} {ending.status}: {ending.error}"
            console.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    if records.problem:
        what = f"{tracking.short(records.folder)} could not be written: {records.problem}"
        remedy = "make room or make it writable, then run the same command again: what is finished is kept"
        console.print(f"{what}; {remedy}", style="red", markup=False, highlight=False, soft_wrap=True)
    features = figures.features_of(records)
    lines = [f"features  {', '.join(sorted(features))}"] if features else []
    lines += [f"results   {tracking.short(records.folder / 'results.csv')}"]
    lines += [f"report    {tracking.short(records.folder / 'report.html')}"]
    lines += [f"MLflow    {tracking.ui_command(records)}"]
    if problem:
        again = f"python -m orchestrator.report {tracking.short(records.folder)} --publish"
        lines += [f"MLflow could not be written: {problem}", f"publish what is missing with: {again}"]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_skipped(plan: Plan, console: Console) -> None:
    """Say which combinations were left out and why, each reason once."""
    for line in skipped_lines(plan):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def skipped_lines(plan: Plan) -> list[str]:
    """One line for each reason why combinations were left out."""
    reasons = Counter(re.sub(r"got [^,]+, ", "", s.reason) for s in plan.skipped)
    return [f"left out {n} combination{'s' * (n > 1)}: {reason}" for reason, n in reasons.items()]


def _html_table(records: Records) -> str:
    rows = records.rows()
    # what is empty everywhere, the same everywhere or for machines only is in results.csv
    hidden = {"fid_features", "mlflow_run_id", "samples"}
    columns = [c for c in rows[0] if c not in hidden and any(r[c] != "" for r in rows)]
    head = "".join(f"<th>{html.escape(c.rsplit('.', 1)[-1].replace('_', ' '))}</th>" for c in columns)
    body = ""
    for i, _ in ranking(records):
        cells = "".join(f"<td>{html.escape(_text(rows[i][c]))}</td>" for c in columns)
        body += f'<tr class="{rows[i]["status"]}">{cells}</tr>'
    return f'<div style="overflow-x:auto"><table><tr>{head}</tr>{body}</table></div>'


def _inline(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

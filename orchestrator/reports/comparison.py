"""Several sweeps on one page: what differs between their files, the verdict of each, and their results
in one figure."""

import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from orchestrator.plan.plan import plain
from orchestrator.reports import figure_data
from orchestrator.reports.aggregates import Results, display_name
from orchestrator.reports.figure_data import Line
from orchestrator.reports.html_table import text_table
from orchestrator.reports.page import (
    FOLDING,
    chart_section,
    document,
    fold,
    plotly_code,
    strips_section,
)
from orchestrator.reports.trial_table import SCRIPT
from orchestrator.reports.verdict_section import verdict_section
from orchestrator.sweeps.differences import side_by_side
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.verdict import Answer


def comparison(sweeps: Sequence[Records]) -> str:
    """The page of at least two sweeps, in the order given."""
    names = titles(sweeps)
    results = [Results(records) for records in sweeps]
    figures = list(_figures(results, names))
    parts = [
        f"<h1>{html.escape(', '.join(names))}</h1>",
        _settings(sweeps, names),
        _answers(results, names),
        *(plotly_code() if figures else ()),
        *figures,
        *(_sweep(found, name) for found, name in zip(results, names, strict=True)),
        f"<script>{SCRIPT}{FOLDING}</script>",
    ]
    return document(", ".join(names), parts)


def titles(sweeps: Sequence[Records]) -> list[str]:
    """The names of the sweeps, with their ids where sweeps share a name."""
    names = [records.plan.experiment.name for records in sweeps]
    if len(set(names)) == len(names):
        return names
    return [records.plan.name for records in sweeps]


def _settings(sweeps: Sequence[Records], names: Sequence[str]) -> str:
    """The settings in which the files differ."""
    found = side_by_side([records.plan for records in sweeps])
    if not found:
        return '<p class="note">The files of these sweeps do not differ.</p>'
    rows = ((key, *map(_text, values)) for key, values in found.items())
    return f"<h2>What differs between their files</h2>{text_table(('setting', *names), rows)}"


def _text(value: object) -> str:
    if value is None or isinstance(value, str | float):
        return "" if value is None else plain(value)
    return json.dumps(value)


def _answers(results: Sequence[Results], names: Sequence[str]) -> str:
    """For each scale a table: a row for each number of steps, a column for each sweep."""
    tables = []
    scales = dict.fromkeys(
        (verdict.metric, verdict.scale) for found in results for verdict in found.verdicts
    )
    for metric, scale in scales:
        answers = [
            {
                answer.question: answer
                for verdict in found.verdicts
                if (verdict.metric, verdict.scale) == (metric, scale)
                for answer in verdict.answers
            }
            for found in results
        ]
        questions = dict.fromkeys(question for of_sweep in answers for question in of_sweep)
        rows = [
            (question, *(_best(of_sweep.get(question)) for of_sweep in answers))
            for question in sorted(questions, key=lambda text: int(text.split()[0]))
        ]
        title = f"{display_name(metric)} on {scale}" if scale else display_name(metric)
        tables.append(
            f"<h2>Best of each number of steps: {html.escape(title)}</h2>"
            f"{text_table(('', *names), rows)}"
        )
    note = (
        "Intervals are those of each sweep alone: two sweeps are not compared seed by seed. To have ties named, put "
        "both settings into one sweep; what is trained is found again."
    )
    return "".join(tables) + (f'<p class="note">{note}</p>' if tables else "")


def _best(answer: Answer | None) -> str:
    return "" if answer is None else f"{answer.value.text()}, {answer.setting}"


def _figures(results: Sequence[Results], names: Sequence[str]) -> Iterator[str]:
    """The metric against NFE, the lines of all sweeps, for each feature extractor."""
    from orchestrator.reports.plotly_figures import Chart, against_nfe

    scales = dict.fromkeys((r.metric, features) for r in results for features in r.features)
    for number, (metric, features) in enumerate(scales):
        lines: list[Line] = []
        for found, name in zip(results, names, strict=True):
            if found.metric == metric:
                own = figure_data.nfe_lines(found, metric, features)
                lines += [replace(line, label=f"{name}: {line.label}") for line in own]
        if lines:
            title = f"{display_name(metric)} against NFE ({features})"
            figure = against_nfe(lines, metric, features)
            note = "Bars: standard deviation between training seeds, or between samplings of one."
            yield chart_section(Chart(f"compared-{number}", title, note, figure))


def _sweep(results: Results, name: str) -> str:
    """The verdict and the samples of one sweep."""
    verdicts = "".join(verdict_section(found) for found in results.verdicts)
    samples = [strips_section(results, features) for features in results.features]
    body = verdicts or '<p class="note">No trial is measured.</p>'
    return f"<h2>{html.escape(name)}</h2>{body}{fold(f'Samples of {name}', samples)}"

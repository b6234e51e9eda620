"""The report as one HTML file that needs no other file and no network connection."""

import base64
import html
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestrator.host.invocation import COMMANDS, portable
from orchestrator.plan.plan import Plan, plain, skipped_lines
from orchestrator.plan.stage import TRAINING
from orchestrator.reports.aggregates import Results, SeedGroup, display_name
from orchestrator.reports.costs import costs
from orchestrator.reports.html_table import text_table
from orchestrator.reports.sample_strips import EXACT, SEEDS, Strip, real_strips, strips
from orchestrator.reports.training_images import Panel, panels
from orchestrator.reports.training_samples import LookedAt, final_picture, looked_at
from orchestrator.reports.trial_table import SCRIPT, spread_text, table
from orchestrator.reports.verdict_section import verdict_section
from orchestrator.store import layout, notices, provenance
from orchestrator.sweeps.feature_notes import calibrated, own_features, second_features
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status

if TYPE_CHECKING:
    from orchestrator.reports.plotly_figures import Chart

RELOAD_SECONDS = 60
CLASSES_LISTED = 20  # of a data set, by name
# plotly's buttons that need a network connection or make no sense here
MADE = "made by kacflow"  # a file with it may be written again
UNUSED = ["sendChartToCloud", "select2d", "lasso2d", "autoScale2d"]
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#222}
h1{margin-bottom:0}h2{margin:2.2rem 0 .3rem}h3{margin:1rem 0 .3rem;font-size:1rem}
.note{color:#555;margin:.2rem 0 .6rem;max-width:75ch}
section.chart{break-inside:avoid}summary{font-size:1.3rem;font-weight:600;cursor:pointer;margin:1.6rem 0 .3rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}
th{border-bottom:2px solid #888;vertical-align:bottom}
th button{all:unset;cursor:pointer;font-weight:600}th button:focus-visible{outline:2px solid #0072B2}
th[aria-sort=ascending] button::after{content:" \\25B2"}th[aria-sort=descending] button::after{content:" \\25BC"}
tr.failed td{color:#a00}tr.open td{color:#666}
table.verdict :is(td,th){text-align:left}table.verdict td:not(:first-child){white-space:normal;min-width:8em}
table.strips :is(td,th):is(:first-child,:last-child){text-align:left}
table.strips td:first-child{white-space:normal;min-width:9em}
table.strips img{display:block;max-width:none}img.pixels{width:960px;image-rendering:pixelated}
p.running{background:#e8f1f8;padding:.4rem .8rem;border-left:4px solid #0072B2}
.looks{display:flex;gap:.8rem;padding:.4rem 0}.looks figure{margin:0;flex:none}
.looks img{display:block;width:200px;image-rendering:pixelated}.looks figcaption{font-size:12px;color:#555}
img.figure{max-width:100%}pre{background:#f5f5f5;padding:.8rem;overflow:auto;white-space:pre-wrap}
@media print{body{max-width:none;margin:0;color:#000}.scroll{overflow:visible}table{font-size:9px}
th,td{padding:.1rem .3rem;white-space:normal}tr{break-inside:avoid}img.pixels{width:100%}}
"""
# figures get their size when they are seen; a printed page has everything
FOLDING = """
const details = [...document.querySelectorAll("details")];
details.forEach(one => one.addEventListener("toggle", () => {
  one.querySelectorAll(".js-plotly-plot").forEach(figure => Plotly.Plots.resize(figure));
}));
addEventListener("beforeprint", () => details.forEach(one => one.open = true));
"""


def page(records: Records, running: str = "") -> str:
    """The report of a sweep, finished or not. `running`: how far it is, while it runs; then the page
    says so and loads itself again every RELOAD_SECONDS."""
    results = Results(records)
    records, plan = results.records, results.records.plan
    parts = [
        f"<h1>{html.escape(plan.experiment.name)}</h1>",
        f'<p class="running" role="status">{html.escape(running)}</p>' if running else "",
        _summary(results),
        *(verdict_section(found) for found in results.verdicts),
        *_figures(results),
        _costs(results),
        *(strips_section(results, features) for features in results.features),
        _final_samples(results),
        fold("Samples during training", _looks(results)),
        *(_data(panel) for panel in panels(records)),
        fold("All trials, best first", _tables(results)),
        _unmeasured(results),
        _warnings(records),
        _left_out(plan),
        _reproduce(records),
        f"<script>{SCRIPT}{FOLDING}</script>",
    ]
    return document(plan.experiment.name, parts, reload=bool(running))


def document(title: str, parts: Iterable[str], reload: bool = False) -> str:
    """A whole HTML page; `reload`: it loads itself again every RELOAD_SECONDS."""
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title>'
    head += f'<meta name="generator" content="{MADE}">'
    if reload:
        head += f'<meta http-equiv="refresh" content="{RELOAD_SECONDS}">'
    head += (
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}</style>'
    )
    return (
        f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'
    )


def _summary(results: Results) -> str:
    """The sweep, the statuses of its trials, and what its numbers are."""
    plan = results.records.plan
    counts = Counter(e.status for e in results.records.endings)
    trials = ", ".join(f"{n} {status}" for status, n in counts.items()) or "none"
    lines = [f"Sweep {plan.id}. Trials: {trials}."]
    if results.features:
        lines += [f"{note}." for note in own_features(plan, results.records.store)]
        notes = [*second_features(results.records), *calibrated(results.records)]
        lines += [f"{note.partition(' ')[2].lstrip()}." for note in notes]
    if len(results.features) > 1:
        lines.append(
            "Numbers of different features or data do not compare: each has its own figures and table."
        )
    if not any(results.measured(features) for features in results.features):
        lines.append("No trial is measured.")
    return "".join(f"<p>{html.escape(line)}</p>" for line in lines)


def _figures(results: Results) -> list[str]:
    """The figures that answer what the sweep asked, then the others, folded; preceded once by
    plotly's code."""
    from orchestrator.reports.plotly_figures import charts

    found = list(charts(results))
    parts = plotly_code() if found else []
    parts += [chart_section(chart) for chart in found if chart.answers]
    folded = [chart_section(chart) for chart in found if not chart.answers and not chart.training]
    trajectories = results.records.folder / layout.FIGURES / "trajectories.png"
    if trajectories.exists():
        source = _inline("image/png", trajectories.read_bytes())
        image = f'<img class="figure" alt="trajectories" src="{source}">'
        parts.append(
            f'<section class="chart"><h2>Trajectories from noise to data</h2>{image}</section>'
        )
    parts.append(fold("More figures", folded))
    parts.append(fold("Training", [chart_section(chart) for chart in found if chart.training]))
    return parts


def plotly_code() -> list[str]:
    """What figures need on the page, once."""
    from plotly.offline import get_plotlyjs

    return [
        f"<script>{get_plotlyjs()}</script>",
        "<noscript>The figures need JavaScript.</noscript>",
    ]


def chart_section(chart: "Chart") -> str:
    """A figure with its title and its caption."""
    figure = chart.figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=f"chart-{chart.name}",
        config={"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": UNUSED},
    )
    title, note = html.escape(chart.title), html.escape(chart.note)
    return f'<section class="chart"><h2>{title}</h2><p class="note">{note}</p>{figure}</section>'


def fold(title: str, parts: list[str]) -> str:
    """Parts of the page that a click opens; nothing if there are none."""
    if not parts:
        return ""
    return f"<details><summary>{html.escape(title)}</summary>{''.join(parts)}</details>"


def _costs(results: Results) -> str:
    """What the best network of each number of steps cost, with its measure."""
    rows = costs(results)
    if not rows:
        return ""
    heads = (
        "",
        "network",
        "parameters",
        "training NFE",
        "core-hours",
        display_name(results.metric),
    )
    note = (
        "The training of the best network of each number of steps with all that it needs: its teacher, pairs and the "
        "students before it. Training NFE: network evaluations for one image, a forward and a backward pass counted as "
        "three. Core-hours are those of this sweep's machines."
    )
    table = text_table(heads, (row.cells() for row in rows))
    return f'<h2>What each number of steps cost</h2><p class="note">{note}</p>{table}'


def strips_section(results: Results, features: str) -> str:
    """Samples of the best networks at each NFE, from the same seeds."""
    shown, count = strips(results, features)
    if not shown:
        return ""
    name = f" ({features})" if len(results.features) > 1 else ""
    note = f"Image k of every row starts from the same noise; every row has the same {SEEDS} seeds."
    if len(shown) < count:
        note += f" The {len(shown)} best of {count} rows."
    real = real_strips(results, features)
    if real:
        note += " Real images are above them for comparison: these start from no noise."
    head = f"<tr><th>network</th><th>NFE</th><th>{html.escape(display_name(results.metric))}</th><th>samples</th></tr>"
    rows = "".join(_strip_row(strip) for strip in (*real, *shown))
    return (
        f'<h2>The same seeds at each NFE{html.escape(name)}</h2><p class="note">{html.escape(note)}</p>'
        f'<div class="scroll"><table class="strips"><thead>{head}</thead><tbody>{rows}</tbody></table></div>'
    )


def _strip_row(strip: Strip) -> str:
    label = html.escape(strip.label)
    kind = "pixels" if strip.pixels.shape[0] <= EXACT else "figure"
    what = html.escape(strip.title if strip.nfe is None else f"samples: {strip.title}")
    image = f'<img class="{kind}" alt="{what}" src="{_inline(*strip.encoded())}">'
    nfe = "" if strip.nfe is None else strip.nfe
    return f"<tr><td>{label}</td><td>{nfe}</td><td>{spread_text(strip.value)}</td><td>{image}</td></tr>"


def _final_samples(results: Results) -> str:
    """Samples of each trained network, where no trial is measured: after `train` and `distill`."""
    records = results.records
    if records.plan.goal not in ("teacher", "student"):
        return ""
    rows = ""
    for stage in records.plan.stages(TRAINING):
        picture = final_picture(results, stage)
        if picture is not None:
            name = html.escape(records.plan.names[stage.key])
            image = f'<img alt="samples of {name}" src="{_inline("image/png", picture)}">'
            rows += f"<figure>{image}<figcaption>{name}</figcaption></figure>"
    if not rows:
        return ""
    note = "Of each network at the end of its training: a teacher by 20 AB-2 steps, a student by its own steps."
    return f'<h2>Samples</h2><p class="note">{note}</p><div class="scroll looks">{rows}</div>'


def _looks(results: Results) -> list[str]:
    """The samples of networks during their training, a row of pictures a network."""
    shown, count = looked_at(results)
    if not shown:
        return []
    note = "Every picture starts from the same noise."
    if len(shown) < count:
        note += f" {len(shown)} of {count} networks."
    return [f'<p class="note">{note}</p>', *(_looks_at(network) for network in shown)]


def _looks_at(network: LookedAt) -> str:
    name, figures = html.escape(network.name), ""
    for look in network.looks:
        text = f"step {look.step:,}" + ("" if look.fid is None else f", FID {look.fid:.4g}")
        source = _inline("image/png", look.picture)
        image = f'<img alt="samples of {name} after {look.step} steps" src="{source}">'
        figures += f"<figure>{image}<figcaption>{text}</figcaption></figure>"
    some = f"{len(network.looks)} of " if len(network.looks) < network.count else ""
    looks = "1 look" if network.count == 1 else f"{network.count} looks"
    return f'<h3>{name}: {some}{looks}</h3><div class="scroll looks">{figures}</div>'


def _data(panel: Panel) -> str:
    """A data set: some of its images as a network sees them, and how they were changed."""
    info, name = panel.info, html.escape(panel.name)
    count = "" if info.count is None else f"{info.count:,} {'points' if info.points else 'images'}"
    classes = ""
    if info.classes:
        classes = f", {info.classes} classes: {', '.join(info.class_names[:CLASSES_LISTED])}"
    if info.classes > CLASSES_LISTED:
        classes += f" and {info.classes - CLASSES_LISTED} more"
    items = "".join(f"<li>{html.escape(note)}</li>" for note in info.notes)
    image = ""
    if panel.png is not None:
        image = f'<img class="figure" alt="training images: {name}" src="{_inline("image/png", panel.png)}">'
    text = f'<p class="note">{html.escape(count + classes)}</p>'
    if items:
        text += f"<ul>{items}</ul>"
    return f'<section class="chart"><h2>Training images: {name}</h2>{text}{image}</section>'


def _tables(results: Results) -> list[str]:
    if not results.groups:
        return []
    grouped = any(len(group.trials) > 1 for group in results.groups)
    note = "Click a column name to sort by it. <i>Of its steps</i>: the best of those with as many steps, or a tie "
    note += "with it."
    if grouped:
        note += " Trials that differ only in their seed share a row: mean ± standard deviation between them."
    parts = []
    for features, groups in _by_features(results, results.groups).items():
        scale = f" ({html.escape(features)})" if len(results.features) > 1 else ""
        parts += [
            f"<h2>Trials{scale}, best first</h2>",
            f'<p class="note">{note}</p>',
            table(results, groups),
        ]
    if grouped:
        ungrouped = _by_features(results, results.ungrouped).values()
        tables = "".join(table(results, groups) for groups in ungrouped)
        parts.append(f"<details><summary>Each trial in its own row</summary>{tables}</details>")
    return parts


def _by_features(results: Results, groups: list[SeedGroup]) -> dict[str, list[SeedGroup]]:
    """The groups by their features; unmeasured groups are in the last list."""
    lists: dict[str, list[SeedGroup]] = {features: [] for features in results.features} or {"": []}
    last = list(lists)[-1]
    for group in groups:
        lists[group.features if group.features in lists else last].append(group)
    return lists


def _unmeasured(results: Results) -> str:
    """Why trials have no result: each failure, and the number of trials not started, by reason."""
    records, lines = results.records, list[str]()
    for trial, ending in records.entries():
        if ending.error and ending.status != Status.NOT_STARTED:
            settings = ", ".join(
                f"{results.names[k]} {plain(v)}" for k, v in trial.overrides.items()
            )
            title = f"Trial {trial.index} {ending.status}"
            if settings:
                title += f" ({settings})"
            lines.append(f"{title}: {ending.error}")
    left = Counter(e.error for e in records.endings if e.status == Status.NOT_STARTED)
    lines += [f"{count} not started: {reason}" for reason, count in left.items()]
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<h2>Trials without a result</h2><ul>{items}</ul>" if lines else ""


def _warnings(records: Records) -> str:
    """Warnings about the data, then those of workers and tasks in order of time, and damaged
    results."""
    lines = []
    for notice in notices.of_plan(records.plan, records.store.root):
        if notice.time:
            time = datetime.fromtimestamp(notice.time, UTC)
            lines.append(f"{time:%Y-%m-%d %H:%M} UTC, {notice.host}: {notice}")
        else:
            lines.append(str(notice))
    names = records.plan.names
    for key, what in dict(records.damaged).items():
        lines.append(f"{names.get(key, 'stage')} {key}: {what}")
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<h2>Warnings</h2><ul>{items}</ul>" if lines else ""


def _left_out(plan: Plan) -> str:
    items = "".join(f"<li>{html.escape(line)}</li>" for line in skipped_lines(plan))
    return f"<h2>Left out</h2><ul>{items}</ul>" if items else ""


def _reproduce(records: Records) -> str:
    """The command, the versions it ran with, and the complete configuration."""
    plan, made_by = records.plan, records.made_by()
    versions = dict(made_by or provenance.made_by())
    python, commit = versions.pop("python"), versions.pop("commit", "")
    name = f"{plan.experiment.name}.yaml"
    command = portable(COMMANDS[plan.goal], name)
    data = "; ".join(f"{info.name}, fingerprint {info.fingerprint}" for info in plan.datasets())
    facts: dict[str, Any] = {"Python": python, "Data": data, "Sweep": plan.id}
    facts |= {"Commit": commit} if commit else {}
    fact_lines = "\n".join(f"{k}: {v}" for k, v in facts.items())
    installed = "\n".join(f"{package}=={version}" for package, version in versions.items())
    blocks = (
        (f"Save the configuration below as {name}, and run", command),
        (
            "Versions of the run" if made_by else "Versions installed where this page was written",
            f"{fact_lines}\n\n{installed}",
        ),
        ("Configuration, defaults included", plan.experiment.to_yaml()),
    )
    return fold(
        "How to reproduce",
        [f"<p>{html.escape(title)}:</p><pre>{html.escape(text)}</pre>" for title, text in blocks],
    )


def _inline(media: str, content: bytes) -> str:
    return f"data:{media};base64,{base64.b64encode(content).decode()}"

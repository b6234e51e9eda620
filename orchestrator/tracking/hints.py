"""What a run's last lines say of MLflow: how to open its UI, and what to type there."""

import math

from orchestrator.fields.faults import masked
from orchestrator.host.printed import command, python, short
from orchestrator.store.folder import Folder
from orchestrator.sweeps.records import Records
from orchestrator.tracking.uri import embedded, is_server, sqlite_file, sqlite_uri, tracking_uri

COMPARED = 100  # trials that MLflow's comparison page still draws at once


def ui_command(records: Records) -> str:
    """The exact command that opens the MLflow UI on this sweep, or where a server has it open."""
    uri = records.plan.experiment.tracking.uri
    if uri is not None and is_server(uri):
        return masked(uri)
    uri = tracking_uri(uri, records.store.root)
    file = sqlite_file(uri)
    return python(
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        masked(uri) if file is None else sqlite_uri(short(file)),
    )


def kept_elsewhere(records: Records) -> str:
    """That the embedded database is not in the store, and why, or that it should not be; empty
    where neither is so."""
    root = records.store.root
    if records.plan.experiment.tracking.uri is not None or not isinstance(root, Folder):
        return ""
    found = embedded(root)
    if not found.network:
        return ""
    why = f"{short(root)} lies on {found.network}, where SQLite's locks do not hold"
    if found.file.parent == root:
        remedy = "and this machine has no other disk: set tracking.uri to a server"
        return f"MLflow's database {short(found.file)} may be damaged: {why}, {remedy}"
    unused = (
        f"; {short(root / found.file.name)} is not used"
        if (root / found.file.name).exists()
        else ""
    )
    again = command("report", records.folder, "--publish")
    return f"MLflow's database is kept in {found.file}: {why}{unused}; elsewhere it is made again by {again}"


def best_filters(records: Records) -> list[str]:
    """What to type into the search field of the experiment's page to see this sweep's trials, of
    more than COMPARED the best alone: one for each data set and extractor of features, whose
    numbers do not compare."""
    from orchestrator.sweeps.ranking import metric_of, rankings
    from orchestrator.tracking.tracker import comparable

    metric, small_is_good = metric_of(records)
    query = f"tags.kind = 'trial' and tags.sweep_id = '{records.plan.id}'"
    filters, scales = list[str](), rankings(records)
    for best in scales.values():
        tags = comparable(records, records.plan.trials[best[0][0]]) if len(scales) > 1 else {}
        parts = [query, *(f"tags.{name} = '{text}'" for name, text in tags.items())]
        values = [value for _, value in best if math.isfinite(value)]
        if len(values) > COMPARED:  # MLflow knows 1e20, and not 1e+20
            worst = repr(values[COMPARED - 1]).replace("e+", "e")
            parts.append(f"metrics.{metric} {'<=' if small_is_good else '>='} {worst}")
        filters.append(" and ".join(parts))
    return filters or [query]

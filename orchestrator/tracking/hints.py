"""The last lines of a run about MLflow: how to open its UI, and which search query to type."""

import math

from orchestrator.fields.addresses import expanded_uri
from orchestrator.fields.faults import masked
from orchestrator.host.printed import command, python, short
from orchestrator.store import layout
from orchestrator.store.folder import Folder
from orchestrator.sweeps.ranking import SEED
from orchestrator.sweeps.records import Records
from orchestrator.tracking.entities import AGGREGATE
from orchestrator.tracking.names import differing
from orchestrator.tracking.uri import embedded, is_server, sqlite_file, sqlite_uri, tracking_uri

HOST, PORT = "127.0.0.1", 5000  # where the MLflow UI of a database listens by default
COMPARED = 100  # trials that MLflow's comparison page can still plot at once


def ui_command(records: Records) -> str:
    """The exact command that opens the MLflow UI on this sweep, or the address of its server."""
    uri = records.plan.experiment.tracking.uri
    if uri is not None and is_server(uri):
        return masked(uri)
    root = records.store.root
    if uri is None and isinstance(root, Folder) and embedded(root).is_elsewhere(root):
        return command("ui", "--storage", root)  # which other machines have too
    uri = tracking_uri(uri, root)
    file = sqlite_file(uri)
    return python(
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        masked(uri) if file is None else sqlite_uri(short(file)),
    )


def ui_address(records: Records, port: int = PORT) -> str:
    """The address of the MLflow UI of this sweep: its server, or the one that `ui_command` starts."""
    uri = records.plan.experiment.tracking.uri
    if uri is not None and is_server(uri):
        return masked(expanded_uri(uri)).rstrip("/")
    return f"http://{HOST}:{port}"


def database_location_note(records: Records) -> str:
    """A line that says why the embedded database is not in the store, or should not be; empty if
    there is nothing to say."""
    root = records.store.root
    if records.plan.experiment.tracking.uri is not None or not isinstance(root, Folder):
        return ""
    database = embedded(root)
    if not database.network:
        return ""
    why = f"{short(root)} is on {database.network}, where SQLite's locks do not work"
    if database.file.parent == root:
        remedy = "and this machine has no other disk: set tracking.uri to a server"
        return f"MLflow's database {short(database.file)} may get damaged: {why}, {remedy}"
    unused = ""
    if (root / database.file.name).exists():
        unused = f"; {short(root / database.file.name)} is not used"
    copy = f"the store has a copy of it, {short(root / layout.MLFLOW)}, which a run writes every few minutes"
    opened = command("ui", "--storage", root)
    return f"MLflow's database is {database.file}: {why}{unused}; {copy}; to open that on another machine: {opened}"


def mean_filter(records: Records) -> str:
    """The query that lists the means over this sweep's training seeds; empty if it has one seed."""
    if SEED not in differing(records.plan.trials):
        return ""
    return f"tags.kind = '{AGGREGATE}' and tags.sweep_id = '{records.plan.id}'"


def best_filters(records: Records) -> list[str]:
    """The queries for the search field of the experiment's page that list this sweep's trials, or
    the best COMPARED of them. There is one query for each data set and feature extractor, because
    their numbers do not compare."""
    from orchestrator.sweeps.ranking import metric_of, rankings
    from orchestrator.tracking.entities import comparability_tags

    metric, small_is_good = metric_of(records)
    query = f"tags.kind = 'trial' and tags.sweep_id = '{records.plan.id}'"
    filters, scales = list[str](), rankings(records)
    for best in scales.values():
        tags = (
            comparability_tags(records, records.plan.trials[best[0][0]]) if len(scales) > 1 else {}
        )
        parts = [query, *(f"tags.{name} = '{text}'" for name, text in tags.items())]
        values = [value for _, value in best if math.isfinite(value)]
        if len(values) > COMPARED:  # MLflow parses 1e20, but not 1e+20
            worst = repr(values[COMPARED - 1]).replace("e+", "e")
            parts.append(f"metrics.{metric} {'<=' if small_is_good else '>='} {worst}")
        filters.append(" and ".join(parts))
    return filters or [query]

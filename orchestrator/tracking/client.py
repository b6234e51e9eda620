"""MLflow's client, without MLflow's own talk, of a tracking store that is fit for it."""

from collections.abc import Callable
from typing import Any

from orchestrator.host import environment
from orchestrator.tracking.uri import absolute, sqlite_file


def connect(uri: str, say: Callable[[str], None]) -> Any:
    """A client of the tracking store `uri`. A database in a file is made, or brought up to date,
    which `say` is told; raises ConfigError where that cannot be."""
    quieten()
    from mlflow import MlflowClient

    uri = absolute(uri)
    file = sqlite_file(uri)
    if file is not None:
        from orchestrator.tracking.database import prepare

        for line in prepare(file):
            say(line)
    return MlflowClient(tracking_uri=uri)


def quieten() -> None:
    """Let MLflow say nothing by itself."""
    environment.prepare()
    import logging

    import mlflow  # noqa: F401

    for name in (
        "mlflow",
        "mlflow.store.db.utils",
        "alembic",
    ):  # each sets its own level when imported
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what fails is raised too

"""A quiet MLflow client, connected to a tracking store whose tables fit this MLflow."""

from collections.abc import Callable
from typing import Any

from orchestrator.host import environment
from orchestrator.tracking.uri import absolute, sqlite_file


def connect(uri: str, say: Callable[[str], None]) -> Any:
    """A client of the tracking store `uri`. A database in a file is created or upgraded first;
    `say` gets a line for each such change. Raises ConfigError if that fails."""
    quieten()
    from mlflow import MlflowClient

    uri = absolute(uri)
    file = sqlite_file(uri)
    if file is not None:
        from orchestrator.tracking.database import create_or_upgrade

        for line in create_or_upgrade(file):
            say(line)
    return MlflowClient(tracking_uri=uri)


def quieten() -> None:
    """Silence the loggers of MLflow and Alembic."""
    environment.prepare()
    import logging

    import mlflow  # noqa: F401

    # each of them sets its own level when it is imported; a failure is raised anyway
    for name in ("mlflow", "mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

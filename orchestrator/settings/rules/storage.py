"""Rules of the storage location."""

from orchestrator.fields.addresses import S3
from orchestrator.fields.rule import rule
from orchestrator.settings.experiment import Experiment


@rule("tracking.uri", "storage")
def _a_database_needs_a_folder(experiment: Experiment) -> str | None:
    if experiment.tracking.uri is not None or not experiment.storage.startswith(S3):
        return None
    expected = "a tracking server such as http://127.0.0.1:5000, or a file on this machine such as sqlite:///mlflow.db"
    why = f"MLflow's own database cannot be stored in {experiment.storage}"
    return f"got null, expected {expected}: {why}"

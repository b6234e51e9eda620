"""What the place of the results demands of other settings."""

from orchestrator.fields.addresses import S3
from orchestrator.fields.rule import rule
from orchestrator.settings.experiment import Experiment


@rule("tracking.uri", "storage")
def _a_database_needs_a_folder(experiment: Experiment) -> str | None:
    if experiment.tracking.uri is not None or not experiment.storage.startswith(S3):
        return None
    expected = "a tracking server such as http://127.0.0.1:5000, or a file of this machine such as sqlite:///mlflow.db"
    return (
        f"got null, expected {expected}: MLflow's own database cannot lie in {experiment.storage}"
    )

"""Whether the tracking server can be written to: it answers, accepts the login, and its API fits
this MLflow client."""

from collections.abc import Iterator

from orchestrator.fields.faults import Fault
from orchestrator.settings.experiment import Experiment
from orchestrator.tracking.uri import is_server


def tracking_faults(experiment: Experiment, source: str) -> Iterator[Fault]:
    """The fault of `tracking.uri`, if it is a server's; contacts it twice, within a few seconds."""
    uri = experiment.tracking.uri
    if uri is None or not is_server(uri):
        return
    from orchestrator.tracking.client import quieten
    from orchestrator.tracking.server import problem

    quieten()
    if what := problem(uri):
        yield Fault(source, "tracking.uri", f"got {uri}: {what}")

"""Whether the tracking server can be written to: it answers, takes the login, and speaks this client's language."""

from collections.abc import Iterator
from typing import Any

from orchestrator.config import Experiment
from orchestrator.faults import Fault

LOGIN = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"


def tracking_faults(experiment: Experiment, source: str) -> Iterator[Fault]:
    """What is wrong with `tracking.uri`, if it is a server's; asks it twice, for some seconds at the most."""
    uri = experiment.tracking.uri
    if uri is None or not uri.startswith(("http://", "https://")):
        return
    import mlflow
    from mlflow.exceptions import MlflowException

    from orchestrator.tracking import connect

    try:
        client = connect(uri)
        client.search_experiments(max_results=1)
        server = _server_version(client)
    except MlflowException as e:
        yield Fault(source, "tracking.uri", f"got {uri}: {_remedy(e)}")
        return
    if server is not None and server.split(".")[0] != mlflow.__version__.split(".")[0]:
        what = f"the server there is MLflow {server}, this client {mlflow.__version__}"
        yield Fault(source, "tracking.uri", f"got {uri}: {what}: install the server's major version, or upgrade it")


def _server_version(client: Any) -> str | None:
    """The version of the server of `client`; None where it does not tell."""
    from mlflow.utils.rest_utils import http_request

    said = http_request(client._tracking_client.store.get_host_creds(), "/version", "GET", max_retries=0)
    return said.text.strip() if said.status_code == 200 else None


def _remedy(error: Exception) -> str:
    text = str(error)
    if "401" in text or "nauthorized" in text or "not authenticated" in text:
        return f"the login is refused: set {LOGIN} to a user of that server"
    if "403" in text or "ermission denied" in text:
        return f"the user may not read it: give {LOGIN} of one who may"
    return "no tracking server answers there: start it, open a tunnel to it, or set tracking.uri to null"

"""What is wrong with a tracking server, and what to do about it: told by exceptions and HTTP
statuses, not by words."""

import os
import shlex
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

LOGIN = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
# what publishing begins with; it takes a login and a host's name
QUESTION = "/api/2.0/mlflow/experiments/search"
ANSWER_SECONDS = 10
UNKNOWN_HOST = (
    "Invalid Host"  # how MLflow's server begins its 403 for a name that it was not told of
)
NO_SERVER = "no tracking server answers there"


def problem(uri: str) -> str:
    """What is wrong with the server at `uri`, with the remedy; empty where it answers, takes the
    login and is of this client's major version. Asks it twice, for ANSWER_SECONDS at the most
    each."""
    import mlflow

    try:
        said = _ask(uri, QUESTION, "POST", json={"max_results": 1})
        if said.status_code != 200 or not _is_object(said):
            return _by_status(said.status_code, said.text, uri, _is_object(said))
        version = _ask(uri, "/version", "GET")
    except Exception as e:  # also of a file of logins that cannot be read, say
        return explained(e, uri) or f"{type(e).__name__}: {_first_line(e)}"
    server = (
        version.text.strip() if version.status_code == 200 else mlflow.__version__
    )  # it does not tell
    if server.split(".")[0] == mlflow.__version__.split(".")[0]:
        return ""
    what = f"the server there is MLflow {server}, this client {mlflow.__version__}"
    return f"{what}: install the server's major version, or upgrade it"


def explained(error: BaseException, uri: str) -> str:
    """What a failed request to the server at `uri` means, with the remedy; empty where `error` is
    of another kind."""
    from mlflow.exceptions import MlflowException, RestException
    from requests import exceptions
    from urllib3.exceptions import ReadTimeoutError

    behind = list(_behind(error))
    for kinds, explain in (
        ((exceptions.ProxyError,), _proxy_fails),
        ((exceptions.SSLError,), _not_trusted),
        (
            (exceptions.Timeout, ReadTimeoutError),
            _silent,
        ),  # requests makes the second a ConnectionError
        ((exceptions.RetryError,), _fails),
        ((exceptions.RequestException,), _no_answer),
    ):
        if any(isinstance(each, kinds) for each in behind):
            return explain(uri, behind)
    if not isinstance(error, MlflowException):
        return ""
    status = error.get_http_status_code()
    if status in (401, 403, 404) or status >= 500:
        return _by_status(status, error.message, uri, isinstance(error, RestException))
    return ""


def _ask(uri: str, endpoint: str, method: str, **content: Any) -> Any:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    return http_request(
        get_default_host_creds(uri),
        endpoint,
        method,
        max_retries=0,
        raise_on_status=False,
        timeout=ANSWER_SECONDS,
        **content,
    )


def _by_status(status: int, text: str, uri: str, of_mlflow: bool) -> str:
    """What an answer other than the one wanted means; `of_mlflow`: MLflow itself has worded it."""
    said = _first_line(text)
    if status == 401:
        return f"the login is refused: set {LOGIN} to a user of that server"
    if status == 403 and UNKNOWN_HOST in text:
        name = urlsplit(uri).netloc.rpartition("@")[2]
        hosts = f"--allowed-hosts '{name},localhost:*,127.0.0.1:*'"
        return f"the server there does not go by the name {name} (403, {UNKNOWN_HOST}): start it with {hosts}"
    proxy = proxy_of(uri)
    if proxy and not of_mlflow:
        what = f"requests to it go through the proxy {proxy}, which answers {status}"
        return f"{what}: {_around(uri)}"
    if status == 403:
        return f"the user may not read it: give {LOGIN} of one who may"
    if of_mlflow and status < 500:
        return f"the tracking server there answers {status}, {said}"
    if status >= 500:
        return f"the tracking server there fails ({status}, {said}): see what it logs, and whether its database answers"
    return f"what answers there is no MLflow tracking server ({status}, {said}): give the server's host, port and path"


def _proxy_fails(uri: str, behind: list[BaseException]) -> str:
    return f"requests to it go through the proxy {proxy_of(uri) or 'that is set'}, which fails: {_around(uri)}"


def _not_trusted(uri: str, behind: list[BaseException]) -> str:
    remedy = "name its authority's file in MLFLOW_TRACKING_SERVER_CERT_PATH, or give http:// where it has no TLS"
    return f"no trusted TLS connection to it ({_first_line(behind[-1])}): {remedy}"


def _silent(uri: str, behind: list[BaseException]) -> str:
    through = (
        f", asked through the proxy {proxy}: {_around(uri)}" if (proxy := proxy_of(uri)) else ""
    )
    remedy = (
        "" if through else ": see whether it is overloaded, or a firewall drops what is sent to it"
    )
    return f"it does not answer in time{through}{remedy}"


def _fails(uri: str, behind: list[BaseException]) -> str:
    if proxy := proxy_of(uri):
        return (
            f"requests to it go through the proxy {proxy}, and fail again and again: {_around(uri)}"
        )
    return "the tracking server there fails again and again: see what it logs, and whether its database answers"


def _no_answer(uri: str, behind: list[BaseException]) -> str:
    if any(isinstance(each, socket.gaierror) for each in behind):
        return f"this machine knows no host {urlsplit(uri).hostname}: see that tracking.uri names the server"
    if proxy := proxy_of(uri):
        return f"{NO_SERVER}, asked through the proxy {proxy}: {_around(uri)}"
    return f"{NO_SERVER}: start it, open a tunnel to it, or set tracking.uri to null"


def proxy_of(uri: str) -> str:
    """The proxy through which requests to `uri` go, by http_proxy, all_proxy and no_proxy, without
    its password; empty for none."""
    from requests.utils import get_environ_proxies, select_proxy

    proxy = select_proxy(uri, get_environ_proxies(uri)) or ""
    return (
        f"{urlsplit(proxy).scheme}://{urlsplit(proxy).netloc.rpartition('@')[2]}"
        if "://" in proxy
        else proxy
    )


def _around(uri: str) -> str:
    others = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = f"{others},{urlsplit(uri).hostname}".lstrip(",")
    return f"export no_proxy={shlex.quote(hosts)}, if it is reached without"


def _is_object(answer: Any) -> bool:
    try:
        return isinstance(answer.json(), dict)
    except ValueError:
        return False


def _behind(error: BaseException) -> Iterator[BaseException]:
    """`error` and all that led to it: what it was raised from, or while, and what requests and
    urllib3 wrap."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop(0)
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            wrapped = (each.__cause__, each.__context__, getattr(each, "reason", None), *each.args)
            waiting += [inner for inner in wrapped if isinstance(inner, BaseException)]


def _first_line(text: object) -> str:
    lines = str(text).strip().splitlines()
    return lines[0][:200] if lines else "nothing"

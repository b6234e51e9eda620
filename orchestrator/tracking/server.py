"""What is wrong with a tracking server, and the remedy: decided by exception types and HTTP
statuses, not by the wording of messages."""

import os
import shlex
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

LOGIN = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
# the first request of publishing; it checks the login and the host name
QUESTION = "/api/2.0/mlflow/experiments/search"
ANSWER_SECONDS = 10
UNKNOWN_HOST = "Invalid Host"  # the 403 of an MLflow server for a name not in --allowed-hosts
NO_SERVER = "no tracking server answers there"


def problem(uri: str) -> str:
    """What is wrong with the server at `uri`, with the remedy; empty if it answers, accepts the
    login and has this client's major version. Sends two requests, of at most ANSWER_SECONDS
    each."""
    import mlflow

    try:
        answer = _request(uri, QUESTION, "POST", json={"max_results": 1})
        if answer.status_code != 200 or not _is_object(answer):
            return _by_status(answer.status_code, answer.text, uri, _is_object(answer))
        version = _request(uri, "/version", "GET")
    except Exception as e:  # for example, a credentials file that cannot be read
        return explain_request_error(e, uri) or f"{type(e).__name__}: {_first_line(e)}"
    if version.status_code != 200:  # the server does not tell its version
        return ""
    server = version.text.strip()
    if server.split(".")[0] == mlflow.__version__.split(".")[0]:
        return ""
    what = f"the server there is MLflow {server}, this client is MLflow {mlflow.__version__}"
    return f"{what}: install the server's major version here, or upgrade the server"


def explain_request_error(error: BaseException, uri: str) -> str:
    """What a failed request to the server at `uri` means, with the remedy; empty for an `error` of
    another kind."""
    from mlflow.exceptions import MlflowException, RestException
    from requests import exceptions
    from urllib3.exceptions import ReadTimeoutError

    chain = list(_error_chain(error))
    explanations = (
        ((exceptions.ProxyError,), _proxy_failed),
        ((exceptions.SSLError,), _tls_failed),
        # requests wraps the second in a ConnectionError
        ((exceptions.Timeout, ReadTimeoutError), _timed_out),
        ((exceptions.RetryError,), _retries_exhausted),
        ((exceptions.RequestException,), _no_answer),
    )
    for kinds, explain in explanations:
        if any(isinstance(cause, kinds) for cause in chain):
            return explain(uri, chain)
    if not isinstance(error, MlflowException):
        return ""
    status = error.get_http_status_code()
    if status in (401, 403, 404) or status >= 500:
        return _by_status(status, error.message, uri, isinstance(error, RestException))
    return ""


def _request(uri: str, endpoint: str, method: str, **content: Any) -> Any:
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
    """What an unexpected answer means; `of_mlflow`: MLflow itself wrote it, not a proxy."""
    line = _first_line(text)
    if status == 401:
        return f"the server refuses the login: set {LOGIN} to a user of that server"
    if status == 403 and UNKNOWN_HOST in text:
        name = urlsplit(uri).netloc.rpartition("@")[2]
        hosts = f"--allowed-hosts '{name},localhost:*,127.0.0.1:*'"
        return f"the server there does not allow the host name {name} (403, {UNKNOWN_HOST}): start it with {hosts}"
    proxy = proxy_of(uri)
    if proxy and not of_mlflow:
        what = f"the proxy {proxy} answers {status} for requests to it"
        return f"{what}: {_no_proxy_remedy(uri)}"
    if status == 403:
        return f"this user has no permission to read it: set {LOGIN} to a user who has"
    if of_mlflow and status < 500:
        return f"the tracking server there answers {status}, {line}"
    if status >= 500:
        return f"the tracking server there fails ({status}, {line}): check its log and its database"
    return (
        f"not an MLflow tracking server ({status}, {line}): give the server's host, port and path"
    )


def _proxy_failed(uri: str, chain: list[BaseException]) -> str:
    return f"the proxy {proxy_of(uri) or 'that is set'} fails for requests to it: {_no_proxy_remedy(uri)}"


def _tls_failed(uri: str, chain: list[BaseException]) -> str:
    remedy = "set MLFLOW_TRACKING_SERVER_CERT_PATH to its CA certificate, or use http:// if it has no TLS"
    return f"no trusted TLS connection to it ({_first_line(chain[-1])}): {remedy}"


def _timed_out(uri: str, chain: list[BaseException]) -> str:
    if proxy := proxy_of(uri):
        return f"it does not answer in time through the proxy {proxy}: {_no_proxy_remedy(uri)}"
    return (
        "it does not answer in time: check whether it is overloaded, or a firewall drops requests"
    )


def _retries_exhausted(uri: str, chain: list[BaseException]) -> str:
    if proxy := proxy_of(uri):
        return f"every retry through the proxy {proxy} fails: {_no_proxy_remedy(uri)}"
    return "the tracking server there fails at every retry: check its log and its database"


def _no_answer(uri: str, chain: list[BaseException]) -> str:
    if any(isinstance(cause, socket.gaierror) for cause in chain):
        return f"this machine cannot resolve the host {urlsplit(uri).hostname}: check tracking.uri"
    if proxy := proxy_of(uri):
        return f"{NO_SERVER} through the proxy {proxy}: {_no_proxy_remedy(uri)}"
    return f"{NO_SERVER}: start it, open a tunnel to it, or set tracking.uri to null"


def proxy_of(uri: str) -> str:
    """The proxy for requests to `uri`, from http_proxy, all_proxy and no_proxy, without its
    password; empty for none."""
    from requests.utils import get_environ_proxies, select_proxy

    proxy = select_proxy(uri, get_environ_proxies(uri)) or ""
    if "://" not in proxy:
        return proxy
    parts = urlsplit(proxy)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _no_proxy_remedy(uri: str) -> str:
    others = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = f"{others},{urlsplit(uri).hostname}".lstrip(",")
    return f"export no_proxy={shlex.quote(hosts)} if it needs no proxy"


def _is_object(answer: Any) -> bool:
    try:
        return isinstance(answer.json(), dict)
    except ValueError:
        return False


def _error_chain(error: BaseException) -> Iterator[BaseException]:
    """`error`, its causes and contexts, and the errors that requests and urllib3 wrap."""
    queue, seen = [error], set[int]()
    while queue:
        cause = queue.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        wrapped = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
        queue += [inner for inner in wrapped if isinstance(inner, BaseException)]


def _first_line(text: object) -> str:
    lines = str(text).strip().splitlines()
    return lines[0][:200] if lines else "nothing"

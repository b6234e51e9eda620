"""What is said of a tracking server that will not do: on real sockets, and of a real one that is
called by a name that it does not know."""

import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fabricated
import mlflow
import pytest
from commands import PATIENCE, free_port, healthy, kill_all

from orchestrator.cluster.nodes.tracking_server import tracking_faults
from orchestrator.settings import loading
from orchestrator.tracking import server as mlflow_server
from orchestrator.tracking.client import connect
from orchestrator.tracking.publisher import Publisher
from orchestrator.tracking.server import explain_request_error, problem

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """None but what a test sets, and no second tries."""
    for name in (*PROXIES, *map(str.upper, PROXIES)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@contextmanager
def answering(status: int, text: str, version: str = mlflow.__version__) -> Iterator[str]:
    """The address of a server that answers so, whatever is asked, but for its version."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            tells = status == 200 and self.path == "/version"
            self.send_response(status)
            self.end_headers()
            self.wfile.write((version if tells else text).encode())

        do_POST = do_GET  # noqa: N815

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    # it looks that often whether it is to end, by default twice a second
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def of_a_request(uri: str) -> str:
    """What is made of the error that a request of MLflow's client to `uri` ends in."""
    with pytest.raises(Exception) as raised:
        connect(uri, print).search_experiments(max_results=1)
    return explain_request_error(raised.value, uri)


def test_a_sound_server_has_no_problem():
    with answering(200, "{}") as uri:
        assert problem(uri) == ""


def test_another_major_version_is_named():
    with answering(200, "{}", "1.30.0") as uri:
        assert problem(uri).startswith(
            f"the server there is MLflow 1.30.0, this client is MLflow {mlflow.__version__}: install"
        )


@pytest.mark.parametrize(
    ("status", "text", "message"),
    [
        (401, "You are not authenticated.", "the server refuses the login: set MLFLOW_TRACKING_USERNAME and"),
        (401, '{"error_code": "UNAUTHENTICATED", "message": "who?"}', "the server refuses the login: set"),
        (403, "Permission denied", "this user has no permission to read it: set MLFLOW_TRACKING_USERNAME and"),
        (403, '{"error_code": "PERMISSION_DENIED", "message": "404"}', "this user has no permission to read it: set"),
        (403, "Invalid Host header - possible DNS rebinding",
         "the server there does not allow the host name 127.0.0.1:"),
        (404, "<html>401</html>", "not an MLflow tracking server (404, "),
        (500, '{"error_code": "INTERNAL_ERROR", "message": "403"}', "the tracking server there fails"),
        (502, "401 403", "the tracking server there fails"),
        (503, "", "the tracking server there fails"),
    ],
)  # fmt: skip
def test_an_answer_is_told_by_its_status(status, text, message):
    with answering(status, text) as uri:
        assert problem(uri).startswith(message)
        assert of_a_request(uri).startswith(message)


def test_another_program_that_answers_is_no_tracking_server():
    with answering(200, "<html>403 401</html>") as uri:
        assert problem(uri).startswith("not an MLflow tracking server (200, <html>403 401</html>)")


def test_a_dead_server_is_no_refused_login_whatever_its_port():
    for port in (p for p in range(4010, 65536) if "401" in str(p)):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)):
                break
    for said in (problem(f"http://127.0.0.1:{port}"), of_a_request(f"http://127.0.0.1:{port}")):
        assert (
            said
            == "no tracking server answers there: start it, open a tunnel to it, or set tracking.uri to null"
        )


def test_a_name_that_nobody_knows_is_named():
    for said in (problem("http://nosuch.invalid:5000"), of_a_request("http://nosuch.invalid:5000")):
        assert said.startswith("this machine cannot resolve the host nosuch.invalid: ")


def test_a_server_that_is_silent_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(mlflow_server, "ANSWER_SECONDS", 0.2)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        uri = f"http://127.0.0.1:{mute.getsockname()[1]}"
        assert problem(uri).startswith("it does not answer in time: ")
        assert of_a_request(uri).startswith("it does not answer in time: ")


def test_a_server_without_tls_is_not_asked_for_it_in_vain():
    with answering(200, "{}") as uri:
        secure = uri.replace("http:", "https:")
        for said in (problem(secure), of_a_request(secure)):
            assert said.startswith("no trusted TLS connection to it (") and "or use http://" in said


def test_a_proxy_that_fails_is_named_with_the_way_around_it_and_no_password(monkeypatch):
    port = free_port()
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "other.host")
    with answering(200, "{}") as uri:
        for said in (problem(uri), of_a_request(uri)):
            assert said.startswith(f"the proxy http://127.0.0.1:{port} fails for requests to it: ")
            assert "export no_proxy=other.host,127.0.0.1" in said and "secret" not in said
        monkeypatch.setenv("no_proxy", "other.host,127.0.0.1")
        assert problem(uri) == ""


@pytest.mark.parametrize("status", [403, 404, 407, 502, 503])
def test_what_a_proxy_answers_is_not_taken_for_the_servers_word(status, monkeypatch):
    with answering(status, "<html>the proxy's own page</html>") as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        said = problem("http://tracking.example:5000")
    assert said.startswith(
        f"the proxy {proxy} answers {status} for requests to it: export no_proxy="
    )


def test_a_file_of_logins_that_cannot_be_read_is_a_fault_and_no_traceback(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text("name without a section\n")
    with answering(200, "{}") as uri:
        assert problem(uri).startswith("MissingSectionHeaderError: ")


def test_the_doctor_calls_it_a_fault_of_the_setting():
    uri = f"http://127.0.0.1:{free_port()}"
    (fault,) = tracking_faults(
        loading.parse({**loading.minimal("doctor"), "tracking": {"uri": uri}}), "x.yaml"
    )
    assert str(fault).startswith(
        f"x.yaml: tracking.uri: got {uri}: no tracking server answers there"
    )


def test_a_run_says_at_its_start_that_the_server_will_not_do_and_what_failed_at_its_end(tmp_path):
    with answering(401, "") as uri:
        records = fabricated.sweep(tmp_path / "runs", fabricated.experiment(tracking={"uri": uri}))
        said: list[str] = []
        with Publisher(records, said.append) as publisher:
            pass
        publisher.finish("FINISHED")
    assert len(said) == 1
    assert (
        said[0].startswith(f"tracking.uri: got {uri}: the server refuses the login")
        and "the run continues" in said[0]
    )
    assert publisher.problem.startswith(
        f"{uri}: the server refuses the login: set MLFLOW_TRACKING_USERNAME"
    )


@contextmanager
def server_at(address: str, folder: Path, *options: str) -> Iterator[str]:
    """A real tracking server that listens at another address than 127.0.0.1."""
    uri = f"http://{address}:{free_port()}"
    arguments = ["--host", address, "--port", uri.rpartition(":")[2], "--workers", "1", *options]
    arguments += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *arguments], cwd=folder, env=environment, stdout=log,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            until = time.monotonic() + PATIENCE
            while not healthy(uri):
                assert process.poll() is None and time.monotonic() < until, (
                    folder / "log"
                ).read_text()
                time.sleep(0.2)
            yield uri
        finally:
            kill_all(process)


@pytest.mark.system
def test_a_real_server_by_another_name_is_told_which_to_allow_and_then_answers(tmp_path):
    with server_at("127.0.0.2", tmp_path) as uri:  # a loopback too, and none that MLflow allows
        said = problem(uri)
        assert of_a_request(uri).partition(":")[2] == said.partition(":")[2]
    name = uri.removeprefix("http://")
    assert said.startswith(
        f"the server there does not allow the host name {name} (403, Invalid Host): start it with "
    )
    option, hosts = said.partition("start it with ")[2].split()
    with server_at(
        "127.0.0.2", tmp_path, option, hosts.strip("'").replace(name, "127.0.0.2:*")
    ) as uri:
        assert problem(uri) == ""

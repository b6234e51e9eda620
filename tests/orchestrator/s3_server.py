"""A real S3 service on the loopback: moto's, which does one request at a time, and fails as often
as it is told to.

    python s3_server.py PORT

PUT /-/faults takes {kind: share of requests} of the kinds in FAULTS, or {"code": CODE} for an
answer that is always the same; GET /-/counts says how many requests of each method there were since
the last PUT."""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
BUCKET = "kacflow"
BEFORE = {
    "slow": (503, "SlowDown"),
    "broken": (500, "InternalError"),
    "conflict": (409, "ConditionalRequestConflict"),
}
STATUS = {
    "AuthorizationHeaderMalformed": 400,
    "ExpiredToken": 400,
    "AccessDenied": 403,
    "InvalidAccessKeyId": 403,
}
FAULTS = {
    "slow": 0.06,
    "broken": 0.03,
    "lost_question": 0.03,
    "lost_answer": 0.03,
    "cut": 0.05,
    "conflict": 0.05,
}
SHORT_PAUSE = 0.02  # seconds
Start = Callable[..., Any]


class Faulty:
    """The service `app` with faults in front of it. One request at a time: S3 writes under a
    condition atomically, and moto looks first and writes then."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app
        self.lock = threading.Lock()
        self.random = random.Random(0)
        self.faults: dict[str, Any] = {}
        self.counts: Counter[str] = Counter()

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        with self.lock:
            if environ["PATH_INFO"].startswith("/-/"):
                return self._told(environ, start)
            self.counts[environ["REQUEST_METHOD"]] += 1
            return self._served(environ, start)

    def _told(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT":
            self.faults = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            self.counts.clear()
        start("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(self.counts).encode()]

    def _served(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        kind = self._kind(environ)
        if "code" in self.faults:
            return self._refused(
                environ, start, STATUS.get(self.faults["code"], 400), self.faults["code"]
            )
        if kind in BEFORE:
            return self._refused(environ, start, *BEFORE[kind])
        if kind == "lost_question":
            self._reset(environ)
        answered: list[Any] = []
        body = b"".join(self.app(environ, lambda *answer: answered.append(answer)))
        if kind == "lost_answer":
            self._reset(environ)
        start(*answered[0])
        if kind == "cut" and environ["REQUEST_METHOD"] == "GET" and len(body) > 1:
            return self._half(environ, body)
        return [body]

    def _kind(self, environ: dict[str, Any]) -> str:
        drawn = self.random.random()
        conditional = "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MATCH" in environ
        for kind, share in self.faults.items():
            if kind == "code" or (
                kind == "conflict" and not (conditional and environ["REQUEST_METHOD"] == "PUT")
            ):
                continue
            drawn -= share
            if drawn < 0:
                return kind
        return ""

    @staticmethod
    def _refused(environ: dict[str, Any], start: Start, status: int, code: str) -> Iterable[bytes]:
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as told</Message></Error>"
        start(f"{status} {code}", [("Content-Type", "application/xml"), ("Connection", "close")])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else text.encode()]

    @staticmethod
    def _reset(environ: dict[str, Any]) -> None:
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionResetError

    def _half(self, environ: dict[str, Any], body: bytes) -> Iterator[bytes]:
        yield body[: len(body) // 2]
        self._reset(environ)


def hurry(set_to: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let this process repeat its requests as often as ever, with next to no pause before: with
    faults it would wait most of the time. A test gives the `setattr` that is undone."""
    from botocore.retries.standard import ExponentialBackoff

    from orchestrator.store import s3_client

    set_to(ExponentialBackoff, "delay_amount", lambda self, context: SHORT_PAUSE)
    set_to(s3_client, "PAUSES", (SHORT_PAUSE,) * len(s3_client.PAUSES))


class Service:
    """The running service."""

    def __init__(self, port: int) -> None:
        self.uri = f"http://127.0.0.1:{port}"
        self.environment = {**ENVIRONMENT, "AWS_ENDPOINT_URL_S3": self.uri}

    def tell(self, **faults: Any) -> None:
        """Fail as said from now on, and count anew."""
        self._ask("faults", "PUT", json.dumps(faults).encode())

    def counts(self) -> Counter[str]:
        """Requests by their method."""
        return Counter(json.loads(self._ask("counts")))

    def _ask(self, what: str, method: str = "GET", data: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"{self.uri}/-/{what}", data, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())


@contextlib.contextmanager
def running(port: int, log: Path) -> Iterator[Service]:
    """The service as a process of its own, with an empty bucket."""
    service = Service(port)
    with log.open("w") as said:
        process = subprocess.Popen([sys.executable, __file__, str(port)], stdout=said, stderr=said)
        try:
            until = time.monotonic() + 300
            while not _answers(service):
                assert process.poll() is None and time.monotonic() < until, log.read_text()
                time.sleep(0.2)
            yield service
        finally:
            process.kill()
            process.wait()


def _answers(service: Service) -> bool:
    try:
        service.tell()
    except OSError:
        return False
    return True


def main(port: int) -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    os.environ.update(ENVIRONMENT)
    service = Faulty(DomainDispatcherApplication(create_backend_app))
    make_server("127.0.0.1", port, service, threaded=True).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))

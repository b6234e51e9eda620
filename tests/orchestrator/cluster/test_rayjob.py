"""The commands of the pods in docs/kubernetes/, as plain processes of this machine with the same
environment: the tracking server, the head, a worker, and the submission of a sweep."""

import base64
import csv
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import manifests
import pytest
from commands import PATIENCE, TINY, free_port, healthy, kill_all
from commands import manifests as manifests_of

pytestmark = pytest.mark.system
SWEEP = "cluster: {workers: 1}\nsweep: {space: {sampling.steps: {grid: [4, 2]}}}\n"
SMALL = "100000000"  # bytes of Ray's object store


class Pods:
    """Pods of the files that run here; each has the folder of the image as its home."""

    def __init__(self, folder: Path, ray_folder: Path) -> None:
        self.folder, self.ray_folder = folder, ray_folder
        self.processes = ExitStack()
        self.login = {"username": "admin", "password": secrets.token_hex(24), "cookies": "x" * 32}
        self.token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.runs = folder / "runs"
        self.port, self.dashboard, self.server = free_port(), free_port(), free_port()

    def environment(self, pod: str) -> dict[str, str]:
        """What the container has: the image's variables, the file's, and Ray's token, which KubeRay
        adds."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        image = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "USER": "kacflow",
            "RAY_USAGE_STATS_ENABLED": "0",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "OMP_NUM_THREADS": "1",
        }
        given = manifests.environment(manifests.templates()[pod], {"kacflow-tracking": self.login})
        return {**image, **given, **({} if pod == "tracking" else self.token)}

    def start(self, pod: str, command: list[str], cwd: Path | None = None) -> None:
        """Start the command of a pod, until the end of the test."""
        log = self.processes.enter_context((self.folder / f"{pod}.log").open("w"))
        process = subprocess.Popen(
            command,
            cwd=cwd or self.folder,
            env=self.environment(pod),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self.processes.callback(kill_all, process)

    def start_tracking(self) -> None:
        """The server, on a port and in a folder of its own."""
        there = self.folder / "tracking"
        there.mkdir()
        container = manifests.container(manifests.templates()["tracking"])
        replaced = {
            "0.0.0.0": "127.0.0.1",
            "5000": str(self.server),
            "=/tracking": f"={there}",
            "sqlite:////tracking": f"sqlite:///{there}",
        }
        words = [*container["command"], *container["args"]]
        for old, new in replaced.items():
            assert any(old in word for word in words)
            words = [word.replace(old, new) for word in words]
        self.start("tracking", words, there)
        wait_for(lambda: healthy(f"http://127.0.0.1:{self.server}"), self.folder / "tracking.log")

    def start_ray(self) -> None:
        """Head and worker, until the head's dashboard knows both."""
        own = {"node-ip-address": "127.0.0.1", "object-store-memory": SMALL}
        groups = manifests.groups()
        head = manifests.ray_start(
            groups["head"], "", **own, **{
                "port": self.port, "dashboard-port": self.dashboard, "dashboard-host": "127.0.0.1",
                "temp-dir": self.ray_folder, "ray-client-server-port": free_port(),
                "dashboard-agent-listen-port": free_port(), "metrics-export-port": free_port(),
            },
        )  # fmt: skip
        self.start("head", head)
        wait_for(lambda: self.nodes() == 1, self.folder / "head.log")
        worker = manifests.ray_start(
            groups["gpu"], f"127.0.0.1:{self.port}", **own, **{
                "num-cpus": 2, "num-gpus": 0,
                "dashboard-agent-listen-port": free_port(), "metrics-export-port": free_port(),
            },
        )  # fmt: skip
        self.start("gpu", worker)
        wait_for(lambda: self.nodes() == 2, self.folder / "gpu.log")

    def nodes(self) -> int:
        """How many nodes Ray has."""
        return self.dashboard_says("nodes?view=summary").count('"ALIVE"')

    def dashboard_says(self, path: str) -> str:
        """What the dashboard answers the operator, who has the token; empty where it is not there
        yet."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.dashboard}/{path}",
            headers={"Authorization": f"Bearer {self.token['RAY_AUTH_TOKEN']}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return ""

    def submit(self, name: str, file: Path) -> tuple[str, str]:
        """Submit the job of rayjob.yaml with another experiment and without a GPU; its log, and its
        status as the operator sees it."""
        entrypoint = manifests.rayjob()["entrypoint"]
        replaced = {
            " experiments/nfe_sweep.yaml ": f" {file} ",
            "storage=/runs": f"storage={self.runs}",
            "http://kacflow-tracking:5000": f"http://127.0.0.1:{self.server}",
            "gpus_per_worker=1": "gpus_per_worker=0",
        }
        for old, new in replaced.items():
            assert old in entrypoint
            entrypoint = entrypoint.replace(old, new)
        address = f"http://127.0.0.1:{self.dashboard}"
        said = self.run(manifests.submission(entrypoint, address, name))
        status = json.loads(self.dashboard_says(f"api/jobs/{name}"))["status"]
        return said.stdout + said.stderr, status

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """A command in the submitting pod."""
        return subprocess.run(
            command, cwd=self.folder, env=self.environment("submitter"), capture_output=True, text=True,
            timeout=PATIENCE,
        )  # fmt: skip

    def results(self) -> list[dict[str, str]]:
        """The trials of the last sweep."""
        tables = sorted(self.runs.glob("sweeps/*/*/results.csv"), key=lambda p: p.stat().st_mtime)
        with tables[-1].open() as file:
            return list(csv.DictReader(file))

    def mlflow_status(self, host: str, login: bool) -> int:
        """What the server answers a request for experiments under the name `host`."""
        headers = {"Host": host, "Content-Type": "application/json"}
        if login:
            given = f"{self.login['username']}:{self.login['password']}"
            headers["Authorization"] = f"Basic {base64.b64encode(given.encode()).decode()}"
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.server}/api/2.0/mlflow/experiments/search?max_results=5",
            headers=headers,
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            return refused.code


def wait_for(happened: Callable[[], bool], log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.3)


@contextmanager
def running_pods(folder: Path) -> Iterator[Pods]:
    ray_folder = Path(tempfile.mkdtemp(prefix="kr", dir="/tmp"))  # short: it has sockets
    pods = Pods(folder, ray_folder)
    try:
        pods.start_tracking()
        pods.start_ray()
        yield pods
    finally:
        pods.processes.close()
        shutil.rmtree(ray_folder, ignore_errors=True)


def test_a_submitted_sweep_ends_is_tracked_and_resumed(tmp_path):
    (tmp_path / "x.yaml").write_text(TINY + SWEEP)
    (tmp_path / "wrong.yaml").write_text(TINY + "sweeep: {}\n")
    with running_pods(tmp_path) as pods:
        said, status = pods.submit("first", tmp_path / "x.yaml")
        assert status == "SUCCEEDED", said
        assert [trial["status"] for trial in pods.results()] == ["done", "done"]
        assert all(trial["mlflow_run_id"] for trial in pods.results()), said
        made = manifests_of(pods.runs)

        # what KubeRay does after a failure: the same command again
        said, status = pods.submit("again", tmp_path / "x.yaml")
        assert status == "SUCCEEDED", said
        assert manifests_of(pods.runs) == made

        said, status = pods.submit("wrong", tmp_path / "wrong.yaml")
        assert status == "FAILED" and "sweeep" in said, said

        names = [f"kacflow-tracking:{pods.server}", f"evil.example:{pods.server}"]
        answers = [pods.mlflow_status(name, login=True) for name in names]
        assert answers == [200, 403]
        assert pods.mlflow_status(names[0], login=False) == 401

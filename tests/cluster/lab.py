"""A cluster on three hosts of this machine, launched from a fourth by the shipped cluster.yaml, and
sweeps on it."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml
from commands import PATIENCE, REPOSITORY, TINY, kill_all
from hosts import ADDRESSES, Host, Hosts, named
from localise import localise

ENVIRONMENT = Path(sys.prefix)
LATER = "w3"  # a host of the file that is switched off at first
SWEEP = """\
cluster: {workers: 2}
sweep:
  max_concurrent_trials: 2
  space:
    sampling.steps: {grid: [2, 4]}
"""
# long enough to be disturbed in the middle, written down often enough to go on from there
EXPERIMENT = TINY.replace("steps: 20,", "steps: 300,").replace("{steps: 10}", "{steps: 25}") + SWEEP


class Lab:
    """The launching machine's view of a running cluster, and what a test does to its hosts."""

    def __init__(self, hosts: Hosts, folder: Path) -> None:
        self.hosts, self.folder = hosts, folder
        self.file, self.login = folder / "cluster.yaml", folder / "netrc"
        self.launched = ""  # what `ray up` has said
        self.tunnels: list[subprocess.Popen[str]] = []
        shipped = yaml.safe_load((REPOSITORY / "cluster.yaml").read_text())
        paths = {"~/kacflow-env": str(ENVIRONMENT), "~/tracking": str(folder / "tracking")}
        workers = [ADDRESSES[name] for name in ("w1", "w2", LATER)]
        local = localise(
            shipped,
            head=ADDRESSES["head"],
            workers=workers,
            user="root",
            key=str(hosts.key),
            paths=paths,
            cpus=1,
        )
        self.file.write_text(yaml.safe_dump(local, sort_keys=False))
        (folder / "x.yaml").write_text(EXPERIMENT)

    def launch(self) -> None:
        """Everything that docs/workstations.md has one do, up to a cluster of three hosts."""
        addresses = (
            " ".join(self.hosts[name].address for name in ("head", "w1", "w2"))
            + f" {ADDRESSES[LATER]}"
        )
        for name in ("head", "w1", "w2"):
            said = self.hosts.ssh(
                name, f"bash {REPOSITORY}/orchestrator/machines/firewall.sh {addresses}"
            )
            assert said.returncode == 0, said.stderr
        self.desk("make", "token", f"VENV={ENVIRONMENT}")
        self.launched = self.desk("ray", "up", "--yes", str(self.file))
        self.wait_for_nodes(3)
        for port in ("5000", "8265"):
            tunnel = ["ray", "dashboard", str(self.file), "--port", port, "--remote-port", port]
            self.tunnels.append(self.desk_process(*tunnel))
        credentials = self.hosts.ssh("head", "cat ~/.mlflow/credentials").stdout
        name, password = (line.split(" = ")[1] for line in credentials.splitlines()[1:])
        self.login.touch(mode=0o600)
        self.login.write_text(f"machine 127.0.0.1 login {name} password {password}\n")

    def desk_process(self, *command: str) -> subprocess.Popen[str]:
        """A command of the launching machine, in the project's folder."""
        path = f"{ENVIRONMENT / 'bin'}:{os.environ['PATH']}"
        there = self.hosts["desk"].command(
            "bash", "-c", f"cd {REPOSITORY} && exec \"$@\"", "desk", *command, PATH=path,
            RAY_UP_enable_autoscaler_v2="0", RAY_AUTH_MODE="token",
        )  # fmt: skip
        return subprocess.Popen(
            there,
            stdin=subprocess.DEVNULL,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def desk(self, *command: str) -> str:
        """What such a command says, once it has ended well."""
        process = self.desk_process(*command)
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said
        return said

    def close_tunnels(self) -> None:
        """What a person does with Ctrl-C; each is also a command on the head that waits for it."""
        for tunnel in self.tunnels:
            kill_all(tunnel)

    def wait_for_nodes(self, count: int) -> None:
        """Until Ray has so many nodes; to look takes a core for two seconds, which those that start
        need as well."""
        wait_until(lambda: self.nodes() == count, every=3.0)

    def nodes(self) -> int:
        """How many nodes Ray has."""
        said = self.hosts.ssh("head", "bash -ic 'ray status' 2> /dev/null").stdout
        return sum(
            int(line.split()[0])
            for line in said.splitlines()
            if line.endswith(" local.cluster.node")
        )

    def sweep(self, name: str) -> subprocess.Popen[str]:
        """The README's sweep, under a name and with a store of its own, by `ray exec`."""
        return self.desk_process("ray", "exec", str(self.file), self.sweep_command(name))

    def job(self, name: str) -> subprocess.Popen[str]:
        """The same as a job, submitted through the tunnel to the dashboard."""
        submit = ["ray", "job", "submit", "--address", "http://127.0.0.1:8265", "--"]
        return self.desk_process(*submit, "bash", "-c", self.sweep_command(name))

    def sweep_command(self, name: str, **more: object) -> str:
        """What is given to the head to run the sweep; `more` are settings of the block
        `cluster`."""
        settings = {
            "name": name,
            "storage": self.storage(name),
            "tracking.uri": "http://127.0.0.1:5000",
        }
        settings |= {f"cluster.{key}": value for key, value in more.items()}
        given = " ".join(f"--set {key}={value}" for key, value in settings.items())
        return f"cd ~/kacflow && python -m orchestrator.sweep {self.folder}/x.yaml \\\n    --address auto {given}"

    def storage(self, name: str) -> Path:
        return self.folder / "stores" / name

    def wait_for_step(self, name: str, step: int, driver: subprocess.Popen[str]) -> None:
        """Until the teacher of the sweep `name` has a checkpoint of `step` or later."""

        def there() -> bool:
            assert driver.poll() is None, driver.communicate()[0]
            found = self.storage(name).glob("work/*/checkpoints/step-*.json")
            return any(int(path.stem.removeprefix("step-")) >= step for path in found)

        wait_until(there)

    def hosts_of(self, title: str) -> list[Host]:
        """The hosts on which a process of Ray's called `title` runs, once for each."""
        hosts = [self.hosts[name] for name in self.hosts if name != "desk"]
        return [host for host in hosts for p in host.processes() if named(p).startswith(title)]

    def mlflow(self, path: str, query: dict[str, Any] | None = None) -> dict[str, Any]:
        """What the tracking server answers, asked through the tunnel with the login."""
        body = [] if query is None else ["--json", json.dumps(query)]
        curl = ["curl", "-sf", "--netrc-file", str(self.login), *body]
        return dict(json.loads(self.desk(*curl, f"http://127.0.0.1:5000/api/2.0/mlflow/{path}")))

    def runs(self, name: str) -> list[dict[str, Any]]:
        """The runs that MLflow has of the experiment `name`."""
        experiment = self.mlflow(f"experiments/get-by-name?experiment_name={name}")["experiment"][
            "experiment_id"
        ]
        return list(
            self.mlflow("runs/search", {"experiment_ids": [experiment], "max_results": 1000})[
                "runs"
            ]
        )

    def logged(self, name: str) -> Counter[tuple[str, str]]:
        """How many runs of each kind and status MLflow has."""
        return Counter((tags(run)["kind"], run["info"]["status"]) for run in self.runs(name))


def tags(run: dict[str, Any]) -> dict[str, str]:
    """The tags of a run as MLflow's server has it."""
    return {tag["key"]: tag["value"] for tag in run["data"]["tags"]}


def process_of(host: Host, *parts: str) -> psutil.Process:
    """The process on `host` whose command has all the `parts`."""
    (found, *_) = [p for p in host.processes() if all(part in named(p) for part in parts)]
    return found


def wait_until(happened: Callable[[], bool], every: float = 0.2) -> None:
    """Look again and again, as long as tests are patient."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(every)


def clear(folder: Path) -> None:
    """Remove a lab's folder, in which some files are PostgreSQL's."""
    shutil.rmtree(folder, ignore_errors=True)

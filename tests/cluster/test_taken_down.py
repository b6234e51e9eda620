"""What the sweeps on the cluster have left behind, and the cluster taken down."""

from pathlib import Path

from hosts import named
from lab import Lab, tags, wait_until


def secrets(lab: Lab) -> list[str]:
    token = lab.hosts.ssh("head", "cat ~/.ray/auth_token").stdout.strip()
    password = lab.login.read_text().split()[-1]
    key = lab.hosts.key.read_text().splitlines()[1]
    assert len(token) == 64 and len(password) >= 32
    return [token, password, key]


def holding(folder: Path, found: list[str]) -> list[Path]:
    """The files below `folder` that hold one of the secrets in `found`."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if any(secret.encode() in path.read_bytes() for secret in found)]


def test_secrets_are_in_no_log_no_command_line_no_store_and_not_in_mlflow(lab):
    found = secrets(lab)
    hosts = [lab.hosts[name] for name in lab.hosts if name != "desk"]
    logs = [host.own / "tmp/ray" for host in hosts]
    assert all(any(folder.rglob("*.out")) for folder in logs)
    stores = lab.folder / "stores"
    assert any(stores.rglob("plan.json"))
    assert [path for folder in (*logs, stores) for path in holding(folder, found)] == []
    assert holding(lab.folder / "tracking" / "artifacts", found) == []
    assert not [
        secret for secret in found if secret in (lab.folder / "tracking/server.log").read_text()
    ]
    assert not [secret for secret in found if secret in lab.launched + lab.file.read_text()]
    assert not [
        p for host in hosts for p in host.processes() if any(secret in named(p) for secret in found)
    ]
    for name in (path.name for path in stores.iterdir()):
        for run in lab.runs(name):
            said = f"{tags(run)} {run['data'].get('params')}"
            assert not [secret for secret in found if secret in said]


def test_ray_down_leaves_no_process_on_any_host(lab):
    lab.close_tunnels()
    lab.desk("ray", "down", "--yes", str(lab.file))
    hosts = [lab.hosts[name] for name in lab.hosts if name != "desk"]
    wait_until(lambda: not [p for host in hosts for p in host.processes()])

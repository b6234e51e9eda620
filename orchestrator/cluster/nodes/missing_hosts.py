"""Machines of the cluster file that have not joined, and why: `ray up` does not report them, so
this module contacts them itself.

On a head node that `ray up` has set up, the cluster file is ~/ray_bootstrap_config.yaml and the SSH
key of the workers is next to it. The launcher's own errors are in `ray status`."""

import socket
import subprocess
from pathlib import Path
from typing import Any

from orchestrator.cluster import autoscaler
from orchestrator.fields.faults import Fault

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
SSH_PORT, SSH_SECONDS = 22, 10


def not_joined(joined: set[str], file: Path = BOOTSTRAP) -> list[Fault]:
    """A fault for each machine of the cluster file that is not among the addresses that have
    `joined`, and for each failed launch; none where there is no such file."""
    config = _read(file.expanduser())
    if config is None:
        return []
    provider, auth = config.get("provider", {}), config.get("auth", {})
    # with provider `local` the head has the type of the workers, on AWS a type without workers
    node_types = config.get("available_node_types", {}).values()
    min_workers = sum(int(node_type.get("min_workers", 0)) for node_type in node_types)
    complete = len(joined) > min_workers  # the workers and the head
    if complete:  # launches beyond min_workers may still fail
        missing = []
        status = autoscaler.failed_launches()
    else:
        missing = [ip for ip in provider.get("worker_ips", []) if ip not in joined]
        status = autoscaler.pending_nodes()
    faults = [
        Fault(str(file), "available_node_types", f"{line}, says `ray status`")
        for line in status
        if line.partition(":")[0] not in missing
    ]
    for ip in missing:
        faults.append(Fault(str(file), "provider.worker_ips", why_missing(ip, auth)))
    return faults


def why_missing(address: str, auth: dict[str, Any]) -> str:
    """Why the machine at `address` has not joined: no SSH server, SSH refuses the login, or a
    failure of `ray start`."""
    try:
        socket.create_connection((address, SSH_PORT), timeout=SSH_SECONDS).close()
    except OSError as e:
        why = e.strerror or str(e)
        remedy = "start the machine, or take it out of the file"
        return f"{address} has not joined: no SSH answers there ({why}): {remedy}"
    key, user = auth.get("ssh_private_key"), auth.get("ssh_user", "root")
    settings = ["BatchMode=yes", "StrictHostKeyChecking=no", f"ConnectTimeout={SSH_SECONDS}"]
    command = ["ssh", *(f"-o{setting}" for setting in settings), "-p", str(SSH_PORT)]
    if key:
        command += ["-i", str(Path(key).expanduser())]
    command += [f"{user}@{address}", "true"]
    ssh = subprocess.run(command, capture_output=True, text=True, timeout=3 * SSH_SECONDS)
    if ssh.returncode:
        last = (ssh.stderr.strip().splitlines() or ["no reason given"])[-1]
        remedy = "put the right key into auth.ssh_private_key"
        return f"{address} has not joined: SSH refuses {user} ({last}): {remedy}"
    log = "/tmp/ray/session_latest/logs/monitor*"
    what = f"{address} has not joined though SSH answers"
    return f"{what}: see {log} on the head, and whether `ray start` works there"


def _read(file: Path) -> dict[str, Any] | None:
    import yaml

    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError:
        return None

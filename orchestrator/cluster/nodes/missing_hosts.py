"""Machines that a cluster was to have and has not: the launcher says nothing of them, so they are
asked here.

On a head that `ray up` has made, the cluster file lies in ~/ray_bootstrap_config.yaml and the key
to the workers beside it. What the launcher has met is in the status that it leaves with Ray."""

import socket
import subprocess
from pathlib import Path
from typing import Any

from orchestrator.cluster import autoscaler
from orchestrator.fields.faults import Fault

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
SSH_PORT, SSH_SECONDS = 22, 10


def not_joined(joined: set[str], file: Path = BOOTSTRAP) -> list[Fault]:
    """Why machines of the cluster file are not among the addresses that have `joined`, or cannot be
    had; nothing where there is no such file."""
    config = _read(file.expanduser())
    if config is None:
        return []
    provider, auth = config.get("provider", {}), config.get("auth", {})
    # a head of one's own is of the same type as its workers, and on AWS its type has no workers
    wanted = sum(
        int(t.get("min_workers", 0)) for t in config.get("available_node_types", {}).values()
    )
    complete = len(joined) > wanted  # they, and the head
    missing = [] if complete else [ip for ip in provider.get("worker_ips", []) if ip not in joined]
    said = (
        autoscaler.refused() if complete else autoscaler.joining()
    )  # what is more than demanded may still be refused
    others = [line for line in said if line.partition(":")[0] not in missing]
    met = [
        Fault(str(file), "available_node_types", f"{line}, says `ray status`") for line in others
    ]
    return met + [Fault(str(file), "provider.worker_ips", unreachable(ip, auth)) for ip in missing]


def unreachable(address: str, auth: dict[str, Any]) -> str:
    """Why the machine at `address` has not joined, as far as it can be told from here."""
    try:
        socket.create_connection((address, SSH_PORT), timeout=SSH_SECONDS).close()
    except OSError as e:
        why = e.strerror or str(e)
        return f"{address} has not joined: no SSH answers there ({why}): start the machine, or take it out of the file"
    key, user = auth.get("ssh_private_key"), auth.get("ssh_user", "root")
    options = [
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        f"ConnectTimeout={SSH_SECONDS}",
    ]
    options += ["-p", str(SSH_PORT)]
    command = [
        "ssh",
        *options,
        *(["-i", str(Path(key).expanduser())] if key else []),
        f"{user}@{address}",
        "true",
    ]
    said = subprocess.run(command, capture_output=True, text=True, timeout=3 * SSH_SECONDS)
    if said.returncode:
        last = (said.stderr.strip().splitlines() or ["no reason given"])[-1]
        return f"{address} has not joined: SSH refuses {user} ({last}): put the right key into auth.ssh_private_key"
    log = "/tmp/ray/session_latest/logs/monitor*"
    what = f"{address} has not joined though SSH answers"
    return f"{what}: the reason is in {log} on the head, or `ray start` fails there"


def _read(file: Path) -> dict[str, Any] | None:
    import yaml

    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError:
        return None

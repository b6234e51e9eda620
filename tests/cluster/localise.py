"""The shipped cluster.yaml for machines that are there: only provider, authentication, node types
and paths differ.

    provider    type: local, with the hosts' addresses in the place of region, zone and security group; and a week's
                patience with a host that is off, which this provider would else give up for good
    auth        the user and key that these hosts know
    node types  none: Ray allows them no types, so what a type says of CPUs goes to `ray start`
    paths       where the project, its environment and what MLflow keeps lie on the hosts

Everything else, every file that is sent and every command, is the shipped file's.
docs/cluster_local.yaml is what `localise` makes with the addresses and paths of an example."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

# how long Ray's autoscaler waits for a host to let it in: after its default, 15 minutes, it would
# never try again
PATIENCE = "export AUTOSCALER_NODE_START_WAIT_S=604800; "


def localise(
    shipped: Mapping[str, Any],
    *,
    head: str,
    workers: Sequence[str],
    user: str,
    key: str,
    paths: Mapping[str, str] | None = None,
    cpus: int | None = None,
) -> dict[str, Any]:
    """`shipped`, a parsed cluster.yaml, for the host `head` and the `workers`.

    user, key  who logs in by ssh, and the file of that user's private key
    paths      what is replaced, wherever it occurs in a command or a file's place on a host
    cpus       of each host; None: as many as Ray finds. The head has those that its type has.
    """
    local = copy.deepcopy(dict(shipped))
    local["provider"] = {"type": "local", "head_ip": head, "worker_ips": list(workers)}
    local["auth"] = {"ssh_user": user, "ssh_private_key": key}
    type_of_head = local.pop("available_node_types")[local.pop("head_node_type")]
    of_head = type_of_head["resources"]["CPU"] if cpus is None else cpus
    # the machines are there and cost nothing while idle
    local["min_workers"] = local["max_workers"] = len(workers)
    local["head_start_ray_commands"] = [
        PATIENCE + command if "--autoscaling-config" in command else command
        for command in local["head_start_ray_commands"]
    ]
    for commands, count in (
        ("head_start_ray_commands", of_head),
        ("worker_start_ray_commands", cpus),
    ):
        if count is not None:
            local[commands] = [
                c.replace("--disable-usage-stats", f"--disable-usage-stats --num-cpus={count}")
                for c in local[commands]
            ]
    return {key: _replaced(value, paths or {}) for key, value in local.items()}


def _replaced(value: Any, paths: Mapping[str, str]) -> Any:
    if isinstance(
        value, dict
    ):  # on the left the place on the host, on the right a file of this machine
        return {_replaced(k, paths): v for k, v in value.items()}
    if isinstance(value, list):
        return [_replaced(v, paths) for v in value]
    if isinstance(value, str):
        for path, instead in paths.items():
            value = value.replace(path, instead)
    return value

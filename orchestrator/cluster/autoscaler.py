"""What Ray's autoscaler reports about nodes that have not joined: pending ones, failed launches and
the reasons.

Both versions of the autoscaler write `ray status`, which this module parses. Version 2, the default
of `ray up`, reports there that a launch failed, but not why: the provider's error is only in the
autoscaler's log on the head node, where drivers run."""

import re
from contextlib import suppress

from orchestrator.cluster import ray_internals

# bytes at the end of the log that are searched: the autoscaler retries every few seconds
LOG_TAIL_BYTES = 65_536
LAUNCH_ERROR = re.compile(r"Node Launch Exception \((.+?)\): (.+)")


def pending_nodes() -> list[str]:
    """A line for each node that is being launched, such as `10.0.0.5: gpu, waiting-for-ssh`, and
    the lines of `failed_launches`."""
    status = _status()
    return [*_lines(status, "Pending:\n", "Recent failures:\n"), *_failed_launches(status)]


def failed_launches() -> list[str]:
    """A line for each node type whose latest launch failed, such as `gpu: LaunchFailed
    (latest_attempt: 15:16:33), VcpuLimitExceeded: You have requested more ...`."""
    return _failed_launches(_status())


def _failed_launches(status: str) -> list[str]:
    newest: dict[str, str] = {}
    for line in _lines(status, "Recent failures:\n", "\nResources"):  # the newest first
        if "latest_attempt" in line:  # other lines are of nodes that ended, such as spot instances
            newest.setdefault(line.partition(":")[0], line)
    error = _provider_error() if newest else ""
    failures = []
    for line in newest.values():
        if error and "LaunchFailed" in line:
            line = f"{line}, {error}"
        failures.append(line)
    return failures


def _lines(status: str, after: str, before: str) -> list[str]:
    lines = status.partition(after)[2].partition(before)[0].splitlines()
    return [line.strip() for line in lines if line.startswith(" ") and not line.startswith(" (no ")]


def _status() -> str:
    """What `ray status` prints; empty without an autoscaler or its packages."""
    with suppress(Exception):
        return ray_internals.autoscaler_status()
    return ""


def _provider_error() -> str:
    """The provider's error for the latest failed launch; empty on every node but the head."""
    with suppress(OSError):
        with (ray_internals.log_folder() / "monitor.log").open("rb") as log:
            end = log.seek(0, 2)
            log.seek(max(0, end - LOG_TAIL_BYTES))
            errors = LAUNCH_ERROR.findall(log.read().decode(errors="replace"))
        return ": ".join(errors[-1]) if errors else ""
    return ""

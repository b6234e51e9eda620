"""What Ray's autoscaler says of machines that are to join: those on their way, those that it could
not get, and why.

Both of its versions write `ray status`, from which this is read. The second, which `ray up` takes
by default, names there a launch that failed and not why: the provider's answer is in its log alone,
on the head, where drivers run."""

import re
from contextlib import suppress

from orchestrator.cluster import ray_internals

NEWEST = (
    65_536  # bytes of the log in which an answer is looked for: it tries again every few seconds
)
ANSWER = re.compile(r"Node Launch Exception \((.+?)\): (.+)")


def joining() -> list[str]:
    """A line for each machine that is being started, as `10.0.0.5: gpu, waiting-for-ssh`, and those
    of `refused`."""
    status = _status()
    return [*_lines(status, "Pending:\n", "Recent failures:\n"), *_refused(status)]


def refused() -> list[str]:
    """A line for each type of machine that could not be had lately, as `gpu: LaunchFailed
    (latest_attempt: 15:16:33), VcpuLimitExceeded: You have requested more ...`."""
    return _refused(_status())


def _refused(status: str) -> list[str]:
    newest: dict[str, str] = {}
    for line in _lines(status, "Recent failures:\n", "\nResources"):  # the newest first
        if "latest_attempt" in line:  # not those that ended, as spot machines do
            newest.setdefault(line.partition(":")[0], line)
    answer = _answer() if newest else ""
    return [
        f"{line}, {answer}" if answer and "LaunchFailed" in line else line
        for line in newest.values()
    ]


def _lines(status: str, after: str, before: str) -> list[str]:
    lines = status.partition(after)[2].partition(before)[0].splitlines()
    return [line.strip() for line in lines if line.startswith(" ") and not line.startswith(" (no ")]


def _status() -> str:
    """What `ray status` prints; nothing without an autoscaler, or its packages."""
    with suppress(Exception):
        return ray_internals.autoscaler_status()
    return ""


def _answer() -> str:
    """What the provider said when it last refused a machine; empty on another node than the
    head."""
    with suppress(OSError):
        with (ray_internals.log_folder() / "monitor.log").open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - NEWEST))
            answers = ANSWER.findall(log.read().decode(errors="replace"))
        return ": ".join(answers[-1]) if answers else ""
    return ""

"""Faults from the reports of a cluster's nodes: one line each, with its remedy."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orchestrator.cluster.nodes import report as on_node
from orchestrator.cluster.nodes.report import Report
from orchestrator.fields.faults import Fault
from orchestrator.settings.experiment import Experiment
from orchestrator.store.failures import first_line, innermost
from orchestrator.store.provenance import made_by

SAME_VERSIONS = ("python", "torch", "ray")  # they pickle and unpickle settings and tensors
CLOCK_SECONDS = 30.0  # S3 refuses requests that are 15 minutes off; people compare logs by time
FREE_SHARE = 0.05  # Ray refuses to work on a disk that is fuller than 95 %
FREE_BYTES = 1e9


@dataclass(frozen=True)
class Node:
    """A node in Ray's table: its host's name, its address, and how many GPUs Ray offers there."""

    id: str
    host: str
    address: str
    gpus: float

    def __str__(self) -> str:
        return f"node {self.host} ({self.address})"


def node_faults(reports: Mapping[Node, Report], experiment: Experiment, source: str) -> list[Fault]:
    """All faults of single nodes, and of nodes that differ from this machine."""
    faults: list[Fault] = []
    own = {**made_by(), "code": on_node.code()}
    addresses = {node.host: node.address for node in reports}
    several = len({node.address for node in reports}) > 1
    for node, report in reports.items():
        faults += _versions(node, report, own)
        if several:
            faults += _host_names(node, report, addresses)
        faults += _disk_and_clock(node, report)
        if experiment.cluster.gpus_per_worker and report.gpus < node.gpus:
            got = f"Ray offers {node.gpus:g} GPUs of {node}, torch sees {report.gpus} there"
            message = f"{got}: install the driver and torch for CUDA"
            faults.append(Fault(source, "cluster.gpus_per_worker", message))
    return faults


def storage_faults(
    problems: Mapping[Node, str], experiment: Experiment, source: str
) -> list[Fault]:
    """A fault for each node that does not share the storage with the driver; `problems` says why,
    empty where it does."""
    remedy = "give a folder that all nodes mount at the same place, or s3://bucket/prefix"
    faults = []
    for node, problem in problems.items():
        if problem:
            got = f"got {experiment.storage}, which {node} does not share ({problem})"
            faults.append(Fault(source, "storage", f"{got}: {remedy}"))
    return faults


def no_answer(node: Node, seconds: float) -> Fault:
    """A node that is in Ray's table and does not run its task."""
    remedy = "look at its raylet's log in /tmp/ray, or restart it"
    return Fault(str(node), "", f"did not answer for {seconds:.0f} s: {remedy}")


def cannot_run(node: Node, error: Exception) -> Fault:
    """A node whose task failed with `error`."""
    why = first_line(innermost(error))
    remedy = "install it in the environment of `ray start` there"
    return Fault(str(node), "", f"cannot run this project ({why}): {remedy}")


def data_missing(node: Node, error: Exception, source: str) -> Fault:
    """A node that cannot read the data."""
    return Fault(source, "data", f"not ready on {node}: {first_line(innermost(error))}")


def data_differs(node: Node, source: str) -> Fault:
    """A node whose data have another fingerprint than this machine's."""
    what = f"{node} has other images than this machine under the same settings"
    return Fault(source, "data", f"{what}: copy them there")


def _versions(node: Node, report: Report, own: Mapping[str, str]) -> Iterator[Fault]:
    for name in SAME_VERSIONS:
        if report.versions.get(name) != own.get(name):
            what = f"{name} is {report.versions.get(name)}, on this machine {own.get(name)}"
            remedy = "install the same version (constraints.txt) on all nodes"
            yield Fault(str(node), "", f"{what}: {remedy}")
    if report.versions["code"] != own["code"]:
        what = "its copy of this project differs from this machine's"
        yield Fault(str(node), "", f"{what}: install the same commit there")


def _host_names(node: Node, report: Report, hosts: Mapping[str, str]) -> Iterator[Fault]:
    """Gloo and NCCL publish the address to which a host's own name resolves."""
    for host, expected in hosts.items():
        resolved = report.addresses.get(host, [])
        if expected not in resolved:
            what = f"the name {host} means {', '.join(resolved) or 'nothing'} there"
            remedy = f"add '{expected} {host}' to its /etc/hosts, or correct its DNS"
            yield Fault(str(node), "", f"{what}, expected {expected}: {remedy}")


def _disk_and_clock(node: Node, report: Report) -> Iterator[Fault]:
    share, free = report.free
    if share < FREE_SHARE or free < FREE_BYTES:
        got = f"its disk has {free / 1e9:.1f} GB free, {100 * share:.0f} %"
        expected = f"expected {100 * FREE_SHARE:.0f} % and {FREE_BYTES / 1e9:g} GB"
        yield Fault(str(node), "", f"{got}, {expected}: make room")
    if abs(report.clock) > CLOCK_SECONDS:
        direction = "ahead of" if report.clock > 0 else "behind"
        what = f"its clock is {abs(report.clock):.0f} s {direction} this machine's"
        yield Fault(str(node), "", f"{what}: let NTP set both")

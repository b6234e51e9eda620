"""What the reports of a cluster's nodes mean: one line for each fault, with its remedy."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orchestrator.cluster.nodes import report as on_node
from orchestrator.cluster.nodes.report import Report
from orchestrator.fields.faults import Fault
from orchestrator.settings.experiment import Experiment
from orchestrator.store.failures import first_line, innermost
from orchestrator.store.provenance import made_by

SAME = ("python", "torch", "ray")  # what a network's pickled settings and tensors go through
CLOCK_SECONDS = 30.0  # S3 refuses requests of another quarter of an hour; logs are compared by eye
FREE_SHARE, FREE_BYTES = 0.05, 1e9  # Ray refuses to work on a disk that is fuller than 95 %


@dataclass(frozen=True)
class Node:
    """A node as Ray knows it: its host's name, its address, and how many GPUs Ray gives away
    there."""

    id: str
    host: str
    address: str
    gpus: float

    def __str__(self) -> str:
        return f"node {self.host} ({self.address})"


def nodes(reports: Mapping[Node, Report], experiment: Experiment, source: str) -> list[Fault]:
    """Everything that is wrong with the nodes by themselves and among each other."""
    faults: list[Fault] = []
    own = {**made_by(), "code": on_node.code()}
    several = len({n.address for n in reports}) > 1
    for node, report in reports.items():
        faults += _versions(node, report, own)
        if several:
            faults += _names(node, report, {n.host: n.address for n in reports})
        faults += _machine(node, report)
        if experiment.cluster.gpus_per_worker and report.gpus < node.gpus:
            what = f"Ray gives away {node.gpus:g} GPUs of {node}, torch sees {report.gpus} there"
            faults.append(
                Fault(
                    source,
                    "cluster.gpus_per_worker",
                    f"{what}: install the driver and torch for CUDA",
                )
            )
    return faults


def shared(problems: Mapping[Node, str], experiment: Experiment, source: str) -> list[Fault]:
    """A fault for each node between which and the driver the storage is not shared."""
    remedy = "give a folder that all nodes mount at the same place, or s3://bucket/prefix"
    return [
        Fault(
            source,
            "storage",
            f"got {experiment.storage}, which {node} does not share ({problem}): {remedy}",
        )
        for node, problem in problems.items()
        if problem
    ]


def silent(node: Node, seconds: float) -> Fault:
    """A node that is there for Ray and does nothing."""
    return Fault(
        str(node),
        "",
        f"did not answer for {seconds:.0f} s: look at its raylet's log in /tmp/ray, or restart it",
    )


def unable(node: Node, error: Exception) -> Fault:
    """A node that cannot run what it was asked to."""
    why = first_line(innermost(error))
    return Fault(
        str(node), "", f"cannot run this project ({why}): install it where `ray start` runs there"
    )


def data_missing(node: Node, error: Exception, source: str) -> Fault:
    """A node without the data."""
    return Fault(source, "data", f"not ready on {node}: {first_line(innermost(error))}")


def data_differs(node: Node, source: str) -> Fault:
    """A node with other data under the same name."""
    return Fault(
        source,
        "data",
        f"{node} has other images than this machine under the same settings: copy them there",
    )


def _versions(node: Node, report: Report, own: Mapping[str, str]) -> Iterator[Fault]:
    for name in SAME:
        if report.versions.get(name) != own.get(name):
            what = f"{name} is {report.versions.get(name)}, on this machine {own.get(name)}"
            yield Fault(
                str(node), "", f"{what}: install the same version (constraints.txt) on all nodes"
            )
    if report.versions["code"] != own["code"]:
        yield Fault(
            str(node),
            "",
            "its copy of this project differs from this machine's: install the same commit there",
        )


def _names(node: Node, report: Report, hosts: Mapping[str, str]) -> Iterator[Fault]:
    """Gloo and NCCL tell each other the address that a host's own name has for it."""
    for host, address in hosts.items():
        found = report.addresses.get(host, [])
        if address not in found:
            meant = ", ".join(found) or "nothing"
            what = f"the name {host} means {meant} there, expected {address}"
            yield Fault(
                str(node), "", f"{what}: add '{address} {host}' to its /etc/hosts, or mend its DNS"
            )


def _machine(node: Node, report: Report) -> Iterator[Fault]:
    share, free = report.free
    if share < FREE_SHARE or free < FREE_BYTES:
        what = f"its disk has {free / 1e9:.1f} GB free, {100 * share:.0f} %"
        yield Fault(
            str(node),
            "",
            f"{what}, expected {100 * FREE_SHARE:.0f} % and {FREE_BYTES / 1e9:g} GB: make room",
        )
    if abs(report.clock) > CLOCK_SECONDS:
        way = "ahead of" if report.clock > 0 else "behind"
        yield Fault(
            str(node),
            "",
            f"its clock is {abs(report.clock):.0f} s {way} this machine's: let NTP set both",
        )

"""What has to be true of a cluster before work on it is paid for: every fault of every node at
once.

Ray says little of all this. A storage that is not shared ends in a retry on the head that reports
success; a host's name that means 127.0.1.1 ends in a rendezvous that is not retried; a node that
never joins is silent."""

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from orchestrator.cluster.nodes import report as on_node
from orchestrator.cluster.nodes import verdicts
from orchestrator.cluster.nodes.report import DRIVER, Probe, Report
from orchestrator.cluster.nodes.tracking_server import tracking_faults
from orchestrator.cluster.nodes.verdicts import Node
from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.settings.experiment import Experiment
from orchestrator.store.failures import first_line
from orchestrator.store.folder import Folder
from orchestrator.store.places import place_of
from orchestrator.store.store import with_remedy
from orchestrator.work.preflight import Weights

ANSWER_SECONDS = 120.0  # a node whose processes have to import torch first, on busy CPUs
DATA_SECONDS = 3600.0  # what is not there yet may be downloaded and decoded


@dataclass(frozen=True)
class Findings:
    """The nodes of a cluster, what each said of itself, and all that is wrong."""

    reports: dict[Node, Report]
    faults: list[Fault]


def look(
    experiment: Experiment,
    source: str,
    known: Mapping[DatasetKind, str] | None = None,
    weights: Sequence[Weights] = (),
    fetch: bool = False,
) -> Findings:
    """Examine the nodes of the cluster that is connected for `experiment`, which faults name as
    `source`. `known` has the fingerprints of the data that the trials are of, by default of the
    experiment's own, as they are here. Each of several nodes has to have the `weights` too, or,
    with `fetch`, fetches the official ones now."""
    nodes = alive()
    probe = Probe(str(place_of(experiment.storage).absolute()), uuid.uuid4().hex[:12])
    faults = list[Fault]()
    known = {experiment.data: ""} if known is None else known
    data = {(n, of): _start(on_node.fingerprint, n, of.absolute()) for n in nodes for of in known}
    asked = (
        {n: _start(on_node.weights, n, list(weights), fetch) for n in nodes}
        if weights and len(nodes) > 1
        else {}
    )
    try:
        probe.folder.mkdir(parents=True)
        probe.write(DRIVER)
        reports, silent = _reports(nodes, probe, experiment)
        faults += silent + verdicts.shared(
            {n: _returned(n, probe, r) for n, r in reports.items()}, experiment, source
        )
    except OSError as e:
        reports, faults = (
            {},
            [*faults, Fault(source, "storage", f"got {experiment.storage}: {with_remedy(e)}")],
        )
    finally:
        _forget(probe)
    faults += verdicts.nodes(reports, experiment, source)
    started = {(n, of): ref for (n, of), ref in data.items() if n in reports}
    faults += _data_faults(started, known, source)
    faults += _weights_faults({n: ref for n, ref in asked.items() if n in reports}, source)
    return Findings(reports, faults)


def faults_without_a_cluster(experiment: Experiment, source: str) -> list[Fault]:
    """What is wrong with the tracking server and with the data of this machine; asks no Ray."""
    return [*tracking_faults(experiment, source), *_data_faults({}, {experiment.data: ""}, source)]


def before_start(
    experiment: Experiment,
    source: str,
    known: Mapping[DatasetKind, str],
    weights: Sequence[Weights] = (),
) -> None:
    """Raise ConfigError with everything that is wrong, where the cluster that is connected has
    several nodes. Nodes that have not joined yet are waited for later; of the tracking server, on
    which no run depends, the publisher warns."""
    if len(alive()) > 1 and (faults := look(experiment, source, known, weights, fetch=True).faults):
        raise ConfigError(faults)


def alive() -> list[Node]:
    """The nodes of the cluster that is connected."""
    import ray

    return [
        Node(
            n["NodeID"],
            n["NodeManagerHostname"],
            n["NodeManagerAddress"],
            n["Resources"].get("GPU", 0.0),
        )
        for n in ray.nodes()
        if n["Alive"]
    ]


def _start(function: Any, node: Node, *arguments: Any) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(function)
    return task.options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
    ).remote(*arguments)


def _reports(
    nodes: Sequence[Node], probe: Probe, experiment: Experiment
) -> tuple[dict[Node, Report], list[Fault]]:
    """What the nodes say, with the driver's clock subtracted from theirs; and a fault for each that
    says nothing."""
    import ray

    hosts = sorted({n.host for n in nodes})
    gpus = bool(experiment.cluster.gpus_per_worker)
    asked = {n: _start(on_node.examine, n, n.id, probe, hosts, gpus) for n in nodes}
    began = time.time()
    reports = {}
    faults = []
    waiting = {ref: n for n, ref in asked.items()}
    while waiting and time.time() - began < ANSWER_SECONDS:
        ready, _ = ray.wait(list(waiting), timeout=1.0)
        for ref in ready:
            node = waiting.pop(ref)
            try:
                reports[node] = ray.get(ref)
            except Exception as e:
                faults.append(verdicts.unable(node, e))
                continue
            now = time.time()  # its clock was read between the question and now
            reports[node].clock -= min(max(reports[node].clock, began), now)
    return reports, faults + [verdicts.silent(node, ANSWER_SECONDS) for node in waiting.values()]


def _returned(node: Node, probe: Probe, report: Report) -> str:
    """What is wrong with the storage between the driver and `node`: each has to see what the other
    wrote."""
    if report.storage:
        return report.storage
    with suppress(OSError):
        return "" if probe.read(node.id) == probe.id else "another file is there"
    return "what the node wrote there does not appear here"


def _data_faults(
    started: dict[tuple[Node, DatasetKind], Any], known: Mapping[DatasetKind, str], source: str
) -> Iterable[Fault]:
    import ray

    here = dict(known)
    for settings in here:
        try:
            here[settings] = here[settings] or on_node.fingerprint(settings)
        except (ValueError, OSError) as e:
            yield Fault(source, "data", str(e))
    ray.wait(
        list(started.values()), num_returns=len(started), timeout=DATA_SECONDS
    ) if started else None
    for (node, settings), ref in started.items():
        try:
            there = ray.get(ref, timeout=0.0)
        except Exception as e:
            yield verdicts.data_missing(node, e, source)
            continue
        if here[settings] and there != here[settings]:
            yield verdicts.data_differs(node, source)


def _weights_faults(started: Mapping[Node, Any], source: str) -> Iterable[Fault]:
    import ray

    ray.wait(
        list(started.values()), num_returns=len(started), timeout=DATA_SECONDS
    ) if started else None
    for node, ref in started.items():
        try:
            yield from (
                Fault(source, key, f"on {node}: {message}")
                for key, message in ray.get(ref, timeout=0.0)
            )
        except Exception as e:
            yield Fault(source, "evaluation.weights", f"not ready on {node}: {first_line(e)}")


def _forget(probe: Probe) -> None:
    with suppress(OSError):
        probe.folder.clear()
        for folder in (probe.folder.parent, probe.folder.parent.parent):
            if isinstance(folder, Folder):
                folder.rmdir()  # the storage's own too, unless there is anything else in it

"""Checks a cluster before a run starts on it, and collects every fault of every node.

Ray reports little of this. If the storage is not shared, Ray retries on the head and reports
success. If a host's name resolves to 127.0.1.1, the rendezvous fails and is not retried. A node that
never joins is not reported at all."""

import time
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from orchestrator.cluster.nodes import node_faults
from orchestrator.cluster.nodes import report as on_node
from orchestrator.cluster.nodes.node_faults import Node
from orchestrator.cluster.nodes.report import DRIVER, Probe, Report
from orchestrator.cluster.nodes.tracking_server import tracking_faults
from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.fields.plugins import KEY
from orchestrator.methods.dataset_kind import DatasetKind
from orchestrator.settings.experiment import Experiment
from orchestrator.store.failures import first_line
from orchestrator.store.folder import Folder
from orchestrator.store.places import place_of
from orchestrator.store.store import with_remedy
from orchestrator.work.preflight import Weights

ANSWER_SECONDS = 120.0  # a node may have to import torch first, on busy CPUs
DATA_SECONDS = 3600.0  # missing data or weights may have to be downloaded and decoded


@dataclass(frozen=True)
class Findings:
    """The nodes of a cluster with their reports, and all faults."""

    reports: dict[Node, Report]
    faults: list[Fault]


def examine_cluster(
    experiment: Experiment,
    source: str,
    known: Mapping[DatasetKind, str] | None = None,
    weights: Sequence[Weights] = (),
    fetch: bool = False,
) -> Findings:
    """Examine the nodes of the connected cluster for `experiment`, whose file faults name as
    `source`. `known` maps each data set of the trials to its fingerprint on this machine, empty
    where it is not read yet; by default it is the experiment's own data. Where there are several
    nodes, each needs the `weights` too; with `fetch` a node downloads official weights now."""
    nodes = alive_nodes()
    probe = Probe(str(place_of(experiment.storage).absolute()), uuid.uuid4().hex[:12])
    faults = list[Fault]()
    known = {experiment.data: ""} if known is None else known
    data_tasks = {
        (node, data): _start(on_node.fingerprint, node, data.absolute())
        for node in nodes
        for data in known
    }
    weights_tasks = {}
    if weights and len(nodes) > 1:
        weights_tasks = {n: _start(on_node.weights, n, list(weights), fetch) for n in nodes}
    plugins = experiment.used_plugins()
    plugin_tasks = {n: _start(on_node.plugin_faults, n, plugins) for n in nodes if plugins}
    reports: dict[Node, Report] = {}
    try:
        probe.folder.mkdir(parents=True)
        probe.write(DRIVER)
        reports, unanswered = _reports(nodes, probe, experiment)
        problems = {n: storage_problem(n, probe, report) for n, report in reports.items()}
        faults += unanswered + node_faults.storage_faults(problems, experiment, source)
    except OSError as e:
        faults.append(Fault(source, "storage", f"got {experiment.storage}: {with_remedy(e)}"))
    finally:
        remove(probe)
    faults += node_faults.node_faults(reports, experiment, source)
    data_tasks = {(n, data): task for (n, data), task in data_tasks.items() if n in reports}
    faults += _data_faults(data_tasks, known, source)
    weights_tasks = {n: task for n, task in weights_tasks.items() if n in reports}
    faults += _weights_faults(weights_tasks, source)
    plugin_tasks = {n: task for n, task in plugin_tasks.items() if n in reports}
    faults += _plugin_faults(plugin_tasks, source)
    return Findings(reports, faults)


def faults_without_a_cluster(experiment: Experiment, source: str) -> list[Fault]:
    """The faults of the tracking server and of the data on this machine; does not use Ray."""
    return [*tracking_faults(experiment, source), *_data_faults({}, {experiment.data: ""}, source)]


def check_before_start(
    experiment: Experiment,
    source: str,
    known: Mapping[DatasetKind, str],
    weights: Sequence[Weights] = (),
) -> None:
    """Raise ConfigError with all faults, where the connected cluster has several nodes. The run
    waits later for nodes that have not joined yet. The publisher warns of the tracking server, on
    which no run depends."""
    if len(alive_nodes()) < 2:
        return
    faults = examine_cluster(experiment, source, known, weights, fetch=True).faults
    if faults:
        raise ConfigError(faults)


def alive_nodes() -> list[Node]:
    """The nodes of the connected cluster."""
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
    """The report of each node, its clock as the difference to the driver's; and a fault for each
    node that did not answer or could not run the task."""
    import ray

    hosts = sorted({n.host for n in nodes})
    gpus = bool(experiment.cluster.gpus_per_worker)
    began = time.time()
    waiting = {_start(on_node.examine, n, n.id, probe, hosts, gpus): n for n in nodes}
    reports = {}
    faults = []
    while waiting and time.time() - began < ANSWER_SECONDS:
        ready, _ = ray.wait(list(waiting), timeout=1.0)
        for task in ready:
            node = waiting.pop(task)
            try:
                reports[node] = ray.get(task)
            except Exception as e:
                faults.append(node_faults.cannot_run(node, e))
                continue
            now = time.time()  # the node read its clock between `began` and now
            reports[node].clock -= min(max(reports[node].clock, began), now)
    faults += [node_faults.no_answer(node, ANSWER_SECONDS) for node in waiting.values()]
    return reports, faults


def storage_problem(node: Node, probe: Probe, report: Report) -> str:
    """Why the driver and `node` do not share the storage: each has to see the other's file; empty
    where they do."""
    if report.storage:
        return report.storage
    with suppress(OSError):
        return "" if probe.read(node.id) == probe.id else "another file is there"
    return "what the node wrote there does not appear here"


def _data_faults(
    tasks: dict[tuple[Node, DatasetKind], Any], known: Mapping[DatasetKind, str], source: str
) -> Iterable[Fault]:
    import ray

    fingerprints = dict(known)
    for data in fingerprints:
        try:
            fingerprints[data] = fingerprints[data] or on_node.fingerprint(data)
        except (ValueError, OSError) as e:
            yield Fault(source, "data", str(e))
    _wait_for(tasks.values())
    for (node, data), task in tasks.items():
        try:
            fingerprint = ray.get(task, timeout=0.0)
        except Exception as e:
            yield node_faults.data_missing(node, e, source)
            continue
        if fingerprints[data] and fingerprint != fingerprints[data]:
            yield node_faults.data_differs(node, source)


def _weights_faults(tasks: Mapping[Node, Any], source: str) -> Iterable[Fault]:
    import ray

    _wait_for(tasks.values())
    for node, task in tasks.items():
        try:
            faults = ray.get(task, timeout=0.0)
        except Exception as e:
            yield Fault(source, "evaluation.weights", f"not ready on {node}: {first_line(e)}")
            continue
        for key, message in faults:
            yield Fault(source, key, f"on {node}: {message}")


def _wait_for(tasks: Collection[Any]) -> None:
    import ray

    if tasks:
        ray.wait(list(tasks), num_returns=len(tasks), timeout=DATA_SECONDS)


def _plugin_faults(tasks: Mapping[Node, Any], source: str) -> Iterable[Fault]:
    """A fault for each plugin that a node cannot import as this machine does."""
    import ray

    _wait_for(tasks.values())
    for node, task in tasks.items():
        try:
            problems = ray.get(task, timeout=0.0)
        except Exception as e:
            yield Fault(source, KEY, f"cannot be imported on {node}: {first_line(e)}")
            continue
        for text in problems:
            yield Fault(source, KEY, f"on {node}: {text}")


def remove(probe: Probe) -> None:
    """Remove a probe's folder, and the storage itself where it is empty then."""
    with suppress(OSError):
        probe.folder.clear()
        for folder in (probe.folder.parent, probe.folder.parent.parent):
            if isinstance(folder, Folder):
                folder.rmdir()  # the storage itself too, if it is empty

"""The CPUs and GPUs that workers need, against what this machine or the connected cluster has."""

from collections.abc import Iterator, Mapping

from orchestrator.cluster import autoscaler, local_ray, ray_internals
from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.fields.options import option
from orchestrator.host import machine
from orchestrator.settings.blocks import Cluster
from orchestrator.settings.experiment import Experiment


def check_this_machine(experiment: Experiment, source: str) -> list[str]:
    """Raise ConfigError where this machine lacks something for a run without a cluster; returns the
    warnings, one a line. Imports neither Ray nor, without GPUs, torch."""
    findings = inspect_this_machine(experiment, source)
    if findings.faults:
        raise ConfigError(findings.faults)
    return findings.warnings


def inspect_this_machine(experiment: Experiment, source: str) -> local_ray.Findings:
    """What this machine lacks for a run without a cluster: for Ray itself, and for the workers."""
    gpus = count_gpus() if experiment.cluster.gpus_per_worker else 0.0
    findings = local_ray.inspect_machine()
    findings.faults += resource_faults(experiment, source, float(machine.cpus()), gpus)
    return findings


def resource_faults(experiment: Experiment, source: str, cpus: float, gpus: float) -> list[Fault]:
    """A fault for the CPUs and one for the GPUs, where all workers together need more than there
    are."""
    remedy = f"lower it or cluster.workers, or give the {option('address')} of a cluster"
    return [
        Fault(source, f"cluster.{name.lower()}s_per_worker", f"{what}: {remedy}")
        for name, what in _too_few(experiment.cluster, {"CPU": cpus, "GPU": gpus})
    ]


def check_cluster(experiment: Experiment, source: str) -> None:
    """Raise ConfigError where Ray knows that the connected cluster cannot grow to what the workers
    need."""
    limit = _max_resources()
    if limit is None:
        return
    faults = resource_faults(experiment, source, limit["CPU"], limit["GPU"])
    if faults:
        raise ConfigError(faults)


def shortage(experiment: Experiment) -> str:
    """What the connected cluster lacks now, and which nodes are being launched; empty where it
    lacks nothing."""
    import ray

    lacking = [what for _, what in _too_few(experiment.cluster, ray.cluster_resources())]
    if not lacking:
        return ""
    launches = "; ".join(autoscaler.pending_nodes())
    if not launches:
        launches = "no autoscaler is launching one: see ray status"
    return f"waiting for nodes to join: {'; '.join(lacking)} ({launches})"


def available_resources() -> dict[str, float]:
    """The resources of the connected cluster, or, with an autoscaler, those that it may grow to."""
    import ray

    return {**ray.cluster_resources(), **(_max_resources() or {})}


def room(cluster: Cluster) -> int:
    """For how many workers the connected cluster has CPUs and GPUs, or may grow to them, if they
    were all free."""
    available = available_resources()
    counts = [available.get("CPU", 0.0) / cluster.cpus_per_worker]
    if cluster.gpus_per_worker:
        counts.append(available.get("GPU", 0.0) / cluster.gpus_per_worker)
    return int(min(counts) + 1e-9)


def _too_few(cluster: Cluster, available: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """CPU or GPU with a message, where all workers together need more of it than is available."""
    for name, per_worker in (("CPU", cluster.cpus_per_worker), ("GPU", cluster.gpus_per_worker)):
        needed = cluster.min_workers * per_worker
        number = available.get(name, 0.0)
        if needed > number:
            workers = f"{cluster.min_workers} workers of {per_worker:g} {name}s each"
            yield name, f"{workers} need {needed:g}, there are {number:g}"


def _max_resources() -> dict[str, float] | None:
    """The CPUs and GPUs that the cluster may grow to; None where its configuration sets no limit,
    as where `ray start` was typed on each machine."""
    import ray

    limit = ray_internals.max_resources()
    if limit is None:
        return None
    present = ray.cluster_resources()
    return {name: max(float(limit.get(name, 0)), present.get(name, 0.0)) for name in ("CPU", "GPU")}


def count_gpus() -> float:
    """How many CUDA devices this machine has."""
    import torch

    return float(torch.cuda.device_count())

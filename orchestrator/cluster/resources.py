"""The CPUs and GPUs that workers need, against what this machine or the connected cluster has."""

from collections.abc import Iterator, Mapping

from orchestrator.cluster import autoscaler, local_ray, ray_internals
from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.host import machine
from orchestrator.settings.blocks import Cluster
from orchestrator.settings.experiment import Experiment


def check_here(experiment: Experiment, source: str) -> list[str]:
    """Refuse what this machine cannot give to a run without a cluster; imports neither Ray nor,
    without GPUs, torch. Returns what may make trouble, a line each."""
    found = look_here(experiment, source)
    if found.faults:
        raise ConfigError(found.faults)
    return found.warnings


def look_here(experiment: Experiment, source: str) -> local_ray.Findings:
    """What this machine lacks for a run without a cluster: for Ray itself, and for the workers."""
    gpus = count_gpus() if experiment.cluster.gpus_per_worker else 0.0
    found = local_ray.look()
    found.faults += resource_faults(experiment, source, float(machine.cpus()), gpus)
    return found


def resource_faults(experiment: Experiment, source: str, cpus: float, gpus: float) -> list[Fault]:
    """A fault for each of CPUs and GPUs of which the workers together need more than there are."""
    remedy = "lower it or cluster.workers, or give --address of a cluster"
    return [
        Fault(source, f"cluster.{name.lower()}s_per_worker", f"{what}: {remedy}")
        for name, what in _too_few(experiment.cluster, {"CPU": cpus, "GPU": gpus})
    ]


def check_cluster(experiment: Experiment, source: str) -> None:
    """Raise ConfigError where Ray knows that the connected cluster cannot grow to what the workers
    need."""
    most = _most()
    if most is not None and (
        faults := resource_faults(experiment, source, most["CPU"], most["GPU"])
    ):
        raise ConfigError(faults)


def shortage(experiment: Experiment) -> str:
    """What the cluster that is connected lacks at the moment, and who is to bring it; empty where
    it lacks nothing."""
    import ray

    lacking = [what for _, what in _too_few(experiment.cluster, ray.cluster_resources())]
    if not lacking:
        return ""
    coming = (
        "; ".join(autoscaler.joining())
        or "the autoscaler starts none at the moment, if there is one: ray status"
    )
    return f"waiting for nodes to join: {'; '.join(lacking)} ({coming})"


def resources() -> dict[str, float]:
    """What the cluster that is connected has, or, where it grows by itself, may grow to."""
    import ray

    return {**ray.cluster_resources(), **(_most() or {})}


def _too_few(cluster: Cluster, there: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """CPU or GPU, and in words how many of it the workers need and are there, where these are
    fewer."""
    for name, each in (("CPU", cluster.cpus_per_worker), ("GPU", cluster.gpus_per_worker)):
        wanted, found = cluster.workers * each, there.get(name, 0.0)
        if wanted > found:
            yield (
                name,
                f"{cluster.workers} workers of {each:g} {name}s each need {wanted:g}, there are {found:g}",
            )


def _most() -> dict[str, float] | None:
    """The CPUs and GPUs that the cluster may grow to; None where nobody has told Ray, as on
    machines of one's own."""
    import ray

    limit, there = ray_internals.most_resources(), ray.cluster_resources()
    if limit is None:
        return None
    return {name: max(float(limit.get(name, 0)), there.get(name, 0.0)) for name in ("CPU", "GPU")}


def count_gpus() -> float:
    """How many CUDA devices this machine has."""
    import torch

    return float(torch.cuda.device_count())

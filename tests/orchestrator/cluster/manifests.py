"""The files of docs/kubernetes/, and what KubeRay and Kubernetes make of them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from commands import REPOSITORY

FOLDER = REPOSITORY / "docs" / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))


def documents(file: Path) -> list[dict[str, Any]]:
    """The resources of a file."""
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


def resource(kind: str, name: str) -> dict[str, Any]:
    """The one of this kind and name in all files."""
    (found,) = (
        each
        for file in FILES
        for each in documents(file)
        if (each["kind"], each["metadata"]["name"]) == (kind, name)
    )
    return found


def rayjob() -> dict[str, Any]:
    """The specification of the RayJob."""
    spec: dict[str, Any] = resource("RayJob", "nfe-sweep")["spec"]
    return spec


def groups() -> dict[str, dict[str, Any]]:
    """The groups of Ray's nodes: `head`, and the workers' by name."""
    cluster = rayjob()["rayClusterSpec"]
    workers = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"], **workers}


def templates() -> dict[str, dict[str, Any]]:
    """The pods of all files by name."""
    return {
        **{name: group["template"] for name, group in groups().items()},
        "submitter": rayjob()["submitterPodTemplate"],
        "tracking": resource("Deployment", "kacflow-tracking")["spec"]["template"],
    }


def container(template: dict[str, Any]) -> dict[str, Any]:
    """The only container of a pod."""
    (only,) = template["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def environment(template: dict[str, Any], secrets: dict[str, dict[str, str]]) -> dict[str, str]:
    """The variables that a container is given; `secrets` by name and key."""

    def value(variable: dict[str, Any]) -> str:
        if "value" in variable:
            return str(variable["value"])
        reference = variable["valueFrom"]["secretKeyRef"]
        return secrets[reference["name"]][reference["key"]]

    return {each["name"]: value(each) for each in container(template).get("env", [])}


def number_of_bytes(quantity: str) -> int:
    """Kubernetes' `8Gi` as a number."""
    number, unit = re.fullmatch(r"(\d+)(Ki|Mi|Gi|)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * 1024 ** ["", "Ki", "Mi", "Gi"].index(unit)


def ray_start(group: dict[str, Any], address: str, **params: object) -> list[str]:
    """The command with which KubeRay starts a node: rayStartParams, and what it adds to them. With
    an `address` a worker, without one the head. `params` replace what two nodes of one machine
    cannot both have."""
    limits = container(group["template"])["resources"]["limits"]
    known = {
        "num-cpus": limits["cpu"],
        "memory": number_of_bytes(limits["memory"]),
        "dashboard-agent-listen-port": 52365,
        "metrics-export-port": 8080,
    }
    if "nvidia.com/gpu" in limits:
        known["num-gpus"] = limits["nvidia.com/gpu"]
    if address:
        known["address"] = address
    else:
        known["dashboard-host"] = "0.0.0.0"
    merged = {**known, **group["rayStartParams"], **params}
    head = (
        [] if address else ["--head", "--no-monitor"]
    )  # the autoscaler has a container of its own
    return ["ray", "start", *head, "--block", *(f"--{k}={v}" for k, v in merged.items())]


def submission(entrypoint: str, address: str, name: str) -> list[str]:
    """The command of the submitting pod: it waits for the dashboard, and submits nothing twice."""
    at = f"--address {address}"
    return [
        "/bin/bash",
        "-ce",
        "--",
        f"if ! ray job status {at} {name} >/dev/null 2>&1 ; then ray job submit {at} --no-wait --submission-id {name} "
        f"-- {entrypoint} ; fi ; ray job logs {at} --follow {name}",
    ]


def references(template: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a pod needs of the namespace: kind and name."""
    for volume in template["spec"].get("volumes", []):
        if claim := volume.get("persistentVolumeClaim"):
            yield "PersistentVolumeClaim", claim["claimName"]
    for variable in container(template).get("env", []):
        if "valueFrom" in variable:
            yield "Secret", variable["valueFrom"]["secretKeyRef"]["name"]

"""The files of docs/kubernetes/ against the schemas of Kubernetes and KubeRay, and against each
other and the project."""

import copy
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import manifests
import pytest
from commands import REPOSITORY
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from orchestrator.settings import loading

SCHEMAS = Path(__file__).parent / "schemas"
KINDS = {
    "RayJob": "rayjob",
    "Deployment": "kubernetes#/$defs/io.k8s.api.apps.v1.Deployment",
    "PersistentVolumeClaim": "kubernetes#/$defs/io.k8s.api.core.v1.PersistentVolumeClaim",
    "Service": "kubernetes#/$defs/io.k8s.api.core.v1.Service",
}
DOCKERFILE = (REPOSITORY / "orchestrator" / "machines" / "Dockerfile").read_text()
LONGEST_NAME = 47  # of a RayJob: names of its pods are made of it


def faults(document: dict[str, Any]) -> list[str]:
    """What the schema of its kind says against a resource."""
    schemas = [json.loads(file.read_text()) for file in SCHEMAS.glob("*.json")]
    registry = Registry().with_resources(  # type: ignore[var-annotated]
        (schema["$id"], Resource.from_contents(schema)) for schema in schemas
    )
    checked = Draft202012Validator({"$ref": KINDS[document["kind"]]}, registry=registry)
    return [f"{fault.json_path}: {fault.message}" for fault in checked.iter_errors(document)]


@pytest.mark.parametrize("file", manifests.FILES, ids=lambda file: file.name)
def test_every_resource_has_the_form_that_its_kind_has(file):
    for document in manifests.documents(file):
        assert faults(document) == []


def misspell(spec: dict[str, Any]) -> None:
    spec["shutdownAfterJobFinished"] = True


def unknown_in_a_pod(spec: dict[str, Any]) -> None:
    spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["volume"] = []


def number_for_text(spec: dict[str, Any]) -> None:
    spec["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0


def unknown_mode(spec: dict[str, Any]) -> None:
    spec["rayClusterSpec"]["authOptions"]["mode"] = "password"


def no_bounds(spec: dict[str, Any]) -> None:
    del spec["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (misspell, "'shutdownAfterJobFinished' was unexpected"),
        (unknown_in_a_pod, "'volume' was unexpected"),
        (number_for_text, "0 is not of type 'string'"),
        (unknown_mode, "'password' is not one of"),
        (no_bounds, "'maxReplicas' is a required property"),
    ],
)
def test_the_schema_refuses_what_kuberay_refuses(
    spoil: Callable[[dict[str, Any]], None], message: str
):
    document = copy.deepcopy(manifests.resource("RayJob", "nfe-sweep"))
    spoil(document["spec"])
    assert any(message in fault for fault in faults(document))


def test_the_job_ends_by_itself():
    spec = manifests.rayjob()
    assert spec["shutdownAfterJobFinishes"] and spec["activeDeadlineSeconds"] > 0
    assert spec["ttlSecondsAfterFinished"] > 0 and spec["backoffLimit"] > 0
    assert len(manifests.resource("RayJob", "nfe-sweep")["metadata"]["name"]) <= LONGEST_NAME


def test_the_cluster_has_the_version_of_ray_that_the_image_has_and_a_token():
    (ray,) = re.findall(r"^ray==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    cluster = manifests.rayjob()["rayClusterSpec"]
    assert cluster["rayVersion"] == ray
    assert cluster["authOptions"] == {"mode": "token"}


def test_the_entrypoint_is_a_sweep_that_the_settings_accept():
    words = manifests.rayjob()["entrypoint"].split()
    assert words[:3] == ["python", "-m", "orchestrator.sweep"]
    assert "COPY experiments experiments" in DOCKERFILE and "WORKDIR /work" in DOCKERFILE
    overrides = [value for option, value in pairwise(words) if option == "--set"]
    experiment = loading.load(REPOSITORY / words[3], overrides)
    (runs,) = (
        mount["mountPath"]
        for mount in manifests.container(manifests.templates()["head"])["volumeMounts"]
        if mount["name"] == "runs"
    )
    assert str(experiment.storage) == runs
    assert experiment.cluster.gpus_per_worker == 1


def test_the_tracking_server_answers_at_the_name_that_the_entrypoint_has():
    (uri,) = re.findall(r"tracking\.uri=(\S+)", manifests.rayjob()["entrypoint"])
    service = manifests.resource("Service", urlsplit(uri).hostname or "")
    template = manifests.templates()["tracking"]
    server = manifests.container(template)
    assert service["spec"]["selector"] == template["metadata"]["labels"]
    (port,) = service["spec"]["ports"]
    (own,) = server["ports"]
    assert port["port"] == urlsplit(uri).port and port["targetPort"] == own["name"]
    assert f"--port={own['containerPort']}" in server["args"]
    (allowed,) = (word for word in server["args"] if word.startswith("--allowed-hosts="))
    assert urlsplit(uri).netloc in allowed.partition("=")[2].split(",")


def test_pods_need_nothing_that_the_page_does_not_have_one_make():
    page = (REPOSITORY / "docs" / "kubernetes.md").read_text()
    for template in manifests.templates().values():
        for kind, name in manifests.references(template):
            if kind == "Secret":
                assert f"kubectl create secret generic {name}" in page
            else:
                manifests.resource(kind, name)
        mounts = {each["name"] for each in manifests.container(template)["volumeMounts"]}
        assert mounts == {volume["name"] for volume in template["spec"]["volumes"]}


def test_every_pod_meets_the_restricted_standard_and_writes_only_to_its_volumes():
    for template in manifests.templates().values():
        pod = template["spec"]["securityContext"]
        assert pod["runAsNonRoot"] and pod["runAsUser"] > 0
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        own = manifests.container(template)["securityContext"]
        assert own["allowPrivilegeEscalation"] is False and own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}


def test_nodes_have_limits_of_whole_cpus_and_enough_memory():
    """KubeRay starts each node with the limits of its container."""
    for group in manifests.groups().values():
        limits = manifests.container(group["template"])["resources"]["limits"]
        assert int(limits["cpu"]) > 0
        assert manifests.number_of_bytes(limits["memory"]) > 2 * 10**9

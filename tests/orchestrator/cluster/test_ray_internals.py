"""What of Ray and MLflow is private and relied on all the same: an upgrade that takes it away fails
here first."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import REPOSITORY

from orchestrator.cluster import ray_internals

RAYS = "orchestrator/cluster/ray_internals.py"
MLFLOWS = {  # the only file that imports private names of MLflow's, and which
    "orchestrator/tracking/database.py": {
        "mlflow.store.db.utils._get_latest_schema_revision",
        "mlflow.store.db.utils._upgrade_db",
        "mlflow.store.db.utils._get_alembic_config",
    }
}
FILES = sorted(
    str(path.relative_to(REPOSITORY))
    for package in ("orchestrator", "kaccore", "benchmarks")
    for path in (REPOSITORY / package).rglob("*.py")
)


def private(name: str) -> bool:
    """Whether a dotted name of Ray's or MLflow's is none that they make public."""
    parts = name.split(".")
    return parts[0] in ("ray", "mlflow") and any(
        p.startswith("_") and not p.startswith("__") for p in parts
    )


def imported(file: str) -> Iterator[str]:
    """All that a file imports, by whole names."""
    for node in ast.walk(ast.parse((REPOSITORY / file).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_ray_has_every_private_name_that_is_relied_on():
    assert ray_internals.missing() == []


def test_a_name_that_ray_no_longer_has_is_told_with_what_needed_it(monkeypatch):
    wanted = {
        "ray._private.nowhere:x": "nothing",
        "ray._private.worker:get_dashboard": "dashboard_url",
    }
    monkeypatch.setattr(ray_internals, "NEEDED", wanted)
    one, other = ray_internals.missing()
    assert "has no ray._private.nowhere.x, needed for nothing" in one
    assert "has no ray._private.worker.get_dashboard, needed for dashboard_url" in other


@pytest.mark.parametrize(("file", "names"), MLFLOWS.items())
def test_mlflow_has_every_private_name_that_is_relied_on(file, names):
    assert {name for name in imported(file) if private(name)} == names
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), (
            f"MLflow has no {name}, which {file} needs"
        )


def test_private_names_are_imported_in_one_file_alone_and_each_is_listed_there():
    found = {file: {name for name in imported(file) if private(name)} for file in FILES}
    assert {file for file, names in found.items() if names} == {RAYS, *MLFLOWS}
    listed = {entry.replace(":", ".") for entry in ray_internals.NEEDED}
    listed_modules = {entry.partition(":")[0] for entry in ray_internals.NEEDED}
    assert {
        name
        for name in found[RAYS]
        if name not in listed_modules
        and not any(entry == name or entry.startswith(f"{name}.") for entry in listed)
    } == set()
    assert set(ray_internals.TRAIN.values()) <= listed_modules


def test_no_file_reaches_for_rays_private_modules_by_text():
    for file in FILES:
        if file != RAYS:
            text = Path(REPOSITORY / file).read_text()
            assert "ray._private" not in text and "ray.train.v2._internal" not in text, file


def test_patches_are_undone():
    from ray._private.parameter import RayParams
    from ray.air._internal import usage

    before = RayParams.__init__, usage.tag_callbacks
    with ray_internals.any_agent_port(), ray_internals.uncounted_callbacks():
        assert (RayParams.__init__, usage.tag_callbacks) != before
    assert (RayParams.__init__, usage.tag_callbacks) == before

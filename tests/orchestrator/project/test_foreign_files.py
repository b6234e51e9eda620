"""What somebody else has made, a checkpoint, an experiment, a result, cannot run code here."""

import ast
import json
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import REPOSITORY

from kaccore.checkpoint import load_checkpoint, save_checkpoint
from kaccore.files import CorruptFileError, file_sha256, write_json
from orchestrator import sample
from orchestrator.fields.faults import ConfigError
from orchestrator.plan.stage import Stage
from orchestrator.settings import loading
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.sweeps.records import Records
from orchestrator.work import building

RUN_CODE = {
    "pickle.load", "pickle.loads", "cloudpickle.load", "cloudpickle.loads", "joblib.load", "torch.load", "yaml.load",
    "yaml.unsafe_load", "mlflow.pyfunc.load_model", "mlflow.pytorch.load_model", "eval", "exec",
}  # fmt: skip
OWN = {
    # a trial, for a coordinator of the run that wrote it
    "orchestrator/execution/searcher.py: pickle.loads",
    "orchestrator/fields/plugins.py: exec",  # a plugin that the experiment names
}


class Bomb:
    """Makes the folder `made` when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.made),)


@pytest.fixture
def exploded(tmp_path: Path) -> Path:
    return tmp_path / "exploded"


@pytest.fixture
def bomb(exploded: Path) -> bytes:
    content = pickle.dumps(Bomb(exploded))
    pickle.loads(content)
    assert exploded.exists()  # it is a real one
    exploded.rmdir()
    return content


@pytest.fixture
def foreign(fabricated_sweep: Records, tmp_path: Path, bomb: bytes) -> tuple[Store, Stage]:
    """A store whose best student is a bomb, with the right checksum in its manifest."""
    store = Store(shutil.copytree(fabricated_sweep.store.root, tmp_path / "store"))
    stage = next(s for s in fabricated_sweep.plan.stages() if s.kind == "teacher")
    result = store.result(stage.key)
    path, manifest = result.path("model.safetensors"), result.manifest
    path.write_bytes(bomb)
    manifest["files"]["model.safetensors"] = {"sha256": file_sha256(path), "bytes": len(bomb)}
    write_json(result.path("manifest.json"), manifest)
    return store, stage


def calls(tree: ast.AST) -> Iterator[str]:
    """The dotted names of everything that is called by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
            if given.get("allow_pickle", False) is not False:
                yield "allow_pickle"
            name = ast.unparse(node.func)
            if (
                name != "torch.load" or given.get("weights_only") is not True
            ):  # so torch reads tensors and runs nothing
                yield name


def test_nothing_here_calls_what_runs_the_code_of_a_file():
    found = {
        f"{path.relative_to(REPOSITORY)}: {name}"
        for package in ("kaccore", "orchestrator")
        for path in (REPOSITORY / package).rglob("*.py")
        for name in calls(ast.parse(path.read_text()))
        if name in RUN_CODE | {"allow_pickle"}
    }
    assert found == OWN


def test_a_pickle_in_the_place_of_weights_is_refused_and_does_not_run(foreign, exploded):
    store, stage = foreign
    with pytest.raises(CorruptFileError, match="not a whole safetensors file"):
        building.averaged(store, stage)
    assert not exploded.exists()


def test_sampling_from_somebody_elses_store_runs_none_of_it(foreign, exploded, tmp_path, capsys):
    store, stage = foreign
    status = sample.main(
        [str(store.root / "stages" / stage.key), "--count", "1", "--out", str(tmp_path / "x.png")]
    )
    assert status == 2
    assert "not a whole safetensors file" in capsys.readouterr().err
    assert not exploded.exists()


def test_a_pickle_in_the_place_of_a_checkpoint_is_refused_and_does_not_run(
    tmp_path, bomb, exploded
):
    described = save_checkpoint(tmp_path / "checkpoints", {}, {"step": 1})
    described.with_suffix(".safetensors").write_bytes(bomb)
    with pytest.raises(CorruptFileError):
        load_checkpoint(described)
    described.write_bytes(bomb)
    with pytest.raises(CorruptFileError):
        load_checkpoint(described)
    assert not exploded.exists()


def test_an_experiment_that_names_python_objects_is_refused_and_runs_nothing(tmp_path, exploded):
    (tmp_path / "x.yaml").write_text(f"name: !!python/object/apply:os.mkdir ['{exploded}']\n")
    with pytest.raises(ConfigError):
        loading.load(tmp_path / "x.yaml")
    assert not exploded.exists()


def test_a_sweeps_folder_of_somebody_else_with_a_bomb_for_each_file_runs_nothing(
    tmp_path, bomb, exploded
):
    for name in ("plan.json", "config.yaml", "trials.json"):
        (tmp_path / name).write_bytes(bomb)
    with pytest.raises(ConfigError):
        opening.records_of(tmp_path)
    assert not exploded.exists()


def test_samples_of_somebody_else_are_arrays_or_nothing(tmp_path, exploded):
    np.savez(tmp_path / "samples.npz", images=np.array([Bomb(exploded)], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        np.load(tmp_path / "samples.npz")["images"]
    assert json.dumps(sorted(p.name for p in tmp_path.iterdir())) == '["samples.npz"]'

"""The folder that a served network is read from, for every kind of network and without a server."""

from pathlib import Path
from typing import Any

import fabricated
import numpy as np
import pytest

from kaccore.files import CorruptFileError
from orchestrator import sample
from orchestrator.store import network_folder
from orchestrator.store.store import Store
from orchestrator.work import network_sampler

GRID9 = {
    "data": {"name": "grid9"},
    "model": {"kind": "mlp", "channels": 8, "depth": 1},
    "evaluation": {"samples": 40, "metrics": ["w2"], "diagnostics": []},
}
TEACHER = {"sampling": {"model": "teacher", "steps": 3, "solver": "heun", "guidance": 1.5}}
EXPONENTIAL = {"path": {"kind": "kac", "signal": "exponential"}}
CONSISTENCY = {
    "distill": {
        "kind": "consistency",
        "intervals": [2],
        "teacher_steps": 4,
        "steps": 20,
        "batch_size": 16,
    }
}


def written(root: Path, **settings: Any) -> Path:
    """A folder of the network of an experiment with these settings, made in a store with nothing
    else."""
    trial = fabricated.chain(root, **settings)
    last = trial.chain[-1]
    result = Store(root / "runs").result(last.key)
    network_folder.write(root / "network", trial.config, last, result, result.manifest["data"])
    return root / "network"


def by_command(root: Path, *arguments: str) -> np.ndarray:
    """What the sampling command draws from the same store."""
    assert sample.main([str(root / "x.yaml"), *arguments, "--out", str(root / "x.npz")]) == 0
    with np.load(root / "x.npz") as archive:
        return archive[archive.files[0]].astype(float)


@pytest.mark.parametrize("settings, steps", [
    ({}, 1),
    (TEACHER, 3),
    (TEACHER, 2),
    (CONSISTENCY, 3),
    (EXPONENTIAL, 1),
    (GRID9, 1),
], ids=["student", "teacher", "teacher, other steps", "consistency", "prior of data", "points"])  # fmt: skip
def test_every_kind_of_network_draws_what_the_sampling_command_draws(tmp_path, settings, steps):
    sampler = network_sampler.NetworkSampler(written(tmp_path, **settings))
    said = sampler.draw({"count": 5, "seed": 3, "steps": steps, "labels": [3, 1]})
    expected = by_command(
        tmp_path, "--count", "5", "--seed", "3", "--steps", str(steps), "--labels", "3,1"
    )
    assert (np.array(said.get("images", said.get("points"))) == expected).all()


@pytest.mark.parametrize("settings, steps, words", [
    ({}, 2, "steps: got 2, but this is student 1: expected 1"),
    ({}, 0, "steps: got 0, expected a whole number"),
    ({}, 1.5, "steps: got 1.5, expected a whole number"),
    (CONSISTENCY, 5, "steps: got 5, but this is student consistency: expected one of 1, 2, 3, 4"),
])  # fmt: skip
def test_steps_that_a_student_has_not_learned_are_refused(tmp_path, settings, steps, words):
    sampler = network_sampler.NetworkSampler(written(tmp_path, **settings))
    with pytest.raises(network_sampler.RequestError, match=words):
        sampler.draw({"steps": steps})


def test_without_labels_classes_come_in_turn(tmp_path):
    sampler = network_sampler.NetworkSampler(written(tmp_path))
    assert sampler.draw({"count": 12}) == sampler.draw({"count": 12, "labels": [*range(10)]})


def test_labels_for_a_network_that_knows_none_and_unknown_fields_are_refused(tmp_path):
    unlabelled = {"teacher": {"steps": 20, "batch_size": 16, "label_dropout": None}}
    sampler = network_sampler.NetworkSampler(written(tmp_path, **unlabelled))
    assert len(sampler.draw({"count": 3})["images"]) == 3
    with pytest.raises(network_sampler.RequestError, match="labels"):
        sampler.draw({"labels": [1]})
    with pytest.raises(
        network_sampler.RequestError, match="stepz: unknown field, expected some of count, seed"
    ):
        sampler.draw({"stepz": 1})


def test_a_damaged_network_and_one_of_another_version_are_refused(tmp_path):
    folder = written(tmp_path)
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"model\.safetensors"):
        network_sampler.NetworkSampler(folder)
    (folder / "config.yaml").write_text(
        (folder / "config.yaml").read_text().replace("damping: 25.0", "damping: 24.0")
    )
    with pytest.raises(ValueError, match="another version"):
        network_sampler.NetworkSampler(folder)


def test_nothing_but_the_folder_is_read(tmp_path):
    folder = written(tmp_path)
    expected = network_sampler.NetworkSampler(folder).draw({"count": 2})
    (tmp_path / "runs").rename(tmp_path / "gone")
    assert (
        network_sampler.NetworkSampler(folder.rename(tmp_path / "elsewhere")).draw({"count": 2})
        == expected
    )

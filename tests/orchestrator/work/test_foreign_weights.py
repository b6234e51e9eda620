"""A teacher whose weights were trained elsewhere."""

import hashlib
from pathlib import Path
from typing import Any

import in_process
import pytest
import torch
from commands import everything_below

from kaccore.data import load
from orchestrator import sweep
from orchestrator.fields.faults import ConfigError
from orchestrator.plan.plan import Plan
from orchestrator.settings import loading
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.work import building, foreign_weights

pytestmark = pytest.mark.usefixtures("quick_measures")
SETTINGS: dict[str, Any] = {
    "name": "x",
    "data": {"name": "digits"},
    "path": {"kind": "flow_matching", "width": 1.0},
    "model": {"channels": 8, "multipliers": [1], "patch": 4},
    "distill": {
        "intervals": [2],
        "teacher_steps": 4,
        "steps": 4,
        "batch_size": 16,
    },
    "sampling": {"steps": 2},
    "evaluation": {"samples": 20, "diagnostics": ["gap"]},
}
GIVEN = {"weights": "theirs.pt", "weights_names": {"ema_model.": ""}}


def planned(teacher: dict[str, Any], goal: str = "evaluation", **blocks: Any) -> Plan:
    experiment = loading.build({**SETTINGS, "teacher": teacher, **blocks}, {})
    return opening.make_plan(experiment, "x.yaml", goal)


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Weights that another project has trained, in theirs.pt of an empty folder."""
    monkeypatch.chdir(tmp_path)
    (trial,) = planned({}).trials
    network = building.network(trial.chain[0], load("digits"))
    torch.manual_seed(1)
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.05)
    tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    file = {"ema_model": tensors, "net_model": {"a": torch.ones(2)}, "step": 9}
    torch.save(file, "theirs.pt")
    return tensors


def put(plan: Plan, root: Path) -> list[str]:
    given = foreign_weights.read(plan.trials, Store(root), "x.yaml")
    for each in given:
        each.put(Store(root))
    return [each.note() for each in given]


def test_it_is_the_teacher_and_is_distilled_and_measured(theirs, tmp_path):
    plan, root = planned({**GIVEN, "calibrate": True}), tmp_path / "runs"
    (trial,) = plan.trials
    assert put(plan, root) == [
        f"teacher.weights: {len(theirs)} tensors of theirs.pt, 1 others left out"
    ]
    Path("theirs.pt").unlink()  # the store has what workers need
    assert put(plan, root) == []
    metrics, _ = in_process.run_trial(trial, root)
    assert metrics["fid"] > 0
    teacher = trial.chain[0]
    result = Store(root).result(teacher.key)
    tensors = result.tensors("model.safetensors")
    assert all(torch.equal(tensors[name], theirs[name]) for name in theirs)
    assert "tone.inputs" in tensors and result.json("losses.json") == []
    assert not list((root / "weights").glob("*"))
    assert put(plan, root) == []


def test_its_key_is_of_the_weights_and_of_nothing_that_concerns_training(theirs):
    def key(teacher: dict[str, Any]) -> str:
        return planned({**GIVEN, **teacher}).trials[0].chain[0].key

    digest = hashlib.sha256(Path("theirs.pt").read_bytes()).hexdigest()
    same = [{}, {"steps": 7, "lr": 0.5, "logit_normal": [0.0, 1.0]}, {"weights_sha256": digest}]
    assert len({key(teacher) for teacher in same}) == 1
    other = [{"weights_names": {"net_model.": ""}}, {"label_dropout": None}, {"calibrate": True}]
    assert len({key(teacher) for teacher in [{}, *other]}) == 4
    torch.save({"ema_model": {}}, "theirs.pt")
    assert key({}) not in {key({"weights_sha256": digest})}


def test_what_is_stored_says_which_weights_were_meant(theirs):
    digest = hashlib.sha256(Path("theirs.pt").read_bytes()).hexdigest()
    experiment = planned(GIVEN).experiment
    assert experiment.teacher.weights_sha256 == digest
    Path("theirs.pt").unlink()
    Path("stored.yaml").write_text(experiment.to_yaml())
    assert loading.load("stored.yaml").teacher.weights_sha256 == digest


def test_a_dry_run_says_what_is_read_and_writes_nothing(theirs, capsys):
    experiment = loading.build({**SETTINGS, "teacher": GIVEN}, {})
    Path("x.yaml").write_text(experiment.to_yaml())
    before = everything_below(Path())
    assert sweep.main(["x.yaml", "--dry-run", "--set", "sweep={space: {seed: {grid: [0]}}}"]) == 0
    said = capsys.readouterr().out
    assert "teacher.weights: " in said and "1 others left out" in said
    assert everything_below(Path()) == before


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"weights_names": {}}, r"teacher.weights_names: theirs.pt does not fit .*it lacks .*; has no place for "),
        ({"weights_names": {"net_model.": ""}}, r"other tensors are left out"),
        ({"weights_sha256": "0" * 64}, r"teacher.weights_sha256: got 0000.*, but that of theirs.pt is "),
        ({"weights": "x.bin"}, r"teacher.weights: got x.bin: expected a file that ends with .safetensors"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused_before_anything_starts(theirs, teacher, message):
    Path("x.bin").write_bytes(b"")
    plan = planned({**GIVEN, **teacher})
    with pytest.raises(ConfigError, match=message):
        foreign_weights.read(plan.trials, Store("runs"), "x.yaml")
    assert not Path("runs").exists()


def test_weights_of_another_size_are_refused(theirs):
    plan = planned(GIVEN, model={"channels": 12, "multipliers": [1], "patch": 4})
    with pytest.raises(
        ConfigError, match=r"has another shape of \"embed.hidden.weight \(32, 8\) for"
    ):
        foreign_weights.read(plan.trials, Store("runs"), "x.yaml")


@pytest.mark.parametrize(
    ("teacher", "blocks", "message"),
    [
        ({"weights": "none.pt"}, {}, r"teacher.weights: got \"none.pt\", which cannot be read \(No such file"),
        ({"weights": None, "weights_sha256": "0" * 64}, {}, r"teacher.weights_sha256: got a checksum, expected null"),
        ({"weights": None}, {}, r"teacher.weights_names: got names, expected \{\}"),
        ({"averages": [0.9]}, {}, r"teacher.averages: got \[0.9\], expected \[\]: teacher.weights is not trained"),
        ({"augment": 0.1}, {}, r"teacher.augment: got 0.1, expected 0"),
        ({}, {"evaluation": {"every": 10}}, r"evaluation.every: got 10, expected null"),
        ({}, {"sweep": {"space": {"teacher.weights": {"grid": ["a.pt", "b.pt"]}}}}, r"teacher.weights cannot be swept"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(theirs, teacher, blocks, message):
    with pytest.raises(ConfigError, match=message):
        planned({**GIVEN, **teacher}, **blocks)

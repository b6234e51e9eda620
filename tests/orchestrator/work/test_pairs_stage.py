"""Pairs as a stage of their own, and the students that learn on them."""

import shutil
from pathlib import Path

import in_process
import pytest
import torch

from kaccore.sampling import sample
from orchestrator.plan import data as dataset_info
from orchestrator.plan.plan import Trial
from orchestrator.settings import loading
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.work import building, pairs
from orchestrator.work.forecast import forecast

pytestmark = pytest.mark.usefixtures("quick_measures")
SETTINGS = {
    "name": "x",
    "data": {"name": "digits"},
    "path": {"kind": "kac"},
    "model": {"channels": 8, "multipliers": [1], "patch": 4},
    "teacher": {"steps": 6, "batch_size": 16},
    "distill": {"kind": "adversarial", "intervals": [2, 1], "steps": 4, "batch_size": 16,
                "pairs": 40, "teacher_steps": 2},
    "sampling": {"steps": 1},
    "evaluation": {"samples": 20, "diagnostics": ["gap"]},
}  # fmt: skip


def trial_of(**distill: object) -> Trial:
    settings = {**SETTINGS, "distill": {**SETTINGS["distill"], **distill}}
    return opening.make_plan(loading.parse(settings), "x.yaml").trials[0]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trial, Path, dict[str, object]]:
    """A trial whose chain has pairs, in a store."""
    root = tmp_path_factory.mktemp("pairs") / "runs"
    trial = trial_of()
    metrics, _ = in_process.run_trial(trial, root)
    return trial, root, metrics


def test_the_chain_draws_pairs_once_for_all_students(done):
    trial, _, metrics = done
    assert [stage.kind for stage in trial.chain] == ["teacher", "pairs", "student", "student"]
    teacher, drawn, two, one = trial.chain
    assert two.parents == (teacher, drawn) and two.start is teacher
    assert one.parents == (teacher, two, drawn) and one.start is two
    assert metrics["nfe"] == 1 and metrics["fid"] > 0 and "gap_at_ends" in metrics


def test_the_ends_are_where_the_teacher_arrives_with_labels_in_the_datas_proportion(done):
    trial, root, _ = done
    teacher, drawn, *_ = trial.chain
    store, data = Store(root), dataset_info.images(trial.config.data)
    kept = pairs.read(drawn, store)
    network = building.trained(store, teacher, data)
    again = sample(
        network, building.path(teacher, data), (40, 1, 8, 8), solver="ab2", steps=2,
        seed=kept.seed, labels=kept.labels,
    )  # fmt: skip
    assert torch.equal(kept.ends, again.images)
    assert set(kept.labels.tolist()) <= set(range(10))


def test_an_interrupted_drawing_goes_on_with_the_parts_that_are_there(done, tmp_path, monkeypatch):
    trial, root, _ = done
    _, drawn, *_ = trial.chain
    shutil.copytree(root, tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs" / "stages" / drawn.key)
    monkeypatch.setattr(pairs, "IMAGES_PER_PART", 16)
    calls = []

    def spied(stage, network, data, indices, labels, drawn_by=pairs._ends):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(indices)
        return drawn_by(stage, network, data, indices, labels)

    monkeypatch.setattr(pairs, "_ends", spied)
    with pytest.raises(KeyboardInterrupt):
        in_process.train((drawn,), trial.config.data, tmp_path / "runs")
    damaged = tmp_path / "runs" / "work" / drawn.key / "parts" / "000000000.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    monkeypatch.setattr(
        pairs, "_ends", lambda *a, by=spied.__defaults__[0]: calls.append(a[3]) or by(*a)
    )
    in_process.train((drawn,), trial.config.data, tmp_path / "runs")
    assert [r.start for r in calls] == [0, 16, 0, 32]  # the damaged part, and the missing one
    before = pairs.read(drawn, Store(root))
    after = pairs.read(drawn, Store(tmp_path / "runs"))
    assert torch.equal(before.ends, after.ends) and torch.equal(before.labels, after.labels)


def test_kinds_and_settings_that_make_the_same_pairs_share_them():
    _, drawn, *_ = trial_of().chain
    assert trial_of(kind="pairs", huber=None).chain[1].key == drawn.key
    assert trial_of(weight=0.5, gamma=0.1).chain[1].key == drawn.key
    for other in ({"pairs": 41}, {"teacher_steps": 3}, {"teacher_solver": "euler"}):
        assert trial_of(**other).chain[1].key != drawn.key


def test_new_pairs_in_each_step_need_no_stage(tmp_path):
    trial = trial_of(pairs=None)
    assert [stage.kind for stage in trial.chain] == ["teacher", "student", "student"]
    assert trial.chain[1].student.substeps == 2
    metrics, _ = in_process.run_trial(trial, tmp_path / "runs")
    assert metrics["nfe"] == 1


def test_the_forecast_counts_the_drawing(tmp_path):
    few = trial_of(pairs=10)
    plan = opening.make_plan(
        loading.parse({**SETTINGS, "distill": {**SETTINGS["distill"], "pairs": 10**9}}), "x"
    )
    assert few.chain[1].pairs_spec.pairs.count == 10
    assert forecast(plan, Store(tmp_path / "runs"), 1).seconds > 3600


def test_a_latest_time_of_zero_is_refused():
    with pytest.raises(Exception, match=r"distill.latest: got 0, expected > 0 and <= 1"):
        trial_of(latest=0.0)

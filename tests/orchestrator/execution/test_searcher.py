"""How trials are handed to a real Ray Tune."""

import os
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from commands import own_environment
from made_up import made, plan

from orchestrator.cluster import connection
from orchestrator.execution.searcher import Budget
from orchestrator.execution.trials import run_trials
from orchestrator.store.store import Store
from orchestrator.sweeps.records import Records
from orchestrator.work.training_log import tell


@pytest.mark.system
def test_trials_with_nothing_to_do_share_a_few_processes(tmp_path):
    records = made(tmp_path, plan({"sampling.steps": list(range(1, 41))}))
    records.update_all(lambda _, ending: replace(ending, status="waiting"))
    with patch.dict(os.environ, own_environment(), clear=True):
        connection.connect(None)
        import ray

        logs = Path(ray._private.worker._global_node.get_logs_dir_path())
        run_trials(records, None, lambda: None)
    assert [ending.status for ending in records.endings] == ["done"] * 40
    assert len(list(logs.glob("python-core-worker-*.log"))) <= 10


def test_the_core_hours_of_a_group_are_those_of_the_workers_that_it_had(tmp_path):
    planned = plan(
        {"teacher.lr": [1.0e-3]},
        cluster={"workers": {"min": 1, "max": 4}},
        sweep={"max_core_hours": 2.0},
    )
    records = Records(planned, Store(tmp_path))
    budget, teacher = Budget(records), planned.trials[0].chain[0]
    store = records.store
    tell(store.work(teacher.key), {"seconds": 2401.0})  # unfinished: at most four
    budget.count(planned.trials[0])
    assert budget.used_up() == "sweep.max_core_hours: 2 core hours are used up"
    store.publish(teacher, store.gather(teacher), 2401.0, workers=1.5)
    budget.count(planned.trials[0])
    assert budget.used_up() == ""


def test_what_a_stopped_trial_has_computed_counts_in_the_budget(tmp_path):
    planned = plan({"teacher.lr": [1.0e-3, 2.0e-3]}, sweep={"max_core_hours": 1.0})
    records = Records(planned, Store(tmp_path))
    budget, teacher = Budget(records), planned.trials[0].chain[0]
    tell(records.store.work(teacher.key), {"seconds": 3599.0})
    budget.count(planned.trials[0])
    assert budget.used_up() == ""
    tell(records.store.work(teacher.key), {"seconds": 3601.0})  # another trial went on with it
    budget.count(planned.trials[0])
    assert budget.used_up() == "sweep.max_core_hours: 1 core hours are used up"

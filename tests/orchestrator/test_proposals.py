"""How trials are handed to a real Ray Tune."""

import os
from pathlib import Path
from unittest.mock import patch

from commands import own_environment
from made_up import made, plan

from orchestrator import cluster
from orchestrator.publisher import Publisher
from orchestrator.runner import run_trials


def test_trials_with_nothing_to_do_share_a_few_processes(tmp_path):
    records = made(tmp_path, plan({"sampling.steps": list(range(1, 41))}))
    for ending in records.endings:
        ending.status = "waiting"
    with patch.dict(os.environ, own_environment(), clear=True):
        cluster.connect(None)
        import ray

        logs = Path(ray._private.worker._global_node.get_logs_dir_path())
        run_trials(records, None, Publisher(records))
    assert [ending.status for ending in records.endings] == ["done"] * 40
    assert len(list(logs.glob("python-core-worker-*.log"))) <= 10

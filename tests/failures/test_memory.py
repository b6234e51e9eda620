"""A stage that needs more memory than there is, beside one that does not."""

import subprocess

import psutil
import pytest
from commands import PATIENCE, TINY, command, own_environment
from sweeps import logged, rows

# bytes for Ray's dozen processes and a small training; the large one wants three times as much
ROOM = 5e9
LARGE = 200_000
TOLD = "out of memory: lower teacher.batch_size or model.channels"
SWEEP = f"""\
sweep:
  max_concurrent_trials: 2
  space:
    teacher.batch_size: {{grid: [16, {LARGE}]}}
    sampling.model: {{grid: [teacher]}}
"""


@pytest.mark.alone
def test_a_stage_out_of_memory_is_given_up_with_a_remedy_and_the_others_go_on(tmp_path):
    memory = psutil.virtual_memory()
    threshold = (memory.total - memory.available + ROOM) / memory.total
    (tmp_path / "x.yaml").write_text(TINY.replace("patch: 4", "patch: 1") + SWEEP)
    environment = {**own_environment(), "RAY_memory_usage_threshold": str(threshold)}
    said = subprocess.run(
        command("sweep", "x.yaml"),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert said.returncode == 1, said.stdout + said.stderr
    assert "Traceback" not in said.stdout + said.stderr
    small, large = rows(tmp_path / "runs")
    assert (small["status"], small["error"]) == ("done", "")
    assert large["status"] == "failed"
    assert large["error"].startswith(f"teacher, batch_size {LARGE}: {TOLD}")
    kinds = {
        ("sweep", "FAILED"),
        ("trial", "FINISHED"),
        ("trial", "FAILED"),
        ("teacher", "FINISHED"),
    }
    assert logged(tmp_path / "runs") == dict.fromkeys(kinds, 1)

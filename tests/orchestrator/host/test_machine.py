"""What a process may use of its machine: by real affinities and limits, and in trees of files as
kernels show them."""

import os
import resource
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import TINY, own_environment

from orchestrator.host import machine
from orchestrator.host.machine import cpus, memory, threads_left
from orchestrator.work import forecast

ONE = min(os.sched_getaffinity(0))
KERNEL = Path("/sys/fs/cgroup")
# what /proc/self/mountinfo says of version 2, of version 1, and within a container without a
# namespace of its own
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "36 31 0:33 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n"
)
WITHIN = V1.replace("0:29 / ", "0:29 /docker/abc ")


def kernel(root: Path, mounts: str, group: str, files: dict[str, str]) -> Path:
    """A tree with /proc and /sys of a process in `group`."""
    described = {"proc/self/mountinfo": mounts, "proc/self/cgroup": group}
    for name, text in {**described, **{f"sys/fs/cgroup/{n}": t for n, t in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("mounts", "group", "files", "expected"),
    [
        (V2, "0::/", {"cpu.max": "100000 100000"}, 1),
        (V2, "0::/", {"cpu.max": "50000 100000"}, 1),  # half a CPU is still one to plan with
        (V2, "0::/", {"cpu.max": "max 100000"}, None),
        (V2, "0::/slurm/job/step", {"slurm/job/cpu.max": "150000 100000", "slurm/job/step/cpu.max": "max 100000"}, 1),
        (V2, "0::/a", {"cpu.max": "9900000 100000"}, None),  # more than the machine has
        (V1, "3:cpu,cpuacct:/a", {"cpu,cpuacct/a/cpu.cfs_quota_us": "100000",
                                  "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, 1),
        (V1, "3:cpu,cpuacct:/a", {"cpu,cpuacct/a/cpu.cfs_quota_us": "-1",
                                  "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, None),
        (WITHIN, "3:cpu,cpuacct:/docker/abc", {"cpu,cpuacct/cpu.cfs_quota_us": "130000",
                                               "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 1),
        (V1 + V2.replace("cgroup rw,nosuid", "cgroup/unified rw"), "1:cpu,cpuacct:/\n0::/a", {}, None),
        ("", "", {}, None),  # no control groups, or no /proc at all
    ],
)  # fmt: skip
def test_the_quota_of_any_control_group_above_counts_rounded_down(
    mounts, group, files, expected, tmp_path
):
    there = len(os.sched_getaffinity(0))
    assert cpus(kernel(tmp_path, mounts, group, files)) == (
        there if expected is None else min(expected, there)
    )


@pytest.mark.parametrize(
    ("mounts", "group", "files", "expected"),
    [
        (V2, "0::/job/step", {"job/memory.max": "1000000000", "job/step/memory.max": "max"}, 10**9),
        (
            V2,
            "0::/pod",
            {"pod/memory.max": "2000000000", "pod/memory.high": "1500000000"},
            1_500_000_000,
        ),
        (V1, "5:memory:/job", {"memory/job/memory.limit_in_bytes": "2000000000"}, 2 * 10**9),
        (V1, "5:memory:/job", {"memory/job/memory.limit_in_bytes": "9223372036854771712"}, None),
    ],
)
def test_the_memory_is_what_the_tightest_control_group_allows(
    mounts, group, files, expected, tmp_path
):
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory(kernel(tmp_path, mounts, group, files)) == (expected or physical)


def test_a_limit_of_processes_is_counted_from_what_runs_already(tmp_path):
    root = kernel(tmp_path, V2, "0::/pod", {"pod/pids.max": "100", "pod/pids.current": "70"})
    left = threads_left(root)
    assert left is not None
    assert (left.available, left.total, left.why) == (30, 100, "pids.max of the control group")


@pytest.mark.system
def test_a_dry_run_and_the_doctor_plan_with_the_cpus_of_the_affinity(tmp_path):
    (tmp_path / "x.yaml").write_text(TINY + "sweep: {space: {sampling.steps: {grid: [4, 2]}}}\n")
    bound = ["taskset", "-c", str(ONE), sys.executable, "-m"]
    said = subprocess.run([*bound, "orchestrator.sweep", "x.yaml", "--dry-run"], cwd=tmp_path, env=own_environment(),
                          capture_output=True, text=True)  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert "on this machine, 1 at a time" in said.stdout
    tight = [*bound, "orchestrator.doctor", "x.yaml", "--set", "cluster.workers=2"]
    said = subprocess.run(
        tight, cwd=tmp_path, env=own_environment(), capture_output=True, text=True
    )
    assert said.returncode == 2
    assert "2 workers of 1 CPUs each need 2, there are 1" in said.stderr
    if (os.cpu_count() or 1) > 1:
        assert f"CPUs      1 of {os.cpu_count()}: the affinity of this process" in said.stdout


@pytest.fixture
def control_group() -> Iterator[Path]:
    """A real control group of the kernel's, which lets its processes have half a CPU and 3 GB."""
    old = KERNEL / "cpu" / "cpu.cfs_quota_us"
    name = f"kacflow-{uuid.uuid4().hex[:8]}"
    groups = [KERNEL / kind / name for kind in (("cpu", "memory") if old.exists() else ("",))]
    made: list[Path] = []
    try:
        for group in groups:
            group.mkdir()
            made.append(group)
        if old.exists():
            (groups[0] / "cpu.cfs_quota_us").write_text("50000")
            (groups[1] / "memory.limit_in_bytes").write_text("3000000000")
        else:
            (groups[0] / "cpu.max").write_text("50000 100000")
            (groups[0] / "memory.max").write_text("3000000000")
    except OSError as e:
        for group in made:
            group.rmdir()
        pytest.skip(f"control groups cannot be made here: {e}")
    yield groups[0]
    for group in groups:
        group.rmdir()


def test_the_limits_of_a_real_control_group_are_seen_by_this_project_torch_and_ray(control_group):
    script = """
import sys, torch
from pathlib import Path
for kind in ("cpu", "memory", ""):
    folder = Path("/sys/fs/cgroup", kind, sys.argv[1])
    if folder.is_dir():
        (folder / "cgroup.procs").write_text("0")
from orchestrator.cluster import connection
from orchestrator.host import machine
torch.set_num_threads(4)
machine.limit_threads()
limits = connection._local_options()
print(machine.cpus(), machine.memory(), torch.get_num_threads(), limits["num_cpus"],
      limits["object_store_memory"] + limits["_memory"])
"""
    command = [sys.executable, "-c", script, control_group.name]
    said = subprocess.run(command, env=own_environment(), capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    one, held, threads, ray_cpus, ray_memory = map(int, said.stdout.split())
    assert (one, threads, ray_cpus) == (1, 1, 1)
    assert held == ray_memory == 3_000_000_000 // resource.getpagesize() * resource.getpagesize()


def test_a_sweep_that_would_not_fit_into_the_memory_says_so(monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: 3 * 10**9)
    found = forecast.Forecast(1000, 10**6, 10**9, 60.0, 0.1)
    assert len(forecast.in_words(found, 2, 3)) == 2
    assert forecast.in_words(found, 2, 4)[1] == (
        "memory    4 concurrent workers need 4.0 GB, but 3.0 GB are available: lower sweep.max_concurrent_trials, "
        "cluster.workers or the batch size"
    )


def test_a_temporary_folder_that_somebody_else_has_made_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = machine.temporary_folder()
    assert machine.temporary_folder() == folder and folder.stat().st_mode & 0o077 == 0
    folder.rmdir()
    folder.symlink_to("/")
    with pytest.raises(PermissionError, match="belongs to another user"):
        machine.temporary_folder()

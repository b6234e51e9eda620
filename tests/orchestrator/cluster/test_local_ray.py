"""What keeps Ray from starting on this machine, and what may: in processes with real limits, mounts
and folders."""

import os
import subprocess
import sys

import pytest
from commands import PATIENCE, TINY, command, manifests, own_environment, run_here

from orchestrator.cluster import local_ray

LOOK = """
from orchestrator.cluster import local_ray
found = local_ray.inspect_machine()
print(*found.faults, '--', *found.warnings, sep='\\n')
"""
SLOW = """
import sys, time
from unittest.mock import patch
from ray._private import node, services
from orchestrator import doctor

class Fast:
    def __getattr__(self, name):
        return getattr(time, name)
    @staticmethod
    def monotonic():
        return 1800 * time.monotonic()

with patch.object(services, "get_node", side_effect=RuntimeError), patch.object(node, "time", Fast()):
    sys.exit(doctor.main([]))
"""
MOUNT = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "bash", "-c"]
# another user, who may read what this one may: no limit of processes holds for root
NOBODY = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--inh-caps=+dac_read_search",
          "--ambient-caps=+dac_read_search"]  # fmt: skip
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


def look(*prefix: str, **changed: str | None) -> tuple[list[str], list[str]]:
    """The faults and the warnings in a process started by `prefix`, in an environment that is
    `changed`."""
    environment = {k: v for k, v in {**own_environment(), **changed}.items() if v is not None}
    said = subprocess.run(
        [*prefix, sys.executable, "-c", LOOK], env=environment, capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    faults, warnings = said.stdout.split("--\n")
    return faults.splitlines(), warnings.splitlines()


def within(script: str, **changed: str | None) -> tuple[list[str], list[str]]:
    """The same after `script`, which may mount what it likes."""
    return look(*MOUNT, f'{script}; exec "$0" "$@"', **changed)


def about(words: str, warnings: list[str]) -> str:
    """The one line with these words. What else is said depends on what others do on this machine."""
    (line,) = [line for line in warnings if words in line]
    return line


def test_a_machine_like_this_one_has_nothing_to_be_said_of():
    assert look(TMPDIR=None, RAY_TMPDIR=None) == ([], [])


def test_too_few_open_files_are_refused_and_few_are_told():
    faults, _ = look("prlimit", "--nofile=64:64")
    assert faults == [
        "this machine: ulimit -n allows 64 open files in a process, Ray needs 100: raise the hard limit (ulimit -Hn)"
    ]
    faults, warnings = look("prlimit", "--nofile=200:200")
    warning = about("open files", warnings)
    assert faults == [] and "allows 200 open files in a process, Ray may need 512" in warning
    faults, warnings = look("prlimit", "--nofile=64:4096")  # Ray raises the soft limit itself
    assert faults == [] and not any("open files" in line for line in warnings)


@as_root
def test_too_few_processes_are_refused_and_few_are_told(tmp_path):
    (fault,), _ = look(*NOBODY, "prlimit", "--nproc=100", HOME=str(tmp_path))
    assert fault.startswith("this machine: ulimit -u leaves room for 9")
    assert "processes and threads of 100, Ray needs 200 to start: raise the limit" in fault
    faults, warnings = look(*NOBODY, "prlimit", "--nproc=290", HOME=str(tmp_path))
    assert faults == [] and any("Ray may need" in line for line in warnings)


@as_root
def test_a_user_without_a_home_folder_is_refused_and_one_whose_home_is_missing_is_told():
    (fault,), _ = look(*NOBODY, HOME=None)
    assert "this user has no home folder, which Ray and MLflow need: set HOME" in fault
    faults, warnings = look(*NOBODY, HOME="/nowhere/at/all")
    assert faults == [] and about("home folder", warnings).startswith(
        "note: no home folder at /nowhere/at/all, / cannot be written"
    )


def test_a_full_temporary_folder_is_left_for_another_and_none_at_all_is_refused():
    full = "mount -t tmpfs -o size=100k tmpfs /tmp && head -c 1M /dev/zero > /tmp/fill 2> /dev/null"
    faults, warnings = within(full, TMPDIR=None, RAY_TMPDIR=None)
    assert faults == []
    warning = about("Ray's own files are in", warnings)
    place = f"/var/tmp/kacflow-{os.geteuid()}/ray"
    assert warning.startswith(
        f"note: Ray's own files are in {place}, not in /tmp/ray (of TMPDIR), which cannot be used"
    )
    assert warning.endswith("which cannot be used: the disk of /tmp is full: make room")
    everywhere = "; ".join(
        full.replace("/tmp", place) for place in ("/tmp", "/var/tmp", "/dev/shm")
    )
    (fault,), _ = within(everywhere, TMPDIR=None, RAY_TMPDIR=None)
    assert fault.startswith(
        "this machine: no folder for Ray's own files: /tmp/ray cannot be used: the disk of /tmp is"
    )
    assert "set TMPDIR to a folder" in fault


def test_little_room_for_ray_and_its_objects_is_told_and_too_little_for_both_is_refused():
    shared = "mount -t tmpfs -o size=1m tmpfs /dev/shm"
    small = "mount -t tmpfs -o size=20m tmpfs /tmp"
    faults, warnings = within(shared, TMPDIR=None, RAY_TMPDIR=None)
    objects = about("/dev/shm has", warnings)
    assert faults == [] and "1.0 MB free: Ray keeps its objects on the disk" in objects
    faults, warnings = within(small, TMPDIR=None, RAY_TMPDIR=None)
    own = about("/tmp/ray has", warnings)
    assert faults == [] and "21.0 MB free, Ray may need more" in own
    (fault,), _ = within(f"{shared}; {small}", TMPDIR=None, RAY_TMPDIR=None)
    assert "/tmp/ray has 21.0 MB free, Ray cannot keep its own files there: make room" in fault


@as_root
@pytest.mark.system
def test_ray_starts_where_shared_memory_cannot_be_written(tmp_path):
    start = (
        "from orchestrator.cluster import connection; connection.connect(None); import ray; "
        "print(len(ray.get(ray.put(b'x' * 10**6)))); connection.disconnect()"
    )
    closed = "mount -t tmpfs -o mode=755 tmpfs /dev/shm"
    said = subprocess.run(
        [*MOUNT, f'{closed}; exec "$0" "$@"', *NOBODY, sys.executable, "-c", start],
        env={**own_environment(), "HOME": "/tmp"}, cwd="/", capture_output=True, text=True,
        timeout=PATIENCE,
    )  # fmt: skip
    assert said.stdout.split() == ["1000000"], said.stderr


@as_root
def test_a_folder_of_rays_that_belongs_to_somebody_else_is_left_to_them():
    theirs = "mkdir -p /tmp/ray && mount -t tmpfs -o mode=755 tmpfs /tmp/ray"
    faults, warnings = look(*MOUNT, f'{theirs}; exec "$0" "$@"', *NOBODY, TMPDIR=None, HOME="/tmp")
    assert faults == []
    assert about("Ray's own files are in", warnings) == (
        "note: Ray's own files are in /tmp/kacflow-54321/ray, not in /tmp/ray (of TMPDIR), which cannot be used: "
        "/tmp/ray cannot be written"
    )


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_that_is_too_long_for_sockets_is_left_for_a_shorter_one(
    name, tmp_path, monkeypatch
):
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv(name, str(long))
    found = local_ray.ray_folder()
    assert found is not None and len(str(found.path)) < 41
    assert found.why.startswith(
        f"not in {long}/ray (of {name}), which is too long for Ray's sockets"
    )


def test_what_bears_this_projects_name_in_a_common_folder_has_to_be_ours(tmp_path, monkeypatch):
    own = tmp_path / "kacflow-1"
    own.mkdir()
    assert local_ray.folder_problem(own / "ray") == "" or len(str(own)) > local_ray.SOCKET_BYTES
    own.rmdir()
    own.symlink_to(tmp_path)
    monkeypatch.setattr(local_ray, "SOCKET_BYTES", 1000)
    assert local_ray.folder_problem(own / "ray") == "belongs to another user"


@pytest.mark.system
def test_what_is_refused_starts_nothing_and_the_doctor_says_the_same_with_all_else(tmp_path):
    (tmp_path / "x.yaml").write_text(TINY)
    limit = ["prlimit", "--nofile=64:64"]
    changed = "cluster.cpus_per_worker=5000", "data.name=cifar10", f"data.root={tmp_path}/data"
    (tmp_path / "data").mkdir()
    settings = [part for each in changed for part in ("--set", each)]
    said = subprocess.run([*limit, *command("sweep", "x.yaml")], cwd=tmp_path, env=own_environment(),
                          capture_output=True, text=True)  # fmt: skip
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith("error: this machine: ulimit -n allows 64")
    told = subprocess.run([*limit, *command("doctor", "x.yaml", *settings)], cwd=tmp_path, env=own_environment(),
                          capture_output=True, text=True)  # fmt: skip
    assert told.returncode == 2
    assert "files     64 open in a process" in told.stdout
    for words in (
        "ulimit -n allows 64",
        "1 workers of 5000 CPUs each need 5000",
        "x.yaml: data: cifar10",
    ):
        assert words in told.stderr
    assert not (tmp_path / "runs").exists()
    assert run_here(tmp_path, "sweep", "x.yaml", "--dry-run").returncode == 0


@pytest.mark.system
def test_a_run_works_with_one_cpu_a_long_temporary_folder_no_written_home_and_a_strange_storage(
    tmp_path,
):
    long, storage = tmp_path / ("x" * 90), tmp_path / "läufe & 'runs' #1"
    long.mkdir()
    (tmp_path / "x.yaml").write_text(TINY + f'storage: "{storage}"\n')
    environment = {
        **own_environment(),
        "TMPDIR": str(long),
        "HOME": str(tmp_path / "x.yaml" / "no home"),
    }
    one = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
    said = subprocess.run([*one, *command("train", "x.yaml")], cwd=tmp_path, env=environment, capture_output=True,
                          text=True, timeout=PATIENCE)  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"not in {long}/ray (of TMPDIR), which is too long for Ray's sockets" in said.stdout
    assert (
        "x.yaml is a file: libraries cannot keep their caches there, and make them again each time"
        in said.stdout
    )
    assert len(manifests(storage)) == 1
    assert not (long / "ray").exists()


@pytest.mark.system
def test_a_machine_too_busy_to_start_ray_is_named_in_one_line():
    """Ray starts here, and waits for a node that does not appear; only its clock is made fast."""
    said = subprocess.run(
        [sys.executable, "-c", SLOW], env=own_environment(), capture_output=True, text=True, timeout=PATIENCE
    )  # fmt: skip
    assert said.returncode == 2
    (line,) = said.stderr.splitlines()
    assert line == (
        "error: Ray did not start on this machine within its 30 seconds: end other work here, or run the same "
        "command again"
    )

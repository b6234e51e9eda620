"""Two machines that see one folder each through a cache of its own, as with NFS: names that are
there and names that are not are remembered for longer than a lease's holder may be silent.

Real NFS needs a kernel that has it; two bindfs mounts of one folder with such caches stand in for
two clients."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import FORKED
from stages import any_stage
from test_leases import Holder, answer, take_when_free, winners
from test_stage_runner import PATIENCE, run_a_part
from test_store import publish_many

from kaccore.files import file_sha256
from orchestrator.store import leases
from orchestrator.store.folder import Folder
from orchestrator.store.leases import LeaseWatch
from orchestrator.store.store import Store

REMEMBERED = "attr_timeout=30,entry_timeout=30,negative_timeout=30"  # seconds
QUICK = 3.0

pytestmark = pytest.mark.skipif(shutil.which("bindfs") is None, reason="bindfs is not installed")


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Folder, Folder]]:
    """The same empty folder as two machines see it."""
    views = Folder(tmp_path / "one"), Folder(tmp_path / "other")
    (tmp_path / "shared").mkdir()
    for view in views:
        view.mkdir()
        subprocess.run(["bindfs", "-o", REMEMBERED, tmp_path / "shared", view], check=True)
    try:
        yield views
    finally:
        for view in views:
            subprocess.run(["umount", "--lazy", view], check=True)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(leases, "STALE_SECONDS", QUICK)


def test_each_machine_remembers_what_was_there_and_what_was_not(machines):
    one, other = machines
    assert not (one / "x").exists()
    (other / "x").put(b"x")
    assert not (one / "x").exists()  # otherwise the other tests would say nothing


def test_only_one_process_of_two_machines_takes_a_lease(machines):
    assert winners(machines, 100) == {1}


def test_a_lease_passes_from_a_dead_machine_to_a_living_one(machines, quick):
    one, other = machines
    with Holder(one, QUICK) as holder:
        watch = LeaseWatch(other)
        assert watch.try_take() is None
        holder.signal(signal.SIGKILL)
        holder.process.join(PATIENCE)
        with take_when_free(watch) as lease:
            assert lease.path.name == "lease.2"


def test_a_living_holder_is_seen_to_live_from_the_other_machine(machines, quick):
    one, other = machines
    with Holder(one, QUICK):
        watch, beats = LeaseWatch(other), set[str]()
        while (
            len(beats) < 3 * QUICK / leases.HEARTBEAT_SECONDS
        ):  # three times as long as it may be silent
            assert watch.try_take() is None
            beats.add((other / "lease.1").read_text())


def test_a_holder_notices_that_the_other_machine_has_taken_over(machines, quick):
    one, other = machines
    with Holder(one, QUICK) as holder:
        holder.signal(signal.SIGSTOP)
        with take_when_free(LeaseWatch(other)) as lease:
            holder.signal(signal.SIGCONT)
            assert "taken over" in str(answer(holder.pipe))
            lease.check()


def test_processes_of_two_machines_run_each_stage_once(machines, tmp_path):
    views = [str(view) for view in machines * 2]
    arguments = [
        (view, str(tmp_path / "log"), length)
        for view, length in zip(views, (3, 3, 2, 1), strict=True)
    ]
    processes = [FORKED.Process(target=run_a_part, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
    assert [p.exitcode for p in processes] == [0] * len(processes)
    assert sorted((tmp_path / "log").read_text().splitlines()) == [
        "student 2",
        "student 4",
        "teacher",
    ]


def test_what_one_machine_publishes_the_other_reads_whole(machines):
    one, other = machines
    writer = FORKED.Process(target=publish_many, args=(str(one), 20))
    writer.start()
    store, seen = Store(other), set[str]()
    while len(seen) < 20:
        assert writer.exitcode in (None, 0)
        for key in {p.name for p in (other / "stages").find("*")} - seen:
            result = store.result(key)
            assert {n: file_sha256(result.path(n)) for n in result.manifest["files"]} == {
                n: said["sha256"] for n, said in result.manifest["files"].items()
            }
            seen.add(key)
    writer.join(PATIENCE)
    assert seen == {any_stage("teacher", {"seed": i}).key for i in range(20)}

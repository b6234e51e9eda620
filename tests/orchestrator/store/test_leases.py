import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

import pytest
import s3_server
from forked import beside

from orchestrator.store import leases
from orchestrator.store.folder import Folder
from orchestrator.store.leases import Lease, LeaseLostError, LeaseWatch
from orchestrator.store.place import Place
from orchestrator.store.run_folder import RunFolder, remove_stale
from orchestrator.store.s3_place import S3Place

SPAWN = multiprocessing.get_context("spawn")
PATIENCE = 120.0  # for processes to start on a busy machine; nothing is judged by how long it takes


def quicken(stale_seconds: float) -> None:
    leases.HEARTBEAT_SECONDS = 0.05
    leases.STALE_SECONDS = stale_seconds
    S3Place.poll_factor = 1


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> float:
    """Leases that go stale soon, in this process; the children are told to do as much."""
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(leases, "STALE_SECONDS", 3.0)
    monkeypatch.setattr(S3Place, "poll_factor", 1)
    return 3.0


def take_in_many_rounds(folders: list[str], together: Barrier, answers: Connection) -> None:
    s3_server.hurry()
    for folder in folders:
        together.wait(PATIENCE)
        lease = LeaseWatch(folder).try_take()
        together.wait(PATIENCE)  # all have tried
        answers.send(lease is not None)


def hold(folder: str, stale_seconds: float, answers: Connection) -> None:
    """Take the lease, say so, and keep it until it is lost or this process ends."""
    quicken(stale_seconds)
    lease = LeaseWatch(folder).try_take()
    assert lease is not None
    with lease:
        wait_for(lambda: "held" in lease.path.read_text())
        answers.send("held")
        try:
            wait_for(lambda: lease.check() or False)
        except LeaseLostError as e:
            answers.send(str(e))


def wait_for(happened: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)


def take_when_free(watch: LeaseWatch) -> Lease:
    taken: list[Lease] = []
    wait_for(lambda: taken.extend(filter(None, [watch.try_take()])) or taken)
    return taken[0]


def answer(pipe: Connection) -> object:
    assert pipe.poll(PATIENCE), "the other process does not answer"
    return pipe.recv()


class Holder:
    """A process that holds the lease on a folder, and is ended with the context at the latest."""

    def __init__(self, folder: Place, stale_seconds: float) -> None:
        start = beside(folder)
        self.pipe, theirs = start.Pipe(duplex=False)
        self.process = start.Process(target=hold, args=(str(folder), stale_seconds, theirs))

    def __enter__(self) -> "Holder":
        self.process.start()
        assert answer(self.pipe) == "held"
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.join(PATIENCE)

    def signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


@pytest.mark.system
def test_only_one_of_many_processes_takes_a_lease(root):
    assert winners((root,), 300 if isinstance(root, Folder) else 50) == {1}


def test_only_one_of_many_processes_takes_a_lease_of_an_s3_that_fails_often(bucket, service):
    service.tell(**s3_server.FAULTS)
    assert winners((bucket,), 40) == {1}


def winners(views: Sequence[Place], rounds: int) -> set[int]:
    """How many of six processes that try at once take a lease, in so many rounds; `views` are what
    they see of the same place, in turn."""
    for i in range(rounds):
        folder = views[0] / str(i)
        folder.mkdir()
        if i % 2:
            with take_when_free(LeaseWatch(folder)):
                pass  # held and released before
    together = SPAWN.Barrier(6)
    pipes, processes = [], []
    for k in range(6):
        ours, theirs = SPAWN.Pipe(duplex=False)
        folders = [str(views[k % len(views)] / str(i)) for i in range(rounds)]
        processes.append(
            SPAWN.Process(target=take_in_many_rounds, args=(folders, together, theirs))
        )
        pipes.append(ours)
    for process in processes:
        process.start()
    took = [[answer(pipe) for _ in range(rounds)] for pipe in pipes]
    for process in processes:
        process.join(PATIENCE)
    return {sum(column) for column in zip(*took, strict=True)}


def test_a_living_holders_lease_is_not_taken_whatever_the_wall_clock_says(root, quick, monkeypatch):
    with Holder(root, quick):
        watch = LeaseWatch(root)
        day, now = 86400.0, time.time()
        until = time.monotonic() + 1.2 * quick
        jumps = 0
        while time.monotonic() < until:
            jump = day if jumps % 2 else -day
            monkeypatch.setattr(time, "time", lambda jump=jump: now + jump)
            if isinstance(root, Folder):
                os.utime(root, (now + jump, now + jump))
            assert watch.try_take() is None
            jumps += 1
            time.sleep(0.05)
        assert jumps > 1


def test_the_lease_of_a_killed_and_of_a_stopped_holder_passes_on_and_the_latter_notices(
    root, quick, monkeypatch
):
    monkeypatch.setattr(leases, "STALE_SECONDS", 1.0)  # here nobody lives whom that could hit
    dead, presumed_dead = root / "dead", root / "presumed_dead"
    for folder in (dead, presumed_dead):
        folder.mkdir()
    with Holder(dead, quick) as killed, Holder(presumed_dead, quick) as stopped:
        watches = LeaseWatch(dead), LeaseWatch(presumed_dead)  # which wait at the same time
        assert [watch.try_take() for watch in watches] == [None, None]
        stopped.signal(signal.SIGSTOP)
        killed.signal(signal.SIGKILL)
        killed.process.join(PATIENCE)
        with take_when_free(watches[0]) as lease:
            lease.check()
            assert lease.path.name == "lease.2"
        with take_when_free(watches[1]) as lease:
            stopped.signal(signal.SIGCONT)
            assert "taken over" in str(answer(stopped.pipe))
            stopped.process.join(PATIENCE)
            lease.check()
            # what it left on going did not free the new holder's
            assert LeaseWatch(presumed_dead).try_take() is None


def test_a_released_lease_is_taken_at_once(root):
    with LeaseWatch(root).try_take() as first:
        assert LeaseWatch(root).try_take() is None
        first.check()
    with LeaseWatch(root).try_take() as second:
        second.check()
        assert LeaseWatch(root).try_take() is None


def test_a_lease_is_released_when_its_holder_fails(root):
    with pytest.raises(ZeroDivisionError), LeaseWatch(root).try_take():
        1 / 0  # noqa: B018
    assert LeaseWatch(root).try_take() is not None


def test_a_lease_says_who_holds_it(root, quick):
    with LeaseWatch(root).try_take() as lease:
        wait_for(lambda: lease.path.read_text())
        assert f":{os.getpid()}:" in json.loads(lease.path.read_text())["owner"]


def test_a_holder_survives_that_the_finished_stages_folder_is_removed(root, quick):
    folder = root / "work"
    folder.mkdir()
    with LeaseWatch(folder).try_take() as lease:
        folder.clear()
        lease.check()
    assert not folder.is_dir()


def test_what_killed_runs_have_left_is_removed_and_what_living_ones_have_stays(root, quick):
    """By a run of some seconds, and by one that has nothing to do, which waits as long as it
    takes."""
    some, none = root / "of some", root / "of none"
    with ExitStack() as living:
        for runs in (some, none):
            for name in ("dead", "living"):
                (runs / name).mkdir(parents=True)
            # taken, and never kept up
            assert LeaseWatch(runs / "dead").try_take() is not None
            lease = LeaseWatch(runs / "living").try_take()
            assert lease is not None
            living.enter_context(lease)
        with RunFolder(some / "mine", "name/id"):
            assert (some / "mine").is_dir()
            remove_stale(none)
            assert [p.name for p in none.find("*")] == ["living"]
            # by now the run, which saw its neighbours before, knows as much of them
        assert [p.name for p in some.find("*")] == ["living"]
    remove_stale(root / "nothing")


def test_runs_that_see_each_other_remove_their_own_folders_whichever_ends_first(root, quick):
    with RunFolder(root / "longer", "name/id"):
        with RunFolder(root / "shorter", "name/id"):
            wait_for(lambda: "held" in (root / "shorter" / "lease.1").read_text())
        assert [p.name for p in root.find("*")] == ["longer"]
    first, second = RunFolder(root / "first", "name/id"), RunFolder(root / "second", "name/id")
    first.__enter__()
    with second:  # which has seen the first
        first.__exit__(None, None, None)
    assert root.find("*") == []

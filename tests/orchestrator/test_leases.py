import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from orchestrator import leases
from orchestrator.leases import Lease, LeaseLostError, LeaseWatch
from orchestrator.scratch import Scratch

SPAWN = multiprocessing.get_context("spawn")
PATIENCE = 120.0  # for processes to start on a busy machine; nothing is judged by how long it takes


def quicken(stale_seconds: float) -> None:
    leases.BEAT_SECONDS, leases.STALE_SECONDS = 0.05, stale_seconds


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> float:
    """Leases that go stale soon, in this process; the children are told to do as much."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(leases, "STALE_SECONDS", 3.0)
    return 3.0


def take_in_many_rounds(folders: list[str], together: Barrier, answers: Connection) -> None:
    for folder in folders:
        together.wait(PATIENCE)
        lease = LeaseWatch(Path(folder)).try_take()
        together.wait(PATIENCE)  # all have tried
        answers.send(lease is not None)


def hold(folder: str, stale_seconds: float, answers: Connection) -> None:
    """Take the lease, say so, and keep it until it is lost or this process ends."""
    quicken(stale_seconds)
    lease = LeaseWatch(Path(folder)).try_take()
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

    def __init__(self, folder: Path, stale_seconds: float) -> None:
        self.pipe, theirs = SPAWN.Pipe(duplex=False)
        self.process = SPAWN.Process(target=hold, args=(str(folder), stale_seconds, theirs))

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


def test_only_one_of_many_processes_takes_a_lease(tmp_path):
    folders = [tmp_path / str(i) for i in range(300)]
    for i, folder in enumerate(folders):
        folder.mkdir()
        if i % 2:
            with take_when_free(LeaseWatch(folder)):
                pass  # held and released before
    together = SPAWN.Barrier(6)
    pipes, processes = [], []
    for _ in range(6):
        ours, theirs = SPAWN.Pipe(duplex=False)
        processes.append(SPAWN.Process(target=take_in_many_rounds, args=([str(f) for f in folders], together, theirs)))
        pipes.append(ours)
    for process in processes:
        process.start()
    took = [[answer(pipe) for _ in folders] for pipe in pipes]
    for process in processes:
        process.join(PATIENCE)
    assert [sum(column) for column in zip(*took, strict=True)] == [1] * len(folders)


def test_a_killed_holders_lease_passes_on(tmp_path, quick):
    with Holder(tmp_path, quick) as holder:
        watch = LeaseWatch(tmp_path)
        assert watch.try_take() is None
        holder.signal(signal.SIGKILL)
        holder.process.join(PATIENCE)
        with take_when_free(watch) as lease:
            lease.check()
            assert lease.path.name == "lease.2"


def test_a_living_holders_lease_is_not_taken_whatever_the_wall_clock_says(tmp_path, quick, monkeypatch):
    with Holder(tmp_path, quick):
        watch = LeaseWatch(tmp_path)
        day, now = 86400.0, time.time()
        until = time.monotonic() + 2.5 * quick
        jumps = 0
        while time.monotonic() < until:
            jump = day if jumps % 2 else -day
            monkeypatch.setattr(time, "time", lambda jump=jump: now + jump)
            os.utime(tmp_path, (now + jump, now + jump))
            assert watch.try_take() is None
            jumps += 1
            time.sleep(0.05)
        assert jumps > 1


def test_a_holder_that_was_taken_for_dead_notices_that_it_lost_the_lease(tmp_path, quick):
    with Holder(tmp_path, quick) as holder:
        holder.signal(signal.SIGSTOP)
        lease = take_when_free(LeaseWatch(tmp_path))
        with lease:
            holder.signal(signal.SIGCONT)
            assert "taken over" in str(answer(holder.pipe))
            holder.process.join(PATIENCE)
            lease.check()
            assert LeaseWatch(tmp_path).try_take() is None  # what it left on going did not free the new holder's


def test_a_released_lease_is_taken_at_once(tmp_path):
    with LeaseWatch(tmp_path).try_take() as first:
        assert LeaseWatch(tmp_path).try_take() is None
        first.check()
    with LeaseWatch(tmp_path).try_take() as second:
        second.check()
        assert LeaseWatch(tmp_path).try_take() is None


def test_a_lease_is_released_when_its_holder_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), LeaseWatch(tmp_path).try_take():
        1 / 0  # noqa: B018
    assert LeaseWatch(tmp_path).try_take() is not None


def test_a_lease_says_who_holds_it(tmp_path, quick):
    with LeaseWatch(tmp_path).try_take() as lease:
        wait_for(lambda: lease.path.read_text())
        assert f":{os.getpid()}:" in json.loads(lease.path.read_text())["owner"]


def test_a_holder_survives_that_the_finished_stages_folder_is_removed(tmp_path, quick):
    folder = tmp_path / "work"
    folder.mkdir()
    with LeaseWatch(folder).try_take() as lease:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        lease.check()
    assert not folder.exists()


def test_what_killed_runs_have_left_is_removed_and_what_living_ones_have_stays(tmp_path, quick):
    for name in ("dead", "living"):
        (tmp_path / name).mkdir()
    dead = LeaseWatch(tmp_path / "dead").try_take()
    assert dead is not None  # taken, and never kept up
    living = LeaseWatch(tmp_path / "living").try_take()
    assert living is not None
    with living, Scratch(tmp_path / "mine", "name/id"):
        assert (tmp_path / "mine").is_dir()
        time.sleep(2 * quick)
    assert [p.name for p in tmp_path.iterdir()] == ["living"]


def test_runs_that_see_each_other_remove_their_own_folders_whichever_ends_first(tmp_path, quick):
    with Scratch(tmp_path / "longer", "name/id"):
        with Scratch(tmp_path / "shorter", "name/id"):
            wait_for(lambda: "held" in (tmp_path / "shorter" / "lease.1").read_text())
        assert [p.name for p in tmp_path.iterdir()] == ["longer"]
    first, second = Scratch(tmp_path / "first", "name/id"), Scratch(tmp_path / "second", "name/id")
    first.__enter__()
    with second:  # which has seen the first
        first.__exit__(None, None, None)
    assert list(tmp_path.iterdir()) == []

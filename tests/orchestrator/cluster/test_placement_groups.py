"""What dead actors had reserved on a real Ray cluster is free again, and nobody else's."""

import os
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from commands import PATIENCE, own_environment

from orchestrator.cluster import connection
from orchestrator.cluster.placement_groups import CHECK_SECONDS, OrphanedGroups, remove_orphaned
from orchestrator.cluster.reservations import Reservations


@pytest.fixture(scope="module")
def ray() -> Iterator[object]:
    import ray

    with patch.dict(os.environ, own_environment(), clear=True):
        connection.connect(None)
        try:
            yield ray
        finally:
            connection.disconnect()


@pytest.mark.system
def test_only_what_the_dead_had_reserved_is_freed(ray):
    from ray.util.placement_group import placement_group

    @ray.remote(num_cpus=0)
    class Coordinator:
        def reserve(self):
            self.group = placement_group([{"CPU": 0.25}])
            ray.get(self.group.ready())
            return self.group.id.hex()

        def wait_for_more_than_there_is(self):
            self.group = placement_group([{"CPU": 10_000}])
            return self.group.id.hex()

    def states():
        return {name: group["state"] for name, group in ray.util.placement_group_table().items()}

    assert connection.dashboard() == ""  # which is why Ray Train's own cleaner does not work here
    of_the_driver = placement_group([{"CPU": 0.25}])
    ray.get(of_the_driver.ready())
    living = Coordinator.remote()
    dead = Coordinator.remote()
    waiting = Coordinator.remote()
    kept, left, pending = ray.get(
        [
            living.reserve.remote(),
            dead.reserve.remote(),
            waiting.wait_for_more_than_there_is.remote(),
        ]
    )
    kept_ids = {of_the_driver.id.hex(), kept}
    assert remove_orphaned() == 0
    ray.kill(dead)
    ray.kill(waiting)
    freed, until = 0, time.monotonic() + PATIENCE
    while freed < 2 and time.monotonic() < until:  # Ray takes note of a death in its own time
        freed += remove_orphaned()
    assert freed == 2
    assert remove_orphaned() == 0
    assert states() == dict.fromkeys(kept_ids, "CREATED") | {left: "REMOVED", pending: "REMOVED"}


def taken(ray: Any) -> int:
    """How many places for workers of an eighth of a CPU are taken."""
    groups = ray.util.placement_group_table().values()
    eighths = [group for group in groups if group["bundles"] == {0: {"CPU": 0.125}}]
    return [group["state"] for group in eighths].count("CREATED")


def wait_until(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.system
def test_places_for_workers_are_reserved_and_free_again(ray):
    small, large = Reservations({"CPU": 0.125}), Reservations({"CPU": 10_000})
    small.ask(2)
    large.ask(3)
    wait_until(lambda: small.ready() == 2)
    assert taken(ray) == 2
    assert large.ready() == 0
    small.ask(1)
    wait_until(lambda: taken(ray) == 1)
    assert small.ready() == 1
    small.release()
    large.release()
    wait_until(lambda: taken(ray) == 0)
    assert (small.ready(), large.ready()) == (0, 0)


@pytest.mark.system
def test_a_group_grows_when_it_has_saved_its_progress_and_there_is_room(ray):
    from ray.train import ScalingConfig

    from orchestrator.execution.group_size import LOOK_SECONDS, Elasticity, ElasticSize

    share, saved = [2], [(0, 0, "")]
    each = ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.125})
    policy = ElasticSize(each, Elasticity([2, 4, 8], lambda: share[0], lambda: saved[0]))

    def begins() -> int:
        while not hasattr(
            decision := policy.make_decision_for_non_running_worker_group(), "num_workers"
        ):
            pass
        return decision.num_workers

    def grows(workers: int) -> int:
        """The size after some looks; `workers` where the policy leaves it."""
        now = SimpleNamespace(num_workers=workers)
        for _ in range(3):
            policy._looked -= LOOK_SECONDS
            decision = policy.make_decision_for_running_worker_group(now, None)
            if hasattr(decision, "num_workers"):
                return decision.num_workers
            wait_until(lambda: policy._reservations.ready() == len(policy._reservations._groups))
        return workers

    try:
        assert begins() == 2
        saved[0] = (0, 0, "step-100")
        assert grows(2) == 2  # this is all that it may have
        share[0] = 7
        assert grows(2) == 2
        wait_until(lambda: taken(ray) == 2)  # reserved, and nothing saved yet
        saved[0] = (0, 0, "step-200")
        assert grows(2) == 4
        wait_until(lambda: taken(ray) == 0)  # released for the group itself
        saved[0] = (1, 0, "")
        assert grows(4) == 4
        share[0] = 1
        assert begins() == 2  # never fewer than the smallest size
    finally:
        policy.close()


def test_looking_often_asks_ray_now_and_then(monkeypatch):
    asked, now = [], [100.0]
    monkeypatch.setattr(
        "orchestrator.cluster.placement_groups.remove_orphaned", lambda: asked.append(now[0])
    )
    monkeypatch.setattr("orchestrator.cluster.placement_groups.time.monotonic", lambda: now[0])
    reservations = OrphanedGroups()
    for _ in range(9):
        reservations.check()
        now[0] += CHECK_SECONDS / 4
    assert asked == [100.0, 100.0 + CHECK_SECONDS, 100.0 + 2 * CHECK_SECONDS]

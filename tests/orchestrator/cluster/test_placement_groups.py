"""What dead actors had reserved on a real Ray cluster is free again, and nobody else's."""

import os
import time
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from commands import PATIENCE, own_environment

from orchestrator.cluster import connection
from orchestrator.cluster.placement_groups import CHECK_SECONDS, OrphanedGroups, remove_orphaned


@pytest.fixture
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

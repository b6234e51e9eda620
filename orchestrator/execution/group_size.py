"""How many workers a group has: a fixed number, or one that may change.

A group whose size may change begins with as many workers as there is room for. When nodes join, it waits until its
progress is saved, at its next checkpoint or at the end of a stage, and starts again with more
workers, so few steps are trained twice. When a worker is lost, the stage runner starts the group
again with those that are left, from the last checkpoint."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.cluster.ray_internals import FixedScalingPolicy, NoopDecision, ResizeDecision
from orchestrator.cluster.reservations import Reservations

JOIN_SECONDS = 5.0  # how long a group that could begin waits for more workers
POLL_SECONDS = 0.2
LOOK_SECONDS = 2.0  # between two looks at what a running group has saved


@dataclass(frozen=True)
class Elasticity:
    """The numbers of workers that a group may have, `sizes`, rising. `share`: of how many workers
    there is room now; groups that run at once divide it. `reached`: how far the training has saved
    its progress, as a value that grows."""

    sizes: Sequence[int]
    share: Callable[[], int]
    reached: Callable[[], tuple[Any, ...]]

    def largest(self, workers: int) -> int:
        """The largest size of at most so many workers; 0 where none is so small."""
        return max((size for size in self.sizes if size <= workers), default=0)

    def most(self) -> int:
        """The size that a group aims at."""
        return self.largest(max(self.share(), self.sizes[0]))


class FixedSize(FixedScalingPolicy):
    """A fixed number of workers, as Ray Train's controller asks for it, without the actor that
    requests resources from the autoscaler, which sees pending placement groups anyway."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Ray's own policy starts that actor."""

    def _maybe_send_resource_request(self) -> None:
        pass

    def close(self) -> None:
        """Release what is reserved: nothing."""


class ElasticSize(FixedSize):
    """A number of workers that follows what the cluster has."""

    def __init__(self, scaling_config: Any, elasticity: Elasticity) -> None:
        super().__init__(scaling_config)
        self._elasticity = elasticity
        self._reservations = Reservations(scaling_config._resources_per_worker_not_none)
        self._waiting_since: float | None = None
        self._looked = 0.0
        self._reached: tuple[Any, ...] | None = None  # when room for more was first seen

    def make_decision_for_non_running_worker_group(self) -> Any:
        """The size with which a group begins, or none while there is too little room."""
        most = self._elasticity.most()
        self._reservations.ask(most)
        size = self._elasticity.largest(min(self._reservations.ready(), most))
        now = time.monotonic()
        self._waiting_since = self._waiting_since or now
        if not size or (size < most and now - self._waiting_since < JOIN_SECONDS):
            time.sleep(POLL_SECONDS)
            return NoopDecision()
        return self._resize(size)

    def make_decision_for_running_worker_group(
        self, worker_group_state: Any, worker_group_status: Any
    ) -> Any:
        """A larger size, once there is room for it and progress has just been saved."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return NoopDecision()
        self._looked = now
        present = worker_group_state.num_workers
        missing = self._elasticity.most() - present
        self._reservations.ask(max(0, missing))
        if missing <= 0 or not self._reservations.ready():
            self._reached = None
            return NoopDecision()
        before, self._reached = self._reached, self._elasticity.reached()
        if before is None or self._reached <= before:
            return NoopDecision()
        size = self._elasticity.largest(present + self._reservations.ready())
        if size > present:
            return self._resize(size)
        self._reservations.release()  # too few for the next size: others may need them
        return NoopDecision()

    def close(self) -> None:
        """Release what is reserved."""
        self._reservations.release()

    def _resize(self, size: int) -> Any:
        self._reservations.release()
        self._waiting_since = self._reached = None
        return ResizeDecision(
            num_workers=size,
            resources_per_worker=self.scaling_config._resources_per_worker_not_none,
        )

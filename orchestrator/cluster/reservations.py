"""Places for workers that could join a group: placement groups of one worker each.

A pending one tells the autoscaler that a node is wanted; a ready one keeps its CPUs and GPUs until
the group takes them. They end with the coordinator, as its worker group does."""

from collections.abc import Mapping
from contextlib import suppress


class Reservations:
    """Places for workers with these `resources` each."""

    def __init__(self, resources: Mapping[str, float]) -> None:
        self._resources = dict(resources)
        self._groups: list[object] = []

    def ask(self, count: int) -> None:
        """Reserve `count` places; those that are too many are released, pending ones first."""
        import ray

        if len(self._groups) > count:
            self._groups.sort(key=self._is_ready, reverse=True)
        while len(self._groups) > count:
            self._remove(self._groups.pop())
        while len(self._groups) < count:
            self._groups.append(ray.util.placement_group([self._resources]))

    def ready(self) -> int:
        """The number of places that are there now."""
        return sum(map(self._is_ready, self._groups))

    def release(self) -> None:
        """Release all places."""
        self.ask(0)

    @staticmethod
    def _is_ready(group: object) -> bool:
        import ray

        return ray.util.placement_group_table(group).get("state") == "CREATED"

    @staticmethod
    def _remove(group: object) -> None:
        import ray

        with suppress(Exception):  # the cluster may be gone
            ray.util.remove_placement_group(group)

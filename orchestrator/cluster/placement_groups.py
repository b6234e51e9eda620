"""Removes the placement groups of dead coordinators, so that their CPUs and GPUs are free again.

A worker group's CPUs and GPUs are a placement group that the coordinator created. Ray keeps it when
the coordinator is killed. Ray Train's own cleaner needs the dashboard's server, which a cluster
started here does not have. Without this module two killed coordinators would block a two-core
machine for ever."""

import time

from orchestrator.cluster import ray_internals

CHECK_SECONDS = 2.0


class OrphanedGroups:
    """Removes the orphaned placement groups of this driver's actors, at most once in
    CHECK_SECONDS."""

    def __init__(self) -> None:
        self._next_check = 0.0

    def check(self) -> bool:
        """Remove the placement groups whose creators are dead; returns False where the latest check
        was less than CHECK_SECONDS ago. Cheap to call often."""
        if time.monotonic() < self._next_check:
            return False
        self._next_check = time.monotonic() + CHECK_SECONDS
        remove_orphaned()
        return True


def remove_orphaned() -> int:
    """Remove the placement groups of this driver's dead actors; returns how many there were."""
    import ray
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    no_actor = ray.ActorID.nil().binary()  # created by the driver: Tune's groups for its trials
    orphaned = [
        group
        for group in ray_internals.placement_groups()
        if group.creator_actor_dead
        and group.creator_actor_id != no_actor
        and group.creator_job_id == job.binary()
        and group.state != group.REMOVED
    ]
    for group in orphaned:
        remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
    return len(orphaned)

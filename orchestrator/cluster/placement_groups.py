"""Frees what the dead had reserved on the Ray cluster.

The CPUs and GPUs of a worker group are a placement group that belongs to the coordinator which
started it. Ray keeps it when the coordinator is killed, and Ray Train's own cleaner asks the
dashboard's server, which a cluster started here does not have. Two deaths would then leave a
two-core machine waiting for ever."""

import time

from orchestrator.cluster import ray_internals

CHECK_SECONDS = 2.0


class OrphanedGroups:
    """Looks after the placement groups of this driver's actors; `look` is cheap to call often."""

    def __init__(self) -> None:
        self._next = 0.0

    def look(self) -> bool:
        """Every CHECK_SECONDS, remove the placement groups whose creators have died; whether it was
        time to."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + CHECK_SECONDS
        free_orphaned()
        return True


def free_orphaned() -> int:
    """Remove the placement groups that this driver's dead actors have left behind; returns how many
    there were."""
    import ray
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    nobody = ray.ActorID.nil().binary()  # the driver's own: Tune's reservations for its trials
    orphaned = [
        entry
        for entry in ray_internals.placement_groups()
        if entry.creator_actor_dead
        and entry.creator_actor_id != nobody
        and entry.creator_job_id == job.binary()
        and entry.state != entry.REMOVED
    ]
    for entry in orphaned:
        remove_placement_group(PlacementGroup(ray.PlacementGroupID(entry.placement_group_id)))
    return len(orphaned)

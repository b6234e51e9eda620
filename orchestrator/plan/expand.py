"""All trials of a sweep: the grid, or as many random draws as it wants."""

from collections.abc import Iterable

from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.plan.points import Expansion, Point, PointSpace, TrialSpec
from orchestrator.settings.experiment import Experiment


def expand(
    experiment: Experiment, source: str | None = None, points: Iterable[Point] = ()
) -> Expansion:
    """Every trial of a grid or random search; of one by optuna those of the `points` that it has
    drawn so far.

    Keys are in the file's order, the last one fastest; a run without a sweep is one trial.
    Combinations that cannot be (a student at a step count that its chain has not, or what a
    constraint forbids) are skipped with their reason. Raises ConfigError, named after `source` (or
    else the experiment), where values are wrong in combination, each told once, and where nothing
    is left to run."""
    if experiment.sweep is None:
        return Expansion([TrialSpec(0, {}, experiment)])
    space, found = PointSpace(experiment, source or experiment.name), Expansion()
    if experiment.sweep.search == "grid":
        space.add({}, found)
    else:
        from orchestrator.plan import optuna_points

        for point in points:
            space.add(point, found)
        if experiment.sweep.search == "random":
            optuna_points.add_all(space, found)
        elif not found.trials:
            # what cannot be drawn at all is refused before anything starts
            optuna_points.add_next(space, Expansion(), [])
            return found
    if not found.trials:
        reason = f"none of the {len(found.skipped)} combinations can be run; the first: {found.skipped[0].reason}"
        raise ConfigError([Fault(space.source, "sweep.space", reason)])
    return found

"""All trials of a sweep: the whole grid, or `num_trials` points."""

from collections.abc import Iterable

from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.plan.points import Expansion, Point, PointSpace, TrialSpec
from orchestrator.settings.experiment import Experiment


def expand(
    experiment: Experiment, source: str | None = None, points: Iterable[Point] = ()
) -> Expansion:
    """All trials of a grid, random or sobol search; for optuna those of the `points` drawn so far.

    Keys are in the order of the file, and the last one varies fastest; a run without a sweep is one
    trial. Combinations that cannot be run (a student with a step count that its chain does not have,
    or a violated constraint) are skipped with their reason. Raises ConfigError, whose source is
    `source` or the experiment's name, for invalid combinations, each reported once, and if no trial
    remains."""
    if experiment.sweep is None:
        return Expansion([TrialSpec(0, {}, experiment)])
    space = PointSpace(experiment, source or experiment.name)
    expansion = Expansion()
    if experiment.sweep.search == "grid":
        space.add({}, expansion)
    elif experiment.sweep.search == "sobol":
        from orchestrator.plan import sobol_points

        sobol_points.add_all(space, expansion)
    else:
        from orchestrator.plan import optuna_points

        for point in points:
            space.add(point, expansion)
        if experiment.sweep.search == "random":
            optuna_points.add_all(space, expansion)
        elif not expansion.trials:
            # refuses, before anything starts, a space without a single valid point
            optuna_points.add_next(space, Expansion(), [])
            return expansion
    if not expansion.trials:
        skipped = expansion.skipped
        reason = (
            f"none of the {len(skipped)} combinations can be run; the first: {skipped[0].reason}"
        )
        raise ConfigError([Fault(space.source, "sweep.space", reason)])
    return expansion

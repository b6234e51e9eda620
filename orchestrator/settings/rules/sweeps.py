"""Rules of the sweep block: search, scheduler and budget."""

from orchestrator.fields.faults import describe
from orchestrator.fields.field_types import COSTS
from orchestrator.fields.rule import rule
from orchestrator.settings.entries import LISTS
from orchestrator.settings.experiment import Experiment

# metrics of different values of these settings do not compare: the data set, its images, or the
# features differ
APART = (
    "data.name",
    "data.root",
    "data.size",
    "data.limit",
    "data.background",
    "data.split",
    "data.skip_damaged",
    "data.binary",
    "evaluation.features",
    "evaluation.weights",
    "evaluation.weights_sha256",
)


@rule("sweep.metric", "evaluation.metrics")
def _the_metric_is_measured(experiment: Experiment) -> str | None:
    sweep, metrics = experiment.sweep, experiment.evaluation.metrics
    if sweep is None:
        return None
    known = metrics if isinstance(sweep.metric, str) else (*metrics, *COSTS)
    missing = [name for name in sweep.objectives if name not in known]
    if missing:
        return f"got {describe(missing[0])}, expected one of evaluation.metrics: {', '.join(known)}"
    if sweep.ranked_by in COSTS:
        return f"got {describe(sweep.ranked_by)} first, which ranks the trials: expected one of {', '.join(metrics)}"
    return None


@rule("sweep.mode", "sweep.metric")
def _several_metrics_have_their_own_mode(experiment: Experiment) -> str | None:
    sweep = experiment.sweep
    if sweep is None or sweep.mode == "min" or isinstance(sweep.metric, str):
        return None
    return "got max, expected min: each of several metrics has its own direction"


@rule("sweep.scheduler", "sweep.metric")
def _asha_ranks_by_one_metric(experiment: Experiment) -> str | None:
    sweep = experiment.sweep
    if sweep is None or sweep.scheduler != "asha" or isinstance(sweep.metric, str):
        return None
    return 'got "asha", which stops trials by FID alone, expected none where sweep.metric has several metrics'


@rule("sweep.space", "sweep.search", "sweep.metric")
def _points_of_several_metrics_are_one_setting(experiment: Experiment) -> str | None:
    """The mean over a grid of step counts has neither an NFE nor a place on a Pareto front."""
    sweep = experiment.sweep
    if sweep is None or sweep.search != "optuna" or isinstance(sweep.metric, str):
        return None
    grids = [key for key, entry in sweep.space.items() if entry.kind == "grid" and key != "seed"]
    if not grids:
        return None
    why = "optuna would take the mean over the grid for each of several metrics"
    return f"got {', '.join(grids)} grid, expected {{choice: [...]}}: {why}"


@rule("sweep.baseline", "sweep.space")
def _the_baseline_is_a_trial(experiment: Experiment) -> str | None:
    sweep = experiment.sweep
    for key, value in ((sweep and sweep.baseline) or {}).items():
        assert sweep is not None, "the baseline is of a sweep"
        entry = sweep.space.get(key)
        if entry is None and not experiment.has(key):
            return f"got {key}, which is no setting of this experiment"
        if entry is not None and entry.kind not in LISTS:
            return f"got {key}, which is drawn from a range: expected keys with one value or a list"
        values = (experiment.value(key),) if entry is None else entry.values
        if value not in values:
            listed = ", ".join(map(describe, values))
            return f"got {key} {describe(value)}, expected one of {listed}: no trial has it"
    return None


@rule("sweep.num_trials", "sweep.search")
def _what_is_drawn_is_counted(experiment: Experiment) -> str | None:
    sweep = experiment.sweep
    if sweep is None or (sweep.search == "grid") == (sweep.num_trials is None):
        return None
    if sweep.search == "grid":
        return f"got {sweep.num_trials}, expected null: a grid runs every combination"
    return f"got null, expected the number of points that {sweep.search} draws"


@rule("sweep.sampler", "sweep.search")
def _the_sampler_is_of_optuna(experiment: Experiment) -> str | None:
    sweep = experiment.sweep
    if sweep is None or sweep.sampler == "tpe" or sweep.search == "optuna":
        return None
    return f"got {sweep.sampler}, expected tpe where sweep.search is {sweep.search}: optuna has samplers"


@rule("sweep.space", "sweep.search")
def _a_grid_draws_nothing(experiment: Experiment) -> str | None:
    sweep = experiment.sweep
    if sweep is None:
        return None
    drawn = [key for key, entry in sweep.space.items() if entry.kind != "grid"]
    if bool(drawn) == (sweep.search != "grid"):
        return None
    if drawn:
        kinds = ", ".join(f"{key} {sweep.space[key].kind}" for key in drawn)
        return f"got {kinds}, expected {{grid: [...]}}: other entries need sweep.search random, sobol or optuna"
    expected = "choice, uniform, loguniform or int for at least one key"
    return f"expected {expected}: sweep.search {sweep.search} draws from these"


@rule("sweep.space", "sweep.search", "sweep.scheduler")
def _only_numbers_that_compare_are_searched_by(experiment: Experiment) -> str | None:
    """Optuna and ASHA rank trials by metrics that do not compare across data sets or features."""
    sweep = experiment.sweep
    if sweep is None or (sweep.search != "optuna" and sweep.scheduler != "asha"):
        return None
    incomparable = [key for key in sweep.space if key in APART]
    if not incomparable:
        return None
    ranking = f"optuna ranks trials by {', '.join(sweep.objectives)}"
    if sweep.search != "optuna":
        ranking = "asha ranks trials by FID"
    why = f"{ranking}, which does not compare across data or features"
    return f"got {', '.join(incomparable)}: {why}: write one sweep for each, or use grid, random or sobol"


@rule("sweep.learn_from", "sweep.search")
def _only_optuna_learns(experiment: Experiment) -> str | None:
    sweep = experiment.sweep
    if sweep is None or not sweep.learn_from or sweep.search == "optuna":
        return None
    return f"got {describe(sweep.learn_from)}, expected []: only optuna learns from earlier sweeps"


@rule("sweep.scheduler", "evaluation.every", "evaluation.every_student")
def _asha_looks_at_something(experiment: Experiment) -> str | None:
    sweep = experiment.sweep
    evaluation = experiment.evaluation
    if sweep is None or sweep.scheduler != "asha":
        return None
    if evaluation.every is not None or evaluation.every_student is not None:
        return None
    looks = "evaluation.every or evaluation.every_student: the steps after which FID is measured"
    return f'got "asha", expected none, or {looks}'


@rule("sweep.grace_steps", "sweep.scheduler", "teacher.steps")
def _grace_is_of_asha(experiment: Experiment) -> str | None:
    sweep = experiment.sweep
    if sweep is None or sweep.grace_steps is None:
        return None
    if sweep.scheduler != "asha":
        return f"got {sweep.grace_steps}, expected null: only sweep.scheduler asha stops trials"
    if experiment.evaluation.every is not None and sweep.grace_steps >= experiment.teacher.steps:
        return (
            f"got {sweep.grace_steps}, expected less than teacher.steps, {experiment.teacher.steps}"
        )
    return None


@rule("evaluation.every", "teacher.steps")
def _a_teacher_is_measured_before_its_end(experiment: Experiment) -> str | None:
    every, steps = experiment.evaluation.every, experiment.teacher.steps
    if every is None or every < steps:
        return None
    return f"got {every}, expected less than teacher.steps, {steps}"


@rule("evaluation.every_student", "distill.steps")
def _a_student_is_measured_before_its_end(experiment: Experiment) -> str | None:
    every = experiment.evaluation.every_student
    if every is None:
        return None
    longest = max(lesson.steps for lesson in experiment.distill.lessons())
    if every < longest:
        return None
    return f"got {every}, expected less than the training steps of a student, {longest}"

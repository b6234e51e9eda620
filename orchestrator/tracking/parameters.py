"""The settings of runs as MLflow's parameters, each under one name: a short one where it is in SHORT,
otherwise its dotted key in the file."""

from typing import Any

from kaccore.nfe import EVALUATIONS
from orchestrator.fields.elements import element
from orchestrator.plan import cost
from orchestrator.plan.plan import Plan, Trial
from orchestrator.plan.stage import Stage
from orchestrator.settings.changed import changed
from orchestrator.settings.experiment import Experiment
from orchestrator.sweeps.records import NOT_OF_RESULTS, TRAINING_NFE

# the settings that every trial logs, and their names; config.yaml has all
SHORT = {
    "path.kind": "path",
    "path.damping": "damping",
    "path.speed": "speed",
    "path.clock": "clock",
    "sampling.model": "model",
    "sampling.solver": "solver",
    "sampling.steps": "steps",
    "sampling.guidance": "guidance",
    "distill.kind": "distiller",
}
# the step counts of the students, and the distillers of a programme, as one text
INTERVALS = "intervals"


def name_of(key: str) -> str:
    """The name of the parameter that has the setting of this dotted key."""
    if key in ("distill.intervals", "distill.stages"):
        return INTERVALS
    where = element(key)
    if where is not None and where.name in ("kind", "intervals"):
        return INTERVALS
    return SHORT.get(key, key)


def of_trial(trial: Trial) -> dict[str, Any]:
    """The settings of SHORT, those that are not at the program's defaults, the swept ones, and what
    sampling and training cost."""
    values = {name: trial.config.value(key) for key, name in SHORT.items()}
    values[INTERVALS] = trial.config.distill.chain_text()
    values["nfe"] = evaluations_per_image(trial)
    values[TRAINING_NFE] = round(cost.with_parents(trial.chain[-1]))
    return values | _named({**_changed(trial.config), **trial.own_overrides})


def evaluations_per_image(trial: Trial) -> int:
    """The network evaluations (NFE) that an image of the trial takes."""
    sampling = trial.config.sampling
    return sampling.steps * EVALUATIONS[sampling.solver] * (1 if sampling.guidance == 1 else 2)


def of_sweep(plan: Plan) -> dict[str, Any]:
    """The settings that all trials of a sweep share and that are in SHORT or not at the program's
    defaults."""
    config, swept = plan.experiment, {name_of(key) for key in plan.swept}
    values = {name: config.value(key) for key, name in SHORT.items()}
    values[INTERVALS] = config.distill.chain_text()
    values |= _named(_changed(config))
    return {name: value for name, value in values.items() if name not in swept}


def of_training(stage: Stage, trial: Trial) -> dict[str, Any]:
    """The settings of a training, which `trial` needs: its path, how it is optimised, and what is not
    at the program's defaults of the data, the network and a teacher's training."""
    path = {f"path.{key}": value for key, value in stage.teacher_spec.path.content().items()}
    own = "teacher" if stage.kind == "teacher" else "distill"
    blocks = ("data", "model", "seed", *(("teacher",) if stage.kind == "teacher" else ()))
    values = _named({k: v for k, v in path.items() if k in SHORT})
    others = {k: v for k, v in _changed(trial.config).items() if k.partition(".")[0] in blocks}
    values |= {**others, **{f"{own}.{k}": v for k, v in stage.content["optimise"].items()}}
    student = {SHORT["distill.kind"]: "distiller", INTERVALS: "intervals"}
    return values | {name: stage.content[k] for name, k in student.items() if k in stage.content}


def _changed(config: Experiment) -> dict[str, Any]:
    values = changed(config)
    return {k: v for k, v in values.items() if k.partition(".")[0] not in NOT_OF_RESULTS}


def _named(settings: dict[str, Any]) -> dict[str, Any]:
    """`settings` by the names of their parameters, without those that INTERVALS covers."""
    named = {name_of(key): value for key, value in settings.items()}
    named.pop(INTERVALS, None)
    return named

"""plan.json: a plan as a sweep's folder keeps it. Reading it back needs no data, no planning, and
no particular FORMAT: each stage has the key under which its result lies."""

from collections.abc import Mapping
from typing import Any

from orchestrator.plan.data import DatasetInfo, of_plain
from orchestrator.plan.plan import Facts, Plan, Trial
from orchestrator.plan.points import Expansion, Skipped, TrialSpec
from orchestrator.plan.specs import of_content
from orchestrator.plan.stage import TRAINING, Stage
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.space import owned, with_values

VERSION = 2  # of the file; raised when an older version of this module could not read it


def to_plain(plan: Plan) -> dict[str, Any]:
    """The plan as JSON takes it; `of_plain` is the way back. Its `stages` are those that the trials
    need, its `others` the students that no trial samples."""
    needed = {stage.key: stage for stage in plan.stages()}
    chains: list[dict[str, str]] = []  # the students of each trial: many trials have the same
    places: dict[str, int] = {}
    others: dict[str, Stage] = {}
    trials = []
    for trial in plan.trials:
        students = {str(steps): stage.key for steps, stage in trial.students.items()}
        place = places.setdefault(repr(students), len(chains))
        chains += [students] if place == len(chains) else []
        others |= {
            s.key: s
            for student in trial.students.values()
            for s in student.training()
            if s.key not in needed
        }
        trials.append(
            {
                "trial": trial.index,
                "key": trial.key,
                "overrides": trial.overrides,
                "intervals": trial.config.distill.chain_text(),
                "point": trial.point,
                "stages": [stage.key for stage in trial.stages()],
                "students": place,
                "data": trial.facts.fingerprint,
                "features": trial.facts.features,
            }
        )
    return {
        "version": VERSION,
        "name": plan.experiment.name,
        "id": plan.id,
        "goal": plan.goal,
        "datasets": {info.fingerprint: info.plain() for info in plan.datasets()},
        "trials": trials,
        "stages": {key: _stage(stage, plan.names[key]) for key, stage in needed.items()},
        "others": {key: _stage(stage, stage.label) for key, stage in others.items()},
        "students": chains,
        "points": list(plan.expansion.points),
        "skipped": [{"overrides": s.overrides, "reason": s.reason} for s in plan.skipped],
    }


def of_noted(noted: Mapping[str, Any], experiment: Experiment) -> Plan:
    """The plan of `experiment` in what `to_plain` made. Raises ValueError where another version of
    this project made it, KeyError or TypeError where it is damaged."""
    if noted.get("version") != VERSION:
        raise ValueError(f"plan.json is of version {noted.get('version', 1)}, expected {VERSION}")
    datasets = {key: of_plain(each) for key, each in noted["datasets"].items()}
    stages: dict[str, Stage] = {}
    written = {**noted["stages"], **noted["others"]}
    for key in written:
        _restore(key, written, stages)
    base = {**experiment.model_dump(mode="json"), "sweep": None}
    trials = tuple(_trial(each, noted, base, stages, datasets) for each in noted["trials"])
    specs = [TrialSpec(t.index, t.overrides, t.config, t.point) for t in trials]
    skipped = [Skipped(each["overrides"], each["reason"]) for each in noted["skipped"]]
    expansion = Expansion(specs, skipped, list(noted["points"]))
    return Plan(experiment, noted["goal"], trials, tuple(skipped), expansion, recorded=noted["id"])


def _stage(stage: Stage, name: str) -> dict[str, Any]:
    return {
        "kind": stage.kind,
        "label": stage.label,
        "name": name,
        "config": stage.content,
        "parents": [parent.key for parent in stage.parents],
    }


def _restore(key: str, written: Mapping[str, Any], stages: dict[str, Stage]) -> Stage:
    if key not in stages:
        noted = written[key]
        parents = tuple(_restore(parent, written, stages) for parent in noted["parents"])
        model = parents[0].kind if parents else ""
        spec = of_content(noted["kind"], noted["config"], model)
        stages[key] = Stage(spec, parents, noted["label"], recorded=key)
    return stages[key]


def _trial(
    each: Mapping[str, Any],
    noted: Mapping[str, Any],
    base: Mapping[str, Any],
    stages: Mapping[str, Stage],
    datasets: Mapping[str, DatasetInfo],
) -> Trial:
    own = [stages[key] for key in each["stages"]]
    only = {stage.kind: stage for stage in own if stage.kind not in TRAINING}
    return Trial(
        each["trial"],
        each["overrides"],
        Experiment.model_validate(
            with_values(base, owned(base, each["overrides"]))
        ),  # its rules were kept when it was planned
        tuple(stage for stage in own if stage.kind in TRAINING),
        Facts(datasets[each["data"]], each["features"]),
        {int(steps): stages[key] for steps, key in noted["students"][each["students"]].items()},
        only.get("reference"),
        only.get("evaluation"),
        each["point"],
    )

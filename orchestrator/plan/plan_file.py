"""plan.json: a plan as stored in a sweep's folder. Reading it needs no data, no planning, and no
particular FORMAT: it contains the key under which the result of each stage is stored."""

from collections.abc import Mapping
from typing import Any

from orchestrator.plan.data import DatasetInfo, of_plain
from orchestrator.plan.plan import Facts, Plan, Trial, with_implied
from orchestrator.plan.points import Expansion, Skipped, TrialSpec
from orchestrator.plan.specs import of_content
from orchestrator.plan.stage import CHAIN, Stage
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.space import owned, with_values

VERSION = 2  # of the file; to be raised when older versions of this module cannot read it


def to_plain(plan: Plan) -> dict[str, Any]:
    """The plan for JSON; `of_noted` is the inverse. `stages` are those that the trials need,
    `others` the students that no trial samples."""
    needed = {stage.key: stage for stage in plan.stages()}
    chains: list[dict[str, str]] = []  # the students of each trial, shared by many trials
    indices: dict[str, int] = {}
    others: dict[str, Stage] = {}
    trials = []
    for trial in plan.trials:
        students = {str(steps): stage.key for steps, stage in trial.students.items()}
        index = indices.setdefault(repr(students), len(chains))
        if index == len(chains):
            chains.append(students)
        for student in trial.students.values():
            for stage in student.training():
                if stage.key not in needed:
                    others[stage.key] = stage
        trials.append(
            {
                "trial": trial.index,
                "key": trial.key,
                "overrides": trial.overrides,
                "intervals": trial.config.distill.chain_text(),
                "point": trial.point,
                "stages": [stage.key for stage in trial.stages()],
                "students": index,
                "data": trial.facts.fingerprint,
                "features": trial.facts.features,
                "second": trial.facts.second,
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
    """The plan of `experiment`, the inverse of `to_plain`. Raises ValueError if another version of
    this project wrote it, KeyError or TypeError if it is damaged."""
    if noted.get("version") != VERSION:
        raise ValueError(f"plan.json has version {noted.get('version', 1)}, expected {VERSION}")
    datasets = {key: of_plain(info) for key, info in noted["datasets"].items()}
    stages: dict[str, Stage] = {}
    written = {**noted["stages"], **noted["others"]}
    for key in written:
        _restore(key, written, stages)
    base = {**experiment.model_dump(mode="json"), "sweep": None}
    rows = tuple(_trial(row, noted, base, stages, datasets) for row in noted["trials"])
    trials = with_implied(experiment, rows)
    specs = [TrialSpec(t.index, t.overrides, t.config, t.point) for t in trials]
    skipped = [Skipped(row["overrides"], row["reason"]) for row in noted["skipped"]]
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
    """The stage with this `key`, added to `stages` together with its parents."""
    if key not in stages:
        entry = written[key]
        parents = tuple(_restore(parent, written, stages) for parent in entry["parents"])
        model = parents[0].kind if parents else ""
        spec = of_content(entry["kind"], entry["config"], model)
        stages[key] = Stage(spec, parents, entry["label"], recorded=key)
    return stages[key]


def _trial(
    row: Mapping[str, Any],
    noted: Mapping[str, Any],
    base: Mapping[str, Any],
    stages: Mapping[str, Stage],
    datasets: Mapping[str, DatasetInfo],
) -> Trial:
    own = [stages[key] for key in row["stages"]]
    references = [stage for stage in own if stage.kind == "reference"]
    evaluations = [stage for stage in own if stage.kind == "evaluation"]
    students = noted["students"][row["students"]]
    # the rules were checked when the trial was planned
    config = Experiment.model_validate(with_values(base, owned(base, row["overrides"])))
    return Trial(
        row["trial"],
        row["overrides"],
        config,
        tuple(stage for stage in own if stage.kind in CHAIN),
        Facts(datasets[row["data"]], row["features"], row.get("second")),
        {int(steps): stages[key] for steps, key in students.items()},
        references[0] if references else None,
        evaluations[0] if evaluations else None,
        references[1] if len(references) > 1 else None,
        row["point"],
    )

"""From an experiment to its trials, and to the stages (`stage`) that each trial needs."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from kaccore.metrics.features import OWN, OwnTraining, feature_label, own_name
from orchestrator.fields.elements import element
from orchestrator.fields.kind import FAMILIES
from orchestrator.methods.feature_kind import FeatureKind
from orchestrator.plan.data import DatasetInfo, by_name
from orchestrator.plan.expand import expand
from orchestrator.plan.points import Expansion, Known, Point, PointSpace, Skipped, TrialSpec
from orchestrator.plan.specs import (
    DataRef,
    EvaluationSpec,
    FeaturesSpec,
    Optimise,
    ReferenceSpec,
    TeacherSpec,
)
from orchestrator.plan.stage import FORMAT, Stage
from orchestrator.plan.students import students
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.loading import override

# where and how a run is executed, not what it computes
UNHASHED = ("plugins", "storage", "tracking", "cluster", "checkpoint")
# how much of a sweep is run
EXTENT = (
    "baseline",
    "num_trials",
    "learn_from",
    "max_concurrent_trials",
    "max_minutes",
    "max_core_hours",
)
# settings that came after others, by block, with the value that all sweeps had before
LATER: Mapping[str, Mapping[str, Any]] = {
    "sweep": {"sampler": "tpe"},
    "data": {"binary": False},
    "teacher": {"weights": None, "weights_sha256": None, "weights_names": {}},
    "evaluation": {"every_student": None},
}
SEED = "seed"
# of a teacher whose weights are given
UNTRAINED = Optimise(steps=0, lr=0.0, ema=0.0, batch_size=1, schedule="cosine")


@dataclass(frozen=True)
class Facts:
    """The facts that planning a trial needs in addition to its settings: its data, and the names of the
    `features` that its `evaluation.features` selects and of the `second` ones, if any."""

    data: DatasetInfo
    features: str
    second: str | None = None

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the data's content, or a placeholder if the data were not read."""
        return self.data.fingerprint


FactsOf = Callable[[Experiment], Facts]


def alike(fingerprint: str, features: str, second: str | None = None) -> FactsOf:
    """The same facts for every trial, independent of its data."""
    return lambda config: Facts(by_name(config.data, fingerprint), features, second)


@dataclass(frozen=True)
class Trial:
    """One row of the results: a complete configuration, the training stages that it needs, and its
    evaluation if any. `students`: all students of its distiller, by step count; `second`: the
    reference of the second features, if there is one."""

    index: int
    overrides: dict[str, Any]
    config: Experiment
    chain: tuple[Stage, ...]
    facts: Facts
    students: Mapping[int, Stage] = field(default_factory=dict)
    reference: Stage | None = None
    evaluation: Stage | None = None
    second: Stage | None = None
    point: int = 0  # the number of the drawn point that the trial belongs to
    # swept keys that titles leave out: others of the sweep imply their values
    implied: frozenset[str] = frozenset()

    @property
    def key(self) -> str:
        """The key of the last stage, which is the result of the trial."""
        return (self.evaluation or self.chain[-1]).key

    @property
    def title(self) -> str:
        """The swept settings in short, for display."""
        if not self.shown_overrides:
            return self.config.name
        values = {key: programme(value) or value for key, value in self.shown_overrides.items()}
        return ", ".join(f"{short_key(key)} {value}" for key, value in values.items())

    @property
    def own_overrides(self) -> dict[str, Any]:
        """The overrides of settings that the trial's kinds have."""
        return {key: value for key, value in self.overrides.items() if self.config.has(key)}

    @property
    def shown_overrides(self) -> dict[str, Any]:
        """The same without those that others imply: what a title needs."""
        return {key: value for key, value in self.own_overrides.items() if key not in self.implied}

    def stages(self) -> tuple[Stage, ...]:
        """All stages of the trial in the order of execution, parents first: the references, the
        training stages, the evaluation."""
        last = () if self.evaluation is None else (self.evaluation,)
        return (*self.measured_by(), *self.chain, *last)

    def measured_by(self) -> tuple[Stage, ...]:
        """The references, each after its parents; empty if the trial is not measured."""
        references = [stage for stage in (self.reference, self.second) if stage is not None]
        stages = [stage for reference in references for stage in (*reference.parents, reference)]
        return tuple(dict.fromkeys(stages))


@dataclass(frozen=True)
class Plan:
    """All trials of an experiment, the skipped combinations, and an id that equal plans share."""

    experiment: Experiment
    # the last stage of a run: teacher, student, evaluation or sweep, for the commands train, distill,
    # evaluate and sweep
    goal: str
    trials: tuple[Trial, ...]
    skipped: tuple[Skipped, ...]
    expansion: Expansion
    facts_of: FactsOf | None = field(default=None, compare=False)  # for trials that are drawn later
    # the id, if the plan was read from a sweep's folder
    recorded: str = field(default="", compare=False)

    @property
    def grows(self) -> bool:
        """Whether new trials are drawn while others finish."""
        sweep = self.experiment.sweep
        return self.goal == "sweep" and sweep is not None and sweep.search == "optuna"

    @property
    def swept(self) -> tuple[str, ...]:
        """The swept keys."""
        sweep = self.experiment.sweep
        return () if sweep is None or self.goal != "sweep" else tuple(sweep.space)

    @cached_property
    def id(self) -> str:
        """10 hexadecimal digits. The same command has the same id, and so finds its folder and its
        runs again."""
        if self.recorded:
            return self.recorded
        content: list[Any] = [
            self.experiment.name,
            self.goal,
            [(t.overrides, t.key) for t in self.trials],
        ]
        # the trials of a growing sweep do not identify it: a later command may draw more of them
        if self.grows:
            whole = self.experiment.model_dump(mode="json", exclude=set(UNHASHED))
            whole["sweep"] = {k: v for k, v in whole["sweep"].items() if k not in EXTENT}
            for block, defaults in LATER.items():  # a setting that is new changes no id
                for name, value in defaults.items():
                    if name in whole[block] and whole[block][name] == value:
                        del whole[block][name]
            assert self.facts_of is not None
            base = self.facts_of(self.experiment)
            content[2] = [whole, base.fingerprint, base.features]
            if base.second is not None:
                content[2].append(base.second)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def name(self) -> str:
        """The name by which commands find it and MLflow shows it: name/id."""
        return f"{self.experiment.name}/{self.id}"

    def drawn(self, known: Sequence[Known]) -> "Plan | None":
        """The plan with one more point, chosen with the results in `known`; None if there is no new
        point."""
        from orchestrator.plan import optuna_points

        space = PointSpace(self.experiment, self.experiment.name)
        expansion = self.expansion.copy()
        if not optuna_points.add_next(space, expansion, known):
            return None
        assert self.facts_of is not None, "only a plan that was not read from a folder grows"
        return _planned(self.experiment, self.goal, self.facts_of, expansion, self.trials)

    def stages(self, kinds: Sequence[str] = tuple(FORMAT)) -> Iterator[Stage]:
        """Every stage once, parents before children, in the order of the trials."""
        seen: set[str] = set()
        for stage in (s for t in self.trials for s in t.stages()):
            if stage.key not in seen and stage.kind in kinds:
                seen.add(stage.key)
                yield stage

    @cached_property
    def names(self) -> dict[str, str]:
        """The display name of each stage, by key: its label, followed by the swept settings that
        differ if several stages have the same label."""
        return _named((s.label, s.key, t) for t in self.trials for s in t.stages())

    @cached_property
    def data_names(self) -> dict[str, str]:
        """The display name of each data set, by fingerprint, built in the same way."""
        return _named((t.facts.data.name, t.facts.fingerprint, t) for t in self.trials)

    def on_data(self, features: str, trial: Trial) -> str:
        """`features`, followed by the name of the trial's data if the plan has several data sets:
        metrics with the same name compare."""
        names = self.data_names
        if len(names) <= 1:
            return features
        return f"{features} on {names[trial.facts.fingerprint]}"

    def datasets(self) -> list[DatasetInfo]:
        """The data sets of all trials, without duplicates."""
        return list({trial.facts.fingerprint: trial.facts.data for trial in self.trials}.values())

    def part(self, indices: Container[int]) -> "Plan":
        """The plan restricted to the trials with these `indices`."""
        return replace(self, trials=tuple(t for t in self.trials if t.index in indices))

    def leaders(self) -> list[Trial]:
        """The trials with the longest chains, which together contain all training stages."""
        leaders: list[Trial] = []
        covered: set[str] = set()
        for trial in sorted(self.trials, key=lambda t: -len(t.chain)):
            if trial.chain[-1].key not in covered:
                leaders.append(trial)
                covered |= {stage.key for stage in trial.chain}
        return leaders

    def running_order(self) -> list[Trial]:
        """Leaders first, so that one worker group trains a whole chain; then the others, shortest
        chain first."""
        leaders = self.leaders()
        others = [trial for trial in self.trials if trial not in leaders]
        return leaders + sorted(others, key=lambda trial: len(trial.chain))


def _named(uses: Iterable[tuple[str, str, Trial]]) -> dict[str, str]:
    """Display names, by key, of objects given as (label, key, a trial that uses it). Objects with
    the same label are distinguished by the swept settings of their trials."""
    by_label: dict[str, dict[str, list[Trial]]] = defaultdict(lambda: defaultdict(list))
    for label, key, trial in uses:
        by_label[label][key].append(trial)
    names: dict[str, str] = {}
    for label, trials in by_label.items():
        if len(trials) == 1:
            names |= dict.fromkeys(trials, label)
        else:
            names |= _distinguished(label, trials)
    return names


def _distinguished(label: str, trials: Mapping[str, Sequence[Trial]]) -> dict[str, str]:
    """Different names, by key, of objects with the same `label`; `trials`: those that use each."""
    settings = {key: _common(users) for key, users in trials.items()}
    differing = _differing(list(settings.values()))
    names: dict[str, str] = {}
    for key, values in settings.items():
        parts = [f"{short_key(name)} {plain(values[name])}" for name in differing]
        names[key] = ", ".join([label, *parts])
    # no trial uses two objects of one label, so the first trial of each distinguishes the rest
    counts = Counter(names.values())
    for key, name in names.items():
        if counts[name] > 1:
            names[key] = f"{name} of trial {trials[key][0].index}"
    return names


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names that are in all `settings`, but not with the same value in all."""
    differing = []
    for name in settings[0]:
        if all(name in values for values in settings):
            texts = {json.dumps(values[name]) for values in settings}
            if len(texts) > 1:
                differing.append(name)
    return differing


def _common(trials: Sequence[Trial]) -> dict[str, Any]:
    """The swept settings that have the same value in all trials."""
    first, *others = trials
    common = {}
    for key, value in first.shown_overrides.items():
        if all(trial.overrides.get(key) == value for trial in others):
            common[key] = value
    return common


def short_key(key: str) -> str:
    """A dotted key for display: path.damping is damping, path.kind is path, data.name is data;
    distill.stages.1.weight is stages.1.weight."""
    if element(key) is not None:
        return key.partition(".")[2]
    return key.removesuffix(".kind").removesuffix(".name").rsplit(".", 1)[-1]


def plain(value: Any) -> str:
    """A swept value for display: text unchanged, numbers with four digits, a programme of distillers
    in short, other lists and null as YAML writes them."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else programme(value) or json.dumps(value)


def programme(value: Any) -> str:
    """A swept list of the stages of a programme in short, such as pairs 1 > adversarial 1; empty for
    another value."""
    stages = value if isinstance(value, (list, tuple)) else ()
    if not stages or not all(isinstance(stage, Mapping) and "kind" in stage for stage in stages):
        return ""
    return " > ".join(
        " ".join([stage["kind"], "-".join(map(str, stage.get("intervals", ())))]).rstrip()
        for stage in stages
    )


def skipped_lines(plan: Plan) -> list[str]:
    """One line for each reason why combinations were skipped, or settings were ignored."""
    reasons = Counter(re.sub(r"got [^,]+, ", "", s.reason) for s in plan.skipped)
    lines = [f"left out {n} combination{'s' * (n > 1)}: {reason}" for reason, n in reasons.items()]
    return [*lines, *_foreign_lines(plan)]


def _foreign_lines(plan: Plan) -> Iterator[str]:
    """One line for each swept kind that does not have all settings that the file has for its
    block."""
    for block, family in FAMILIES.items():
        named = f"{block}.{family.key}"
        base = getattr(plan.experiment, block)
        fields = type(base).model_fields
        given = {name for name in fields if getattr(base, name) != fields[name].default}
        given |= {key.split(".")[1] for key in plan.swept if key.startswith(f"{block}.")}
        given.discard(family.key)
        kinds = Counter(t.overrides[named] for t in plan.trials if named in t.overrides)
        for kind, count in kinds.items():
            foreign = sorted(given - family[kind].model_fields.keys())
            if foreign:
                where = f"in {count} trial{'s' * (count > 1)}"
                yield f"left out {', '.join(foreign)} {where}: {named} {kind} has no such key"


def make(
    experiment: Experiment, facts_of: FactsOf, goal: str = "sweep", points: Iterable[Point] = ()
) -> Plan:
    """The plan of `experiment` up to `goal`: all trials of its sweep (for optuna those of the
    `points` drawn so far), or the single trial without the sweep. `facts_of` returns the data and
    the features of a trial's configuration."""
    base = experiment if goal == "sweep" else override(experiment, {"sweep": None})
    expansion = expand(base, points=points)
    return _planned(experiment, goal, facts_of, expansion)


def _planned(
    experiment: Experiment,
    goal: str,
    facts_of: FactsOf,
    expansion: Expansion,
    known: tuple[Trial, ...] = (),
) -> Plan:
    new_specs = expansion.trials[len(known) :]
    new = tuple(_trial(spec, facts_of(spec.config), goal) for spec in new_specs)
    trials = with_implied(experiment, known + new)
    return Plan(experiment, goal, trials, tuple(expansion.skipped), expansion, facts_of)


def with_implied(experiment: Experiment, trials: tuple[Trial, ...]) -> tuple[Trial, ...]:
    """The trials of a grid, with the swept keys whose value a swept key before them decides, or
    that have one value in all trials. Trials that are drawn keep all of theirs: values seldom
    repeat."""
    sweep = experiment.sweep
    if sweep is None or sweep.search != "grid" or len(trials) < 2:
        return trials
    told: list[list[str]] = []  # the values of each key that titles show, as JSON
    implied = set[str]()
    for key in trials[0].overrides:
        values = [json.dumps(t.overrides[key]) if t.config.has(key) else "" for t in trials]
        if key == SEED:
            continue
        if len(set(values)) == 1 or any(_decides(known, values) for known in told):
            implied.add(key)
        else:
            told.append(values)
    if not implied:
        return trials
    return tuple(replace(trial, implied=frozenset(implied)) for trial in trials)


def _decides(known: Sequence[str], values: Sequence[str]) -> bool:
    """Whether equal entries of `known` have equal entries of `values`. Entries of `known` that are
    all different decide nothing: no two trials compare."""
    pairs = set(zip(known, values, strict=True))
    return len(pairs) == len(set(known)) < len(known)


def teacher_stage(config: Experiment, fingerprint: str) -> Stage:
    """The teacher of a run."""
    teacher = config.teacher
    shared: dict[str, Any] = {
        "data": DataRef.of(config.data, fingerprint),
        "path": config.path,
        "model": config.model,
        "seed": config.seed,
    }
    if teacher.weights is not None:  # what concerns training alone is in no key
        spec = TeacherSpec(
            **shared,
            label_dropout=None if teacher.label_dropout is None else 0.0,
            optimise=replace(UNTRAINED, calibrate=teacher.calibrate),
            weights=teacher.weights_sha256,
            weights_names=teacher.weights_names,
        )
        return Stage(spec, label="teacher")
    spec = TeacherSpec(
        **shared,
        label_dropout=teacher.label_dropout,
        optimise=Optimise(**teacher.model_dump(include={f.name for f in fields(Optimise)})),
        flip=config.data.flipped,
        augment=teacher.augment,
        logit_normal=teacher.logit_normal,
    )
    return Stage(spec, label="teacher")


def _trial(spec: TrialSpec, facts: Facts, goal: str) -> Trial:
    config = spec.config
    teacher = teacher_stage(config, facts.fingerprint)
    taught = students(config, teacher)

    def planned(
        *chain: Stage,
        reference: Stage | None = None,
        evaluation: Stage | None = None,
        second: Stage | None = None,
    ) -> Trial:
        own = (spec.index, spec.overrides, config)
        return Trial(*own, chain, facts, taught, reference, evaluation, second, spec.point)

    sampling, evaluation = config.sampling, config.evaluation
    reference = reference_stage(config, facts)
    second = second_stage(config, facts)
    watched = evaluation.every is not None or evaluation.every_student is not None
    watching = reference if watched else None
    if goal == "teacher":
        return planned(teacher, reference=watching)
    if goal == "student":
        every = [stage for student in taught.values() for stage in student.training()]
        return planned(*dict.fromkeys(every), reference=watching)
    trained = teacher if sampling.model == "teacher" else taught[sampling.steps]
    measured = EvaluationSpec(
        sampling.model_copy(update={"ema": trained.average(sampling.ema)}),
        evaluation.samples,
        tuple(evaluation.metrics),
        tuple(evaluation.diagnostics),
        evaluation.seeds,
        config.seed,
    )
    label = f"{sampling.model} {sampling.steps} {sampling.solver}"
    references = (reference,) if second is None else (reference, second)
    last = Stage(measured, (trained, *references), label)
    return planned(*trained.training(), reference=reference, evaluation=last, second=second)


def reference_stage(config: Experiment, facts: Facts) -> Stage:
    """The features of the real images, for a run."""
    data = DataRef.of(config.data, facts.fingerprint)
    return _reference(data, facts.features, config.evaluation.weights_sha256, "reference")


def second_stage(config: Experiment, facts: Facts) -> Stage | None:
    """The second features of the real images, for the FID of a run; None: there are none."""
    if facts.second is None or "fid" not in config.evaluation.metrics:
        return None
    data = DataRef.of(config.data, facts.fingerprint)
    return _reference(data, facts.second, None, "second reference")


def _reference(data: DataRef, features: str, sha256: str | None, label: str) -> Stage:
    if features != OWN:
        kind = FeatureKind.family.kinds.get(features)
        plugin = None if kind is None else kind.plugin()
        return Stage(ReferenceSpec(data, features, sha256, plugin), label=label)
    # independent of the run's seed, so that metrics of different seeds and runs compare
    own = Stage(FeaturesSpec(data, OwnTraining()), label="own features")
    return Stage(ReferenceSpec(data, own_name(own.key), sha256), (own,), label)


def features_of(reference: Stage) -> str:
    """The name of the features in metrics measured with `reference`."""
    spec = reference.reference_spec
    return feature_label(spec.features, spec.weights_sha256)

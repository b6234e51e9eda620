"""From an experiment to its trials, and to the stages (`stage`) that each of them needs."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from kaccore.metrics.features import OWN, OwnTraining, feature_label, own_name
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

UNHASHED = (
    "plugins",
    "storage",
    "tracking",
    "cluster",
    "checkpoint",
)  # where and how a run is done, not what is run
EXTENT = (
    "num_trials",
    "learn_from",
    "max_concurrent_trials",
    "max_minutes",
    "max_core_hours",
)  # how much of it


@dataclass(frozen=True)
class Facts:
    """What planning a trial needs to know beside its settings: its data, and the name of the
    `features` that its `evaluation.features` means."""

    data: DatasetInfo
    features: str

    @property
    def fingerprint(self) -> str:
        """That of the data's content, or a stand-in where the data are not here."""
        return self.data.fingerprint


FactsOf = Callable[[Experiment], Facts]


def alike(fingerprint: str, features: str) -> FactsOf:
    """The same facts for every trial, whatever data it names."""
    return lambda config: Facts(by_name(config.data, fingerprint), features)


@dataclass(frozen=True)
class Trial:
    """One row of the results: a complete configuration, the training stages it needs, and its
    evaluation if any. `students`: all that its chain may have, by their step counts."""

    index: int
    overrides: dict[str, Any]
    config: Experiment
    chain: tuple[Stage, ...]
    facts: Facts
    students: Mapping[int, Stage] = field(default_factory=dict)
    reference: Stage | None = None
    evaluation: Stage | None = None
    point: int = 0  # the number of the draw that the trial belongs to

    @property
    def key(self) -> str:
        """The key of the last stage: what the trial is for."""
        return (self.evaluation or self.chain[-1]).key

    @property
    def title(self) -> str:
        """The swept settings in short, for people."""
        return (
            ", ".join(f"{short_key(key)} {value}" for key, value in self.own_overrides.items())
            or self.config.name
        )

    @property
    def own_overrides(self) -> dict[str, Any]:
        """The overrides of settings that the trial's kinds have."""
        return {key: value for key, value in self.overrides.items() if self.config.has(key)}

    def stages(self) -> tuple[Stage, ...]:
        """All stages of the trial in the order in which they are run, parents first: what it is
        measured by, what it trains, its evaluation."""
        last = () if self.evaluation is None else (self.evaluation,)
        return (*self.measured_by(), *self.chain, *last)

    def measured_by(self) -> tuple[Stage, ...]:
        """The reference after what it is made with; nothing where the trial is not measured."""
        return () if self.reference is None else (*self.reference.parents, self.reference)


@dataclass(frozen=True)
class Plan:
    """All trials of an experiment, those combinations that were left out, and an id that equal
    plans share."""

    experiment: Experiment
    # how far a run goes: teacher, student, evaluation or sweep, as by train, distill, evaluate and
    # sweep
    goal: str
    trials: tuple[Trial, ...]
    skipped: tuple[Skipped, ...]
    expansion: Expansion
    facts_of: FactsOf | None = field(default=None, compare=False)  # of trials that are drawn later
    recorded: str = field(
        default="", compare=False
    )  # the id, where the plan was read from a sweep's folder

    @property
    def grows(self) -> bool:
        """Whether trials are drawn while others end."""
        sweep = self.experiment.sweep
        return self.goal == "sweep" and sweep is not None and sweep.search == "optuna"

    @property
    def swept(self) -> tuple[str, ...]:
        """The swept keys."""
        sweep = self.experiment.sweep
        return () if sweep is None or self.goal != "sweep" else tuple(sweep.space)

    @cached_property
    def id(self) -> str:
        """10 hexadecimal digits: the same command again gives the same id, and so finds its folder
        and runs."""
        if self.recorded:
            return self.recorded
        content: list[Any] = [
            self.experiment.name,
            self.goal,
            [(t.overrides, t.key) for t in self.trials],
        ]
        # which trials it has does not say which sweep it is, and more of them may be asked for
        # later
        if self.grows:
            whole = self.experiment.model_dump(mode="json", exclude=set(UNHASHED))
            whole["sweep"] = {k: v for k, v in whole["sweep"].items() if k not in EXTENT}
            assert self.facts_of is not None
            base = self.facts_of(self.experiment)
            content[2] = [whole, base.fingerprint, base.features]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]

    def drawn(self, known: Sequence[Known]) -> "Plan | None":
        """The plan with one more point, chosen in the light of what is `known`; None where there is
        no new one."""
        from orchestrator.plan import optuna_points

        space = PointSpace(self.experiment, self.experiment.name)
        expansion = self.expansion.copy()
        if not optuna_points.add_next(space, expansion, known):
            return None
        assert self.facts_of is not None, "only a plan that was made here grows"
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
        """What to call each stage, by its key: its label, and where several have the same one the
        swept settings by which they differ."""
        return _named((s.label, s.key, t) for t in self.trials for s in t.stages())

    @cached_property
    def data_names(self) -> dict[str, str]:
        """What to call each data set, by its fingerprint, in the same way."""
        return _named((t.facts.data.name, t.facts.fingerprint, t) for t in self.trials)

    def on_data(self, features: str, trial: Trial) -> str:
        """`features`, with the name of the trial's data where the plan has several data sets:
        numbers compare within what is called the same."""
        names = self.data_names
        return f"{features} on {names[trial.facts.fingerprint]}" if len(names) > 1 else features

    def datasets(self) -> list[DatasetInfo]:
        """The data sets of all trials, each once."""
        return list({trial.facts.fingerprint: trial.facts.data for trial in self.trials}.values())

    def part(self, indices: Container[int]) -> "Plan":
        """The plan of some of the trials alone."""
        return replace(self, trials=tuple(t for t in self.trials if t.index in indices))

    def leaders(self) -> list[Trial]:
        """The trials with the longest chains: everything that any trial needs trained is in one of
        theirs."""
        chosen: list[Trial] = []
        for trial in sorted(self.trials, key=lambda t: -len(t.chain)):
            if not any(trial.chain[-1].key in {s.key for s in t.chain} for t in chosen):
                chosen.append(trial)
        return chosen

    def running_order(self) -> list[Trial]:
        """Leaders first, so that one worker group trains a whole chain; the others by how soon
        theirs will be there."""
        leaders = self.leaders()
        return leaders + sorted(
            (t for t in self.trials if t not in leaders), key=lambda t: len(t.chain)
        )


def _named(found: Iterable[tuple[str, str, Trial]]) -> dict[str, str]:
    """Names, by key, of what has a label, a key, and trials that need it; what has one label is
    told apart by the swept settings of its trials."""
    alike: dict[str, dict[str, list[Trial]]] = defaultdict(lambda: defaultdict(list))
    for label, key, trial in found:
        alike[label][key].append(trial)
    names: dict[str, str] = {}
    for label, trials in alike.items():
        names |= dict.fromkeys(trials, label) if len(trials) == 1 else _told_apart(label, trials)
    return names


def _told_apart(label: str, found: Mapping[str, Sequence[Trial]]) -> dict[str, str]:
    """Names of what has the same `label`, by key, each given with the trials that need it."""
    values = {key: _common(trials) for key, trials in found.items()}
    shared = [
        name
        for name in next(iter(values.values()))
        if all(name in each for each in values.values())
    ]
    differ = [
        name for name in shared if len({json.dumps(each[name]) for each in values.values()}) > 1
    ]
    names = {
        key: ", ".join([label, *(f"{short_key(name)} {plain(each[name])}" for name in differ)])
        for key, each in values.items()
    }
    counts = Counter(
        names.values()
    )  # no trial needs two of one label: the first trial of each tells the rest apart
    return {
        key: name if counts[name] == 1 else f"{name} of trial {found[key][0].index}"
        for key, name in names.items()
    }


def _common(trials: Sequence[Trial]) -> dict[str, Any]:
    """The swept settings that all of the trials have the same value of."""
    first, *others = trials
    return {
        k: v for k, v in first.overrides.items() if all(t.overrides.get(k) == v for t in others)
    }


def short_key(key: str) -> str:
    """A dotted key for people: path.damping is the damping, path.kind the path, data.name the
    data."""
    return key.removesuffix(".kind").removesuffix(".name").rsplit(".", 1)[-1]


def plain(value: Any) -> str:
    """A swept value for people: text as it is, numbers in four digits, lists and null as YAML has
    them."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def skipped_lines(plan: Plan) -> list[str]:
    """One line for each reason why combinations, or settings of some kinds, were left out."""
    reasons = Counter(re.sub(r"got [^,]+, ", "", s.reason) for s in plan.skipped)
    lines = [f"left out {n} combination{'s' * (n > 1)}: {reason}" for reason, n in reasons.items()]
    return [*lines, *_foreign_lines(plan)]


def _foreign_lines(plan: Plan) -> Iterator[str]:
    """One line for each swept kind that lacks settings which the file gives to its block."""
    for block, family in FAMILIES.items():
        named = f"{block}.{family.key}"
        base = getattr(plan.experiment, block)
        fields = type(base).model_fields
        given = {name for name in fields if getattr(base, name) != fields[name].default}
        given |= {key.partition(".")[2] for key in plan.swept if key.startswith(f"{block}.")}
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
    """The plan of `experiment` up to `goal`: all trials of its sweep (by optuna those of the
    `points` drawn so far), or the one of its base. `facts_of` a trial's configuration tells what
    its data and features are."""
    expansion = expand(
        experiment if goal == "sweep" else override(experiment, {"sweep": None}), points=points
    )
    return _planned(experiment, goal, facts_of, expansion)


def _planned(
    experiment: Experiment,
    goal: str,
    facts_of: FactsOf,
    expansion: Expansion,
    known: tuple[Trial, ...] = (),
) -> Plan:
    fresh = tuple(
        _trial(spec, facts_of(spec.config), goal) for spec in expansion.trials[len(known) :]
    )
    return Plan(experiment, goal, known + fresh, tuple(expansion.skipped), expansion, facts_of)


def teacher_stage(config: Experiment, fingerprint: str) -> Stage:
    """The teacher of a run."""
    teacher = config.teacher
    spec = TeacherSpec(
        data=DataRef.of(config.data, fingerprint),
        path=config.path,
        model=config.model,
        label_dropout=teacher.label_dropout,
        optimise=Optimise(**teacher.model_dump(exclude={"label_dropout", "augment"})),
        seed=config.seed,
        flip=config.data.flipped,
        augment=teacher.augment,
    )
    return Stage(spec, label="teacher")


def _trial(spec: TrialSpec, facts: Facts, goal: str) -> Trial:
    config = spec.config
    teacher = teacher_stage(config, facts.fingerprint)
    taught = students(config, teacher)

    def planned(
        *chain: Stage, reference: Stage | None = None, evaluation: Stage | None = None
    ) -> Trial:
        own = (spec.index, spec.overrides, config)
        return Trial(*own, chain, facts, taught, reference, evaluation, spec.point)

    sampling, evaluation = config.sampling, config.evaluation
    reference = reference_stage(config, facts)
    watching = reference if evaluation.every is not None else None
    if goal == "teacher":
        return planned(teacher, reference=watching)
    if goal == "student":
        every = [stage for student in taught.values() for stage in student.training()]
        return planned(*dict.fromkeys(every), reference=watching)
    trained = teacher if sampling.model == "teacher" else taught[sampling.steps]
    measured = EvaluationSpec(
        sampling,
        evaluation.samples,
        tuple(evaluation.metrics),
        tuple(evaluation.diagnostics),
        evaluation.seeds,
        config.seed,
    )
    label = f"{sampling.model} {sampling.steps} {sampling.solver}"
    last = Stage(measured, (trained, reference), label)
    return planned(*trained.training(), reference=reference, evaluation=last)


def reference_stage(config: Experiment, facts: Facts) -> Stage:
    """The real images as the features of a run see them."""
    data = DataRef.of(config.data, facts.fingerprint)
    sha256 = config.evaluation.weights_sha256
    if facts.features != OWN:
        kind = FeatureKind.family.kinds.get(facts.features)
        plugin = None if kind is None else kind.plugin()
        return Stage(ReferenceSpec(data, facts.features, sha256, plugin), label="reference")
    # not of the run's seed: the numbers of all seeds compare, with each other and with those of
    # other runs
    own = Stage(FeaturesSpec(data, OwnTraining()), label="own features")
    return Stage(ReferenceSpec(data, own_name(own.key), sha256), (own,), "reference")


def features_of(reference: Stage) -> str:
    """The name that numbers measured by `reference` carry."""
    spec = reference.reference_spec
    return feature_label(spec.features, spec.weights_sha256)

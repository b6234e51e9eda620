"""The interface of every kind of distiller: which students it trains, and how each is trained and
sampled."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import Field

from orchestrator.fields.faults import describe
from orchestrator.fields.field_types import (
    Count,
    Counts,
    Fraction,
    Intervals,
    NotNegative,
    Positive,
    Rates,
)
from orchestrator.fields.kind import Kind, Settings, family
from orchestrator.fields.rule import kind_rule
from orchestrator.methods.optimised import Optimised

if TYPE_CHECKING:
    from torch import nn

    from kaccore.distill import Distiller, Pairs
    from kaccore.paths import Path
    from orchestrator.methods.network_kind import Shaped
    from orchestrator.settings.experiment import Experiment

T = TypeVar("T")

# instead of the number of a lesson: the teacher at the start of the chain
FIRST_TEACHER = -1


@dataclass(frozen=True)
class PairSettings:
    """Pairs of noise and where the teacher arrives from it, drawn once: `count` of them, by `steps`
    steps of `solver` with `guidance`."""

    count: int
    solver: str
    steps: int
    guidance: float = 1.0


class Student(Settings):
    """How one student is trained: the settings that are hashed into its key, and the objects built
    from them.

    `jumps`: its network also takes the end time of each step, and it samples by jumps, in any number
    of steps. `has_flow`: it is the velocity of a flow, under which points have a likelihood.
    `revision`: a number to raise when a change of code changes what students of this kind learn."""

    jumps: ClassVar[bool] = False
    has_flow: ClassVar[bool] = True
    revision: ClassVar[int] = 1

    distiller: str  # the kind of the distiller
    guidance: NotNegative = 1.0

    def content(self) -> dict[str, Any]:
        content = super().content()
        return content if self.revision == 1 else {**content, "revision": self.revision}

    @property
    def stream(self) -> str:
        """The name of the random stream of its training, which is part of its key. Students that
        differ in other settings use the same random numbers for the same seed, so that their
        results can be compared in pairs."""
        return f"student {self.distiller}"

    @property
    def from_teacher(self) -> bool:
        """Whether the weights of the first teacher, and not those of the previous student, initialise
        it."""
        return False

    @property
    def grid(self) -> tuple[float, ...] | None:
        """Its time grid, from 1 to 0; None: uniform."""
        return None

    @property
    def guided_evaluations(self) -> int:
        """The network evaluations of one evaluation of its teacher: two with guidance."""
        return 1 if self.guidance == 1.0 else 2

    def passes(self, evaluations: dict[str, int]) -> float:
        """The number of network evaluations of a training step for each image, in addition to the
        forward and backward pass of the student. `evaluations`: those of one step, by solver."""
        return 1.0

    @property
    def cycle(self) -> int:
        """The number of training steps whose mean cost is that of a step."""
        return 1

    def trained(
        self, network: "nn.Module", teacher: "nn.Module", data: "Shaped", classes: int
    ) -> "nn.Module":
        """The module that the distiller trains, built from the student's `network`; its frozen
        `teacher` may be copied. `data`: the shape of the images; `classes`: of the labels that the
        network takes, 0: none."""
        return network

    @abstractmethod
    def build(self, teacher: "nn.Module", path: "Path", average: "nn.Module") -> "Distiller":
        """The loss with the frozen `teacher`; `average` has the exponential moving average of the
        weights in training."""

    def build_on(self, pairs: "Pairs", teacher: "nn.Module", path: "Path") -> "Distiller":
        """The loss of a student whose lesson has `pairs`."""
        raise AssertionError(f"{self.distiller} has no lesson with pairs")


@dataclass(frozen=True)
class Lesson:
    """The training of one student, in order: `steps` training steps at the peak learning rate `lr`.

    `counts`: the step counts with which it can be sampled. `teacher`: the number of the lesson whose
    student teaches it, None: the teacher. `start`: the number of the lesson whose student's weights
    initialise it, None: the weights of its teacher. Either may be FIRST_TEACHER. `pairs`: the pairs
    that its teacher draws for it, None: none. `optimise`: how it is optimised, None: as the `distill`
    block says."""

    student: Student
    label: str
    counts: tuple[int, ...]
    steps: int
    lr: float
    teacher: int | None = None
    start: int | None = None
    pairs: PairSettings | None = None
    optimise: Mapping[str, Any] | None = None


@family("distill")
class DistillerKind(Kind, Optimised):
    """A distiller.

    `jumps`: its students sample by jumps, between which `sampling.gamma` adds new noise.
    `chain`: it trains one student for each step count in `intervals`."""

    jumps: ClassVar[bool] = False
    chain: ClassVar[bool] = False
    student: ClassVar[type[Student]]

    kind: str
    intervals: Intervals = Field(
        default=(20, 4, 2, 1),
        description="Step counts of the students in order of training, each >= 1 and a divisor of the previous one.",
    )
    guidance: NotNegative = Field(
        default=1.0,
        description="Guidance scale that is distilled into the students, >= 0; 1: no guidance.",
    )
    steps: Count | Counts = Field(
        default=400,
        description="Training steps of a student, >= 1; one value, or one for each of intervals.",
    )
    lr: Positive | Rates = Field(
        default=5.0e-4,
        description="Peak learning rate, > 0; one value, or one for each of intervals.",
    )
    ema: Fraction = Field(
        default=0.99,
        description="Decay per step of the exponential moving average of the weights, >= 0 and < 1.",
    )

    @property
    def shown(self) -> str:
        """Its name in labels, with a trailing space; empty: labels do not name it."""
        return f"{self.called} "

    @classmethod
    def missing(cls) -> list[str]:
        if not hasattr(cls, "student"):
            return [*super().missing(), "student"]
        of_student = sorted(getattr(cls.student, "__abstractmethods__", ()))
        return [*super().missing(), *(f"{cls.student.__name__}.{name}" for name in of_student)]

    @abstractmethod
    def lessons(self) -> Sequence[Lesson]:
        """The students, in the order in which they are trained."""

    def step_counts(self) -> Sequence[int]:
        """The step counts with which its students can be sampled."""
        return self.intervals

    def solver(self) -> str:
        """The solver of the teacher in the first lesson; ab2 if the kind has no such setting."""
        return str(getattr(self, "teacher_solver", "ab2"))

    def steps_fault(self, steps: int) -> str | None:
        """Why no student can be sampled in `steps` steps; None if one can."""
        counts = self.step_counts()
        if steps in counts:
            return None
        listed = ", ".join(map(str, counts))
        return f"expected one of {listed}: a student has the step counts of distill.intervals"

    def trainings(self) -> "Iterator[tuple[str, DistillerKind]]":
        """The dotted key of each block with settings of training, and the block."""
        yield "distill", self

    def training_of(self, steps: int) -> "tuple[str, DistillerKind]":
        """Of `trainings` that of the student that is sampled in `steps` steps."""
        of_steps = [(key, kind) for key, kind in self.trainings() if steps in kind.step_counts()]
        return of_steps[-1] if of_steps else ("distill", self)

    def chain_text(self) -> str:
        """The distillation as text, such as 100-20-4-2-1."""
        return "-".join(map(str, self.step_counts()))

    def total_steps(self) -> int:
        """The sum of the training steps of all `intervals`, for a distiller that trains one
        student."""
        return sum(at(self.steps, i) for i in range(len(self.intervals)))

    def optimise(self) -> dict[str, Any]:
        """How all students are optimised."""
        return {name: getattr(self, name) for name in (*Optimised.model_fields, "ema")}

    @kind_rule("distill.steps", "distill.intervals")
    def _steps_per_interval(self, experiment: "Experiment") -> str | None:
        return self._one_per_interval(self.steps)

    @kind_rule("distill.calibrate", "data.name")
    def _points_have_no_tone(self, experiment: "Experiment") -> str | None:
        if not self.calibrate or not experiment.data.facts.points:
            return None
        return (
            f"got true, expected false: the data of {experiment.data.name} are points, not images"
        )

    @kind_rule("distill.lr", "distill.intervals")
    def _lr_per_interval(self, experiment: "Experiment") -> str | None:
        return self._one_per_interval(self.lr)

    def _one_per_interval(self, values: Any) -> str | None:
        if not isinstance(values, tuple) or len(values) == len(self.intervals):
            return None
        count = len(self.intervals)
        intervals = describe(self.intervals)
        what = f"one value, or {count}: one for each of distill.intervals {intervals}"
        return f"got {describe(values)}, expected {what}"


class OneStudentKind(DistillerKind):
    """A distiller that trains one student for all step counts, with the training steps of all
    `intervals`."""

    @abstractmethod
    def only(self) -> Student:
        """The student."""

    def lessons(self) -> Sequence[Lesson]:
        label = f"student {self.called}"
        counts = tuple(self.step_counts())
        return [Lesson(self.only(), label, counts, self.total_steps(), at(self.lr, 0))]


class JumpingKind(OneStudentKind):
    """A distiller whose one student jumps from any time to any earlier one."""

    jumps: ClassVar[bool] = True

    @kind_rule("distill.kind", "model.kind")
    def _network_is_told_the_end(self, experiment: "Experiment") -> str | None:
        if experiment.model.takes_end:
            return None
        kinds = [kind.name_of() for kind in type(experiment.model).family if kind.takes_end]
        what = f"takes no end time of a jump as an input; networks that do: {', '.join(kinds)}"
        return f"got {self.called}: model.kind {experiment.model.called} {what}"


def at(values: T | Iterable[T], index: int) -> T:
    """The value for interval number `index` of a setting that has one value for all, or one for
    each."""
    return values[index] if isinstance(values, tuple) else values  # type: ignore[return-value]

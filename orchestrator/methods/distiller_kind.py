"""What every kind of distiller is to the program: which students it trains, and how each is trained
and sampled."""

from collections.abc import Iterable, Sequence
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

    from kaccore.distill import Distiller
    from kaccore.paths import Path
    from orchestrator.settings.experiment import Experiment

T = TypeVar("T")


class Student(Settings):
    """How one student is trained: what of this is hashed into its key, and what is built of it.

    `jumps`: its network is also told where each step ends, and its samples are jumps, in any number
    of steps. `has_flow`: it is the velocity of a flow, under which points have a likelihood."""

    jumps: ClassVar[bool] = False
    has_flow: ClassVar[bool] = True

    distiller: str  # the kind of the distiller
    guidance: NotNegative = 1.0

    @property
    def stream(self) -> str:
        """The name of the stream of random numbers of its training, made of what is in its key.
        Students that differ in other settings draw the same numbers under the same seed, so that
        their results can be compared in pairs."""
        return f"student {self.distiller}"

    @property
    def from_teacher(self) -> bool:
        """Whether its weights start from the first teacher's, and not from those of the student
        before it."""
        return False

    @property
    def grid(self) -> tuple[float, ...] | None:
        """The times of its steps, from 1 to 0; None: uniform."""
        return None

    def passes(self, evaluations: dict[str, int]) -> float:
        """How many evaluations of networks a training step costs for each image, beside the forward
        and backward pass of the student. `evaluations`: those of a step of each solver."""
        return 1.0

    def trained(self, network: "nn.Module") -> "nn.Module":
        """What the distiller trains, made of the student's `network`."""
        return network

    def build(self, teacher: "nn.Module", path: "Path", average: "nn.Module") -> "Distiller":
        """The loss over the frozen `teacher`; `average` has the moving average of the weights in
        training."""
        raise NotImplementedError


@dataclass(frozen=True)
class Lesson:
    """One student in the order of training: `steps` training steps at the peak rate `lr`. `counts`
    are the step counts that it can be sampled with, `teacher` the number of the lesson whose student
    teaches it, None: the teacher. It starts from the weights of its teacher, or, if `start` is a
    number, from those of that lesson's student."""

    student: Student
    label: str
    counts: tuple[int, ...]
    steps: int
    lr: float
    teacher: int | None = None
    start: int | None = None


@family("distill")
class DistillerKind(Kind, Optimised):
    """A distiller.

    `jumps`: its students are sampled by jumps, between which `sampling.gamma` draws fresh noise.
    `chain`: it trains a student for each step count, so that `intervals` says what a student is."""

    jumps: ClassVar[bool] = False
    chain: ClassVar[bool] = False
    student: ClassVar[type[Student]]

    kind: str
    intervals: Intervals = Field(
        default=(20, 4, 2, 1),
        description="Step counts of the students in turn, each >= 1 and a divisor of the one before.",
    )
    guidance: NotNegative = Field(
        default=1.0, description="Guidance that is distilled into the students, >= 0; 1: none."
    )
    steps: Count | Counts = Field(
        default=400, description="Training steps of a student, >= 1; one, or one per interval."
    )
    lr: Positive | Rates = Field(
        default=5.0e-4, description="Peak learning rate, > 0; one, or one per interval."
    )
    ema: Fraction = Field(
        default=0.99, description="Decay of the weights' moving average a step, >= 0 and < 1."
    )

    @property
    def shown(self) -> str:
        """How labels call it, with a space after it; empty: not at all."""
        return f"{self.called} "

    def lessons(self) -> Sequence[Lesson]:
        """The students, in the order in which they are trained."""
        raise NotImplementedError

    def step_counts(self) -> Sequence[int]:
        """The step counts that its students can be sampled with."""
        return self.intervals

    def solver(self) -> str:
        """The solver of the teacher in the first lesson, where the kind lets one choose it."""
        return str(getattr(self, "teacher_solver", "ab2"))

    def steps_fault(self, steps: int) -> str | None:
        """What is wrong with sampling a student in so many steps; None where nothing is."""
        counts = self.step_counts()
        if steps in counts:
            return None
        listed = ", ".join(map(str, counts))
        return f"expected one of {listed}: a student has the step counts of distill.intervals"

    def chain_text(self) -> str:
        """The distillation as text, such as 100-20-4-2-1."""
        return "-".join(map(str, self.step_counts()))

    def total_steps(self) -> int:
        """The training steps of all `intervals`, for a distiller that trains one student."""
        return sum(at(self.steps, i) for i in range(len(self.intervals)))

    def optimise(self) -> dict[str, Any]:
        """How all students are optimised."""
        return {name: getattr(self, name) for name in (*Optimised.model_fields, "ema")}

    @kind_rule("distill.steps", "distill.intervals")
    def _steps_per_interval(self, experiment: "Experiment") -> str | None:
        return self._one_per_interval(self.steps)

    @kind_rule("distill.lr", "distill.intervals")
    def _lr_per_interval(self, experiment: "Experiment") -> str | None:
        return self._one_per_interval(self.lr)

    def _one_per_interval(self, values: Any) -> str | None:
        if not isinstance(values, tuple) or len(values) == len(self.intervals):
            return None
        count = len(self.intervals)
        what = (
            f"one value, or {count}: one for each of distill.intervals {describe(self.intervals)}"
        )
        return f"got {describe(values)}, expected {what}"


class OneStudentKind(DistillerKind):
    """A distiller that trains one student for all step counts, with the training steps of all
    `intervals`."""

    def only(self) -> Student:
        """The student."""
        raise NotImplementedError

    def lessons(self) -> Sequence[Lesson]:
        label = f"student {self.called}"
        counts = tuple(self.step_counts())
        return [Lesson(self.only(), label, counts, self.total_steps(), at(self.lr, 0))]


def at(values: T | Iterable[T], index: int) -> T:
    """The value for interval number `index` of a setting that has one value, or one each."""
    return values[index] if isinstance(values, tuple) else values  # type: ignore[return-value]

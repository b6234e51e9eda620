"""Consistency distillation between any two times (arXiv 2402.19159, 2310.02279)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from orchestrator.fields.field_types import Count, Huber, Solver
from orchestrator.methods.distiller_kind import DistillerKind, JumpingKind, Student

if TYPE_CHECKING:
    from torch import nn

    from kaccore.distill import Distiller
    from kaccore.paths import Path


class ConsistencyStudent(Student):
    """The student of consistency distillation: it jumps from any time to any earlier one."""

    jumps: ClassVar[bool] = True
    has_flow: ClassVar[bool] = False

    distiller: Literal["consistency"] = "consistency"
    intervals: int  # of its teacher
    solver: Solver
    huber: Huber | None = None

    def passes(self, evaluations: dict[str, int]) -> float:
        teacher = evaluations[self.solver] * self.guided_evaluations
        return teacher + 1  # plus the jump of the averaged student

    def build(self, teacher: "nn.Module", path: "Path", average: "nn.Module") -> "Distiller":
        from kaccore.distill import ConsistencyDistiller

        return ConsistencyDistiller(
            teacher,
            path,
            target_model=average,
            intervals=self.intervals,
            solver=self.solver,
            guidance=self.guidance,
            huber=self.huber,
        )


@DistillerKind.family.register
class Consistency(JumpingKind):
    """Consistency: one student that jumps between any two times, in any number of steps. It trains
    for the steps of all `intervals`."""

    student: ClassVar[type[Student]] = ConsistencyStudent

    kind: Literal["consistency"] = "consistency"
    teacher_steps: Count = Field(
        default=100,
        description="Steps of the teacher; the student learns to jump between their times.",
    )
    teacher_solver: Solver = Field(
        default="ab2", description="Solver of the teacher: euler, midpoint, heun, ab2 or rk4."
    )
    huber: Huber | None = Field(
        default=None,
        description="Scale of the pseudo-Huber loss of each coordinate, in image units, 1e-6 to 1e6; null: the squared "
        "error.",
    )

    def step_counts(self) -> Sequence[int]:
        return range(1, self.teacher_steps + 1)

    def steps_fault(self, steps: int) -> str | None:
        if steps <= self.teacher_steps:
            return None
        return f"expected at most {self.teacher_steps}, distill.teacher_steps"

    def chain_text(self) -> str:
        return f"{self.teacher_steps}-any"

    def only(self) -> Student:
        return ConsistencyStudent(
            intervals=self.teacher_steps,
            solver=self.teacher_solver,
            guidance=self.guidance,
            huber=self.huber,
        )

"""Distillers that train a chain of students, one for each step count, each taught by the previous
one."""

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

from pydantic import Field

from orchestrator.fields.field_types import Huber, Solver
from orchestrator.methods.distiller_kind import DistillerKind, Lesson, Student, at


class ChainStudent(Student):
    """A student of `intervals` Euler steps, whose teacher takes `substeps` steps of `solver` in each.

    `times` (intervals + 1,): its time grid, None: uniform. `inner`: the time grid of its teacher,
    None: equal steps in each interval."""

    intervals: int
    substeps: int
    solver: Solver
    target: Literal["velocity", "endpoint"] = "velocity"
    huber: Huber | None = None
    start: Literal["previous", "teacher"] = "previous"
    times: tuple[float, ...] | None = None
    inner: tuple[float, ...] | None = None

    @property
    def from_teacher(self) -> bool:
        return self.start == "teacher"

    @property
    def grid(self) -> tuple[float, ...] | None:
        return self.times

    def content(self) -> dict[str, Any]:
        content = super().content()
        if not self.times:
            content.pop("inner", None)
        return content

    def passes(self, evaluations: dict[str, int]) -> float:
        return self.substeps * evaluations[self.solver] * self.guided_evaluations


class ChainKind(DistillerKind):
    """A distiller that trains a student for each of `intervals`."""

    chain: ClassVar[bool] = True

    start: Literal["previous", "teacher"] = Field(
        default="previous",
        description="Network whose weights initialise a student: previous (the student before it) or teacher.",
    )
    teacher_solver: Solver = Field(
        default="ab2",
        description="Solver of the first student's teacher: euler, midpoint, heun, ab2 or rk4.",
    )
    huber: Huber | None = Field(
        default=None,
        description="Scale of the pseudo-Huber loss of each coordinate, in units of the target, 1e-6 to 1e6; null: the "
        "squared error.",
    )

    @property
    @abstractmethod
    def first_steps(self) -> int:
        """The steps of the teacher when it teaches the first student."""

    def teaches(self, index: int) -> bool:
        """Whether the teacher, and not the previous student, teaches student number `index`."""
        return index == 0

    def more(self, intervals: int, count: int, by_teacher: bool) -> dict[str, Any]:
        """Settings that only this kind has, for the student of `intervals` steps whose teacher takes
        `count` steps."""
        return {}

    def chain_text(self) -> str:
        return "-".join(map(str, (self.first_steps, *self.intervals)))

    def lessons(self) -> Sequence[Lesson]:
        lessons: list[Lesson] = []
        for i, (count, intervals) in enumerate(pairwise((self.first_steps, *self.intervals))):
            by_teacher = self.teaches(i)
            settings: dict[str, Any] = {
                "distiller": self.called,
                "intervals": intervals,
                "huber": self.huber,
                "start": self.start if i else "previous",
            }
            if by_teacher:
                settings["substeps"] = self.first_steps // intervals
                settings["solver"] = self.teacher_solver
                settings["guidance"] = self.guidance
            else:  # a student is integrated on its own grid, and its guidance is distilled into it
                settings["substeps"] = count // intervals
                settings["solver"] = "euler"
                settings["guidance"] = 1.0
            settings |= self.more(intervals, count, by_teacher)
            student = self.student.model_validate(settings)
            teacher = None if by_teacher else i - 1
            start = i - 1 if i and by_teacher and self.start == "previous" else None
            label = f"student {self.shown}{intervals}"
            steps = at(self.steps, i)
            rate = at(self.lr, i)
            lessons.append(Lesson(student, label, (intervals,), steps, rate, teacher, start))
        return lessons

"""Distillers whose losses are on what a student makes: its images after all of its steps."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from orchestrator.fields.field_types import Count, Huber, Solver
from orchestrator.methods.distiller_kind import DistillerKind, Lesson, PairSettings, Student, at

if TYPE_CHECKING:
    from torch import nn

    from kaccore.distill import Distiller, Pairs
    from kaccore.distill.generated import ImageLoss
    from kaccore.paths import Path

BACKWARD = 3  # cost of a forward and a backward pass, in forward passes
AnyPairs = Any  # the Pairs or NewPairs of kaccore, or None


class GeneratedStudent(Student):
    """A student of `intervals` Euler steps, trained through all of them, at the times of its grid
    alone.

    `huber`: of the regression on the teacher's ends. `solver` and `substeps`: how the teacher draws
    them again in each step, None: they are drawn once."""

    has_flow: ClassVar[bool] = False

    intervals: int
    huber: Huber | None = None
    solver: Solver | None = None
    substeps: int | None = None

    @property
    def stream(self) -> str:
        return f"student {self.distiller} {self.intervals}"

    def passes(self, evaluations: dict[str, int]) -> float:
        own = BACKWARD * (self.intervals - 1)
        if self.solver is None or self.substeps is None:
            return own
        return own + self.substeps * evaluations[self.solver] * self.guided_evaluations

    @abstractmethod
    def losses(self, path: "Path", teacher: "nn.Module") -> "list[tuple[float, ImageLoss]]":
        """The losses and their weights."""

    def build(self, teacher: "nn.Module", path: "Path", average: "nn.Module") -> "Distiller":
        if self.solver is None or self.substeps is None:
            return self._distiller(path, teacher, None)
        from kaccore.distill import NewPairs

        pairs = NewPairs(teacher, solver=self.solver, steps=self.substeps, guidance=self.guidance)
        return self._distiller(path, teacher, pairs)

    def build_on(self, pairs: "Pairs", teacher: "nn.Module", path: "Path") -> "Distiller":
        return self._distiller(path, teacher, pairs)

    def _distiller(self, path: "Path", teacher: "nn.Module", pairs: AnyPairs) -> "Distiller":
        from kaccore.distill import GeneratedDistiller

        losses = self.losses(path, teacher)
        return GeneratedDistiller(
            path, losses, intervals=self.intervals, pairs=pairs, every=self.cycle
        )


class GeneratedKind(DistillerKind):
    """A distiller that trains a student for each of `intervals`, through all of its steps."""

    chain: ClassVar[bool] = True

    start: Literal["previous", "teacher"] = Field(
        default="previous",
        description="Network whose weights initialise a student: previous (the student before it) or teacher.",
    )
    pairs: Count | None = Field(
        default=20_480,
        description="Number of pairs (noise, where the teacher arrives from it) that are drawn once; null: new ones "
        "in each step.",
    )
    teacher_steps: Count = Field(default=20, description="Steps of the teacher from the noise.")
    teacher_solver: Solver = Field(
        default="ab2", description="Solver of the teacher: euler, midpoint, heun, ab2 or rk4."
    )
    huber: Huber | None = Field(
        default=0.03,
        description="Scale of the pseudo-Huber loss of each coordinate on the pairs, in image units, 1e-6 to 1e6; "
        "null: the squared error.",
    )

    def chain_text(self) -> str:
        return "-".join(map(str, (self.teacher_steps, *self.intervals)))

    @property
    def on_pairs(self) -> bool:
        """Whether its students learn on pairs."""
        return True

    def own(self) -> dict[str, Any]:
        """Settings of a student that only this kind has."""
        names = self.student.model_fields.keys() - GeneratedStudent.model_fields.keys()
        return {name: getattr(self, name) for name in sorted(names)}

    def lessons(self) -> Sequence[Lesson]:
        pairs = None
        drawn: dict[str, Any] = {}
        if self.on_pairs and self.pairs is not None:
            pairs = PairSettings(self.pairs, self.teacher_solver, self.teacher_steps, self.guidance)
        elif self.on_pairs:
            drawn = {"solver": self.teacher_solver, "substeps": self.teacher_steps}
        lessons: list[Lesson] = []
        for i, intervals in enumerate(self.intervals):
            settings = {
                "distiller": self.called,
                "guidance": self.guidance,
                "intervals": intervals,
                "huber": self.huber if self.on_pairs else None,
                **drawn,
                **self.own(),
            }
            lessons.append(
                Lesson(
                    student=self.student.model_validate(settings),
                    label=f"student {self.shown}{intervals}",
                    counts=(intervals,),
                    steps=at(self.steps, i),
                    lr=at(self.lr, i),
                    start=i - 1 if i and self.start == "previous" else None,
                    pairs=pairs,
                )
            )
        return lessons

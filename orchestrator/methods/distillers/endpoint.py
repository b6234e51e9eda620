"""Endpoint distillation (arXiv 2509.21513, section 4)."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from orchestrator.fields.faults import describe
from orchestrator.fields.field_types import Count, Times
from orchestrator.fields.rule import kind_rule
from orchestrator.methods.chains import ChainKind, ChainStudent
from orchestrator.methods.distiller_kind import DistillerKind, Student

if TYPE_CHECKING:
    from torch import nn

    from kaccore.distill import Distiller
    from kaccore.paths import Path
    from orchestrator.settings.experiment import Experiment


class EndpointStudent(ChainStudent):
    """One student of endpoint distillation."""

    distiller: Literal["endpoint"] = "endpoint"

    @property
    def stream(self) -> str:
        return f"student {self.intervals}"

    def build(self, teacher: "nn.Module", path: "Path", average: "nn.Module") -> "Distiller":
        import torch

        from kaccore.distill import EndpointDistiller

        settings: dict[str, Any] = {"intervals": self.intervals}
        if self.times is not None:
            inner = None if self.inner is None else torch.tensor(self.inner)
            settings = {"times": torch.tensor(self.times), "inner": inner}
        return EndpointDistiller(
            teacher,
            path,
            substeps=self.substeps,
            target=self.target,
            solver=self.solver,
            guidance=self.guidance,
            huber=self.huber,
            **settings,
        )


@DistillerKind.family.register
class Endpoint(ChainKind):
    """Endpoint: an Euler step of a student ends where many steps of its teacher end."""

    is_default: ClassVar[bool] = True
    student: ClassVar[type[Student]] = EndpointStudent

    kind: Literal["endpoint"] = "endpoint"
    times: Times | None = Field(
        default=None,
        description="Time grid of the first student: intervals + 1 times that fall from 1 to 0; later students take "
        "every second, third ... of these; null: uniform.",
    )
    chained: bool = Field(
        default=True,
        description="Whether the previous student teaches each student: true, or false, where the teacher always does.",
    )
    teacher_steps: Count = Field(
        default=100,
        description="Steps of the teacher of the first student, a multiple of the first of intervals.",
    )
    target: Literal["velocity", "endpoint"] = Field(
        default="velocity", description="Target of the loss: velocity or endpoint."
    )

    @property
    def shown(self) -> str:
        return ""

    @property
    def first_steps(self) -> int:
        return self.teacher_steps

    def teaches(self, index: int) -> bool:
        return index == 0 or not self.chained

    def more(self, intervals: int, count: int, by_teacher: bool) -> dict[str, Any]:
        settings: dict[str, Any] = {"target": self.target}
        if self.times is not None:
            first = self.intervals[0]
            settings["times"] = self.times[:: first // intervals]
            settings["inner"] = None if by_teacher else self.times[:: first // count]
        return settings

    @kind_rule("distill.teacher_steps", "distill.intervals", "distill.kind")
    def _chain_divides_teacher(self, experiment: "Experiment") -> str | None:
        first = self.intervals[0]
        if self.teacher_steps % first == 0:
            return None
        what = f"a multiple of {first}, the first of distill.intervals"
        return f"got {self.teacher_steps}, expected {what}"

    @kind_rule("distill.times", "distill.intervals", "distill.kind")
    def _grid_fits(self, experiment: "Experiment") -> str | None:
        first = self.intervals[0]
        if self.times is None or len(self.times) == first + 1:
            return None
        return f"got {len(self.times)} times, expected {first + 1}: distill.intervals {describe(self.intervals)}"

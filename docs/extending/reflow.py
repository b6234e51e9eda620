"""Rectified flow (arXiv 2209.03003, algorithm 1): a student that follows straight lines between a
teacher's noise and the image that the teacher makes from it.

In an experiment: `plugins: [reflow.py]` and `distill: {kind: reflow}`."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kaccore.distill import EndpointDistiller
from kaccore.paths import Path
from kaccore.tensors import left_broadcast, of_shard
from orchestrator.fields.field_types import Count, Solver
from orchestrator.methods.distiller_kind import DistillerKind, OneStudentKind, Student


class ReflowStudent(Student):
    """One student for all step counts. All of these settings are hashed into its key."""

    distiller: Literal["reflow"] = "reflow"
    teacher_steps: int
    solver: Solver

    def build(self, teacher: nn.Module, path: Path, average: nn.Module) -> "ReflowDistiller":
        settings: dict[str, Any] = {"solver": self.solver, "guidance": self.guidance}
        return ReflowDistiller(teacher, path, intervals=1, substeps=self.teacher_steps, **settings)


@DistillerKind.family.register
class Reflow(OneStudentKind):
    """Reflow: one student follows straight lines from the teacher's noise to its images."""

    student: ClassVar[type[Student]] = ReflowStudent

    kind: Literal["reflow"] = "reflow"
    teacher_steps: Count = Field(default=20, description="Steps of the teacher, >= 1.")
    teacher_solver: Solver = Field(default="midpoint", description="Solver of the teacher.")

    def only(self) -> ReflowStudent:
        settings: dict[str, Any] = {"solver": self.teacher_solver, "guidance": self.guidance}
        return ReflowStudent(teacher_steps=self.teacher_steps, **settings)


class ReflowDistiller(EndpointDistiller):
    """The lines are x_t = (1 - t) y + t x_1, whose velocity is x_1 - y; y is where the teacher
    arrives from x_1. Several lines may pass a point. With squares the student learns their mean."""

    def loss(self, student: Any, x0: Tensor, labels: Any, generator: Any, shard: slice) -> Tensor:
        t = 1 - torch.rand(len(x0), generator=generator, device=x0.device)
        x1, _, _, y = self.draw(x0, labels, generator, shard)
        t, labels = of_shard(shard, t, labels)
        x = y + left_broadcast(t, y) * (x1 - y)
        return (student(x, t, labels) - (x1 - y)).square().mean()

"""Inverse distillation: a one-step generator (arXiv 2602.19066, 2410.19310, 2404.04057)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from orchestrator.methods.distiller_kind import DistillerKind, OneStudentKind, Student

if TYPE_CHECKING:
    from torch import nn

    from kaccore.distill import Distiller
    from kaccore.paths import Path
    from orchestrator.methods.network_kind import Shaped


class InverseStudent(Student):
    """The student of inverse distillation."""

    has_flow: ClassVar[bool] = False

    distiller: Literal["inverse"] = "inverse"

    def passes(self, evaluations: dict[str, int]) -> float:
        # the fake field and the generator are trained alternately, with the frozen teacher
        return 4 + self.guided_evaluations

    def trained(self, network: "nn.Module", data: "Shaped", classes: int) -> "nn.Module":
        import copy

        from kaccore.distill import InversePair

        return InversePair(network, copy.deepcopy(network))

    def build(self, teacher: "nn.Module", path: "Path", average: "nn.Module") -> "Distiller":
        from kaccore.distill import InverseDistiller

        return InverseDistiller(teacher, path, guidance=self.guidance)


@DistillerKind.family.register
class Inverse(OneStudentKind):
    """Inverse: a one-step generator, trained so that the teacher is the velocity field of its
    samples. It trains for the steps of all `intervals`."""

    student: ClassVar[type[Student]] = InverseStudent

    kind: Literal["inverse"] = "inverse"

    def step_counts(self) -> Sequence[int]:
        return [1]

    def steps_fault(self, steps: int) -> str | None:
        return None if steps == 1 else "expected 1: a student of inverse takes one step"

    def only(self) -> Student:
        return InverseStudent(guidance=self.guidance)

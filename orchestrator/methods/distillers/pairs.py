"""Regression on fixed pairs of noise and where the teacher arrives from it (arXiv 2209.03003)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from orchestrator.methods.distiller_kind import DistillerKind, Student
from orchestrator.methods.generated import GeneratedKind, GeneratedStudent

if TYPE_CHECKING:
    from torch import nn

    from kaccore.distill.generated import ImageLoss
    from kaccore.paths import Path


class PairsStudent(GeneratedStudent):
    """A student of regression on pairs."""

    distiller: Literal["pairs"] = "pairs"

    def losses(self, path: "Path", teacher: "nn.Module") -> "list[tuple[float, ImageLoss]]":
        from kaccore.distill import PairsLoss

        return [(1.0, PairsLoss(self.huber))]


@DistillerKind.family.register
class PairsKind(GeneratedKind):
    """Pairs: where a student arrives from noise, after all of its steps, is where its teacher does."""

    student: ClassVar[type[Student]] = PairsStudent

    kind: Literal["pairs"] = "pairs"

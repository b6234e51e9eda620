"""Progressive distillation (arXiv 2202.00512)."""

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from orchestrator.fields.faults import describe
from orchestrator.fields.rule import kind_rule
from orchestrator.methods.chains import ChainKind, ChainStudent
from orchestrator.methods.distiller_kind import DistillerKind, Student

if TYPE_CHECKING:
    from torch import nn

    from kaccore.distill import Distiller
    from kaccore.paths import Path
    from orchestrator.settings.experiment import Experiment


class ProgressiveStudent(ChainStudent):
    """One student of progressive distillation."""

    distiller: Literal["progressive"] = "progressive"

    @property
    def stream(self) -> str:
        return f"student {self.distiller} {self.intervals}"

    def build(self, teacher: "nn.Module", path: "Path", average: "nn.Module") -> "Distiller":
        from kaccore.distill import ProgressiveDistiller

        return ProgressiveDistiller(
            teacher,
            path,
            intervals=self.intervals,
            solver=self.solver,
            guidance=self.guidance,
            huber=self.huber,
        )


@DistillerKind.family.register
class Progressive(ChainKind):
    """Progressive: one step of a student replaces two of its teacher's, so that `intervals` halve."""

    student: ClassVar[type[Student]] = ProgressiveStudent

    kind: Literal["progressive"] = "progressive"

    @property
    def first_steps(self) -> int:
        return 2 * self.intervals[0]

    @kind_rule("distill.intervals", "distill.kind")
    def _intervals_halve(self, experiment: "Experiment") -> str | None:
        if all(before == 2 * after for before, after in pairwise(self.intervals)):
            return None
        what = "expected each to be half of the previous one: distill.kind is progressive"
        return f"got {describe(self.intervals)}, {what}"

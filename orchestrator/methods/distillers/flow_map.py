"""The map of the flow between any two times (Lagrangian map distillation, arXiv 2505.18825; MeanFlow,
arXiv 2505.13447)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from orchestrator.fields.field_types import Huber, Share
from orchestrator.fields.rule import kind_rule
from orchestrator.methods.distiller_kind import DistillerKind, JumpingKind, Student

if TYPE_CHECKING:
    from torch import nn

    from kaccore.distill import Distiller
    from kaccore.paths import Path
    from orchestrator.settings.experiment import Experiment

MOST_STEPS = 100  # with which the student is sampled
Form = Literal["lagrangian", "mean"]
Velocity = Literal["teacher", "path"]


class FlowMapStudent(Student):
    """The student of a flow map: it jumps from any time to any earlier one."""

    jumps: ClassVar[bool] = True
    has_flow: ClassVar[bool] = False

    distiller: Literal["flow_map"] = "flow_map"
    form: Form
    velocity: Velocity
    diagonal: float
    huber: Huber | None = None

    def passes(self, evaluations: dict[str, int]) -> float:
        teacher = self.guided_evaluations if self.velocity == "teacher" else 0
        # a derivative forwards costs a further pass; one that is differentiated again, three
        return teacher + (3 if self.form == "lagrangian" else 2)

    def build(self, teacher: "nn.Module", path: "Path", average: "nn.Module") -> "Distiller":
        from kaccore.distill import FlowMapDistiller

        return FlowMapDistiller(
            teacher if self.velocity == "teacher" else None,
            path,
            form=self.form,
            guidance=self.guidance,
            diagonal=self.diagonal,
            huber=self.huber,
        )


@DistillerKind.family.register
class FlowMap(JumpingKind):
    """Flow map: one student for all step counts, which jumps from any time to any earlier one as its
    teacher's flow does. It trains for the steps of all `intervals`."""

    student: ClassVar[type[Student]] = FlowMapStudent

    kind: Literal["flow_map"] = "flow_map"
    form: Form = Field(
        default="lagrangian",
        description="Equation of the map: lagrangian (arXiv 2505.18825, one derivative in the end time) or mean "
        "(MeanFlow, arXiv 2505.13447, the derivative along the path).",
    )
    velocity: Velocity = Field(
        default="teacher",
        description="Velocity from which the map is learned: teacher, or path (that of each image, without a teacher; "
        "for form mean).",
    )
    diagonal: Share = Field(
        default=0.5,
        description="Fraction of images whose jump ends where it starts, which teaches the velocity itself, 0 to 1.",
    )
    huber: Huber | None = Field(
        default=None,
        description="Scale of the pseudo-Huber loss of each coordinate, in units of the velocity, 1e-6 to 1e6; null: "
        "the squared error.",
    )

    def step_counts(self) -> Sequence[int]:
        return range(1, MOST_STEPS + 1)

    def steps_fault(self, steps: int) -> str | None:
        if steps <= MOST_STEPS:
            return None
        return f"expected at most {MOST_STEPS}"

    def chain_text(self) -> str:
        return "any"

    def only(self) -> Student:
        names = FlowMapStudent.model_fields.keys() - {"distiller"}
        return FlowMapStudent(**{name: getattr(self, name) for name in sorted(names)})

    @kind_rule("distill.velocity", "distill.form", "distill.guidance")
    def _the_path_has_no_map(self, experiment: "Experiment") -> str | None:
        if self.velocity == "teacher":
            return None
        if self.form == "lagrangian":
            return 'got "path", expected "teacher": distill.form lagrangian asks it where jumps end'
        if self.guidance == 1:
            return None
        return (
            f'got "path", expected "teacher": distill.guidance {self.guidance:g} guides a teacher'
        )

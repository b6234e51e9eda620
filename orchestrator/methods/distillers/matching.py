"""Matching of distributions: a student is right where the teacher is the velocity field of its images
(arXiv 2404.04057, 2410.19310, 2509.22459)."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from orchestrator.fields.field_types import (
    Betas,
    Count,
    Fraction,
    Intervals,
    NotNegative,
    Positive,
    Share,
)
from orchestrator.fields.rule import kind_rule
from orchestrator.methods.distiller_kind import DistillerKind, Student
from orchestrator.methods.generated import BACKWARD, GeneratedKind, GeneratedStudent

if TYPE_CHECKING:
    from torch import nn

    from kaccore.distill.generated import ImageLoss
    from kaccore.paths import Path
    from orchestrator.methods.network_kind import Shaped
    from orchestrator.settings.experiment import Experiment


class MatchingStudent(GeneratedStudent):
    """A student whose images the teacher is to be the field of."""

    distiller: Literal["matching"] = "matching"
    pairs_weight: float
    first: float
    alpha: float
    ratio: float
    earliest: float
    fake_steps: int
    fake_rate: float
    betas: tuple[float, float]
    adversarial: float = 0.0

    @property
    def cycle(self) -> int:
        return self.fake_steps

    def passes(self, evaluations: dict[str, int]) -> float:
        # the fake field learns in each step; where the student does, the gradient also goes back
        # through both fields to its images
        encoder = BACKWARD if self.adversarial else 0  # half a network, of images of two kinds
        learning = (
            super().passes(evaluations) + BACKWARD + 2 + 2 * self.guided_evaluations + encoder
        )
        resting = self.intervals + encoder
        return resting + (learning - resting) / self.fake_steps

    def losses(self, path: "Path", teacher: "nn.Module") -> "list[tuple[float, ImageLoss]]":
        from kaccore.distill import AdversarialLoss, MatchingLoss, PairsLoss
        from kaccore.distill.generated import ENCODER_OF
        from kaccore.distill.matching import FAKE

        settings = {name: getattr(self, name) for name in ("first", "alpha", "ratio", "earliest")}
        matching = MatchingLoss(path, teacher, guidance=self.guidance, **settings)
        losses: list[tuple[float, ImageLoss]] = [(1.0, matching)]
        if self.pairs_weight:
            losses.append((self.pairs_weight, PairsLoss(self.huber)))
        if self.adversarial:
            encoder = AdversarialLoss(path, gamma=0.0, network=f"{ENCODER_OF}{FAKE}")
            losses.append((self.adversarial, encoder))
        return losses

    def trained(
        self, network: "nn.Module", teacher: "nn.Module", data: "Shaped", classes: int
    ) -> "nn.Module":
        import copy

        from kaccore.distill import StudentAndOthers
        from kaccore.distill.generated import STUDENT
        from kaccore.distill.matching import FAKE
        from kaccore.tone import without_tone

        fake = copy.deepcopy(without_tone(teacher)).train().requires_grad_()
        own: dict[str, Any] = {"betas": self.betas}
        optimise = {STUDENT: own, FAKE: {**own, "lr": self.fake_rate}}
        return StudentAndOthers(network, {FAKE: fake}, optimise, rests=self.fake_steps > 1)


@DistillerKind.family.register
class Matching(GeneratedKind):
    """Matching: a student learns to make images for which the teacher is the right velocity field,
    as told by a fake field that learns the field of these images. It should start from a student of
    few steps."""

    student: ClassVar[type[Student]] = MatchingStudent

    kind: Literal["matching"] = "matching"
    intervals: Intervals = Field(
        default=(1,),
        description="Step counts of the students in order of training, each >= 1 and a divisor of the previous one.",
    )
    pairs_weight: NotNegative = Field(
        default=0.0, description="Weight of the regression on pairs, >= 0; 0: without pairs."
    )
    first: float = Field(
        default=0.0,
        allow_inf_nan=False,
        description="Weight of the squared difference of both fields in the student's loss: 1 - alpha of score "
        "identity distillation (arXiv 2404.04057), 1 for RealUID (arXiv 2509.22459).",
    )
    alpha: Share = Field(
        default=1.0,
        description="Share of the student's images in what the fake field learns, > 0 and <= 1; the others are real "
        "(RealUID); 1: none.",
    )
    ratio: Positive = Field(
        default=1.0,
        description="RealUID's beta / alpha, > 0: scale of the velocity from the student's images; 1 if alpha is 1.",
    )
    earliest: Fraction = Field(
        default=0.02, description="Earliest time at which fields are compared, >= 0 and < 1."
    )
    fake_steps: Count = Field(
        default=1,
        description="Training steps of the fake field for each of the student, on average, >= 1.",
    )
    fake_rate: Positive = Field(
        default=1.0,
        description="Learning rate of the fake field, in learning rates of the student, > 0.",
    )
    betas: Betas = Field(
        default=(0.9, 0.999),
        description="Decays of Adam's averages of the gradient and of its square, each >= 0 and < 1.",
    )

    adversarial: NotNegative = Field(
        default=0.0,
        description="Weight of a discriminator whose score is the mean of the features in the middle of the fake "
        "field (SiDA, arXiv 2410.14919), >= 0; 0: none.",
    )

    @property
    def on_pairs(self) -> bool:
        return self.pairs_weight > 0

    @kind_rule("distill.adversarial", "model.kind")
    def _fake_field_has_an_encoder(self, experiment: "Experiment") -> str | None:
        model = experiment.model
        if not self.adversarial or model.encodes:
            return None
        kinds = [kind.name_of() for kind in type(model).family if kind.encodes]
        what = f"model.kind {model.called} has no features in its middle; networks that do"
        return f"got {self.adversarial:g}, expected 0: {what}: {', '.join(kinds)}"

    @kind_rule("distill.alpha")
    def _some_images_are_the_students(self, experiment: "Experiment") -> str | None:
        return None if self.alpha > 0 else f"got {self.alpha:g}, expected > 0 and <= 1"

    @kind_rule("distill.ratio", "distill.alpha")
    def _without_real_images_the_ratio_is_one(self, experiment: "Experiment") -> str | None:
        if self.alpha < 1 or self.ratio == 1:
            return None
        return f"got {self.ratio:g}, expected 1: distill.alpha 1 takes no real images"

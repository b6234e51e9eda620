"""A discriminator of noised images, joined with the regression on pairs (arXiv 2501.05441,
2410.14919)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from orchestrator.fields.field_types import Count, NotNegative, Positive, Share
from orchestrator.fields.rule import kind_rule
from orchestrator.methods.distiller_kind import DistillerKind, Student
from orchestrator.methods.generated import GeneratedKind, GeneratedStudent

if TYPE_CHECKING:
    from torch import nn

    from kaccore.distill.generated import ImageLoss
    from kaccore.paths import Path
    from orchestrator.methods.network_kind import Shaped
    from orchestrator.settings.experiment import Experiment

BETAS = (0.0, 0.99)  # of the discriminator's Adam


class AdversarialStudent(GeneratedStudent):
    """A student that learns from a discriminator and from pairs."""

    revision: ClassVar[int] = 2

    distiller: Literal["adversarial"] = "adversarial"
    weight: float
    pairs_weight: float
    gamma: float
    clean: float
    latest: float
    width: int
    rate: float

    def passes(self, evaluations: dict[str, int]) -> float:
        return super().passes(evaluations) + 1  # the discriminator is small

    def losses(self, path: "Path", teacher: "nn.Module") -> "list[tuple[float, ImageLoss]]":
        from kaccore.distill import AdversarialLoss, PairsLoss

        adversarial = AdversarialLoss(path, gamma=self.gamma, clean=self.clean, latest=self.latest)
        return [(self.pairs_weight, PairsLoss(self.huber)), (self.weight, adversarial)]

    def trained(
        self, network: "nn.Module", teacher: "nn.Module", data: "Shaped", classes: int
    ) -> "nn.Module":
        from kaccore.distill import StudentAndOthers
        from kaccore.distill.adversarial import DISCRIMINATOR
        from kaccore.models import Discriminator

        discriminator = Discriminator(data.size, data.channels, width=self.width, classes=classes)
        optimise = {DISCRIMINATOR: {"lr": self.rate, "betas": BETAS}}
        return StudentAndOthers(network, {DISCRIMINATOR: discriminator}, optimise)


@DistillerKind.family.register
class Adversarial(GeneratedKind):
    """Adversarial: a discriminator compares a student's images with real ones, both noised, while
    regression on pairs holds each image near to where the teacher puts it."""

    student: ClassVar[type[Student]] = AdversarialStudent

    kind: Literal["adversarial"] = "adversarial"
    weight: Positive = Field(default=1.0, description="Weight of the discriminator's loss, > 0.")
    pairs_weight: NotNegative = Field(
        default=3.0,
        description="Weight of the regression on pairs, >= 0; with too little of it students lose modes.",
    )
    gamma: NotNegative = Field(
        default=0.02,
        description="Weight of the penalties on the discriminator's gradient, R1 and R2, >= 0.",
    )
    clean: Share = Field(
        default=0.3, description="Share of images that are compared without noise, 0 to 1."
    )
    latest: Share = Field(
        default=0.7, description="Latest time at which noised images are compared, > 0 and <= 1."
    )
    width: Count = Field(
        default=64, description="Channels of the discriminator's convolutions, >= 1."
    )
    rate: Positive = Field(
        default=2.0,
        description="Learning rate of the discriminator, in learning rates of the student, > 0.",
    )

    @kind_rule("distill.latest")
    def _latest_is_later(self, experiment: "Experiment") -> str | None:
        return None if self.latest > 0 else f"got {self.latest:g}, expected > 0 and <= 1"

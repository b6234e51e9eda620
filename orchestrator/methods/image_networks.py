"""What networks of images have in common."""

from typing import TYPE_CHECKING

from pydantic import Field

from orchestrator.fields.field_types import Count
from orchestrator.fields.rule import kind_rule
from orchestrator.methods.network_kind import NetworkKind

if TYPE_CHECKING:
    from orchestrator.settings.experiment import Experiment


class ImageNetworkKind(NetworkKind):
    """A network that folds patches of pixels into channels first."""

    patch: Count = Field(
        default=1,
        description="Pixels a side folded into channels first, >= 1, a divisor of the image size.",
    )

    @kind_rule("model.patch", "model.kind", "data.name", "data.size")
    def _patch_divides(self, experiment: "Experiment") -> str | None:
        facts = experiment.data.facts
        if facts.points or not facts.size or facts.size % self.patch == 0:
            return None
        return f"got {self.patch}, expected a divisor of the image size, {facts.size}"

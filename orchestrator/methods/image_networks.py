"""The settings that all networks for images have."""

from typing import TYPE_CHECKING

from pydantic import Field

from orchestrator.fields.field_types import Count
from orchestrator.fields.rule import kind_rule
from orchestrator.methods.network_kind import NetworkKind

if TYPE_CHECKING:
    from orchestrator.settings.experiment import Experiment


class ImageNetworkKind(NetworkKind):
    """A network that first folds patches of pixels into channels."""

    patch: Count = Field(
        default=1,
        description="Side in pixels of the patches that are folded into channels, >= 1, a divisor of the image size.",
    )

    @kind_rule("model.patch", "model.kind", "data.name", "data.size")
    def _patch_divides(self, experiment: "Experiment") -> str | None:
        facts = experiment.data.facts
        if facts.points or not facts.size or facts.size % self.patch == 0:
            return None
        return f"got {self.patch}, expected a divisor of the image size, {facts.size}"

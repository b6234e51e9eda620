"""The control with straight lines (arXiv 2210.02747)."""

from typing import TYPE_CHECKING, Literal

from orchestrator.methods.path_kind import NormalPriorKind, PathKind

if TYPE_CHECKING:
    from kaccore.paths import Batches, Path


@PathKind.family.register
class FlowMatching(NormalPriorKind):
    """Flow matching: straight lines between data and normal noise."""

    kind: Literal["flow_matching"] = "flow_matching"

    @property
    def has_density(self) -> bool:
        return True

    def build(self, data: "Batches") -> "Path":
        from kaccore import FlowMatchingPath

        return FlowMatchingPath(self.prior_width)

"""The control whose velocity is unbounded as t -> 0."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from orchestrator.methods.path_kind import NormalPriorKind, PathKind

if TYPE_CHECKING:
    from kaccore.paths import Batches, Path


@PathKind.family.register
class Diffusion(NormalPriorKind):
    """Diffusion: square-root noise, or variance preserving."""

    kind: Literal["diffusion"] = "diffusion"
    schedule: Literal["sqrt", "vp"] = Field(
        default="sqrt", description="Noise schedule: sqrt or vp."
    )

    @property
    def has_density(self) -> bool:
        return True

    def build(self, data: "Batches") -> "Path":
        from kaccore import DiffusionPath

        return DiffusionPath(self.schedule, self.prior_width)

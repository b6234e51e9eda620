"""The path of the Kac process (arXiv 2509.21513, section 3)."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from orchestrator.fields.field_types import Positive
from orchestrator.methods.path_kind import PathKind

if TYPE_CHECKING:
    from kaccore.paths import Batches, Path

HOW = (
    "Each coordinate alone: n ~ Poisson(damping time); b = 1 if n = 0, else b ~ Beta(floor(n/2) + 1, ceil(n/2)); "
    "sign = 1 or -1 with equal probability; noise = sign speed time (2 b - 1). time = clock(1) = 1."
)


@PathKind.family.register
class Kac(PathKind):
    """Kac process: noise moves at a bounded speed and reverses at random."""

    kind: Literal["kac"] = "kac"
    damping: Positive = Field(
        default=25.0, description="Reversal rate a of the Kac process, per unit of time, > 0."
    )
    speed: Positive = Field(
        default=2.0, description="Speed c of the Kac process, image units per unit of time, > 0."
    )
    signal: Literal["linear", "exponential"] = Field(
        default="linear", description="Share f(t) of the data in x_t: linear or exponential."
    )
    clock: Literal["linear", "quadratic"] = Field(
        default="linear", description="Noise time g(t): linear or quadratic."
    )

    @property
    def starts_from_data(self) -> bool:
        return self.signal == "exponential"

    @property
    def has_density(self) -> bool:
        return not self.starts_from_data

    def build(self, data: "Batches") -> "Path":
        from kaccore import KacPath, KacProcess

        process = KacProcess(self.damping, self.speed)
        return KacPath(process, self.signal, self.clock, data if self.starts_from_data else None)

    def noise_law(self) -> dict[str, Any]:
        law: dict[str, Any] = {
            "law": "kac",
            "time": 1.0,
            "damping": self.damping,
            "speed": self.speed,
            "clock": self.clock,
            "how": HOW,
        }
        if self.starts_from_data:
            law["plus"] = "exp(-1) times an image of the training data in [-1, 1], drawn at random"
        return law

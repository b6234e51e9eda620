"""How any network is trained, teacher or student."""

from pydantic import Field

from orchestrator.fields.block import Block
from orchestrator.fields.field_types import Count, Positive, Precision, Schedule, Whole


class Optimised(Block):
    """How any network is trained, teacher or student."""

    batch_size: Count = Field(default=128, description="Images a step, over all workers, >= 1.")
    schedule: Schedule = Field(
        default="cosine", description="Learning rate after the warm-up: cosine (to 0) or constant."
    )
    restarts: Whole = Field(
        default=0, description="How often the cosine begins again from the peak, >= 0."
    )
    warmup: Whole = Field(
        default=0, description="Steps in which the learning rate rises from 0, >= 0."
    )
    clip: Positive | None = Field(
        default=None, description="Largest norm of the gradient, > 0; null: not clipped."
    )
    accumulate: Count = Field(
        default=1, description="Parts in which a step's images are taken, to save memory, >= 1."
    )
    precision: Precision = Field(
        default="float32",
        description="Of the network's products: float32, or bfloat16 by autocast.",
    )

"""The settings of optimisation that teachers and students share."""

from pydantic import Field

from orchestrator.fields.block import Block
from orchestrator.fields.field_types import Averages, Count, Positive, Precision, Schedule, Whole


class Optimised(Block):
    """The settings of optimisation that teachers and students share."""

    batch_size: Count = Field(default=128, description="Images per step, over all workers, >= 1.")
    schedule: Schedule = Field(
        default="cosine",
        description="Learning rate schedule after the warm-up: cosine (decay to 0) or constant.",
    )
    restarts: Whole = Field(
        default=0, description="Number of warm restarts of the cosine schedule, >= 0."
    )
    warmup: Whole = Field(
        default=0, description="Warm-up steps in which the learning rate rises from 0, >= 0."
    )
    clip: Positive | None = Field(
        default=None,
        description="Maximum norm to which the gradient is clipped, > 0; null: no clipping.",
    )
    accumulate: Count = Field(
        default=1,
        description="Gradient accumulation: number of parts into which the images of a step are split, >= 1.",
    )
    calibrate: bool = Field(
        default=False,
        description="Fit a tone curve after the training, which gives the network's images the pixel values of the "
        "training images; it is kept with the network, and all of its images end on it.",
    )
    averages: Averages = Field(
        default=(),
        description="Decays of further averages of the weights that the same training keeps, each >= 0 and < 1; "
        "sampling.ema samples one of them.",
    )
    precision: Precision = Field(
        default="float32",
        description="Precision of matrix products and convolutions: float32, or bfloat16 (autocast).",
    )

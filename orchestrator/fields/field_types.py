"""The types of settings: ranges, lists, names, each with the message about a value that is not
valid."""

from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar, get_args

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import AfterValidator, BeforeValidator, ConfigDict, StringConstraints
from typing_extensions import TypedDict

from orchestrator.fields.addresses import checked, checked_path, checked_uri
from orchestrator.fields.end_command import checked_command
from orchestrator.fields.faults import describe
from orchestrator.fields.messages import Say

T = TypeVar("T")


def as_tuple(value: Any) -> Any:
    """A list as a tuple: YAML returns lists, frozen models hold tuples."""
    return tuple(value) if isinstance(value, list) else value


def unique(values: tuple[T, ...]) -> tuple[T, ...]:
    """`values`; raises ValueError if one of them occurs twice."""
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"got {describe(values)}, {describe(value)} occurs twice")
    return values


def _chain(counts: tuple[int, ...]) -> tuple[int, ...]:
    for before, after in pairwise(counts):
        if after >= before:
            raise ValueError(
                f"got {describe(counts)}, expected decreasing counts: {after} after {before}"
            )
        if before % after:
            raise ValueError(
                f"got {describe(counts)}, expected each count to divide the previous one: {after} after {before}"
            )
    return counts


def falling(times: tuple[float, ...]) -> tuple[float, ...]:
    if times[0] != 1 or times[-1] != 0 or any(after >= before for before, after in pairwise(times)):
        raise ValueError(f"got {describe(times)}, expected times that decrease from 1 to 0")
    return times


def gpus(count: float) -> float:
    if count > 1 and count != int(count):
        raise ValueError(
            f"got {describe(count)}, expected a fraction from 0 to 1 or a whole number of GPUs"
        )
    return count


def fits(count: int) -> int:
    if count >= 2**63:  # larger sizes overflow in tensors and files
        raise ValueError(f"got {describe(count)}, expected less than 2^63")
    return count


def colour(text: str) -> str:
    if text != "white":  # the default needs no import of Pillow
        from kaccore.colours import rgb

        rgb(text)
    return text


MOST_WORKERS = 10_000  # of a range, whose members are tried one by one


class WorkerRange(TypedDict):
    """Between how many workers a group may have."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc]

    min: Annotated[int, Ge(1), Le(MOST_WORKERS)]
    max: Annotated[int, Ge(1), Le(MOST_WORKERS)]


def rising(workers: Any) -> Any:
    if isinstance(workers, dict) and workers["min"] > workers["max"]:
        raise ValueError(f"got {describe(workers)}, expected min <= max")
    return workers


Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
Count = Annotated[int, Ge(1), AfterValidator(fits)]
Whole = Annotated[int, Ge(0), AfterValidator(fits)]
NotNegative = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]
Huber = Annotated[float, Ge(1e-6), Le(1e6)]
Text = Annotated[
    str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$"), Say("non-empty text on one line")
]
Storage = Annotated[Text, AfterValidator(checked), Say("a folder or s3://BUCKET/PREFIX")]
FilePath = Annotated[Text, AfterValidator(checked_path)]
Uri = Annotated[Text, AfterValidator(checked_uri)]
ShellCommand = Annotated[Text, AfterValidator(checked_command), Say("a shell command on one line")]
Name = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length=100),
    Say("1 to 100 letters, digits, hyphens, underscores or dots, not starting with a dot"),
]
Colour = Annotated[
    str,
    AfterValidator(colour),
    Say('a colour: a name such as white, or hex such as "#20a0ff" in quotes'),
]
Sha256 = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$"), Say("64 hexadecimal digits")
]
Betas = Annotated[
    tuple[Fraction, Fraction],
    BeforeValidator(as_tuple),
    Say("two numbers, each >= 0 and < 1"),
]
Averages = Annotated[
    tuple[Fraction, ...],
    BeforeValidator(as_tuple),
    AfterValidator(unique),
    Say("a list of different numbers, each >= 0 and < 1"),
]
LogitNormal = Annotated[
    tuple[Annotated[float, Ge(-10), Le(10)], Annotated[float, Gt(0), Le(10)]],
    BeforeValidator(as_tuple),
    Say("two numbers: a mean from -10 to 10, and a standard deviation > 0 and <= 10"),
]
Workers = Annotated[
    Count | WorkerRange,
    AfterValidator(rising),
    Say("an integer >= 1, or a range within 1 to 10000 such as {min: 2, max: 8}"),
]
Counts = Annotated[tuple[Count, ...], BeforeValidator(as_tuple), MinLen(1)]
Rates = Annotated[tuple[Positive, ...], BeforeValidator(as_tuple), MinLen(1)]
Labels = Annotated[tuple[Whole, ...], BeforeValidator(as_tuple), MinLen(1)]
Sizes = Annotated[tuple[Count, ...], BeforeValidator(as_tuple), AfterValidator(unique)]
Intervals = Annotated[
    tuple[Count, ...], BeforeValidator(as_tuple), MinLen(1), AfterValidator(_chain)
]
Metric = Literal[
    "fid", "kid", "precision", "recall", "inception_score", "fid_per_class", "w2", "log_likelihood"
]
Cost = Literal["nfe", "seconds_per_image"]  # of an image: every evaluation has them
COSTS: tuple[str, ...] = get_args(Cost)
Objective = Metric | Cost
Objectives = Annotated[
    tuple[Objective, ...], BeforeValidator(as_tuple), MinLen(2), AfterValidator(unique)
]
SMALL_IS_GOOD = ("fid", "kid", "fid_per_class", "w2", *COSTS)
Diagnostics = Annotated[
    tuple[Literal["memorisation", "gap"], ...], BeforeValidator(as_tuple), AfterValidator(unique)
]
Metrics = Annotated[
    tuple[Metric, ...], BeforeValidator(as_tuple), MinLen(1), AfterValidator(unique)
]
Solver = Literal["euler", "midpoint", "heun", "ab2", "rk4"]
Schedule = Literal["cosine", "constant"]
Precision = Literal["float32", "bfloat16"]
Share = Annotated[float, Ge(0), Le(1)]
Times = Annotated[tuple[Share, ...], BeforeValidator(as_tuple), MinLen(2), AfterValidator(falling)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(as_tuple)]

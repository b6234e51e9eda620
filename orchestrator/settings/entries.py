"""The entries of `sweep.space`: which values a swept setting takes."""

import math
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from orchestrator.fields.faults import describe

KINDS = ("grid", "choice", "uniform", "loguniform", "int")
LISTS = ("grid", "choice")  # the others are ranges
FORMS = "{grid: [...]}, {choice: [...]}, {uniform: [low, high]}, {loguniform: [low, high]} or {int: [low, high]}"


class SpaceEntry(BaseModel):
    """One of the forms above: a `kind` and its `values`, which are a list of values, or a range
    (low, high) that includes both ends."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["grid", "choice", "uniform", "loguniform", "int"]
    values: tuple[Any, ...]

    @model_validator(mode="before")
    @classmethod
    def _read(cls, entry: Any) -> Any:
        if isinstance(entry, cls):
            return {"kind": entry.kind, "values": entry.values}
        if not isinstance(entry, dict) or len(entry) != 1 or next(iter(entry)) not in KINDS:
            raise ValueError(f"got {describe(entry)}, expected {FORMS}")
        ((kind, values),) = entry.items()
        if not isinstance(values, list | tuple) or not values:
            expected = "a list of at least one value" if kind in LISTS else "[low, high]"
            raise ValueError(f"got {describe(entry)}, expected {expected} in {kind}")
        if kind not in LISTS:
            problem = _range_problem(kind, values)
            if problem:
                raise ValueError(f"got {describe(entry)}, expected {problem}")
        return {"kind": kind, "values": tuple(values)}

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain = handler(self)
        return {plain["kind"]: plain["values"]}

    @property
    def tried(self) -> tuple[Any, ...]:
        """Every value of a list, or both ends of a range with the type of the drawn values. If both
        ends are valid, so are all values in between."""
        return self.values if self.kind in (*LISTS, "int") else tuple(map(float, self.values))


def _range_problem(kind: str, values: Any) -> str | None:
    """What is expected of a range and does not hold, for a message; None if the range is valid."""
    whole = kind == "int"
    if len(values) != 2 or not all(_is_number(v, whole) for v in values):
        return f"[low, high], two {'whole ' if whole else ''}numbers"
    low, high = values
    if kind == "loguniform" and low <= 0:
        return "low > 0 because the logarithm is sampled"
    return None if low < high else "low < high"


def _is_number(value: Any, whole: bool) -> bool:
    if isinstance(value, bool):
        return False
    if whole:
        return isinstance(value, int)
    return isinstance(value, int | float) and math.isfinite(value)

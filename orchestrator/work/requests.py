"""Checks the fields of HTTP requests to a network."""

from collections.abc import Iterable, Mapping
from typing import Any


class RequestError(ValueError):
    """An invalid request; the message has the field, the value and what is expected."""


def check_fields(request: Iterable[str], known: tuple[str, ...]) -> None:
    """Raise RequestError if `request` has a field that is not in `known`."""
    for name in request:
        if name not in known:
            raise RequestError(f"{name}: unknown field, expected some of {', '.join(known)}")


def number(request: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    """The whole number in the field `name` of `request`, `default` if it is missing; raises
    RequestError if it is not from `least` to `most`."""
    value = request.get(name)
    if value is None:
        return default
    if not whole(value) or not least <= value <= most:
        raise RequestError(f"{name}: got {value}, expected a whole number from {least} to {most}")
    return int(value)


def whole(value: Any) -> bool:
    """Whether `value` is a whole number, of any numeric type."""
    try:
        return not isinstance(value, bool | str) and int(value) == value
    except (TypeError, ValueError, OverflowError):
        return False

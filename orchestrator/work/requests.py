"""What somebody asks of a network over HTTP, checked field by field."""

from collections.abc import Iterable, Mapping
from typing import Any


class RequestError(ValueError):
    """A request that cannot be served as it is; the message names the field, what was got and what
    is expected."""


def check_fields(request: Iterable[str], known: tuple[str, ...]) -> None:
    """Raise RequestError where `request` has a field that is not `known`."""
    for name in request:
        if name not in known:
            raise RequestError(f"{name}: unknown field, expected some of {', '.join(known)}")


def number(request: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    """The whole number that `request` has as `name`, `default` where it has none; raises
    RequestError."""
    value = request.get(name)
    if value is None:
        return default
    if not whole(value) or not least <= value <= most:
        raise RequestError(f"{name}: got {value}, expected a whole number from {least} to {most}")
    return int(value)


def whole(value: Any) -> bool:
    """Whether `value` is a whole number, of whatever type."""
    try:
        return not isinstance(value, bool | str) and int(value) == value
    except (TypeError, ValueError, OverflowError):
        return False

"""How messages name what a user gave: an option of a command, or an argument of a Python function."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

_IN_PYTHON: ContextVar[bool] = ContextVar("in_python", default=False)


@contextmanager
def named_as_arguments() -> Iterator[None]:
    """While it lasts, messages are for a caller of a Python function."""
    before = _IN_PYTHON.set(True)
    try:
        yield
    finally:
        _IN_PYTHON.reset(before)


def from_python() -> bool:
    """Whether a Python function was called, and no command."""
    return _IN_PYTHON.get()


def option(name: str) -> str:
    """`--tracking-uri`, or from Python `tracking_uri`, which is its `name`."""
    return name if from_python() else f"--{name.replace('_', '-')}"


def setting(text: str) -> str:
    """`--set path.damping=9.0` of the `text` KEY=VALUE, or from Python `set={"path.damping": 9.0}`."""
    if not from_python():
        return f"--set {text}"
    import yaml

    key, _, value = text.partition("=")
    with suppress(yaml.YAMLError, ValueError):  # then as it was given
        value = repr(yaml.safe_load(value))
    return f'set={{"{key}": {value}}}'

"""Faults in settings that a user wrote: one `Fault` for each, all of them in one `ConfigError`."""

import difflib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_VALUE = 60  # characters of a value in a message
LONGEST_ADDRESS = 4000  # characters of a text that are searched for a password
PASSWORD = re.compile(r"(://[^/@\s:]*):[^/\s]*@")  # in http://user:password@host


@dataclass(frozen=True)
class Fault:
    """`source` is a file or `--set key=value`; `key` is dotted, empty if the fault has no key.

    `involves` names the other settings that the rule read. `pairing`: each setting is valid, but
    they cannot be combined, and a sweep skips such a trial; otherwise nothing starts."""

    source: str
    key: str
    message: str
    involves: tuple[str, ...] = ()
    pairing: bool = False

    def __str__(self) -> str:
        # a key or a value may hold line breaks; one fault stays one line
        parts = (masked(part) for part in (self.source, self.key, self.message) if part)
        return " ".join(": ".join(parts).splitlines())


class ConfigError(ValueError):
    """The settings are refused; `str()` gives one line for each of `.faults`."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = list(dict.fromkeys(faults))
        super().__init__("\n".join(map(str, self.faults)))

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[list[Fault]]]:
        # the default would pass the text to __init__ when the error is unpickled
        return ConfigError, (self.faults,)


def masked(text: str) -> str:
    """`text` with the passwords of the addresses in it hidden."""
    return PASSWORD.sub(r"\1:***@", text)


def describe(value: Any) -> str:
    """`value` as YAML writes it on one line, shortened."""
    text = _flow(value, depth=0)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def _flow(value: Any, depth: int) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        if value.bit_length() < 100:
            return str(value)
        # Python refuses to print an integer of more than 4300 digits
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f"{value} (not finite)"
    if isinstance(value, str):
        return json.dumps(masked(value[:LONGEST_ADDRESS])[: 2 * LONGEST_VALUE], ensure_ascii=False)
    if isinstance(value, (list, tuple, dict)) and depth > 3:
        return "..."
    shown = 20  # enough to pass LONGEST_VALUE
    if isinstance(value, dict):
        entries = list(value.items())[:shown]
        return "{" + ", ".join(f"{k}: {_flow(v, depth + 1)}" for k, v in entries) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_flow(v, depth + 1) for v in value[:shown]) + "]"
    return f"a {type(value).__name__}"


def nearest(word: str, options: Iterable[str]) -> str | None:
    """The option that `word` most likely means, None if no option is similar."""
    by_lower = {option.lower(): option for option in options}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def unknown_key(name: str, siblings: Sequence[str], elsewhere: Iterable[str] = ()) -> str:
    """The message about a key that is not one of `siblings`; `elsewhere`: the dotted keys of the
    whole file."""
    elsewhere = list(elsewhere)
    start = f"unknown key {describe(name)}"
    if "." in name and name in elsewhere:  # `path.damping: 1` at the top of a file
        block, _, field = name.partition(".")
        return f"{start}, write it as a block: {block}: {{{field}: ...}}"
    close = nearest(name, siblings)
    if close is not None:
        return f'{start}, did you mean "{close}"?'
    moved = [key for key in elsewhere if key.rpartition(".")[2] == name]
    if moved:
        return f"{start}, did you mean " + " or ".join(f'"{key}"' for key in moved) + "?"
    return f"{start}, the keys are: {', '.join(siblings)}"

"""Translates pydantic's errors into messages for the author of the file: the value, what is expected,
and how to write it."""

import math
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from orchestrator.fields.faults import Fault, describe, nearest, unknown_key
from orchestrator.fields.schema import atoms, inner_block, item_block, leaves

BOUNDS: dict[type, tuple[str, str]] = {
    Gt: (">", "gt"),
    Ge: (">=", "ge"),
    Lt: ("<", "lt"),
    Le: ("<=", "le"),
}
NOUNS: dict[type, tuple[str, str]] = {
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
    bool: ("true or false", "truth values"),
}


UNKNOWN_KIND = "unknown_kind"  # the type of the pydantic error about an unknown kind


@dataclass(frozen=True)
class Say:
    """Metadata of a type: what it expects, in words, where the type alone is not clear."""

    text: str | Callable[[], str]

    def __str__(self) -> str:
        return self.text if isinstance(self.text, str) else self.text()


def expected(annotation: Any, metadata: tuple[Any, ...] = (), plural: bool = False) -> str:
    """The values that a field of this type takes, in words: `a number > 0 or null`."""
    for item in reversed(metadata):
        if isinstance(item, Say):
            return str(item)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return expected(args[0], (*args[1:], *metadata), plural)
    if origin in (Union, types.UnionType):
        return " or ".join(expected(arg) for arg in args)
    if origin is Literal:
        names = ", ".join(f'"{arg}"' for arg in args)
        return names if len(args) == 1 else f"{'any' if plural else 'one'} of {names}"
    if origin is tuple:
        empty = "non-empty " if any(isinstance(m, MinLen) for m in metadata) else ""
        return f"a {empty}list of {expected(args[0], plural=True)}"
    if annotation in (None, type(None)):
        return "null"
    family = getattr(annotation, "family", None)
    if family is not None:
        return str(family.expected_block())
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"a mapping with the keys {', '.join(annotation.model_fields)}"
    bounds = []
    for item in metadata:
        if type(item) in BOUNDS:
            symbol, attribute = BOUNDS[type(item)]
            bounds.append(f"{symbol} {getattr(item, attribute)}")
    noun = NOUNS[annotation][plural] if annotation in NOUNS else "a value"
    return " ".join([noun, " and ".join(bounds)]).strip()


def translate(error: ValidationError, model: type[BaseModel], data: Any) -> list[Fault]:
    """One fault, without a source, for each setting that pydantic refused."""
    messages: dict[tuple[str, bool], str] = {}
    for item in error.errors(include_url=False):
        key, message = _message(item, model, data)
        # an unknown key "path.speed" at the top level is not the key speed of path
        setting = (key, item["type"] == "extra_forbidden")
        # the message of our own validator is more precise than that of the type
        own_validator = item["type"] == "value_error"
        if own_validator or setting not in messages:
            messages[setting] = message
    return [Fault("", key, message) for (key, _), message in messages.items()]


def _message(item: Any, root: type[BaseModel], data: Any) -> tuple[str, str]:
    """The dotted key and the message of one pydantic error. All errors inside a union or a list
    get the key of its field."""
    path: list[Any] = []
    block: type[BaseModel] | None = root
    field: FieldInfo | None = None
    for part in item["loc"]:
        if isinstance(part, int) and block is None and field is not None:
            block = _item(field, root, data, [*path, part])
            if block is not None:
                path.append(part)
                continue
        if block is None or part not in block.model_fields:
            in_space = field is not None and get_origin(field.annotation) is dict
            if block is not None or in_space:
                path.append(part)
            break
        field = block.model_fields[part]
        path.append(part)
        block = inner_block(field)
        if block is not None and (family := getattr(block, "family", None)) is not None:
            block = family.chosen(_at(data, path, None)) or block
    key = ".".join(map(str, path))
    if item["type"] == "extra_forbidden" and block is not None:
        return key, _unknown(str(path[-1]), block, root, data)
    if item["type"] == UNKNOWN_KIND:
        return key, str(item["msg"])
    if item["type"] == "value_error":
        return key, str(item["ctx"]["error"])
    if not path:
        return "", f"got {describe(data)}, expected a mapping such as name: my-run"
    if item["type"] == "invalid_key" or not isinstance(path[-1], str):
        return key, f"the key {describe(path[-1])} is not text"
    assert field is not None
    wanted = expected(field.annotation, tuple(field.metadata))
    if item["type"] == "missing":
        return key, f"missing, expected {wanted}"
    got = _at(data, path)
    return key, f"got {describe(got)}, expected {wanted}{_hint(got, field)}"


def _item(
    field: FieldInfo, root: type[BaseModel], data: Any, path: list[Any]
) -> type[BaseModel] | None:
    """The model of the element at `path` of a list of blocks: its kind, to which the settings of the
    element itself are added; None if `field` is no list of blocks."""
    own = item_block(field)
    if own is None:
        return None
    outer = inner_block(root.model_fields[path[0]])
    family = getattr(outer, "family", None)
    kind = None if family is None else family.chosen(_at(data, path, None))
    return own if kind is None else kind


def _unknown(name: str, block: type[BaseModel], root: type[BaseModel], data: Any) -> str:
    """The message about a key that `block` does not have."""
    family = getattr(block, "family", None)
    having = [] if family is None else family.having(name)
    if family is None or not having:
        return unknown_key(name, list(block.model_fields), leaves(root))
    kind = block.name_of()  # type: ignore[attr-defined]
    what = f"{family.block}.{family.key} {kind} has no {name}, which is a key of"
    swept = _at(data, ["sweep", "space", f"{family.block}.{family.key}"], None)
    if swept is None:
        return f"{what} {', '.join(having)}"
    remedy = f"for a swept {family.key} set sweep.space.{family.block}.{name}"
    return f"{what} {', '.join(having)}; {remedy}"


def _at(data: Any, path: list[Any], *default: Any) -> Any:
    for part in path:
        inside = isinstance(data, dict) and part in data
        inside |= isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)
        if default and not inside:
            return default[0]
        data = data[part]
    return data


def _hint(got: Any, field: FieldInfo) -> str:
    types_of_field = set(atoms(field.annotation))
    for value in got if isinstance(got, (list, tuple)) else [got]:
        hint = _value_hint(value, types_of_field)
        if hint:
            return hint
    return ""


def _value_hint(value: Any, kinds: set[Any]) -> str:
    words = [kind for kind in kinds if isinstance(kind, str)]
    if isinstance(value, str) and kinds & {int, float}:
        number = _as_number(value, whole=float not in kinds)
        if number:
            return f"; {describe(value)} is text, write {number}"
    wants_integer = int in kinds and float not in kinds
    if isinstance(value, float) and wants_integer and value.is_integer() and abs(value) < 1e15:
        return f"; write {int(value)}"
    if isinstance(value, str) and value.lower() in ("none", "nil") and type(None) in kinds:
        return "; write null"
    if isinstance(value, str) and words:
        close = nearest(value, sorted(words))
        return f'; did you mean "{close}"?' if close else ""
    if isinstance(value, bool) and (words or str in kinds):
        return "; YAML reads yes, no, on and off as true and false, put quotes around text"
    if isinstance(value, (int, float)) and str in kinds:
        return "; put quotes around text"
    return ""


def _as_number(text: str, whole: bool) -> str | None:
    """How YAML 1.1 writes a number that it read as text: 2e-4 as 2.0e-4, 1.5e3 as 1.5e+3."""
    try:
        value = float(text)
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    if whole:
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else None
    mantissa, mark, exponent = text.strip().lower().partition("e")
    if not mark:
        return repr(value).removesuffix(".0")
    sign = "" if exponent[0] in "+-" else "+"
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{sign}{exponent}"

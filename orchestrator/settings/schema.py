"""The fields of a model of settings, read from its types: blocks, dotted keys, what a type is made
of."""

import types
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def inner_block(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a block (or a block or null)."""
    union = get_origin(field.annotation) in (Union, types.UnionType)
    options = get_args(field.annotation) if union else (field.annotation,)
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)


@cache
def leaves(model: type[BaseModel], prefix: str = "") -> Mapping[str, FieldInfo]:
    """Every setting that is not a block, by dotted key, in the order of the file."""
    found: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        block = inner_block(field)
        found.update({prefix + name: field} if block is None else leaves(block, f"{prefix}{name}."))
    return found


def atoms(annotation: Any) -> Iterator[Any]:
    """The scalar types and the admitted words inside a type."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif get_args(annotation):
        for arg in get_args(annotation):
            yield from atoms(arg)
    else:
        yield annotation

"""The fields of a model of settings, read from its types: blocks, dotted keys, the parts of a
type."""

import types
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from orchestrator.fields.elements import element


def inner_block(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a block (or a block or null); None for other fields."""
    union = get_origin(field.annotation) in (Union, types.UnionType)
    options = get_args(field.annotation) if union else (field.annotation,)
    for option in options:
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


@cache
def leaves(model: type[BaseModel], prefix: str = "") -> Mapping[str, FieldInfo]:
    """All settings that are not blocks, by dotted key, in the order of the file; for a block with
    several kinds the settings of all kinds."""
    settings: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        block = inner_block(field)
        if block is None:
            settings[prefix + name] = field
        for kind in kinds_of(block):
            for key, inner in leaves(kind, f"{prefix}{name}.").items():
                settings.setdefault(key, inner)
    return settings


def field_of(model: type[BaseModel], key: str) -> FieldInfo:
    """The setting of a dotted key; of an element of a list the setting of any kind that has it."""
    where = element(key)
    if where is None:
        return leaves(model)[key]
    block = inner_block(model.model_fields[where.block])
    item = next(
        found
        for kind in kinds_of(block)
        if where.field in kind.model_fields
        if (found := item_block(kind.model_fields[where.field])) is not None
    )
    models = [item, *kinds_of(block)]
    return next(m.model_fields[where.name] for m in models if where.name in m.model_fields)


def item_block(field: FieldInfo) -> type[BaseModel] | None:
    """The model of the elements of a field that is a list of blocks; None for other fields."""
    if get_origin(field.annotation) is not tuple:
        return None
    item = get_args(field.annotation)[0]
    item = get_args(item)[0] if get_origin(item) is Annotated else item
    return item if isinstance(item, type) and issubclass(item, BaseModel) else None


def kinds_of(block: type[BaseModel] | None) -> list[type[BaseModel]]:
    """The models that a block may have: its kinds, or only itself."""
    if block is None:
        return []
    family = getattr(block, "family", None)
    return [block] if family is None else list(family)


def forget() -> None:
    """Clear the cache of `leaves`, after a plugin has added a kind."""
    leaves.cache_clear()


def atoms(annotation: Any) -> Iterator[Any]:
    """The scalar types and the literal values inside a type."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif get_args(annotation):
        for arg in get_args(annotation):
            yield from atoms(arg)
    else:
        yield annotation

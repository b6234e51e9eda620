"""Dotted keys of settings in a list of blocks, such as `distill.stages.1.weight`: the key `weight` of
the second element of `distill.stages`. Elements are numbered from 0."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

ELEMENT = re.compile(r"(\w+)\.(\w+)\.(\d+)\.(\w+)")


class Element(NamedTuple):
    """The setting `name` of element `number` of the list `block.field`."""

    block: str
    field: str
    number: int
    name: str


def element(key: str) -> Element | None:
    """The parts of a dotted key of a setting in a list; None for any other key."""
    match = ELEMENT.fullmatch(key)
    return None if match is None else Element(match[1], match[2], int(match[3]), match[4])


def with_element(data: Mapping[str, Any], where: Element, value: Any) -> dict[str, Any]:
    """A copy of `data`, the blocks of a file, with this setting of an element; an equal copy if there
    is no such element."""
    result = dict(data)
    if element_problem(data, where) is None:
        elements = list(data[where.block][where.field])
        elements[where.number] = {**elements[where.number], where.name: value}
        result[where.block] = {**data[where.block], where.field: elements}
    return result


def element_problem(data: Any, where: Element) -> str | None:
    """Why `data`, the blocks of a file, have no such element; None if they have it."""
    block = data.get(where.block) if isinstance(data, Mapping) else None
    elements = block.get(where.field) if isinstance(block, Mapping) else None
    if not isinstance(elements, list | tuple):
        return f"there is no list {where.block}.{where.field}"
    if where.number >= len(elements) or not isinstance(elements[where.number], Mapping):
        last = len(elements) - 1
        return f"{where.block}.{where.field} has the elements 0 to {last}, got {where.number}"
    return None

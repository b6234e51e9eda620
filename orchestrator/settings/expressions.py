"""Conditions and constraints of a sweep as text: `damping * 1 >= speed`, `sampling.model ==
"teacher"`.

The syntax is a subset of Python's: settings by dotted key (or by the last part of the key if it is
unambiguous), numbers, text, true, false, null, arithmetic, comparisons, `in`, `and`, `or` and `not`.
Calls are refused, and so is access to any attribute that is not a setting."""

import ast
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from orchestrator.fields.faults import describe, unknown_key

LONGEST = 500  # characters
WORDS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
SCALARS = int | float | str | bool | None
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip


class Expression:
    """A checked expression over settings. Raises ValueError if the text is not one.

    `settings`: all dotted keys that exist.
    """

    def __init__(self, text: str, settings: Iterable[str]) -> None:
        self.text, self._settings = text, list(settings)
        if len(text) > LONGEST:
            raise ValueError(f"expected at most {LONGEST} characters, got {len(text)}")
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ValueError(
                "cannot be parsed: expected an expression such as path.damping * 1 >= path.speed"
            ) from None
        self.keys = tuple(dict.fromkeys(self._named(self._tree)))

    def holds(self, value: Callable[[str], Any]) -> bool:
        """Whether the expression is true for the settings `value(key)`. Raises ValueError if it
        cannot be evaluated."""
        try:
            return bool(self._value(self._tree, value))
        except (TypeError, ZeroDivisionError, OverflowError) as e:
            shown = ", ".join(f"{key} = {describe(value(key))}" for key in self.keys)
            raise ValueError(f"cannot be evaluated with {shown}: {e}") from None

    def _named(self, node: ast.expr) -> Iterator[str]:
        """The settings that `node` refers to; raises ValueError for syntax that is not allowed."""
        if isinstance(node, ast.Name | ast.Attribute):
            if _dotted(node) not in WORDS:
                yield self._setting(_dotted(node))
            return
        if isinstance(node, ast.Constant) and isinstance(node.value, SCALARS):
            return
        for part in self._parts(node):
            yield from self._named(part)

    def _parts(self, node: ast.expr) -> list[ast.expr]:
        if isinstance(node, ast.BoolOp):
            return node.values
        if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
            return [node.left, node.right]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
            return [node.operand]
        if isinstance(node, ast.Compare) and all(type(op) in COMPARISONS for op in node.ops):
            return [node.left, *node.comparators]
        if isinstance(node, ast.List | ast.Tuple):
            return list(node.elts)
        raise ValueError(
            f"{ast.unparse(node)!r} is not allowed: expected settings, numbers, text, + - * / // %, comparisons, in, "
            "and, or, not"
        )

    def _setting(self, name: str) -> str:
        if name in self._settings:
            return name
        candidates = [key for key in self._settings if key.endswith(f".{name}")]
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise ValueError(
                f"{name} is ambiguous between {', '.join(candidates)}: write the full key"
            )
        raise ValueError(unknown_key(name, self._settings, self._settings))

    def _value(self, node: ast.expr, value: Callable[[str], Any]) -> Any:
        if isinstance(node, ast.Name | ast.Attribute):
            name = _dotted(node)
            return WORDS[name] if name in WORDS else value(self._setting(name))
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.BoolOp):
            parts = (self._value(part, value) for part in node.values)
            return all(parts) if isinstance(node.op, ast.And) else any(parts)
        if isinstance(node, ast.UnaryOp):
            operand = self._value(node.operand, value)
            return not operand if isinstance(node.op, ast.Not) else -operand
        if isinstance(node, ast.BinOp):
            left = self._value(node.left, value)
            right = self._value(node.right, value)
            if not isinstance(left, int | float) or not isinstance(right, int | float):
                raise TypeError("arithmetic needs numbers")
            return ARITHMETIC[type(node.op)](left, right)
        if isinstance(node, ast.Compare):
            return self._compared(node, value)
        assert isinstance(node, ast.List | ast.Tuple)
        return [self._value(part, value) for part in node.elts]

    def _compared(self, node: ast.Compare, value: Callable[[str], Any]) -> bool:
        left = self._value(node.left, value)
        for op, part in zip(node.ops, node.comparators, strict=True):
            right = self._value(part, value)
            if not COMPARISONS[type(op)](left, right):
                return False
            left = right
        return True


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Name):
        return node.id
    raise ValueError(
        f"{ast.unparse(node)!r} is not allowed before a dot: expected a setting such as path.damping"
    )

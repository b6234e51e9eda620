"""Rules between settings. Each rule names the settings that it reads, and is checked if those are
valid.

A rule is a function of the experiment, or a method of a kind that takes the experiment."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from orchestrator.settings.experiment import Experiment

Check = Callable[["Experiment"], str | None]
F = TypeVar("F", bound=Callable[..., str | None])

MARK = "_rule"  # the attribute of a method that is a rule


@dataclass(frozen=True)
class Rule:
    """`check` returns the fault of the first setting in `needs`, None if there is none.

    `pairing`: each setting is valid, but they cannot be combined; a sweep skips such a combination
    and reports it."""

    needs: tuple[str, ...]
    check: Check
    pairing: bool = False


RULES: list[Rule] = []


def rule(*needs: str, pairing: bool = False) -> Callable[[Check], Check]:
    """Decorator for a function that is a rule for all experiments."""

    def add(check: Check) -> Check:
        RULES.append(Rule(needs, check, pairing))
        return check

    return add


def kind_rule(*needs: str, pairing: bool = False) -> Callable[[F], F]:
    """Decorator for a method of a kind that is a rule for experiments with this kind."""

    def mark(method: F) -> F:
        setattr(method, MARK, (needs, pairing))
        return method

    return mark


def rules_of(kind: object) -> Iterator[Rule]:
    """The rules among the methods of `kind`."""
    for method in _marked(type(kind)):  # type: ignore[arg-type]  # mypy: a class is no Hashable
        needs, pairing = getattr(method, MARK)
        yield Rule(needs, partial(method, kind), pairing)


@cache
def _marked(kind: type) -> tuple[Callable[..., Any], ...]:
    """The methods of a class that are rules."""
    methods = [getattr(kind, name, None) for name in dir(kind)]
    return tuple(m for m in methods if callable(m) and hasattr(m, MARK))

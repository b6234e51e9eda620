"""What settings demand of each other. Each rule names the settings that it reads, and is checked
wherever those are sound.

A rule is a function of the experiment, or a method of a kind that takes the experiment."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from orchestrator.settings.experiment import Experiment

Check = Callable[["Experiment"], str | None]
F = TypeVar("F", bound=Callable[..., str | None])

MARK = "_rule"  # the attribute of a method that is a rule


@dataclass(frozen=True)
class Rule:
    """`check` returns what is wrong with the first of the settings in `needs`, None where nothing
    is.

    `pairing`: the settings are sound one by one, only this combination cannot be; a sweep skips it
    and says so."""

    needs: tuple[str, ...]
    check: Check
    pairing: bool = False


RULES: list[Rule] = []


def rule(*needs: str, pairing: bool = False) -> Callable[[Check], Check]:
    """Decorator of a function that is a rule for every experiment."""

    def add(check: Check) -> Check:
        RULES.append(Rule(needs, check, pairing))
        return check

    return add


def kind_rule(*needs: str, pairing: bool = False) -> Callable[[F], F]:
    """Decorator of a kind's method that is a rule for the experiments with this kind."""

    def mark(method: F) -> F:
        setattr(method, MARK, (needs, pairing))
        return method

    return mark


def rules_of(kind: Any) -> Iterator[Rule]:
    """The rules among the methods of `kind`."""
    for name in dir(type(kind)):
        method = getattr(type(kind), name, None)
        if callable(method) and hasattr(method, MARK):
            needs, pairing = getattr(method, MARK)
            yield Rule(needs, partial(method, kind), pairing)

"""What settings demand of each other. Each rule names the fields it reads, and runs whenever those
are sound."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from orchestrator.settings.experiment import Experiment
from orchestrator.settings.faults import Fault

Check = Callable[[Experiment], str | None]


@dataclass(frozen=True)
class Rule:
    """`check` returns what is wrong with the first of the fields `needs`, None where nothing is.

    `pairing`: the settings are sound one by one, only this combination cannot be; a sweep skips it
    and says so."""

    needs: tuple[str, ...]
    check: Check
    pairing: bool


RULES: list[Rule] = []


def rule(*needs: str, pairing: bool = False) -> Callable[[Check], Check]:
    def add(check: Check) -> Check:
        RULES.append(Rule(needs, check, pairing))
        return check

    return add


def broken(experiment: Experiment, unsound: Iterable[str] = ()) -> list[Fault]:
    """The faults, without a source, of every rule whose fields are not under a key in `unsound`."""
    unsound = set(unsound)
    faults = []
    for each in RULES:
        if any(key == bad or key.startswith(f"{bad}.") for key in each.needs for bad in unsound):
            continue
        message = each.check(experiment)
        if message is not None:
            faults.append(
                Fault("", each.needs[0], message, involves=each.needs, pairing=each.pairing)
            )
    return faults

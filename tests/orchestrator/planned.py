"""Plans of the default experiment with a few settings changed."""

from kaccore.metrics.features import features_for, second_for
from orchestrator.plan.plan import Plan, alike, make
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.loading import override, parse


def experiment(space: dict[str, list[object]] | None = None, **settings: object) -> Experiment:
    sweep = (
        None
        if space is None
        else {"space": {key: {"grid": values} for key, values in space.items()}}
    )
    base = parse(
        {"name": "plan", "data": {"name": "digits"}, "path": {"kind": "kac"}, "sweep": sweep}
    )
    return override(base, {key.replace("__", "."): value for key, value in settings.items()})


def plan(config: Experiment, goal: str = "sweep") -> Plan:
    features = features_for(config.data.name, config.evaluation.features, config.evaluation.weights)
    second = second_for(config.data.name, features, config.evaluation.second)
    return make(config, alike("fingerprint", features, second), goal)

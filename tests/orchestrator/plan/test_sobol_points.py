"""`sweep.search: sobol`: a scrambled Sobol sequence over the space."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import qmc

from orchestrator.fields.faults import ConfigError
from orchestrator.plan.expand import expand
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.loading import override, parse

SPACE = {
    "path.damping": {"loguniform": [1, 100]},
    "path.speed": {"uniform": [1, 5]},
    "teacher.steps": {"int": [10, 13]},
    "path.clock": {"choice": ["linear", "quadratic"]},
}
PLANE = {"path.damping": {"loguniform": [1, 100]}, "path.speed": {"uniform": [1, 5]}}


def experiment(space: dict[str, Any], **sweep: Any) -> Experiment:
    settings = {"search": "sobol", "num_trials": 16, "space": space, **sweep}
    return parse(
        {"name": "even", "data": {"name": "digits"}, "path": {"kind": "kac"}, "sweep": settings}
    )


def overrides(asked: Experiment) -> list[dict[str, Any]]:
    return [trial.overrides for trial in expand(asked).trials]


def test_the_points_are_those_of_scipys_sequence():
    """The oracle: the inverse of each entry's distribution, of the sequence drawn at once."""
    shares = qmc.Sobol(4, scramble=True, rng=3).random(16)
    asked = override(experiment(SPACE), {"seed": 3})
    for found, (a, b, c, d) in zip(overrides(asked), shares, strict=True):
        assert found["path.damping"] == pytest.approx(100**a, rel=1e-5)
        assert found["path.speed"] == pytest.approx(1 + 4 * b, rel=1e-5)
        assert found["teacher.steps"] == 10 + math.floor(4 * c)
        assert found["path.clock"] == ("linear" if d < 0.5 else "quadratic")


def test_a_power_of_two_has_every_value_of_a_list_or_range_equally_often():
    found = overrides(experiment(SPACE))
    for steps in (10, 11, 12, 13):
        assert sum(each["teacher.steps"] == steps for each in found) == 4
    assert sum(each["path.clock"] == "linear" for each in found) == 8
    assert sum(each["path.damping"] < 10 for each in found) == 8


def test_the_same_seed_gives_the_same_points_and_more_of_them_begin_alike():
    first = overrides(experiment(SPACE, num_trials=5))
    assert overrides(experiment(SPACE, num_trials=5)) == first
    assert overrides(experiment(SPACE, num_trials=40))[:5] == first
    others = overrides(override(experiment(SPACE, num_trials=5), {"seed": 1}))
    assert all(each not in first for each in others)


def test_what_a_constraint_leaves_out_the_next_points_replace():
    constrained = [{"num_trials": count, "constraints": ["speed < 3"]} for count in (6, 12)]
    few, many = (overrides(experiment(PLANE, **sweep)) for sweep in constrained)
    assert (len(few), len(many)) == (6, 12) and many[:6] == few
    allowed = [e for e in overrides(experiment(PLANE, num_trials=40)) if e["path.speed"] < 3]
    assert many == allowed[:12]
    with pytest.raises(ConfigError, match="none of 1000 draws can be run; the last: constraint"):
        expand(experiment(PLANE, constraints=["speed < 0"]))


def test_a_small_space_is_drawn_whole():
    space = {"teacher.steps": {"int": [10, 12]}, "path.clock": {"choice": ["linear", "quadratic"]}}
    found = {tuple(each.values()) for each in overrides(experiment(space, num_trials=20))}
    assert found == {(s, c) for s in (10, 11, 12) for c in ("linear", "quadratic")}


@pytest.mark.parametrize("seed", range(4))
def test_it_covers_the_plane_more_evenly_than_random_points(seed):
    def discrepancy(search: str) -> float:
        asked = override(experiment(PLANE, search=search, num_trials=32), {"seed": seed})
        unit = [
            (math.log(each["path.damping"], 100), (each["path.speed"] - 1) / 4)
            for each in overrides(asked)
        ]
        return float(qmc.discrepancy(np.clip(unit, 0, 1)))

    assert discrepancy("sobol") < discrepancy("random") / 3


def test_each_point_is_combined_with_the_whole_grid():
    grid = {"path.damping": {"uniform": [1, 9]}, "seed": {"grid": [0, 1]}}
    found = expand(experiment(grid, num_trials=4))
    assert [trial.point for trial in found.trials] == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (
            {"num_trials": None},
            "sweep.num_trials: got null, expected the number of points that sobol",
        ),
        ({"space": {"seed": {"grid": [0]}}}, "sweep.search sobol draws from these"),
        ({"learn_from": ["x"]}, "only optuna learns"),
    ],
)
def test_what_it_needs_is_said(sweep, message):
    with pytest.raises(ConfigError) as raised:
        experiment(**{"space": PLANE, **sweep})
    assert message in str(raised.value)

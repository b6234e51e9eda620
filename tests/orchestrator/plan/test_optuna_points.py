import math
from collections import Counter
from random import Random
from typing import Any

import pytest

from orchestrator.fields.faults import ConfigError
from orchestrator.plan import plan
from orchestrator.plan.expand import expand
from orchestrator.plan.optuna_points import add_next
from orchestrator.plan.plan import alike
from orchestrator.plan.points import Expansion, Known, PointSpace
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.loading import override, parse


def experiment(space: dict[str, Any], **sweep: Any) -> Experiment:
    settings = {"search": "random", "num_trials": 20, "space": space, **sweep}
    return parse(
        {"name": "drawn", "data": {"name": "digits"}, "path": {"kind": "kac"}, "sweep": settings}
    )


def overrides(found: Expansion) -> list[dict[str, Any]]:
    return [trial.overrides for trial in found.trials]


SPACE = {
    "path.damping": {"loguniform": [1, 100]},
    "path.speed": {"uniform": [1, 5]},
    "teacher.steps": {"int": [10, 12]},
    "path.clock": {"choice": ["linear", "quadratic"]},
}


def test_every_draw_lies_in_its_range_and_all_of_a_small_range_are_drawn():
    drawn = overrides(expand(experiment(SPACE, num_trials=60)))
    assert len(drawn) == 60
    assert all(1 <= d["path.damping"] <= 100 and 1 <= d["path.speed"] <= 5 for d in drawn)
    assert {d["teacher.steps"] for d in drawn} == {10, 11, 12}
    assert {d["path.clock"] for d in drawn} == {"linear", "quadratic"}
    # the logarithm is uniform: half of the draws below 10, of 60 draws 14 to 46 but once in 40,000
    assert 14 <= sum(d["path.damping"] < 10 for d in drawn) <= 46
    assert 14 <= sum(d["path.speed"] < 3 for d in drawn) <= 46


def test_the_same_seed_draws_the_same_and_more_of_them_begin_alike():
    short, long = (overrides(expand(experiment(SPACE, num_trials=n))) for n in (5, 9))
    assert long[:5] == short
    base = experiment(SPACE, num_trials=5)
    assert overrides(expand(override(base, {"seed": 1}))) != short


def test_each_draw_is_combined_with_the_whole_grid():
    found = expand(
        experiment({"path.damping": {"uniform": [1, 9]}, "seed": {"grid": [0, 1, 2]}}, num_trials=4)
    )
    assert [t.point for t in found.trials] == [p for p in range(4) for _ in range(3)]
    assert [t.overrides["seed"] for t in found.trials] == [0, 1, 2] * 4
    assert Counter(t.overrides["path.damping"] for t in found.trials).most_common(1)[0][1] == 3


def test_a_space_of_few_points_is_drawn_once_each():
    found = expand(
        experiment({"path.clock": {"choice": ["linear", "quadratic"]}, "seed": {"int": [0, 2]}})
    )
    assert len({str(values) for values in overrides(found)}) == len(found.trials) == 6


def test_constraints_hold_for_everything_that_is_drawn():
    found = expand(experiment(SPACE, constraints=["damping * 1 >= 10 * speed"], num_trials=30))
    assert len(found.trials) == 30 and found.skipped == []
    assert all(d["path.damping"] >= 10 * d["path.speed"] for d in overrides(found))


def test_a_constraint_that_nothing_fulfils_is_refused():
    with pytest.raises(
        ConfigError,
        match=r"x\.yaml: sweep\.space: none of 1000 draws.*the last: constraint speed > 9",
    ):
        expand(experiment(SPACE, constraints=["speed > 9"]), "x.yaml")


def test_a_grid_leaves_out_what_a_constraint_forbids_and_says_so():
    grid = {"path.damping": {"grid": [1, 9]}, "path.speed": {"grid": [2, 3]}}
    found = expand(
        experiment(grid, search="grid", num_trials=None, constraints=["damping >= speed"])
    )
    assert [tuple(d.values()) for d in overrides(found)] == [(9.0, 2.0), (9.0, 3.0)]
    assert {s.reason for s in found.skipped} == {"constraint damping >= speed"}


def test_a_setting_is_varied_only_where_its_condition_holds():
    grid = {
        "sampling.model": {"grid": ["teacher", "student"]},
        "sampling.guidance": {"grid": [1.0, 1.5, 2.0]},
    }
    conditions = {"sampling.guidance": "sampling.model == 'teacher'"}
    found = expand(experiment(grid, search="grid", num_trials=None, conditions=conditions))
    assert [tuple(d.values()) for d in overrides(found)] == [
        ("teacher", 1.0), ("teacher", 1.5), ("teacher", 2.0), ("student", 1.0),
    ]  # fmt: skip
    assert found.skipped == []


def test_a_condition_that_cannot_be_computed_names_its_key():
    base = experiment(
        {"seed": {"grid": [0, 1]}},
        search="grid",
        num_trials=None,
        conditions={"seed": "label_dropout > 'a'"},
    )
    with pytest.raises(
        ConfigError,
        match=r"x\.yaml: sweep\.conditions\.seed: label_dropout > 'a': cannot be evaluated",
    ):
        expand(base, "x.yaml")


def quality(point: dict[str, Any]) -> float:
    """A landscape with its best at damping 30, speed 2 and the quadratic clock."""
    clock = 0.0 if point["path.clock"] == "quadratic" else 1.0
    return math.log(point["path.damping"] / 30) ** 2 + (point["path.speed"] - 2) ** 2 + clock


def search(kind: str, seed: int, count: int = 40, noise: float = 0.0, **sweep: Any) -> list[float]:
    """The landscape's values at the points that a search of `kind` visits; it sees them with
    `noise`."""
    space = PointSpace(
        override(experiment(SPACE, search=kind, num_trials=count, **sweep), {"seed": seed}), "x"
    )
    found, known, values = Expansion(), [], list[float]()
    random = Random(seed)
    for _ in range(count):
        add_next(space, found, known)
        values.append(quality(dict(found.points[-1])))
        known.append(Known(found.points[-1], (values[-1] + random.gauss(0, noise),)))
    return values


def test_optuna_looks_where_earlier_points_were_good():
    late = {
        kind: [sum(search(kind, seed)[20:]) / 20 for seed in range(3)]
        for kind in ("random", "optuna")
    }
    assert max(late["optuna"]) < min(late["random"]) / 2


def test_a_gaussian_process_finds_the_best_through_noise():
    late = search("optuna", 0, count=24, noise=0.5, sampler="gp")[16:]
    assert sum(late) / len(late) < sum(search("random", 0)[16:]) / 24 / 3


def test_a_sampler_is_of_optuna_and_makes_another_sweep():
    with pytest.raises(
        ConfigError, match=r"sweep\.sampler: got gp, expected tpe where sweep\.search is random"
    ):
        experiment(SPACE, sampler="gp")
    ids = {
        plan.make(experiment(SPACE, search="optuna", **sweep), alike("f", "digits-cnn-v1")).id
        for sweep in ({}, {"sampler": "tpe"}, {"sampler": "gp"})
    }
    assert len(ids) == 2


def test_a_search_that_goes_for_the_largest_does():
    space = PointSpace(experiment(SPACE, search="optuna", mode="max", num_trials=40), "x")
    found, known = Expansion(), []
    for _ in range(40):
        add_next(space, found, known)
        known.append(Known(found.points[-1], (found.points[-1]["path.speed"],)))
    speeds = [point["path.speed"] for point in found.points]
    assert sum(speeds[20:]) / 20 > sum(speeds[:10]) / 10 + 0.5


def test_points_in_the_making_are_taken_into_account():
    space = PointSpace(experiment(SPACE, search="optuna"), "x")
    found, known = Expansion(), []
    for _ in range(15):
        add_next(space, found, known)
        known.append(Known(found.points[-1], None))
    assert len({str(p) for p in found.points}) == 15


def drawn_plan(points: list[dict[str, Any]] | None = None, **sweep: Any) -> plan.Plan:
    facts_of = plan.alike("fingerprint", "digits-cnn-v1")
    return plan.make(experiment(SPACE, search="optuna", **sweep), facts_of, points=points or [])


def test_a_sweep_that_grows_keeps_its_id_and_its_trials():
    base = drawn_plan()
    one = base.drawn([])
    two = one.drawn([Known(one.expansion.points[0], (1.0,))])
    assert (len(base.trials), len(one.trials), len(two.trials)) == (0, 1, 2)
    assert two.trials[0] is one.trials[0]
    again = drawn_plan(list(two.expansion.points))
    assert [t.key for t in again.trials] == [t.key for t in two.trials]
    assert base.id == one.id == two.id == again.id == drawn_plan(num_trials=99, max_minutes=3).id
    assert base.id != drawn_plan(mode="max").id


def test_a_setting_that_was_added_changes_the_id_of_no_earlier_sweep():
    """The id that this sweep had before sweep.sampler, teacher.weights, evaluation.every_student and data.binary."""
    space = {"path.damping": {"uniform": [1, 9]}}
    config = {"name": "x", "data": {"name": "digits"}, "path": {"kind": "kac"}}
    config["sweep"] = {"search": "optuna", "num_trials": 3, "space": space}
    assert plan.make(parse(config), plan.alike("f", "digits-cnn-v1")).id == "839eedce70"

"""What training costs, in network evaluations."""

from typing import Any

import pytest
from planned import experiment, plan

from orchestrator.plan import cost
from orchestrator.settings.loading import override


def costs(settings: dict[str, Any]) -> dict[str, float]:
    """The network evaluations of each stage of a chain, by label, for one training step of one
    image."""
    base = {
        "sampling.model": "teacher",
        "teacher.steps": 1,
        "teacher.batch_size": 1,
        "distill.steps": 1,
        "distill.batch_size": 1,
    }
    config = override(experiment(), {**base, **settings})
    return {s.label: cost.evaluations(s) for s in plan(config, "student").trials[0].chain}


def test_a_teacher_costs_a_forward_and_a_backward_pass_of_each_image():
    assert costs({"teacher.steps": 10, "teacher.batch_size": 4})["teacher"] == 10 * 4 * 3


@pytest.mark.parametrize("solver, evaluations", [("euler", 1), ("ab2", 1), ("heun", 2), ("rk4", 4)])
def test_an_endpoint_student_also_asks_its_teacher(solver, evaluations):
    chain = {
        "distill.intervals": [4, 2],
        "distill.teacher_steps": 20,
        "distill.teacher_solver": solver,
    }
    of = costs(chain)
    assert of["student 4"] == 3 + 5 * evaluations
    assert of["student 2"] == 3 + 2
    assert costs({**chain, "distill.guidance": 1.5})["student 4"] == 3 + 2 * 5 * evaluations


def test_pairs_are_drawn_once_and_cost_a_student_nothing():
    chain = {"distill.kind": "pairs", "distill.intervals": [2, 1], "distill.pairs": 100,
             "distill.teacher_steps": 10}  # fmt: skip
    assert costs(chain) == {
        "teacher": 3, "pairs": 1000, "student pairs 2": 6, "student pairs 1": 3
    }  # fmt: skip
    assert costs({**chain, "distill.guidance": 2.0})["pairs"] == 2000
    assert costs({**chain, "distill.pairs": None})["student pairs 1"] == 3 + 10


def test_networks_beside_a_student_count():
    of = {kind: costs({"distill.kind": kind, "distill.intervals": [1]}) for kind in
          ("adversarial", "matching", "consistency", "flow_map")}  # fmt: skip
    assert of["adversarial"]["student adversarial 1"] == 3 + 1
    assert of["matching"]["student matching 1"] > 3 + 3 + 2
    assert of["consistency"]["student consistency"] > 3
    assert of["flow_map"]["student flow_map"] == 3 + 1 + 3


def test_a_network_costs_all_that_is_trained_before_it_each_once():
    config = override(experiment(), {"distill.intervals": [4, 2]})
    chain = plan(config, "student").trials[0].chain
    assert cost.with_parents(chain[0]) == cost.evaluations(chain[0])
    assert cost.with_parents(chain[-1]) == sum(cost.evaluations(stage) for stage in chain)

"""Which students an experiment's distill block means."""

from typing import Any

import pytest

from orchestrator.fields.faults import ConfigError
from orchestrator.plan.plan import teacher_stage
from orchestrator.plan.stage import Stage
from orchestrator.plan.students import students
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.loading import parse


def experiment(**distill: Any) -> Experiment:
    base = {
        "name": "x",
        "data": {"name": "digits"},
        "path": {"kind": "kac"},
        "sampling": {"model": "teacher"},
    }
    return parse({**base, "distill": distill})


def made(**distill: Any) -> tuple[Stage, dict[int, Stage]]:
    config = experiment(**distill)
    teacher = teacher_stage(config, "fingerprint")
    return teacher, students(config, teacher)


def test_in_a_chain_each_student_is_the_next_ones_teacher():
    teacher, found = made(intervals=[20, 4], teacher_steps=100)
    assert found[20].parents == (teacher,)
    assert found[4].parents == (found[20],)
    assert [found[n].content["substeps"] for n in (20, 4)] == [5, 5]
    assert found[4].training() == (teacher, found[20], found[4])


def test_without_a_chain_the_teacher_teaches_every_student_and_the_one_before_is_only_the_start():
    teacher, found = made(
        intervals=[20, 4], teacher_steps=100, chained=False, teacher_solver="heun"
    )
    assert found[4].parents == (teacher, found[20])
    assert found[4].lineage() == (teacher, found[4])
    assert (found[4].content["substeps"], found[4].content["solver"]) == (25, "heun")
    assert found[4].training() == (teacher, found[20], found[4])


def test_without_a_chain_from_the_teachers_weights_a_student_needs_no_other():
    teacher, found = made(intervals=[20, 4], teacher_steps=100, chained=False, start="teacher")
    assert found[4].training() == (teacher, found[4])


def test_a_given_grid_is_thinned_for_the_later_students_which_are_taught_on_the_one_before():
    _, found = made(intervals=[4, 2, 1], teacher_steps=8, times=[1.0, 0.9, 0.6, 0.3, 0.0])
    assert [found[n].content["times"] for n in (4, 2, 1)] == [
        [1.0, 0.9, 0.6, 0.3, 0.0],
        [1.0, 0.6, 0.0],
        [1.0, 0.0],
    ]
    assert [found[n].content["inner"] for n in (4, 2, 1)] == [
        None,
        [1.0, 0.9, 0.6, 0.3, 0.0],
        [1.0, 0.6, 0.0],
    ]


def test_progressive_students_match_two_steps_of_the_one_before_whatever_the_teachers_steps():
    _, found = made(kind="progressive", intervals=[8, 4, 2, 1])
    assert [s.content["substeps"] for s in found.values()] == [2, 2, 2, 2]
    assert experiment(kind="progressive", intervals=[8, 4]).distill.chain_text() == "16-8-4"


@pytest.mark.parametrize("kind", ["consistency", "flow_map"])
def test_one_student_has_the_training_of_a_whole_chain(kind):
    teacher, found = made(kind=kind, intervals=[4, 2, 1], steps=[100, 20, 3], lr=[3.0, 2.0, 1.0])
    (only,) = set(found.values())
    assert only.parents == (teacher,)
    assert (only.steps, only.content["optimise"]["lr"]) == (123, 3.0)
    _, same = made(kind=kind, intervals=[4, 2, 1], steps=41, lr=3.0)
    assert {s.steps for s in same.values()} == {123}


def test_a_consistency_student_is_sampled_with_any_step_count_up_to_its_teachers():
    config = experiment(kind="consistency", intervals=[4], teacher_steps=8)
    teacher = teacher_stage(config, "fingerprint")
    assert list(students(config, teacher)) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (
        students(config, teacher)[3] is not None
        and len({s.key for s in students(config, teacher).values()}) == 1
    )


def test_matching_students_have_pairs_only_where_these_weigh():
    teacher, found = made(kind="matching")
    (one,) = found.values()
    assert list(found) == [1] and one.parents == (teacher,) and one.pairs is None
    assert "huber" not in {k for k, v in one.content.items() if v is not None}
    _, found = made(kind="matching", pairs_weight=0.5, intervals=[2, 1])
    two, one = found.values()
    assert two.pairs is not None and one.pairs == two.pairs and one.start == two
    _, found = made(kind="matching", pairs_weight=0.5, pairs=None)
    (drawn,) = found.values()
    assert drawn.pairs is None and drawn.student.solver == "ab2" and drawn.student.substeps == 20


@pytest.mark.parametrize(
    ("block", "settings", "message"),
    [
        (
            "distill",
            {"kind": "progressive"},
            "distill.intervals: got [20, 4, 2, 1], expected each to be half",
        ),
        (
            "distill",
            {"kind": "progressive", "intervals": [2, 1], "chained": False},
            "distill.chained: distill.kind progressive has no chained, which is a key of endpoint",
        ),
        ("distill", {"times": [1.0, 0.0]}, "distill.times: got 2 times, expected 21"),
        (
            "distill",
            {"times": [1.0, 0.5]},
            "distill.times: got [1.0, 0.5], expected times that decrease from 1 to 0",
        ),
        (
            "distill",
            {"times": [1.0, 0.0], "kind": "matching"},
            "distill.times: distill.kind matching has no times, which is a key of endpoint",
        ),
        (
            "distill",
            {"chained": False, "kind": "matching"},
            "distill.chained: distill.kind matching has no chained, which is a key of endpoint",
        ),
        (
            "distill",
            {"kind": "flow_map", "velocity": "path"},
            'distill.velocity: got "path", expected "teacher": distill.form lagrangian asks it',
        ),
        (
            "distill",
            {"kind": "flow_map", "velocity": "path", "form": "mean", "guidance": 2.0},
            'distill.velocity: got "path", expected "teacher": distill.guidance 2 guides a teacher',
        ),
        (
            "distill",
            {"kind": "matching", "alpha": 0.0},
            "distill.alpha: got 0, expected > 0 and <= 1",
        ),
        (
            "distill",
            {"kind": "matching", "ratio": 1.02},
            "distill.ratio: got 1.02, expected 1: distill.alpha 1 takes no real images",
        ),
        ("distill", {"kind": "matching", "betas": [0.0, 1.0]}, "distill.betas"),
        ("distill", {"kind": "inverse"}, "distill.kind: got"),
        (
            "distill",
            {"huber": 0.0},
            "distill.huber: got 0.0, expected a number >= 1e-06 and <= 1000000.0 or null",
        ),
        ("distill", {"accumulate": 3}, "distill.accumulate: got 3, expected a divisor of 128"),
        ("teacher", {"accumulate": 3}, "teacher.accumulate: got 3, expected a divisor of 128"),
        (
            "sampling",
            {"gamma": 0.5},
            "sampling.gamma: got 0.5, expected 0: only for students of consistency",
        ),
        (
            "sampling",
            {"times": [1.0, 0.0]},
            "sampling.times: got [1.0, 0.0], expected null: distill.times sets the grid",
        ),
        (
            "sampling",
            {"model": "teacher", "times": [1.0, 0.0]},
            "sampling.times: got 2 times, expected 5",
        ),
        (
            "model",
            {"kind": "dit", "patch": 3},
            "model.patch: got 3, expected a divisor of the image size, 8",
        ),
        (
            "model",
            {"kind": "dit", "head_channels": 5},
            "model.head_channels: got 5, expected a divisor of model.chan",
        ),
        (
            "model",
            {"attention": [5]},
            "model.attention: got [5], expected image sizes of this U-Net",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_by_key(block, settings, message):
    with pytest.raises(ConfigError) as refused:
        parse({"name": "x", "data": {"name": "digits"}, "path": {"kind": "kac"}, block: settings})
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("distill", "steps", "message"),
    [
        ({"kind": "matching"}, 2, "expected one of 1"),
        ({"kind": "flow_map"}, 101, "most 100"),
        ({"kind": "consistency", "teacher_steps": 8}, 9, "most 8"),
    ],
)
def test_step_counts_that_a_student_has_not_are_refused(distill, steps, message):
    with pytest.raises(ConfigError) as refused:
        parse({"name": "x", "data": {"name": "digits"}, "path": {"kind": "kac"}, "distill": distill,
               "sampling": {"steps": steps}})  # fmt: skip
    assert "sampling.steps: got" in str(refused.value)
    assert message in str(refused.value)

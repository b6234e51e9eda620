import pytest
from planned import experiment, plan

from orchestrator.plan.plan_file import of_noted, to_plain
from orchestrator.settings.loading import override


def test_the_seven_points_of_an_nfe_sweep_share_one_teacher():
    points = [1, 2, 4, 10, 20, 50, 100]
    swept = plan(experiment({"sampling.steps": points}, sampling__model="teacher"))
    assert len(swept.trials) == len(points)
    assert [s.kind for s in swept.stages()] == [
        *["reference"] * 2,
        "teacher",
        *["evaluation"] * len(points),
    ]


def test_teacher_and_students_at_every_step_count_share_one_chain():
    swept = plan(
        experiment({"sampling.model": ["teacher", "student"], "sampling.steps": [1, 2, 4, 20]})
    )
    labels = [s.label for s in swept.stages(("teacher", "student"))]
    assert sorted(labels) == ["student 1", "student 2", "student 20", "student 4", "teacher"]
    assert len(swept.trials) == 8


def test_a_chain_is_cut_after_the_student_that_is_sampled():
    for steps, length in [(20, 2), (4, 3), (2, 4), (1, 5)]:
        trial = plan(experiment(sampling__steps=steps)).trials[0]
        assert trial.chain[-1].label == f"student {steps}"
        assert len(trial.chain) == length
        assert trial.evaluation is not None
        assert trial.evaluation.parents == (trial.chain[-1], *trial.measured_by())


def test_every_student_covers_its_teachers_steps_and_only_the_first_is_taught_by_a_solver():
    settings = {
        "distill__intervals": [20, 4, 2, 1],
        "distill__teacher_steps": 100,
        "distill__guidance": 2.0,
    }
    config = experiment(sampling__steps=1, **settings)
    students = [s.content for s in plan(config).trials[0].chain[1:]]
    assert [s["intervals"] for s in students] == [20, 4, 2, 1]
    assert [s["substeps"] for s in students] == [5, 5, 2, 2]
    assert [s["solver"] for s in students] == ["ab2", "euler", "euler", "euler"]
    assert [s["guidance"] for s in students] == [2.0, 1.0, 1.0, 1.0]
    assert config.distill.chain_text() == "100-20-4-2-1"


def test_settings_given_per_interval_go_to_their_student():
    config = experiment(
        distill__steps=[10, 20, 30, 40], distill__lr=[1e-3, 2e-3, 3e-3, 4e-3], sampling__steps=1
    )
    students = plan(config).trials[0].chain[1:]
    assert [s.steps for s in students] == [10, 20, 30, 40]
    assert [s.content["optimise"]["lr"] for s in students] == [1e-3, 2e-3, 3e-3, 4e-3]


@pytest.mark.parametrize(
    "goal, kinds", [("teacher", {"teacher"}), ("student", {"teacher", "student"})]
)
def test_a_goal_before_the_evaluation_is_one_trial_without_one(goal, kinds):
    swept = plan(experiment({"sampling.steps": [4, 2]}), goal)
    assert len(swept.trials) == 1
    assert {s.kind for s in swept.stages()} == kinds
    assert swept.trials[0].key == swept.trials[0].chain[-1].key


def test_the_chains_of_the_leaders_hold_everything_that_is_trained():
    space = {
        "path.damping": [9.0, 25.0],
        "distill.intervals": [[20, 4, 2, 1], [100, 4, 2]],
        "sampling.model": ["teacher", "student"],
        "sampling.steps": [1, 2, 4, 20, 100],
    }
    swept = plan(experiment(space))
    trained = {s.key for s in swept.stages(("teacher", "student"))}
    leaders = swept.leaders()
    assert {s.key for t in leaders for s in t.chain} == trained
    for one in leaders:  # and none of them is needless
        others = {s.key for t in leaders if t is not one for s in t.chain}
        assert not {s.key for s in one.chain} <= others
    order = swept.running_order()
    assert order[: len(leaders)] == leaders
    assert sorted(t.index for t in order) == list(range(len(swept.trials)))


def test_stages_come_once_and_after_their_parents():
    swept = plan(
        experiment(
            {"seed": [0, 1], "sampling.model": ["student", "teacher"], "sampling.steps": [1, 4]}
        )
    )
    seen: list[str] = []
    for stage in swept.stages():
        assert stage.key not in seen
        assert all(parent.key in seen for parent in stage.parents)
        seen.append(stage.key)


def test_a_combination_that_cannot_be_is_left_out_with_its_reason():
    swept = plan(experiment({"sampling.model": ["teacher", "student"], "sampling.steps": [4, 3]}))
    assert [t.overrides for t in swept.trials] == [
        {"sampling.model": "teacher", "sampling.steps": 4},
        {"sampling.model": "teacher", "sampling.steps": 3},
        {"sampling.model": "student", "sampling.steps": 4},
    ]
    (skipped,) = swept.skipped
    assert skipped.overrides == {"sampling.model": "student", "sampling.steps": 3}
    assert "20, 4, 2, 1" in skipped.reason


def test_equal_plans_have_one_id_and_different_ones_have_others():
    space = {"sampling.steps": [4, 2]}
    one = plan(experiment(space))
    assert plan(experiment(space, storage="elsewhere", cluster__workers=2)).id == one.id
    others = [
        plan(experiment({"sampling.steps": [4, 1]})),
        plan(experiment(space, name="other")),
        plan(experiment(space, seed=1)),
        plan(experiment(space), "teacher"),
        plan(experiment(space), "student"),
        plan(experiment(space), "evaluation"),
    ]
    ids = [one.id, *(p.id for p in others)]
    assert len(set(ids)) == len(ids)


def test_titles_leave_out_what_another_swept_setting_decides():
    """One list of steps for each distiller, and one number of pairs for all."""
    space = {
        "distill.kind": ["endpoint", "progressive"],
        "distill.steps": [[10, 20], [30, 40]],
        "distill.ema": [0.9],
        "sampling.steps": [2, 1],
        "seed": [0, 1],
    }
    config = experiment(
        space, distill__intervals=[2, 1], distill__teacher_steps=4, sampling__steps=2
    )
    config = override(
        config,
        {"sweep.constraints": ['(distill.kind == "endpoint") == (distill.steps == [10, 20])']},
    )
    trials = plan(config).trials
    assert len(trials) == 8
    assert trials[0].title == "distill endpoint, steps 2, seed 0"
    assert trials[0].overrides["distill.steps"] == [10, 20]  # a table has all
    assert len({trial.title for trial in trials}) == 8
    assert of_noted(to_plain(plan(config)), config).trials[0].title == trials[0].title

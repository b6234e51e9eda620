"""What distinguishes a run comes first in its name, and each setting has one name among its
parameters."""

import made_up
import pytest

from orchestrator.settings.changed import changed
from orchestrator.settings.loading import override, parse
from orchestrator.tracking import parameters
from orchestrator.tracking.names import Names, trial_names

STUDENTS = {"kind": "endpoint", "teacher_steps": 20, "intervals": [4, 2, 1]}


@pytest.mark.parametrize(
    ("space", "names"),
    [
        (
            {"sampling.model": ["teacher", "student"], "sampling.steps": [1, 2, 4]},
            [f"{s}, {m}" for m in ("teacher", "student") for s in ("1 step", "2 steps", "4 steps")],
        ),
        (
            {"sampling.steps": [1, 4], "path.damping": [9.0, 25.0, 4.0]},
            [f"damping {d}, {s}" for s in ("1 step", "4 steps") for d in (9, 25, 4)],
        ),
        (
            {"seed": [0, 1, 2], "sampling.solver": ["euler", "ab2"]},
            [f"{solver}, seed {seed}" for seed in (0, 1, 2) for solver in ("euler", "ab2")],
        ),
        ({"path.clock": ["linear", "quadratic"]}, ["clock linear", "clock quadratic"]),
        ({"model.multipliers": [[1], [1, 2]]}, ["multipliers 1", "multipliers 1-2"]),
        ({"sampling.steps": [4]}, ["4 steps, teacher"]),
        (
            {"teacher.lr": [0.002, 0.001], "distill.lr": [0.0005, 0.001]},
            [f"teacher.lr {t}, distill.lr {d}" for t in (0.002, 0.001) for d in (0.0005, 0.001)],
        ),
        (
            {"path.damping": [9.00001, 9.00002]},
            ["damping 9 (trial 0)", "damping 9 (trial 1)"],
        ),
    ],
)
def test_a_trials_name_begins_with_what_has_most_values(space, names):
    plan = made_up.plan(space, distill=STUDENTS)
    assert list(trial_names(plan).values()) == names


def test_a_solver_is_named_only_where_a_network_is_sampled_by_several():
    space = {
        "sampling.model": ["teacher", "student"],
        "sampling.steps": [1, 2, 4],
        "sampling.solver": ["euler", "ab2"],
    }
    constraints = ["sampling.model == 'teacher' or sampling.solver == 'euler'"]
    plan = made_up.plan(space, distill=STUDENTS, sweep={"constraints": constraints})
    names = [*trial_names(plan).values()]
    assert names[:2] == ["1 step, teacher euler", "1 step, teacher ab2"]
    assert names[-3:] == ["1 step, student", "2 steps, student", "4 steps, student"]


def test_the_name_of_a_setting_has_no_seed():
    plan = made_up.plan({"seed": [0, 1], "path.damping": [4.0, 9.0]})
    names = Names(plan, seeds=False)
    assert [names.of(trial) for trial in plan.trials] == ["damping 4", "damping 9"] * 2


def test_what_is_not_at_its_default_is_told_by_dotted_key():
    stages = [{"kind": "pairs", "intervals": [1], "huber": 0.1}]
    experiment = parse(
        {
            "name": "x",
            "seed": 3,
            "storage": "elsewhere",
            "data": {"name": "digits"},
            "path": {"kind": "kac", "damping": 25.0, "speed": 3},
            "teacher": {"lr": 0.001, "steps": 1500, "logit_normal": [0.0, 1.0]},
            "distill": {"stages": stages},
            "sampling": {"steps": 1},
        }
    )
    assert changed(experiment) == {
        "seed": 3,
        "storage": "elsewhere",
        "data.name": "digits",
        "path.kind": "kac",
        "path.speed": 3.0,
        "teacher.lr": 0.001,
        "teacher.logit_normal": [0.0, 1.0],
        "distill.kind": "programme",
        "distill.stages.0.kind": "pairs",
        "distill.stages.0.intervals": [1],
        "distill.stages.0.huber": 0.1,
        "sampling.steps": 1,
    }
    assert changed(override(experiment, {"teacher.lr": 0.002})).keys() == (
        changed(experiment).keys() - {"teacher.lr"}
    )


def test_each_setting_of_a_trial_is_one_parameter():
    space = {
        "sampling.model": ["teacher", "student"],
        "sampling.steps": [1, 2],
        "teacher.lr": [1e-3],
    }
    plan = made_up.plan(space, distill=STUDENTS, evaluation={"samples": 64})
    values = parameters.of_trial(plan.trials[-1])
    assert values == {
        "path": "kac",
        "damping": 25.0,
        "speed": 2.0,
        "clock": "linear",
        "model": "student",
        "solver": "euler",
        "steps": 2,
        "guidance": 1.0,
        "distiller": "endpoint",
        "intervals": "20-4-2-1",
        "nfe": 2,
        "training_nfe": values["training_nfe"],
        "data.name": "digits",
        "teacher.lr": 0.001,
        "distill.teacher_steps": 20,
        "evaluation.samples": 64,
    }
    shared = parameters.of_sweep(plan)
    assert shared["evaluation.samples"] == 64 and shared["damping"] == 25.0
    assert not {"model", "steps", "teacher.lr", "sampling.model"} & shared.keys()


def test_a_trainings_parameters_have_the_keys_of_its_block():
    plan = made_up.plan(
        {"sampling.steps": [1]},
        distill=STUDENTS,
        sampling={"model": "student"},
        model={"channels": 8},
    )
    (trial,) = plan.trials
    teacher, student = (
        parameters.of_training(stage, trial) for stage in (trial.chain[0], trial.chain[-1])
    )
    assert (teacher["teacher.steps"], teacher["model.channels"]) == (1500, 8)
    assert (student["distill.steps"], student["intervals"], student["distiller"]) == (
        400,
        1,
        "endpoint",
    )
    assert "steps" not in teacher.keys() | student.keys()

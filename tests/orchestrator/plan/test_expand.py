import math

import pytest

from orchestrator.fields.faults import ConfigError
from orchestrator.plan.expand import expand
from orchestrator.plan.points import Expansion
from orchestrator.settings.experiment import Experiment
from orchestrator.settings.loading import override, parse


def experiment(space: dict | None = None, **blocks: object) -> Experiment:
    sweep = (
        None
        if space is None
        else {"space": {key: {"grid": values} for key, values in space.items()}}
    )
    return parse(
        {
            "name": "grid",
            "data": {"name": "digits"},
            "path": {"kind": "kac"},
            "sweep": sweep,
            **blocks,
        }
    )


def overrides(expansion: Expansion) -> list[dict]:
    return [trial.overrides for trial in expansion.trials]


def refusal(base: Experiment) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        expand(base, "x.yaml")
    return str(refused.value).split("\n")


def test_without_a_sweep_there_is_one_trial():
    base = experiment()
    (trial,) = expand(base).trials
    assert (trial.index, trial.overrides, trial.config) == (0, {}, base)


def test_the_grid_runs_in_the_files_order_with_the_last_key_fastest():
    expansion = expand(
        experiment({"sampling.steps": [4, 1], "path.damping": [1, 5.0], "seed": [0, 7]})
    )
    assert [tuple(values.values()) for values in overrides(expansion)] == [
        (4, 1.0, 0), (4, 1.0, 7), (4, 5.0, 0), (4, 5.0, 7), (1, 1.0, 0), (1, 1.0, 7), (1, 5.0, 0), (1, 5.0, 7),
    ]  # fmt: skip
    assert [trial.index for trial in expansion.trials] == list(range(8))
    assert expansion.skipped == []


def test_each_trial_is_a_complete_single_run():
    base = experiment(
        {"path.kind": ["kac", "diffusion"], "distill.intervals": [[20, 4], [100, 4, 1]]}
    )
    for trial in expand(base).trials:
        assert trial.config.sweep is None
        assert parse(trial.config.model_dump(mode="json")) == trial.config
        assert all(trial.config.value(key) == value for key, value in trial.overrides.items())
        assert trial.config == override(base, {"sweep": None, **trial.overrides})


def test_pairs_that_cannot_be_are_skipped_and_said():
    base = experiment(
        {"sampling.model": ["teacher", "student"], "sampling.steps": [1, 3, 4, 8, 100]}
    )
    expansion = expand(base)
    assert len(expansion.trials) == 5 + 2
    assert [trial.index for trial in expansion.trials] == list(range(7))
    assert [skipped.overrides for skipped in expansion.skipped] == [
        {"sampling.model": "student", "sampling.steps": steps} for steps in (3, 8, 100)
    ]
    assert expansion.skipped[0].reason.startswith(
        "sampling.steps: got 3, expected one of 20, 4, 2, 1"
    )


def test_a_student_is_paired_with_neither_another_solver_nor_guidance():
    space = {
        "sampling.model": ["teacher", "student"],
        "sampling.solver": ["euler", "ab2"],
        "sampling.guidance": [1, 2],
    }
    expansion = expand(experiment(space))
    assert len(expansion.trials) == 4 + 1
    reasons = [skipped.reason for skipped in expansion.skipped]
    assert "sampling.guidance: got 2.0" in reasons[0]
    assert 'sampling.solver: got "ab2"' in reasons[1]
    assert all(
        text in reasons[2] for text in ("sampling.guidance: got 2.0", 'sampling.solver: got "ab2"')
    )


def test_steps_are_paired_with_the_chain_of_the_trial():
    expansion = expand(
        experiment({"distill.intervals": [[20, 4], [10, 5]], "sampling.steps": [4, 5]})
    )
    assert [(v["distill.intervals"], v["sampling.steps"]) for v in overrides(expansion)] == [
        ([20, 4], 4),
        ([10, 5], 5),
    ]
    assert len(expansion.skipped) == 2


def test_a_grid_of_which_nothing_can_run_is_refused():
    (line,) = refusal(experiment({"sampling.steps": [3, 5, 6]}))
    assert line.startswith(
        "x.yaml: sweep.space: none of the 3 combinations can be run; the first: sampling.steps: got 3"
    )


def test_values_wrong_in_combination_are_told_once_each():
    space = {
        "model.attention": [[], [8], [16]],
        "model.multipliers": [[1], [1, 2]],
        "seed": [0, 1, 2],
    }
    assert refusal(experiment(space)) == [
        "x.yaml: sweep.space.model.attention: value [16] with model.multipliers [1]: "
        "got [16], expected image sizes of this U-Net for digits: 8",
        "x.yaml: sweep.space.model.attention: value [16] with model.multipliers [1, 2]: "
        "got [16], expected image sizes of this U-Net for digits: 8, 4",
    ]


def test_a_fault_of_the_base_setting_names_the_swept_value_that_causes_it():
    base = experiment(
        {"teacher.label_dropout": [0.1, None], "seed": [0, 1]}, distill={"guidance": 2.0}
    )
    assert refusal(base) == [
        "x.yaml: sweep.space.teacher.label_dropout: value null: distill.guidance got 2.0, expected 1: "
        "guidance needs teacher.label_dropout > 0, got null"
    ]


def test_a_wrong_value_is_a_fault_even_where_the_pair_would_be_skipped():
    space = {"sampling.steps": [4, 3], "teacher.label_dropout": [0.1, None]}
    (line,) = refusal(experiment(space, sampling={"labels": 3}))
    assert (
        "sweep.space.teacher.label_dropout: value null: sampling.labels got 3, expected null"
        in line
    )


def test_no_two_trials_are_the_same():
    space = {
        "path.damping": [1, 2, 4],
        "sampling.model": ["teacher", "student"],
        "sampling.steps": [1, 2, 3],
    }
    expansion = expand(experiment(space))
    configs = [trial.config for trial in expansion.trials]
    assert all(a != b for i, a in enumerate(configs) for b in configs[:i])
    assert len(configs) + len(expansion.skipped) == math.prod(map(len, space.values()))

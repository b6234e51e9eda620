"""One value of a swept setting against another, at each combination of the other settings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import made, measured, plan

from orchestrator.notebook.opened import Run
from orchestrator.plan.plan import Trial
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.versus import BETTER, DISAGREE, TIE, UNKNOWN, WORSE, versus

PATHS = ["kac", "flow_matching"]
KAC = {
    1: (0.5, 0.5),
    4: (1.0, 1.0),
    10: (2.0, 2.0),
    20: (0.5, 2.0),
}  # times the other path's, by steps


def records_of(root: Path, seeds: int = 3, **measures: float) -> Records:
    random = np.random.default_rng(0)
    space = {"path.kind": PATHS, "sampling.steps": list(KAC), "seed": list(range(seeds))}
    common = np.exp(0.5 * random.standard_normal(seeds))  # cancels where seeds are shared

    def measure(trial: Trial) -> dict[str, Any]:
        factors = KAC[trial.config.sampling.steps] if trial.config.path.kind == "kac" else (1, 1)
        noise = common[trial.config.seed] * np.exp(0.02 * random.standard_normal(2))
        first, second = (float(f * n) for f, n in zip(factors, noise, strict=True))
        others = {"fid_second": second, "fid_second_features": "others", "recall": 0.5 + first / 10}
        return measured(trial) | others | {"fid": first}

    return made(root, plan(space), measure)


def test_each_setting_is_told_from_its_partner_by_both_extractors(tmp_path):
    found = {
        each.others["steps"]: each
        for each in versus(records_of(tmp_path), "path.kind", "flow_matching")
    }
    assert {steps: each.result for steps, each in found.items()} == {
        1: BETTER, 4: TIE, 10: WORSE, 20: DISAGREE,
    }  # fmt: skip
    one = found[1]
    assert one.value == "kac" and len(one.trials) == 3
    assert one.ratio.low < 0.5 < one.ratio.high < 0.6
    assert one.second_ratio is not None and one.second_ratio.low < 0.5 < one.second_ratio.high


def test_a_measure_that_is_no_distance_is_compared_by_differences(tmp_path):
    found = versus(records_of(tmp_path), "path", "flow_matching", "recall")
    by_steps = {each.others["steps"]: each for each in found}
    assert all(each.second_ratio is None for each in found)
    assert by_steps[10].result == BETTER  # more recall
    assert by_steps[10].ratio.value == pytest.approx(by_steps[10].ratio.low, abs=0.2)


def test_without_intervals_nothing_is_told(tmp_path):
    found = versus(records_of(tmp_path, seeds=1), "path.kind", "kac")
    assert [each.result for each in found] == [UNKNOWN] * 4
    assert [each.value for each in found] == ["flow_matching"] * 4


def test_students_are_compared_with_the_teacher_that_they_share(tmp_path):
    space = {
        "sampling.model": ["teacher", "student"],
        "distill.huber": [None, 0.03],
        "seed": [0, 1],
    }
    planned = plan(space, distill={"kind": "endpoint", "intervals": [4], "teacher_steps": 20})
    records = made(tmp_path, planned, lambda t: measured(t) | {"fid": 1.0 + t.index})
    rows = Run(records).versus("model", "teacher")
    assert rows["huber"].isna().tolist() == [True, False] and set(rows["model"]) == {"student"}
    with pytest.raises(
        ValueError, match="2 settings with student differ from teacher euler, 4 steps"
    ):
        versus(records, "model", "student")


def test_a_table_has_the_intervals(tmp_path):
    rows = Run(records_of(tmp_path)).versus("path.kind", "flow_matching")
    assert list(rows.columns) == [
        "steps", "path", "measure", "ratio", "ratio_low", "ratio_high",
        "second_ratio", "second_ratio_low", "second_ratio_high", "result", "trials",
    ]  # fmt: skip
    assert (rows["ratio_low"] < rows["ratio"]).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("path.damping", 1.0), "key: got path.damping, expected a swept setting; swept are: path.kind"),
        (("path.kind", "diffusion"), "reference: got diffusion, expected one of kac, flow_matching"),
        (("path.kind", "kac", "recal"), "metric: got recal, which no trial that has path.kind has"),
    ],
)  # fmt: skip
def test_what_the_sweep_does_not_have_is_named(tmp_path, words, message):
    with pytest.raises(ValueError, match=message):
        versus(records_of(tmp_path), *words)

"""The verdict of a sweep: the best of each number of steps, its ratio to a yardstick, ties."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import made, measured, plan

from orchestrator.console import conclusion
from orchestrator.fields.faults import ConfigError
from orchestrator.plan.plan import Trial
from orchestrator.store import layout
from orchestrator.sweeps.ranking import best_so_far
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.verdict import Verdict, to_json, verdicts

FIDS = {("student", 1): 0.30, ("student", 4): 0.26, ("teacher", 1): 10.0, ("teacher", 4): 0.27,
        ("teacher", 20): 0.25}  # fmt: skip
SPACE: dict[str, Any] = {
    "sampling.model": ["teacher", "student"],
    "sampling.steps": [1, 4, 20],
}
CHAIN = {"distill": {"kind": "endpoint", "intervals": [4, 1], "teacher_steps": 20}}
ONLY = {"constraints": ["sampling.model == 'teacher' or sampling.steps < 20"]}


def key(trial: Trial) -> tuple[str, int]:
    return trial.config.sampling.model, trial.config.sampling.steps


def records_of(
    root: Path, seeds: int = 1, spread: float = 0.02, second: dict[Any, float] | None = None, **sweep: Any
) -> Records:  # fmt: skip
    space = {**SPACE, **({"seed": list(range(seeds))} if seeds > 1 else {})}
    random = np.random.default_rng(0)
    noise = np.exp(spread * random.standard_normal((len(FIDS), seeds)))

    def measure(trial: Trial) -> dict[str, Any]:
        row = list(FIDS).index(key(trial))
        factor = float(noise[row, trial.config.seed])
        values = measured(trial) | {"fid": FIDS[key(trial)] * factor, "fid_of_real": 0.24}
        if second is not None:
            values |= {"fid_second": second[key(trial)] * factor, "fid_second_features": "others"}
        return values

    planned = plan(space, sweep={**ONLY, **sweep}, **CHAIN)
    return made(root, planned, measure)


def only(records: Records) -> Verdict:
    (found,) = verdicts(records)
    return found


def test_each_number_of_steps_has_its_best_network_and_its_ratio_to_the_best_teacher(tmp_path):
    found = only(records_of(tmp_path, seeds=3))
    assert [(a.question, a.setting) for a in found.answers] == [
        ("1 step", "student"), ("4 steps", "student"), ("20 steps", "teacher euler"),
    ]  # fmt: skip
    assert found.yardstick is not None
    name, value = found.yardstick
    assert name == "teacher euler, 20 steps" and 0.23 < value.low < value.high < 0.26
    one, four, twenty = found.answers
    assert one.ratio is not None and 1.15 < one.ratio.low < one.ratio.high < 1.3
    assert one.ties == [] and one.compared == 1
    assert twenty.ratio is None  # the yardstick itself
    assert four.ties == ["teacher euler"]
    # the teacher of one step is far from the student, and no tie
    (after,) = one.remarks()
    assert after.startswith("next: teacher euler, 3") and after.endswith("times it (of 1 compared)")
    assert "95 %, from 3 training seeds" in found.source and found.missing == []
    assert found.of_real == pytest.approx(0.24)


def test_the_yardstick_can_be_stated_and_must_be_a_trial(tmp_path):
    baseline = {"sampling.model": "teacher", "sampling.steps": 4}
    found = only(records_of(tmp_path, seeds=3, baseline=baseline))
    assert found.yardstick is not None and found.yardstick[0] == "teacher euler, 4 steps"
    for wrong, message in (
        ({"sampling.steps": 50}, r"sweep\.baseline: got sampling\.steps 50, expected one of 1, 4, 20"),
        ({"path.damping": 9.0}, r"got path\.damping 9\.0, expected one of 25\.0: no trial has it"),
        ({"sampling.step": 4}, r"got sampling\.step, which is no setting of this experiment"),
        ({}, r"sweep\.baseline: .*expected null or a mapping"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            plan(SPACE, sweep={**ONLY, "baseline": wrong}, **CHAIN)


def test_one_training_seed_says_what_is_not_known_and_the_command_for_more(tmp_path):
    found = only(records_of(tmp_path))
    assert found.source.startswith("none: one sampling of each network")
    assert "the spread between trainings is not known" in found.missing[0]
    assert "minutes: --set 'sweep.space.seed={grid: [0, 1, 2]}'" in found.missing[1]
    assert all(answer.ties == [] for answer in found.answers)
    assert not any("nan" in line for line in found.lines())


def test_resampled_images_give_intervals_and_ties_where_there_is_one_seed(tmp_path):
    random = np.random.default_rng(1)
    common = 0.02 * random.standard_normal(200)

    def measure(trial: Trial) -> dict[str, Any]:
        fid = FIDS[key(trial)]
        values = fid * (1.1 + common + 0.001 * random.standard_normal(200))
        resampled = {"fid": values.tolist(), f"fid{layout.OWN_SUFFIX}": [0.0] * 200}
        return measured(trial) | {"fid": fid, "bootstrap": resampled}

    found = only(made(tmp_path, plan(SPACE, sweep=ONLY, **CHAIN), measure))
    assert "from resampled images" in found.source
    one = found.answers[0]
    assert one.value.known and one.ratio is not None and one.ratio.known
    assert one.ratio.high - one.ratio.low < 0.2 * (one.value.high - one.value.low) / one.value.value
    assert "one training seed" in found.missing[0]


def test_what_two_feature_extractors_see_otherwise_is_said(tmp_path):
    second = {
        **dict.fromkeys(FIDS, 0.2),
        ("student", 4): 0.26,
        ("teacher", 4): 0.1,
        ("student", 1): 0.1,
    }
    found = only(records_of(tmp_path, seeds=3, second=second))
    one, four, _ = found.answers
    assert four.second_prefers == "teacher euler"
    assert "the second features prefer teacher euler" in four.remarks()
    # 1.2 times the yardstick by the one, half of it by the other
    assert one.second_ratio is not None and one.second_ratio.high < 1
    assert any("not a result" in line for line in one.remarks())


def test_other_settings_stand_in_the_name_and_many_ties_are_counted(tmp_path):
    planned = plan({"path.damping": [1.0, 4.0, 9.0, 16.0, 25.0, 36.0], "seed": [0, 1, 2]})
    random = np.random.default_rng(3)
    noise = {t.index: float(np.exp(0.05 * random.standard_normal())) for t in planned.trials}
    records = made(tmp_path, planned, lambda t: measured(t) | {"fid": 0.3 * noise[t.index]})
    (answer,) = only(records).answers
    assert answer.question == "4 steps" and answer.setting.startswith("teacher euler, damping ")
    assert len(answer.ties) == answer.compared == 5
    assert answer.remarks()[0].endswith("; and 2 more (of 5 compared)")


def test_each_value_of_a_swept_setting_has_the_best_of_the_others(tmp_path):
    space = {
        "path.damping": [9.0, 25.0],
        "path.speed": [1.0, 2.0],
        "sampling.steps": [1, 4],
        "seed": [0, 1, 2],
    }
    random = np.random.default_rng(5)
    noise = [float(np.exp(0.02 * random.standard_normal())) for _ in range(24)]
    of = {(9.0, 1.0): 1.0, (9.0, 2.0): 0.5, (25.0, 1.0): 0.51, (25.0, 2.0): 0.9}
    records = made(tmp_path, plan(space), lambda t: measured(t) | {
        "fid": of[t.config.path.damping, t.config.path.speed] * noise[t.index]})  # fmt: skip
    found = only(records)
    assert [(part.key, part.steps) for part in found.by_value] == [
        ("path.damping", 1), ("path.speed", 1), ("path.damping", 4), ("path.speed", 4),
    ]  # fmt: skip
    rows = found.by_value[0].rows
    assert [(row.value, row.setting) for row in rows] == [("9", "speed 2"), ("25", "speed 1")]
    assert sorted(row.rank for row in rows) == ["best", "tie"]
    assert all(row.ties == [] and row.measure.known for row in rows)
    (line,) = [line for line in found.lines() if "by damping, 1 step:" in line]
    assert "9 (speed 2) 0.498 [" in line and "25 (speed 1) 0.513 [" in line
    assert json.loads(to_json([found]))[0]["by_value"][0]["rows"][0]["value"] == "9"
    conclusion.write(records)
    page = (records.folder / layout.REPORT).read_text()
    assert "<h3>By damping</h3>" in page and "<br>speed 1" in page


def test_settings_that_are_drawn_or_have_many_values_have_no_lines_of_their_own(tmp_path):
    drawn = plan(
        {"path.damping": {"loguniform": [4.0, 40.0]}}, sweep={"search": "random", "num_trials": 5}
    )
    assert only(made(tmp_path / "drawn", drawn)).by_value == []
    many = plan({"path.damping": [float(k) for k in range(1, 14)]})
    assert only(made(tmp_path / "many", many)).by_value == []


def test_a_measure_that_is_no_distance_is_compared_by_differences(tmp_path):
    planned = plan(
        {"sampling.steps": [1, 4], "seed": [0, 1, 2]}, metric="precision",
        evaluation={"metrics": ["precision"]}, sweep={"mode": "max"},
    )  # fmt: skip
    random = np.random.default_rng(3)
    records = made(tmp_path, planned, lambda t: {
        **measured(t), "precision": 0.5 + 0.1 * t.config.sampling.steps + 0.01 * random.random()})  # fmt: skip
    found = only(records)
    assert found.yardstick is not None and found.yardstick[0] == "teacher euler, 4 steps"
    assert "more than the yardstick" in found.answers[0].text()
    assert found.of_real is None


def test_it_is_json_and_is_written_and_printed(tmp_path, capsys):
    from rich.console import Console

    records = records_of(tmp_path, seeds=3)
    (read,) = json.loads(to_json(verdicts(records)))
    assert read["metric"] == "fid" and len(read["answers"]) == 3
    assert (
        json.loads(to_json(verdicts(records_of(tmp_path / "one"))))[0]["answers"][0]["value"][1]
        is None
    )
    conclusion.print_conclusion(records, Console(width=300))
    said = capsys.readouterr().out
    assert "verdict   fid on digits-cnn-v1" in said
    assert "1 step: student, " in said and "times the yardstick" in said
    conclusion.write(records)
    assert json.loads((records.folder / layout.VERDICT).read_text()) == [read]
    page = (records.folder / layout.REPORT).read_text()
    assert "Verdict: FID on digits-cnn-v1" in page and "teacher euler, 20 steps" in page


def test_numbers_on_different_scales_have_verdicts_of_their_own(tmp_path):
    planned = plan({"sampling.steps": [1, 4], "data.name": ["digits", "mnist"]})
    records = made(
        tmp_path, planned, lambda t: measured(t) | {"fid_features": f"of {t.config.data.name}"}
    )
    assert [found.scale for found in verdicts(records)] == ["of digits", "of mnist"]
    assert all(len(found.answers) == 2 for found in verdicts(records))


def test_the_best_so_far_is_the_mean_of_the_seeds_of_a_setting(tmp_path):
    fids = {(9.0, 0): 1.0, (9.0, 1): 5.0, (25.0, 0): 2.0, (25.0, 1): 2.5}
    planned = plan({"path.damping": [9.0, 25.0], "seed": [0, 1]})
    records = made(tmp_path, planned, lambda t: measured(t) | {
        "fid": fids[t.config.path.damping, t.config.seed]})  # fmt: skip
    assert best_so_far(records) == {"": "fid 2.25: damping 25.0 (mean of 2 seeds)"}
    (found,) = verdicts(records)
    assert found.answers[0].setting == "teacher euler, damping 25"


def test_without_measurements_there_is_none(tmp_path):
    planned = plan({"sampling.steps": [1, 4]})
    records = made(tmp_path, planned, without=[0, 1])
    assert verdicts(records) == [] and to_json([]) == "[]\n"


def test_three_hundred_trials_take_no_time(tmp_path):
    planned = plan(
        {
            "path.damping": [float(k) for k in range(1, 51)],
            "sampling.steps": [1, 4],
            "seed": [0, 1, 2],
        }
    )
    found = only(made(tmp_path, planned))
    assert len(found.answers) == 2 and found.answers[0].compared == 49

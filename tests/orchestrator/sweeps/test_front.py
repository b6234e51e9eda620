"""Sweeps by several metrics: the Pareto front is their verdict, and Optuna searches for it."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import made, measured, plan
from page_reader import page
from rich.console import Console

from orchestrator.console import conclusion
from orchestrator.plan.optuna_points import add_next
from orchestrator.plan.plan import Trial
from orchestrator.plan.points import Expansion, Known, PointSpace
from orchestrator.settings.loading import parse
from orchestrator.sweeps.front import NEAR, ON
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.verdict import Verdict, to_json, verdicts

# FID by damping and steps: at 2 steps both dampings are alike, at 4 the first is better
FIDS = {
    (9.0, 1): 2.0,
    (25.0, 1): 1.0,
    (9.0, 2): 0.501,
    (25.0, 2): 0.5,
    (9.0, 4): 0.3,
    (25.0, 4): 0.6,
}


def records_of(root: Path, metric: Any = ("fid", "nfe"), seeds: int = 3) -> Records:
    random = np.random.default_rng(0)
    space = {
        "path.damping": [9.0, 25.0],
        "sampling.steps": [1, 2, 4],
        "seed": list(range(seeds)),
    }

    def measure(trial: Trial) -> dict[str, Any]:
        fid = FIDS[trial.config.path.damping, trial.config.sampling.steps]
        noise = math.exp(0.01 * random.standard_normal())
        return measured(trial) | {"fid": fid * noise, "recall": 1 - fid / 4}

    evaluation = {"metrics": ["fid", "recall"]}
    return made(root, plan(space, metric, evaluation=evaluation), measure)


def only(records: Records) -> Verdict:
    (found,) = verdicts(records)
    return found


def test_the_front_is_what_nothing_beats_and_what_cannot_be_told_from_it(tmp_path):
    found = only(records_of(tmp_path)).front
    assert [(p.setting, p.rank) for p in found if p.rank == ON] == [
        ("teacher euler, damping 25, 1 step", ON),
        (next(p.setting for p in found if p.rank == ON and "2 steps" in p.setting), ON),
        ("teacher euler, damping 9, 4 steps", ON),
    ]
    (near,) = [p for p in found if p.rank == NEAR]
    assert "2 steps" in near.setting and "beaten by nothing beyond noise" in near.text()
    assert found[0].values["nfe"].value == 1 and len(found[0].trials) == 3
    assert found[0].values["fid"].known


def test_of_several_metrics_each_has_its_own_direction(tmp_path):
    found = only(records_of(tmp_path, ["fid", "recall"])).front
    assert [point.setting for point in found] == ["teacher euler, damping 9, 4 steps"]


def test_one_metric_has_no_front(tmp_path):
    found = only(records_of(tmp_path, "fid"))
    assert found.front == [] and not any("Pareto" in line for line in found.lines())


def test_terminal_report_and_file_have_the_front(tmp_path):
    records = records_of(tmp_path)
    title = "Pareto front by fid and nfe: 3 settings, 1 more cannot be told from it"
    console = Console(width=300, record=True)
    conclusion.print_verdicts(records, console)
    assert title in console.export_text()
    found = page(records)
    assert title in found.said
    chart = found.charts["pareto"]
    assert chart["layout"]["xaxis"]["title"]["text"] == "network evaluations per image (NFE)"
    (read,) = json.loads(to_json(verdicts(records)))
    assert [point["rank"] for point in read["front"]].count("front") == 3


def test_the_figure_weighs_the_first_metric_against_the_second(tmp_path):
    chart = page(records_of(tmp_path, ["fid", "seconds_per_image"])).charts["pareto"]
    assert chart["layout"]["xaxis"]["title"]["text"] == "seconds per image, as measured"
    assert chart["layout"]["xaxis"]["type"] == "log"


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_optuna_searches_for_the_whole_front(sampler):
    """Two metrics that want opposite dampings, and both the same speed."""
    blocks = {
        "sweep": {
            "metric": ["fid", "nfe"],
            "search": "optuna",
            "sampler": sampler,
            "num_trials": 30,
            "space": {
                "path.damping": {"uniform": [1.0, 9.0]},
                "path.speed": {"uniform": [1.0, 9.0]},
            },
        }
    }
    config = {"name": "x", "data": {"name": "digits"}, "path": {"kind": "kac"}, **blocks}
    space, found, known = PointSpace(parse(config), "x"), Expansion(), list[Known]()
    for _ in range(30):
        add_next(space, found, known)
        damping, speed = (found.points[-1][f"path.{name}"] for name in ("damping", "speed"))
        away = (speed - 3) ** 2
        known.append(Known(found.points[-1], (damping + away, 9 - damping + away)))
    late = found.points[15:]
    assert np.mean([abs(point["path.speed"] - 3) for point in late]) < 1.8  # at random it is 2.4
    dampings = [point["path.damping"] for point in late]
    assert min(dampings) < 3.5 and max(dampings) > 6.5

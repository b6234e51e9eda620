"""What a search has found by trial, and which swept settings mattered."""

from typing import Any

import made_up
import pytest

from orchestrator.plan.plan import Plan, Trial
from orchestrator.reports import figure_data, plotly_figures, png_figures
from orchestrator.reports.aggregates import Results

DRAWN = {"path.damping": {"loguniform": [2.0, 40.0]}, "path.speed": {"uniform": [1.0, 4.0]}}
FEATURES = "digits-cnn-v1"


def by_damping(trial: Trial) -> dict[str, Any]:
    """An FID that damping alone determines."""
    return made_up.measured(trial) | {"fid": float(trial.config.value("path.damping"))}


def plan(count: int = 16, **more: Any) -> Plan:
    return made_up.plan({**DRAWN, **more}, sweep={"search": "random", "num_trials": count})


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Results(made_up.made(tmp_path_factory.mktemp("search"), plan(), by_damping))


def test_the_setting_that_determines_the_metric_has_the_whole_variance(results):
    found = figure_data.importances(results, FEATURES)
    assert found is not None and (found.measured, found.log, found.left_out) == (16, True, [])
    assert [*found.shares] == ["damping", "speed"]
    assert found.shares["damping"] > 0.8 and found.shares["speed"] < 0.1
    assert figure_data.importances(results, FEATURES) == found  # the same whenever it is asked


def test_the_caption_says_of_how_many_settings_the_shares_are(results):
    charts = {chart.name: chart for chart in plotly_figures.charts(results)}
    note = charts["importances"].note
    assert "estimated from 16 measured settings: so few give a rough order" in note
    assert "the logarithm of FID" in note
    bars, best = charts["importances"].figure.data[0], charts["progress"].figure.data[1]
    assert list(bars.y) == ["damping", "speed"] and best.name == "best so far"


def test_the_best_so_far_never_gets_worse_and_ends_with_the_best(results):
    steps = figure_data.search_progress(results, FEATURES)
    assert [step.trial for step in steps] == list(range(16))
    best = [step.best for step in steps]
    assert best == [min(step.value for step in steps[: k + 1]) for k in range(16)]


def test_both_are_figures_of_the_sweep(results):
    names = {path.name for path in png_figures.write_figures(results.records)}
    assert {"progress.png", "importances.png"} <= names


def test_too_few_settings_have_no_importances_but_a_progress(tmp_path):
    results = Results(made_up.made(tmp_path, plan(4), by_damping))
    assert figure_data.importances(results, FEATURES) is None
    assert len(figure_data.search_progress(results, FEATURES)) == 4


def test_a_grid_has_neither(tmp_path):
    grid = made_up.plan({"path.damping": [float(k) for k in range(2, 14)]})
    results = Results(made_up.made(tmp_path, grid, by_damping))
    assert figure_data.importances(results, FEATURES) is None
    assert figure_data.search_progress(results, FEATURES) == []


def test_a_setting_that_a_condition_keeps_out_of_its_range_is_named_and_left_out(tmp_path):
    space = {**DRAWN, "sampling.guidance": {"uniform": [2.0, 3.0]}}
    sweep = {
        "search": "random",
        "num_trials": 16,
        "conditions": {"sampling.guidance": "path.damping > 8"},
    }
    conditioned = made_up.plan(space, sweep=sweep)
    found = figure_data.importances(
        Results(made_up.made(tmp_path, conditioned, by_damping)), FEATURES
    )
    assert found is not None and found.left_out == ["guidance"] and "guidance" not in found.shares
    note = figure_data.importances_note(found, "FID")
    assert "without guidance, which not all of them have" in note

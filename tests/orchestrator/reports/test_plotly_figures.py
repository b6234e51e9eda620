import math
import re

import numpy as np
import pytest
from made_up import made, measured, plan, said_by
from page_reader import lines, page
from PIL import Image

from orchestrator.console import conclusion
from orchestrator.reports.aggregates import Spread
from orchestrator.reports.figure_data import Line

STUDENTS = {"distill": {"intervals": [4, 2, 1]}}
SEEDS_AND_STEPS = {"seed": [0, 1], "sampling.steps": [4, 1]}


def by_seed(trial):
    """FID 1 and 3 at 4 steps, ten times as much at one."""
    fid = 1.0 + 2.0 * trial.config.seed
    return measured(trial) | {"fid": fid if trial.config.sampling.steps == 4 else 10 * fid}


def test_each_network_has_a_line_from_its_first_to_its_last_nfe(tmp_path):
    space = {"sampling.model": ["teacher", "student"], "sampling.steps": [1, 2, 4]}
    chart = page(made(tmp_path, plan(space, **STUDENTS))).charts["fid_vs_nfe"]
    expected = [(1, 8.0), (2, 4.0), (4, 2.0)]
    assert lines(chart) == {"teacher, euler": expected, "student 100-4-2-1": expected}
    assert [t["line"]["dash"] for t in chart["data"]] == ["dash", "solid"]
    assert chart["layout"]["xaxis"]["type"] == chart["layout"]["yaxis"]["type"] == "log"
    assert chart["layout"]["xaxis"]["ticktext"] == ["1", "2", "4"]


def test_trials_that_differ_in_their_seed_alone_are_one_point_and_one_row(tmp_path):
    records = made(tmp_path, plan(SEEDS_AND_STEPS), by_seed)
    found = page(records)
    line, band = found.charts["fid_vs_nfe"]["data"]
    assert line["y"] == [20.0, 2.0]
    assert line["error_y"]["array"] == pytest.approx([10 * math.sqrt(2), math.sqrt(2)])
    assert (band["x"], band["fill"], band["showlegend"]) == ([1, 4, 4, 1], "toself", False)
    spread = math.sqrt(2)
    assert band["y"] == pytest.approx([20 + 10 * spread, 2 + spread, 2 - spread, 20 - 10 * spread])
    (row, _), (value, _) = found.rows, found.values
    assert (row["trial"], row["seed"], row["FID"], value["FID"]) == (
        "0, 2",
        "0, 1",
        "2 ± 1.4",
        "2.0",
    )
    assert re.search(r"<details>.*<table", found.text)  # where each trial is alone


def test_a_single_trial_has_the_spread_of_its_samplings(tmp_path):
    planned = plan({"sampling.steps": [4, 1]})
    found = page(made(tmp_path, planned, lambda trial: measured(trial) | {"fid_std": 0.25}))
    assert found.charts["fid_vs_nfe"]["data"][0]["error_y"]["array"] == [0.25, 0.25]
    assert [row["FID"] for row in found.rows] == ["2 ± 0.25", "8 ± 0.25"]
    assert "damping_speed" not in found.charts


def test_where_all_have_one_nfe_no_figure_is_a_column_of_dots(tmp_path):
    found = page(made(tmp_path, plan({"path.damping": [9.0, 25.0]})))
    assert not [name for name in found.charts if name.endswith("_vs_nfe")]
    assert "parallel" in found.charts


def test_trials_that_share_one_evaluation_are_one_line_and_no_spread(tmp_path):
    records = made(
        tmp_path,
        plan({"distill.batch_size": [16, 32], "sampling.steps": [1, 4]}),
        lambda trial: measured(trial) | {"fid_std": 0.5},
    )
    (line,) = page(records).charts["fid_vs_nfe"]["data"]
    assert (line["name"], line["y"]) == ("teacher, euler", [8.0, 2.0])
    assert line["error_y"]["array"] == [0.5, 0.5]


def test_a_cell_of_the_heat_map_is_the_best_of_its_settings(tmp_path):
    space = {"path.damping": [25.0, 9.0], "path.speed": [1.0, 2.0], "sampling.steps": [1, 2]}
    found = page(made(tmp_path, plan(space), without=(6, 7)))  # damping 9, speed 2
    (trace,) = found.charts["damping_speed"]["data"]
    assert (trace["type"], trace["x"], trace["y"]) == ("heatmap", ["9", "25"], ["1", "2"])
    assert trace["customdata"] == [[4.0, 4.0], [None, 4.0]]  # FID is 8 at one step and 4 at two
    assert trace["z"][0] == pytest.approx([math.log10(4)] * 2)
    assert "the best of up to 2 configurations" in found.said


def test_cells_that_cannot_be_told_from_the_best_are_hatched(tmp_path):
    fids = {(9.0, 1.0): 1.0, (9.0, 2.0): 1.01, (25.0, 1.0): 2.0, (25.0, 2.0): 3.0}
    random = np.random.default_rng(0)
    noise = [float(np.exp(0.02 * random.standard_normal())) for _ in range(12)]
    space = {"path.damping": [9.0, 25.0], "path.speed": [1.0, 2.0], "seed": [0, 1, 2]}
    records = made(tmp_path, plan(space), lambda t: measured(t) | {
        "fid": fids[t.config.path.damping, t.config.path.speed] * noise[t.index]})  # fmt: skip
    found = page(records)
    shapes = found.charts["damping_speed"]["layout"]["shapes"]
    best, tied = sorted({round(shape[y]) for shape in shapes for y in ("y0", "y1")}), len(shapes)
    assert tied == 5 and len(best) == 1  # one cell alone
    assert "Hatched cells cannot be told from the best" in found.said
    marks = {row["damping"] + " " + row["speed"]: row["of its steps"] for row in found.rows}
    assert sorted(marks.values()) == ["", "", "best", "tie"] and marks["25 1"] == ""
    conclusion.write(records)
    assert (records.folder / "figures" / "damping_speed.png").exists()


def test_any_two_swept_numbers_have_a_heat_map(tmp_path):
    space = {"teacher.lr": [0.001, 0.01], "teacher.ema": [0.9, 0.99], "sampling.steps": [1, 2]}
    records = made(tmp_path, plan(space))
    (trace,) = page(records).charts["lr_ema"]["data"]
    assert (trace["x"], trace["y"]) == (["0.001", "0.01"], ["0.9", "0.99"])
    conclusion.write(records)
    assert (records.folder / "figures" / "lr_ema.png").exists()


def test_damping_and_speed_that_are_drawn_between_limits_are_points(tmp_path):
    space = {"path.damping": {"loguniform": [1.0, 100.0]}, "path.speed": {"uniform": [1.0, 2.0]}}
    planned = plan(space, sweep={"search": "random", "num_trials": 20})
    (trace,) = page(made(tmp_path, planned)).charts["damping_speed"]["data"]
    drawn = {(t.overrides["path.damping"], t.overrides["path.speed"]) for t in planned.trials}
    assert set(zip(trace["x"], trace["y"], strict=True)) == drawn


def test_one_of_damping_and_speed_alone_has_no_heat_map(tmp_path):
    assert "damping_speed" not in page(made(tmp_path, plan({"path.damping": [9.0, 25.0]}))).charts


def test_parallel_coordinates_have_lists_text_and_null_as_ticks(tmp_path):
    space = {
        "distill.intervals": [[4, 2], [4, 1]],
        "teacher.clip": [None, 2.0, 1.0],
        "path.clock": ["linear", "quadratic"],
        "model.attention": [[], [4]],
    }
    records = made(tmp_path, plan(space, sampling={"model": "student"}))
    (trace,) = page(records).charts["parallel"]["data"]
    axes = {d["label"]: d for d in trace["dimensions"]}
    assert list(axes) == ["intervals", "clip", "clock", "attention", "FID"]
    assert axes["intervals"]["ticktext"] == ["[4, 2]", "[4, 1]"]
    assert axes["clip"]["ticktext"] == [
        "1",
        "2",
        "null",
    ]  # numbers in order, what is none after them
    assert axes["clock"]["ticktext"] == ["linear", "quadratic"]
    assert sorted(set(axes["clip"]["values"])) == axes["clip"]["tickvals"] == [0, 1, 2]
    assert len(axes["FID"]["values"]) == len(records.plan.trials) == 24


def test_numbers_stand_on_parallel_axes_where_they_are_and_those_drawn_by_logarithm_by_it(tmp_path):
    space = {
        "path.damping": {"loguniform": [4.0, 40.0]},
        "path.speed": {"uniform": [1.0, 2.0]},
        "sampling.steps": [1, 2, 10],
    }
    planned = plan(space, sweep={"search": "random", "num_trials": 20})
    (trace,) = page(made(tmp_path, planned)).charts["parallel"]["data"]
    axes = {d["label"]: d for d in trace["dimensions"]}
    drawn = {math.log10(t.overrides["path.damping"]) for t in planned.trials}
    assert sorted(set(axes["damping"]["values"])) == pytest.approx(sorted(drawn))
    assert set(axes["speed"]["values"]) == {t.overrides["path.speed"] for t in planned.trials}
    assert set(axes["steps"]["values"]) == {1.0, 2.0, 10.0}
    assert axes["steps"]["ticktext"] == ["1", "2", "10"]


def test_a_loss_curve_is_of_means_and_no_two_lines_look_alike(tmp_path):
    planned = plan({"teacher.lr": [0.001 * k for k in range(1, 10)]})
    chart = page(made(tmp_path, planned)).charts["losses_teacher"]
    looks = [(t["line"]["color"], t["line"]["dash"]) for t in chart["data"]]
    assert len(set(looks)) == len(looks) == 9
    first = chart["data"][0]  # losses are 1 / step of 200 steps
    assert first["x"][0] == 4 and first["y"][0] == pytest.approx(
        (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, rel=1e-3
    )
    assert first["x"][-1] == 200 and len(first["x"]) == 50


def test_the_pareto_front_is_what_nothing_beats_in_both(tmp_path):
    fids = {1: 3.0, 2: 2.0, 3: 2.5, 4: 1.0, 5: 1.0}
    values = {i: {"fid": fid} for i, fid in enumerate(fids.values())}
    records = made(tmp_path, plan({"sampling.steps": list(fids)}), said_by(values))
    chart = page(records).charts["pareto"]
    assert lines(chart)["Pareto front"] == [(1, 3.0), (2, 2.0), (4, 1.0)]
    assert sorted(lines(chart)["teacher, euler"]) == sorted(fids.items())


def test_settings_of_one_nfe_have_no_front_however_their_seconds_differ(tmp_path):
    values = {i: {"seconds_per_image": 1.0 + i, "fid": 3.0 - i} for i in range(3)}
    records = made(tmp_path, plan({"path.damping": [1.0, 4.0, 9.0]}), said_by(values))
    assert "pareto" not in page(records).charts


def test_every_fid_figure_has_what_a_perfect_model_would_score(tmp_path):
    records = made(
        tmp_path, plan({"sampling.steps": [1, 2]}), lambda t: measured(t) | {"fid_of_real": 0.25}
    )
    charts = page(records).charts
    for name in ("fid_vs_nfe", "pareto", "energy"):
        (floor,) = charts[name]["layout"]["shapes"]
        assert floor["y0"] == floor["y1"] == 0.25
        (annotation,) = charts[name]["layout"]["annotations"]
        assert annotation["text"] == "a perfect model: 0.25"
        assert charts[name]["layout"]["yaxis"]["type"] == "log"  # where it stands by the logarithm
        assert annotation["y"] == pytest.approx(math.log10(0.25))
    assert "shapes" not in charts["kid_vs_nfe"]["layout"]
    assert not (conclusion.write(records) or records.rows()[0]["fid_of_real"] != 0.25)


def test_a_caption_speaks_of_bars_where_there_are_some(tmp_path):
    one = page(made(tmp_path / "one", plan({"sampling.steps": [1, 2]})))
    assert "No bars: one training seed" in one.said and "Bars:" not in one.said.partition("KID")[0]
    several = page(made(tmp_path / "two", plan(SEEDS_AND_STEPS), by_seed))
    assert "Bars and bands: standard deviation between seeds" in several.said


def test_a_band_stays_above_zero_and_needs_several_seeds_at_each_point():
    wide, narrow = Spread(2.0, 3.0, trials=2), Spread(1.0, 0.5, trials=2)
    assert Line("x", ((1, wide), (2, narrow))).band == ([0.002, 0.5], [5.0, 1.5])
    assert Line("x", ((1, wide), (2, narrow)), prominent=False).band is None
    assert Line("x", ((1, wide), (2, Spread(1.0, 0.5)))).band is None
    assert Line("x", ((1, wide),)).band is None


def test_where_more_is_better_the_front_and_the_table_begin_there(tmp_path):
    values = {i: {"precision": p} for i, p in enumerate((0.5, 0.9, 0.7))}
    planned = plan({"sampling.steps": [1, 2, 3]}, metric="precision", sweep={"mode": "max"},
                   evaluation={"metrics": ["precision"]})  # fmt: skip
    found = page(made(tmp_path, planned, said_by(values)))
    assert [row["trial"] for row in found.rows] == ["1", "2", "0"]
    assert lines(found.charts["pareto"])["Pareto front"] == [(1, 0.5), (2, 0.9)]


def test_numbers_on_different_features_share_no_axis(tmp_path):
    values = {i: {"fid": 100.0 + i, "fid_features": "inception-v3-compat"} for i in (0, 1)}
    records = made(tmp_path, plan({"sampling.steps": [1, 2, 4, 8]}), said_by(values))
    found = page(records)
    of_fid = [
        c for name, c in found.charts.items() if not name.startswith(("losses", "parallel", "kid"))
    ]
    assert len(of_fid) == 6  # against NFE, against time, against energy, twice each
    for chart in of_fid:
        shown = [y for trace in chart["data"] for y in trace["y"]]
        assert all(y >= 100 for y in shown) or all(y < 100 for y in shown)
    assert [row["features"] for row in found.rows] == [
        "inception-v3-compat"
    ] * 2  # those of the first table
    assert (
        found.text.count('<table class="sortable">') == 2
        and "Trials (digits-cnn-v1), best first" in found.said
    )
    conclusion.write(records)
    with Image.open(records.folder / "figures" / "fid_vs_nfe.png") as figure:
        assert figure.width > 2 * figure.height  # a panel each


def test_a_second_metric_has_a_figure_and_one_below_zero_a_linear_axis(tmp_path):
    planned = plan({"sampling.steps": [1, 2]}, evaluation={"metrics": ["fid", "kid"]})
    found = page(made(tmp_path, planned, said_by({1: {"kid": -0.001}})))
    assert found.charts["kid_vs_nfe"]["data"][0]["y"] == [0.01, -0.001]
    assert found.charts["kid_vs_nfe"]["layout"]["yaxis"].get("type") != "log"
    assert [row["KID"] for row in found.rows] == ["-0.001", "0.01"]


def test_loss_curves_are_named_by_what_tells_their_stages_apart(tmp_path):
    space = {"path.damping": [9.0, 25.0], "sampling.steps": [2, 4]}
    planned = plan(space, sampling={"model": "student"}, distill={"intervals": [4, 2]})
    charts = page(made(tmp_path, planned)).charts
    assert set(lines(charts["losses_teacher"])) == {"teacher, damping 9", "teacher, damping 25"}
    students = lines(charts["losses_student"])
    assert set(students) == {f"student {n}, damping {a}" for n in (4, 2) for a in (9, 25)}
    assert all(curve[0][0] == 4 and curve[-1][0] == 200 for curve in students.values())


def test_many_networks_are_gray_but_for_the_best(tmp_path):
    space = {"teacher.batch_size": list(range(1, 41)), "sampling.steps": [1, 4]}
    found = page(made(tmp_path, plan(space),
                      lambda trial: measured(trial) | {"fid": float(trial.config.teacher.batch_size)}))  # fmt: skip
    told = [t["y"][0] for t in found.charts["fid_vs_nfe"]["data"] if t["showlegend"]]
    assert sorted(told) == [float(i) for i in range(1, 15)]
    assert len(found.charts["fid_vs_nfe"]["data"]) == 40

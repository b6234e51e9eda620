import base64
import io
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any, NamedTuple

import numpy as np
import pytest
from made_up import made, measured, plan, samples
from PIL import Image

from orchestrator import summary
from orchestrator.records import LEFT, Ending, Records
from orchestrator.report_page.page import page as html_page

STUDENTS = {"distill": {"intervals": [4, 2, 1]}}


class Page(NamedTuple):
    text: str
    charts: dict[str, dict[str, Any]]
    tags: list[tuple[str, dict[str, str | None]]]
    rows: list[dict[str, str]]  # of the table: what is shown
    values: list[dict[str, str]]  # and what it is sorted by
    said: str


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if not self.tags or self.tags[-1][0] not in ("script", "style"):
            self.said.append(data)


def page(records: Records) -> Page:
    """The report of `records`, read again."""
    text = html_page(records)
    reader, decoder = Reader(), json.JSONDecoder()
    reader.feed(text)
    charts = {}
    for match in re.finditer(r'Plotly\.newPlot\(\s*"chart-([^"]+)",\s*', text):
        data, end = decoder.raw_decode(text, match.end())
        layout, _ = decoder.raw_decode(text, re.compile(r",\s*").match(text, end).end())
        charts[match[1]] = {"data": data, "layout": layout}
    return Page(text, charts, reader.tags, *_table(text), " ".join(reader.said))


def _table(text: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    found = re.search(r'<table class="sortable">(.*?)</table>', text, re.S)
    if not found:
        return [], []
    heads = re.findall(r'<button type="button">(.*?)</button>', found[1])
    cells = [re.findall(r'<td data-value="(.*?)">(.*?)</td>', row) for row in found[1].split("<tr")[2:]]
    shown = [{h: c[1] for h, c in zip(heads, row, strict=True)} for row in cells]
    return shown, [{h: c[0] for h, c in zip(heads, row, strict=True)} for row in cells]


def lines(chart: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    return {t["name"]: list(zip(t["x"], t["y"], strict=True)) for t in chart["data"]}


def said_by(values: dict[int, dict[str, Any]]) -> Any:
    return lambda trial: measured(trial) | values.get(trial.index, {})


def test_the_page_has_plotly_once_and_loads_nothing(tmp_path):
    found = page(made(tmp_path, plan({"sampling.steps": [1, 2]})))
    assert found.text.count("plotly.js v") == 1
    loaded = [a[key] for _, a in found.tags for key in ("src", "href") if key in a]
    assert loaded and all(str(address).startswith("data:image/") for address in loaded)
    calls = found.text[found.text.index("chart-fid_vs_nfe") :]  # behind plotly's own code
    assert "http" not in calls and "plot.ly" not in calls


def test_each_network_has_a_line_from_its_first_to_its_last_nfe(tmp_path):
    space = {"sampling.model": ["teacher", "student"], "sampling.steps": [1, 2, 4]}
    chart = page(made(tmp_path, plan(space, **STUDENTS))).charts["fid_vs_nfe"]
    expected = [(1, 8.0), (2, 4.0), (4, 2.0)]
    assert lines(chart) == {"teacher, euler": expected, "student 100-4-2-1": expected}
    assert [t["line"]["dash"] for t in chart["data"]] == ["dash", "solid"]
    assert chart["layout"]["xaxis"]["type"] == chart["layout"]["yaxis"]["type"] == "log"
    assert chart["layout"]["xaxis"]["ticktext"] == ["1", "2", "4"]


def test_trials_that_differ_in_their_seed_alone_are_one_point_and_one_row(tmp_path):
    records = made(tmp_path, plan({"seed": [0, 1]}), said_by({0: {"fid": 1.0}, 1: {"fid": 3.0}}))
    found = page(records)
    (line,) = found.charts["fid_vs_nfe"]["data"]
    assert (line["y"], line["error_y"]["array"]) == ([2.0], [pytest.approx(math.sqrt(2))])
    (row,), (value,) = found.rows, found.values
    assert (row["trial"], row["seed"], row["FID"], value["FID"]) == ("0, 1", "0, 1", "2 ± 1.4", "2.0")
    assert re.search(r"<details>.*<table", found.text)  # where each trial is alone


def test_a_single_trial_has_the_spread_of_its_samplings(tmp_path):
    records = made(tmp_path, plan(), lambda trial: measured(trial) | {"fid_std": 0.25})
    found = page(records)
    assert found.charts["fid_vs_nfe"]["data"][0]["error_y"]["array"] == [0.25]
    assert [row["FID"] for row in found.rows] == ["2 ± 0.25"]
    assert "parallel" not in found.charts and "damping_speed" not in found.charts


def test_a_student_is_called_by_its_distiller_wherever_it_is_shown(tmp_path):
    space = {"distill.kind": ["endpoint", "consistency"], "path.damping": [9.0, 25.0]}
    charts = page(made(tmp_path, plan(space, sampling={"model": "student"}, **STUDENTS))).charts
    students = {"student 100-4-2-1", "student consistency 100-any"}
    assert set(lines(charts["energy"])) == students
    assert set(lines(charts["fid_vs_nfe"])) == {f"{student}, damping {a}" for student in students for a in (9, 25)}


def test_trials_that_share_one_evaluation_are_one_line_and_no_spread(tmp_path):
    records = made(tmp_path, plan({"distill.batch_size": [16, 32]}), lambda trial: measured(trial) | {"fid_std": 0.5})
    (line,) = page(records).charts["fid_vs_nfe"]["data"]
    assert (line["name"], line["y"], line["error_y"]["array"]) == ("teacher, euler", [2.0], [0.5])


def test_a_cell_of_the_heat_map_is_the_best_of_its_settings(tmp_path):
    space = {"path.damping": [25.0, 9.0], "path.speed": [1.0, 2.0], "sampling.steps": [1, 2]}
    found = page(made(tmp_path, plan(space), without=(6, 7)))  # damping 9, speed 2
    (trace,) = found.charts["damping_speed"]["data"]
    assert (trace["type"], trace["x"], trace["y"]) == ("heatmap", ["9", "25"], ["1", "2"])
    assert trace["customdata"] == [[4.0, 4.0], [None, 4.0]]  # FID is 8 at one step and 4 at two
    assert trace["z"][0] == pytest.approx([math.log10(4)] * 2)
    assert "the best of up to 2 settings" in found.said


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
    assert axes["clip"]["ticktext"] == ["1", "2", "null"]  # numbers in order, what is none after them
    assert axes["clock"]["ticktext"] == ["linear", "quadratic"]
    assert sorted(set(axes["clip"]["values"])) == axes["clip"]["tickvals"] == [0, 1, 2]
    assert len(axes["FID"]["values"]) == len(records.plan.trials) == 24


def test_the_pareto_front_is_what_nothing_beats_in_both(tmp_path):
    pairs = [(3.0, 1.0), (2.0, 2.0), (2.5, 3.0), (1.0, 4.0), (1.0, 5.0)]  # FID, seconds
    values = {i: {"fid": fid, "seconds_per_image": seconds} for i, (fid, seconds) in enumerate(pairs)}
    chart = page(made(tmp_path, plan({"sampling.steps": [1, 2, 3, 4, 5]}), said_by(values))).charts["pareto"]
    assert lines(chart)["Pareto front"] == [(1.0, 3.0), (2.0, 2.0), (4.0, 1.0)]
    assert sorted(lines(chart)["teacher, euler"]) == sorted((s, f) for f, s in pairs)


def test_where_more_is_better_the_front_and_the_table_begin_there(tmp_path):
    values = {i: {"precision": p} for i, p in enumerate((0.5, 0.9, 0.7))}
    planned = plan({"sampling.steps": [1, 2, 3]}, metric="precision", sweep={"mode": "max"},
                   evaluation={"metrics": ["precision"]})  # fmt: skip
    found = page(made(tmp_path, planned, said_by(values)))
    assert [row["trial"] for row in found.rows] == ["1", "2", "0"]
    assert lines(found.charts["pareto"])["Pareto front"] == [(0.001, 0.5), (0.002, 0.9)]


def test_numbers_on_different_features_share_no_axis(tmp_path):
    values = {i: {"fid": 100.0 + i, "fid_features": "inception-v3-compat"} for i in (0, 1)}
    records = made(tmp_path, plan({"sampling.steps": [1, 2, 4, 8]}), said_by(values))
    found = page(records)
    of_fid = [c for name, c in found.charts.items() if not name.startswith(("losses", "parallel", "kid"))]
    assert len(of_fid) == 6  # against NFE, against time, against energy, twice each
    for chart in of_fid:
        shown = [y for trace in chart["data"] for y in trace["y"]]
        assert all(y >= 100 for y in shown) or all(y < 100 for y in shown)
    assert [row["features"] for row in found.rows] == ["inception-v3-compat"] * 2 + ["digits-cnn-v1"] * 2
    summary.write(records)
    with Image.open(records.folder / "figures" / "fid_vs_nfe.png") as figure:
        assert figure.width > 2 * figure.height  # a panel each


def test_a_second_metric_has_a_figure_and_one_below_zero_a_linear_axis(tmp_path):
    planned = plan({"sampling.steps": [1, 2]}, evaluation={"metrics": ["fid", "kid"]})
    found = page(made(tmp_path, planned, said_by({1: {"kid": -0.001}})))
    assert found.charts["kid_vs_nfe"]["data"][0]["y"] == [0.01, -0.001]
    assert found.charts["kid_vs_nfe"]["layout"]["yaxis"].get("type") != "log"
    assert [row["KID"] for row in found.rows] == ["-0.001", "0.01"]


def test_points_are_ranked_by_w2_and_shown_as_pictures(tmp_path):
    blocks = {"data": {"name": "grid9"}, "model": {"kind": "mlp"}, "evaluation": {"metrics": ["w2"]}}
    planned = plan({"sampling.steps": [1, 2]}, metric="w2", **blocks)
    records = made(tmp_path, planned, lambda trial: {"w2": 0.2 / trial.config.sampling.steps, "fid_features": "points",
                                                     "nfe": trial.config.sampling.steps})  # fmt: skip
    found = page(records)
    assert lines(found.charts["w2_vs_nfe"]) == {"teacher, euler": [(1, 0.2), (2, 0.1)]}
    assert "fid_vs_nfe" not in found.charts
    assert [row["trial"] for row in found.rows] == ["1", "0"]
    sizes = {image.size for image in strips_of(found)}
    assert sizes == {(128, 128)}


def test_without_any_measured_trial_there_are_loss_curves_and_the_table(tmp_path):
    found = page(made(tmp_path, plan({"sampling.steps": [1, 2]}), without=(0, 1)))
    assert list(found.charts) == ["losses_teacher"]
    assert [row["status"] for row in found.rows] == ["waiting", "waiting"]
    assert "No trial is measured." in found.said


def test_a_sweep_of_which_nothing_is_there_has_a_page_without_plotly(tmp_path):
    records = Records(plan({"sampling.steps": [1, 2]}), made(tmp_path, plan()).store)
    records.open()
    (records.store.root / "stages").rename(tmp_path / "elsewhere")
    found = page(records)
    assert found.charts == {} and len(found.rows) == 2 and len(found.text) < 100_000


def test_failed_and_not_started_trials_are_told_with_their_reason_and_come_last(tmp_path):
    records = made(tmp_path, plan({"sampling.steps": [1, 2, 4, 8]}), without=(0, 1, 2))
    records.endings[0] = Ending("failed", "loss is <nan> & gone")
    records.endings[1:3] = [Ending(LEFT, "max_minutes"), Ending(LEFT, "max_minutes")]
    found = page(records)
    assert (found.rows[0]["trial"], found.rows[0]["status"]) == ("3", "done")
    assert {row["status"] for row in found.rows[1:]} == {"failed", LEFT}
    assert "Trial 0 failed (steps 1): loss is <nan> & gone" in found.said  # as a browser reads it
    assert "2 not started: max_minutes" in found.said
    assert "Trials: 1 failed, 2 not started, 1 done." in found.said


def test_text_of_the_file_is_shown_as_text(tmp_path):
    evil = "</script><script>alert(1)</script><b>"
    blocks = {"evaluation": {"features": "inception-v3-compat"}}
    records = made(tmp_path, plan({"evaluation.weights": [evil, "a & b"], "sampling.steps": [1, 2]}, **blocks))
    records.endings[0].status, records.endings[0].error = "failed", evil
    found = page(records)
    assert evil not in found.text and not re.search(r"<b>", found.text[found.text.index("chart-fid_vs_nfe") :])
    assert {row["weights"] for row in found.rows} == {"&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;b&gt;",
                                                      "a &amp; b"}  # fmt: skip
    names = {t["name"] for t in found.charts["fid_vs_nfe"]["data"]}  # plotly reads labels as HTML
    assert all("<" not in name for name in names) and any("a &amp; b" in name for name in names)


def test_the_table_is_sorted_by_full_numbers_and_has_a_button_for_each_column(tmp_path):
    values = {i: {"fid": fid} for i, fid in enumerate((10.000004, 9.0, 10.000001))}
    found = page(made(tmp_path, plan({"sampling.steps": [1, 2, 4]}), said_by(values)))
    assert [value["FID"] for value in found.values] == ["9.0", "10.000001", "10.000004"]
    assert {"trial", "status", "steps", "NFE", "FID", "seconds per image", "kinetic path energy"} <= set(found.rows[0])
    assert "addEventListener" in found.text.rpartition("</table>")[2]


def strips_of(found: Page) -> list[Image.Image]:
    sources = [str(a["src"]) for tag, a in found.tags if tag == "img" and str(a["alt"]).startswith("samples")]
    return [Image.open(io.BytesIO(base64.b64decode(s.partition(",")[2]))) for s in sources]


def test_a_strip_shows_the_first_sixteen_samples_of_each_nfe_under_one_seed(tmp_path):
    found = page(made(tmp_path, plan({"sampling.steps": [1, 2], "seed": [3, 4]})))
    expected = samples(3, 8)[:16, :, :, 0]  # seed 3 and not 4
    for strip in strips_of(found):
        pixels = np.asarray(strip)[:, :, 0]
        assert pixels.shape == (8, 16 * 9 - 1)  # a white pixel between two
        assert all((pixels[:, 9 * i : 9 * i + 8] == image).all() for i, image in enumerate(expected))
    alts = [a["alt"] for tag, a in found.tags if tag == "img"]
    assert alts == ["samples: teacher, euler, NFE 2", "samples: teacher, euler, NFE 1"]


def test_a_store_without_arrays_or_with_damaged_ones_makes_a_report_of_what_is_there(tmp_path):
    records = made(tmp_path, plan({"sampling.steps": [1, 2, 4]}))
    folders = [records.store.result(t.key).folder for t in records.plan.trials]
    (folders[0] / "samples.npz").unlink()  # its grid has them too
    (folders[1] / "samples.npz").write_bytes(b"no array")
    assert len(strips_of(page(records))) == 2


def test_loss_curves_are_named_by_what_tells_their_stages_apart(tmp_path):
    space = {"path.damping": [9.0, 25.0], "sampling.steps": [2, 4]}
    planned = plan(space, sampling={"model": "student"}, distill={"intervals": [4, 2]})
    charts = page(made(tmp_path, planned)).charts
    assert set(lines(charts["losses_teacher"])) == {"teacher, damping 9", "teacher, damping 25"}
    students = lines(charts["losses_student"])
    assert set(students) == {f"student {n}, damping {a}" for n in (4, 2) for a in (9, 25)}
    assert all(curve[0] == (1, 1.0) and curve[-1] == (200, 0.005) for curve in students.values())


def test_three_hundred_trials_of_colour_images_fit_into_fifteen_megabytes(tmp_path):
    planned = plan({"sampling.steps": list(range(1, 301))})
    noise = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)  # nothing compresses worse
    records = made(tmp_path, planned)
    file = io.BytesIO()
    np.savez(file, images=noise)
    for trial in planned.trials:
        (records.store.result(trial.key).folder / "samples.npz").write_bytes(file.getvalue())
    found = page(records)
    assert len(found.rows) == 300 and len(found.text) < 15e6
    assert len(found.charts["fid_vs_nfe"]["data"][0]["x"]) == 300
    assert "The 40 best of 300 rows." in found.said


def test_many_networks_are_gray_but_for_the_best(tmp_path):
    found = page(made(tmp_path, plan({"teacher.batch_size": list(range(1, 41))}),
                      lambda trial: measured(trial) | {"fid": float(trial.config.teacher.batch_size)}))  # fmt: skip
    told = [t["y"][0] for t in found.charts["fid_vs_nfe"]["data"] if t["showlegend"]]
    assert sorted(told) == [float(i) for i in range(1, 15)]
    assert len(found.charts["fid_vs_nfe"]["data"]) == 40


def test_every_figure_is_a_png_too(tmp_path):
    space = {"path.damping": [9.0, 25.0], "path.speed": [1.0, 2.0], "sampling.steps": [1, 2]}
    records = made(tmp_path, plan(space, evaluation={"metrics": ["fid", "kid"]}))
    summary.write(records)
    pictures = {p.stem: p for p in (records.folder / "figures").iterdir()}
    assert set(pictures) == {"fid_vs_nfe", "kid_vs_nfe", "damping_speed", "parallel", "pareto", "energy", "losses",
                             "samples_by_nfe"}  # fmt: skip
    for path in pictures.values():
        with Image.open(path) as picture:
            assert picture.format == "PNG" and min(picture.size) > 100


def test_the_page_says_how_to_run_it_again(tmp_path):
    records = made(tmp_path, plan({"sampling.steps": [1, 2]}))
    found = page(records)
    assert "python -m orchestrator.sweep made.yaml" in found.said
    assert records.plan.experiment.to_yaml() in found.said
    assert f"torch=={records.made_by()['torch']}" in found.said
    assert "What it was run with" in found.said
    single = made(tmp_path / "single", plan(goal="evaluation"))
    assert "python -m orchestrator.evaluate made.yaml" in page(single).said
    planned = json.loads((single.folder / "plan.json").read_text())
    del planned["made_by"]  # as an earlier version left it
    (single.folder / "plan.json").write_text(json.dumps(planned))
    assert "What is installed where this page was made" in page(single).said


def test_a_report_is_the_same_file_each_time(tmp_path):
    records = made(tmp_path, plan({"sampling.steps": [1, 2]}))
    summary.write(records)
    before = (records.folder / "report.html").read_bytes()
    summary.write(records)
    assert (records.folder / "report.html").read_bytes() == before


def test_commands_import_plotly_when_there_is_something_to_draw():
    code = "import sys, orchestrator.cli, orchestrator.runner, orchestrator.report; print('plotly' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"

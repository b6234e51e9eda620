import base64
import hashlib
import io
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from made_up import made, plan, said_by, samples
from page_reader import lines, page, strips_of
from PIL import Image

from kaccore.data import load
from orchestrator.console import conclusion
from orchestrator.plan.cost import with_parents
from orchestrator.store import layout
from orchestrator.store.stage_result import Result
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status
from orchestrator.work import pictures

STUDENTS = {"distill": {"intervals": [4, 2, 1]}}


def test_the_page_has_plotly_once_and_loads_nothing(tmp_path):
    found = page(made(tmp_path, plan({"sampling.steps": [1, 2]})))
    assert found.text.count("plotly.js v") == 1
    loaded = [a[key] for _, a in found.tags for key in ("src", "href") if key in a]
    assert loaded and all(str(address).startswith("data:image/") for address in loaded)
    calls = found.text[found.text.index("chart-fid_vs_nfe") :]  # behind plotly's own code
    assert "http" not in calls and "plot.ly" not in calls


def test_a_student_is_called_by_its_distiller_wherever_it_is_shown(tmp_path):
    space = {"distill.kind": ["endpoint", "consistency"], "path.damping": [9.0, 25.0],
             "sampling.steps": [1, 4]}  # fmt: skip
    charts = page(made(tmp_path, plan(space, sampling={"model": "student"}, **STUDENTS))).charts
    students = {"student 100-4-2-1", "student consistency 100-any"}
    assert set(lines(charts["energy"])) == students
    assert set(lines(charts["fid_vs_nfe"])) == {
        f"{student}, damping {a}" for student in students for a in (9, 25)
    }


def test_points_are_ranked_by_w2_and_shown_as_pictures(tmp_path):
    blocks = {
        "data": {"name": "grid9"},
        "model": {"kind": "mlp"},
        "evaluation": {"metrics": ["w2"]},
    }
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
    records.end(0, "failed", "loss is <nan> & gone")
    records.skip_all_but({0, 3}, "max_minutes")
    found = page(records)
    assert (found.rows[0]["trial"], found.rows[0]["status"]) == ("3", "done")
    assert {row["status"] for row in found.rows[1:]} == {"failed", Status.NOT_STARTED}
    assert "Trial 0 failed (steps 1): loss is <nan> & gone" in found.said  # as a browser reads it
    assert "2 not started: max_minutes" in found.said
    assert "Trials: 1 failed, 2 not started, 1 done." in found.said


def test_text_of_the_file_is_shown_as_text(tmp_path):
    evil = "</script><script>alert(1)</script><b>"
    blocks = {"evaluation": {"features": "inception-v3-compat"}}
    records = made(
        tmp_path, plan({"evaluation.weights": [evil, "a & b"], "sampling.steps": [1, 2]}, **blocks)
    )
    records.update(0, status="failed", error=evil)
    found = page(records)
    assert evil not in found.text and not re.search(
        r"<b>", found.text[found.text.index("chart-fid_vs_nfe") :]
    )
    assert {row["weights"] for row in found.rows} == {"&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;b&gt;",
                                                      "a &amp; b"}  # fmt: skip
    names = {t["name"] for t in found.charts["fid_vs_nfe"]["data"]}  # plotly reads labels as HTML
    assert all("<" not in name for name in names) and any("a &amp; b" in name for name in names)


def test_the_table_is_sorted_by_full_numbers_and_has_a_button_for_each_column(tmp_path):
    values = {i: {"fid": fid} for i, fid in enumerate((10.000004, 9.0, 10.000001))}
    found = page(made(tmp_path, plan({"sampling.steps": [1, 2, 4]}), said_by(values)))
    assert [value["FID"] for value in found.values] == ["9.0", "10.000001", "10.000004"]
    assert {
        "trial",
        "status",
        "steps",
        "NFE",
        "FID",
        "seconds per image",
        "kinetic path energy",
    } <= set(found.rows[0])
    assert "addEventListener" in found.text.rpartition("</table>")[2]


def test_a_strip_shows_the_first_sixteen_samples_of_each_nfe_under_one_seed(tmp_path):
    found = page(made(tmp_path, plan({"sampling.steps": [1, 2], "seed": [3, 4]})))
    expected = samples(3, 8)[:16, :, :, 0]  # seed 3 and not 4
    for strip in strips_of(found):
        pixels = np.asarray(strip)[:, :, 0]
        assert pixels.shape == (8, 16 * 9 - 1)  # a white pixel between two
        assert all(
            (pixels[:, 9 * i : 9 * i + 8] == image).all() for i, image in enumerate(expected)
        )
    alts = [a["alt"] for tag, a in found.tags if tag == "img"]
    assert alts == ["samples: teacher, euler, NFE 2", "samples: teacher, euler, NFE 1"]


def rewritten(result: Result, name: str, content: bytes | None) -> None:
    """Have the result `content` in its file `name`, None for no such file, as if it had been
    published so."""
    files = result.manifest["files"]
    files.pop(name, None)
    result.file(name).unlink(missing_ok=True)
    if content is not None:
        result.file(name).put(content)
        files[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (result.folder / "manifest.json").put_json(result.manifest)


def test_a_store_without_arrays_or_with_damaged_ones_makes_a_report_of_what_is_there_and_says_so(
    tmp_path,
):
    records = made(tmp_path, plan({"sampling.steps": [1, 2, 4]}))
    results = [records.store.result(t.key) for t in records.plan.trials]
    rewritten(results[0], "samples.npz", None)  # its grid has them too
    (results[1].folder / "samples.npz").write_bytes(b"no array")
    found = page(records)
    assert len(strips_of(found)) == 2
    assert list(records.damaged) == [records.plan.trials[1].key]
    assert "samples.npz is damaged (its sha256 differs)" in found.said


@pytest.mark.parametrize("classes", [10, 0], ids=["with captions", "unlabelled"])
def test_real_images_stand_above_the_samples_at_their_own_size(tmp_path, classes):
    records = made(tmp_path, plan({"sampling.steps": [1, 2]}))
    data = load("digits")
    if not classes:
        data = replace(data, labels=None, class_names=())
    reference = records.plan.trials[0].reference
    assert reference is not None
    rewritten(records.store.result(reference.key), layout.REAL, pictures.panel(data))
    found = page(records)
    alts = [a["alt"] for tag, a in found.tags if tag == "img"]
    assert alts[:3] == [
        "real images",
        "samples: teacher, euler, NFE 2",
        "samples: teacher, euler, NFE 1",
    ]
    source = next(str(a["src"]) for tag, a in found.tags if a.get("alt") == "real images")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))[:, :, 0]
    expected = data.images[pictures.spread_over_classes(data, 64)[::4], 0].numpy()
    assert pixels.shape == (8, 16 * 9 - 1)
    assert all((pixels[:, 9 * i : 9 * i + 8] == image).all() for i, image in enumerate(expected))


def test_three_hundred_trials_of_colour_images_fit_into_fifteen_megabytes(tmp_path):
    planned = plan({"sampling.steps": list(range(1, 301))})
    noise = np.random.default_rng(0).integers(
        0, 256, (16, 64, 64, 3), dtype=np.uint8
    )  # nothing compresses worse
    records = made(tmp_path, planned)
    file = io.BytesIO()
    np.savez(file, images=noise)
    for trial in planned.trials:
        rewritten(records.store.result(trial.key), "samples.npz", file.getvalue())
    found = page(records)
    assert len(found.rows) == 300 and len(found.text) < 15e6
    assert len(found.charts["fid_vs_nfe"]["data"][0]["x"]) == 300
    assert "The 40 best of 300 rows." in found.said


def test_every_figure_is_a_png_too(tmp_path):
    space = {"path.damping": [9.0, 25.0], "path.speed": [1.0, 2.0], "sampling.steps": [1, 2]}
    records = made(tmp_path, plan(space, evaluation={"metrics": ["fid", "kid"]}))
    conclusion.write(records)
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
    assert "Versions of the run" in found.said
    single = made(tmp_path / "single", plan(goal="evaluation"))
    assert "python -m orchestrator.evaluate made.yaml" in page(single).said
    planned = json.loads((single.folder / "plan.json").read_text())
    del planned["made_by"]  # as an earlier version left it
    (single.folder / "plan.json").write_text(json.dumps(planned))
    assert "Versions installed where this page was written" in page(single).said


def test_a_report_is_the_same_file_each_time(tmp_path):
    records = made(tmp_path, plan({"sampling.steps": [1, 2]}))
    conclusion.write(records)
    before = (records.folder / "report.html").read_bytes()
    conclusion.write(records)
    assert (records.folder / "report.html").read_bytes() == before


def test_commands_import_plotly_when_there_is_something_to_draw():
    modules = "orchestrator.console.command_line, orchestrator.console.run, orchestrator.report"
    code = f"import sys, {modules}; print('plotly' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


def test_what_each_number_of_steps_cost_stands_on_the_page(tmp_path):
    space = {"sampling.model": ["teacher", "student"], "sampling.steps": [1, 4]}
    planned = plan(space, distill={"intervals": [4, 1]}, cluster={"cpus_per_worker": 2.0})
    records = made(tmp_path, planned)
    found = page(records)
    rows = re.search(r"What each number of steps cost.*?<tbody>(.*?)</tbody>", found.text, re.S)
    assert rows is not None
    cells = [re.findall("<td>(.*?)</td>", row) for row in rows[1].split("<tr>")[1:]]
    assert [row[0] for row in cells] == ["1 step", "4 steps"]
    by_steps = {
        t.config.sampling.steps: t for t in planned.trials if t.title.startswith("model teacher")
    }
    for row, steps in zip(cells, (1, 4), strict=True):
        assert row[1] == "teacher euler"  # of equal measures the first
        assert float(row[3].removesuffix(" million")) == pytest.approx(
            with_parents(by_steps[steps].chain[-1]) / 1e6, rel=0.01
        )
        assert float(row[4]) == pytest.approx(2 / 3600, rel=0.1)  # one second on two cores


def test_what_answers_the_question_is_open_and_the_rest_is_folded(tmp_path):
    space = {"path.damping": [9.0, 25.0], "path.speed": [1.0, 2.0], "sampling.steps": [1, 2]}
    text = page(made(tmp_path, plan(space))).text
    first = text.index("<details>")
    assert text.index("chart-fid_vs_nfe") < text.index("chart-damping_speed") < first
    assert all(
        text.index(f"chart-{name}") > first for name in ("kid_vs_nfe", "pareto", "losses_teacher")
    )
    titles = re.findall("<summary>(.*?)</summary>", text)
    assert titles[:2] == ["More figures", "Training"] and titles[-1] == "How to reproduce"

"""Several sweeps on one page."""

import re
from pathlib import Path
from typing import Any

import pytest
from made_up import made, measured, plan

from orchestrator import report
from orchestrator.reports.comparison import comparison
from orchestrator.sweeps.records import Records

STEPS = {"sampling.steps": [1, 2, 4]}


def sweep(root: Path, factor: float = 1.0, **blocks: Any) -> Records:
    def measure(trial: Any) -> dict[str, Any]:
        values = measured(trial)
        return values | {"fid": factor * values["fid"]}

    return made(root, plan(STEPS, **blocks), measure)


def test_a_page_has_what_differs_the_best_of_each_number_of_steps_and_all_lines(tmp_path):
    one = sweep(tmp_path / "a")
    two = sweep(tmp_path / "b", 0.5, teacher={"lr": 0.004}, path={"kind": "flow_matching"})
    text = comparison([one, two]).replace(r"\u002f", "/")
    names = [f"made/{records.plan.id}" for records in (one, two)]
    differs = text[text.index("What differs") : text.index("Best of each number")]
    assert "<td>teacher.lr</td>" in differs and "<td>0.004</td>" in differs
    assert "<td>path.kind</td><td>kac</td><td>flow_matching</td>" in differs
    assert "sampling.steps" not in differs  # the same in both
    best = text[text.index("Best of each number") : text.index("Plotly")]
    assert "<td>4 steps</td><td>2.00, teacher euler</td><td>1.00, teacher euler</td>" in best
    assert best.index("<td>1 step</td>") < best.index("<td>2 steps</td>")
    assert all(f"{name}: teacher, euler" in text for name in names)
    assert all(f"<h2>{name}</h2>" in text for name in names)
    assert "http" not in re.sub(r"<script>.*?</script>", "", text, flags=re.S)


def test_sweeps_on_other_features_have_a_table_and_a_figure_each(tmp_path):
    one = sweep(tmp_path / "a")
    planned = plan(STEPS, data={"name": "mnist"})
    two = made(tmp_path / "b", planned, lambda t: measured(t) | {"fid_features": "mnist-cnn-v1"})
    text = comparison([one, two])
    assert text.count("Best of each number of steps") == 2
    assert {"chart-compared-0", "chart-compared-1"} <= set(re.findall(r"chart-compared-\d", text))


def test_the_command_writes_the_page_and_prints_the_verdicts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folders = [str(sweep(tmp_path / name, teacher={"lr": lr}).folder)
               for name, lr in (("a", 0.001), ("b", 0.002))]  # fmt: skip
    assert report.main(folders) == 0
    said = capsys.readouterr().out
    assert (
        said.count("verdict   fid on digits-cnn-v1") == 2 and "comparison comparison.html" in said
    )
    assert report.main(folders) == 0  # its own page is written again
    assert report.main([*folders, "--out", "other.html"]) == 0
    assert (tmp_path / "other.html").read_text() == (tmp_path / "comparison.html").read_text()


def test_bad_input_is_one_line_each_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = str(sweep(tmp_path / "a").folder)
    other = str(sweep(tmp_path / "b", teacher={"lr": 0.002}).folder)
    Path("mine.html").write_text("mine")
    for arguments, message in (
        ([folder, folder], "more than once, expected different sweeps"),
        ([folder, other, "--out", "mine.html"], "was not written by this command"),
        ([folder, other, "--out", "no/where.html"], "is not a folder"),
    ):
        assert report.main(arguments) == 2
        assert message in capsys.readouterr().err
    for arguments in ([folder, "--out", "x.html"], [folder, other, "--publish"]):
        with pytest.raises(SystemExit) as ended:
            report.main(arguments)
        assert ended.value.code == 2
    assert not Path("comparison.html").exists() and Path("mine.html").read_text() == "mine"

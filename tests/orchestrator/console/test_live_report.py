"""The report that is written while a sweep runs."""

import time
from collections.abc import Callable
from pathlib import Path

import fabricated
import pytest
from commands import run, run_here

from orchestrator.console import conclusion
from orchestrator.console.live_report import LiveReport
from orchestrator.reports.page import page
from orchestrator.reports.training_samples import PICTURES, _spread
from orchestrator.store import layout
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.sweeps.records import Records

PATIENCE = 120.0
RELOADS = '<meta http-equiv="refresh" content="60">'


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """A sweep that is measured while it trains, of which nothing is finished."""
    asked = fabricated.experiment(
        sweep={"space": {"seed": {"grid": [0, 1]}}},
        evaluation={"samples": 40, "metrics": ["fid"], "every": 5},
    )
    records = Records(opening.make_plan(asked, "x"), Store(tmp_path / "runs"))
    records.open()
    return records


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def look_at(records: Records, step: int, picture: bytes = b"a picture") -> None:
    """What a worker does when it looks at the first teacher."""
    folder = records.store.work(records.plan.trials[0].chain[0].key)
    (folder / layout.look(step)).put(picture)


def test_it_is_renewed_while_there_is_news_and_says_so_until_the_end(records):
    report = records.folder / layout.REPORT

    def says(text: str) -> bool:
        return report.exists() and text in report.read_text()

    with LiveReport(records, seconds=0.1):
        time.sleep(1.0)
        assert not report.exists()  # there is nothing to show
        look_at(records, 5)
        folder = records.store.work(records.plan.trials[0].chain[0].key)
        (folder / layout.FIDS).put_json([{"step": 5, "fid": 1.25}])
        until(lambda: says("step 5, FID 1.25<"))
        text = report.read_text()
        assert ": 1 look</h3>" in text and '"mode":"markers"' in text  # a line of one point
        assert RELOADS in text and "Running, 0 of 2 trials done, written at 2" in text
        look_at(records, 10)
        until(lambda: says(": 2 looks</h3>"))
        trial = records.plan.trials[0]
        for stage in trial.stages():
            fabricated.finish(records.store, stage)
        records.end(0, "done")
        until(lambda: says("Running, 1 of 2 trials done"))
        records.paused = True
        until(lambda: says("Paused, 1 of 2 trials done"))
        written = report.modified()
        time.sleep(1.0)
        assert report.modified() == written  # nothing was new
    records.interrupt()
    conclusion.write(records)
    text = report.read_text()
    assert "http-equiv" not in text and 'class="running"' not in text
    assert text == page(records)


def test_a_damaged_picture_of_a_finished_teacher_is_named_and_left_out(records):
    look_at(records, 5)
    teacher = records.plan.trials[0].chain[0]
    folder = records.store.gather(teacher)
    for name in (layout.look(5), layout.look(10)):
        (folder / name).write_bytes(b"a picture")
    records.store.publish(teacher, folder, 1.0)
    assert ": 2 looks</h3>" in page(records)
    (path,) = records.store.root.glob(f"stages/{teacher.key}/**/{layout.look(10)}")
    path.write_bytes(b"b picture")
    text = page(records)
    assert "looks</h3>" not in text and teacher.key in records.damaged


def test_of_many_looks_some_are_shown_with_the_first_and_the_last():
    steps = list(range(100, 10_100, 100))
    shown = _spread(steps)
    assert len(set(shown)) == PICTURES and (shown[0], shown[-1]) == (100, 10_000)
    assert set(shown) <= set(steps) and _spread(steps[:12]) == steps[:12]


def test_status_opens_the_report_in_the_browser(records, tmp_path, monkeypatch):
    none = run_here(tmp_path, "status", "fabricated", "--open")
    assert none.returncode == 2 and "has no report.html yet" in none.stderr
    (records.folder / layout.REPORT).put(b"the page")
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{tmp_path}/opened"\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    said = run(tmp_path, "status", "fabricated", "--open")
    assert said.returncode == 0, said.stderr
    report = records.folder / layout.REPORT
    assert said.stdout.splitlines() == [str(report)]
    until(lambda: (tmp_path / "opened").exists() and bool((tmp_path / "opened").read_text()))
    assert (tmp_path / "opened").read_text().strip() == report.as_uri()
    both = run_here(tmp_path, "status", "fabricated", "--open", "--watch")
    assert both.returncode == 2 and "--open takes SWEEP" in both.stderr

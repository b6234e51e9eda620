"""The live view of a finished sweep, on a terminal and as lines."""

import io

import pytest
from rich.console import Console

from orchestrator.records import STOPPED
from orchestrator.view import View


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=160)


def shown(view: View, console: Console) -> str:
    console.print(view.table())
    return console.file.getvalue()


def test_the_table_has_ends_that_are_no_results_and_the_dashboard(fabricated_sweep, console, monkeypatch):
    records = fabricated_sweep
    plain = shown(View(records, console), console)
    assert "Ray dashboard" not in plain and "stopped" not in plain and "best so far" in plain
    monkeypatch.setattr(records, "state", records.state)  # it comes back as it was
    records.update(0, status=STOPPED, error="its teacher's FID was 9 after 5 steps")
    monkeypatch.setattr(records, "dashboard", "http://127.0.0.1:8265")
    said = shown(View(records, console), console)
    assert "stopped: its teacher's FID was 9 after 5 steps" in said and "http://127.0.0.1:8265" in said


def test_lines_say_the_dashboard_once(fabricated_sweep, console, monkeypatch):
    monkeypatch.setattr(fabricated_sweep, "dashboard", "http://127.0.0.1:8265")
    with View(fabricated_sweep, console):
        pass
    assert console.file.getvalue().count("Ray dashboard: http://127.0.0.1:8265\n") == 1

"""The state of a sweep is one word, in the command `status` and in Python."""

import json
from dataclasses import replace

import fabricated
import kacflow as kf
import pytest

from orchestrator import status
from orchestrator.store.run_folder import RunFolder
from orchestrator.sweeps.records import NOT_BEGUN, Records
from orchestrator.sweeps.status import Status

BUDGET = "sweep.max_minutes: 1 minutes are used up"
ENDINGS = {
    "done": [(Status.DONE, ""), (Status.DONE, ""), (Status.DONE, "")],
    "done, by a budget": [(Status.DONE, ""), (Status.STOPPED, ""), (Status.NOT_STARTED, BUDGET)],
    "failed": [(Status.DONE, ""), (Status.FAILED, "it broke"), (Status.NOT_STARTED, BUDGET)],
    "interrupted": [(Status.DONE, ""), (Status.FAILED, "it broke"), (Status.INTERRUPTED, "")],
    "interrupted, before any began": [(Status.DONE, ""), *[(Status.NOT_STARTED, NOT_BEGUN)] * 2],
    "interrupted, killed": [(Status.DONE, ""), (Status.WAITING, ""), (Status.WAITING, "")],
}


@pytest.fixture
def records(tmp_path) -> Records:
    """Of three trials the first is done, and the store has what it needs alone."""
    records = fabricated.sweep(tmp_path / "runs")
    for stage in records.plan.stages():
        if stage not in records.plan.trials[0].stages():
            records.store.remove(stage.key)
    return records


def end(records: Records, endings: list[tuple[Status, str]]) -> None:
    def changed(index, ending):
        state, error = endings[index]
        return replace(ending, status=state, error=error)

    records.update_all(changed)
    records.save()


def said_by_the_command(records: Records, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """By the table of all, and of the one."""
    storage = ["--storage", str(records.store.root), "--json"]
    assert status.main(storage) == 0
    (row,) = json.loads(capsys.readouterr().out)["sweeps"]
    assert status.main([records.plan.name, *storage]) == 0
    return [row["state"], json.loads(capsys.readouterr().out)["state"]]


@pytest.mark.parametrize("case", [case for case in ENDINGS if case != "done"])
def test_both_say_the_same_word_for_how_it_ended(case, records, capsys):
    end(records, ENDINGS[case])
    word = case.split(",")[0]
    assert kf.open(str(records.folder)).status == word
    assert said_by_the_command(records, capsys) == [word, word]


def test_both_say_done_and_running(tmp_path, capsys):
    records = fabricated.sweep(tmp_path / "runs")
    assert kf.open(str(records.folder)).status == "done"
    assert said_by_the_command(records, capsys) == ["done", "done"]
    with RunFolder(records.store.root / "ray" / "abc", records.plan.name):
        assert kf.open(str(records.folder)).status == "running"
        assert said_by_the_command(records, capsys) == ["running", "running"]
    with RunFolder(records.store.root / "ray" / "abc", "another/1234567890"):
        assert kf.open(str(records.folder)).status == "done"


def test_a_run_that_has_ended_since_it_was_opened_is_read_again(records):
    end(records, ENDINGS["interrupted, killed"])
    run = kf.open(str(records.folder))
    end(records, ENDINGS["failed"])
    assert run.status == "failed"
    assert run.results["error"].notna().sum() == 2

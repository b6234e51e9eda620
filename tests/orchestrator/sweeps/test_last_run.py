"""Which sweep a name means, and when one was begun, also in a copy of a store, where files have
other times."""

import json
import os
import shutil

import made_up

from orchestrator import status
from orchestrator.networks.locate import newest_sweep
from orchestrator.store.folder import Folder
from orchestrator.store.last_run import last_run


def plans(root):
    return sorted(Folder(root / "sweeps").find("*/*/plan.json"))


def two_sweeps(root, times=(1000.0, 2000.0)):
    """Two sweeps of one name, run at these times."""
    ids = []
    for steps, began in zip((2, 3), times, strict=True):
        records = made_up.made(root, made_up.plan({"sampling.steps": [steps]}))
        records.began = began
        records._write_plan()
        ids.append(records.plan.id)
    return ids


def test_a_name_means_the_same_sweep_in_a_copy_whatever_the_times_of_its_files(tmp_path, capsys):
    for order in ((1, 2), (2, 1)):
        root = tmp_path / f"runs{order[0]}"
        first, second = two_sweeps(root, (order[0] * 1000.0, order[1] * 1000.0))
        last = second if order == (1, 2) else first
        copy = tmp_path / f"copy{order[0]}"
        shutil.copytree(root, copy)
        for k, plan in enumerate(plans(copy)):  # as a tool does that writes them in another order
            os.utime(plan, (5000 + k, 5000 + k))
        assert (
            newest_sweep("made", Folder(root)).name
            == newest_sweep("made", Folder(copy)).name
            == last
        )
        for k, plan in enumerate(reversed(plans(copy))):
            os.utime(plan, (5000 + k, 5000 + k))
        assert newest_sweep("made", Folder(copy)).name == last
        assert status.main(["--storage", str(copy)]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if "made/" in line]
        assert last in lines[0] and "d ago" in lines[0]


def test_a_run_anew_makes_a_sweep_the_newest_and_a_draw_does_not(tmp_path):
    first, second = two_sweeps(tmp_path)
    assert newest_sweep("made", Folder(tmp_path)).name == second
    records = made_up.made(tmp_path, made_up.plan({"sampling.steps": [2]}))
    assert newest_sweep("made", Folder(tmp_path)).name == first == records.plan.id
    before = last_run(records.folder / "plan.json")
    records._write_plan()
    assert last_run(records.folder / "plan.json") == before


def test_a_plan_of_an_earlier_version_or_a_damaged_one_has_the_time_of_its_file(tmp_path):
    records = made_up.made(tmp_path, made_up.plan({"sampling.steps": [2]}))
    file = records.folder / "plan.json"
    noted = json.loads(file.read_text())
    for text in (
        json.dumps({k: v for k, v in noted.items() if k != "begun"}),
        "{",
        "[]",
        '{"begun": "soon"}',
    ):
        file.write_text(text)
        os.utime(file, (1234, 1234))
        assert last_run(file) == 1234

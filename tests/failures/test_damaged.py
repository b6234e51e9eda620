"""Bits that flip on the disk between two runs: the same command makes again what they have
damaged."""

import os
from pathlib import Path

import in_process
import torch
from commands import TINY, run

from orchestrator.settings.loading import parse
from orchestrator.settings.yaml_reader import load_text
from orchestrator.store import integrity
from orchestrator.store.store import Store
from orchestrator.sweeps import opening
from orchestrator.sweeps.records import Records


def weights(root: Path) -> dict[str, bytes]:
    return {p.parent.name: p.read_bytes() for p in root.glob("stages/*/model.safetensors")}


def test_what_is_found_at_the_start_and_what_a_worker_comes_upon_is_made_again_by_the_same_command(
    tmp_path,
):
    torch.set_num_threads(
        1
    )  # as a worker of one CPU has: another number rounds sums in another order
    (tmp_path / "x.yaml").write_text(TINY)
    plan = opening.make_plan(parse(load_text(TINY, "x.yaml")), "x.yaml", "evaluation")
    root, (trial,) = tmp_path / "runs", plan.trials
    store = Store(root)
    Records(plan, store).open()
    measured, _ = in_process.run_trial(trial, root)
    trained = weights(root)
    assert (
        integrity.set_aside_damaged(store, list(plan.stages())) == []
    )  # whoever starts has read it all
    teacher, student = trial.chain[0], trial.chain[-1]
    file = root / "stages" / teacher.key / "model.safetensors"
    before = file.stat()
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    os.utime(
        file, ns=(before.st_atime_ns, before.st_mtime_ns)
    )  # nobody has written it: only a reader finds that
    assert trial.reference is not None and trial.evaluation is not None
    (root / "stages" / trial.reference.key / "reference.safetensors").write_bytes(
        b""
    )  # found at the start
    for stage in (student, trial.evaluation):  # so that the teacher is read
        store.remove(stage.key)
    said = run(tmp_path, "evaluate", "x.yaml")
    assert said.returncode == 0, said.stdout + said.stderr
    assert (
        f"reference {trial.reference.key}: reference.safetensors is damaged (it has 0 bytes"
        in said.stdout
    )
    found = f"teacher: model.safetensors is damaged (its sha256 differs): set aside as damaged/{teacher.key}-1"
    assert f"] warning: {found}" in said.stdout  # a line of the log, while it runs
    assert "2 warnings:\n" in said.stdout and f"  {found}" in said.stdout  # and the list at the end
    assert weights(root) == trained
    again = store.result(trial.evaluation.key).json("metrics.json")
    assert {**again, "seconds_per_image": 0} == {**measured, "seconds_per_image": 0}

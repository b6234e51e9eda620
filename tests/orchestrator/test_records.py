from pathlib import Path

from orchestrator.config import parse
from orchestrator.plan import Plan, Trial, make
from orchestrator.records import Records
from orchestrator.store import Store


def plan() -> Plan:
    """Two trials of one teacher that differ in what only students use: they have one key."""
    config = parse(
        {
            "name": "records",
            "data": {"name": "digits"},
            "path": {"kind": "kac"},
            "sampling": {"model": "teacher"},
            "sweep": {"space": {"distill.batch_size": {"grid": [16, 32]}}},
        }
    )
    return make(config, "fingerprint", "digits-cnn-v1")


def opened(root: Path) -> Records:
    records = Records(plan(), Store(root))
    records.open()
    return records


def finish(store: Store, trial: Trial) -> None:
    assert trial.evaluation is not None
    folder = store.gather(trial.evaluation)
    (folder / "metrics.json").write_text('{"fid": 1.0, "fid_features": "digits-cnn-v1"}')
    (folder / "samples.png").write_bytes(b"")
    store.publish(trial.evaluation, folder, 0.0)


def test_trials_that_share_a_result_keep_a_run_of_their_own(tmp_path):
    records = opened(tmp_path)
    assert records.plan.trials[0].key == records.plan.trials[1].key
    finish(records.store, records.plan.trials[0])
    for index, ending in enumerate(records.endings):
        ending.mlflow_run_id = f"run {index}"
        records.end(index, "done")
    records.save()  # as at the end of a run: in its middle endings are written now and then
    again = opened(tmp_path)
    assert [ending.mlflow_run_id for ending in again.endings] == ["run 0", "run 1"]
    assert [ending.status for ending in again.endings] == ["done", "done"]


def test_how_a_trial_failed_is_remembered_until_it_is_run_again(tmp_path):
    opened(tmp_path).end(1, "failed", "teacher: loss is nan")
    read = Records(plan(), Store(tmp_path))
    read.read_endings()
    assert [(e.status, e.error) for e in read.endings] == [("waiting", ""), ("failed", "teacher: loss is nan")]
    assert [(e.status, e.error) for e in opened(tmp_path).endings] == [("waiting", "")] * 2


def test_a_damaged_record_is_no_obstacle_since_the_store_knows_what_is_done(tmp_path):
    records = opened(tmp_path)
    records.save()
    finish(records.store, records.plan.trials[0])
    for damage in ("", "[", "[3]", '{"a": 1}', '[{"key": "x"}]', '[{"status": "done"}]'):
        (records.folder / "trials.json").write_text(damage)
        assert [ending.status for ending in opened(tmp_path).endings] == ["done", "done"]

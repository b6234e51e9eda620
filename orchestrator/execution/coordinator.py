"""What Ray Tune runs: a coordinator for each trial, which reserves almost no resources, and a
callback that records how trials ended."""

from collections.abc import Callable
from typing import Any

from ray import tune

from orchestrator.cluster import resources
from orchestrator.cluster.placement_groups import OrphanedGroups
from orchestrator.execution import early_stopping
from orchestrator.execution.searcher import Budget, read_trial
from orchestrator.execution.stage_runner import (
    ReferenceFailedError,
    Run,
    StageFailedError,
    TrialStoppedError,
    complete_trial,
)
from orchestrator.execution.steering import BY_REQUEST, Steering
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status


def coordinate(config: dict[str, Any], run: Run) -> None:
    """A Tune trial: complete the stages of one trial. It reserves no CPU or GPU; the tasks and
    worker groups that it starts do."""
    trial, leader = read_trial(run, config["trial"], config["sha256"])
    try:
        if early_stopping.has_early_stopping(run.config):
            early_stopping.complete_with_reports(trial, run, leader)
        else:
            complete_trial(trial, run, leader)
    except ReferenceFailedError as e:
        tune.report({"status": Status.FAILED, "error": str(e), "reference": e.key})
    except TrialStoppedError:
        tune.report({"status": Status.CANCELLED, "error": BY_REQUEST})
    except (StageFailedError, OSError) as e:
        tune.report({"status": Status.FAILED, "error": str(e)})
    else:
        tune.report({"status": Status.DONE, "error": ""})


class OutcomeCallback(tune.Callback):
    """Records in the driver which trials have begun and how each ended, adds their time to the
    budget, and calls `publish_soon` after each. It also carries out requests, and removes the
    placement groups of killed coordinators."""

    def __init__(
        self,
        records: Records,
        budget: Budget,
        steering: Steering,
        publish_soon: Callable[[], None],
    ) -> None:
        self.records = records
        self.steering = steering
        self.budget = budget
        self.publish_soon = publish_soon
        self.orphaned_groups = OrphanedGroups()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for Tuner.restore, which this project does not use

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Called after each turn of Tune's event loop."""
        self.steering.apply()
        if self.orphaned_groups.check():
            self.records.shortage = resources.shortage(self.records.plan.experiment)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A coordinator has started."""
        self.records.started.add(trial.config["trial"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A coordinator returned and reported how its trial ended, or Tune stopped it early."""
        result, index = trial.last_result or {}, trial.config["trial"]
        if reason := early_stopping.early_stop_reason(result):
            self.records.end(index, Status.STOPPED, reason)
        else:
            status = result.get("status", Status.FAILED)
            self.records.end(index, status, result.get("error", "its coordinator reported nothing"))
        if result.get("reference"):
            self.records.fail_measured_by(result["reference"], result["error"])
        self.budget.count(self.records.plan.trials[index])
        self.publish_soon()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A coordinator died, or raised an unexpected error."""
        traceback = str(trial.get_error() or "").splitlines()
        lines = [line for line in traceback if line.strip() and not line.startswith(" ")]
        error = lines[-1] if lines else "its coordinator died"
        self.records.end(trial.config["trial"], Status.FAILED, error)
        self.publish_soon()

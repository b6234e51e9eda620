"""What Ray Tune runs: trials as coordinators that hold next to nothing, and a callback that notes
how they ended."""

from collections.abc import Callable
from typing import Any

from ray import tune

from orchestrator.cluster import resources
from orchestrator.cluster.placement_groups import OrphanedGroups
from orchestrator.execution import early_stopping
from orchestrator.execution.fulfil import ReferenceFailedError, Run, StageFailedError, complete
from orchestrator.execution.proposals import Budget, read_trial
from orchestrator.sweeps.records import Records
from orchestrator.sweeps.status import Status


def coordinate(config: dict[str, Any], run: Run) -> None:
    """A Tune trial: complete one trial's stages. It holds no CPU or GPU; the stages that it starts
    do."""
    trial, leader = read_trial(run, config["trial"], config["sha256"])
    try:
        if early_stopping.stops_early(run.config):
            early_stopping.complete_reporting(trial, run, leader)
        else:
            complete(trial, run, leader)
    except ReferenceFailedError as e:
        tune.report(
            {
                "status": Status.FAILED,
                "error": str(e),
                "reference": trial.reference and trial.reference.key,
            }
        )
    except (StageFailedError, OSError) as e:
        tune.report({"status": Status.FAILED, "error": str(e)})
    else:
        tune.report({"status": Status.DONE, "error": ""})


class Noting(tune.Callback):
    """Notes in the driver's records which trials began and how each ended, counts it, and calls
    `wake` to have it published; and frees what those that were killed had reserved."""

    def __init__(self, records: Records, budget: Budget, wake: Callable[[], None]) -> None:
        self.records = records
        self.budget = budget
        self.wake = wake
        self.reservations = OrphanedGroups()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore, which this project does without

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tune has looked round once more."""
        if self.reservations.check():
            self.records.lacking = resources.shortage(self.records.plan.experiment)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A coordinator is at work."""
        self.records.begun.add(trial.config["trial"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A coordinator returned, and said itself how its trial ended; or it was stopped early."""
        result, index = trial.last_result or {}, trial.config["trial"]
        if stopped := early_stopping.ends_early(result):
            self.records.end(index, Status.STOPPED, stopped)
        else:
            self.records.end(
                index, result.get("status", Status.FAILED), result.get("error", "no result")
            )
        if result.get("reference"):
            self.records.give_up(result["reference"], result["error"])
        self.budget.count(self.records.plan.trials[index])
        self.wake()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A coordinator died, or raised what it should not have."""
        said = str(trial.get_error() or "").splitlines()
        lines = [line for line in said if line.strip() and not line.startswith(" ")]
        self.records.end(
            trial.config["trial"], Status.FAILED, lines[-1] if lines else "its coordinator died"
        )
        self.wake()

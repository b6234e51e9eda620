"""What Ray Tune runs: trials as coordinators that hold next to nothing, and a callback that notes how they ended."""

from collections.abc import Callable
from typing import Any

from ray import tune

from orchestrator.plan import Trial
from orchestrator.records import Records
from orchestrator.stages import Run, StageFailedError, complete


def coordinate(config: dict[str, Any], run: Run, trials: dict[int, Trial], leaders: set[int]) -> None:
    """A Tune trial: complete one trial's stages. It holds no CPU or GPU; the stages that it starts do."""
    try:
        complete(trials[config["trial"]], run, config["trial"] in leaders)
    except (StageFailedError, OSError) as e:
        tune.report({"status": "failed", "error": str(e)})
    else:
        tune.report({"status": "done", "error": ""})


class Noting(tune.Callback):
    """Notes in the driver's records how each trial ended, and calls `wake` to have it published."""

    def __init__(self, records: Records, wake: Callable[[], None]) -> None:
        self.records, self.wake = records, wake

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore, which this project does without

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A coordinator returned; it says itself how its trial ended."""
        result = trial.last_result or {}
        self.records.end(trial.config["trial"], result.get("status", "failed"), result.get("error", "no result"))
        self.wake()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A coordinator died, or raised what it should not have."""
        said = str(trial.get_error() or "").splitlines()
        lines = [line for line in said if line.strip() and not line.startswith(" ")]
        self.records.end(trial.config["trial"], "failed", lines[-1] if lines else "its coordinator died")
        self.wake()

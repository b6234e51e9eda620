"""Early stopping: a trial reports its teacher's FIDs to Ray Tune, whose ASHA scheduler stops the
worst trials.

A stopped trial releases its stages and keeps their checkpoints: another trial or another sweep that
needs them resumes from there."""

import threading
from typing import Any

from orchestrator.execution.stage_runner import POLL_SECONDS, Run, complete_trial
from orchestrator.plan.plan import Plan, Trial
from orchestrator.settings.experiment import Experiment
from orchestrator.store.store import Store
from orchestrator.sweeps.teacher_fids import FID_WHILE_TRAINING, STD_WHILE_TRAINING, fids


def scheduler(plan: Plan) -> Any:
    """Ray Tune's scheduler for early stopping, see `SuccessiveHalving`; None where the sweep has
    none."""
    sweep, every = plan.experiment.sweep, plan.experiment.evaluation.every
    if sweep is None or sweep.scheduler == "none":
        return None
    assert every is not None, "refused by a rule"
    longest = max((t.chain[0].steps for t in plan.trials), default=plan.experiment.teacher.steps)
    from orchestrator.execution.successive_halving import SuccessiveHalving

    return SuccessiveHalving(sweep.grace_steps or every, longest, sweep.reduction_factor)


def complete_with_reports(trial: Trial, run: Run, leader: bool) -> None:
    """`complete_trial`, and meanwhile report the teacher's FIDs to Ray Tune. Tune stops the trial
    by SystemExit, raised in `tune.report`. Raises what `complete_trial` raises, also
    TrialStoppedError where the driver's orders end it."""
    from ray import tune

    stop = run.stop_request(trial)
    store = Store(run.storage)
    errors: list[Exception] = []

    def work() -> None:
        try:
            complete_trial(trial, run, leader, stop)
        except Exception as e:
            errors.append(e)

    thread = threading.Thread(target=work, daemon=True, name=f"trial-{trial.index}")
    thread.start()
    reported = 0
    try:
        over = False
        while not over:
            thread.join(POLL_SECONDS * store.root.poll_factor)
            over = not thread.is_alive()
            scores = fids(store, trial.chain[0].key)
            for score in scores[reported:]:
                report = {"step": score["step"], FID_WHILE_TRAINING: score["fid"]}
                tune.report(report | {STD_WHILE_TRAINING: score.get("std", 0.0)})
            reported = len(scores)
    except SystemExit:
        stop.request()
        raise
    if errors:
        raise errors[0]


def early_stop_reason(result: dict[str, Any]) -> str:
    """Why a trial whose last report is `result` was stopped early, as a message; empty where it was
    not."""
    if "status" in result or FID_WHILE_TRAINING not in result:
        return ""
    return f"its teacher's FID was {result[FID_WHILE_TRAINING]:.4g} after {result['step']} steps"


def has_early_stopping(experiment: Experiment) -> bool:
    """Whether the sweep has a scheduler that may stop trials early."""
    return experiment.sweep is not None and experiment.sweep.scheduler != "none"

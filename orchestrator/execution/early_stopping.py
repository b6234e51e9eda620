"""Early stopping: a trial reports the FIDs of its teacher and of its student during their training to
Ray Tune, whose ASHA scheduler stops the worst trials.

A stopped trial releases its stages and keeps their checkpoints: another trial or another sweep that
needs them resumes from there."""

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.execution.stage_runner import POLL_SECONDS, Run, complete_trial
from orchestrator.plan.plan import Plan, Trial
from orchestrator.plan.stage import Stage
from orchestrator.settings.experiment import Experiment
from orchestrator.store.store import Store
from orchestrator.sweeps.measured import count_text
from orchestrator.sweeps.training_fids import (
    FID_WHILE_TRAINING,
    NETWORK,
    STD_WHILE_TRAINING,
    fids,
)

TEACHER, STUDENT = "teacher", "student"
TEACHERS_FID = "teachers_fid"


def scheduler(plan: Plan) -> Any:
    """Ray Tune's scheduler for early stopping, see `SuccessiveHalving`; None where the sweep has
    none."""
    sweep, evaluation = plan.experiment.sweep, plan.experiment.evaluation
    if sweep is None or sweep.scheduler == "none":
        return None
    from orchestrator.execution.successive_halving import SuccessiveHalving

    # what is not looked at reports nothing
    looks = {TEACHER: evaluation.every or 1, STUDENT: evaluation.every_student or 1}
    grace = {name: sweep.grace_steps or every for name, every in looks.items()}
    return SuccessiveHalving(grace, sweep.reduction_factor)


def watched(trial: Trial) -> dict[str, Stage]:
    """The trainings of a trial by which it may be stopped, by the name of the networks with which
    each compares: its teacher, and the student that it samples."""
    networks = {TEACHER: trial.chain[0]}
    if trial.config.sampling.model == "student":
        networks[f"{STUDENT} of {count_text(trial.config.sampling.steps)}"] = trial.chain[-1]
    return networks


def complete_with_reports(trial: Trial, run: Run, leader: bool) -> None:
    """`complete_trial`, and meanwhile report the FIDs of its networks to Ray Tune. Tune stops the trial
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
    reported: dict[str, int] = defaultdict(int)
    try:
        over = False
        while not over:
            thread.join(POLL_SECONDS * store.root.poll_factor)
            over = not thread.is_alive()
            for name, stage in watched(trial).items():
                scores = fids(store, stage.key)
                for score in scores[reported[name] :]:
                    tune.report(_report(name, score, fids(store, trial.chain[0].key)))
                reported[name] = len(scores)
    except SystemExit:
        stop.request()
        raise
    if errors:
        raise errors[0]


def _report(
    name: str, score: Mapping[str, float], of_teacher: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """What Ray Tune learns of a look; `of_teacher`: the looks at the trial's teacher."""
    report = {
        NETWORK: name,
        "step": score["step"],
        FID_WHILE_TRAINING: score["fid"],
        STD_WHILE_TRAINING: score.get("std", 0.0),
    }
    if name != TEACHER and of_teacher:
        report[TEACHERS_FID] = of_teacher[-1]["fid"]
    return report


def early_stop_reason(result: dict[str, Any]) -> str:
    """Why a trial whose last report is `result` was stopped early, as a message; empty where it was
    not."""
    if "status" in result or FID_WHILE_TRAINING not in result:
        return ""
    fid, network = result[FID_WHILE_TRAINING], result[NETWORK].partition(" ")[0]
    reason = f"its {network}'s FID was {fid:.4g} after {result['step']} steps"
    if (of_teacher := result.get(TEACHERS_FID)) is not None:
        reason += f", {fid / of_teacher:.3g} times its teacher's"
    return reason


def has_early_stopping(experiment: Experiment) -> bool:
    """Whether the sweep has a scheduler that may stop trials early."""
    return experiment.sweep is not None and experiment.sweep.scheduler != "none"

"""Early stopping: what a trial's teacher scores while it trains goes to Ray Tune, whose ASHA stops
the poor ones.

A trial that is stopped hands its stages over where they stand: their checkpoints stay, and whoever
wants them later, another trial or another sweep, goes on from there."""

import threading
from typing import Any

from orchestrator.execution.fulfil import POLL_SECONDS, HaltedError, Run, complete
from orchestrator.plan.plan import Plan, Trial
from orchestrator.settings.experiment import Experiment
from orchestrator.store.leases import Halt
from orchestrator.store.store import Store
from orchestrator.sweeps.teacher_fids import FID_WHILE_TRAINING, fids


def scheduler(plan: Plan) -> Any:
    """What stops poor trials early, of Ray Tune; None where nothing does.

    Asynchronous successive halving (Li et al. 2018): after `grace_steps` teacher steps, and then
    each time after `reduction_factor` as many, a trial goes on if it is among the best one in
    `reduction_factor` that came so far."""
    from ray.tune.schedulers import ASHAScheduler

    sweep, every = plan.experiment.sweep, plan.experiment.evaluation.every
    if sweep is None or sweep.scheduler == "none":
        return None
    assert every is not None, "refused by a rule"
    longest = max((t.chain[0].steps for t in plan.trials), default=plan.experiment.teacher.steps)
    return ASHAScheduler(
        time_attr="step",
        metric=FID_WHILE_TRAINING,
        mode="min",
        max_t=longest,
        grace_period=sweep.grace_steps or every,
        reduction_factor=sweep.reduction_factor,
        # with its last step a teacher's work is done, and its trial's goes on
        stop_last_trials=False,
    )


def complete_reporting(trial: Trial, run: Run, leader: bool) -> None:
    """`complete` a trial, telling Ray Tune what its teacher scores; where Tune wants no more, that
    ends this function as it ends any that it runs, with SystemExit. Raises what `complete`
    raises."""
    from ray import tune

    halt = Halt()
    store = Store(run.storage)
    raised = []

    def work() -> None:
        try:
            complete(trial, run, leader, halt)
        except HaltedError:
            pass
        except Exception as e:
            raised.append(e)

    thread = threading.Thread(target=work, daemon=True, name=f"trial-{trial.index}")
    thread.start()
    told = 0
    try:
        over = False
        while not over:
            thread.join(POLL_SECONDS * store.root.pace)
            over = not thread.is_alive()
            scores = fids(store, trial)
            for score in scores[told:]:
                tune.report({"step": score["step"], FID_WHILE_TRAINING: score["fid"]})
            told = len(scores)
    except SystemExit:
        halt.ask()
        raise
    if raised:
        raise raised[0]


def ends_early(result: dict[str, Any]) -> str:
    """Why a trial whose last report is `result` was stopped, in words; empty where it was not."""
    if "status" in result or FID_WHILE_TRAINING not in result:
        return ""
    return f"its teacher's FID was {result[FID_WHILE_TRAINING]:.4g} after {result['step']} steps"


def stops_early(experiment: Experiment) -> bool:
    """Whether trials may be stopped before their end."""
    return experiment.sweep is not None and experiment.sweep.scheduler != "none"

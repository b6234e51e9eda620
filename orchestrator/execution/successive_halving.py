"""Asynchronous successive halving that knows how far a FID of few images wanders: a trial is stopped
only where it is worse than the cutoff beyond that noise."""

import math
from collections.abc import Mapping
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from orchestrator.sweeps.teacher_fids import FID_WHILE_TRAINING, STD_WHILE_TRAINING

NOISE = 1.64  # standard deviations of the difference: 95 %, one-sided


class Rung:
    """The FIDs of the trials that have been trained for at least `steps`, with their standard
    deviations."""

    def __init__(self, steps: float) -> None:
        self.steps = steps
        self.fids: dict[str, tuple[float, float]] = {}

    def cutoff(self, reduction_factor: float) -> tuple[float, float] | None:
        """The worst of the best 1/`reduction_factor` of all FIDs so far, at least one, with its
        standard deviation; None where there are none."""
        if not self.fids:
            return None
        ranked = sorted(self.fids.values())
        return ranked[max(1, math.ceil(len(ranked) / reduction_factor)) - 1]


class SuccessiveHalving(FIFOScheduler):
    """Asynchronous successive halving (ASHA, Li et al. 2018, arXiv 1810.05934), by FID while
    training.

    After `grace_steps` teacher steps, and again each time the number of steps has grown by
    `reduction_factor`, a trial goes on if its FID is among the best 1/`reduction_factor` of the
    trials that have come so far, or cannot be told from the worst of these: the difference is within
    NOISE standard deviations, those of resampled images of both."""

    def __init__(self, grace_steps: int, longest: int, reduction_factor: float) -> None:
        super().__init__()
        self._factor = reduction_factor
        count = int(math.log(max(longest / grace_steps, 1)) / math.log(reduction_factor) + 1e-9) + 1
        # the highest first
        self._rungs = [Rung(grace_steps * reduction_factor**k) for k in reversed(range(count))]

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """Ray Tune's question after each look at a teacher: whether its trial goes on."""
        if "step" not in result or FID_WHILE_TRAINING not in result:
            return str(TrialScheduler.CONTINUE)
        fid, std = float(result[FID_WHILE_TRAINING]), float(result.get(STD_WHILE_TRAINING, 0.0))
        stop = self.worse(trial.trial_id, int(result["step"]), fid, std)
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def worse(self, name: str, step: int, fid: float, std: float) -> bool:
        """Whether the trial `name`, with this FID after `step` steps, is to be stopped. It is counted
        at the highest rung that it has come to."""
        for rung in self._rungs:
            if step < rung.steps:
                continue
            if name in rung.fids:  # it was decided before
                return False
            cutoff = rung.cutoff(self._factor)
            rung.fids[name] = (fid, std)
            if cutoff is None:
                return False
            value, spread = cutoff
            return not math.isfinite(fid) or fid - value > NOISE * math.hypot(std, spread)
        return False

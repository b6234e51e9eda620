"""Asynchronous successive halving (ASHA) that knows how noisy a FID of few images is: a trial is stopped
only where it is worse than the cutoff beyond that noise."""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from orchestrator.sweeps.training_fids import FID_WHILE_TRAINING, NETWORK, STD_WHILE_TRAINING

NOISE = 1.64  # standard deviations of the difference: 95 %, one-sided


class Rung:
    """The FIDs of the trials that have come to a rung, with their standard deviations."""

    def __init__(self) -> None:
        self.fids: dict[str, tuple[float, float]] = {}

    def cutoff(self, reduction_factor: float) -> tuple[float, float] | None:
        """The worst of the best 1/`reduction_factor` of all FIDs so far, at least one, with its
        standard deviation; None where there are none."""
        if not self.fids:
            return None
        ranked = sorted(self.fids.values())
        return ranked[max(1, math.ceil(len(ranked) / reduction_factor)) - 1]


class Rungs:
    """The rungs of networks that compare: teachers, or students with as many sampling steps.

    After `grace_steps` training steps, and again each time their number has grown by
    `reduction_factor`, a trial continues if its FID is among the best 1/`reduction_factor` of the
    trials that have come so far, or cannot be told from the worst of these: the difference is within
    NOISE standard deviations, those of resampled images of both."""

    def __init__(self, grace_steps: int, reduction_factor: int) -> None:
        self._grace, self._factor = grace_steps, reduction_factor
        self._rungs: dict[int, Rung] = defaultdict(Rung)

    def worse(self, name: str, step: int, fid: float, std: float) -> bool:
        """Whether the trial `name`, with this FID after `step` steps, is to be stopped. It is counted
        at the highest rung that it has come to."""
        if step < self._grace:
            return False
        number = 0
        while step >= self._grace * self._factor ** (number + 1):
            number += 1
        rung = self._rungs[number]
        if name in rung.fids:  # it was decided before
            return False
        cutoff = rung.cutoff(self._factor)
        rung.fids[name] = (fid, std)
        if cutoff is None:
            return False
        value, spread = cutoff
        return not math.isfinite(fid) or fid - value > NOISE * math.hypot(std, spread)


class SuccessiveHalving(FIFOScheduler):
    """Asynchronous successive halving (ASHA, Li et al. 2018, arXiv 1810.05934), by FID while
    training. `grace_steps`: those of teachers and of students."""

    def __init__(self, grace_steps: Mapping[str, int], reduction_factor: int) -> None:
        super().__init__()
        self._grace, self._factor = grace_steps, reduction_factor
        self._rungs: dict[str, Rungs] = {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """Ray Tune's question after each look at a network: whether its trial continues."""
        if FID_WHILE_TRAINING not in result:
            return str(TrialScheduler.CONTINUE)
        name = str(result[NETWORK])
        if name not in self._rungs:
            self._rungs[name] = Rungs(self._grace[name.partition(" ")[0]], self._factor)
        fid, std = float(result[FID_WHILE_TRAINING]), float(result[STD_WHILE_TRAINING])
        stop = self._rungs[name].worse(trial.trial_id, int(result["step"]), fid, std)
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

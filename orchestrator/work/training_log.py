"""What rank 0 writes while a stage trains: checkpoints, the loss curve, progress for whoever
watches, the result."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from kaccore.checkpoint import load_checkpoint, save_checkpoint, write_tensors
from kaccore.files import CorruptFileError, write_json
from kaccore.progress import listening
from kaccore.training import Training
from orchestrator.plan.stage import Stage
from orchestrator.store import layout, notices
from orchestrator.store.layout import FIDS
from orchestrator.store.leases import LeaseLostError, newest
from orchestrator.store.place import Place
from orchestrator.store.store import Store
from orchestrator.work.job import Saving
from orchestrator.work.machine_use import SystemUse

LOSS_POINTS = 200  # a loss curve has about this many points
PROGRESS_SECONDS = 0.5


class TrainingLog:
    """Follows one training stage; `lease` is the number of the lease under which it is run."""

    def __init__(
        self, stage: Stage, store: Store, training: Training, saving: Saving, lease: int
    ) -> None:
        self.stage = stage
        self.store = store
        self.training = training
        self.saving = saving
        self.lease = lease
        self.folder = store.work(stage.key)
        self.checkpoints = self.folder / layout.CHECKPOINTS
        self.losses: list[dict[str, float]] = []
        self.fids: list[dict[str, float]] = []
        self.system = SystemUse(next(training.model.parameters()).device)
        self.every = max(1, stage.steps // LOSS_POINTS)
        # sums of losses and their counts; on a GPU the sums are tensors, which is waited for when
        # they are written
        self.pending, self.since_saved = [0.0, 0], [0.0, 0]
        self.seconds_before, self.started = 0.0, time.monotonic()
        self.first_step = 0
        self.saved = time.monotonic()
        self.told = 0.0

    @property
    def seconds(self) -> float:
        """Seconds spent on this stage, those before an interruption included."""
        return self.seconds_before + time.monotonic() - self.started

    def resume(self) -> None:
        """Continue from the newest whole checkpoint, a damaged one being set aside; where there is
        none, from the end of the longest finished stage that differs in nothing but its fewer
        steps."""
        for described in (*reversed(self.checkpoints.find("step-*.json")), *self._shorter()):
            try:
                tensors, numbers = _load(described)
            except CorruptFileError as e:
                self._pass_over(described, e)
                continue
            self.training.restore(tensors, numbers)
            self.losses, self.pending = numbers["losses"], numbers["pending"]
            self.fids = numbers.get("fids", [])  # of an earlier version none
            self.seconds_before = numbers["seconds"]
            self.first_step = self.training.step
            if "system" in numbers:  # a checkpoint of an earlier version has none
                self.system.restore(numbers["system"])
            return

    def _pass_over(self, described: Place, error: CorruptFileError) -> None:
        """Set a damaged checkpoint aside; what belongs to another stage's result stays as it is."""
        if described.parent != self.checkpoints:
            self.store.warn(
                self.stage, f"cannot go on from a shorter training, whose end is damaged: {error}"
            )
            return
        self.store.warn(self.stage, f"set aside a damaged checkpoint: {error}")
        with suppress(FileNotFoundError):  # another worker of the group was faster
            described.set_aside(".damaged")

    def after(self, step: int, metrics: dict[str, Any], fid: float | None = None) -> None:
        """Note one step, and the network's FID where it was measured; raises LeaseLostError where
        another process has taken the stage over."""
        now = time.monotonic()
        for sums in (self.pending, self.since_saved):
            sums[0], sums[1] = sums[0] + metrics["loss"], sums[1] + 1
        if step % self.every == 0 or step == self.stage.steps:
            self.losses.append(
                {
                    "step": step,
                    "loss": float(self.pending[0] / self.pending[1]),
                    "lr": metrics["lr"],
                }
            )
            self.pending = [0.0, 0]
        self.system.after(step, self.seconds)
        if now - self.told > PROGRESS_SECONDS * self.folder.poll_factor:
            if newest(self.folder) > self.lease:
                raise LeaseLostError(f"{self.folder}: taken over by another process")
            self.told = now
            self._tell(step, now)
        if fid is not None:
            self.fids.append({"step": step, "fid": fid})
        # who is stopped for a poor FID has been saved with it
        due = (
            fid is not None
            or step % self.saving.steps == 0
            or now - self.saved > 60 * self.saving.minutes
        )
        if due and step < self.stage.steps:
            with self.checkpoints.staged() as folder:
                self._save(folder)
            self._prune()
            self.saved = time.monotonic()
        if fid is not None:
            (self.folder / FIDS).put_json(self.fids)

    def publish(self, data: dict[str, int] | None = None) -> None:
        """Put the averaged weights, the loss curve and what the machine was used for into the
        store, with the best checkpoint's averaged weights where that is not the last, and the whole
        state where a longer training can go on from it. `data`: the sizes of the data that was
        trained on."""
        self.system.sample(self.stage.steps, self.seconds)  # the shortest training has one
        gathered = self.store.gather(self.stage)
        write_tensors(
            gathered / layout.NETWORK, sampled(dict(self.training.ema.model.state_dict()))
        )
        write_json(gathered / layout.LOSSES, self.losses)
        write_json(gathered / layout.SYSTEM, self.system.points)
        if self.fids:
            write_json(gathered / FIDS, self.fids)
        self._keep_best(gathered)
        if self.stage.family is not None:
            self._save(gathered)
            self.store.note_family(self.stage)
        self.store.publish(self.stage, gathered, self.seconds, data)

    def _shorter(self) -> list[Place]:
        """The final states of the finished stages of this one's family with fewer steps, the
        longest first."""
        found = []
        for steps, key in reversed(self.store.family(self.stage)):
            if steps < self.stage.steps:
                result, name = self.store.result(key), f"step-{steps:08d}.json"
                try:
                    found += [result.file(name)] if result.has(name) else []
                except CorruptFileError as e:  # its manifest's: no fault of this stage
                    self.store.warn(
                        self.stage,
                        f"cannot go on from a shorter training, whose end is damaged: {e}",
                    )
        return found

    def _save(self, folder: Path) -> None:
        tensors, numbers = self.training.state()
        loss = float(self.since_saved[0] / self.since_saved[1]) if self.since_saved[1] else None
        pending = [float(number) for number in self.pending]
        noted = {"losses": self.losses, "pending": pending, "seconds": self.seconds, "loss": loss}
        save_checkpoint(
            folder, tensors, {**numbers, **noted, "fids": self.fids, "system": self.system.state()}
        )
        self.since_saved = [0.0, 0]

    def _best(self) -> tuple[float, Place] | None:
        """The checkpoint before which the mean loss was lowest, and that loss."""
        found = []
        for described in self.checkpoints.find("step-*.json"):
            try:
                found.append((float(json.loads(described.read_text())["loss"]), described))
            except (OSError, ValueError, TypeError, KeyError):
                continue  # it is found to be damaged when it is needed
        return min(found, default=None)

    def _keep_best(self, gathered: Path) -> None:
        best = self._best()
        if (
            best is None
            or not self.since_saved[1]
            or best[0] >= self.since_saved[0] / self.since_saved[1]
        ):
            return  # the last is the best
        try:
            state, _ = _load(best[1])
        except CorruptFileError as e:
            self.store.warn(self.stage, f"the best checkpoint is damaged and not kept: {e}")
            return
        averaged = {k.removeprefix("ema."): v for k, v in state.items() if k.startswith("ema.")}
        write_tensors(gathered / layout.BEST_NETWORK, sampled(averaged))

    def _prune(self) -> None:
        best = self._best()
        for old in self.checkpoints.find("step-*.json")[: -self.saving.keep]:
            if best is None or old != best[1]:
                old.unlink()
                old.with_suffix(".safetensors").unlink(missing_ok=True)

    def _tell(self, step: int, now: float) -> None:
        rate = (step - self.first_step) / max(now - self.started, 1e-9)
        progress = {
            "step": step,
            "steps": self.stage.steps,
            "loss": self.losses[-1]["loss"] if self.losses else None,
            "fid": self.fids[-1]["fid"] if self.fids else None,
            "images_per_second": rate * self.stage.training_spec.optimise.batch_size,
            "seconds": self.seconds,
            "seconds_left": (self.stage.steps - step) / rate if rate else None,
        }
        tell(self.folder, progress)


def _load(described: Place) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The checkpoint whose JSON is `described`; raises CorruptFileError where it is damaged."""
    with described.parent.fetched(
        described.name, described.with_suffix(".safetensors").name
    ) as folder:
        try:
            return load_checkpoint(folder / described.name)
        except CorruptFileError as e:  # where it lies, and not where this process has a copy of it
            raise CorruptFileError(str(e).replace(str(folder), str(described.parent))) from None


def sampled(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the network that is sampled: of a pair that learns together the
    generator's."""
    pair = {
        k.removeprefix("generator."): v for k, v in weights.items() if k.startswith("generator.")
    }
    return pair or weights


def tell(folder: Place, progress: dict[str, Any]) -> None:
    """Leave `progress` in a work folder, for views: what `TrainingLog` tells, or a text as `doing`
    where no step is taken yet. Never an error."""
    with suppress(OSError):  # a view that lags is better than a training that stops
        (folder / layout.PROGRESS).put_fast(json.dumps(progress).encode())


@contextmanager
def reporting(store: Store, stage: Stage) -> Iterator[None]:
    """While the context is open, warnings of this project's code are kept in the store as warnings
    about `stage`, and what kaccore says of work that takes minutes, such as decoding images, is
    left as the stage's progress."""
    folder = store.work(stage.key)
    with notices.captured(store.root, stage), listening(lambda text: tell(folder, {"doing": text})):
        yield

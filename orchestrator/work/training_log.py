"""The files that rank 0 writes while a stage trains: checkpoints, the loss curve, progress for views,
the result."""

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from torch import Tensor

from kaccore.checkpoint import load_checkpoint, save_checkpoint, write_tensors
from kaccore.files import CorruptFileError, write_bytes, write_json
from kaccore.progress import listening
from kaccore.training import Training
from orchestrator.fields import plugins
from orchestrator.plan.stage import Stage
from orchestrator.store import layout, notices
from orchestrator.store.layout import FIDS
from orchestrator.store.leases import Lease, LeaseLostError, newest
from orchestrator.store.place import Place
from orchestrator.store.run_requests import Orders
from orchestrator.store.store import Store
from orchestrator.work.job import Saving
from orchestrator.work.machine_use import SystemUse

LOSS_POINTS = 200  # a loss curve has about this many points
PROGRESS_SECONDS = 0.5


class Look(NamedTuple):
    """The FID of a network during its training, a picture of its samples, a PNG file, and the standard
    deviation of the FID between resampled images; NaN: unknown."""

    fid: float
    picture: bytes
    std: float = math.nan


class TrainingLog:
    """The log of one training stage; `lease`: the number of its lease; `orders`: those of the run,
    which may stop it; `workers`: how many train now."""

    def __init__(
        self,
        stage: Stage,
        store: Store,
        training: Training,
        saving: Saving,
        lease: int,
        orders: Orders | None = None,
        workers: int = 1,
    ) -> None:
        self.stage = stage
        self.store = store
        self.training = training
        self.saving = saving
        self.lease = lease
        self.orders = orders
        self.workers = workers
        self.folder = store.work(stage.key)
        self.checkpoints = self.folder / layout.CHECKPOINTS
        self.losses: list[dict[str, float]] = []
        self.fids: list[dict[str, float]] = []
        self.system = SystemUse(next(training.model.parameters()).device)
        self.every = max(1, stage.steps // LOSS_POINTS)
        # sums of losses and their counts; on a GPU the sums are tensors, and only writing them
        # waits for the GPU
        self.pending = [0.0, 0]
        self.since_saved = [0.0, 0]
        self.seconds_before = 0.0
        self.worker_seconds_before = 0.0
        self.started = time.monotonic()
        self.first_step = 0
        self.saved = time.monotonic()
        self.reported = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of training of this stage, including those before an interruption."""
        return self.seconds_before + time.monotonic() - self.started

    @property
    def worker_seconds(self) -> float:
        """`seconds` times workers, of which a resumed training may have had others."""
        now = self.workers * (time.monotonic() - self.started)
        return self.worker_seconds_before + now

    def resume(self) -> None:
        """Resume from the newest valid checkpoint; a damaged one is set aside. If there is none,
        resume from the end of the longest finished stage that differs only in having fewer steps."""
        for described in (*reversed(self.checkpoints.find("step-*.json")), *self._shorter()):
            try:
                tensors, numbers = _load(described)
            except CorruptFileError as e:
                self._pass_over(described, e)
                continue
            self.training.restore(tensors, numbers)
            self.losses, self.pending = numbers["losses"], numbers["pending"]
            self.fids = numbers.get("fids", [])  # earlier versions wrote none
            self.seconds_before = numbers["seconds"]
            before = numbers.get("worker_seconds", self.workers * self.seconds_before)
            self.worker_seconds_before = before  # earlier versions wrote none
            self.first_step = self.training.step
            if described.parent != self.checkpoints:  # the looks at the shorter training
                for picture in described.parent.find(layout.LOOKS):
                    (self.folder / picture.name).put(picture.read_bytes())
            if "system" in numbers:  # earlier versions wrote none
                self.system.restore(numbers["system"])
            return

    def _pass_over(self, described: Place, error: CorruptFileError) -> None:
        """Set a damaged checkpoint aside; the result of another stage stays unchanged."""
        if described.parent != self.checkpoints:
            self._warn_of_shorter(error)
            return
        self.store.warn(self.stage, f"set aside a damaged checkpoint: {error}")
        with suppress(FileNotFoundError):  # another worker of the group was faster
            described.set_aside(".damaged")

    def _warn_of_shorter(self, error: CorruptFileError) -> None:
        message = f"cannot resume from a shorter training, whose end is damaged: {error}"
        self.store.warn(self.stage, message)

    def after(self, step: int, metrics: dict[str, Any], look: Look | None = None) -> None:
        """Log one step, and the `look` at the network if there was one; raises LeaseLostError if another
        process has taken over the stage, or if an order stops it, then after a checkpoint."""
        now, stopped = time.monotonic(), False
        self._add_loss(step, metrics)
        self.system.after(step, self.seconds)
        if now - self.reported > PROGRESS_SECONDS * self.folder.poll_factor:
            if newest(self.folder) > self.lease:
                raise LeaseLostError(f"{self.folder}: taken over by another process")
            stopped = self.orders is not None and self.orders.stops(self.stage.key)
            self.reported = now
            self._report(step, now)
        if look is not None:
            spread = {} if math.isnan(look.std) else {"std": look.std}
            self.fids.append({"step": step, "fid": look.fid, **spread})
            (self.folder / layout.look(step)).put(look.picture)
        if (stopped or self._checkpoint_due(step, now, look)) and step < self.stage.steps:
            with self.checkpoints.staged() as folder:
                self._save(folder)
            self._prune()
            self.saved = time.monotonic()
        if look is not None:
            (self.folder / FIDS).put_json(self.fids)
        if stopped and step < self.stage.steps:
            leave(self.folder, self.lease)

    def _add_loss(self, step: int, metrics: dict[str, Any]) -> None:
        for sums in (self.pending, self.since_saved):
            sums[0] = sums[0] + metrics["loss"]
            sums[1] += 1
        if step % self.every == 0 or step == self.stage.steps:
            loss = float(self.pending[0] / self.pending[1])
            self.losses.append({"step": step, "loss": loss, "lr": metrics["lr"]})
            self.pending = [0.0, 0]

    def _checkpoint_due(self, step: int, now: float, look: Look | None) -> bool:
        if look is not None:  # a trial that is stopped for a poor FID has a checkpoint with it
            return True
        if step % self.saving.steps == 0:
            return True
        return now - self.saved > 60 * self.saving.minutes

    def publish(
        self,
        networks: Mapping[str, Mapping[str, Tensor]],
        picture: bytes,
        data: dict[str, int] | None = None,
    ) -> None:
        """Publish the finished `networks`, by file, a `picture` of samples, the loss curve and the
        machine usage to the store; also the averaged weights of the best checkpoint if it is not the
        last, and the whole state if a longer training can resume from it. `data`: the sizes of the
        training data."""
        self.system.sample(self.stage.steps, self.seconds)  # even the shortest training has one
        gathered = self.store.gather(self.stage)
        for file, tensors in networks.items():
            write_tensors(gathered / file, dict(tensors))
        write_bytes(gathered / layout.FINAL_SAMPLES, picture)
        write_json(gathered / layout.LOSSES, self.losses)
        write_json(gathered / layout.SYSTEM, self.system.points)
        if self.fids:
            write_json(gathered / FIDS, self.fids)
        for look in self.folder.find(layout.LOOKS):
            write_bytes(gathered / look.name, look.read_bytes())
        self._keep_best(gathered)
        if self.stage.family is not None:
            self._save(gathered)
            self.store.note_family(self.stage)
        seconds = self.seconds
        workers = self.worker_seconds / seconds if seconds else None
        self.store.publish(self.stage, gathered, seconds, data, workers)

    def _shorter(self) -> list[Place]:
        """The final states of finished stages of the same family with fewer steps, longest first."""
        states = []
        for steps, key in reversed(self.store.family(self.stage)):
            if steps >= self.stage.steps:
                continue
            result = self.store.result(key)
            name = f"step-{steps:08d}.json"
            try:
                if result.has(name):
                    states.append(result.file(name))
            except CorruptFileError as e:  # of its manifest: not a fault of this stage
                self._warn_of_shorter(e)
        return states

    def _save(self, folder: Path) -> None:
        tensors, numbers = self.training.state()
        loss = float(self.since_saved[0] / self.since_saved[1]) if self.since_saved[1] else None
        pending = [float(number) for number in self.pending]
        log = {
            "losses": self.losses,
            "pending": pending,
            "seconds": self.seconds,
            "worker_seconds": self.worker_seconds,
            "loss": loss,
            "fids": self.fids,
            "system": self.system.state(),
        }
        save_checkpoint(folder, tensors, {**numbers, **log})
        self.since_saved = [0.0, 0]

    def _best(self) -> tuple[float, Place] | None:
        """The checkpoint with the lowest mean loss since the previous one, and that loss."""
        losses = []
        for described in self.checkpoints.find("step-*.json"):
            try:
                losses.append((float(json.loads(described.read_text())["loss"]), described))
            except (OSError, ValueError, TypeError, KeyError):
                continue  # damage is reported when the checkpoint is needed
        return min(losses, default=None)

    def _keep_best(self, gathered: Path) -> None:
        best = self._best()
        if best is None or not self.since_saved[1]:
            return
        loss, described = best
        if loss >= self.since_saved[0] / self.since_saved[1]:
            return  # the last is the best
        try:
            state, _ = _load(described)
        except CorruptFileError as e:
            self.store.warn(self.stage, f"the best checkpoint is damaged and not kept: {e}")
            return
        averaged = {
            name.removeprefix("ema."): weights
            for name, weights in state.items()
            if name.startswith("ema.")
        }
        write_tensors(gathered / layout.BEST_NETWORK, sampled(averaged))

    def _prune(self) -> None:
        best = self._best()
        for old in self.checkpoints.find("step-*.json")[: -self.saving.keep]:
            if best is None or old != best[1]:
                old.unlink()
                old.with_suffix(".safetensors").unlink(missing_ok=True)

    def _report(self, step: int, now: float) -> None:
        rate = (step - self.first_step) / max(now - self.started, 1e-9)
        progress = {
            "step": step,
            "steps": self.stage.steps,
            "loss": self.losses[-1]["loss"] if self.losses else None,
            "fid": self.fids[-1]["fid"] if self.fids else None,
            "images_per_second": rate * self.stage.training_spec.optimise.batch_size,
            "workers": self.workers,
            "seconds": self.seconds,
            "seconds_left": (self.stage.steps - step) / rate if rate else None,
        }
        tell(self.folder, progress)


def leave(folder: Place, lease: int) -> NoReturn:
    """Hand over the lease of this number on a stage's work folder, as an order of the run demands;
    raises LeaseLostError, on which the worker stops."""
    Lease(folder / f"lease.{lease}").hand_over()
    raise LeaseLostError(f"{folder}: stopped by request")


def _load(described: Place) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The checkpoint whose JSON is `described`; raises CorruptFileError if it is damaged."""
    tensors = described.with_suffix(".safetensors")
    with described.parent.fetched(described.name, tensors.name) as folder:
        try:
            return load_checkpoint(folder / described.name)
        except CorruptFileError as e:  # name the original, not the local copy
            raise CorruptFileError(str(e).replace(str(folder), str(described.parent))) from None


def sampled(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the network that is sampled; of a pair of networks those of the generator."""
    generator = {
        name.removeprefix("generator."): tensor
        for name, tensor in weights.items()
        if name.startswith("generator.")
    }
    return generator or weights


def tell(folder: Place, progress: dict[str, Any]) -> None:
    """Write `progress` to a work folder, for views: the numbers of `TrainingLog`, or a text as
    `doing` before the first step. Never raises an error."""
    with suppress(OSError):  # a failure here must not stop training
        (folder / layout.PROGRESS).put_fast(json.dumps(progress).encode())


@contextmanager
def reporting(store: Store, stage: Stage) -> Iterator[None]:
    """Within the context, warnings of this project's code are stored as warnings about `stage`, and
    messages of kaccore about long work, such as decoding images, become the stage's progress. An
    error that a plugin's code raises gets a note of its line."""
    folder = store.work(stage.key)
    with notices.captured(store.root, stage), listening(lambda text: tell(folder, {"doing": text})):
        try:
            yield
        except Exception as error:
            plugins.note_origin(error)
            raise

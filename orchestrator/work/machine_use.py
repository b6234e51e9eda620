"""What a training process takes of its machine: CPU, memory and GPU, sampled while it trains."""

import time
from contextlib import suppress
from typing import Any

import psutil
import torch

EVERY_SECONDS = 10.0
POINTS = 200  # beyond, every other one is dropped, and samples are taken half as often


class SystemUse:
    """Samples of this process and of the GPU `device`, if it is one: `points`, oldest first, each
    with its `step` and the `seconds` for which the stage had been trained.

    cpu_percent    of one core, since the sample before: four busy threads are 400
    memory_mb      resident memory
    gpu_percent    of the whole device, where pynvml is installed
    gpu_memory_mb  in use on the whole device
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.every = device, EVERY_SECONDS
        self.points: list[dict[str, float]] = []
        self._process = psutil.Process()
        self._process.cpu_percent()  # from here on it counts
        self._sampled = time.monotonic()

    def after(self, step: int, seconds: float) -> None:
        """Note a step: take a sample where one is due."""
        if time.monotonic() - self._sampled >= self.every:
            self.sample(step, seconds)

    def sample(self, step: int, seconds: float) -> None:
        """Take a sample now."""
        self._sampled = time.monotonic()
        self.points.append({"step": step, "seconds": round(seconds, 3), **self._now()})
        if len(self.points) > POINTS:
            self.points, self.every = self.points[1::2], 2 * self.every

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"points": self.points, "every": self.every}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's `state`."""
        self.points, self.every = state["points"], state["every"]

    def _now(self) -> dict[str, float]:
        found = {
            "cpu_percent": self._process.cpu_percent(),
            "memory_mb": self._process.memory_info().rss / 1e6,
        }
        if self.device.type == "cuda":
            with suppress(
                Exception
            ):  # whatever a driver answers, or refuses to: no training ends over it
                free, total = torch.cuda.mem_get_info(self.device)
                found["gpu_memory_mb"] = (total - free) / 1e6
                found["gpu_percent"] = float(torch.cuda.utilization(self.device))
        return {k: round(v, 1) for k, v in found.items()}

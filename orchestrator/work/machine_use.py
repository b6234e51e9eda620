"""The CPU, memory and GPU usage of a training process, sampled while it trains."""

import time
from contextlib import suppress
from typing import Any

import psutil
import torch

EVERY_SECONDS = 10.0
POINTS = 200  # if there are more, every second one is dropped, and the interval is doubled


class SystemUse:
    """Samples of this process, and of `device` if it is a GPU: `points`, oldest first, each with its
    `step` and the `seconds` of training until then.

    cpu_percent    of one core, since the previous sample: four busy threads are 400
    memory_mb      resident memory
    gpu_percent    of the whole device, where pynvml is installed
    gpu_memory_mb  in use on the whole device
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.every = device, EVERY_SECONDS
        self.points: list[dict[str, float]] = []
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call starts the measurement
        self._sampled = time.monotonic()

    def after(self, step: int, seconds: float) -> None:
        """Take a sample if one is due after this step."""
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
        """Resume from the `state` in a checkpoint."""
        self.points, self.every = state["points"], state["every"]

    def _now(self) -> dict[str, float]:
        usage = {
            "cpu_percent": self._process.cpu_percent(),
            "memory_mb": self._process.memory_info().rss / 1e6,
        }
        if self.device.type == "cuda":
            with suppress(Exception):  # no error of a driver may end training
                free, total = torch.cuda.mem_get_info(self.device)
                usage["gpu_memory_mb"] = (total - free) / 1e6
                usage["gpu_percent"] = float(torch.cuda.utilization(self.device))
        return {name: round(value, 1) for name, value in usage.items()}

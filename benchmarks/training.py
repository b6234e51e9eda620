"""Training steps: ours against plain PyTorch, and against the time of the arithmetic alone.

Plain is the code of a tutorial: torch.optim.Adam with its defaults, the exponential moving average
parameter by parameter, gradient clipping by torch's own function. Data, path, network, batch and
draws are the same."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Measurement, in_turns, ratio, spread
from kaccore import EndpointDistiller, KacPath, KacProcess, flow_matching_loss
from kaccore.models import UNet
from kaccore.tensors import generator_for
from kaccore.training import Settings, Training

PATH = KacPath(KacProcess(25.0, 2.0), clock="quadratic")
SIDE = 1024  # of the square matrices whose product measures this machine's arithmetic
SAME = 20  # steps over which the losses are compared


@dataclass(frozen=True)
class Network:
    """A network, the shape of its images, and the batch size."""

    size: int
    image_channels: int
    batch: int
    settings: dict[str, Any] = field(default_factory=dict)

    def made(self) -> UNet:
        """The network, always with the same weights."""
        torch.manual_seed(0)
        return UNet(self.size, self.image_channels, **self.settings)


DIGITS = {"multipliers": (1,), "blocks": 1, "patch": 2, "classes": 10}
KF = {
    "channels": 128,
    "multipliers": (1, 2, 2, 2),
    "blocks": 2,
    "scale_shift": False,
    "resample": "conv",
}
NETWORKS = {
    "default": Network(8, 1, 64, {**DIGITS, "channels": 64}),
    "128 channels": Network(8, 1, 64, {**DIGITS, "channels": 128}),
    "34 M, KF": Network(32, 3, 4, {**KF, "attention_in": "adm"}),
}


def measurements() -> Iterator[Measurement]:
    """Our steps against plain ones, and against matrix products with as many operations."""
    torch.set_num_threads(1)
    product = torch.randn(2, SIDE, SIDE)
    for name in ("default", "128 channels"):
        network = NETWORKS[name]
        ours, plain = _ours(network), _plain(network)
        apart = [abs(ours() / plain() - 1) for _ in range(SAME)]
        slow, fast, known = in_turns(plain, ours, lambda: product[0] @ product[1])
        yield Measurement(
            "training", f"plain PyTorch, {name}", "ours", *ratio(slow, fast), "times", ">= 1.5"
        )
        yield Measurement(
            "training",
            f"largest difference of {SAME} losses, {name}",
            "plain's",
            *spread([max(apart)]),
        )
        floors = [seconds * operations(network) / (2 * SIDE**3) for seconds in known]
        yield Measurement(
            "training", f"a training step, {name}", "its arithmetic", *ratio(fast, floors), "times"
        )
        yield Measurement(
            "training",
            f"a training step, {name}",
            "",
            *spread([1e3 * seconds for seconds in fast]),
            "ms",
        )
        yield _student(network, name, ours)


def step_of(network: Network) -> tuple[Callable[[], object], Callable[[], object]]:
    """A training step, and only the draws in it."""
    (x0, _), t = _data(network), torch.rand(network.batch)
    return _ours(network), lambda: PATH.sample(x0, t)


def operations(network: Network) -> int:
    """Multiplications and additions of a forward and a backward pass."""
    model, (x0, labels) = network.made(), _data(network)
    with FlopCounterMode(display=False) as counter:
        flow_matching_loss(model, PATH, x0, labels, generator_for(0, "bench")).backward()
    return int(counter.get_total_flops())


def _ours(network: Network) -> Callable[[], float]:
    x0, labels = _data(network)
    training = Training(
        network.made(), Settings(steps=10**6, lr=1e-3, ema=0.999, schedule="constant")
    )
    steps = training.run(
        lambda net, step: flow_matching_loss(net, PATH, x0, labels, generator_for(0, "bench", step))
    )
    return lambda: next(steps)[1]["loss"]


def _plain(network: Network) -> Callable[[], float]:
    (x0, labels) = _data(network)
    model = network.made().train()
    done = 0
    average = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> float:
        nonlocal done
        loss = flow_matching_loss(model, PATH, x0, labels, generator_for(0, "bench", done))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=False)
        optimizer.step()
        decay = min(0.999, (1 + done) / (10 + done))
        with torch.no_grad():
            for mine, theirs in zip(average.parameters(), model.parameters(), strict=True):
                mine.mul_(decay).add_(theirs, alpha=1 - decay)
        done += 1
        return loss.item()

    return step


def _student(network: Network, name: str, teacher: Callable[[], float]) -> Measurement:
    """A step of a student of four intervals, five teacher steps in each, against the teacher's."""
    (x0, labels), frozen = _data(network), network.made().eval().requires_grad_(False)
    distiller = EndpointDistiller(frozen, PATH, intervals=4, substeps=5)
    training = Training(network.made(), Settings(steps=10**6, lr=1e-3, ema=0.999))
    steps = training.run(
        lambda net, step: distiller.loss(net, x0, labels, generator_for(0, "bench", step))
    )
    student, own = in_turns(lambda: next(steps), teacher)
    return Measurement(
        "training", f"a student's step, {name}", "a teacher's", *ratio(student, own), "times"
    )


def _data(network: Network) -> tuple[Tensor, Tensor | None]:
    generator = generator_for(0, "images")
    shape = (network.batch, network.image_channels, network.size, network.size)
    x0 = torch.rand(shape, generator=generator) * 2 - 1
    labels = None
    if network.settings.get("classes"):
        labels = torch.randint(10, (network.batch,), generator=generator)
    return x0, labels

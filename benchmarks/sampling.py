"""Sampling against as many evaluations of the network alone."""

from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.measure import Measurement, in_turns, ratio
from benchmarks.training import NETWORKS, PATH, Network
from kaccore.sampling import sample

IMAGES, STEPS = 64, 20


def measurements() -> Iterator[Measurement]:
    """Twenty Euler steps, plain and guided."""
    torch.set_num_threads(1)
    for name in ("default", "128 channels"):
        alone, plain, guided = in_turns(*_calls(NETWORKS[name]), repeats=7, warm_up=1)
        what = f"{STEPS} Euler steps, {name}"
        yield Measurement(
            "sampling", what, f"{STEPS} evaluations", *ratio(plain, alone), "times", "<= 1.03"
        )
        yield Measurement(
            "sampling",
            f"{what}, guided",
            f"{STEPS} evaluations",
            *ratio(guided, alone),
            "times",
            "<= 2.0",
        )


def _calls(
    network: Network,
) -> tuple[Callable[[], object], Callable[[], object], Callable[[], object]]:
    """The network's evaluations alone; in a solver; in a solver with guidance."""
    model = network.made().eval()
    shape = (IMAGES, network.image_channels, network.size, network.size)
    x = torch.randn(shape)
    t = torch.rand(IMAGES)
    labels = torch.zeros(IMAGES, dtype=torch.int64)

    @torch.no_grad()
    def evaluations() -> None:
        for _ in range(STEPS):
            model(x, t, labels)

    sampled = partial(sample, model, PATH, shape, steps=STEPS, seed=0, labels=labels)
    return evaluations, sampled, partial(sampled, guidance=1.5)

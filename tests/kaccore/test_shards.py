"""Several workers that share a batch are together the one that has it all, whatever is learnt."""

from collections.abc import Callable

import pytest
import torch
from distill_cases import PATHS, Field, seeded
from torch import Tensor, nn

from kaccore.distill import (
    ConsistencyDistiller,
    EndpointDistiller,
    GeneratedDistiller,
    MatchingLoss,
    ProgressiveDistiller,
    StudentAndOthers,
)
from kaccore.distill.matching import FAKE
from kaccore.losses import flow_matching_loss
from kaccore.training import shard_of

BATCH = 12
X0 = torch.randn(BATCH, 2, generator=seeded(9))
LABELS = torch.arange(BATCH) % 3


class Labelled(Field):
    """A field that each label pushes its own way."""

    def forward(
        self, x: Tensor, t: Tensor, labels: Tensor | None = None, end: Tensor | None = None
    ) -> Tensor:
        push = 0.0 if labels is None else 0.1 * labels[:, None]
        return super().forward(x, t, None, end) + push


def network(seed: int, two_times: bool = False) -> Labelled:
    torch.manual_seed(seed)
    return Labelled(two_times)


TEACHER = network(0)
CASES: dict[str, tuple[Callable[[], nn.Module], Callable[..., Tensor]]] = {
    "flow matching": (
        lambda: network(1),
        lambda model, *rest: flow_matching_loss(model, PATHS["kac"], *rest),
    ),
    "endpoint": (
        lambda: network(1),
        EndpointDistiller(TEACHER, PATHS["kac"], intervals=4, substeps=2).loss,
    ),
    "progressive": (
        lambda: network(1),
        ProgressiveDistiller(TEACHER, PATHS["kac"], intervals=4).loss,
    ),
    "consistency": (
        lambda: network(1, two_times=True),
        ConsistencyDistiller(
            TEACHER, PATHS["kac"], target_model=network(2, two_times=True), intervals=4
        ).loss,
    ),
    "matching": (
        lambda: StudentAndOthers(network(1), {FAKE: network(2)}),
        GeneratedDistiller(
            PATHS["kac"],
            [(1.0, MatchingLoss(PATHS["kac"], TEACHER, alpha=0.9, ratio=1.02))],
            intervals=2,
        ).loss,
    ),
}


def learnt(case: str, *shard: slice) -> tuple[Tensor, list[Tensor]]:
    """The loss of a batch, or of a shard of it, and its gradient in every weight."""
    make, loss = CASES[case]
    model = make()
    value = loss(model, X0, LABELS, seeded(3), *shard)
    value.backward()
    return value.detach(), [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("world", [2, 3, 12])
@pytest.mark.parametrize("case", CASES)
def test_the_mean_over_the_shards_of_a_batch_is_the_whole_of_it(case, world):
    whole, gradient = learnt(case)
    shards = [learnt(case, shard_of(BATCH, rank, world)) for rank in range(world)]
    assert sum(value for value, _ in shards) / world == pytest.approx(float(whole), rel=1e-4)
    for k, expected in enumerate(gradient):
        torch.testing.assert_close(
            sum(g[k] for _, g in shards) / world, expected, rtol=1e-3, atol=1e-6
        )

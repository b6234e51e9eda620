"""What the tests of the distillers share: four normals in the plane, a small network, and a teacher
for each path."""

import copy
from functools import lru_cache

import torch
from torch import Tensor, nn

from kaccore.losses import flow_matching_loss
from kaccore.paths import DiffusionPath, FlowMatchingPath, KacPath
from kaccore.process import KacProcess
from kaccore.tensors import generator_for
from kaccore.training import Settings, Training

PATHS = {
    "kac": KacPath(KacProcess(25.0, 2.0), clock="quadratic"),
    "flow_matching": FlowMatchingPath(0.5),
    "diffusion": DiffusionPath("sqrt", 0.4),
}
CENTRES = torch.tensor([[-0.7, -0.7], [0.7, -0.7], [-0.7, 0.7], [0.7, 0.7]])
SPREAD = 0.08


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def four_normals(count: int, generator: torch.Generator) -> Tensor:
    """Points (count, 2) of the data."""
    centres = CENTRES[torch.randint(4, (count,), generator=generator)]
    return centres + SPREAD * torch.randn(count, 2, generator=generator)


class Field(nn.Module):
    """A velocity in the plane, with or without a second time: 9,000 weights."""

    def __init__(self, two_times: bool = False) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(7, 64), nn.Linear(64, 2)
        self.middle = nn.Sequential(
            nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU()
        )
        self.end = nn.Linear(5, 64) if two_times else None

    def forward(
        self, x: Tensor, t: Tensor, labels: Tensor | None = None, end: Tensor | None = None
    ) -> Tensor:
        h = self.enter(torch.cat([x, waves(t)], dim=1))
        if self.end is not None:
            h = h + self.end(waves(end))
        return self.leave(self.middle(h))


def waves(t: Tensor) -> Tensor:
    t = t[:, None]
    return torch.cat(
        [t, torch.sin(3 * t), torch.cos(3 * t), torch.sin(9 * t), torch.cos(9 * t)], dim=1
    )


def from_teacher(teacher: Field, two_times: bool = False) -> Field:
    """A network with the teacher's weights; a second time counts for nothing at first."""
    model = Field(two_times)
    model.load_state_dict(teacher.state_dict(), strict=False)
    if model.end is not None:
        nn.init.zeros_(model.end.weight)
        nn.init.zeros_(model.end.bias)
    return model


def training_of(model: nn.Module, steps: int, lr: float, ema: float = 0.97) -> Training:
    return Training(model, Settings(steps, lr, ema))


def finished(training: Training, loss, batch_size: int = 256) -> nn.Module:
    """The averaged weights after training on `loss(model, x0, labels, generator)`."""

    def batch_loss(model: nn.Module, step: int) -> Tensor:
        generator = generator_for(0, "test", step)
        return loss(model, four_normals(batch_size, generator), None, generator)

    for _ in training.run(batch_loss):
        pass
    return training.ema.model


@lru_cache
def teacher_of(kind: str) -> Field:
    """The teacher of PATHS[kind], trained once for all tests."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Field()

        def loss(model, x0, labels, generator):
            return flow_matching_loss(model, PATHS[kind], x0, labels, generator)

        return copy.deepcopy(finished(training_of(model, 500, 6e-3, ema=0.98), loss))


def distance(points: Tensor) -> float:
    """The energy distance of `points` (N, 2) to the data, 2 E|X - Y| - E|X - X'| - E|Y - Y'|, with
    a fresh Y."""
    data = four_normals(2000, seeded(123))
    return float(
        2 * torch.cdist(points, data).mean()
        - torch.cdist(points, points).mean()
        - torch.cdist(data, data).mean()
    )


def shares(points: Tensor) -> list[float]:
    """The share of `points` within 0.3 of each of the four centres."""
    return (torch.cdist(points, CENTRES) < 0.3).float().mean(0).tolist()


def rotation(h: Tensor) -> Tensor:
    """exp(-A h) for the spiral A below, one for each of `h` (B,): (B, 2, 2)."""
    return torch.linalg.matrix_exp(-SPIRAL * h[:, None, None])


SPIRAL = torch.tensor([[0.8, -1.5], [1.2, 0.3]])


def spiral(x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
    """The teacher u = A x, which takes x from t to t - h by exp(-A h)."""
    return x @ SPIRAL.T


def winds(x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
    """A wind of strength 1 + label; none for the null label. Guidance by s makes it s (1 +
    label)."""
    strength = torch.zeros(len(x)) if labels is None else torch.where(labels < 0, 0.0, labels + 1.0)
    return strength[:, None].expand_as(x)

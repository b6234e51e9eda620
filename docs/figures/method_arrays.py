"""What the figures of docs/method.md show, as named arrays. Nothing is trained: the velocity fields
are the exact ones of a data set of two points.

    a  damping (1/time)      c  speed (length/time)      t  time, 0 data, 1 noise      x  position (length)
    s  = c/sqrt(a): Brownian motion of as much variance has s^2 of it in a unit of time
"""

import math
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kaccore import SOLVERS, EndpointDistiller, KacPath, KacProcess
from kaccore.diagnostics.trajectories import trajectory
from kaccore.paths import DiffusionPath, FlowMatchingPath, Path
from kaccore.solvers import uniform_times
from kaccore.tensors import generator_for, left_broadcast

Arrays = dict[str, NDArray[np.float64]]

SHOWN = KacProcess(
    damping=4.0, speed=0.8
)  # s = 0.4 as that of USED, and so slow that the light cone is in sight
USED = KacProcess(damping=25.0, speed=2.0)  # the experiments'
S = 0.4
KAC = KacPath(USED, clock="quadratic")
PATHS: dict[str, Path] = {
    "Kac, quadratic clock": KAC,
    "diffusion": DiffusionPath(width=S),
    "flow matching": FlowMatchingPath(width=S),
}
TIMES = torch.tensor([0.1, 0.3, 1.0], dtype=torch.float64)  # at which the process is looked at
POINTS = (-0.6, 0.6)  # the data
INSIDE = 1 - 1e-6  # of the light cone: beyond it is an atom
STARTS = 24  # trajectories of each path, from noise at equal shares of its law


class ExactField:
    """The velocity field u(x, t) of a path for the data POINTS, and the density of x_t: what a
    perfect teacher knows.

    u = sum_k w_k (noise's velocity at x - (1 - t) p_k, less p_k), each weight w_k the share of
    point k in the density."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        each = [self.noise(x, t, point) for point in POINTS]
        share = torch.stack([log_density for log_density, _ in each]).softmax(0)
        return (
            (share * torch.stack([v - p for (_, v), p in zip(each, POINTS, strict=True)]))
            .sum(0)
            .to(x.dtype)
        )

    def density(self, x: Tensor, t: Tensor) -> Tensor:
        """The density of x_t at `x`, without what lies on the light cones. Unit: 1/length."""
        return torch.stack([self.noise(x, t, point)[0].exp() for point in POINTS]).mean(0)

    def noise(self, x: Tensor, t: Tensor, point: float) -> tuple[Tensor, Tensor]:
        """The noise's log density and velocity where it has brought `point` to `x`."""
        x, t = x.double(), left_broadcast(t.double(), x.double())
        k = x - (1 - t) * point
        if isinstance(self.path, KacPath):
            return _kac(self.path, k, t)
        width = S * (t.sqrt() if isinstance(self.path, DiffusionPath) else t)
        rate = 1 / (2 * t) if isinstance(self.path, DiffusionPath) else 1 / t
        return -k.square() / (2 * width.square()) - (width * math.sqrt(2 * math.pi)).log(), rate * k


def _kac(path: KacPath, k: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """As `ExactField.noise`; who is outside of the cone, by a solver's error, moves as its edge
    does."""
    clock, process = path.clock(t), path.process
    edge = process.speed * clock.value * INSIDE
    beyond = (k.abs() - edge).clamp_min(0)
    log_density = process.density(k.clamp(-edge, edge), clock.value).clamp_min(1e-300).log()
    velocity = clock.derivative * process.velocity(k, clock.value, straight=beyond > 0)
    return log_density - 1e4 * beyond, velocity


def process() -> Arrays:
    """Sample paths of SHOWN and of Brownian motion, and the laws of both at three times."""
    t, ways = torch.linspace(0, 1, 501, dtype=torch.float64), 5
    generator = generator_for(0, "sample paths")
    # uniform numbers are the same on every machine, what libraries make of them is not
    holding, normal = (
        torch.rand(shape, dtype=torch.float64, generator=generator)
        for shape in ((ways, 60), (2, 500))
    )
    reversals = ((-holding.log() / SHOWN.damping).cumsum(1)[:, :, None] < t).sum(1)
    direction = 1 - 2 * ((torch.arange(ways)[:, None] + reversals) % 2)
    x = torch.linspace(-1.2, 1.2, 481, dtype=torch.float64)
    variance = SHOWN.variance(TIMES)[:, None]
    arrays = {
        "t": t, "kac": _walk(SHOWN.speed * t[1] * direction[:, 1:]),
        "brownian": _walk(S * t[1].sqrt() * torch.special.ndtri(normal)),
        "x": x, "at": TIMES, "atom": SHOWN.atom(TIMES) / 2,
        "density": torch.stack([SHOWN.density(x, time) for time in TIMES]),
        "normal": (-x.square() / (2 * variance)).exp() / (2 * math.pi * variance).sqrt(),
    }  # fmt: skip
    return {name: value.double().numpy() for name, value in arrays.items()}


def _walk(steps: Tensor) -> Tensor:
    return torch.cat([torch.zeros(len(steps), 1, dtype=torch.float64), steps.cumsum(1)], dim=1)


def velocity() -> Arrays:
    """The conditional velocities of SHOWN and of Brownian motion at three times, and how large the
    noise's velocity is on average along each path."""
    x = torch.linspace(-1, 1, 801, dtype=torch.float64)
    inside = x.abs() < SHOWN.speed * TIMES[:, None]
    kac = torch.stack([SHOWN.velocity(x, time) for time in TIMES])
    t = torch.logspace(-3, 0, 121, dtype=torch.float64)
    arrays = {
        "x": x, "at": TIMES, "t": t,
        "kac": torch.where(inside, kac, torch.nan), "diffusion": x / (2 * TIMES[:, None]),
        "rms kac linear": _rms(t), "rms kac quadratic": 2 * t * _rms(t.square()), "rms diffusion": S / (2 * t.sqrt()),
        "rms flow matching": torch.full_like(t, S),
    }  # fmt: skip
    return {name: value.numpy() for name, value in arrays.items()}


def _rms(t: Tensor) -> Tensor:
    """sqrt(E v^2) of USED at times `t`: the midpoint rule in the angle x = c t sin(theta), and the
    atoms."""
    theta = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000 * math.pi - math.pi / 2
    ct = USED.speed * t[:, None]
    x = ct * theta.sin()
    mean = USED.density(x, t) * USED.velocity(x, t).square() * ct * theta.cos()
    return (mean.sum(1) * math.pi / 2000 + USED.atom(t) * USED.speed**2).sqrt()


def paths() -> Arrays:
    """The density of x_t of every path, and trajectories from noise to data."""
    t = uniform_times(400).double()
    x = torch.linspace(-1.2, 1.2, 241, dtype=torch.float64)
    arrays = {"t": t, "x": x}
    for name, path in PATHS.items():
        field = ExactField(path)
        arrays[f"density {name}"] = torch.stack([field.density(x, time) for time in t[:-1:4]])
        arrays[f"ways {name}"] = trajectory(
            field, starts(path), t, "midpoint"
        )  # which never asks at t = 0
    return {name: value.numpy() for name, value in arrays.items()}


def starts(path: Path) -> Tensor:
    """Noise that cuts the prior of `path` into STARTS equal shares."""
    share = (torch.arange(STARTS, dtype=torch.float64) + 0.5) / STARTS
    if not isinstance(path, KacPath):
        return S * torch.special.ndtri(share)
    x = torch.linspace(-USED.speed, USED.speed, 4001, dtype=torch.float64)
    return torch.from_numpy(np.interp(share.numpy(), USED.cdf(x, 1.0).numpy(), x.numpy()))


def distillation() -> Arrays:
    """Teacher, a student of 4 steps that has learned all it is taught, and the teacher in as few
    steps, from the same noise; and the velocity that students of 20, 4 and 1 steps are taught at t
    = 1."""
    field = ExactField(KAC)
    noise = torch.tensor([-0.45, 0.05, 0.3], dtype=torch.float64)
    distiller = EndpointDistiller(field, KAC, intervals=4, substeps=5, solver="midpoint")
    few = distiller.times.double()
    inner, student = [], [noise]
    for start, end in pairwise(few):
        times = start + distiller.shares * (end - start)
        inner.append(trajectory(field, student[-1], times, "midpoint"))
        student.append(distiller.teach(student[-1], times[:, None].expand(-1, len(noise))))
    x = torch.linspace(-1.2, 1.2, 241, dtype=torch.float64)
    arrays = {
        "t": few, "teacher": torch.cat([inner[0], *(part[1:] for part in inner[1:])]), "student": torch.stack(student),
        "undistilled": trajectory(field, noise, few, "euler"), "x": x, "velocity": field(x, torch.ones(len(x))),
    }  # fmt: skip
    for m in (20, 4, 1):
        times = torch.linspace(1, 1 - 1 / m, 400 // m + 1, dtype=torch.float64)
        arrays[f"taught {m}"] = (x - SOLVERS["midpoint"](field, x, times)) * m
    return {name: value.numpy() for name, value in arrays.items()}

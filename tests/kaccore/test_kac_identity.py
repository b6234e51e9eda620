import pytest
import torch

from kaccore.diagnostics import kac_identity_residual
from kaccore.process import KacProcess

PROCESS = KacProcess(3.0, 2.0)


def grid(step: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Times in [0.8, 1.2] and points in [-0.9, 0.9], which the light cones (c t >= 1.6) of data in
    [-0.5, 0.5] hold."""
    times = torch.arange(0.8, 1.2 + step / 2, step, dtype=torch.float64)
    return times, torch.arange(-0.9, 0.9 + step / 2, step, dtype=torch.float64)


def exact(times, points, process=PROCESS, data=(-0.5, 0.5)):
    """Velocity and density of the law of x_0 + K_t for equally likely data, where no atom lies."""
    x, t = points.expand(len(times), -1), times[:, None].expand(-1, len(points))
    x, t = x.reshape(-1), t.reshape(-1)
    densities = torch.stack([process.density(x - x0, t) for x0 in data])
    velocities = torch.stack([process.velocity(x - x0, t) for x0 in data])
    density = densities.mean(0)
    velocity = (densities * velocities).mean(0) / density
    return velocity.reshape(len(times), -1), density.reshape(len(times), -1)


@pytest.mark.parametrize("data", [(0.0,), (-0.5, 0.5), (-0.3, 0.1, 0.5)])
def test_the_exact_field_of_any_data_leaves_no_residual_but_that_of_the_differences(data):
    worst = {}
    for step in (0.02, 0.01):
        times, points = grid(step)
        residual = kac_identity_residual(*exact(times, points, data=data), times, points, PROCESS)
        assert residual.identity.shape == (len(times) - 2, len(points) - 2)
        worst[step] = torch.tensor([float(r.abs().max()) for r in residual])
    assert (worst[0.01] < 0.01).all()
    assert torch.allclose(worst[0.02] / worst[0.01], torch.tensor(4.0), rtol=0.1)  # second order


@pytest.mark.parametrize("wrong", [KacProcess(4.0, 2.0), KacProcess(3.0, 2.2)])
def test_the_field_of_another_process_does(wrong):
    times, points = grid(0.01)
    residual = kac_identity_residual(*exact(times, points, wrong), times, points, PROCESS)
    assert (
        residual.continuity.abs().max() < 0.01 < 0.2 < residual.identity.abs().max()
    )  # mass is kept all the same


def test_a_field_that_is_a_little_off_leaves_the_residual_of_its_error():
    times, points = grid(0.01)
    velocity, density = exact(times, points, data=(0.0,))
    right = kac_identity_residual(velocity, density, times, points, PROCESS)
    off = kac_identity_residual(velocity + 0.01, density, times, points, PROCESS)
    inner = velocity[1:-1, 1:-1]
    v_x, p_x = ((f[1:-1, 2:] - f[1:-1, :-2]) / 0.02 for f in (velocity, density))
    log_p_x = (density[1:-1, 2:].log() - density[1:-1, :-2].log()) / 0.02
    identity = -0.01 * v_x + 2 * 3.0 * 0.01 - (2 * 0.01 * inner + 1e-4) * log_p_x
    assert torch.allclose(off.identity - right.identity, identity, atol=1e-9)
    assert torch.allclose(off.continuity - right.continuity, 0.01 * p_x, atol=1e-9)


def test_diffusion_fails_the_identity_of_a_slow_process_by_the_wave_term():
    times, points = grid(0.01)
    t, x = times[:, None], points[None]
    density = torch.exp(-x.square() / (2 * t)) / (2 * torch.pi * t).sqrt()
    velocity = x / (2 * t)  # of Brownian motion, the limit for speed^2 = damping
    slow, fast = (
        kac_identity_residual(velocity, density, times, points, KacProcess(a, a**0.5))
        .identity.abs()
        .max()
        for a in (1.0, 1000.0)
    )
    # -(v^2) (log p)_x + v_t - v v_x stays, whatever a is, and a (2 v + (log p)_x) is zero to
    # rounding
    expected = (x**3 / (4 * t**3) - x / (2 * t**2) - x / (4 * t**2))[1:-1, 1:-1].abs().max()
    assert slow.item() == pytest.approx(expected.item(), rel=0.01)
    assert fast.item() == pytest.approx(expected.item(), rel=0.1)


@pytest.mark.parametrize(
    "change, match",
    [
        ({"velocity": torch.zeros(4, 4)}, r"velocity of shape \(4, 4\)"),
        ({"density": torch.zeros(5, 7)}, "has to be positive"),
        (
            {"times": torch.tensor([0.0, 1.0, 2.0, 4.0, 5.0])},
            "times from 0.0 to 5.0 are not evenly spaced",
        ),
        ({"points": -torch.arange(7.0)}, "points from .* not evenly spaced and increasing"),
    ],
)
def test_grids_that_cannot_be_differentiated_are_refused(change, match):
    given = {
        "velocity": torch.zeros(5, 7), "density": torch.ones(5, 7), "times": torch.arange(5.0),
        "points": torch.arange(7.0), **change,
    }  # fmt: skip
    with pytest.raises(ValueError, match=match):
        kac_identity_residual(**given, process=PROCESS)

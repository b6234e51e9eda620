import math

import pytest
import torch
from exact_fields import PointData

from kaccore.energy import KineticEnergy, light_cone_bound
from kaccore.paths import DiffusionPath, FlowMatchingPath, KacPath
from kaccore.process import KacProcess
from kaccore.sampling import prior_images, sample
from kaccore.shaping import ShapedVelocity
from kaccore.solvers import EVALUATIONS, SOLVERS, uniform_times
from kaccore.tone import Calibrated, ToneCurve

KAC = KacPath(KacProcess(25.0, 2.0), clock="quadratic")
SHAPE = (3, 1, 2, 2)


def drawn(field, path=KAC, shape=SHAPE, **options):
    return sample(field, path, shape, **{"steps": 6, "seed": 0, **options})


# --- early and late
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 3, 4, 7])
def test_early_and_late_energy_add_up_to_the_total_and_are_equal_for_a_constant_field(
    solver, steps
):
    constant = drawn(lambda x, t, labels: torch.full_like(x, 3.0), solver=solver, steps=steps)
    for part in (constant.trajectory.early_energy, constant.trajectory.late_energy):
        assert part.tolist() == pytest.approx([4 * 9 / 4] * 3)
    lively = drawn(lambda x, t, labels: x * t[:, None, None, None] + 1, solver=solver, steps=steps)
    parts = lively.trajectory.early_energy + lively.trajectory.late_energy
    assert torch.allclose(parts, lively.kinetic_path_energy, rtol=1e-5)


def test_a_field_that_moves_only_near_the_noise_has_early_energy_alone():
    def near_noise(x, t, labels):
        return torch.where(t > 0.5, 2.0, 0.0)[:, None, None, None].expand_as(x)

    summary = drawn(near_noise, steps=10).trajectory
    assert (
        summary.early_energy.tolist() == pytest.approx([4 * 4 / 2 / 2] * 3)
        and not summary.late_energy.any()
    )


def test_a_field_that_grows_in_time_splits_its_energy_as_the_integral_does():
    summary = drawn(
        lambda x, t, labels: t[:, None].expand_as(x), shape=(3, 2), steps=400, solver="midpoint"
    ).trajectory
    early, late = 2 * (1 - 1 / 8) / 6, 2 * (1 / 8) / 6  # 1/2 integral of 2 t^2 over each half
    assert summary.early_energy.tolist() == pytest.approx([early] * 3, rel=0.005)
    assert summary.late_energy.tolist() == pytest.approx([late] * 3, rel=0.005)


# --- speed and light cone
# -------------------------------------------------------------------------------------------


def test_the_largest_speed_is_over_coordinates_and_time_for_each_image():
    speeds = torch.tensor([[1.0, -5.0], [2.0, 0.5]])
    energy, times = KineticEnergy(lambda x, t: x * (1 + t)), uniform_times(4)
    for t in times[:-1]:
        energy(speeds, t)
    assert energy.summary(times).max_speed.tolist() == [10.0, 4.0]


def test_the_violations_are_the_share_of_coordinates_and_times_above_the_bound():
    bound = light_cone_bound(KAC)
    assert bound == pytest.approx(1 + 2 * 2.0)  # |f'| R + max g' c = 1 + 2 t c at t = 1

    def field(x, t, labels):
        u = torch.full_like(x, bound)  # on the light cone: none too many
        u[:, 0, 0, 0] = torch.where(t > 0.5, -1.01 * bound, 0.0)
        return u

    summary = drawn(field, steps=10).trajectory
    assert summary.light_cone_violations.tolist() == pytest.approx([0.25 * 0.5] * 3)
    assert summary.max_speed.tolist() == pytest.approx([1.01 * bound] * 3)


@pytest.mark.parametrize("clock", ["linear", "quadratic"])
@pytest.mark.parametrize("guidance", [1.0, 1.5, 3.0, 0.3, -1.0])
def test_an_exact_field_keeps_the_light_cone_of_its_guidance(clock, guidance):
    path = KacPath(KacProcess(3.0, 2.0), clock=clock)
    data = PointData(path, [-1.0, 1.0])
    one = PointData(path, [1.0])
    other = PointData(path, [-1.0])

    def field(x, t, labels):
        """Class 0 is the point 1, class 1 the point -1, no class both."""
        known = torch.where((labels == 0)[:, None], one(x, t), other(x, t))
        return torch.where((labels < 0)[:, None], data(x, t), known)

    result = drawn(field, path, (400, 1), steps=40, labels=torch.arange(400) % 2, guidance=guidance)
    assert not result.trajectory.light_cone_violations.any()
    assert result.trajectory.max_speed.max() <= light_cone_bound(path, guidance) * 1.0001
    if guidance == 3.0:  # and does leave that of no guidance
        assert result.trajectory.max_speed.max() > light_cone_bound(path)


def test_where_images_end_is_kept_before_the_tone_curve():
    far = drawn(lambda x, t, labels: -3.0 * torch.ones_like(x), KAC)
    assert torch.equal(far.trajectory.reach, far.images.flatten(1).abs().amax(1))
    assert far.trajectory.reach.min() > 2
    rows = torch.tensor([[-1.0, 1.0]]).expand(far.images.shape[1], 2)

    class Field(torch.nn.Module):
        def forward(self, x, t, labels=None):
            return -3.0 * torch.ones_like(x)

    toned = drawn(Calibrated(Field(), ToneCurve(rows, rows)), KAC)
    assert toned.images.abs().max() <= 1
    assert torch.equal(toned.trajectory.reach, far.trajectory.reach)


def test_the_bound_grows_with_guidance_and_is_infinite_where_there_is_no_light_cone():
    assert light_cone_bound(KAC, 1.5, radius=2.0) == pytest.approx(2 * (2 + 4))
    assert light_cone_bound(KAC, 0.5) == pytest.approx(2 * 5)
    for path in (DiffusionPath(), FlowMatchingPath()):
        assert light_cone_bound(path, 1.5) == math.inf
        assert drawn(lambda x, t, labels: x, path).trajectory.light_cone_violations is None


def test_the_summary_belongs_to_the_image_whatever_batches_there_are():
    whole, parts = (
        drawn(lambda x, t, labels: 20 * x, shape=(50, 1, 2, 2), batch_size=size)
        for size in (64, 16)
    )
    for name in ("early_energy", "late_energy", "max_speed", "light_cone_violations"):
        one, other = (getattr(result.trajectory, name) for result in (whole, parts))
        assert len(one) == 50 and torch.equal(one, other) and len(one.unique()) > 5
    assert torch.equal(whole.kinetic_path_energy, parts.kinetic_path_energy)


# --- shaping
# --------------------------------------------------------------------------------------------------------


def test_shaping_has_mean_one_and_is_above_one_near_the_noise():
    shaped = ShapedVelocity(lambda x, t: torch.ones_like(x), 0.01)
    t = torch.linspace(0, 1, 1001)
    eta = torch.cat([shaped(torch.zeros(1, 1), s) for s in t]).flatten()
    assert float(eta.mean()) == pytest.approx(1, abs=1e-5)
    assert eta[0].item() == pytest.approx(0.99) and eta[-1].item() == pytest.approx(1.01)
    assert (eta.diff() > 0).all()
    assert torch.equal(shaped(torch.zeros(1001, 3), t)[:, 0], eta)  # a time for each image


@pytest.mark.parametrize("solver", ["midpoint", "heun", "rk4"])
def test_shaping_moves_a_constant_field_earlier_and_to_the_same_end(solver):
    def wind(x, t, labels):
        return torch.full_like(x, 2.0)

    plain, shaped = (drawn(wind, solver=solver, shaping=strength) for strength in (0.0, 0.2))
    assert torch.allclose(plain.images, shaped.images, atol=1e-6)
    assert torch.allclose(shaped.images, prior_images(KAC, 0, range(3), SHAPE[1:]) - 2, atol=1e-6)
    assert (shaped.trajectory.early_energy > 1.1 * plain.trajectory.early_energy).all()
    assert (shaped.trajectory.late_energy < 0.95 * plain.trajectory.late_energy).all()
    assert shaped.nfe == plain.nfe == 6 * EVALUATIONS[solver]


def test_no_shaping_changes_no_bit_and_shaping_keeps_its_own_light_cone():
    fast = light_cone_bound(KAC)
    plain = drawn(lambda x, t, labels: x)
    none = drawn(lambda x, t, labels: x, shaping=0.0)
    assert torch.equal(plain.images, none.images)
    assert not drawn(
        lambda x, t, labels: torch.full_like(x, fast), shaping=0.01
    ).trajectory.light_cone_violations.any()


@pytest.mark.parametrize("strength", [-0.01, 1.0, math.nan])
def test_a_shaping_that_would_stop_or_reverse_is_refused(strength):
    with pytest.raises(ValueError, match="shaping strength"):
        drawn(lambda x, t, labels: x, shaping=strength)

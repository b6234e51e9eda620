import json
import math
from pathlib import Path

import pytest
import scipy.integrate
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from kac_cases import CASES, numbers, seeded

from kaccore.process import KacProcess
from kaccore.tensors import left_broadcast

REFERENCE = json.loads(
    Path(__file__).with_name("kac_process.json").read_text()
)  # computed with 40 digits
EXTREMES = [1e-8, 1e-3, 1.0, 25.0, 1e3, 1e6, 1e12]


def interior(a: float, c: float, t: float, count: int = 41) -> torch.Tensor:
    return c * t * torch.linspace(-0.98, 0.98, count, dtype=torch.float64)


# --- closed forms against 40-digit values
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, close", [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize(
    "point", REFERENCE, ids=lambda p: f"a={p['damping']}-c={p['speed']}-t={p['t']}"
)
def test_closed_forms_agree_with_forty_digit_values(point, dtype, close):
    process = KacProcess(point["damping"], point["speed"])
    x, t = numbers([point["x"]], dtype), numbers(point["t"], dtype)
    underflow = 1e-37 if dtype == torch.float32 else 0.0
    assert process.density(x, t).item() == pytest.approx(point["density"], rel=close)
    inside = torch.zeros(
        1, dtype=torch.bool
    )  # in float32 a point a hair inside the cone may round onto it
    assert process.velocity(x, t, inside).item() == pytest.approx(point["velocity"], rel=close)
    assert process.variance(t).item() == pytest.approx(point["variance"], rel=close)
    assert process.atom(t).item() == pytest.approx(point["atom"], rel=close, abs=underflow)
    assert process.cdf(x, t).item() == pytest.approx(point["cdf"], rel=max(close, 1e-7))


def test_a_negative_displacement_keeps_the_relative_accuracy_of_its_tail():
    tails = [p for p in REFERENCE if p["cdf"] < 1e-5]
    assert len(tails) >= 3
    for p in tails:
        cdf = KacProcess(p["damping"], p["speed"]).cdf(numbers([p["x"]]), p["t"]).item()
        assert cdf == pytest.approx(p["cdf"], rel=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("a", EXTREMES)
def test_nothing_overflows_and_no_particle_outruns_the_speed(a, dtype):
    hair = torch.finfo(dtype).eps
    share = numbers([0, 1e-30, 1e-8, 0.3, 0.999999, 1 - 4 * hair, 1 - hair, 1], dtype)
    for c in (1e-3, 2.0, math.sqrt(a), 1e4):
        process = KacProcess(a, c)
        for t in (0.0, 1e-12, 1e-6, 1e-3, 0.5, 1.0):
            x = torch.cat([share, -share]) * numbers(t, dtype) * c
            v = process.velocity(x, t)
            assert (v.abs() <= c * (1 + 2 * hair)).all()
            assert (v * x.sign() >= 0).all()  # away from the start, or at rest
            p, cdf = process.density(x, t), process.cdf(x, t)
            assert p.isfinite().all() and (p >= 0).all()
            assert ((cdf >= 0) & (cdf <= 1)).all()
            variance = process.variance(numbers(t, dtype))
            atom = process.atom(numbers(t, dtype))
            assert 0 <= variance <= (c * t) ** 2 * (1 + 4 * hair)
            assert 0 <= atom <= 1


# --- equations of motion
# --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a, c, t", CASES)
def test_density_and_velocity_satisfy_the_continuity_equation(a, c, t):
    process, x = KacProcess(a, c), interior(a, c, t)
    h, k = 1e-4 * t, 1e-4 * c * t
    p_t = (process.density(x, t + h) - process.density(x, t - h)) / (2 * h)
    flux = [process.density(y, t) * process.velocity(y, t) for y in (x - k, x + k)]
    residual = p_t + (flux[1] - flux[0]) / (2 * k)
    assert residual.abs().max() < 1e-4 * p_t.abs().max()


@pytest.mark.parametrize("a, c, t", CASES)
def test_velocity_satisfies_the_kac_identity(a, c, t):
    process, x = KacProcess(a, c), interior(a, c, t)
    h, k = 1e-4 * t, 1e-4 * c * t
    v = process.velocity(x, t)
    v_t = (process.velocity(x, t + h) - process.velocity(x, t - h)) / (2 * h)
    v_x = (process.velocity(x + k, t) - process.velocity(x - k, t)) / (2 * k)
    log_p_x = (process.density(x + k, t).log() - process.density(x - k, t).log()) / (2 * k)
    residual = v_t - v * v_x + 2 * a * v + (c**2 - v**2) * log_p_x
    assert residual.abs().max() < 1e-5 * (2 * a * v).abs().max()


@pytest.mark.parametrize("a, c, t", CASES)
def test_density_satisfies_the_damped_wave_equation(a, c, t):
    process, x = KacProcess(a, c), interior(a, c, t)[2:-2]
    h, k = 1e-3 * t, 1e-3 * c * t
    before, now, after = (process.density(x, s) for s in (t - h, t, t + h))
    left, right = process.density(x - k, t), process.density(x + k, t)
    p_tt = (after - 2 * now + before) / h**2
    p_t = (after - before) / (2 * h)
    p_xx = (left - 2 * now + right) / k**2
    residual = p_tt + 2 * a * p_t - c**2 * p_xx
    assert residual.abs().max() < 1e-3 * (c**2 * p_xx).abs().max()


@pytest.mark.parametrize("a, c, t", CASES)
def test_the_atoms_hold_what_the_density_lacks(a, c, t):
    process = KacProcess(a, c)
    width = min(c * t, 12 * math.sqrt(process.variance(t)))  # beyond lies less than quad can see
    mass, _ = scipy.integrate.quad(
        lambda x: process.density(numbers([x]), t).item(), -width, width, limit=200
    )
    assert mass == pytest.approx(1 - math.exp(-a * t), abs=1e-9)
    assert process.atom(numbers(t)).item() == pytest.approx(1 - mass, abs=1e-9)


@pytest.mark.parametrize("a, c, t", CASES)
def test_cdf_is_the_integral_of_the_density_above_the_lower_atom(a, c, t):
    process = KacProcess(a, c)
    for x in (-0.9 * c * t, -0.2 * c * t, 0.0, 0.05 * c * t, 0.7 * c * t):
        below, _ = scipy.integrate.quad(
            lambda y: process.density(numbers([y]), t).item(),
            -c * t,
            x,
            points=[min(x, -0.1 * c * t)],
            limit=200,
        )
        assert process.cdf(numbers([x]), t).item() == pytest.approx(
            below + math.exp(-a * t) / 2, abs=1e-8
        )


@pytest.mark.parametrize("a, c, t", CASES)
def test_variance_is_the_second_moment_of_density_and_atoms(a, c, t):
    process = KacProcess(a, c)
    width = min(c * t, 12 * math.sqrt(process.variance(t)))
    inner, _ = scipy.integrate.quad(
        lambda x: x * x * process.density(numbers([x]), t).item(), -width, width, limit=200
    )
    assert process.variance(numbers(t)).item() == pytest.approx(
        inner + (c * t) ** 2 * math.exp(-a * t), rel=1e-8
    )


@pytest.mark.parametrize("w", [1e-12, 1e-6, 0.4, 0.5 - 1e-9, 0.5, 0.5 + 1e-9, 3.0])
def test_variance_solves_its_own_equation_across_the_series_switch(w):
    # V' + 2 a V = 2 c^2 t, from the damped wave equation
    process = KacProcess(1.0, 1.0)
    h = 1e-4 * w
    slope = (process.variance(numbers(w + h)) - process.variance(numbers(w - h))) / (2 * h)
    assert (slope + 2 * process.variance(numbers(w))).item() == pytest.approx(2 * w, rel=1e-6)


# --- hypothesis: the distribution function
# --------------------------------------------------------------------------

rates = st.floats(1e-3, 1e4)
speeds = st.floats(1e-2, 1e2)
times = st.floats(1e-4, 1.0)


@given(rates, speeds, times, st.lists(st.floats(-1.2, 1.2), min_size=2, max_size=20))
def test_cdf_is_monotone(a, c, t, shares):
    x = numbers(sorted(shares)) * c * t
    cdf = KacProcess(a, c).cdf(x, t)
    assert (cdf.diff() >= -1e-12).all()


@given(rates, speeds, times, st.floats(-1.2, 1.2))
def test_cdf_is_symmetric_up_to_the_atom_at_the_point(a, c, t, share):
    process, x = KacProcess(a, c), numbers([share]) * c * t
    at_x = process.atom(numbers(t)).item() / 2 if x.abs().item() == c * t else 0.0  # P(X = x)
    both = (process.cdf(x, t) + process.cdf(-x, t)).item()
    assert both == pytest.approx(1 + at_x, abs=1e-12)


@given(rates, speeds, times, st.floats(-1.0, 1.0), st.floats(1e-2, 1e2), st.floats(1e-2, 1e2))
def test_the_law_depends_on_damping_times_time_and_the_share_of_the_cone_alone(
    a, c, t, share, longer, farther
):
    # the same film in other units
    one = KacProcess(a, c)
    other = KacProcess(a / longer, c * farther)
    x, scale = numbers([share * 0.999]) * c * t, longer * farther
    assert other.velocity(x * scale, t * longer).item() == pytest.approx(
        farther * one.velocity(x, t).item(), rel=1e-8, abs=1e-12
    )
    assert other.cdf(x * scale, t * longer).item() == pytest.approx(
        one.cdf(x, t).item(), rel=1e-7, abs=1e-14
    )
    assert other.density(x * scale, t * longer).item() * scale == pytest.approx(
        one.density(x, t).item(), rel=1e-7, abs=1e-200
    )


# --- limits
# ---------------------------------------------------------------------------------------------------------


def test_the_law_approaches_brownian_motion_at_first_order_in_one_over_damping():
    width, t = 0.7, 0.6
    x = torch.linspace(-2, 2, 81, dtype=torch.float64)
    normal = torch.from_numpy(scipy.stats.norm.cdf(x.numpy(), scale=width * math.sqrt(t)))
    error = {
        a: (KacProcess(a, width * math.sqrt(a)).cdf(x, t) - normal).abs().max()
        for a in (1e2, 1e3, 1e4, 1e8)
    }
    assert error[1e2] / error[1e3] == pytest.approx(10, rel=0.1)
    assert error[1e3] / error[1e4] == pytest.approx(10, rel=0.1)
    assert error[1e8] < 1e-8


def test_the_velocity_approaches_the_probability_flow_of_brownian_motion():
    x, t = torch.linspace(-2, 2, 81, dtype=torch.float64), 0.6
    v = KacProcess(1e9, math.sqrt(1e9)).velocity(
        x, t
    )  # -s^2/2 (log p)_x of a normal density of variance s^2 t
    assert torch.allclose(v, x / (2 * t), rtol=1e-7)


@pytest.mark.parametrize("a", [1e7, 1e10, 1e12])
def test_draws_at_great_damping_are_normal_and_as_fine_as_their_type(a):
    x = KacProcess(a, math.sqrt(a)).sample(0.6, (40_000,), seeded(13)).x
    assert scipy.stats.kstest(x.numpy(), "norm", (0, math.sqrt(0.6))).pvalue > 1e-3
    assert len(x.unique()) > 0.99 * len(x)  # reversals counted in float32 would be too coarse


def test_without_damping_the_particle_never_turns():
    x, straight = KacProcess(1e-12, 3.0).sample(1.0, (1000,), seeded(10))
    assert straight.all() and torch.equal(x.abs(), torch.full((1000,), 3.0))


def test_at_time_zero_the_particle_is_at_the_start():
    process = KacProcess(25.0, 2.0)
    x, straight = process.sample(0.0, (100,), seeded(11))
    assert torch.equal(x, torch.zeros(100)) and straight.all()
    assert torch.equal(process.velocity(x, 0.0), torch.zeros(100))
    assert process.variance(0.0) == 0 and process.atom(0.0) == 1


def test_a_straight_particle_keeps_its_speed_where_its_neighbour_inside_the_cone_does_not():
    process, t = KacProcess(25.0, 2.0), 0.04
    edge = numbers([2.0 * t])
    assert process.velocity(edge, t).item() == 2.0
    inside = process.velocity(edge.nextafter(numbers(0.0)), t).item()
    assert inside == pytest.approx(2.0 * t / (t + 2 / 25.0), rel=1e-6)  # the limit x/(t + 2/a)
    said = process.velocity(edge.expand(2), t, torch.tensor([True, False]))
    assert said[0].item() == 2.0 and said[1].item() == pytest.approx(inside, rel=1e-6)


def test_outside_the_light_cone_nothing_is():
    process = KacProcess(2.0, 1.0)
    x = numbers([-1.0 - 1e-12, 1.0 + 1e-12])
    assert process.density(x, 1.0).tolist() == [0.0, 0.0]
    assert process.cdf(x, 1.0).tolist() == [0.0, 1.0]


# --- shapes, types, randomness, faults
# ------------------------------------------------------------------------------


def test_times_of_a_batch_align_with_the_images_from_the_left():
    process, t = KacProcess(4.0, 1.5), torch.tensor([0.1, 0.4, 0.9])
    x = process.sample(t, (3, 3, 3), seeded(12)).x
    for function in (process.velocity, process.density, process.cdf):
        one_by_one = torch.stack([function(x[i], float(t[i])) for i in range(3)])
        assert torch.allclose(function(x, t), one_by_one, rtol=1e-6)
    assert (x.abs() <= 1.5 * t[:, None, None]).all()
    assert x[2].abs().max() > 1.5 * 0.4  # the last image did have the longest time


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_have_the_type_of_what_they_are_computed_from(dtype):
    process, t = KacProcess(4.0, 1.5), torch.tensor([0.2, 0.8], dtype=dtype)
    sample = process.sample(t, (2, 5))
    assert sample.x.dtype == dtype and sample.straight.dtype == torch.bool
    for function in (process.velocity, process.density, process.cdf):
        assert function(sample.x, t.double()).dtype == dtype
    assert process.variance(t).dtype == process.atom(t).dtype == dtype
    assert process.sample(0.5, (2,)).x.dtype == torch.float32


def test_a_generator_repeats_its_draws_and_leaves_the_global_one_alone():
    process = KacProcess(4.0, 1.5)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, again, other = (process.sample(0.5, (50,), seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first.x, again.x) and torch.equal(first.straight, again.straight)
    assert not torch.equal(first.x, other.x)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_damping_and_speed_have_to_be_positive_and_finite(bad):
    with pytest.raises(ValueError, match="damping"):
        KacProcess(bad, 1.0)
    with pytest.raises(ValueError, match="speed"):
        KacProcess(1.0, bad)


def test_times_that_make_no_sense_are_refused():
    process = KacProcess(1.0, 1.0)
    for t in (-0.1, math.nan, torch.tensor([0.5, -0.5])):
        with pytest.raises(ValueError, match="t >= 0"):
            process.sample(t, (2,))
    with pytest.raises(ValueError, match="align"):
        process.sample(torch.rand(3), (2, 3))
    with pytest.raises(ValueError, match="align"):
        process.velocity(torch.zeros(2, 3), torch.rand(2, 3, 1))
    with pytest.raises(ValueError, match="negative size"):
        process.sample(0.5, (-1,))


def test_displacements_in_integers_are_refused():
    with pytest.raises(ValueError, match="floating"):
        KacProcess(1.0, 1.0).velocity(torch.zeros(2, dtype=torch.int64), 0.5)


@given(st.integers(0, 4), st.integers(1, 4))
def test_a_left_aligned_time_multiplies_every_pixel_of_its_own_image(axes, size):
    image = torch.ones((size,) * 4)
    t = torch.arange(size**axes, dtype=torch.float32).reshape((size,) * axes)
    scaled = left_broadcast(t, image) * image
    assert torch.equal(scaled.flatten(axes).amin(-1) if axes < 4 else scaled, t)
    assert torch.equal(scaled.flatten(axes).amax(-1) if axes < 4 else scaled, t)

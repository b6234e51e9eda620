import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kaccore.solvers import EVALUATIONS, SOLVERS, check_times, uniform_times

ORDER = {"euler": 1, "midpoint": 2, "heun": 2, "ab2": 2, "rk4": 4}
NAMES = sorted(SOLVERS)


def decay(x, t):
    """x' = -x (1 + t), so that x(t) = x(0) exp(-t - t^2/2)."""
    return -x * (1 + t)


def grid(kind: str, steps: int) -> torch.Tensor:
    s = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    if kind == "increasing":
        return s
    if kind == "decreasing":
        return 1 - s
    if kind == "stretched":
        return 1 - s * (1 + s) / 2
    lengths = torch.tensor([3.0, 1.0], dtype=torch.float64).repeat(
        steps // 2
    )  # "uneven": long, short, long, short
    return 1 - torch.cat([torch.zeros(1, dtype=torch.float64), lengths.cumsum(0) / lengths.sum()])


def error(solver: str, times: torch.Tensor) -> float:
    start, end = float(times[0]), float(times[-1])
    exact = math.exp(-(end - start) - (end**2 - start**2) / 2)
    x = SOLVERS[solver](decay, torch.ones(1, dtype=torch.float64), times)
    return abs(x.item() - exact)


@pytest.mark.parametrize("kind", ["increasing", "decreasing", "stretched", "uneven"])
@pytest.mark.parametrize("solver", NAMES)
def test_a_solver_has_its_textbook_order_on_every_grid(solver, kind):
    coarse, fine = error(solver, grid(kind, 64)), error(solver, grid(kind, 128))
    assert math.log2(coarse / fine) == pytest.approx(ORDER[solver], abs=0.15)


def test_every_solver_is_counted_and_every_order_known():
    assert SOLVERS.keys() == EVALUATIONS.keys() == ORDER.keys()


@pytest.mark.parametrize("solver", NAMES)
@pytest.mark.parametrize("steps", [1, 7])
def test_velocity_is_called_as_often_as_the_table_says(solver, steps):
    calls = []
    SOLVERS[solver](lambda x, t: calls.append(float(t)) or x, torch.ones(2), uniform_times(steps))
    assert len(calls) == EVALUATIONS[solver] * steps
    assert calls[0] == 1.0 and all(0 <= t <= 1 for t in calls)


@pytest.mark.parametrize("solver, degree", [("euler", 0), ("midpoint", 1), ("heun", 1), ("rk4", 3)])
@pytest.mark.parametrize("kind", ["increasing", "uneven"])
def test_a_solver_is_exact_on_polynomials_in_time_up_to_its_degree_and_no_further(
    solver, degree, kind
):
    times = grid(kind, 4)
    start, end = float(times[0]), float(times[-1])
    for n in range(degree + 2):
        x = SOLVERS[solver](
            lambda x, t, n=n: torch.ones_like(x) * t**n, torch.zeros(1, dtype=torch.float64), times
        )
        wrong = abs(x.item() - (end ** (n + 1) - start ** (n + 1)) / (n + 1))
        assert wrong < 1e-14 if n <= degree else wrong > 1e-5


@pytest.mark.parametrize("kind", ["increasing", "decreasing", "stretched", "uneven"])
def test_ab2_is_exact_on_fields_linear_in_time_but_for_its_first_euler_step(kind):
    times, zero = grid(kind, 8), torch.zeros(1, dtype=torch.float64)
    field = lambda x, t: torch.ones_like(x) * (2 - 3 * t)  # noqa: E731
    primitive = 2 * times - 1.5 * times**2
    x = SOLVERS["ab2"](field, zero, times)
    first_step = SOLVERS["euler"](field, zero, times[:2]) - (primitive[1] - primitive[0])
    assert first_step.abs() > 1e-3
    assert (x - (primitive[-1] - primitive[0])).item() == pytest.approx(
        first_step.item(), abs=1e-14
    )


@pytest.mark.parametrize("solver", NAMES)
def test_images_with_grids_of_their_own_are_solved_as_if_alone(solver):
    grids = torch.stack(
        [grid("stretched", 6), 0.5 * grid("uneven", 6) + 0.3, grid("decreasing", 6) ** 2], dim=1
    )
    x = torch.randn(3, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    field = lambda x, t: torch.sin(3 * x) - x * t.reshape(-1, *[1] * (x.ndim - 1))  # noqa: E731
    together = SOLVERS[solver](field, x, grids)
    alone = torch.cat([SOLVERS[solver](field, x[i : i + 1], grids[:, i]) for i in range(3)])
    assert torch.allclose(together, alone, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("solver", NAMES)
def test_two_halves_of_a_grid_are_the_whole_for_solvers_without_memory(solver):
    x, times = torch.ones(1, dtype=torch.float64), grid("stretched", 10)
    halves = SOLVERS[solver](decay, SOLVERS[solver](decay, x, times[:6]), times[5:])
    whole = SOLVERS[solver](decay, x, times)
    assert (halves.item() == whole.item()) == (
        solver != "ab2"
    )  # ab2 starts again with an Euler step


@given(
    st.sampled_from(NAMES), st.integers(0, 2**31), st.floats(-10, 10), st.floats(-10, 10), st.integers(1, 6)
)  # fmt: skip
def test_solving_a_linear_field_is_a_linear_map(solver, seed, alpha, beta, steps):
    generator = torch.Generator().manual_seed(seed)
    matrix, x, y = (torch.randn(3, 3, dtype=torch.float64, generator=generator) for _ in range(3))
    times = torch.rand(steps, dtype=torch.float64, generator=generator).add(0.1).cumsum(0)
    times = torch.cat([torch.zeros(1, dtype=torch.float64), times / times[-1]])
    solve = lambda x: SOLVERS[solver](lambda x, t: x @ matrix * (1 + t), x, times)  # noqa: E731
    combined = alpha * solve(x) + beta * solve(y)
    scale = solve(x).abs().max() + solve(y).abs().max()
    assert torch.allclose(
        solve(alpha * x + beta * y), combined, rtol=1e-9, atol=1e-12 * 10 * float(scale)
    )


@given(st.integers(1, 300), st.floats(0, 1), st.floats(0, 1))
def test_a_uniform_grid_has_its_exact_ends_and_equal_steps(steps, start, end):
    if abs(start - end) < 1e-2:
        end = start + 0.5
    times = uniform_times(steps, start, end)
    assert (
        times[0] == torch.tensor(start)
        and times[-1] == torch.tensor(end)
        and len(times) == steps + 1
    )
    lengths = [float(b) - float(a) for a, b in pairwise(times)]
    assert lengths == pytest.approx([(end - start) / steps] * steps, abs=2e-7)


@pytest.mark.parametrize("solver", NAMES)
@pytest.mark.parametrize(
    "times", [[0.0, 1.0, 0.5], [1.0, 0.5, 0.5], [0.5], [0.0, math.nan], [[0.0, 1.0], [1.0, 0.0]]]
)
def test_grids_that_are_not_monotone_are_refused(solver, times):
    with pytest.raises(ValueError, match="times"):
        SOLVERS[solver](decay, torch.ones(2), torch.tensor(times))


def test_grids_of_too_many_axes_and_of_no_steps_are_refused():
    with pytest.raises(ValueError, match="times of shape"):
        check_times(torch.linspace(0, 1, 8).reshape(2, 2, 2))
    with pytest.raises(ValueError, match="steps = 0"):
        uniform_times(0)

import pytest
import torch

from kaccore.schedules import CLOCKS, SIGNALS, lookup

EVERY = [pytest.param(schedule, id=f"{kind}-{name}") for kind, table in (("signal", SIGNALS), ("clock", CLOCKS))
         for name, schedule in table.items()]  # fmt: skip


@pytest.mark.parametrize("schedule", EVERY)
def test_derivative_is_what_autograd_finds(schedule):
    t = torch.linspace(0, 1, 33, dtype=torch.float64, requires_grad=True)
    value, derivative = schedule(t)
    (slope,) = torch.autograd.grad(value.sum(), t)
    assert torch.allclose(derivative, slope, rtol=1e-12, atol=0)


@pytest.mark.parametrize("schedule", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_derivative_are_shaped_and_typed_as_the_time(schedule, dtype):
    for shape in ((), (3,), (2, 1, 1)):
        for part in schedule(torch.rand(shape, dtype=dtype)):
            assert part.shape == shape and part.dtype == dtype


def test_signals_start_with_all_the_data_and_end_with_none_or_one_part_in_e():
    ends = {
        name: signal(torch.tensor([0.0, 1.0], dtype=torch.float64)).value
        for name, signal in SIGNALS.items()
    }
    assert ends["linear"].tolist() == [1, 0]
    assert ends["exponential"][0] == 1 and ends["exponential"][1].log().item() == pytest.approx(-1)


def test_clocks_run_from_zero_to_one_and_never_back():
    t = torch.linspace(0, 1, 101)
    for clock in CLOCKS.values():
        value, speed = clock(t)
        assert value[0] == 0 and value[-1] == 1
        assert (value.diff() > 0).all() and (speed >= 0).all()


def test_the_quadratic_clock_starts_from_rest_and_reaches_a_quarter_at_half_time():
    value, speed = CLOCKS["quadratic"](torch.tensor([0.0, 0.5]))
    assert speed[0] == 0 and value[1] == 0.25


def test_an_unknown_name_is_refused_with_the_names_there_are():
    assert lookup(CLOCKS, "quadratic", "clock") is CLOCKS["quadratic"]
    with pytest.raises(ValueError, match=r"clock = 'cubic': expected one of linear, quadratic"):
        lookup(CLOCKS, "cubic", "clock")

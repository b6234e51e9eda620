"""The distances by which a student is compared with what it is taught."""

import pytest
import torch

from kaccore.distill import ConsistencyDistiller, EndpointDistiller, ProgressiveDistiller
from kaccore.losses import distance, flow_matching_loss
from kaccore.paths import FlowMatchingPath

PATH = FlowMatchingPath()
ERRORS = torch.tensor([[0.0, 1e-5, -0.02], [0.3, -2.0, 50.0]], dtype=torch.float64)


def gust(x, t, labels=None):
    """A teacher's wind of strength 1 in one quadrant of the plane and of none elsewhere."""
    return (x > 0).all(1, keepdim=True).to(x.dtype).expand_as(x)


def test_the_pseudo_huber_distance_is_its_formula_and_keeps_its_digits_in_single_precision():
    for c in (1e-6, 0.03, 10.0):
        exact = ((ERRORS**2 + c**2).sqrt() - c).mean()
        assert distance(ERRORS, c).item() == pytest.approx(exact.item(), rel=1e-9)
        assert distance(ERRORS.float(), c).item() == pytest.approx(exact.item(), rel=1e-6)
    one = torch.tensor(
        [1e-4]
    )  # its square is lost beside that of 10, so that sqrt(e^2 + c^2) - c would be 0
    assert distance(one, 10.0).item() == pytest.approx(5e-10, rel=1e-5)


def test_it_is_the_square_of_small_errors_and_the_absolute_value_of_large_ones():
    assert 2e6 * distance(ERRORS, 1e6).item() == pytest.approx(distance(ERRORS).item(), rel=1e-6)
    assert distance(ERRORS, 1e-6).item() == pytest.approx(ERRORS.abs().mean().item(), rel=1e-5)


@pytest.mark.parametrize("huber", [None, 1e-6, 0.03, 1e6])
def test_where_there_is_no_error_there_is_no_gradient(huber):
    error = torch.zeros(3, requires_grad=True)
    loss = distance(error, huber)
    loss.backward()
    assert loss.item() == 0 and error.grad.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("huber", "low", "high"), [(None, 0.2, 0.3), (0.03, 0.0, 0.02)])
def test_a_student_too_small_for_its_task_is_right_nearly_everywhere_instead_of_a_little_wrong_everywhere(
    huber, low, high
):
    wind = torch.zeros(1, requires_grad=True)  # all that this student can say
    distiller = EndpointDistiller(gust, PATH, intervals=1, substeps=1, huber=huber)
    optimizer = torch.optim.Adam([wind], lr=0.02)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        optimizer.zero_grad()
        distiller.loss(
            lambda x, t, labels=None: wind.expand_as(x), torch.zeros(512, 2), None, generator
        ).backward()
        optimizer.step()
    assert low <= wind.item() <= high


@pytest.mark.parametrize("kind", [EndpointDistiller, ProgressiveDistiller, ConsistencyDistiller])
def test_every_distiller_that_measures_a_distance_takes_it(kind):
    """A student whose velocity is off by 2 everywhere: 4 in the square, sqrt(4 + 9) - 3 with c =
    3."""
    rest = lambda x, t, labels=None, end=None: torch.zeros_like(x)  # noqa: E731
    off = lambda x, t, labels=None, end=None: torch.full_like(x, 2.0)  # noqa: E731
    more = {"substeps": 2} if kind is EndpointDistiller else {}
    more |= {"target_model": rest} if kind is ConsistencyDistiller else {}
    x0 = torch.zeros(64, 2)
    for huber, expected in ((None, 4.0), (3.0, 13**0.5 - 3)):
        loss = kind(rest, PATH, intervals=1, huber=huber, **more).loss(off, x0)
        assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("huber", [0.0, -1.0, 1e-7, 2e6, float("nan"), float("inf")])
def test_a_width_that_single_precision_does_not_have_is_refused(huber):
    with pytest.raises(ValueError, match=f"huber = {huber}: expected 1e-6 to 1e6"):
        EndpointDistiller(gust, PATH, intervals=1, substeps=1, huber=huber)


@pytest.mark.parametrize("mean, std", [(0.0, 1.0), (-0.4, 0.7)])
def test_times_of_a_logit_normal_have_its_mean_and_deviation(mean, std):
    seen = []

    def model(x, t, labels=None):
        seen.append(t)
        return torch.zeros_like(x)

    generator = torch.Generator().manual_seed(0)
    flow_matching_loss(
        model, FlowMatchingPath(0.5), torch.zeros(20_000, 2), generator=generator,
        logit_normal=(mean, std),
    )  # fmt: skip
    logits = torch.logit(seen[0])
    assert seen[0].min() > 0 and seen[0].max() < 1
    assert float(logits.mean()) == pytest.approx(mean, abs=0.03)
    assert float(logits.std()) == pytest.approx(std, abs=0.03)

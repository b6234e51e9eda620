import math

import pytest
import torch
from scipy.stats import spearmanr

from kaccore.diagnostics import memorisation, memorisation_fraction, nearest, rank_correlation


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_nearest_images_are_those_of_the_whole_distance_matrix(monkeypatch):
    samples, train = rand(50, 1, 4, 4), rand(70, 1, 4, 4, seed=1)
    distances = (samples.flatten(1)[:, None] - train.flatten(1)).double().norm(dim=2)
    expected = distances.sort(1)
    for elements in (2**24, 500, 1):  # one chunk, some, and a sample at a time
        monkeypatch.setattr(memorisation, "CHUNK_ELEMENTS", elements)
        found = nearest(samples, train, k=3)
        assert torch.equal(found.indices, expected.indices[:, :3])
        assert torch.allclose(found.distances.double(), expected.values[:, :3], atol=1e-6)


def test_copies_lie_at_no_distance_at_all():
    train = (
        rand(300, 3, 8, 8) + 1
    )  # a large common part, which costs a matrix product its last digits
    found = nearest(train[40:60], train)
    assert (
        torch.equal(found.indices[:, 0], torch.arange(40, 60)) and not found.distances[:, 0].any()
    )
    nearly = nearest(train[:5] + 1e-3, train).distances[:, 0]
    assert nearly.tolist() == pytest.approx([1e-3 * 192**0.5] * 5, rel=1e-3)


def test_the_fraction_counts_samples_that_have_one_image_much_nearer_than_any_other():
    train = torch.tensor([[0.0], [1.0], [1.0]])
    samples = torch.tensor([[0.2], [0.24], [0.26], [0.5], [-0.4], [-0.6], [1.0], [0.9]])
    # d1/d2 of them: 1/4, 0.32, 0.35, 1, 0.29, 0.38, an exact copy of a double, and near a double
    found = nearest(samples, train)
    assert memorisation_fraction(found.distances) == pytest.approx(4 / 8)
    memorised = [memorisation_fraction(row[None]) for row in found.distances]
    assert memorised == [1, 1, 0, 0, 1, 0, 1, 0]


def test_copies_are_memorised_and_fresh_draws_are_not():
    train = rand(400, 1, 8, 8)
    copies = train[:50] + 0.01 * rand(50, 1, 8, 8, seed=2)
    fresh = rand(150, 1, 8, 8, seed=3)
    assert memorisation_fraction(nearest(torch.cat([copies, fresh]), train).distances) == 0.25


def test_rank_correlation_sees_any_monotone_relation_and_no_other():
    energy = rand(500)
    assert rank_correlation(energy, energy.exp()).rho == pytest.approx(1)
    assert rank_correlation(energy, -(energy**3)).rho == pytest.approx(-1)
    unrelated = rank_correlation(energy, rand(500, seed=4))
    assert abs(unrelated.rho) < 0.15 and unrelated.pvalue > 1e-3


@pytest.mark.parametrize(
    "call, match",
    [
        (
            lambda: nearest(torch.zeros(2, 3), torch.zeros(4, 2)),
            r"\(2, 3\), training images of \(4, 2\)",
        ),
        (lambda: nearest(torch.zeros(2, 3), torch.zeros(1, 3)), "k = 2: expected 1 to 1"),
        (lambda: nearest(torch.zeros(2, 3), torch.zeros(4, 3), k=0), "k = 0"),
        (lambda: memorisation_fraction(torch.zeros(4, 1)), r"\(4, 1\); expected \(N, 2 or more\)"),
        (lambda: memorisation_fraction(torch.zeros(0, 2)), "N >= 1"),
    ],
)
def test_what_has_no_answer_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize("levels", [3, 10_000])
def test_rank_correlation_is_that_of_scipy_also_with_ties(levels: int):
    x, y = (rand(60, seed=seed).mul(levels).floor() for seed in (1, 2))
    y = x + y
    assert rank_correlation(x, y) == pytest.approx(tuple(spearmanr(x.numpy(), y.numpy())))


@pytest.mark.parametrize("values", [torch.ones(5), torch.tensor([0.0, math.nan, 1.0, 2.0, 3.0])])
def test_where_nothing_can_be_ranked_there_is_no_rank_correlation(values: torch.Tensor):
    rho, pvalue = rank_correlation(values, rand(5, seed=1))
    assert math.isnan(rho) and math.isnan(pvalue)

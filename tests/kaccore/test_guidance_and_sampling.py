import itertools

import pytest
import scipy.stats
import torch
from exact_fields import PointData
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kaccore.energy import KineticEnergy
from kaccore.guidance import NULL_LABEL, GuidedVelocity
from kaccore.losses import drop_labels, flow_matching_loss
from kaccore.models import UNet
from kaccore.paths import FlowMatchingPath, KacPath
from kaccore.process import KacProcess
from kaccore.sampling import prior_images, sample
from kaccore.solvers import EVALUATIONS, SOLVERS, uniform_times
from kaccore.tensors import derive_seed

PATH = KacPath(KacProcess(25.0, 2.0), clock="quadratic")
LABELS = torch.arange(100) % 10


class Towards(nn.Module):
    """u = pull (x - m_label), m = 0 for the null label: a field that is known, and that counts what
    it is asked."""

    def __init__(self, pull: float = 1.0) -> None:
        super().__init__()
        self.pull = nn.Parameter(torch.tensor(pull))
        self.rows: list[int] = []
        self.was_training = False

    def forward(self, x, t, labels=None):
        assert t.shape == (len(x),)
        self.rows.append(len(x))
        self.was_training |= self.training
        mean = torch.zeros(len(x)) if labels is None else torch.where(labels < 0, 0.0, labels + 1.0)
        return self.pull * (x - mean.reshape(-1, *[1] * (x.ndim - 1)))


@pytest.fixture(scope="module")
def unet() -> UNet:
    """A network with attention, classes and dropout whose every weight counts (fresh ones end in
    zeros)."""
    torch.manual_seed(0)
    model = UNet(
        8, 1, channels=16, multipliers=(1, 2), blocks=1, attention=(4,), dropout=0.2, classes=10
    )
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.1)
    return model


# --- guidance
# -------------------------------------------------------------------------------------------------------


@given(st.floats(-2, 5), st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_the_guided_field_is_the_affine_combination_of_the_two(scale, labels):
    model, labels = Towards(2.0), torch.tensor(labels)
    x = torch.randn(len(labels), 1, 2, 2, generator=torch.Generator().manual_seed(1))
    t = torch.tensor(0.5)
    guided = GuidedVelocity(model, labels, scale)(x, t)
    mean = scale * (labels + 1.0)  # of 2 (x - 0) and 2 (x - m): guidance moves the centre to s m
    assert torch.allclose(guided, 2 * (x - mean[:, None, None, None]), atol=1e-4)


def test_without_guidance_the_network_is_asked_once_and_its_answer_kept():
    model = Towards()
    x = torch.randn(4, 1, 2, 2)
    t = torch.rand(4)
    for labels in (None, torch.arange(4)):
        model.rows.clear()
        velocity = GuidedVelocity(model, labels)
        assert torch.equal(velocity(x, t), model(x, t, labels))
        assert velocity.nfe == 1 and model.rows == [4, 4]


def test_guidance_without_labels_is_refused():
    with pytest.raises(ValueError, match=r"guidance = 1\.5: needs labels"):
        GuidedVelocity(Towards(), None, 1.5)
    with pytest.raises(ValueError, match="needs labels"):
        sample(Towards(), PATH, (2, 1, 2, 2), steps=1, seed=0, guidance=0.0)


def test_labels_are_dropped_at_the_given_rate_and_otherwise_kept():
    labels = torch.arange(20_000) % 10
    dropped = drop_labels(labels, 0.1, torch.Generator().manual_seed(2))
    gone = dropped == NULL_LABEL
    assert torch.equal(dropped[~gone], labels[~gone])
    assert scipy.stats.binomtest(int(gone.sum()), 20_000, 0.1).pvalue > 1e-3
    assert (
        torch.equal(drop_labels(labels, 0.0), labels)
        and (drop_labels(labels, 1.0) == NULL_LABEL).all()
    )


# --- the count of network evaluations
# -------------------------------------------------------------------------------


@pytest.mark.parametrize("solver, guidance", [(name, s) for name in SOLVERS for s in (1.0, 1.5)])
@pytest.mark.parametrize("count", [1, 20])
def test_nfe_is_steps_times_evaluations_and_twice_that_under_guidance(solver, guidance, count):
    model = Towards()
    result = sample(model, PATH, (count, 1, 2, 2), solver=solver, steps=5, seed=0, labels=LABELS[:count],
                    guidance=guidance)  # fmt: skip
    assert result.nfe == 5 * EVALUATIONS[solver] * (1 if guidance == 1.0 else 2)
    assert sum(model.rows) == result.nfe * max(
        count, 16
    )  # what the network itself saw; few images are padded to 16


def test_nfe_is_per_image_however_many_batches_there_are():
    for batch_size in (16, 20, 50):
        assert (
            sample(Towards(), PATH, (50, 1, 2, 2), steps=3, seed=0, batch_size=batch_size).nfe == 3
        )


# --- one seed, one image
# --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labelled, guidance, solver", [(False, 1.0, "ab2"), (True, 1.0, "euler"), (True, 1.5, "heun")]
)
def test_an_image_is_bitwise_the_same_whatever_is_drawn_beside_it(unet, labelled, guidance, solver):
    def draw(count, first=0, batch_size=None):
        labels = LABELS[first : first + count] if labelled else None
        return sample(unet, PATH, (count, 1, 8, 8), solver=solver, steps=2, seed=3, labels=labels,
                      guidance=guidance, first=first, batch_size=batch_size)  # fmt: skip

    whole = draw(100)
    for batch_size, count in ((1, 3), (7, 18), (16, 18), (100, 18)):
        part = draw(count, batch_size=batch_size)
        assert torch.equal(part.images, whole.images[:count])
        assert torch.equal(part.kinetic_path_energy, whole.kinetic_path_energy[:count])
    for count, first in ((1, 0), (1, 77), (13, 40), (60, 40)):
        assert torch.equal(draw(count, first).images, whole.images[first : first + count])


def test_images_of_other_seeds_and_other_numbers_differ(unet):
    images = torch.cat(
        [sample(unet, PATH, (3, 1, 8, 8), steps=2, seed=seed).images for seed in (1, 2)]
    )
    for one, other in itertools.combinations(images, 2):
        assert not torch.equal(one, other)


def test_the_starting_noise_is_the_prior_and_no_two_images_share_it():
    noise = prior_images(PATH, 5, range(400), (1, 2, 2)).flatten(1)
    other = PATH.prior((2_000,), torch.Generator().manual_seed(9))
    assert scipy.stats.ks_2samp(noise[:, 0].numpy(), other.numpy()).pvalue > 1e-3
    assert len(noise.unique(dim=0)) == 400
    assert torch.equal(prior_images(PATH, 5, [7], (1, 2, 2)).flatten(1)[0], noise[7])


def test_the_global_generator_is_neither_read_nor_moved(unet):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = sample(unet, PATH, (2, 1, 8, 8), steps=1, seed=4).images
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(sample(unet, PATH, (2, 1, 8, 8), steps=1, seed=4).images, first)


@given(st.integers(0, 2**62), st.integers(0, 10**6), st.integers(0, 10**6))
def test_seeds_differ_by_seed_purpose_and_every_index(seed, i, j):
    seeds = [
        derive_seed(seed, p, *k)
        for p in ("a", "b")
        for k in ((), (i,), (i, j), (j, i, 0), (i, j, 0, 1))
    ]
    assert len(set(seeds)) == len(seeds) and all(0 <= s < 2**63 for s in seeds)
    assert derive_seed(seed, "a", i) != derive_seed(seed + 1, "a", i)


# --- from noise to data
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clock", ["linear", "quadratic"])
@pytest.mark.parametrize("solver", ["euler", "ab2", "heun"])
def test_the_exact_field_of_one_data_point_leads_every_prior_draw_to_it(clock, solver):
    path, errors = KacPath(KacProcess(25.0, 2.0), clock=clock), {}
    for steps in (50, 200):
        images = sample(
            PointData(path, [0.4]), path, (200, 1, 1, 1), solver=solver, steps=steps, seed=6
        ).images
        errors[steps] = float((images - 0.4).abs().max())
    assert errors[200] < 0.02 and errors[200] < errors[50] / 2


def test_the_exact_field_of_two_data_points_splits_the_prior_evenly_between_them():
    path = KacPath(KacProcess(25.0, 2.0), clock="quadratic")
    images = sample(PointData(path, [-1.0, 1.0]), path, (1000, 1, 1, 1), steps=100, seed=7).images
    near = (images.abs() - 1).abs() < 0.1
    assert near.float().mean() > 0.99
    assert scipy.stats.binomtest(int((images > 0).sum()), 1000, 0.5).pvalue > 1e-3


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_linear_field_contracts_the_prior_by_its_own_exponential(solver):
    result = sample(Towards(1.0), PATH, (20, 1, 2, 2), solver=solver, steps=400, seed=8)
    prior = prior_images(PATH, 8, range(20), (1, 2, 2))  # x' = x from t = 1 back to t = 0
    assert torch.allclose(result.images, prior * torch.tensor(-1.0).exp(), rtol=2e-3)


# --- energy
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_kinetic_path_energy_of_a_constant_field_is_half_its_square(solver):
    wind = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    result = sample(
        lambda x, t, labels: wind.expand_as(x), PATH, (5, 3, 2, 2), solver=solver, steps=6, seed=0
    )
    assert torch.allclose(
        result.kinetic_path_energy, (wind.square().sum() / 2).expand(5), rtol=1e-6
    )
    assert torch.allclose(
        result.images, prior_images(PATH, 0, range(5), (3, 2, 2)) - wind, atol=1e-5
    )


def test_the_kinetic_path_energy_is_each_images_own_and_the_sum_over_its_steps():
    energy, times = KineticEnergy(lambda x, t: x * t), uniform_times(4)
    frozen = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    for t in times[
        :-1
    ]:  # |u|^2 = |x|^2 t^2 at t = 1, 3/4, 1/2, 1/4, each for a quarter of the time
        assert torch.equal(energy(frozen, t), frozen * t)
    squares = (16 + 9 + 4 + 1) / 16
    assert energy.total(times).tolist() == pytest.approx([squares / 8, 25 * squares / 8])


# --- contract
# -------------------------------------------------------------------------------------------------------


def test_sampling_switches_dropout_off_and_leaves_the_mode_as_it_was():
    for mode in (True, False):
        model = Towards().train(mode)
        assert not sample(model, PATH, (2, 1, 2, 2), steps=1, seed=0).images.requires_grad
        assert model.training is mode and not model.was_training


def test_no_images_cost_no_evaluations():
    result = sample(Towards(), PATH, (0, 1, 2, 2), steps=3, seed=0)
    assert (
        result.images.shape == (0, 1, 2, 2)
        and result.nfe == 0
        and len(result.kinetic_path_energy) == 0
    )


def test_what_cannot_be_sampled_is_refused():
    for wrong, match in (
        ({"solver": "rk45"}, r"solver = 'rk45': expected one of euler, "),
        ({"steps": 0}, "steps = 0"),
        ({"labels": torch.tensor([1, 2, 3])}, "3 labels for 2 images"),
    ):
        with pytest.raises(ValueError, match=match):
            sample(Towards(), PATH, (2, 1, 2, 2), **{"steps": 1, "seed": 0, **wrong})


# --- the loss
# -------------------------------------------------------------------------------------------------------


def test_the_loss_is_zero_for_the_field_of_one_data_point_and_one_for_a_field_one_off():
    path, x0 = KacPath(KacProcess(5.0, 2.0), clock="quadratic"), torch.zeros(500, 1)
    exact = PointData(path, [0.0])
    for off in (0, 1):
        loss = flow_matching_loss(
            lambda x, t, labels, off=off: exact(x, t) + off,
            path,
            x0,
            generator=torch.Generator().manual_seed(1),
        )
        assert loss.item() == pytest.approx(off, abs=1e-5)


def test_the_best_constant_field_leaves_the_variance_of_the_target_as_its_loss():
    x0 = torch.full((20_000, 1), 0.5)  # flow matching: u = eps - x0, mean -1/2 and variance 1
    generator = torch.Generator().manual_seed(2)
    loss = flow_matching_loss(
        lambda x, t, labels: torch.full_like(x, -0.5), FlowMatchingPath(), x0, None, generator
    )
    assert loss.item() == pytest.approx(1, abs=0.05)


def test_the_losss_times_are_uniform_and_never_zero():
    seen, generator = [], torch.Generator().manual_seed(3)
    flow_matching_loss(
        lambda x, t, labels: seen.append(t) or x,
        FlowMatchingPath(),
        torch.zeros(20_000, 1),
        None,
        generator,
    )
    assert scipy.stats.kstest(seen[0].numpy(), "uniform").pvalue > 1e-3 and seen[0].min() > 0


def test_samples_unpack_as_images_and_nfe():
    images, nfe = sample(Towards(), PATH, (2, 1, 2, 2), steps=3, seed=0, solver="heun")
    assert images.shape == (2, 1, 2, 2)
    assert nfe == 6

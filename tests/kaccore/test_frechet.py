import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kaccore.data import load
from kaccore.metrics.fid import (
    METRICS,
    Reference,
    compare,
    extract,
    extract_batches,
    extract_statistics,
    extract_with_logits,
)
from kaccore.metrics.frechet import (
    FeatureStatistics,
    bootstrap_fid,
    frechet_distance,
    moments,
    per_class_fid,
    perfect_model_fid,
    resampled_variance,
)

CNN = "digits-cnn-v1"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gathered(features: torch.Tensor, sizes: list[int]) -> FeatureStatistics:
    statistics = FeatureStatistics(features.shape[1])
    for batch in features.split(sizes):
        statistics.update(batch)
    return statistics


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


@pytest.fixture(scope="module")
def digits():
    return load("digits")


# --- statistics batch by batch
# --------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 40), min_size=2, max_size=6).filter(lambda sizes: sum(sizes) >= 2),
    st.floats(0, 1e4),
)
def test_statistics_gathered_in_batches_are_those_of_the_whole(sizes, offset):
    features = torch.randn(sum(sizes), 5, generator=seeded(1)) * torch.arange(1, 6) + offset
    whole = features.double().numpy()
    mean, covariance = gathered(features, sizes).statistics()
    assert relative(mean, torch.from_numpy(whole.mean(0))) < 1e-10
    assert relative(covariance, torch.from_numpy(np.cov(whole.T))) < 1e-10


def test_merging_does_not_depend_on_the_order_and_leaves_what_was_merged_alone():
    parts = torch.randn(300, 7, generator=seeded(2)).split([1, 0, 150, 149])
    whole = moments(torch.cat(parts))
    for order in itertools.permutations(parts):
        total = FeatureStatistics(7)
        for part in order:
            one = gathered(part, [len(part)])
            before = one.count, one.mean.clone(), one.scatter.clone()
            total.merge(one)
            assert (
                one.count == before[0]
                and torch.equal(one.mean, before[1])
                and torch.equal(one.scatter, before[2])
            )
        assert total.count == 300
        assert all(relative(a, b) < 1e-12 for a, b in zip(total.statistics(), whole, strict=True))


def test_fid_from_batches_is_that_of_all_images_at_once(digits):
    some, batches = digits.images[:900], digits.images[:900].split([300, 1, 599])
    whole = Reference.build(digits.images[900:], CNN)
    streamed = Reference.build(iter(digits.images[900:].split(400)), CNN, keep_features=False)
    assert streamed.count == whole.count == 897 and len(streamed.matrix) == 0
    expected = compare(extract(some, CNN), whole)["fid"]
    got = compare(extract_statistics((batch for batch in batches), CNN, batch_size=100), streamed)[
        "fid"
    ]
    # The statistics agree to 1e-10; features of another batch size differ in float32 rounding.
    assert got == pytest.approx(expected, rel=1e-5)
    features = extract(some, CNN)
    exact = compare(gathered(features, [300, 1, 599]), whole)["fid"]
    assert exact == pytest.approx(expected, rel=1e-9)


def test_images_come_as_a_tensor_a_data_set_or_batches_and_are_read_one_batch_at_a_time(digits):
    read = []

    def batches():
        for batch in digits.images.split(500):
            read.append(len(batch))
            yield batch

    outputs = extract_batches(batches(), CNN, batch_size=200)
    assert next(outputs).features.shape == (200, 64) and read == [500]
    assert [len(output.logits) for output in outputs] == [200, 100] + [200, 200, 100] * 2 + [
        200,
        97,
    ]
    whole = extract(digits.images, CNN)
    assert torch.equal(extract(digits, CNN), whole)
    assert torch.allclose(extract(batches(), CNN), whole, atol=1e-5)


def test_a_reference_without_features_comes_back_and_serves_fid_alone(digits, tmp_path):
    reference = Reference.build(digits, CNN, keep_features=False)
    reference.save(tmp_path / "reference.safetensors")
    loaded = Reference.load(tmp_path / "reference.safetensors")
    assert loaded.count == 1797 and torch.equal(loaded.covariance, reference.covariance)
    fake = extract(digits.images[::2], CNN)
    assert set(compare(fake, loaded)) == {"fid"}
    for metric in ("kid", "precision", "recall"):
        with pytest.raises(ValueError, match=f"{metric}: needs the features themselves"):
            compare(fake, loaded, ["fid", metric])
    with pytest.raises(ValueError, match="needs the features themselves"):
        compare(extract_statistics(digits, CNN), Reference.build(digits, CNN), ["kid"])


def test_statistics_that_make_no_sense_are_refused():
    statistics = gathered(torch.zeros(1, 3), [1])
    for call, match in (
        (statistics.statistics, "1 images; expected at least 2"),
        (lambda: statistics.update(torch.zeros(4, 2)), r"\(4, 2\); expected \(n, 3\)"),
        (lambda: statistics.update(torch.full((4, 3), torch.nan)), "NaN or infinity"),
        (lambda: statistics.merge(FeatureStatistics(2)), "2 wide; expected 3"),
        (
            lambda: compare(
                gathered(torch.zeros(9, 3), [9]), Reference.of_features(torch.rand(9, 4), "any")
            ),
            "3 wide",
        ),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    assert statistics.count == 1


# --- by class
# -------------------------------------------------------------------------------------------------------


def test_the_fid_of_a_class_is_that_of_its_images_alone(digits):
    features, shift = extract(digits, CNN), torch.zeros(64)
    shift[3] = 2.0
    moved = torch.where((digits.labels == 4)[:, None], features + shift, features)
    result = per_class_fid(moved, digits.labels, features, digits.labels)
    assert list(result.fid) == list(range(10)) and not result.too_few
    for label, fid in result.fid.items():
        assert fid == pytest.approx(4.0 if label == 4 else 0.0, abs=1e-3)


def test_classes_with_too_few_images_on_either_side_are_named_and_not_scored():
    features = torch.randn(20, 3, generator=seeded(3))
    real = torch.tensor([0] * 8 + [1] * 8 + [2] * 3 + [3])
    fake = torch.tensor([0] * 4 + [1] * 3 + [2] * 8 + [4] * 5)
    result = per_class_fid(features, fake, features, real)
    assert list(result.fid) == [0]
    assert result.too_few == {1: (3, 8), 2: (8, 3), 3: (0, 1), 4: (5, 0)}
    assert set(per_class_fid(features, fake, features, real, minimum=2).fid) == {0, 1, 2}
    with pytest.raises(ValueError, match=r"labels of shape \(5,\)"):
        per_class_fid(features, fake[:5], features, real)


# --- what few images cost
# -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [60, 300, 1200, 4000])
def test_the_yardstick_is_what_fresh_draws_of_the_same_law_score(count):
    width = 12
    total = 1200
    trials = 12
    mix = torch.randn(width, width, generator=seeded(4))

    def draw(n: int, seed: int) -> torch.Tensor:
        return torch.randn(n, width, generator=seeded(seed)) @ mix

    truth, guess = [], []
    for trial in range(trials):
        real = draw(total, 100 + trial)
        truth.append(frechet_distance(moments(draw(count, 200 + trial)), moments(real)))
        guess.append(perfect_model_fid(real, count, splits=4).mean)
    spread = (np.var(truth) + np.var(guess)) ** 0.5 / trials**0.5
    assert abs(np.mean(guess) - np.mean(truth)) < 4 * spread + 0.02 * np.mean(truth)


def test_the_yardstick_falls_as_the_samples_grow_and_depends_on_its_seed_alone(digits):
    features = extract(digits, CNN)
    scores = [perfect_model_fid(features, count, seed=5) for count in (100, 500, 1797, 10_000)]
    assert all(
        one.mean > other.mean > 0 and one.std > 0 for one, other in itertools.pairwise(scores)
    )
    assert (
        perfect_model_fid(features, 100, seed=5)
        == scores[0]
        != perfect_model_fid(features, 100, seed=6)
    )
    with pytest.raises(ValueError, match=r"count = 1, splits = 10, 1797 real images"):
        perfect_model_fid(features, 1)


def test_a_perfect_model_with_the_labels_of_the_data_scores_less_on_digits(digits):
    features = extract(digits, CNN)
    plain = perfect_model_fid(features, 1797, splits=30)
    with_labels = perfect_model_fid(features, 1797, splits=30, labels=digits.labels)
    assert 0.45 < with_labels.mean / plain.mean < 0.75
    assert with_labels.std < plain.std
    with pytest.raises(ValueError, match="3 labels of 1797 real images"):
        perfect_model_fid(features, 100, labels=torch.zeros(3))


def test_the_yardstick_with_labels_is_what_a_perfect_model_with_labels_scores():
    """Three well separated classes: a model that draws the labels of the data, in another order."""
    width, total, trials = 5, 900, 12
    centres = 6 * torch.randn(3, width, generator=seeded(4))
    labels = torch.arange(total) % 3

    def draw(seed: int) -> torch.Tensor:
        return centres[labels] + torch.randn(total, width, generator=seeded(seed))

    truth, guess = [], []
    for trial in range(trials):
        real = draw(100 + trial)
        truth.append(frechet_distance(moments(draw(200 + trial)), moments(real)))
        guess.append(perfect_model_fid(real, total, splits=4, labels=labels).mean)
    spread = (np.var(truth) + np.var(guess)) ** 0.5 / trials**0.5
    assert abs(np.mean(guess) - np.mean(truth)) < 4 * spread + 0.02 * np.mean(truth)
    assert perfect_model_fid(real, total, splits=4).mean > 3 * np.mean(guess)


# --- the spread over images


def classes(total: int, seed: int, shift: float, width: int = 6):
    """Features of three well separated classes, and their labels."""
    centres = 6 * torch.randn(3, width, generator=seeded(4))
    labels = torch.arange(total) % 3
    noise = torch.randn(total, width, generator=seeded(seed))
    return centres[labels] * (1 + shift) + noise, labels


def test_a_resample_has_the_distance_of_its_images():
    real, _ = classes(300, 1, 0.0)
    fake, labels = classes(300, 2, 0.1)
    found = bootstrap_fid([fake], moments(real), [labels], resamples=3, seed=5)
    generator = seeded(5)
    for value, own in zip(found.values, found.own, strict=True):
        members = [(labels == k).nonzero()[:, 0] for k in range(3)]
        index = torch.cat(
            [m[torch.randint(len(m), (len(m),), generator=generator)] for m in members]
        )
        assert value == pytest.approx(
            frechet_distance(moments(fake[index]), moments(real)), rel=1e-5
        )
        assert own == pytest.approx(frechet_distance(moments(fake[index]), moments(fake)), rel=1e-4)


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.2])
def test_the_spread_of_resamples_is_that_of_new_images_near_the_minimum_and_far_from_it(shift):
    real = moments(classes(900, 1, 0.0)[0])
    fresh, guessed = [], []
    for k in range(80):
        fake, labels = classes(600, 100 + k, shift)
        fresh.append(frechet_distance(moments(fake), real))
        if k < 8:
            guessed.append(bootstrap_fid([fake], real, [labels]).variance() ** 0.5)
    assert np.mean(guessed) == pytest.approx(np.std(fresh, ddof=1), rel=0.3)


def test_resamples_of_two_networks_with_the_same_noise_are_paired():
    real = moments(classes(900, 1, 0.0)[0])
    one, labels = classes(600, 2, 0.1)
    other = one + 0.05 * torch.randn(600, 6, generator=seeded(9))
    alone = classes(600, 3, 0.1)[0]
    of = [bootstrap_fid([features], real, [labels]) for features in (one, other, alone)]
    together, apart = (
        resampled_variance(of[0].values - second.values, of[0].own - second.own)
        for second in of[1:]
    )
    assert together < 0.3 * of[0].variance()
    assert apart > 0.8 * of[0].variance()


def test_several_samplings_have_the_mean_and_less_spread():
    real = moments(classes(900, 1, 0.0)[0])
    samples = [classes(600, seed, 0.1) for seed in (2, 3, 4, 5)]
    features, labels = zip(*samples, strict=True)
    one = bootstrap_fid(features[:1], real, labels[:1])
    all_of_them = bootstrap_fid(features, real, labels)
    assert all_of_them.variance() == pytest.approx(one.variance() / 4, rel=0.5)
    without = bootstrap_fid(features[:1], real)
    assert without.variance() > 2 * one.variance()  # the labels are then drawn, too
    again = bootstrap_fid(features[:1], real, labels[:1])
    assert torch.equal(again.values, one.values)
    for samples, resamples in (((), 200), (features, 1)):
        with pytest.raises(ValueError, match="expected at least 2 and 1"):
            bootstrap_fid(samples, real, resamples=resamples)


# --- the Inception Score
# --------------------------------------------------------------------------------------------


def test_certain_and_varied_classes_score_their_number_and_indifferent_ones_score_one():
    reference = Reference.of_features(torch.rand(9, 2, generator=seeded(7)), "any")
    labels = torch.arange(5000) % 5
    certain = 50.0 * torch.nn.functional.one_hot(labels, 5)
    for logits, expected in (
        (certain, 5.0),
        (torch.zeros(5000, 5), 1.0),
        (certain[labels == 2], 1.0),
    ):
        score = compare(torch.rand(9, 2), reference, ["inception_score"], logits=logits)
        assert set(score) == {"inception_score", "inception_score_std"}
        assert score["inception_score"] == pytest.approx(expected, rel=0.01)


def test_real_digits_score_near_ten_and_one_class_near_one(digits):
    features, logits = extract_with_logits(digits, CNN)
    assert torch.equal(features, extract(digits, CNN)) and logits.shape == (1797, 10)
    assert (logits.argmax(1) == digits.labels).float().mean() > 0.97
    reference = Reference.build(digits, CNN)
    everything = compare(features, reference, METRICS, logits=logits)["inception_score"]
    threes = compare(features, reference, ["inception_score"], logits=logits[digits.labels == 3])[
        "inception_score"
    ]
    assert 5 < everything < 10 and 1 < threes < 2


def test_a_score_without_logits_or_with_too_few_is_refused(digits):
    features = torch.rand(9, 2)
    reference = Reference.of_features(torch.rand(9, 2), "any")
    with pytest.raises(ValueError, match="inception_score: needs the class logits"):
        compare(features, reference, ["inception_score"])
    with pytest.raises(ValueError, match="at least 10 images"):
        compare(features, reference, ["inception_score"], logits=torch.zeros(9, 10))

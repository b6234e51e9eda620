import numpy as np
import pytest
import scipy.linalg
import torch
from torch.utils.data import Dataset
from torch_fidelity import calculate_metrics
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from kaccore.data import load, to_uint8
from kaccore.metrics import fid
from kaccore.metrics.extractors import register_with_torch_fidelity
from kaccore.metrics.features import classifier_weights
from kaccore.metrics.fid import (
    METRICS,
    Reference,
    compare,
    extract,
    extract_with_logits,
    split_halves_fid,
)


def gaussian(count: int, width: int, seed: int) -> torch.Tensor:
    """Correlated Gaussian features (count, width) with a mean of their own."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator)
    return torch.randn(count, width, generator=generator) @ mix + torch.randn(
        width, generator=generator
    )


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def digits_reference(digits):
    return Reference.build(digits.images, "digits-cnn-v1")


def test_fid_equals_the_closed_form_of_two_gaussians():
    real, fake = gaussian(400, 12, 0), gaussian(300, 12, 1)
    a, b = real.double().numpy(), fake.double().numpy()
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    shift = a.mean(0) - b.mean(0)
    expected = shift @ shift + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert compare(fake, Reference.of_features(real, "any"), ["fid"])["fid"] == pytest.approx(
        expected, rel=1e-6
    )


def test_fid_of_a_set_and_its_shifted_copy_is_the_squared_shift():
    real = gaussian(500, 16, 2)
    shift = torch.linspace(-1, 1, 16)
    score = compare(real + shift, Reference.of_features(real, "any"), ["fid"])["fid"]
    assert score == pytest.approx(float(shift.square().sum()), abs=1e-4)


def test_fid_of_a_scaled_copy_is_that_of_its_standard_deviations():
    real = torch.randn(2000, 4, generator=torch.Generator().manual_seed(3)).double()
    real -= real.mean(0)
    expected = float(np.trace(np.cov(real.numpy().T)))  # (2 - 1)^2 tr C, and the mean stays 0
    assert compare(2 * real, Reference.of_features(real, "any"), ["fid"])["fid"] == pytest.approx(
        expected, rel=1e-5
    )


def test_identical_sets_score_nothing_and_cover_each_other(digits, digits_reference):
    scores = compare(
        extract(digits.images, "digits-cnn-v1"), digits_reference, ["fid", "precision", "recall"]
    )
    assert scores["fid"] == pytest.approx(0, abs=1e-4)
    assert scores["precision"] == 1 and scores["recall"] == 1


def test_fid_and_kid_grow_as_digits_get_noisier(digits, digits_reference):
    some = digits.floats()[::6]
    noise = torch.randn(some.shape, generator=torch.Generator().manual_seed(4))
    noisy = [to_uint8(some + level * noise) for level in (0, 0.15, 0.3, 0.6, 1.2)]
    scores = [compare(extract(x, "digits-cnn-v1"), digits_reference, ["fid", "kid"]) for x in noisy]
    for metric in ("fid", "kid"):
        values = [score[metric] for score in scores]
        assert values == sorted(values) and values[-1] > 10 * values[1] > 0


def test_precision_sees_strangers_and_recall_sees_a_missing_class(digits, digits_reference):
    few = extract(digits.images[digits.labels < 5], "digits-cnn-v1")
    scores = compare(few, digits_reference, ["precision", "recall"])
    assert scores["precision"] == 1 and scores["recall"] < 0.7
    noise = torch.randint(
        0, 256, (500, 1, 8, 8), generator=torch.Generator().manual_seed(5), dtype=torch.uint8
    )
    strange = compare(extract(noise, "digits-cnn-v1"), digits_reference, ["precision"])
    assert set(strange) == {"precision"} and strange["precision"] < 0.1


def test_kid_equals_the_unbiased_estimate_by_its_definition():
    x, y = gaussian(60, 5, 6).double().numpy(), gaussian(60, 5, 7).double().numpy()

    def k(a, b):
        return (a @ b / 5 + 1) ** 3

    within = sum(k(s[i], s[j]) for s in (x, y) for i in range(60) for j in range(60) if i != j) / (
        60 * 59
    )
    across = sum(k(a, b) for a in x for b in y) / 60**2
    scores = compare(
        torch.from_numpy(x), Reference.of_features(torch.from_numpy(y).float(), "any"), ["kid"]
    )
    assert scores["kid"] == pytest.approx(within - 2 * across, rel=1e-4)
    assert scores["kid_std"] < 1e-4 * scores["kid"]  # each subset is the whole


def test_kid_of_a_copy_lies_below_zero_by_the_kernel_of_each_image_with_itself(monkeypatch):
    count = 300
    monkeypatch.setattr(fid, "KID_SUBSET_SIZE", 200)
    x = gaussian(count, 5, 10).double()
    kernel = (x @ x.T / 5 + 1) ** 3
    itself = kernel.diagonal().mean()
    others = (kernel.sum() - kernel.diagonal().sum()) / (count * (count - 1))
    scores = compare(x, Reference.of_features(x, "any"), ["kid"])
    assert scores["kid"] == pytest.approx(
        float(2 / count * (others - itself)), abs=4 * scores["kid_std"] / 100**0.5
    )
    assert scores["kid"] < 0


def test_kid_depends_on_its_seed_alone():
    fake = gaussian(150, 8, 8)
    reference = Reference.of_features(gaussian(100, 8, 9), "any")
    first = compare(fake, reference, ["kid"], seed=1)
    torch.rand(7), np.random.rand(7)
    assert compare(fake, reference, ["kid"], seed=1) == first
    assert compare(fake, reference, ["kid"], seed=2) != first


def test_half_the_real_images_score_near_the_other_half_but_not_zero(digits):
    halves = split_halves_fid(digits, "digits-cnn-v1", seed=0, pairs=3)
    blurred = torch.nn.functional.avg_pool2d(digits.floats(), 3, 1, 1)
    blur = compare(
        extract(to_uint8(blurred), "digits-cnn-v1"), Reference.build(digits.images, "digits-cnn-v1")
    )
    assert 0 < halves < blur["fid"] / 3
    assert split_halves_fid(digits, "digits-cnn-v1", seed=0, pairs=3) == halves


def test_torch_fidelity_finds_our_features_by_name_and_agrees_on_every_metric(digits):
    class Images(Dataset):
        def __init__(self, images):
            self.images = images

        def __len__(self):
            return len(self.images)

        def __getitem__(self, index):
            return self.images[index]

    fake, real = digits.images[:450].flip(3), digits.images[900:]
    register_with_torch_fidelity()
    theirs = calculate_metrics(
        input1=Images(fake), input2=Images(real), feature_extractor="digits-cnn-v1", cuda=False, cache=False,
        verbose=False, fid=True, kid=True, prc=True, isc=True, kid_subset_size=400, rng_seed=3, save_cpu_ram=True,
    )  # fmt: skip
    reference = Reference.build(real, "digits-cnn-v1")
    features, logits = extract_with_logits(fake, "digits-cnn-v1")
    ours = compare(features, reference, METRICS, seed=3, logits=logits)
    assert ours["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    assert ours["precision"] == pytest.approx(theirs["precision"], abs=0.002)
    assert ours["recall"] == pytest.approx(theirs["recall"], abs=0.002)
    for key in ("inception_score", "inception_score_std"):
        theirs_key = key if key.endswith("std") else f"{key}_mean"
        assert ours[key] == pytest.approx(theirs[theirs_key], rel=1e-4)
    # Other subsets (all 450 here), hence the same quantity within its spread.
    spread = theirs["kernel_inception_distance_std"]
    assert ours["kid"] == pytest.approx(theirs["kernel_inception_distance_mean"], abs=spread)


@pytest.mark.parametrize(("fake", "width"), [(1200, 64), (60, 64), (300, 7)])
def test_fid_and_kid_are_those_of_torch_fidelity_to_the_last_digit(fake: int, width: int):
    generator = torch.Generator().manual_seed(fake)
    x = torch.randn(fake, width, generator=generator)
    y = torch.rand(1500, width, generator=generator)
    ours = compare(x, Reference.of_features(y, "digits-cnn-v1"), ("fid", "kid"), seed=5)
    sides = [fid_features_to_statistics(side.double()) for side in (x, y)]
    kid = kid_features_to_metric(x, y, kid_subset_size=min(1000, fake), rng_seed=5, verbose=False)
    assert ours == {
        "fid": fid_statistics_to_metric(*sides, verbose=False)["frechet_inception_distance"],
        "kid": kid["kernel_inception_distance_mean"],
        "kid_std": kid["kernel_inception_distance_std"],
    }


def test_a_saved_reference_comes_back_bit_for_bit(digits_reference, tmp_path):
    digits_reference.save(tmp_path / "reference.safetensors")
    loaded = Reference.load(tmp_path / "reference.safetensors")
    assert loaded.features == "digits-cnn-v1" and loaded.count == 1797
    for field in ("matrix", "mean", "covariance"):
        assert torch.equal(getattr(loaded, field), getattr(digits_reference, field))


def test_a_reference_is_saved_as_the_same_bytes_each_time(tmp_path):
    path, found = tmp_path / "reference.safetensors", set()
    for _ in range(20):  # what hangs on chance shows sooner or later
        Reference.of_features(gaussian(9, 4, 1), "any").save(path)
        found.add(path.read_bytes())
    assert len(found) == 1


def test_a_file_that_is_no_reference_is_refused(tmp_path):
    (tmp_path / "text").write_text("not a reference")
    for path in (tmp_path / "text", tmp_path / "missing", classifier_weights("digits-cnn-v1")):
        with pytest.raises(ValueError, match="not a saved Reference"):
            Reference.load(path)


@pytest.mark.parametrize(
    "fake, metrics, message",
    [
        (gaussian(9, 4, 0), ["fid", "fdi"], "'fdi'; valid names: fid, kid"),
        (gaussian(1, 4, 0), ["fid"], "at least 2"),
        (gaussian(3, 4, 0), ["recall"], "more than 3"),
        (gaussian(9, 5, 0), ["fid"], "5 wide"),
        (gaussian(9, 4, 0) / 0, ["fid"], "NaN or infinity"),
    ],
)
def test_features_that_cannot_be_compared_are_refused(fake, metrics, message):
    with pytest.raises(ValueError, match=message):
        compare(fake, Reference.of_features(gaussian(9, 4, 1), "any"), metrics)

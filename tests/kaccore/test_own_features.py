import functools
import json

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

from kaccore import data
from kaccore.data import ImageData
from kaccore.metrics.features import OwnTraining, features_for, is_own, own_name
from kaccore.metrics.fid import Reference, compare, extract, extract_with_logits
from kaccore.metrics.own_features import OwnNetwork, load_own, read_facts
from kaccore.metrics.own_training import train_own

NAME = own_name("0123456789abcdef0123")
SHORT = OwnTraining(steps=200)
load = functools.cache(data.load)


@functools.cache
def digits(labelled=True) -> ImageData:
    whole = load("digits")
    return whole if labelled else ImageData("folder", whole.images)


@functools.cache
def of_digits(labelled=True):
    return train_own(digits(labelled), NAME, SHORT)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "own.safetensors"
    of_digits().save(path)
    return path


def test_a_network_of_a_data_sets_own_tells_its_held_out_classes_apart():
    about = of_digits().facts
    assert about.task == "classes" and about.classes == 10
    assert about.held_out_accuracy > 0.75 and about.chance < 0.15
    assert about.trained_on + about.held_out == 1797 and about.held_out == pytest.approx(
        1797 / 5, abs=10
    )
    assert str(about).startswith(
        f"{NAME}: {about.held_out_accuracy:.1%} of {about.held_out} held-out images"
    )


@pytest.mark.parametrize(
    "names, labels", [((), None), (("all",), torch.zeros(1797, dtype=torch.int64))]
)
def test_images_without_classes_to_tell_apart_are_recognised_in_another_view(names, labels):
    own = of_digits(labelled=False)
    if names:
        own = train_own(ImageData("x", digits().images, labels, names), NAME, OwnTraining(steps=30))
    about = own.facts
    assert about.task == "views" and about.classes == 0 and about.chance == pytest.approx(1 / 64)
    assert about.held_out_accuracy > 10 * about.chance
    assert "recognised among 64" in str(about)


def test_features_learned_without_labels_still_tell_classes_that_they_were_never_told():
    network = of_digits(labelled=False)
    with torch.no_grad():
        features = torch.cat([network(part)[0] for part in digits().images.split(500)])
    labels = digits().labels
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
    known, asked = order[400:], order[:400]
    nearest = torch.cdist(features[asked], features[known]).argmin(1)
    assert float((labels[known][nearest] == labels[asked]).float().mean()) > 0.8


def test_the_same_data_gives_the_same_network_whatever_was_drawn_before(tmp_path):
    few = ImageData("few", digits().images[:200], digits().labels[:200], digits().class_names)
    for path, seed in ((tmp_path / "a", 1), (tmp_path / "b", 2)):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        train_own(few, NAME, OwnTraining(steps=20)).save(path)
        assert torch.equal(
            torch.get_rng_state(), before
        )  # nor does it disturb what is drawn after it
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    train_own(few, NAME, OwnTraining(steps=20, seed=1)).save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    "channels, size", [(1, 4), (1, 8), (3, 21), (1, 28), (3, 32), (3, 48), (3, 100), (3, 256)]
)
def test_images_of_any_size_and_colour_have_a_network(channels, size):
    generator = torch.Generator().manual_seed(size)
    images = torch.randint(
        0, 256, (24, channels, size, size), generator=generator, dtype=torch.uint8
    )
    own = train_own(ImageData("folder", images), NAME, OwnTraining(steps=2, batch=8))
    features, logits = own(images[:5])
    assert features.shape == (5, 64) and logits.shape == (5, 0) and features.isfinite().all()
    torch.testing.assert_close(own(images[:1])[0], features[:1], atol=1e-5, rtol=1e-5)


def test_a_network_is_kept_whole_and_names_what_it_knows(file):
    about = read_facts(file, NAME)
    assert (
        about == of_digits().facts
        and about.data_fingerprint == digits().fingerprint
        and is_own(about.name)
    )
    images = digits().images[:50]
    features, logits = extract_with_logits(images, NAME, weights=file, batch_size=7)
    expected = of_digits()(images)
    torch.testing.assert_close(features, expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits, expected[1], atol=1e-4, rtol=1e-4)
    assert logits.shape == (50, 10) and extract(images[:0], NAME, weights=file).shape == (0, 64)
    with safe_open(file, framework="pt") as opened:
        assert (
            json.loads(opened.metadata()["about"])["held_out_accuracy"] == about.held_out_accuracy
        )


@pytest.mark.parametrize("labelled", [True, False])
def test_fid_on_own_features_grows_with_what_is_wrong_with_the_images(tmp_path, labelled):
    path = tmp_path / "own.safetensors"
    of_digits(labelled).save(path)
    reference = Reference.build(digits(labelled), NAME, weights=path)
    assert reference.features == NAME
    images, labels = digits().images, digits().labels
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    blurred = F.avg_pool2d(images.float(), 3, stride=1, padding=1).byte()
    worse = [images, *((images + scale * noise).clamp(0, 255).byte() for scale in (20, 60, 120))]
    scores = [compare(extract(x, NAME, weights=path), reference)["fid"] for x in worse]
    assert scores[0] < 1e-6 and scores == sorted(scores) and scores[1] > 1e-3
    for wrong in (blurred, images[labels < 5]):  # out of focus; half the classes missing
        assert compare(extract(wrong, NAME, weights=path), reference)["fid"] > scores[1]


def test_the_inception_score_needs_classes(tmp_path):
    path = tmp_path / "own.safetensors"
    of_digits(labelled=False).save(path)
    features, logits = extract_with_logits(digits().images, NAME, weights=path)
    with pytest.raises(ValueError, match="come without classes"):
        compare(features, Reference.of_features(features, NAME), ["inception_score"], logits=logits)


@pytest.mark.parametrize(
    "images, message",
    [
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), r"takes images with 1 channel\(s\) of 8x8, got .*28, 28\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "1 channel"),
        (torch.zeros(2, 1, 8, 8), "expected uint8"),
    ],
)  # fmt: skip
def test_images_that_are_not_shaped_like_the_data_are_refused(file, images, message):
    with pytest.raises(ValueError, match=message):
        extract(images, NAME, weights=file)


def test_gray_images_do_not_pass_for_colour_ones(tmp_path):
    colour = ImageData("x", digits().images[:24].repeat(1, 3, 1, 1))
    train_own(colour, NAME, OwnTraining(steps=1)).save(tmp_path / "own")
    with pytest.raises(ValueError, match=r"3 channel\(s\) of 8x8"):
        extract(digits().images[:2], NAME, weights=tmp_path / "own")


def test_a_reference_of_another_data_set_is_refused(file):
    other = ImageData("other", digits().images[:100])
    with pytest.raises(
        ValueError,
        match=f"{NAME} are for the data set with the fingerprint {digits().fingerprint[:8]} only",
    ):
        Reference.build(other, NAME, weights=file)


def test_another_networks_file_or_none_is_refused(file, tmp_path):
    other = own_name("f" * 20)
    with pytest.raises(ValueError, match=f"is the network {NAME}, not {other}"):
        extract(digits().images[:2], other, weights=file)
    with pytest.raises(ValueError, match="give its file as `weights`"):
        extract(digits().images[:2], NAME)
    (tmp_path / "text").write_text("not tensors")
    for wrong in (tmp_path / "text", tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="is not an own network's file"):
            load_own(wrong, NAME)


def test_too_few_images_and_points_are_refused():
    with pytest.raises(ValueError, match="19 images; features of its own take 20"):
        train_own(ImageData("few", digits().images[:19]), NAME)
    with pytest.raises(ValueError, match="has points"):
        train_own(load("grid9"), NAME)
    with pytest.raises(ValueError, match="is points"):
        features_for("grid9", "own")


def test_classes_of_one_image_each_do_not_hinder_the_others():
    labels = torch.cat([torch.zeros(30), torch.ones(30), torch.tensor([2.0, 4.0])]).long()
    own = train_own(
        ImageData("x", digits().images[:62], labels, ("a", "b", "c", "d", "e")),
        NAME,
        OwnTraining(steps=2),
    )
    assert own.facts.held_out == 12 and own.facts.trained_on == 50 and own.facts.classes == 5


def test_a_network_does_not_grow_with_the_images():
    sizes = {
        size: sum(p.numel() for p in OwnNetwork(3, size, 10).parameters())
        for size in (8, 32, 64, 256, 1024)
    }
    assert max(sizes.values()) < 250_000

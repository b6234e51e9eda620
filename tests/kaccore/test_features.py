import functools
import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from inception_weights import write_random_inception
from torch_fidelity import FeatureExtractorInceptionV3
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

from kaccore import data
from kaccore.metrics.assets.make_classifiers import RECORD, accuracy, split
from kaccore.metrics.extractors import extractor, fetch_official_weights, read_weights
from kaccore.metrics.features import (
    FEATURES,
    INCEPTION,
    INCEPTION_SHA256,
    OFFICIAL,
    OWN,
    SHIPPED_FEATURES,
    classifier_weights,
    feature_label,
    features_for,
    standard_number,
)
from kaccore.metrics.fid import Reference, extract, extract_with_logits

SHIPPED = [(FEATURES[name].data, name) for name in SHIPPED_FEATURES]
load = functools.cache(data.load)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    write_random_inception(path)
    return path


@pytest.mark.parametrize("name, features", SHIPPED)
def test_a_shipped_classifier_knows_at_least_97_percent_of_its_held_out_images(name, features):
    images, record = load(name), json.loads(RECORD.read_text())[features]
    train, held_out = split(images, record["training"]["seed"])
    assert not set(train.tolist()) & set(held_out.tolist()) and len(train) + len(held_out) == len(
        images
    )
    score = accuracy(
        extractor(features).classifier, images.floats()[held_out], images.labels[held_out]
    )
    assert score >= 0.97
    assert score == pytest.approx(record["held_out_accuracy"], abs=1.5 / len(held_out))


@pytest.mark.parametrize("name, features", SHIPPED)
def test_shipped_weights_are_small_and_are_those_that_were_recorded(name, features):
    content = classifier_weights(features).read_bytes()
    record = json.loads(RECORD.read_text())[features]
    assert hashlib.sha256(content).hexdigest() == record["sha256"]
    assert record["data"] == name and record["data_fingerprint"] == load(name).fingerprint
    assert len(content) < 250_000
    assert record["parameters"] == sum(p.numel() for p in extractor(features).parameters())


@pytest.mark.parametrize("name, features", SHIPPED)
def test_features_do_not_depend_on_the_batch_size(name, features):
    images = load(name).images[:100]
    whole = extract(images, features, batch_size=100)
    assert whole.shape == (100, 64) and whole.dtype == torch.float32
    for batch_size in (1, 7, 64):
        torch.testing.assert_close(
            extract(images, features, batch_size=batch_size), whole, atol=1e-5, rtol=1e-5
        )


def test_no_images_give_no_features():
    assert extract(torch.empty(0, 1, 8, 8, dtype=torch.uint8), "digits-cnn-v1").shape == (0, 64)


@pytest.mark.parametrize(
    "images, features, message",
    [
        (torch.zeros(2, 1, 8, 8), "digits-cnn-v1", "uint8"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "digits-cnn-v1", "8x8"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "digits-cnn-v1", r"1 channel\(s\)"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "digits-cnn", "did you mean 'digits-cnn-v1'"),
    ],
)
def test_images_that_do_not_suit_the_features_are_refused(images, features, message):
    with pytest.raises(ValueError, match=message):
        extract(images, features)


def test_auto_means_a_data_sets_shipped_classifier_or_inception_where_it_is_at_hand_or_a_network_of_its_own(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert features_for("digits") == "digits-cnn-v1"
    assert features_for("mnist", "auto") == "mnist-cnn-v1"
    assert features_for("cifar10", weights="file.pth") == INCEPTION
    assert features_for("digits", INCEPTION) == INCEPTION
    assert all(features_for(spec.data or "folder", name) == name for name, spec in FEATURES.items())
    assert features_for("cifar10") == features_for("folder") == features_for("digits", OWN) == OWN
    cached = OFFICIAL[INCEPTION].path
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"weights")
    assert (
        features_for("cifar10") == features_for("folder") == INCEPTION
        and features_for("folder", OWN) == OWN
    )


def test_the_message_says_how_to_get_the_standard_number(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    said = standard_number("evaluation.weights")
    assert (
        OFFICIAL[INCEPTION].url in said and "evaluation.weights" in said and str(tmp_path) in said
    )


@pytest.mark.parametrize(
    "home", [{"TORCH_HOME": "/a"}, {"XDG_CACHE_HOME": "/b"}, {"TORCH_HOME": "~/c"}, {}]
)
def test_fetched_weights_are_looked_for_where_torch_keeps_them(home, monkeypatch):
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, home[name]) if name in home else monkeypatch.delenv(
            name, raising=False
        )
    assert OFFICIAL[INCEPTION].url == URL_INCEPTION_V3
    for official in OFFICIAL.values():
        assert official.path == Path(
            torch.hub.get_dir(), "checkpoints", official.url.split("/")[-1]
        )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("mnist", "digits-cnn-v1"), "are for digits only"),
        (("cifar10", "digits-cnn-v1"), "use auto"),
        (("digits", "inception"), "did you mean 'inception-v3-compat'"),
        (("digits", "auto", "file.pth"), "drop one"),
        (("folder", "own", "file.pth"), "drop one"),
        (("grid9", "own"), "is points"),
    ],
)
def test_features_of_another_data_set_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        features_for(*arguments)


def test_inception_extracts_from_a_file_whose_hash_was_given(inception_file):
    sha256 = hashlib.sha256(inception_file.read_bytes()).hexdigest()
    gray = load("digits").images[:3]
    features = extract(gray, INCEPTION, batch_size=2, weights=inception_file, weights_sha256=sha256)
    theirs = FeatureExtractorInceptionV3(
        INCEPTION, ["2048"], feature_extractor_weights_path=str(inception_file)
    )
    expected = theirs(gray.repeat(1, 3, 1, 1))[0]
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)
    again, logits = extract_with_logits(
        gray, INCEPTION, batch_size=2, weights=inception_file, weights_sha256=sha256
    )
    assert torch.equal(again, features)
    # The Inception Score's logits are those without the last bias, as in TensorFlow's graph.
    torch.testing.assert_close(logits, expected @ theirs.fc.weight.T, atol=1e-3, rtol=1e-3)
    assert features.shape == (3, 2048) and features.std() > 0
    reference = Reference.build(gray, INCEPTION, weights=inception_file, weights_sha256=sha256)
    assert reference.features == f"{INCEPTION}@{sha256[:8]}" == feature_label(INCEPTION, sha256)
    assert feature_label(INCEPTION) == feature_label(INCEPTION, INCEPTION_SHA256) == INCEPTION


class Trap:
    """Unpickling it writes a file: the sign that foreign code has run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "sprung")


def test_weights_with_another_hash_are_refused_before_they_are_unpickled(tmp_path):
    weights, sprung = tmp_path / "weights-6726825d.pth", tmp_path / "sprung"
    torch.save(Trap(sprung), weights)
    for sha256, remedy in (
        (None, "give its hash as `weights_sha256`"),
        ("0" * 64, "correct `weights_sha256`"),
    ):
        with pytest.raises(ValueError, match=remedy):
            extract(
                torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
                INCEPTION,
                weights=weights,
                weights_sha256=sha256,
            )
    assert not sprung.exists()
    torch.load(weights, weights_only=False)  # the trap is a real one
    assert sprung.exists()


def test_a_missing_or_foreign_weights_file_is_named_in_the_error(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.pth.*No such file"):
        read_weights(tmp_path / "nowhere.pth")
    other = tmp_path / "other.pth"
    other.write_bytes(pickle.dumps({"a": 1}))
    sha256 = hashlib.sha256(other.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=r"other\.pth.*does not hold a state dict"):
        extractor(INCEPTION, "cpu", str(other), sha256)


def test_a_failed_download_says_where_to_put_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # the discard port: nobody listens
    with pytest.raises(RuntimeError, match=rf"could not download.*{tmp_path}.*`weights`"):
        fetch_official_weights()


def test_a_corrupt_file_in_the_download_cache_is_not_unpickled(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"half a file")
    with pytest.raises(ValueError, match="sha256"):
        extractor(INCEPTION)

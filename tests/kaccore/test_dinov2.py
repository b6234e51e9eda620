import hashlib

import pytest
import torch
import torch.nn.functional as F
from dino_weights import random_state, write_random_dino
from PIL import Image
from torch import nn

from kaccore import data
from kaccore.metrics.dinov2 import MEAN, STD, VisionTransformer, preprocessed
from kaccore.metrics.extractors import extractor, read_weights
from kaccore.metrics.features import DINOV2, OFFICIAL, feature_label, features_for
from kaccore.metrics.fid import Reference, compare, extract, extract_with_logits

SMALL = "dinov2-vit-s-14"


def colour(count: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(size)
    return torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "dinov2_vits14_pretrain.pth"
    write_random_dino(path, SMALL)
    return path


@pytest.fixture(scope="module")
def sha256(weights):
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def by_torchs_own_encoder(
    state: dict[str, torch.Tensor], x: torch.Tensor, heads: int
) -> torch.Tensor:
    """The class token by `nn.TransformerEncoderLayer`, each layer's scale multiplied into the
    weights before it."""
    width = state["norm.weight"].numel()
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, 0.0, F.gelu, 1e-6, batch_first=True, norm_first=True
    )
    tokens = (
        F.conv2d(x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=14)
        .flatten(2)
        .mT
    )
    tokens = torch.cat([state["cls_token"].expand(len(x), 1, width), tokens], 1)
    grid = state["pos_embed"][:, 1:].reshape(1, 37, 37, width).permute(0, 3, 1, 2)
    # Meta's `interpolate_offset`: each new place is looked up by the scale of 16.1 patches for 37
    grid = F.interpolate(grid, scale_factor=(16.1 / 37, 16.1 / 37), mode="bicubic")
    assert grid.shape[-2:] == (16, 16)
    tokens = tokens + torch.cat(
        [state["pos_embed"][:, :1], grid.permute(0, 2, 3, 1).reshape(1, 256, width)], 1
    )
    for index in range(12):
        of = {
            key.removeprefix(f"blocks.{index}."): v
            for key, v in state.items()
            if key.startswith(f"blocks.{index}.")
        }
        scales = [of["ls1.gamma"], of["ls2.gamma"]]
        layer.load_state_dict({
            "self_attn.in_proj_weight": of["attn.qkv.weight"], "self_attn.in_proj_bias": of["attn.qkv.bias"],
            "self_attn.out_proj.weight": of["attn.proj.weight"] * scales[0][:, None],
            "self_attn.out_proj.bias": of["attn.proj.bias"] * scales[0],
            "linear1.weight": of["mlp.fc1.weight"], "linear1.bias": of["mlp.fc1.bias"],
            "linear2.weight": of["mlp.fc2.weight"] * scales[1][:, None], "linear2.bias": of["mlp.fc2.bias"] * scales[1],
            "norm1.weight": of["norm1.weight"], "norm1.bias": of["norm1.bias"],
            "norm2.weight": of["norm2.weight"], "norm2.bias": of["norm2.bias"],
        })  # fmt: skip
        tokens = layer(tokens)
    return F.layer_norm(tokens, (width,), state["norm.weight"], state["norm.bias"], 1e-6)[:, 0]


@torch.no_grad()
def test_the_network_computes_what_torchs_own_transformer_computes(weights, sha256):
    images = colour(2, 224)
    pixels = (images / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    expected = by_torchs_own_encoder(random_state(SMALL), pixels, heads=6)
    features = extract(images, SMALL, weights=weights, weights_sha256=sha256)
    assert features.shape == (2, 384) and float(features.std()) > 0.1
    torch.testing.assert_close(features, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("size", [8, 32, 64, 256])
def test_images_are_resized_as_pillow_does_it(size):
    images = colour(2, size)
    theirs = [
        Image.fromarray(x.permute(1, 2, 0).numpy()).resize((224, 224), Image.Resampling.BICUBIC)
        for x in images
    ]
    expected = torch.stack(
        [torch.tensor(list(im.tobytes())).reshape(224, 224, 3).permute(2, 0, 1) for im in theirs]
    )
    ours = (
        preprocessed(images) * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    ) * 255
    assert float((ours - expected).abs().max()) < 2.01  # Pillow's weights are fixed-point numbers
    assert float((ours - expected).abs().mean()) < 0.05


@pytest.mark.parametrize(
    "name, file_bytes",
    [(SMALL, 88_283_115), ("dinov2-vit-b-14", 346_378_731), ("dinov2-vit-l-14", 1_217_586_395)],
)
def test_the_networks_hold_as_many_numbers_as_the_published_files(name, file_bytes):
    with torch.device("meta"):
        state = VisionTransformer(name).state_dict()
    assert state["pos_embed"].shape == (1, 1370, DINOV2[name])
    beside_numbers = file_bytes - 4 * sum(value.numel() for value in state.values())
    assert beside_numbers / len(state) == pytest.approx(
        325, abs=2
    )  # each key's name, shape and place in the zip file


def test_gray_images_of_any_size_are_measured_and_the_number_names_the_weights(weights, sha256):
    gray = data.load("digits").images[:6]
    features, logits = extract_with_logits(
        gray, SMALL, batch_size=4, weights=weights, weights_sha256=sha256
    )
    assert features.shape == (6, 384) and logits.shape == (6, 0)
    reference = Reference.build(gray, SMALL, weights=weights, weights_sha256=sha256)
    assert reference.features == f"{SMALL}@{sha256[:8]}" == feature_label(SMALL, sha256)
    assert feature_label(SMALL, OFFICIAL[SMALL].sha256) == feature_label(SMALL) == SMALL
    assert compare(features, reference)["fid"] == pytest.approx(0, abs=1e-2)
    with pytest.raises(ValueError, match="come without classes"):
        compare(features, reference, ["inception_score"], logits=logits)


def test_dinov2_suits_any_images_and_no_points():
    assert all(
        features_for(name, "dinov2-vit-l-14", "file.pth") == "dinov2-vit-l-14"
        for name in ("digits", "folder")
    )
    with pytest.raises(ValueError, match="is points"):
        features_for("grid9", "dinov2-vit-l-14")


def test_weights_are_checked_before_they_are_unpickled_and_are_of_the_network_that_was_asked_for(
    weights, sha256, tmp_path
):
    with pytest.raises(
        ValueError, match=f"{SMALL} .* have sha256 {sha256}.*give its hash as `weights_sha256`"
    ):
        extractor(SMALL, "cpu", str(weights))
    with pytest.raises(ValueError, match="correct `weights_sha256`"):
        read_weights(weights, "0" * 64, SMALL)
    with pytest.raises(ValueError, match="does not hold a state dict of dinov2-vit-b-14"):
        extractor("dinov2-vit-b-14", "cpu", str(weights), sha256)
    class_of_ours = tmp_path / "code.pth"
    torch.save(
        {"a": pytest.approx(1)}, class_of_ours
    )  # anything but tensors, even with the hash given
    digest = hashlib.sha256(class_of_ours.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match="does not hold a state dict"):
        extractor(SMALL, "cpu", str(class_of_ours), digest)


def test_without_a_file_the_official_weights_are_asked_for_and_where_they_cannot_be_had_the_message_says_so(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # the discard port: nobody listens
    url = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth"
    with pytest.raises(RuntimeError, match=rf"{url}.*{tmp_path}.*`weights`"):
        extract(colour(1, 8), "dinov2-vit-l-14")

import itertools

import pytest
import torch
from torch import nn

from kaccore.models import UNet
from kaccore.models.embeddings import sinusoidal
from kaccore.models.unet import Attention, ConvResample, ResidualBlock, level_sizes


def randomised(*args, **options) -> UNet:
    """A network in evaluation mode whose every weight counts: fresh ones start as the zero
    field."""
    torch.manual_seed(0)
    model = UNet(*args, **options).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    return model


def inputs(size: int, channels: int = 1, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, channels, size, size, generator=generator), torch.rand(
        count, generator=generator
    )


def weights(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# --- attention
# ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("asked", [(), (16,), (8, 4), (16, 8, 4)])
def test_attention_sees_images_of_exactly_the_sizes_asked_for(asked, patch):
    model = randomised(
        16 * patch, 1, channels=8, multipliers=(1, 2, 2), blocks=1, attention=asked, patch=patch
    )
    seen = []
    for module in model.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda module, given, out: seen.append(given[0].shape[-1]))
    model(*inputs(16 * patch))
    assert set(seen) == set(asked)
    for size in (
        asked
    ):  # one on the way down, two on the way up, and those of the blocks that arrive at the size
        arrivals = {16: 1, 8: 2, 4: 1}[size] + (
            size == 4
        )  # by resampling; at the bottom the middle block as well
        assert seen.count(size) == 3 + arrivals


def test_attention_as_published_is_in_ordinary_blocks_and_always_in_the_middle():
    def attending(asked) -> tuple[list[str], bool]:
        model = UNet(
            16, 1, channels=8, multipliers=(1, 2, 2), blocks=1, attention=asked, attention_in="adm"
        )
        blocks = [b for b in [*model.down, *model.up] if b.attention is not None]
        return [b.place for b in blocks], model.middle[0].attention is not None

    assert attending(()) == ([], True)
    assert attending((8,)) == (["level"] * 3, True)  # one on the way down, two on the way up
    assert attending((16, 8, 4)) == (["level"] * 9, True)


def test_attention_is_torchs_own_multi_head_attention():
    torch.manual_seed(2)
    ours = Attention(24, heads=3)
    theirs = nn.MultiheadAttention(24, 3, batch_first=True)
    nn.init.normal_(ours.out.weight)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight.flatten(1))
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.out.weight.flatten(1))
        theirs.out_proj.bias.copy_(ours.out.bias)
    x = torch.randn(2, 24, 4, 5)
    tokens = ours.norm(x).flatten(2).transpose(1, 2)
    expected = x + theirs(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)
    assert torch.allclose(ours(x), expected, atol=1e-4)


def test_only_attention_carries_a_pixels_influence_across_the_whole_image():
    for asked, reaches in ((), False), ((16,), True):
        model = randomised(16, 1, channels=8, multipliers=(1,), blocks=1, attention=asked)
        for module in list(model.modules()):  # group norm, too, looks at the whole image
            for name, part in list(module.named_children()):
                if isinstance(part, nn.GroupNorm):
                    setattr(module, name, nn.Identity())
        x, t = inputs(16, count=1)
        x.requires_grad_()
        model(x, t)[0, 0, 0, 0].backward()
        assert (x.grad[0, 0, 15, 15].abs() > 0).item() == reaches


# --- variants of the published code
# ---------------------------------------------------------------------------------


def test_a_shift_comes_before_the_norm_and_a_scaled_shift_after_it():
    """So what moves all channels alike is taken out by the norm in the one, and stays in the
    other."""
    x = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(4))
    emb = torch.zeros(2, 16)
    for scale_shift, seen in (False, False), (True, True):
        torch.manual_seed(5)
        block = ResidualBlock(8, 8, 16, scale_shift=scale_shift)
        nn.init.normal_(block.conv_out.weight)
        linear = block.scale_shift if scale_shift else block.shift
        assert linear.out_features == (16 if scale_shift else 8)
        nn.init.zeros_(linear.bias)
        before = block(x, emb)
        nn.init.constant_(linear.bias[-8:], 3.0)
        assert torch.allclose(block(x, emb), before, atol=1e-3) != seen
        nn.init.normal_(linear.bias[-8:])
        assert not torch.allclose(block(x, emb), before, atol=1e-3)


def test_one_convolution_halves_an_image_or_doubles_it():
    x = torch.arange(16.0).reshape(1, 1, 4, 4).expand(1, 2, 4, 4)
    for place, expected in (
        ("down", x[..., ::2, ::2]),
        ("up", x.repeat_interleave(2, 2).repeat_interleave(2, 3)),
    ):
        layer = ConvResample(2, place)
        nn.init.dirac_(layer.conv.weight)
        nn.init.zeros_(layer.conv.bias)
        assert torch.equal(layer(x, torch.zeros(1, 8)), expected)


# --- conditioning
# ---------------------------------------------------------------------------------------------------


def test_a_label_of_minus_one_and_no_label_are_the_null_label():
    model = randomised(8, 1, channels=8, multipliers=(1, 2), blocks=1, classes=3)
    x, t = inputs(8)
    none, minus = model(x, t), model(x, t, torch.full((3,), -1))
    assert torch.equal(none, minus)
    mixed = model(x, t, torch.tensor([1, -1, 2]))
    assert torch.allclose(mixed[1], none[1], atol=1e-5)
    assert not torch.allclose(mixed[[0, 2]], none[[0, 2]], atol=1e-2)


def test_every_label_gives_a_field_of_its_own():
    model = randomised(8, 1, channels=8, multipliers=(1, 2), blocks=1, classes=4)
    x, t = inputs(8, count=1)
    fields = [model(x, t, torch.tensor([label])) for label in (-1, 0, 1, 2, 3)]
    for one, other in itertools.combinations(fields, 2):
        assert (one - other).abs().max() > 1e-2


def test_labels_for_a_network_without_classes_are_refused():
    with pytest.raises(ValueError, match="without classes"):
        UNet(8, 1, channels=8, multipliers=(1,))(*inputs(8), torch.zeros(3, dtype=torch.int64))


def test_the_network_tells_a_thousandth_of_the_time_apart():
    model = randomised(8, 1, channels=32, multipliers=(1, 2), blocks=1)
    x, _ = inputs(8, count=1)
    now, soon, again = (model(x, torch.tensor([t])) for t in (0.500, 0.501, 0.500))
    assert torch.equal(now, again)
    assert (now - soon).abs().mean() > 0.05 * now.abs().mean()


def test_times_that_are_close_have_close_embeddings_and_no_two_thousandths_the_same():
    t = torch.linspace(0, 1, 1001)
    embedding = nn.functional.normalize(sinusoidal(t, 64))
    likeness = embedding @ embedding.T
    assert likeness.diagonal(1).min() > 0.5 > likeness.diagonal(500).max()
    assert (likeness - torch.eye(1001)).max() < 1 - 1e-3


def test_one_time_for_all_is_that_time_for_each():
    model = randomised(8, 1, channels=8, multipliers=(1,))
    x, _ = inputs(8)
    assert torch.equal(model(x, torch.tensor(0.3)), model(x, torch.full((3,), 0.3)))


# --- the network as a function
# --------------------------------------------------------------------------------------


def test_a_fresh_network_is_the_zero_field():
    torch.manual_seed(3)
    assert (UNet(8, 3, channels=8, multipliers=(1, 2), attention=(4,))(*inputs(8, 3)) == 0).all()


@pytest.mark.parametrize(
    "options", [{}, {"scale_shift": False, "resample": "conv", "attention_in": "adm"}]
)
@pytest.mark.parametrize(
    "size, image_channels, multipliers", [(8, 1, (1, 2)), (28, 1, (1, 2, 2)), (32, 3, (1, 2, 2, 2))]
)
def test_every_weight_is_used_at_every_supported_size(size, image_channels, multipliers, options):
    model = randomised(size, image_channels, channels=8, multipliers=multipliers, blocks=1,
                       attention=level_sizes(size, len(multipliers))[1:], classes=2, **options)  # fmt: skip
    x, t = inputs(size, image_channels)
    field = model(x, t, torch.tensor([0, 1, -1]))
    assert field.shape == x.shape and field.isfinite().all()
    field.square().sum().backward()
    idle = [name for name, weight in model.named_parameters() if not weight.grad.abs().max() > 0]
    assert not idle


def test_an_images_field_does_not_depend_on_its_neighbours_in_the_batch():
    model = randomised(8, 1, channels=8, multipliers=(1, 2), blocks=1, attention=(4,))
    x, t = inputs(8, count=5)
    alone = torch.cat([model(x[i : i + 1], t[i : i + 1]) for i in range(5)])
    assert torch.allclose(model(x, t), alone, rtol=1e-3, atol=1e-4)


def test_dropout_acts_in_training_and_never_else():
    model = randomised(8, 1, channels=8, multipliers=(1, 2), blocks=1, dropout=0.5)
    x, t = inputs(8)
    assert torch.equal(model(x, t), model(x, t))
    model.train()
    assert not torch.equal(model(x, t), model(x, t))
    undropped = randomised(8, 1, channels=8, multipliers=(1, 2), blocks=1)
    assert torch.equal(model.eval()(x, t), undropped(x, t)) and torch.equal(
        undropped.train()(x, t), undropped(x, t)
    )


@pytest.mark.parametrize("patch", [2, 4])
def test_a_patched_network_is_the_plain_one_on_pixels_folded_into_channels(patch):
    size = 16
    options = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (16 // patch,)}
    patched = randomised(size, 3, patch=patch, **options)
    plain = randomised(size // patch, 3 * patch**2, **options)
    plain.load_state_dict(patched.state_dict())
    x, t = inputs(size, 3)
    corners = [(i, j) for i in range(patch) for j in range(patch)]
    folded = torch.stack([x[:, :, i::patch, j::patch] for i, j in corners], dim=2).flatten(1, 2)
    expected = plain(folded, t).unflatten(1, (3, len(corners)))
    for k, (i, j) in enumerate(corners):
        assert torch.equal(patched(x, t)[:, :, i::patch, j::patch], expected[:, :, k])


# --- size
# -----------------------------------------------------------------------------------------------------------


PLAIN = {
    "channels": 128,
    "multipliers": (1, 2, 2, 2),
    "blocks": 2,
    "dropout": 0.1,
}  # arXiv 2506.20641
PLAIN_ADM = {**PLAIN, "scale_shift": False, "resample": "conv", "attention_in": "adm"}
LARGE_ADM = {
    "channels": 256,
    "multipliers": (1, 2, 2, 3),
    "blocks": 3,
    "attention_in": "adm",
}  # arXiv 2509.21513
IMAGENET64 = {
    "channels": 192,
    "multipliers": (1, 2, 3, 4),
    "blocks": 3,
    "attention_in": "adm",
}  # arXiv 2105.05233


@pytest.mark.parametrize(
    "published, weights_exactly, size, classes, options",
    [
        (
            "34.4",
            34_427_907,
            32,
            0,
            PLAIN_ADM,
        ),  # its factor 16 is the size 2, which it has not: the middle alone
        ("35.7", 35_746_307, 32, 0, {**PLAIN_ADM, "attention": (16,)}),  # as it was meant
        ("322.6", 322_644_483, 32, 0, {**LARGE_ADM, "attention": (16, 8, 4)}),
        (
            "322.7",
            322_644_483 + 11 * 1024,
            32,
            10,
            {**LARGE_ADM, "attention": (16, 8, 4)},
        ),  # ten labels and the null
        (
            "295.9",
            295_899_267 + 768,
            64,
            1000,
            {**IMAGENET64, "attention": (32, 16, 8)},
        ),  # published without a null
        (
            "42.9",
            42_921_731,
            32,
            0,
            {**PLAIN, "attention": (16,)},
        ),  # not published: our defaults at the first's size
    ],
)
def test_the_published_networks_have_the_published_weights(
    published, weights_exactly, size, classes, options
):
    """The exact numbers are sums by hand over the layers of arXiv 2105.05233's code. In print: 34
    million, 35.7 million (DDPM's network, arXiv 2006.11239), and 296 million for 64x64 images."""
    with torch.device("meta"):
        model = UNet(size, 3, classes=classes, **options)
    assert weights(model) == weights_exactly
    assert f"{weights_exactly / 1e6:.1f}" == published


def test_sizes_are_halved_while_they_can_be():
    assert (
        level_sizes(32, 4) == [32, 16, 8, 4]
        and level_sizes(28, 3) == [28, 14, 7]
        and level_sizes(8, 1) == [8]
    )


@pytest.mark.parametrize(
    "options, match",
    [
        ({"size": 28, "multipliers": (1, 1, 1, 1)}, "images of 28 can be halved only to 7"),
        ({"size": 8, "multipliers": (1, 1, 1, 1)}, "images of 8 can be halved only to 2"),
        (
            {"size": 8, "attention": (16,)},
            r"attention at sizes \[16\]: this U-Net has the sizes \[8, 4\]",
        ),
        (
            {"size": 32, "attention": (2,)},
            "this U-Net has the sizes",
        ),  # a down-sampling factor, not a size
        (
            {"size": 8, "attention": (4,), "head_channels": 12},
            "not a multiple of head_channels = 12",
        ),
        ({"size": 8, "resample": "pool"}, "resample = 'pool': expected one of residual, conv"),
        (
            {"size": 8, "attention_in": "middle"},
            "attention_in = 'middle': expected one of all, adm",
        ),
        ({"size": 8, "patch": 3}, "patch = 3"),
        ({"size": 8, "patch": 0}, "patch = 0"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        UNet(**{"image_channels": 1, "channels": 8, "multipliers": (1, 2), **options})

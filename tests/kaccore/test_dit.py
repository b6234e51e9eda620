import pytest
import torch
from torch import nn

from kaccore.models import DiT
from kaccore.models.dit import Block, sine_positions

SMALL = {"channels": 24, "depth": 2, "heads": 3}


def randomised(*args, **options) -> DiT:
    """A network in evaluation mode whose every weight counts: fresh ones start as the zero
    field."""
    torch.manual_seed(0)
    model = DiT(*args, **options).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    return model


def inputs(size: int, channels: int = 1, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, channels, size, size, generator=generator), torch.rand(
        count, generator=generator
    )


# --- size
# -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "millions, channels, depth, heads",
    [(33, 384, 12, 6), (130, 768, 12, 12), (458, 1024, 24, 16), (675, 1152, 28, 16)],
)
def test_the_published_networks_have_the_published_weights(millions, channels, depth, heads):
    """Latents of 32x32x4, patches of 2, a thousand labels and the null; published with a variance
    beside the mean."""
    with torch.device("meta"):
        model = DiT(32, 4, channels=channels, depth=depth, heads=heads, patch=2, classes=1000)
    variance = 2 * 2 * 4 * (channels + 1)
    found = sum(p.numel() for p in model.parameters()) + variance
    assert round(found / 1e6) == millions
    by_hand = (
        (16 + 1) * channels + (256 + 1) * channels + (channels + 1) * channels + 1001 * channels
    )  # what enters
    by_hand += depth * (
        12 * channels**2 + 9 * channels + 6 * channels * (channels + 1)
    )  # attention, MLP, adaLN
    by_hand += 2 * channels * (channels + 1) + 32 * (channels + 1)  # what leaves
    assert found == by_hand
    if millions == 675:  # its published checkpoint, which holds the fixed positions as well
        assert found + model.positions.numel() == 675_129_632


@pytest.mark.parametrize(
    "options, match",
    [
        ({"patch": 3}, "patch = 3: does not divide images of 8"),
        ({"patch": 0}, "patch = 0"),
        ({"heads": 5}, "heads = 5: does not divide channels = 24"),
        ({"heads": 0}, "heads = 0"),
        ({"channels": 6, "heads": 3}, "channels = 6: expected a multiple of 4"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        DiT(8, 1, **{**SMALL, **options})


# --- parts
# ----------------------------------------------------------------------------------------------------------


def test_attention_is_torchs_own_multi_head_attention():
    torch.manual_seed(2)
    ours, theirs = Block(24, heads=3), nn.MultiheadAttention(24, 3, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias.normal_())
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias.normal_())
    tokens = torch.randn(2, 10, 24)
    assert torch.allclose(ours.attend(tokens), theirs(tokens, tokens, tokens)[0], atol=1e-5)


def test_a_fresh_block_is_the_identity_whatever_its_condition():
    torch.manual_seed(3)
    tokens = torch.randn(2, 10, 24)
    assert torch.equal(Block(24, heads=3)(tokens, torch.randn(2, 24)), tokens)


def test_positions_differ_and_their_products_depend_on_the_offset_alone():
    side = 5
    positions = sine_positions(side, 32).unflatten(0, (side, side))
    products = torch.einsum("ijc,klc->ijkl", positions, positions)
    assert torch.allclose(products[0, 0, 2, 1], products[2, 3, 4, 4], atol=1e-5)
    assert torch.allclose(products[1, 4, 3, 0], products[0, 4, 2, 0], atol=1e-5)
    assert (products[0, 0, 2, 1] - products[0, 0, 1, 2]).abs() < 1e-5  # rows and columns are alike
    assert products[0, 0, 0, 0] - products[0, 0].flatten()[1:].max() > 0.1


@pytest.mark.parametrize("placed", [True, False])
def test_only_its_positions_tell_a_network_where_a_patch_lies(placed):
    model = randomised(8, 3, patch=4, **SMALL)
    if not placed:
        model.positions.zero_()
    x, t = inputs(8, 3)

    def turned(
        image: torch.Tensor,
    ) -> torch.Tensor:  # the left and the right patches in each other's place
        return image.roll(4, dims=3)

    moved = torch.allclose(model(turned(x), t), turned(model(x, t)), rtol=1e-3, atol=1e-3)
    assert moved != placed


# --- the network as a function
# --------------------------------------------------------------------------------------


def test_a_fresh_network_is_the_zero_field():
    torch.manual_seed(3)
    assert (DiT(8, 3, **SMALL)(*inputs(8, 3)) == 0).all()


@pytest.mark.parametrize("size, image_channels, patch", [(8, 1, 1), (8, 3, 2), (28, 1, 4)])
def test_every_weight_is_used(size, image_channels, patch):
    model = randomised(size, image_channels, patch=patch, classes=2, **SMALL)
    x, t = inputs(size, image_channels)
    field = model(x, t, torch.tensor([0, 1, -1]))
    assert field.shape == x.shape and field.isfinite().all()
    field.square().sum().backward()
    assert not [
        name for name, weight in model.named_parameters() if not weight.grad.abs().max() > 0
    ]


def test_an_images_field_does_not_depend_on_its_neighbours_in_the_batch():
    model = randomised(8, 1, **SMALL)
    x, t = inputs(8, count=5)
    alone = torch.cat([model(x[i : i + 1], t[i : i + 1]) for i in range(5)])
    assert torch.allclose(model(x, t), alone, rtol=1e-3, atol=1e-3)


def test_dropout_acts_in_training_and_never_else():
    model = randomised(8, 1, dropout=0.5, **SMALL)
    x, t = inputs(8)
    assert torch.equal(model(x, t), model(x, t))
    model.train()
    assert not torch.equal(model(x, t), model(x, t))


def test_it_learns_a_few_images_by_heart():
    torch.manual_seed(4)
    model = DiT(8, 1, channels=32, depth=2, heads=4, classes=2)
    (x, t) = inputs(8, count=8)
    labels, target = torch.arange(8) % 2, torch.randn(8, 1, 8, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(300):
        loss = (model(x, t, labels) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01 * target.square().mean()

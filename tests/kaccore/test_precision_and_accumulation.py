import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from kaccore.checkpoint import load_checkpoint, save_checkpoint
from kaccore.losses import flow_matching_loss
from kaccore.models import MLP, DiT, UNet
from kaccore.paths import KacPath
from kaccore.process import KacProcess
from kaccore.tensors import generator_for
from kaccore.training import Settings, Training, batch_indices

POINTS = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
BATCH = 12


def settings(**options) -> Settings:
    return Settings(**{"steps": 4, "lr": 1e-2, "ema": 0.9, "seed": 3, **options})


def perceptron(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Dropout(dropout), nn.Linear(16, 2))


def reconstruction(accumulate: int, seed: int = 3):
    """A loss without noise of its own: that of a whole batch is the mean of those of its parts."""

    def loss(model: nn.Module, part: int) -> torch.Tensor:
        x = POINTS[batch_indices(len(POINTS), BATCH, part, seed, accumulate=accumulate)]
        return (model(x) - x.flip(1)).square().mean()

    return loss


def kac_loss(model: nn.Module, part: int) -> torch.Tensor:
    path, generator = KacPath(KacProcess(25.0, 2.0)), generator_for(3, "noise", part)
    return flow_matching_loss(model, path, POINTS[:BATCH], generator=generator)


# --- accumulation
# ---------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4), st.integers(0, 30))
def test_the_parts_of_a_batch_are_together_the_batch(count, share, accumulate, step):
    size = share * accumulate
    whole = batch_indices(count, size, step, seed=1)
    parts = [
        batch_indices(count, size, part, 1, accumulate)
        for part in range(step * accumulate, (step + 1) * accumulate)
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_a_batch_that_does_not_divide_into_its_parts_is_refused():
    with pytest.raises(ValueError, match="batch_size = 12: not a multiple of 5 parts"):
        batch_indices(100, 12, 0, 0, accumulate=5)


@pytest.mark.parametrize("accumulate", [2, 3, 12])
def test_a_step_of_parts_is_the_step_of_the_whole_batch(accumulate):
    whole = Training(perceptron(), settings())
    parted = Training(perceptron(), settings(accumulate=accumulate))
    expected = dict(whole.run(reconstruction(1)))
    found = dict(parted.run(reconstruction(accumulate)))
    assert [found[k]["loss"] for k in found] == pytest.approx(
        [expected[k]["loss"] for k in expected], rel=1e-4
    )
    for mine, theirs in zip(parted.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4)
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_parts_are_numbered_through_all_steps_and_drop_out_differently(accumulate):
    parts, masks = [], []

    def loss(model: nn.Module, part: int) -> torch.Tensor:
        parts.append(part)
        masks.append(
            tuple(torch.rand(3).tolist())
        )  # of the global generator, which dropout draws from
        return model(POINTS).square().mean()

    list(Training(perceptron(), settings(accumulate=accumulate)).run(loss))
    assert parts == list(range(4 * accumulate)) and len(set(masks)) == 4 * accumulate


def test_an_interrupted_run_of_parts_is_the_uninterrupted_one_bit_for_bit(tmp_path):
    chosen = settings(accumulate=2, precision="bfloat16")
    whole = Training(perceptron(dropout=0.5), chosen)
    list(whole.run(reconstruction(2)))

    first = Training(perceptron(dropout=0.5), chosen)
    for step, _ in first.run(reconstruction(2)):
        if step == 2:
            break
    resumed = Training(perceptron(dropout=0.5), chosen)
    resumed.restore(*load_checkpoint(save_checkpoint(tmp_path, *first.state())))
    list(resumed.run(reconstruction(2)))
    expected, found = whole.state()[0], resumed.state()[0]
    assert not [name for name in expected if not torch.equal(expected[name], found[name])]


def test_the_gradients_of_parallel_workers_travel_once_a_step(tmp_path):
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        model, journeys = perceptron(), []
        parallel = DistributedDataParallel(model)

        def travel(state, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
            journeys.append(training.step)
            done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
            done.set_result(bucket.buffer())
            return done

        parallel.register_comm_hook(None, travel)
        training = Training(model, settings(accumulate=3), parallel)
        list(training.run(reconstruction(3)))
    finally:
        dist.destroy_process_group()
    alone = Training(perceptron(), settings(accumulate=3))
    list(alone.run(reconstruction(3)))
    assert journeys == [0, 1, 2, 3]
    for mine, theirs in zip(model.parameters(), alone.model.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


# --- precision
# ------------------------------------------------------------------------------------------------------


def test_bfloat16_is_what_is_multiplied_and_float32_what_is_kept():
    training = Training(MLP(2, channels=16), settings(precision="bfloat16"))
    seen = set()
    training.model.blocks[0].hidden.register_forward_hook(
        lambda module, given, out: seen.add(out.dtype)
    )
    losses = []

    def loss(model: nn.Module, part: int) -> torch.Tensor:
        losses.append(kac_loss(model, part))
        return losses[-1]

    list(training.run(loss))
    assert seen == {torch.bfloat16} and {each.dtype for each in losses} == {torch.float32}
    tensors, _ = training.state()
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert {weight.grad.dtype for weight in training.model.parameters()} == {torch.float32}


def test_bfloat16_trains_as_float32_does_but_for_rounding():
    final = {}
    for precision in ("float32", "bfloat16"):
        training = Training(perceptron(), settings(precision=precision, steps=60))
        final[precision] = [metrics["loss"] for _, metrics in training.run(reconstruction(1))]
    assert final["bfloat16"] != final["float32"]
    assert final["bfloat16"] == pytest.approx(final["float32"], rel=0.05)
    assert final["bfloat16"][-1] < 0.5 * final["bfloat16"][0]


@pytest.mark.parametrize(
    "model",
    [UNet(8, 1, channels=8, multipliers=(1, 2), blocks=1, attention=(4,)), DiT(8, 1, channels=24, depth=1, heads=3),
     MLP(64, channels=16)],
    ids=["unet", "dit", "mlp"],
)  # fmt: skip
def test_networks_under_autocast_are_near_themselves_and_answer_in_the_dtype_of_x(model):
    torch.manual_seed(0)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.1)
    x, t = torch.randn(4, 1, 8, 8), torch.rand(4)
    exact = model(x, t)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(x, t)
    assert found.dtype == torch.float32 and not torch.equal(found, exact)
    assert (found - exact).square().mean() < 1e-3 * exact.square().mean()


@pytest.mark.parametrize(
    "options, match",
    [
        ({"precision": "float16"}, "precision = 'float16': expected one of float32, bfloat16"),
        ({"accumulate": 0}, "accumulate = 0: expected at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        settings(**options)

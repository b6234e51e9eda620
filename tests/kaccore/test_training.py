import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kaccore.checkpoint import load_checkpoint, save_checkpoint
from kaccore.data import load
from kaccore.ema import EMA
from kaccore.losses import drop_labels, flow_matching_loss
from kaccore.models import UNet
from kaccore.paths import KacPath
from kaccore.process import KacProcess
from kaccore.tensors import generator_for
from kaccore.training import (
    NonFiniteLossError,
    Settings,
    Training,
    batch_indices,
    learning_rate,
    shard_of,
)

PATH = KacPath(KacProcess(25.0, 2.0), clock="quadratic")


@pytest.fixture(scope="module")
def digits():
    data = load("digits")
    return data.floats(), data.labels


def network(seed: int) -> UNet:
    torch.manual_seed(seed)
    return UNet(
        8, 1, channels=8, multipliers=(1, 2), blocks=1, attention=(4,), dropout=0.3, classes=10
    )


def digit_loss(digits, seed: int, batch_size: int = 16):
    """The loss of a guided Kac flow on batch `step`, all of whose randomness is a function of
    (seed, step)."""
    images, labels = digits

    def loss(model: nn.Module, step: int) -> torch.Tensor:
        index = batch_indices(len(images), batch_size, step, seed)
        generator = generator_for(seed, "noise", step)
        kept = drop_labels(labels[index], 0.1, generator)
        return flow_matching_loss(model, PATH, images[index], kept, generator)

    return loss


def line(weight: float = 0.0) -> nn.Linear:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, weight)
    return model


def towards(target: float):
    return lambda model, step: (model.weight - target).square().sum()


# --- interruption
# ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("stops", [[5], [1, 2, 9]])
def test_an_interrupted_and_restored_run_is_the_uninterrupted_one_bit_for_bit(
    digits, tmp_path, stops, memory_format
):
    settings = Settings(steps=10, lr=2e-3, ema=0.99, warmup=3, seed=4, averages=(0.5, 0.0))

    def network_here(seed: int) -> nn.Module:
        return network(seed).to(memory_format=memory_format)

    whole = Training(network_here(0), settings)
    metrics = dict(whole.run(digit_loss(digits, settings.seed)))

    resumed = Training(network_here(0), settings)
    losses = {}
    described = None
    for stop in [*stops, settings.steps]:
        if (
            described is not None
        ):  # a new process: other weights at first, the global generator wherever it is
            resumed = Training(network_here(stop), settings)
            resumed.restore(*load_checkpoint(described))
        for step, values in resumed.run(digit_loss(digits, settings.seed)):
            losses[step] = values
            if step == stop:
                break
        described = save_checkpoint(tmp_path, *resumed.state())

    assert losses == metrics
    expected, found = whole.state(), load_checkpoint(described)
    assert found[1] == expected[1] == {"step": 10}
    assert found[0].keys() == expected[0].keys()
    kinds = {name.split(".")[0].split(" ")[0] for name in found[0]}
    assert kinds == {"model", "ema", "average", "adam"}
    different = [
        name for name, tensor in expected[0].items() if not torch.equal(tensor, found[0][name])
    ]
    assert not different


def test_a_further_average_is_the_one_of_a_training_with_its_decay(digits):
    common = {"steps": 6, "lr": 2e-3, "seed": 4}
    several = Training(network(0), Settings(ema=0.99, averages=(0.5, 0.0), **common))
    alone = Training(network(0), Settings(ema=0.5, **common))
    for training in (several, alone):
        dict(training.run(digit_loss(digits, 4)))
    for average, expected in ((0.5, alone.ema.model), (0.0, several.model)):
        pairs = zip(
            several.averages[average].model.parameters(), expected.parameters(), strict=True
        )
        assert all(torch.equal(one, other) for one, other in pairs)


def test_the_run_depends_on_its_seed_and_dropout_on_the_rank(digits):
    def first_loss(seed: int, rank: int) -> float:
        training = Training(network(0), Settings(steps=1, lr=1e-3, ema=0.9, seed=seed))
        for weight in training.model.parameters():
            nn.init.normal_(
                weight, std=0.3, generator=torch.Generator().manual_seed(weight.numel())
            )
        return next(training.run(digit_loss(digits, seed=7), rank))[1]["loss"]

    assert first_loss(1, 0) == first_loss(1, 0)
    assert (
        len({first_loss(1, 0), first_loss(2, 0), first_loss(1, 1)}) == 3
    )  # the batches are the same: dropout is not


def test_a_finished_run_has_nothing_left_to_do():
    training = Training(line(), Settings(steps=3, lr=0.1, ema=0.5))
    assert [step for step, _ in training.run(towards(1.0))] == [1, 2, 3]
    assert list(training.run(towards(1.0))) == [] and training.step == 3


# --- data order
# -----------------------------------------------------------------------------------------------------

counts = st.integers(1, 40)


@given(counts, st.integers(1, 60), st.integers(0, 2**31))
def test_every_epoch_shows_every_image_once(count, batch_size, seed):
    batches = math.ceil(3 * count / batch_size)
    shown = torch.cat([batch_indices(count, batch_size, step, seed) for step in range(batches)])
    for epoch in shown[: 3 * count].split(count):
        assert epoch.sort().values.tolist() == list(range(count))


@given(counts, st.integers(1, 8), st.integers(1, 6), st.integers(0, 50), st.integers(0, 2**31))
def test_the_workers_shares_together_are_the_batch_of_one_worker(count, share, world, step, seed):
    alone = batch_indices(count, share * world, step, seed)
    shares = [alone[shard_of(len(alone), rank, world)] for rank in range(world)]
    assert torch.equal(torch.stack(shares, dim=1).flatten(), alone)


def test_every_epoch_and_every_seed_has_an_order_of_its_own():
    orders = [
        batch_indices(100, 100, epoch, seed).tolist() for epoch in (0, 1, 2) for seed in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == 6


def test_a_batch_that_does_not_divide_among_the_workers_is_refused():
    with pytest.raises(ValueError, match="10 images at a time: not a multiple of 3 workers"):
        shard_of(10, rank=0, world=3)


# --- learning rate
# --------------------------------------------------------------------------------------------------


def test_the_warm_up_is_a_straight_line_to_the_full_rate():
    settings = Settings(steps=100, lr=0.8, ema=0.5, schedule="constant", warmup=4)
    assert [learning_rate(settings, step) for step in (0, 1, 2, 3, 4, 99)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 0.8, 0.8]
    )


def test_the_cosine_falls_from_the_full_rate_to_one_percent_of_it():
    settings = Settings(steps=1000, lr=2.0, ema=0.5)
    rates = [learning_rate(settings, step) for step in range(1000)]
    assert (
        rates[0] == 2.0
        and rates[500] == pytest.approx(2.0 * 0.505)
        and rates[-1] == pytest.approx(0.02, rel=1e-3)
    )
    assert all(a > b for a, b in pairwise(rates))
    about_the_middle = [rates[k] + rates[1000 - k] for k in range(1, 1000)]
    assert about_the_middle == pytest.approx([2.0 * 1.01] * 999)


def test_the_rate_of_the_schedule_is_the_one_that_is_used():
    settings = Settings(steps=6, lr=0.1, ema=0.5, warmup=3)
    training = Training(line(), settings)
    moves = []
    before = 0.0
    for step, metrics in training.run(
        lambda model, step: model.weight.sum()
    ):  # Adam under a steady gradient moves by lr
        moves.append(before - training.model.weight.item())
        before = training.model.weight.item()
        assert metrics["lr"] == learning_rate(settings, step - 1)
    assert moves == pytest.approx([learning_rate(settings, step) for step in range(6)], rel=1e-3)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="schedule = 'linear': expected constant or cosine"):
        learning_rate(Settings(steps=1, lr=1.0, ema=0.5, schedule="linear"), 0)


# --- averages
# -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.15, 0.9, 0.9999])
def test_the_average_follows_its_recursion_through_the_warm_up(decay):
    model = line(5.0)
    ema, average = EMA(model, decay), 5.0
    for step in range(200):
        value = math.sin(step) + step / 50
        nn.init.constant_(model.weight, value)
        ema.update(model, step)
        keep = min(decay, (step + 1) / (step + 10))
        average = keep * average + (1 - keep) * value
    assert ema.model.weight.item() == pytest.approx(average, rel=1e-4)


def test_the_warm_up_forgets_the_start_that_a_plain_average_would_remember():
    model, settled = line(1000.0), line(1.0)
    ema = EMA(model, 0.9999)
    for step in range(300):
        ema.update(settled, step)
    assert ema.model.weight.item() == pytest.approx(
        1.0, abs=1e-3
    )  # 0.9999^300 of a thousand would be 970


def test_averages_copy_buffers_and_take_no_part_in_training():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema = EMA(model, 0.9)
    model(torch.randn(8, 2))
    ema.update(model, 0)
    assert (
        torch.equal(ema.model[1].running_mean, model[1].running_mean)
        and ema.model[1].num_batches_tracked == 1
    )
    assert not any(p.requires_grad for p in ema.model.parameters()) and not ema.model.training


def test_a_training_run_averages_the_weights_after_each_step():
    training, average = Training(line(), Settings(steps=20, lr=0.3, ema=0.7)), 0.0
    for step, _ in training.run(towards(1.0)):
        keep = min(0.7, step / (step + 9))
        average = keep * average + (1 - keep) * training.model.weight.item()
    assert training.ema.model.weight.item() == pytest.approx(average, rel=1e-5)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5, math.nan])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match="ema = "):
        EMA(line(), decay)


# --- faults
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_before_it_spoils_the_weights(bad):
    training = Training(line(), Settings(steps=10, lr=0.125, ema=0.5, schedule="constant"))
    loss = lambda model, step: towards(1.0)(model, step) * (bad if step == 2 else 1.0)  # noqa: E731
    run, done = training.run(loss), []
    with pytest.raises(NonFiniteLossError) as error:
        for step, metrics in run:
            done.append((step, metrics["loss"], training.model.weight.item()))
    steps, losses, seen = zip(*done, strict=True)
    assert steps == (1, 2)
    for part in (
        "step 3",
        f"loss is {bad}",
        f"last good loss {losses[-1]:.6g}",
        "learning rate 0.125",
    ):
        assert part in str(error.value)
    assert training.model.weight.item() == seen[-1] and training.step == 2


def test_losses_that_are_not_waited_for_change_nothing():
    settings = Settings(steps=12, lr=0.125, ema=0.5)
    waiting, ahead = Training(line(), settings), Training(line(), settings)
    ahead.ahead = 5  # as a GPU is given
    losses = [float(metrics["loss"]) for _, metrics in ahead.run(towards(1.0))]
    assert losses == [metrics["loss"] for _, metrics in waiting.run(towards(1.0))]
    assert ahead.model.weight.item() == waiting.model.weight.item()


def test_a_loss_that_is_not_finite_is_found_though_it_was_not_waited_for():
    training = Training(line(), Settings(steps=10, lr=0.125, ema=0.5, schedule="constant"))
    training.ahead = 5
    run = training.run(
        lambda model, step: towards(1.0)(model, step) * (math.nan if step == 2 else 1.0)
    )
    done = [float(next(run)[1]["loss"]) for _ in range(3)]
    with pytest.raises(
        NonFiniteLossError, match=f"loss is nan at step 3 .last good loss {done[1]:.6g}, .* 0.125"
    ):
        training.state()  # what is spoiled is not saved
    run = training.run(lambda model, step: towards(1.0)(model, step) * math.nan)
    with pytest.raises(NonFiniteLossError, match="loss is nan at step 4"):
        list(run)


@pytest.mark.parametrize("clip", [0.5, None])
def test_the_gradient_is_clipped_where_a_bound_is_given(clip):
    training = Training(line(), Settings(steps=1, lr=0.1, ema=0.5, clip=clip))
    list(training.run(lambda model, step: 300 * model.weight.sum()))
    assert training.model.weight.grad.norm().item() == pytest.approx(clip or 300, rel=1e-4)


def test_the_loss_calls_the_wrapped_network_and_the_weights_below_learn():
    model = line()
    wrapped = nn.Sequential(model)
    training = Training(model, Settings(steps=1, lr=0.1, ema=0.5), forward=wrapped)
    called = []
    list(
        training.run(
            lambda network, step: (
                called.append(network) or (network(torch.ones(1, 1)) - 1).square().sum()
            )
        )
    )
    assert called == [wrapped] and model.weight.item() == pytest.approx(0.1, rel=1e-3)


# --- it learns
# ------------------------------------------------------------------------------------------------------


def test_training_on_digits_lowers_the_loss_of_fresh_noise(digits):
    settings = Settings(steps=60, lr=3e-3, ema=0.9, warmup=5)
    training = Training(network(0), settings)

    def evaluated(model: nn.Module) -> float:
        with torch.no_grad():
            return digit_loss(digits, seed=99, batch_size=512)(model.eval(), 0).item()

    before = evaluated(training.model)
    list(training.run(digit_loss(digits, settings.seed, batch_size=32)))
    assert evaluated(training.model) < 0.7 * before and evaluated(training.ema.model) < 0.7 * before


def test_a_cosine_that_restarts_begins_each_cycle_at_the_peak():
    settings = Settings(steps=90, lr=1.0, ema=0.9, restarts=2)
    rates = [learning_rate(settings, step) for step in range(90)]
    assert rates[:30] == rates[30:60] == rates[60:]
    assert rates[0] == 1.0
    assert rates[29] < 0.02
    assert rates[:30] == [
        learning_rate(Settings(steps=30, lr=1.0, ema=0.9), step) for step in range(30)
    ]

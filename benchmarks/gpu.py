"""Training and sampling of the papers' two CIFAR-10 networks on a CUDA device: `python -m benchmarks
gpu`.

Shares are of the peak for dense bfloat16 arithmetic that the manufacturer states; torch counts the
operations."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Measurement, in_turns, spread
from benchmarks.training import KF, PATH, Network
from kaccore import flow_matching_loss
from kaccore.data.images import ImageData
from kaccore.sampling import sample
from kaccore.tensors import generator_for
from kaccore.training import Settings, Training, batch_indices

# card -> operations a second
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4 ": 121e12, "4090": 165e12}
DK = {
    "channels": 256,
    "multipliers": (1, 2, 2, 3),
    "blocks": 3,
    "attention": (16, 8, 4),
    "attention_in": "adm",
}
NETWORKS = {
    "34 M": Network(32, 3, 128, {**KF, "attention_in": "adm"}),
    "323 M": Network(32, 3, 128, DK),
}
STEPS = (1, 2, 4, 20, 100)
IMAGES = 50_000


def measurements() -> Iterator[Measurement]:
    """Draws, then each network's training and sampling."""
    if not torch.cuda.is_available():
        raise SystemExit("gpu: torch finds no CUDA device here")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.benchmark = True
    t = torch.rand(128, device="cuda")
    (took,) = in_turns(
        _synchronised(lambda: PATH.process.sample_with_velocity(t, (128, 3, 32, 32)))
    )
    yield Measurement(
        "gpu",
        "draws with velocities, 128x3x32x32",
        "",
        *spread([1e3 * seconds for seconds in took]),
        "ms",
    )
    for name, network in NETWORKS.items():
        yield from _training(name, network)
        yield from _sampling(name, network)


def _training(name: str, network: Network) -> Iterator[Measurement]:
    data = ImageData("random", torch.randint(256, (IMAGES, 3, 32, 32), dtype=torch.uint8), None, ())
    model = network.made().cuda().to(memory_format=torch.channels_last)
    operations = _operations(model, network)
    model.compile()
    training = Training(model, Settings(steps=10**6, lr=1e-4, ema=0.999, precision="bfloat16"))

    def loss(net: torch.nn.Module, step: int) -> torch.Tensor:
        x0 = data.batch(batch_indices(IMAGES, network.batch, step, 0), "cuda")
        return flow_matching_loss(
            net, PATH, x0, None, generator_for(0, "bench", step, device="cuda")
        )

    steps = training.run(loss)
    twenty = _synchronised(lambda: [next(steps) for _ in range(20)])
    (took,) = in_turns(twenty, repeats=5, warm_up=2)
    rates = [20 * network.batch / seconds for seconds in took]
    yield Measurement(
        "gpu", f"{name}: training, bfloat16, compiled", "", *spread(rates), "images/s"
    )
    if (peak := _peak()) is not None:
        shares = [100 * 20 * operations / seconds / peak for seconds in took]
        yield Measurement("gpu", f"{name}: of the card's arithmetic", "", *spread(shares), "%")
    steps_alone = iter(range(10**9))

    def fetch() -> torch.Tensor:
        index = batch_indices(IMAGES, network.batch, next(steps_alone), 0)
        return data.batch(index, "cuda")

    (load,) = in_turns(_synchronised(fetch))
    share = 100 * sorted(load)[len(load) // 2] / (sorted(took)[len(took) // 2] / 20)
    yield Measurement("gpu", f"{name}: fetching a batch", "a step", *spread([share]), "%")


def _sampling(name: str, network: Network) -> Iterator[Measurement]:
    model = network.made().cuda().eval().to(memory_format=torch.channels_last)
    model.compile(mode="reduce-overhead")  # CUDA graphs: else launches dominate small batches
    for count in STEPS:
        with torch.autocast("cuda", torch.bfloat16):
            call = partial(sample, model, PATH, (network.batch, 3, 32, 32), steps=count, seed=0)
            (took,) = in_turns(_synchronised(call), repeats=3, warm_up=1)
        per_image = [1e3 * seconds / network.batch for seconds in took]
        yield Measurement(
            "gpu", f"{name}: sampling, {count} steps", "", *spread(per_image), "ms an image"
        )


def _operations(model: torch.nn.Module, network: Network) -> int:
    x0 = torch.randn(network.batch, 3, 32, 32, device="cuda")
    with FlopCounterMode(display=False) as counter:
        flow_matching_loss(
            model, PATH, x0, None, generator_for(0, "bench", device="cuda")
        ).backward()
    model.zero_grad()
    return int(counter.get_total_flops())


def _synchronised(call: Callable[[], object]) -> Callable[[], None]:
    def timed() -> None:
        call()
        torch.cuda.synchronize()

    return timed


def _peak() -> float | None:
    name = torch.cuda.get_device_name()
    return next((peak for card, peak in PEAK.items() if card in name), None)

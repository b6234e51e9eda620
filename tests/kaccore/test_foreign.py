"""Networks that were trained elsewhere."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kaccore.foreign import Denoising, Reversed, read_weights, renamed

MEAN, STD, WIDTH = 0.3, 0.2, 0.7  # of normal data, and of the noise


class Velocity(nn.Module):
    """The exact velocity of straight lines from noise, t = 0, to normal data, t = 1."""

    def forward(self, t: Tensor, x: Tensor, labels: Tensor | None = None) -> Tensor:
        t = t[:, None]
        variance = (t * STD) ** 2 + (1 - t) ** 2
        slope = (t * STD**2 - (1 - t)) / variance
        shift = 0.0 if labels is None else labels[:, None].float()
        return MEAN + slope * (x - t * MEAN) + shift


class Denoiser(nn.Module):
    """E[image | image + sigma noise] of normal data."""

    def forward(self, y: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        square = sigma[:, None] ** 2
        return (STD**2 * y + square * MEAN) / (STD**2 + square)


def exact(x: Tensor, t: Tensor, width: float) -> Tensor:
    """The velocity of straight lines from normal data, t = 0, to noise."""
    t = t[:, None]
    variance = ((1 - t) * STD) ** 2 + (t * width) ** 2
    return -MEAN + (t * width**2 - (1 - t) * STD**2) / variance * (x - (1 - t) * MEAN)


def points() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(64, 3, generator=generator), torch.linspace(0.01, 0.98, 64)


def test_a_network_whose_time_runs_the_other_way_gives_the_velocity():
    x, t = points()
    assert torch.allclose(Reversed(Velocity())(x, t), exact(x, t, 1.0), atol=1e-5)
    labels = torch.ones(64, dtype=torch.long)
    assert torch.allclose(Reversed(Velocity())(x, t, labels), exact(x, t, 1.0) - 1, atol=1e-5)
    last = Reversed(_Swapped(), time_first=False)
    assert torch.allclose(
        last(x, torch.tensor(0.5)), exact(x, torch.full((64,), 0.5), 1.0), atol=1e-5
    )


class _Swapped(Velocity):
    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return super().forward(t, x, labels)


@pytest.mark.parametrize("width", [1.0, WIDTH])
def test_a_denoiser_gives_the_velocity(width):
    x, t = points()
    assert torch.allclose(Denoising(Denoiser(), width=width)(x, t), exact(x, t, width), atol=1e-4)


def test_a_denoiser_is_asked_within_its_levels_of_noise():
    asked = []

    class Watched(Denoiser):
        def forward(self, y: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
            asked.append(sigma)
            return super().forward(y, sigma, labels)

    wrapped, x = Denoising(Watched(), width=WIDTH, least=0.01, most=50.0), torch.randn(2, 3)
    ends = wrapped(x, torch.tensor([0.0, 1.0]))
    assert torch.allclose(asked[0], torch.tensor([0.01, 50.0]), rtol=1e-3)
    assert ends.isfinite().all()


@pytest.mark.parametrize("ending", ["safetensors", "pt", "pth", "ckpt"])
def test_weights_are_read_from_each_kind_of_file(tmp_path, ending):
    tensors = {"a.weight": torch.arange(3.0), "b": torch.ones(2)}
    path = tmp_path / f"x.{ending}"
    if ending == "safetensors":
        save_file(tensors, path)
    else:
        torch.save({"ema": tensors, "step": 3, "optimizer": {"lr": 0.1}}, path)
        tensors = {f"ema.{name}": tensor for name, tensor in tensors.items()}
    found = read_weights(path)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


class _Runs:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_a_file_that_runs_code_runs_none(tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(pickle.dumps(_Runs(tmp_path / "ran"), protocol=2))
    with pytest.raises(
        ValueError, match=r"more than tensors, or is damaged .*: save its state_dict"
    ):
        read_weights(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.bin", b"", "expected a file that ends with .safetensors, .pt"),
        ("x.pt", b"no", "save its state_dict alone"),
        ("x.safetensors", b"no", "it is no safetensors file"),
    ],
)
def test_what_is_no_file_of_weights_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path / name)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_weights(tmp_path / "x.pt")


def test_names_are_replaced_by_their_longest_beginning_and_others_are_counted():
    one, two, three = (torch.tensor(float(k)) for k in range(3))
    tensors = {"ema.net.a": one, "ema.b": two, "step": three}
    found, left = renamed(tensors, {"ema.": "", "ema.net.": "inner."})
    assert found == {"inner.a": one, "b": two} and left == ["step"]
    assert renamed(tensors, {}) == (tensors, [])
    assert renamed(tensors, {"": "net."})[0].keys() == {f"net.{name}" for name in tensors}
    with pytest.raises(ValueError, match="two tensors would be called b"):
        renamed({"x.b": one, "y.b": two}, {"x.": "", "y.": ""})

"""Networks that were trained elsewhere: their weights, and their conventions of time and output.

Here t = 0 is data and t = 1 is noise, and a network is `u(x, t, labels)`, the velocity dx/dt. Other
projects differ, so that their networks are wrapped: `Reversed` where t = 0 is noise, `Denoising` where
the output is a denoised image."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kaccore.models.embeddings import per_image

ENDINGS = (".safetensors", ".pt", ".pth", ".ckpt")
LEAST_SIGMA, MOST_SIGMA = 0.002, 80.0  # the noise levels on which EDM trains (arXiv 2206.00364)


class Reversed(nn.Module):
    """u(x, t) = -v(x, 1 - t) of a network `v` whose time runs from noise, 0, to data, 1, as in
    torchcfm and in stochastic interpolants. For a path of straight lines to normal noise of unit
    standard deviation (`flow_matching` with width 1).

    `time_first`: it is called `net(t, x, labels)` and not `net(x, t, labels)`; labels only where there
    are some."""

    def __init__(self, net: nn.Module, *, time_first: bool = True) -> None:
        super().__init__()
        self.net, self.time_first = net, time_first

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        time = 1 - per_image(t, x)
        inputs = (time, x) if self.time_first else (x, time)
        velocity: Tensor = self.net(*inputs, *(() if labels is None else (labels,)))
        return -velocity


class Denoising(nn.Module):
    """u(x, t) = (x - D(x / (1 - t), sigma)) / t with sigma = width t / (1 - t), of a denoiser `D(y,
    sigma)` for y = image + sigma noise, as in EDM (arXiv 2206.00364). For a path of straight lines to
    normal noise of standard deviation `width`.

    D is asked within its levels of noise, `least` to `most`; t is moved to the nearest time that has
    one, by 1 - t = width / (width + most) at the noise."""

    def __init__(
        self,
        net: nn.Module,
        *,
        width: float = 1.0,
        least: float = LEAST_SIGMA,
        most: float = MOST_SIGMA,
    ) -> None:
        super().__init__()
        self.net, self.width = net, width
        self.first, self.last = least / (width + least), most / (width + most)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        time = per_image(t, x).clamp(self.first, self.last)
        shaped = time.reshape(-1, *(1,) * (x.ndim - 1))
        sigma = self.width * time / (1 - time)
        inputs = () if labels is None else (labels,)
        denoised: Tensor = self.net(x / (1 - shaped), sigma, *inputs)
        return (x - denoised) / shaped


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, by name, on the CPU: of safetensors, or of what `torch.save` wrote, where
    the names of nested dictionaries are joined by dots. Runs no code of the file.

    Raises ValueError for another ending, a file that is damaged, or one with more than tensors and
    plain values; OSError where it cannot be read."""
    if path.suffix not in ENDINGS:
        raise ValueError(f"expected a file that ends with {', '.join(ENDINGS)}")
    with path.open("rb"):
        pass  # a clear OSError
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"it is no safetensors file ({error})") from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # pickle, zip and torch raise many kinds
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"it holds more than tensors, or is damaged ({reason}): save its state_dict alone"
        ) from None
    return dict(_tensors(content, ""))


def _tensors(content: Any, prefix: str) -> "list[tuple[str, Tensor]]":
    if isinstance(content, Tensor):
        return [(prefix, content)]
    if not isinstance(content, Mapping):
        return []
    found = []
    for name, value in content.items():
        found += _tensors(value, f"{prefix}.{name}" if prefix else str(name))
    return found


def renamed(
    tensors: Mapping[str, Tensor], names: Mapping[str, str]
) -> tuple[dict[str, Tensor], list[str]]:
    """`tensors` whose names begin with one of `names`, which is replaced by its value, the longest
    where several do; and the names of the others. Without `names` all are as they are. Raises
    ValueError where two get one name."""
    if not names:
        return dict(tensors), []
    found: dict[str, Tensor] = {}
    left_out = []
    for name, tensor in tensors.items():
        prefix = max((p for p in names if name.startswith(p)), key=len, default=None)
        if prefix is None:
            left_out.append(name)
            continue
        new = names[prefix] + name[len(prefix) :]
        if new in found:
            raise ValueError(f"two tensors would be called {new}")
        found[new] = tensor
    return found, left_out

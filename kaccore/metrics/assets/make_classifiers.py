"""Train the small classifiers whose features FID uses.

    python -m kaccore.metrics.assets.make_classifiers [digits-cnn-v1|mnist-cnn-v1|digits-resnet-v1|mnist-resnet-v1]

Deterministic on one CPU thread. Writes the file of the weights and its entry in
`classifiers.json`."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Generator, Tensor, nn

from kaccore.data import ImageData, load
from kaccore.metrics.extractors import classifier
from kaccore.metrics.features import ASSETS, FEATURES, SHIPPED_FEATURES, classifier_weights

RECORD = ASSETS / "classifiers.json"


@dataclass(frozen=True)
class Shift:
    """Random translation by up to `pixels` each way: digits are not all centred alike."""

    pixels: int

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return shifted(x, self.pixels, generator)


@dataclass(frozen=True)
class Warp:
    """Random rotation by up to `turn` radians, scale by up to `scale` and shear by up to `shear` each
    way, then noise of standard deviation `noise`."""

    turn: float = 0.25
    scale: float = 0.15
    shear: float = 0.15
    noise: float = 0.1

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        turn, wide, high, shear = 2 * torch.rand(4, len(x), generator=generator) - 1
        turn, wide, high = self.turn * turn, 1 + self.scale * wide, 1 + self.scale * high
        shear = self.shear * shear
        rows = [
            wide * turn.cos(),
            shear - turn.sin(),
            torch.zeros(len(x)),
            turn.sin(),
            high * turn.cos(),
            torch.zeros(len(x)),
        ]
        grid = F.affine_grid(
            torch.stack(rows, 1).view(-1, 2, 3), list(x.shape), align_corners=False
        )
        # the background is -1, and what is sampled outside is 0
        warped = F.grid_sample(x + 1, grid, align_corners=False) - 1
        return warped + self.noise * torch.randn(x.shape, generator=generator)


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained. `seed` draws its weights, the order, and the fifth of the images
    that it is never trained on."""

    augment: Shift | Warp
    epochs: int
    seed: int = 0
    batch: int = 64
    lr: float = 2e-3
    weight_decay: float = 1e-3
    label_smoothing: float = 0.05


RECIPES = {
    "digits-cnn-v1": Recipe(Shift(1), epochs=80),
    "mnist-cnn-v1": Recipe(Shift(2), epochs=50),
    "digits-resnet-v1": Recipe(Warp(), epochs=60, seed=1),
    "mnist-resnet-v1": Recipe(Warp(), epochs=30, seed=1),
}


def split(data: ImageData, seed: int) -> tuple[Tensor, Tensor]:
    """Indices (train, held out): a fixed random fifth is never trained on. Both files are sorted,
    so by permutation."""
    order = torch.randperm(len(data), generator=Generator().manual_seed(seed))
    held_out = len(data) // 5
    return order[held_out:], order[:held_out]


def shifted(x: Tensor, limit: int, generator: Generator) -> Tensor:
    """Each image of x (B, 1, H, H) moved by up to `limit` pixels each way, background filled in."""
    size = x.shape[-1]
    padded = F.pad(x, (limit,) * 4, value=-1.0)
    row, column = torch.randint(0, 2 * limit + 1, (2, len(x), 1), generator=generator)
    rows = (row + torch.arange(size))[:, :, None]
    columns = (column + torch.arange(size))[:, None, :]
    return padded[torch.arange(len(x))[:, None, None], 0, rows, columns].unsqueeze(1)


def accuracy(model: nn.Module, x: Tensor, labels: Tensor) -> float:
    """The share of x (B, 1, H, H), in [-1, 1], that the classifier puts in its class."""
    model.eval()
    with torch.no_grad():
        return float((model(x)[1].argmax(1) == labels).float().mean())


def train(features: str) -> tuple[nn.Module, dict[str, Any]]:
    """The classifier `features`, and the record of how it was made."""
    recipe, spec = RECIPES[features], FEATURES[features]
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)  # initial weights and dropout
    data = load(str(spec.data))
    assert data.labels is not None
    (train_at, held_out) = split(data, recipe.seed)
    x = data.floats()
    labels = data.labels
    generator = Generator().manual_seed(recipe.seed)
    model = classifier(spec)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay
    )
    batches = len(train_at) // recipe.batch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs * batches)
    for _ in range(recipe.epochs):
        model.train()
        order = train_at[torch.randperm(len(train_at), generator=generator)]
        for at in order[: batches * recipe.batch].split(recipe.batch):
            logits = model(recipe.augment(x[at], generator))[1]
            loss = F.cross_entropy(logits, labels[at], label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model, {
        "data": spec.data,
        "held_out_accuracy": accuracy(model, x[held_out], labels[held_out]),
        "train_accuracy": accuracy(model, x[train_at], labels[train_at]),
        "split": {"train": len(train_at), "held_out": len(held_out)},
        "data_fingerprint": data.fingerprint,
        "parameters": sum(p.numel() for p in model.parameters()),
        "training": {**asdict(recipe), "augment": repr(recipe.augment)},
    }


def main(names: list[str]) -> None:
    """Make the classifiers of `names`, all of them if none is named."""
    for name in names or SHIPPED_FEATURES:
        if name not in SHIPPED_FEATURES:
            raise SystemExit(
                f"no classifier is called {name!r}; valid names: {', '.join(SHIPPED_FEATURES)}"
            )
        model, record = train(name)
        path = classifier_weights(name)
        path.write_bytes(
            save(model.state_dict())
        )  # save_file would deny all other users the file, umask or not
        record["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        records = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        records[name] = record
        RECORD.write_text(json.dumps(records, indent=2, sort_keys=True) + "\n")
        print(f"{name}: held-out accuracy {record['held_out_accuracy']:.2%} -> {path.name}")


if __name__ == "__main__":
    main(sys.argv[1:])

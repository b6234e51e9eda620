"""Train the small classifiers whose features FID uses.

    python -m kaccore.metrics.assets.make_classifiers [digits|mnist]

Deterministic on one CPU thread. Writes `<data>_classifier.safetensors` and its entry in
`classifiers.json`."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Generator, Tensor

from kaccore.data import ImageData, load
from kaccore.metrics.extractors import SmallClassifier
from kaccore.metrics.features import ASSETS, FEATURES, SHIPPED_FEATURES, classifier_weights

SEED = 0
RECORD = ASSETS / "classifiers.json"
LR = 2e-3
WEIGHT_DECAY = 1e-3
BATCH = 64
EPOCHS = {"digits": 80, "mnist": 50}
SHIFT = {"digits": 1, "mnist": 2}  # pixels of random translation: digits are not all centred alike


def split(data: ImageData) -> tuple[Tensor, Tensor]:
    """Indices (train, held out): a fixed random fifth is never trained on. Both files are sorted,
    so by permutation."""
    order = torch.randperm(len(data), generator=Generator().manual_seed(SEED))
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


def accuracy(model: SmallClassifier, x: Tensor, labels: Tensor) -> float:
    """The share of x (B, 1, H, H), in [-1, 1], that the classifier puts in its class."""
    model.eval()
    with torch.no_grad():
        return float((model(x)[1].argmax(1) == labels).float().mean())


def train(name: str) -> tuple[SmallClassifier, dict[str, Any]]:
    """A classifier of the data set `name` and the record of how it was made."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)  # initial weights and dropout
    data = load(name)
    assert data.labels is not None
    (train_at, held_out) = split(data)
    x = data.floats()
    labels = data.labels
    generator = Generator().manual_seed(SEED)
    model = SmallClassifier(FEATURES[SHIPPED_FEATURES[name]].strides)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    batches = len(train_at) // BATCH
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS[name] * batches)
    for _ in range(EPOCHS[name]):
        model.train()
        order = train_at[torch.randperm(len(train_at), generator=generator)]
        for at in order[: batches * BATCH].split(BATCH):
            logits = model(shifted(x[at], SHIFT[name], generator))[1]
            loss = F.cross_entropy(logits, labels[at], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model, {
        "features": SHIPPED_FEATURES[name],
        "held_out_accuracy": accuracy(model, x[held_out], labels[held_out]),
        "train_accuracy": accuracy(model, x[train_at], labels[train_at]),
        "split": {"train": len(train_at), "held_out": len(held_out), "seed": SEED},
        "data_fingerprint": data.fingerprint,
        "parameters": sum(p.numel() for p in model.parameters()),
        "training": {
            "epochs": EPOCHS[name],
            "batch": BATCH,
            "lr": LR,
            "weight_decay": WEIGHT_DECAY,
            "shift": SHIFT[name],
            "label_smoothing": 0.05,
            "seed": SEED,
        },
    }


def main(names: list[str]) -> None:
    """Make the classifiers of `names`, all of them if none is named."""
    for name in names or list(SHIPPED_FEATURES):
        if name not in SHIPPED_FEATURES:
            raise SystemExit(
                f"no classifier is made for {name!r}; valid names: {', '.join(SHIPPED_FEATURES)}"
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

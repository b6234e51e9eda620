"""FID of the 5,000 MNIST images against the extraction of their features."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.measure import ONCE, Measurement, in_turns, ratio
from kaccore.data import load
from kaccore.metrics.fid import Reference, compare, extract

FEATURES = "mnist-cnn-v1"


def measurements() -> Iterator[Measurement]:
    """FID with the reference read from a file, as in evaluations."""
    torch.set_num_threads(1)
    images = load("mnist").images[: 500 if ONCE in os.environ else None]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "reference.safetensors"
        Reference.build(images, FEATURES).save(file)

        def fid() -> dict[str, float]:
            return compare(extract(images, FEATURES), Reference.load(file), ["fid"])

        whole, features = in_turns(fid, lambda: extract(images, FEATURES), repeats=7, warm_up=1)
    yield Measurement(
        "metrics",
        f"FID of {len(images):,} MNIST images",
        "their features",
        *ratio(whole, features),
        "times",
        "<= 1.1",
    )

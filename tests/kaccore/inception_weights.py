"""A weights file for Inception where the official one cannot be had: the format is the same, the
weights are random."""

import contextlib
from pathlib import Path

import torch
from torch_fidelity import FeatureExtractorInceptionV3

from kaccore.metrics.features import INCEPTION


class SkeletonInception(FeatureExtractorInceptionV3):
    """torch-fidelity's own architecture, before any weights are loaded."""

    def __init__(self, name, features_list, **kwargs):
        with contextlib.suppress(FileNotFoundError):  # the path "unused": all layers stand by then
            super().__init__(name, features_list, **kwargs)


def write_random_inception(path: Path) -> None:
    """An Inception state dict with random weights, in the format of the official file: a bare,
    pickled state dict."""
    # A skeleton without weights first: the constructor insists on loading some.
    with torch.device("meta"):
        model = SkeletonInception(INCEPTION, ["2048"], feature_extractor_weights_path="unused")
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, value in model.state_dict().items():
        state[key] = torch.zeros(value.shape, dtype=value.dtype)
        if value.dim() > 1:
            fan_in = value[0].numel()
            state[key] = torch.randn(value.shape, generator=generator) * (2 / fan_in) ** 0.5
        elif key.endswith(("running_var", "bn.weight")):
            state[key] = torch.ones(value.shape)
    torch.save(state, path)

"""From the plain settings that a stage carries to kaccore's objects. One place, used wherever a stage runs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from kaccore import DiffusionPath, FlowMatchingPath, KacPath, KacProcess
from kaccore.data import ImageData
from kaccore.models import UNet
from kaccore.paths import Path
from kaccore.training import Settings
from orchestrator.plan import Stage


def network(teacher: Stage, data: ImageData) -> nn.Module:
    """The network of a chain, with freshly drawn weights that depend on the teacher's seed alone.

    Channels last in memory: the convolutions' backward pass is a fifth faster so, on CPUs as on GPUs.
    """
    from kaccore.tensors import derive_seed

    settings = {k: v for k, v in teacher.config["model"].items() if k != "kind"}
    classes = 0 if teacher.config["label_dropout"] is None else data.classes
    torch.manual_seed(derive_seed(teacher.config["seed"], "weights"))
    model = UNet(data.size, data.channels, classes=classes, **settings)
    return model.to(memory_format=torch.channels_last)


def path(teacher: Stage, data: ImageData) -> Path:
    """The path of a chain."""
    return PATHS[teacher.config["path"]["kind"]](teacher.config["path"], data)


def _kac(content: dict[str, Any], data: ImageData) -> Path:
    process = KacProcess(content["damping"], content["speed"])
    keeps_data = content["signal"] == "exponential"
    return KacPath(process, content["signal"], content["clock"], data.floats() if keeps_data else None)


PATHS: dict[str, Callable[[dict[str, Any], ImageData], Path]] = {
    "kac": _kac,
    "diffusion": lambda content, data: DiffusionPath(content["schedule"], content["width"]),
    "flow_matching": lambda content, data: FlowMatchingPath(content["width"]),
}


def optimiser_settings(stage: Stage) -> Settings:
    """How a training stage is optimised; its random numbers come from its seed and its key."""
    content = {k: v for k, v in stage.config["optimise"].items() if k != "batch_size"}
    return Settings(seed=stage.config["seed"], **content)

"""From the plain settings that a stage carries to kaccore's objects. One place, used wherever a
stage runs."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from kaccore import DiffusionPath, FlowMatchingPath, KacPath, KacProcess
from kaccore.augment import AUGMENT_DIM
from kaccore.data import ImageData
from kaccore.distill import (
    ConsistencyDistiller,
    Distiller,
    EndpointDistiller,
    InverseDistiller,
    InversePair,
    ProgressiveDistiller,
)
from kaccore.models import MLP, DiT, UNet
from kaccore.paths import Path
from kaccore.tensors import derive_seed
from kaccore.training import Settings
from orchestrator.plan.stage import Stage
from orchestrator.store import layout
from orchestrator.store.store import Store


def network(teacher: Stage, data: ImageData, two_times: bool = False) -> nn.Module:
    """The network of a chain, with freshly drawn weights that depend on the teacher's seed alone;
    with `two_times` one that is also told where its step ends.

    Channels last in memory: the convolutions' backward pass is a fifth faster so, on CPUs as on
    GPUs."""
    kind, arguments = architecture(teacher, data, two_times)
    torch.manual_seed(derive_seed(teacher.config["seed"], "weights"))
    return kind(**arguments).to(memory_format=torch.channels_last)


def architecture(
    teacher: Stage, data: ImageData, two_times: bool = False
) -> tuple[type[nn.Module], dict[str, Any]]:
    """The class of a chain's network, and the plain arguments that it is made with."""
    settings = {k: v for k, v in teacher.config["model"].items() if k != "kind"}
    options: dict[str, Any] = {
        "classes": 0 if teacher.config["label_dropout"] is None else data.classes
    }
    options |= {"two_times": two_times} if two_times else {}
    options |= {"augment_dim": AUGMENT_DIM} if teacher.config.get("augment") else {}
    kind, of_data = NETWORKS[teacher.config["model"]["kind"]]
    if kind is DiT:
        settings["heads"] = settings["channels"] // settings.pop("head_channels")
    return kind, of_data(data) | settings | options


NETWORKS: dict[str, tuple[type[nn.Module], Callable[[ImageData], dict[str, Any]]]] = {
    "unet": (UNet, lambda data: {"size": data.size, "image_channels": data.channels}),
    "dit": (DiT, lambda data: {"size": data.size, "image_channels": data.channels}),
    "mlp": (MLP, lambda data: {"dimension": data.channels * data.size**2}),
}


def trained(store: Store, stage: Stage, data: ImageData) -> nn.Module:
    """The finished network of a teacher or student, in evaluation mode on the CPU."""
    return with_weights(stage, data, averaged(store, stage))


def with_weights(stage: Stage, data: ImageData, weights: dict[str, torch.Tensor]) -> nn.Module:
    """The network of a teacher or student with its finished `weights`, in evaluation mode on the
    CPU."""
    model = network(stage.lineage()[0], data, two_times=stage.jumps)
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)


def student(store: Store, stage: Stage, data: ImageData) -> nn.Module:
    """What is trained as the student `stage`, started from averaged weights of the student before
    it or its teacher."""
    start = stage.parents[-1] if stage.config.get("start") != "teacher" else stage.lineage()[0]
    model = network(stage.lineage()[0], data, two_times=stage.jumps)
    model.load_state_dict(averaged(store, start), strict=not stage.jumps)  # its end is new
    return paired(stage, model)


def paired(stage: Stage, model: nn.Module) -> nn.Module:
    """What the distiller of the student `stage` trains: `model`, or a pair of it with a fake
    field."""
    return (
        InversePair(model, copy.deepcopy(model))
        if stage.config["distiller"] == "inverse"
        else model
    )


def averaged(store: Store, stage: Stage) -> dict[str, torch.Tensor]:
    """The averaged weights of a finished teacher or student."""
    return store.result(stage.key).tensors(layout.NETWORK)


def distiller(stage: Stage, teacher: nn.Module, path: Path, target: nn.Module) -> Distiller:
    """The loss of the student `stage` over its frozen `teacher`; `target` is the moving average of
    the student."""
    config = stage.config
    settings: dict[str, Any] = {
        k: config[k] for k in ("intervals", "solver", "guidance", "huber") if k in config
    }
    if config["distiller"] == "inverse":
        return InverseDistiller(teacher, path, guidance=config["guidance"])
    if config["distiller"] == "consistency":
        return ConsistencyDistiller(teacher, path, target_model=target, **settings)
    if config["distiller"] == "progressive":
        return ProgressiveDistiller(teacher, path, **settings)
    if "times" in config:
        settings["times"] = torch.tensor(config["times"])
        settings["inner"] = None if config["inner"] is None else torch.tensor(config["inner"])
        del settings["intervals"]
    return EndpointDistiller(
        teacher, path, substeps=config["substeps"], target=config["target"], **settings
    )


def path(teacher: Stage, data: ImageData) -> Path:
    """The path of a chain."""
    return PATHS[teacher.config["path"]["kind"]](teacher.config["path"], data)


def _kac(content: dict[str, Any], data: ImageData) -> Path:
    process = KacProcess(content["damping"], content["speed"])
    keeps_data = content["signal"] == "exponential"
    return KacPath(process, content["signal"], content["clock"], data if keeps_data else None)


PATHS: dict[str, Callable[[dict[str, Any], ImageData], Path]] = {
    "kac": _kac,
    "diffusion": lambda content, data: DiffusionPath(content["schedule"], content["width"]),
    "flow_matching": lambda content, data: FlowMatchingPath(content["width"]),
}


def optimiser_settings(stage: Stage) -> Settings:
    """How a training stage is optimised; its random numbers come from its seed and its key."""
    content = {k: v for k, v in stage.config["optimise"].items() if k != "batch_size"}
    return Settings(seed=stage.config["seed"], **content)

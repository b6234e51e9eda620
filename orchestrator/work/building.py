"""From the settings that a stage carries to kaccore's objects. One place, used wherever a stage
runs."""

from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from kaccore.augment import AUGMENT_DIM
from kaccore.data import ImageData
from kaccore.distill import Distiller
from kaccore.paths import Path
from kaccore.tensors import derive_seed
from kaccore.training import Settings
from orchestrator.methods.distiller_kind import Student
from orchestrator.plan.stage import Stage
from orchestrator.store import layout
from orchestrator.store.store import Store


def network(teacher: Stage, data: ImageData, two_times: bool = False) -> nn.Module:
    """The network of a chain, with freshly drawn weights that depend on the teacher's seed alone;
    with `two_times` one that is also told where its step ends.

    Channels last in memory: the convolutions' backward pass is a fifth faster so, on CPUs as on
    GPUs."""
    kind, arguments = architecture(teacher, data, two_times)
    torch.manual_seed(derive_seed(teacher.teacher_spec.seed, "weights"))
    return kind(**arguments).to(memory_format=torch.channels_last)


def architecture(
    teacher: Stage, data: ImageData, two_times: bool = False
) -> tuple[type[nn.Module], dict[str, Any]]:
    """The class of a chain's network, and the plain arguments that it is made with."""
    spec = teacher.teacher_spec
    options: dict[str, Any] = {"classes": data.classes if spec.labelled else 0}
    options |= {"two_times": two_times} if two_times else {}
    options |= {"augment_dim": AUGMENT_DIM} if spec.augment else {}
    return spec.model.network(), spec.model.arguments(data) | options


def trained(store: Store, stage: Stage, data: ImageData) -> nn.Module:
    """The finished network of a teacher or student, in evaluation mode on the CPU."""
    return with_weights(stage, data, averaged(store, stage))


def with_weights(stage: Stage, data: ImageData, weights: dict[str, torch.Tensor]) -> nn.Module:
    """The network of a teacher or student with its finished `weights`, in evaluation mode on the
    CPU."""
    model = network(stage.teacher, data, two_times=stage.jumps)
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)


def student(store: Store, stage: Stage, data: ImageData) -> nn.Module:
    """What is trained as the student `stage`, started from averaged weights of the student before
    it or its teacher."""
    start = stage.teacher if of_student(stage).from_teacher else stage.parents[-1]
    model = network(stage.teacher, data, two_times=stage.jumps)
    model.load_state_dict(averaged(store, start), strict=not stage.jumps)  # its end is new
    return of_student(stage).trained(model)


def of_student(stage: Stage) -> Student:
    """How the student `stage` is trained."""
    assert stage.student is not None, f"{stage.label} is no student"
    return stage.student


def averaged(store: Store, stage: Stage) -> dict[str, torch.Tensor]:
    """The averaged weights of a finished teacher or student."""
    return store.result(stage.key).tensors(layout.NETWORK)


def distiller(stage: Stage, teacher: nn.Module, path: Path, target: nn.Module) -> Distiller:
    """The loss of the student `stage` over its frozen `teacher`; `target` is the moving average of
    the student."""
    return of_student(stage).build(teacher, path, target)


def path(teacher: Stage, data: ImageData) -> Path:
    """The path of a chain."""
    return teacher.teacher_spec.path.build(data)


def optimiser_settings(stage: Stage) -> Settings:
    """How a training stage is optimised; its random numbers come from its seed and its key."""
    settings = asdict(stage.training_spec.optimise)
    del settings["batch_size"]
    return Settings(seed=stage.training_spec.seed, **settings)

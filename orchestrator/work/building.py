"""Builds kaccore's objects from the settings of a stage, for all code that runs stages."""

from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from kaccore.augment import AUGMENT_DIM
from kaccore.data import ImageData
from kaccore.distill import Distiller, Pairs
from kaccore.paths import Path
from kaccore.tensors import derive_seed
from kaccore.tone import Calibrated, ToneCurve
from kaccore.training import Settings
from orchestrator.methods.distiller_kind import Student
from orchestrator.plan.stage import Stage
from orchestrator.store import layout
from orchestrator.store.store import Store


def network(teacher: Stage, data: ImageData, two_times: bool = False) -> nn.Module:
    """The network of a chain with random initial weights, which depend only on the teacher's seed.
    `two_times`: the network also takes the end time of its step.

    The memory format is channels last: the backward pass of convolutions is then a fifth faster, on
    CPUs and on GPUs."""
    kind, arguments = architecture(teacher, data, two_times)
    torch.manual_seed(derive_seed(teacher.teacher_spec.seed, "weights"))
    return kind(**arguments).to(memory_format=torch.channels_last)


def architecture(
    teacher: Stage, data: ImageData, two_times: bool = False
) -> tuple[type[nn.Module], dict[str, Any]]:
    """The class of a chain's network, and its arguments."""
    spec = teacher.teacher_spec
    options: dict[str, Any] = {"classes": data.classes if spec.labelled else 0}
    if two_times:
        options["two_times"] = True
    if spec.augment:
        options["augment_dim"] = AUGMENT_DIM
    return spec.model.network(), spec.model.arguments(data) | options


def trained(store: Store, stage: Stage, data: ImageData, ema: float | None = None) -> nn.Module:
    """The finished network of a teacher or student, in evaluation mode on the CPU; `Calibrated` if
    it has a tone curve. `ema`: the decay of the average of the weights, None: its first one."""
    return with_weights(stage, data, finished(store, stage, ema))


def with_weights(stage: Stage, data: ImageData, weights: dict[str, torch.Tensor]) -> nn.Module:
    """The network of a teacher or student with its `finished` weights, in evaluation mode on the
    CPU; `Calibrated` if they have a tone curve."""
    model = network(stage.teacher, data, two_times=stage.jumps)
    model.load_state_dict(_of_network(weights))
    return with_tone(model, weights).eval().requires_grad_(False)


def with_tone(model: nn.Module, weights: dict[str, torch.Tensor]) -> nn.Module:
    """`model`, `Calibrated` if its `finished` weights have a tone curve."""
    curve = [weights[name] for name in layout.TONE if name in weights]
    return Calibrated(model, ToneCurve(*curve)) if curve else model


def student(store: Store, stage: Stage, data: ImageData, teacher: nn.Module) -> nn.Module:
    """The module that is trained as the student `stage`, initialised with the averaged weights of
    the previous student or of the teacher; `teacher`: the frozen network that teaches it."""
    start = stage.teacher if of_student(stage).from_teacher else stage.start
    model = network(stage.teacher, data, two_times=stage.jumps)
    model.load_state_dict(averaged(store, start), strict=not stage.jumps)  # end time: new weights
    return of_module(stage, model, data, teacher)


def of_module(stage: Stage, model: nn.Module, data: ImageData, teacher: nn.Module) -> nn.Module:
    """The module that is trained as the student `stage`, built from its network `model`, with its
    frozen `teacher`; the random weights of further networks depend only on the seed."""
    spec = stage.training_spec
    torch.manual_seed(derive_seed(spec.seed, f"beside {spec.stream}"))
    classes = data.classes if stage.teacher_spec.labelled else 0
    return of_student(stage).trained(model, teacher, data, classes)


def of_student(stage: Stage) -> Student:
    """The distillation settings of the student `stage`."""
    assert stage.student is not None, f"{stage.label} is not a student"
    return stage.student


def finished(store: Store, stage: Stage, ema: float | None = None) -> dict[str, torch.Tensor]:
    """The averaged weights of a finished teacher or student, and its tone curve if it has one;
    `ema` as for `trained`."""
    return store.result(stage.key).tensors(layout.network(stage.average(ema)))


def averaged(store: Store, stage: Stage) -> dict[str, torch.Tensor]:
    """The averaged weights of a finished teacher or student."""
    return _of_network(finished(store, stage))


def tone_tensors(tone: ToneCurve) -> dict[str, torch.Tensor]:
    """A tone curve as it is stored with the weights of its network."""
    return dict(zip(layout.TONE, (tone.inputs, tone.outputs), strict=True))


def _of_network(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in weights.items() if name not in layout.TONE}


def distiller(
    stage: Stage, teacher: nn.Module, path: Path, target: nn.Module, pairs: Pairs | None
) -> Distiller:
    """The loss of the student `stage` with its frozen `teacher`; `target`: the exponential moving
    average of the student; `pairs`: those on which it learns, None: it has none."""
    if pairs is not None:
        return of_student(stage).build_on(pairs, teacher, path)
    return of_student(stage).build(teacher, path, target)


def path(teacher: Stage, data: ImageData) -> Path:
    """The path of a chain."""
    return teacher.teacher_spec.path.build(data)


def optimiser_settings(stage: Stage) -> Settings:
    """The optimisation settings of a training stage."""
    settings = asdict(stage.training_spec.optimise)
    for name in ("batch_size", "calibrate"):
        del settings[name]
    return Settings(seed=stage.training_spec.seed, **settings)

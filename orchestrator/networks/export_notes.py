"""The metadata of an exported sampler, as plain values: inputs, outputs, settings and origin."""

from typing import Any

from kaccore.data import ImageData
from kaccore.export.portable import Sampler
from orchestrator.plan.stage import Stage
from orchestrator.work import building

HOW = (
    "Draw the noise as `noise` says. For each step of `times`, from 1 (noise) to 0 (image), the `solver` of `sampler` "
    "integrates dx/dt = u(x, t), u = network(x, t, labels). With guidance s other than 1, u = u_null + s (u_labels - "
    "u_null), where u_null is that of label -1. With shaping w, u is multiplied by 1 + w (2 t - 1). With jumps, the "
    "network also takes the time at which the step ends. With a tone curve, each pixel value then goes from `inputs` "
    "to `outputs` of its channel, linearly between them. If bounded, the result is clamped to [-1, 1]."
)


def export_metadata(
    stage: Stage, data: ImageData, sampler: Sampler, nfe: int, experiment: str
) -> dict[str, Any]:
    """The metadata of an exported `sampler` of the trained `stage`, which costs `nfe` evaluations
    an image."""
    teacher = stage.teacher_spec
    network, arguments = building.architecture(stage, data, two_times=sampler.jumps)
    labelled = teacher.labelled
    shape = ["N", data.channels, data.size, data.size]
    null = ", or -1 for no class" if teacher.label_dropout else ""
    labels = {"shape": ["N"], "type": "int64", "values": f"0 to {data.classes - 1}{null}"}
    return {
        "made_by": "kacflow",
        "plugins": plugins_of(stage),
        "experiment": experiment,
        "stage": {"label": stage.label, "key": stage.key},
        "inputs": {
            "noise": {"shape": shape, "type": "float32"},
            **({"labels": labels} if labelled else {}),
        },
        "outputs": {
            "images": {
                "shape": shape,
                "type": "float32",
                "range": [-1, 1] if sampler.bounded else None,
            }
        },
        "class_names": list(data.class_names) if labelled else [],
        "nfe": nfe,
        "steps": len(sampler.times) - 1,
        "times": sampler.times.tolist(),
        "sampler": sampler.settings(),
        "tone": None
        if sampler.tone is None
        else {name: value.tolist() for name, value in sampler.tone.state_dict().items()},
        "path": teacher.path.content(),
        "noise": teacher.path.noise_law(),
        "how_to_sample": HOW,
        "network": {"class": network.__name__, "arguments": arguments},
    }


def plugins_of(stage: Stage) -> list[str]:
    """The plugins that define the path, the network or the distiller of a trained `stage`. An
    exported TorchScript or ONNX file runs without them."""
    spec = stage.teacher_spec
    settings = [spec.path, spec.model, *([stage.student] if stage.student else [])]
    plugins = [block.plugin() for block in settings]
    return list(dict.fromkeys(str(plugin) for plugin in plugins if plugin is not None))

"""What is to be known about an exported sampler, as plain values: what goes in, what comes out, how
it came to be."""

from typing import Any

from kaccore.data import ImageData
from kaccore.export.portable import Sampler
from orchestrator.plan.stage import Stage
from orchestrator.work import building

HOW = (
    "Draw the noise as `noise` says. For each step of `times`, from 1 (noise) to 0 (image), the `solver` of `sampler` "
    "integrates dx/dt = u(x, t), u = network(x, t, labels). With guidance s other than 1, u = u_null + s (u_labels - "
    "u_null), u_null being that of label -1. With shaping w, u is multiplied by 1 + w (2 t - 1). With jumps, the "
    "network is also told where the step ends. Bounded: the end is clamped to [-1, 1]."
)


def describe(
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
        "path": teacher.path.content(),
        "noise": teacher.path.noise_law(),
        "how_to_sample": HOW,
        "network": {"class": network.__name__, "arguments": arguments},
    }

"""A sampler as an ONNX file. Needs onnx and onnxscript, and onnxruntime to run one."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kaccore.export.portable import METADATA, Called, Positional, Sampler, asked, quietly

if TYPE_CHECKING:  # an optional dependency
    from onnx import ModelProto

LIMIT = 2**31 - 2**24  # bytes of weights: an ONNX file in one piece ends at 2 GiB
PLACE = "kacflow"  # the domain of the operator that marks where the network belongs


def to_onnx(sampler: Sampler, examples: Sequence[Tensor], metadata: str) -> bytes:
    """An ONNX file of `sampler` with the inputs `noise` and, where there are any among the
    `examples`, `labels`, and the output `images`. Needs onnx and onnxscript.

    The network is exported once and put in wherever the solver asks it: to trace it anew for each
    step takes minutes."""
    network = _onnx(
        Positional(sampler.network), asked(sampler, examples), ["x", "t", "told", "end"]
    )
    model = _onnx(sampler.around(Called(Place())), examples, ["noise", "labels"])
    _put_in(network, model)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, metadata
    return model.SerializeToString()


def run_onnx(file: Path, inputs: Sequence[Tensor]) -> Tensor:
    """The images that an ONNX file makes of `inputs`. Needs onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    feed = dict(zip(("noise", "labels"), (each.numpy() for each in inputs), strict=False))
    return torch.from_numpy(session.run(["images"], feed)[0])


class Place(nn.Module):
    """Where a network belongs in an ONNX graph: one node of an operator that there is not."""

    def forward(self, x: Tensor, *told: Tensor) -> Tensor:
        return torch.onnx.ops.symbolic(
            f"{PLACE}::Network", (x, *told), dtype=x.dtype, shape=x.shape, version=1
        )


def _onnx(module: nn.Module, examples: Sequence[Tensor], names: list[str]) -> "ModelProto":
    dynamic = [{0: torch.export.Dim("N")} for _ in examples]
    with quietly(), torch.no_grad():
        exported = torch.export.export(
            module.eval(), tuple(examples), dynamic_shapes=_nested(module, dynamic)
        )
        program = torch.onnx.export(
            exported,
            (),
            input_names=names[: len(examples)],
            output_names=["images"],
            dynamo=True,
            verbose=False,
        )
    assert program is not None, "with dynamo there is a program"
    model = program.model_proto
    assert not model.functions, "all of it is in the graph"
    for part in (
        model,
        model.graph,
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.input,
    ):
        part.ClearField(
            "metadata_props"
        )  # where in which file of this machine each node comes from
        part.ClearField("doc_string")
    return model


def _nested(module: nn.Module, dynamic: list[dict[int, Any]]) -> tuple[Any, ...]:
    """The dynamic shapes as the signature of `module` has its arguments."""
    told = [tuple(dynamic[2:])] if dynamic[2:] else []
    return (*dynamic[:2], *told) if isinstance(module, Positional) else tuple(dynamic)


def _put_in(network: "ModelProto", model: "ModelProto") -> None:
    """Replace each `Place` in `model` by the nodes of `network`, whose weights all of them
    share."""
    graph, inner = model.graph, network.graph
    inputs, weights = [v.name for v in inner.input], {w.name for w in inner.initializer}
    nodes = list(graph.node)
    graph.ClearField("node")
    for number, node in enumerate(nodes):
        if node.domain != PLACE:
            graph.node.append(node)
            continue
        names = {
            "": "",
            **{w: f"network/{w}" for w in weights},
            **dict(zip(inputs, node.input, strict=True)),
        }
        names[inner.output[0].name] = node.output[0]
        for part in inner.node:
            copy = graph.node.add()
            copy.CopyFrom(part)
            copy.name = f"{number}/{part.name}"
            copy.input[:] = [names.get(name, f"{number}/{name}") for name in part.input]
            copy.output[:] = [names.get(name, f"{number}/{name}") for name in part.output]
    for weight in inner.initializer:
        shared = graph.initializer.add()
        shared.CopyFrom(weight)
        shared.name = f"network/{weight.name}"
    others = [opset for opset in model.opset_import if opset.domain != PLACE]
    model.ClearField("opset_import")
    model.opset_import.extend(others)

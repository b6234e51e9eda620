"""A sampler as an ONNX file. Needs onnx and onnxscript, and onnxruntime to run it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kaccore.export.portable import (
    METADATA,
    NamedNetwork,
    PositionalNetwork,
    Sampler,
    network_inputs,
    quietly,
)

if TYPE_CHECKING:  # an optional dependency
    from onnx import ModelProto

LIMIT = 2**31 - 2**24  # bytes of weights: a single ONNX file has at most 2 GiB
DOMAIN = "kacflow"  # of the placeholder operator


def to_onnx(sampler: Sampler, examples: Sequence[Tensor], metadata: str) -> bytes:
    """An ONNX file of `sampler` with the inputs `noise` and, if the `examples` have them, `labels`,
    and the output `images`. Needs onnx and onnxscript.

    The network is exported once and inserted wherever the solver evaluates it: tracing it again for
    each step takes minutes."""
    network = _export(
        PositionalNetwork(sampler.network),
        network_inputs(sampler, examples),
        ["x", "t", "condition", "end"],
    )
    model = _export(
        sampler.with_network(NamedNetwork(Placeholder())), examples, ["noise", "labels"]
    )
    _insert(network, model)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, metadata
    return model.SerializeToString()


def run_onnx(file: Path, inputs: Sequence[Tensor]) -> Tensor:
    """The images that an ONNX file computes from `inputs`. Needs onnxruntime."""
    return open_onnx(file)[0](inputs)


def open_onnx(file: Path) -> tuple[Callable[[Sequence[Tensor]], Tensor], str]:
    """The sampler in an ONNX file as a function of its inputs, and the metadata. Needs onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def run(inputs: Sequence[Tensor]) -> Tensor:
        arrays = [value.numpy() for value in inputs]
        feed = dict(zip(("noise", "labels"), arrays, strict=False))
        return torch.from_numpy(session.run(["images"], feed)[0])

    return run, session.get_modelmeta().custom_metadata_map.get(METADATA, "")


class Placeholder(nn.Module):
    """Marks the place of a network in an ONNX graph by a node with an operator that does not exist."""

    def forward(self, x: Tensor, *conditions: Tensor) -> Tensor:
        return torch.onnx.ops.symbolic(
            f"{DOMAIN}::Network", (x, *conditions), dtype=x.dtype, shape=x.shape, version=1
        )


def _export(module: nn.Module, examples: Sequence[Tensor], names: list[str]) -> "ModelProto":
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
        part.ClearField("metadata_props")  # the source files and lines on this machine
        part.ClearField("doc_string")
    return model


def _nested(module: nn.Module, dynamic: list[dict[int, Any]]) -> tuple[Any, ...]:
    """The dynamic shapes, nested as the arguments in the signature of `module`."""
    if not isinstance(module, PositionalNetwork):
        return tuple(dynamic)
    conditions = [tuple(dynamic[2:])] if dynamic[2:] else []
    return (*dynamic[:2], *conditions)


def _insert(network: "ModelProto", model: "ModelProto") -> None:
    """Replace each `Placeholder` in `model` by the nodes of `network`; they share the weights."""
    graph, inner = model.graph, network.graph
    inputs, weights = [v.name for v in inner.input], {w.name for w in inner.initializer}
    nodes = list(graph.node)
    graph.ClearField("node")
    for number, node in enumerate(nodes):
        if node.domain != DOMAIN:
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
    others = [opset for opset in model.opset_import if opset.domain != DOMAIN]
    model.ClearField("opset_import")
    model.opset_import.extend(others)

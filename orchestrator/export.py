"""`python -m orchestrator.export RUN --format FORMAT --out FILE`: a trained model that runs without
this project.

RUN is as for `sample`. onnx and torchscript contain the whole sampler, from prior noise (N, C, H,
W) and labels (N,) to images; safetensors contains the weights and the settings of sampling. The
images of the file are compared with the original's before it is written."""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from orchestrator.console import argument_types, command_line, network_arguments, output_file
from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.host import machine
from orchestrator.networks import exported, locate, sampling_choice
from orchestrator.plan.stage import Stage
from orchestrator.settings.experiment import Experiment

if TYPE_CHECKING:  # importing torch takes time, and a refusal does not need it
    from torch import Tensor, nn

    from kaccore.export.portable import Sampler

FORMATS = ("onnx", "torchscript", "safetensors")
# what a file's ending means to people and programs; other endings mean nothing
ENDINGS = {
    **exported.ENDINGS,
    ".png": "a picture",
    ".gif": "a picture",
    ".npz": "arrays",
    ".yaml": "settings",
    ".yml": "settings",
}
NEEDED = ("onnx", "onnxruntime", "onnxscript")
TOLERANCE = 1e-3  # an eighth of the difference between two of 256 levels in [-1, 1]
# how many images of seed 0 are compared, and how many of them once more as a smaller batch
COMPARED = 16
FEWER = 3
TRACED = 2  # batch size of the example inputs with which a model is traced


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    lines = (__doc__ or "").splitlines()
    p = command_line.make_parser("export", lines[0].split(": ")[1])
    network_arguments.add_arguments(p)
    p.add_argument("--format", choices=FORMATS, required=True, help="the kind of file")
    p.add_argument("--out", type=argument_types.file, required=True, help="the file")
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    args = parser().parse_args(argv)
    return command_line.guarded(lambda: _export(args))


def _export(args: argparse.Namespace) -> int:
    _check(args)
    source = network_arguments.find(args)
    config = sampling_choice.from_options(source, args)
    output_file.check_outside_images(args.out, config.data)
    if config.sampling.gamma:
        what = f"got {config.sampling.gamma}, expected 0: an exported sampler has no random numbers"
        raise ConfigError([Fault(source.name, "sampling.gamma", what)])
    stage = sampling_choice.stage_to_sample(source, config)
    from kaccore.files import write_bytes

    sampler, inputs, images, about = original(source, config, stage)
    examples = [tensor[:TRACED] for tensor in inputs]
    file = file_content(args.format, sampler, examples, json.dumps(about, indent=1))
    difference = largest_difference(args.format, file, inputs, images, type(sampler.network))
    if not difference <= TOLERANCE:  # also where it is NaN
        what = (
            f"got {args.format}, whose images differ from the original's by up to {difference:.2g}"
        )
        remedy = "use fewer steps, less guidance or safetensors"
        message = f"{what}, more than {TOLERANCE:g}: {remedy}"
        raise ConfigError([Fault("--format", "", message)])
    write_bytes(args.out, file)
    how = sampling_choice.sampling_text(config, stage, about["nfe"])
    print(f"{how}, as {args.format}, {len(file):,} bytes: {args.out}")
    print(sampling_choice.origin_text(source, stage))
    what = f"largest difference from the original in {COMPARED} images"
    print(f"{what}: {difference:.2g} (at most {TOLERANCE:g})")
    return 0


def original(
    source: locate.TrainedRun, config: Experiment, stage: Stage
) -> tuple["Sampler", list["Tensor"], "Tensor", dict[str, Any]]:
    """The trained sampler; the noise, and labels if it has any, of COMPARED images; these images as
    `sample` computes them; and facts about the sampler for the file."""
    import torch

    from kaccore.data import PointData
    from kaccore.export.portable import Sampler
    from kaccore.sampling import prior_images
    from kaccore.solvers import uniform_times
    from orchestrator.networks.export_notes import export_metadata
    from orchestrator.work import building
    from orchestrator.work.drawing import draw, grid_of, labels_for

    machine.limit_threads()
    data = source.data()
    setting = config.sampling
    model = building.trained(source.store, stage, data, setting.ema)
    model = model.to(memory_format=torch.contiguous_format)
    times = grid_of(stage, setting)
    sampler = Sampler(
        model,
        uniform_times(setting.steps) if times is None else torch.tensor(times),
        solver=setting.solver,
        guidance=setting.guidance,
        shaping=setting.shaping,
        bounded=not isinstance(data, PointData),
        jumps=stage.jumps,
    )
    labels = labels_for(stage, None, data, 0, range(COMPARED))
    samples = draw(stage, setting, model, data, range(COMPARED), 0, labels)
    shape = (data.channels, data.size, data.size)
    noise = prior_images(building.path(stage, data), 0, range(COMPARED), shape)
    images = samples.images.clamp(-1, 1) if sampler.bounded else samples.images
    about = export_metadata(stage, data, sampler, samples.nfe, config.name)
    inputs = [noise] if labels is None else [noise, labels]
    return sampler.eval(), inputs, images, about


def file_content(kind: str, sampler: "Sampler", examples: Sequence["Tensor"], about: str) -> bytes:
    """The content of a file of format `kind`; raises ConfigError where the weights are too large
    for it."""
    from kaccore.export import onnx_file, portable

    if kind == "safetensors":
        return portable.to_safetensors(sampler, about)
    if kind == "torchscript":
        return portable.to_torchscript(sampler, examples, about)
    weights = sum(parameter.nbytes for parameter in sampler.parameters())
    if weights > onnx_file.LIMIT:
        size = f"{weights / 2**30:.1f} GiB"
        what = f"got onnx, whose files are limited to 2 GiB, but these weights take {size}"
        raise ConfigError([Fault("--format", "", f"{what}: expected torchscript or safetensors")])
    return onnx_file.to_onnx(sampler, examples, about)


def largest_difference(
    kind: str,
    file: bytes,
    inputs: Sequence["Tensor"],
    expected: "Tensor",
    network: "type[nn.Module] | None" = None,
) -> float:
    """The largest absolute difference between the images that `file` computes from `inputs` and the
    `expected` ones, in a batch of COMPARED and in one of FEWER. `network`: the class of a network
    that is not kaccore's."""
    from kaccore.export import onnx_file, portable

    networks = {} if network is None else {network.__name__: network}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(file)
        run: Any = {
            "onnx": onnx_file.run_onnx,
            "torchscript": portable.run_torchscript,
            "safetensors": partial(portable.run_safetensors, networks=networks),
        }[kind]
        differences = []
        for size in (COMPARED, FEWER):
            images = run(path, [tensor[:size] for tensor in inputs])
            differences.append(float((images - expected[:size]).abs().max()))
    return max(differences)


def _ending(kind: str) -> str:
    return "pt" if kind == "torchscript" else kind


def _check(args: argparse.Namespace) -> None:
    faults = output_file.faults(args.out)
    means = ENDINGS.get(args.out.suffix.lower(), args.format)
    if means != args.format:
        what = f"got {args.out}, whose ending means {means}, and --format {args.format}"
        remedy = f"expected an ending of that format, such as .{_ending(args.format)}"
        faults.append(Fault("--out", "", f"{what}: {remedy}"))
    missing = command_line.missing_modules(NEEDED) if args.format == "onnx" else ""
    if missing:
        what = f"got onnx, which needs {missing}: pip install 'kacflow[export]', or another format"
        faults.append(Fault("--format", "", what))
    if faults:
        raise ConfigError(faults)


if __name__ == "__main__":
    raise SystemExit(main())

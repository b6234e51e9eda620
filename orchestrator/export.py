"""`python -m orchestrator.export RUN --format FORMAT --out FILE`: a trained model that runs without
this project.

RUN is what `sample` takes. onnx and torchscript hold the whole sampler, from prior noise (N, C, H,
W) and labels (N,) to images; safetensors holds the weights and says how to sample. The file is
compared with the original before it is written."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from orchestrator.console import argument_types, command_line, network_arguments, output_file
from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.host import machine
from orchestrator.networks import locate, sampling_choice
from orchestrator.plan.stage import Stage
from orchestrator.settings.experiment import Experiment

if TYPE_CHECKING:  # a refusal does not wait for torch
    from torch import Tensor

    from kaccore.export.portable import Sampler

FORMATS = ("onnx", "torchscript", "safetensors")
# what people and programs expect of a file's ending; any other ending, or none, says nothing
ENDINGS = {
    ".onnx": "onnx",
    ".pt": "torchscript",
    ".pth": "torchscript",
    ".ts": "torchscript",
    ".torchscript": "torchscript",
    ".safetensors": "safetensors",
    ".png": "a picture",
    ".gif": "a picture",
    ".npz": "arrays",
    ".yaml": "settings",
    ".yml": "settings",
}
NEEDED = ("onnx", "onnxruntime", "onnxscript")
TOLERANCE = 1e-3  # an eighth of the step between two of 256 levels in [-1, 1]
# images of seed 0 that are compared, and how many of them go through once more by themselves
COMPARED = 16
FEWER = 3
TRACED = 2  # images that an exporter sees


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    lines = (__doc__ or "").splitlines()
    p = argparse.ArgumentParser(
        prog="python -m orchestrator.export", description=lines[0].split(": ")[1]
    )
    network_arguments.add_arguments(p)
    p.add_argument("--format", choices=FORMATS, required=True, help="the kind of file")
    p.add_argument(
        "--out", type=lambda text: Path(argument_types.path(text)), required=True, help="the file"
    )
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
        what = f"got {config.sampling.gamma}, expected 0: an exported sampler draws no noise of its own"
        raise ConfigError([Fault(source.name, "sampling.gamma", what)])
    stage = sampling_choice.stage_to_sample(source, config)
    from kaccore.files import write_bytes

    sampler, inputs, wanted, about = original(source, config, stage)
    file = made(
        args.format, sampler, [each[:TRACED] for each in inputs], json.dumps(about, indent=1)
    )
    difference = largest_difference(args.format, file, inputs, wanted)
    if not difference <= TOLERANCE:  # NaN is none either
        what = f"got {args.format}, whose images differ from the original's by up to {difference:.2g}, more than"
        raise ConfigError(
            [
                Fault(
                    "--format",
                    "",
                    f"{what} {TOLERANCE:g}: take fewer steps, less guidance or safetensors",
                )
            ]
        )
    write_bytes(args.out, file)
    how = sampling_choice.sampling_text(config, stage, about["nfe"])
    print(f"{how}, as {args.format}, {len(file):,} bytes: {args.out}")
    print(sampling_choice.origin_text(source, stage))
    print(
        f"largest difference from the original in {COMPARED} images: {difference:.2g} (at most {TOLERANCE:g})"
    )
    return 0


def original(
    source: locate.TrainedRun, config: Experiment, stage: Stage
) -> tuple["Sampler", list["Tensor"], "Tensor", dict[str, Any]]:
    """The trained sampler; the noise, and labels if it has any, of some images; those images as
    `sample` draws them; and what is to be known about the sampler."""
    import torch

    from kaccore.data import PointData
    from kaccore.export.portable import Sampler
    from kaccore.sampling import prior_images
    from kaccore.solvers import uniform_times
    from orchestrator.networks.export_notes import export_metadata
    from orchestrator.work import building
    from orchestrator.work.evaluation import draw, grid_of, labels_for

    machine.limit_threads()
    data = source.data()
    setting = config.sampling
    model = building.trained(source.store, stage, data).to(memory_format=torch.contiguous_format)
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
    wanted = samples.images.clamp(-1, 1) if sampler.bounded else samples.images
    about = export_metadata(stage, data, sampler, samples.nfe, config.name)
    return sampler.eval(), [noise, *([] if labels is None else [labels])], wanted, about


def made(kind: str, sampler: "Sampler", examples: Sequence["Tensor"], about: str) -> bytes:
    """The file of a `kind`; raises ConfigError where it cannot hold so many weights."""
    from kaccore.export import onnx_file, portable

    if kind == "safetensors":
        return portable.to_safetensors(sampler, about)
    if kind == "torchscript":
        return portable.to_torchscript(sampler, examples, about)
    weights = sum(each.nbytes for each in sampler.parameters())
    if weights > onnx_file.LIMIT:
        what = (
            f"got onnx, whose files end at 2 GiB, but these weights take {weights / 2**30:.1f} GiB"
        )
        raise ConfigError([Fault("--format", "", f"{what}: expected torchscript or safetensors")])
    return onnx_file.to_onnx(sampler, examples, about)


def largest_difference(
    kind: str, file: bytes, inputs: Sequence["Tensor"], wanted: "Tensor"
) -> float:
    """The largest difference of any number between what `file` makes of `inputs` and `wanted`, all
    of them at once or some alone."""
    from kaccore.export import onnx_file, portable

    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(file)
        run = {
            "onnx": onnx_file.run_onnx,
            "torchscript": portable.run_torchscript,
            "safetensors": portable.run_safetensors,
        }[kind]
        parts = [(run(path, [each[:n] for each in inputs]), wanted[:n]) for n in (COMPARED, FEWER)]
    return max(float((found - wish).abs().max()) for found, wish in parts)


def _ending(kind: str) -> str:
    return "pt" if kind == "torchscript" else kind


def _check(args: argparse.Namespace) -> None:
    faults = output_file.faults(args.out)
    means = ENDINGS.get(args.out.suffix.lower(), args.format)
    if means != args.format:
        what = f"got {args.out}, whose ending means {means}, and --format {args.format}"
        faults.append(
            Fault(
                "--out",
                "",
                f"{what}: expected an ending of that format, such as .{_ending(args.format)}",
            )
        )
    missing = command_line.missing_modules(NEEDED) if args.format == "onnx" else ""
    if missing:
        what = f"got onnx, which needs {missing}: pip install 'kacflow[export]', or another format"
        faults.append(Fault("--format", "", what))
    if faults:
        raise ConfigError(faults)


if __name__ == "__main__":
    raise SystemExit(main())

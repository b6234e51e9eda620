"""`python -m orchestrator.sample RUN --out OUT`: sample images with a trained network.

RUN is an experiment's YAML, a folder of a stage or sweep, a sweep by its name, an MLflow run id or
a registered model: see `networks.locate`. Nothing is trained, and Ray is not started."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.console import argument_types, command_line, network_arguments, output_file
from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.host import machine
from orchestrator.networks import sampling_choice
from orchestrator.networks.trained_sampler import TrainedSampler
from orchestrator.sweeps.inventory import size_text

if TYPE_CHECKING:  # importing torch takes time, and a refusal does not need it
    from torch import Tensor

    from kaccore.data import ImageData
    from kaccore.sampling import Samples

ENDINGS = (".png", ".npz", ".gif")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    lines = (__doc__ or "").splitlines()
    p = command_line.make_parser("sample", lines[0].split(": ")[1])
    network_arguments.add_arguments(p)
    p.add_argument("--count", type=int, default=64, help="how many images (default 64)")
    p.add_argument(
        "--seed", type=int, default=0, help="seed (default 0): image k of a seed is always the same"
    )
    labels = "classes in turn, by their names or numbers, such as cat,dog or 3,7; default: as in the data"
    p.add_argument("--labels", help=labels)
    out = (
        "grid.png; images.npz with `images` uint8 (N, H, W, C), or `points` (N, 2); DIR/ for one PNG an image; "
        "way.gif, the trajectories from noise to image"
    )
    p.add_argument("--out", type=argument_types.path, required=True, help=out)
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    args = parser().parse_args(argv)
    return command_line.guarded(lambda: _sample(args))


def _sample(args: argparse.Namespace) -> int:
    _check(args)
    source = network_arguments.find(args)
    classes = None if args.labels is None else sampling_choice.class_numbers(source, args.labels)
    config = sampling_choice.from_options(source, args, classes)
    output_file.check_outside_images(Path(args.out), config.data)
    sampler = TrainedSampler(source, config)
    from kaccore.data import PointData

    data = sampler.data
    out = Path(args.out)
    if _is_folder(args.out) and isinstance(data, PointData):
        what = f"got {args.out}, but points cannot be written as single images"
        expected = "expected a name that ends in .png, .npz or .gif"
        raise ConfigError([Fault("--out", "", f"{what}: {expected}")])
    _check_memory(args, config.sampling.steps, data)
    machine.limit_threads()
    if out.suffix == ".gif" and not _is_folder(args.out):
        samples = _save_animation(out, sampler, args)
    else:
        samples, labels = sampler.draw(args.count, args.seed)
        about = {**_about(sampler), "nfe": samples.nfe, "seed": args.seed}
        _save(args.out, data.from_floats(samples.images), data, labels, about)
    what = "points" if isinstance(data, PointData) else "images"
    print(f"{args.count} {what} of {sampler.text(samples.nfe)}, seed {args.seed}: {args.out}")
    print(sampler.origin())
    return 0


def _check_memory(args: argparse.Namespace, steps: int, data: "ImageData") -> None:
    """Raise ConfigError where `--count` images do not fit into memory, which holds all of them
    until they are written."""
    per_image, available = bytes_per_image(args.out, steps, data), machine.memory()
    needed = args.count * per_image
    if needed > available:
        what = f"got {args.count}, which take about {size_text(needed)} of memory"
        limit = f"and {size_text(available)} are available to this process"
        expected = f"expected at most {max(1, available // per_image):,}"
        remedy = "for more, run it again with another --seed and --out"
        raise ConfigError([Fault("--count", "", f"{what}, {limit}: {expected}; {remedy}")])


def bytes_per_image(out: str, steps: int, data: "ImageData") -> int:
    """An estimate of the memory of an image until it is written to `out`, in bytes: twice as floats
    and once as 8 bits; enlarged in a grid; once a step in an animation."""
    from kaccore.data import PointData
    from orchestrator.work.pictures import TILE

    values = data.channels * data.size**2
    grid = 0
    if not isinstance(data, PointData):
        scale = max(1, TILE // data.size)
        grid = 9 * (scale * data.size) ** 2  # as gray, as three colours, and copies
    if _is_folder(out):
        return 11 * values
    if out.endswith(".png"):
        return 9 * values + grid
    if out.endswith(".gif"):
        return (steps + 1) * (12 * values + grid // 3)
    return 11 * values


def _save(
    out: str, images: "Tensor", data: "ImageData", labels: "Tensor | None", about: dict[str, Any]
) -> None:
    """Write `images`, with the shape and type of `data.images`, in the format of `out`."""
    import numpy as np

    from orchestrator.work import pictures

    names, seed, count = pictures.names_of(labels, data), about["seed"], len(images)
    if _is_folder(out):
        pictures.save_each(Path(out), images, pictures.file_names(count, seed, labels, data))
    elif out.endswith(".npz"):
        seeds = np.stack([np.full(count, seed, np.int64), np.arange(count)], axis=1)
        settings = np.array(json.dumps(about))
        pictures.save_npz(Path(out), images, labels, twice=True, seeds=seeds, settings=settings)
    else:
        pictures.save_samples(Path(out), images, data, names, mark=True)


def _save_animation(out: Path, sampler: TrainedSampler, args: argparse.Namespace) -> "Samples":
    """Write the trajectories from noise to image; returns the samples."""
    from kaccore.solvers import EVALUATIONS
    from orchestrator.networks import animation
    from orchestrator.work import pictures

    recorder = animation.InputRecorder(sampler.network)
    samples, labels = sampler.draw(args.count, args.seed, recorder)
    setting = sampler.config.sampling
    evaluations = EVALUATIONS[setting.solver]
    guided = setting.guidance != 1 and labels is not None
    positions = recorder.positions(samples.nfe, evaluations, guided, samples.images)
    names = pictures.names_of(labels, sampler.data)
    animation.save_animation(out, positions, sampler.data, names)
    return samples


def _about(sampler: TrainedSampler) -> dict[str, Any]:
    """Facts about samples, for their file."""
    return {
        "experiment": sampler.config.name,
        "stage": {"label": sampler.stage.label, "key": sampler.stage.key},
        "sampling": sampler.config.sampling.model_dump(mode="json"),
        "class_names": list(sampler.data.class_names),
    }


def _is_folder(out: str) -> bool:
    return out.endswith("/") or Path(out).is_dir()


def _check(args: argparse.Namespace) -> None:
    faults = []
    if args.count < 1:
        faults.append(Fault("--count", "", f"got {args.count}, expected at least 1"))
    if not 0 <= args.seed < 2**63:
        faults.append(Fault("--seed", "", f"got {args.seed}, expected a number from 0 to 2^63 - 1"))
    out = Path(args.out)
    if not _is_folder(args.out) and out.suffix not in ENDINGS:
        what = "expected a name that ends in .png, .npz or .gif, or in / for a folder"
        faults.append(Fault("--out", "", f"got {args.out}, {what}"))
    elif not _is_folder(args.out):
        faults += output_file.faults(out)
    elif not out.absolute().parent.is_dir():
        what = f"but {out.absolute().parent} is not a folder"
        faults.append(Fault("--out", "", f"got {args.out}, {what}"))
    elif out.exists() and not (out.is_dir() and not any(out.iterdir())):
        what = "which exists: expected a new or an empty folder"
        faults.append(Fault("--out", "", f"got {args.out}, {what}"))
    if faults:
        raise ConfigError(faults)


if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m orchestrator.sample RUN --out OUT`: draw images from what has been trained.

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
from orchestrator.plan.stage import Stage
from orchestrator.settings.blocks import Sampling
from orchestrator.settings.experiment import Experiment
from orchestrator.sweeps.inventory import size_text

if TYPE_CHECKING:  # a refusal does not wait for torch
    from torch import Tensor

    from kaccore.data import ImageData

ENDINGS = (".png", ".npz", ".gif")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    lines = (__doc__ or "").splitlines()
    p = argparse.ArgumentParser(
        prog="python -m orchestrator.sample", description=lines[0].split(": ")[1]
    )
    network_arguments.add_arguments(p)
    p.add_argument("--count", type=int, default=64, help="how many images (default 64)")
    p.add_argument(
        "--seed", type=int, default=0, help="seed (default 0): image k of a seed is always the same"
    )
    labels = "classes in turn, by their names or numbers, such as cat,dog or 3,7; default: as the data has them"
    p.add_argument("--labels", help=labels)
    out = "grid.png; images.npz with `images` uint8 (N, H, W, C), or `points` (N, 2); DIR/, a PNG an image; "
    p.add_argument(
        "--out",
        type=argument_types.path,
        required=True,
        help=out + "way.gif, the way from noise to image",
    )
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    args = parser().parse_args(argv)
    return command_line.guarded(lambda: _draw(args))


def _draw(args: argparse.Namespace) -> int:
    _check(args)
    source = network_arguments.find(args)
    asked = None if args.labels is None else sampling_choice.class_numbers(source, args.labels)
    config = sampling_choice.from_options(source, args, asked)
    output_file.check_outside_images(Path(args.out), config.data)
    stage = sampling_choice.stage_to_sample(source, config)
    from kaccore.data import PointData
    from orchestrator.networks import animation
    from orchestrator.work import building
    from orchestrator.work.evaluation import device, draw, labels_for

    machine.limit_threads()
    data = source.data()
    out = Path(args.out)
    setting = config.sampling
    if _is_folder(args.out) and isinstance(data, PointData):
        what = f"got {args.out}, but points are no images: expected a name that ends in .png, .npz or .gif"
        raise ConfigError([Fault("--out", "", what)])
    sampling_choice.check_classes(source, config, data)
    _check_memory(args, config.sampling.steps, data)
    model = animation.InputRecorder(building.trained(source.store, stage, data).to(device()))
    chosen = labels_for(stage, setting.labels, data, args.seed, range(args.count))
    samples = draw(
        stage,
        setting,
        model if out.suffix == ".gif" else model.network,
        data,
        range(args.count),
        args.seed,
        chosen,
    )
    if out.suffix == ".gif" and not _is_folder(args.out):
        _save_way(out, setting, model, samples, data, chosen)
    else:
        about = {**_about(config, stage, data), "nfe": samples.nfe, "seed": args.seed}
        _save(args.out, data.from_floats(samples.images), data, chosen, about)
    what = "points" if isinstance(data, PointData) else "images"
    how = sampling_choice.sampling_text(config, stage, samples.nfe)
    print(f"{args.count} {what} of {how}, seed {args.seed}: {args.out}")
    print(sampling_choice.origin_text(source, stage))
    return 0


def _check_memory(args: argparse.Namespace, steps: int, data: "ImageData") -> None:
    """Raise ConfigError where so many images do not fit into memory: all of them are written as one
    file, or not at all."""
    each, there = bytes_each(args.out, steps, data), machine.memory()
    if args.count * each > there:
        most = max(1, there // each)
        what = f"got {args.count}, which take about {size_text(args.count * each)} of memory, and {size_text(there)}"
        remedy = f"expected at most {most:,}; for more, run it again with another --seed and --out"
        raise ConfigError([Fault("--count", "", f"{what} are there for this process: {remedy}")])


def bytes_each(out: str, steps: int, data: "ImageData") -> int:
    """About how many bytes of memory an image takes until it is written to `out`: as floats twice
    and as 8 bits, in a grid enlarged, in an animation once a step."""
    from kaccore.data import PointData
    from orchestrator.work.pictures import TILE

    values = data.channels * data.size**2
    scale = 1 if isinstance(data, PointData) else max(1, TILE // data.size)
    grid = (
        0 if isinstance(data, PointData) else 9 * (scale * data.size) ** 2
    )  # gray, then three colours, and copies
    if _is_folder(out) or not out.endswith((".png", ".gif")):
        return 11 * values
    return 9 * values + grid if out.endswith(".png") else (steps + 1) * (12 * values + grid // 3)


def _save(
    out: str, drawn: "Tensor", data: "ImageData", labels: "Tensor | None", about: dict[str, Any]
) -> None:
    """The samples, shaped and typed as `data.images`, as --out names them."""
    import numpy as np

    from orchestrator.work import pictures

    names, seed = pictures.names_of(labels, data), about["seed"]
    if _is_folder(out):
        pictures.save_each(Path(out), drawn, pictures.file_names(len(drawn), seed, labels, data))
    elif out.endswith(".npz"):
        seeds = np.stack([np.full(len(drawn), seed, np.int64), np.arange(len(drawn))], axis=1)
        pictures.save_npz(
            Path(out), drawn, labels, twice=True, seeds=seeds, settings=np.array(json.dumps(about))
        )
    else:
        pictures.save_samples(Path(out), drawn, data, names, mark=True)


def _save_way(
    out: Path,
    setting: Sampling,
    model: Any,
    samples: Any,
    data: "ImageData",
    labels: "Tensor | None",
) -> None:
    from kaccore.solvers import EVALUATIONS
    from orchestrator.networks import animation
    from orchestrator.work import pictures

    evaluations = EVALUATIONS[setting.solver]
    guided = setting.guidance != 1 and labels is not None
    positions = model.positions(samples.nfe, evaluations, guided, samples.images)
    animation.save_animation(out, positions, data, pictures.names_of(labels, data))


def _about(config: Experiment, stage: Stage, data: "ImageData") -> dict[str, Any]:
    """What is to be known about samples beside themselves."""
    return {
        "experiment": config.name,
        "stage": {"label": stage.label, "key": stage.key},
        "sampling": config.sampling.model_dump(mode="json"),
        "class_names": list(data.class_names),
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
        faults.append(
            Fault("--out", "", f"got {args.out}, but {out.absolute().parent} is no folder")
        )
    elif out.exists() and not (out.is_dir() and not any(out.iterdir())):
        faults.append(
            Fault(
                "--out",
                "",
                f"got {args.out}, which is there already: expected a new or an empty folder",
            )
        )
    if faults:
        raise ConfigError(faults)


if __name__ == "__main__":
    raise SystemExit(main())

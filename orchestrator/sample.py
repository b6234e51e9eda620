"""`python -m orchestrator.sample RUN --out OUT`: draw images from what has been trained.

RUN is an experiment's YAML, a folder of a stage or sweep, a sweep by its name, an MLflow run id or a registered model:
see `sources`. Nothing is trained, and Ray is not started.
"""

import argparse
from pathlib import Path

from orchestrator import cli, sources
from orchestrator.config import ConfigError, Fault

ENDINGS = (".png", ".npz", ".gif")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    lines = (__doc__ or "").splitlines()
    p = argparse.ArgumentParser(prog="python -m orchestrator.sample", description=lines[0].split(": ")[1])
    sources.add_arguments(p)
    p.add_argument("--count", type=int, default=64, help="how many images (default 64)")
    p.add_argument("--seed", type=int, default=0, help="seed (default 0): image k of a seed is always the same")
    p.add_argument("--labels", help="classes in turn, such as 3,7; default: as the data has them")
    out = "grid.png; images.npz with `images` uint8 (N, H, W, C), or `points` (N, 2); DIR/, a PNG an image; "
    p.add_argument("--out", required=True, help=out + "way.gif, the way from noise to image")
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    args = parser().parse_args(argv)
    return cli.guarded(lambda: _draw(args))


def _draw(args: argparse.Namespace) -> int:
    _check(args)
    labels = _labels(args.labels)
    source = sources.locate(args.source, cli.place(args.storage, "--storage"), args.tracking_uri)
    config = sources.override(source, args, labels)
    stage = sources.pick(source, config)
    from kaccore.data import PointData
    from kaccore.solvers import EVALUATIONS
    from orchestrator import build, pictures, way
    from orchestrator.evaluation import device, draw, labels_for

    data = source.data()
    out, setting = Path(args.out), config.sampling.model_dump(mode="json")
    if _is_folder(args.out) and isinstance(data, PointData):
        what = f"got {args.out}, but points are no images: expected a name that ends in .png, .npz or .gif"
        raise ConfigError([Fault("--out", "", what)])
    sources.check_classes(source, config, data)
    model = way.Watched(build.trained(source.store, stage, data).to(device()))
    chosen = labels_for(stage, setting["labels"], data, args.seed, range(args.count))
    samples = draw(stage, setting, model if out.suffix == ".gif" else model.network, data, range(args.count), args.seed,
                   chosen)  # fmt: skip
    if _is_folder(args.out):
        pictures.save_each(out, data.from_floats(samples.images))
    elif out.suffix == ".gif":
        evaluations, guided = EVALUATIONS[setting["solver"]], setting["guidance"] != 1 and chosen is not None
        way.save_way(out, model.positions(samples.nfe, evaluations, guided, samples.images), data)
    else:
        pictures.save_samples(out, data.from_floats(samples.images), data)
    print(f"{args.count} images of {stage.label}, NFE {samples.nfe}, seed {args.seed}: {args.out}")
    return 0


def _labels(text: str | None) -> list[int] | None:
    try:
        return None if text is None else [int(each) for each in text.split(",")]
    except ValueError:
        raise ConfigError([Fault("--labels", "", f"got {text}, expected classes such as 3,7")]) from None


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
    elif not out.absolute().parent.is_dir():
        faults.append(Fault("--out", "", f"got {args.out}, but {out.absolute().parent} is no folder"))
    elif _is_folder(args.out) and out.exists() and not (out.is_dir() and not any(out.iterdir())):
        faults.append(Fault("--out", "", f"got {args.out}, which is there already: expected a new or an empty folder"))
    if faults:
        raise ConfigError(faults)


if __name__ == "__main__":
    raise SystemExit(main())

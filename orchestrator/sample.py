"""`python -m orchestrator.sample FILE_OR_RUN`: draw images from what has been trained.

FILE_OR_RUN is an experiment's YAML, a stage's folder (runs/stages/<key>), a sweep's folder (its best trial), or a
trial of one (runs/sweeps/<name>/<id>:3). Nothing is trained, and Ray is not started.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import cli
from orchestrator.config import ConfigError, Experiment, Fault, load


@dataclass(frozen=True)
class Source:
    """What to sample: a store, a finished teacher or student with the stages before it, and how."""

    name: str
    config: Experiment
    chain: tuple[Any, ...]  # the stages from the teacher on; the last one is sampled unless --steps says otherwise
    model: str
    store: Any


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    lines = (__doc__ or "").splitlines()
    p = argparse.ArgumentParser(prog="python -m orchestrator.sample", description=lines[0].split(": ")[1])
    p.add_argument(
        "source", metavar="FILE_OR_RUN",
        help="an experiment's YAML, a stage's folder, a sweep's folder (its best trial), or SWEEP_DIR:TRIAL",
    )  # fmt: skip
    p.add_argument("--count", type=int, default=64, help="how many images (default 64)")
    p.add_argument("--steps", type=int, help="steps from noise to image; a student has its own count")
    p.add_argument("--model", choices=("teacher", "student"), help="which network (default: as the run has it)")
    p.add_argument("--solver", choices=("euler", "midpoint", "heun", "ab2", "rk4"), help="the teacher's solver")
    p.add_argument("--guidance", type=float, help="guidance scale of the teacher; 1 is none")
    p.add_argument("--seed", type=int, default=0, help="seed (default 0): image k of a seed is always the same")
    p.add_argument("--labels", help="classes in turn, such as 3,7; default: as the data has them")
    p.add_argument("--out", type=Path, required=True, help="grid.png, or images.npz with `images` uint8 (N, H, W, C)")
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    args = parser().parse_args(argv)
    return cli.guarded(lambda: _draw(args))


def _draw(args: argparse.Namespace) -> int:
    _check(args)
    source = locate(args.source)
    config = override(source, args)
    stage = pick(source, config)
    from kaccore import sample
    from kaccore.data import load as load_data
    from kaccore.data import to_uint8
    from orchestrator import build, pictures
    from orchestrator.evaluation import choose_labels, trained_network

    data = load_data(config.data.name, Path(config.data.root) if config.data.root else None)
    model, setting, teacher = trained_network(source.store, stage, data), config.sampling, stage.lineage()[0]
    wanted = list(setting.labels) if isinstance(setting.labels, tuple) else setting.labels
    labelled = teacher.config["label_dropout"] is not None
    labels = choose_labels(wanted, data, args.seed, range(args.count)) if labelled else None
    samples = sample(
        model, build.path(teacher, data), (args.count, data.channels, data.size, data.size), solver=setting.solver,
        steps=setting.steps, seed=args.seed, labels=labels, guidance=setting.guidance,
    )  # fmt: skip
    save = pictures.save_npz if args.out.suffix == ".npz" else pictures.save_grid
    save(args.out, to_uint8(samples.images))
    print(f"{args.count} images of {stage.label}, NFE {samples.nfe}, seed {args.seed}: {args.out}")
    return 0


def locate(text: str) -> Source:
    """What `text` names; raises ConfigError that says what is expected."""
    folder, _, number = text.rpartition(":") if not Path(text).exists() and ":" in text else (text, "", "")
    path = Path(folder)
    if (path / "plan.json").exists():
        return _of_sweep(path, number)
    if (path / "manifest.json").exists():
        return _of_stage(path)
    if path.is_dir():
        what = "a folder of no known kind: expected a sweep's (plan.json) or a stage's (manifest.json)"
        raise ConfigError([Fault(text, "", what)])
    config = load(path)
    planned = cli.make_plan(config, text, "student")
    from orchestrator.store import Store

    return Source(text, config, planned.trials[0].chain, config.sampling.model, Store(config.storage))


def override(source: Source, args: argparse.Namespace) -> Experiment:
    """The configuration with what the command line asks for; faults name the option."""
    given = {"steps": args.steps, "solver": args.solver, "guidance": args.guidance, "model": args.model or source.model}
    values = {f"sampling.{k}": v for k, v in given.items() if v is not None}
    if args.labels is not None:
        try:
            values["sampling.labels"] = [int(x) for x in args.labels.split(",")]
        except ValueError:
            message = f"got {args.labels}, expected classes such as 3,7"
            raise ConfigError([Fault("--labels", "", message)]) from None
    model = values["sampling.model"]
    if model == "student" and args.solver is None:
        values["sampling.solver"] = "euler"
    return source.config.override({"sweep": None, **values})


def pick(source: Source, config: Experiment) -> Any:
    """The stage to sample; raises ConfigError where it is not trained yet."""
    count = 0
    if config.sampling.model == "student":
        count = config.distill.intervals.index(config.sampling.steps) + 1
    stage = source.chain[count] if count < len(source.chain) else None
    if stage is None or not source.store.done(stage.key):
        label = stage.label if stage else f"student {config.sampling.steps}"
        command = "train" if count == 0 else "distill"
        what = f"{label} is not trained yet under {source.store.root}: run python -m orchestrator.{command} FILE first"
        raise ConfigError([Fault(source.name, "", what)])
    return stage


def _of_sweep(folder: Path, number: str) -> Source:
    from orchestrator.view import ranking

    records = cli.records_of(folder)
    trials = records.plan.trials
    index = int(number) if number.isdigit() else ranking(records)[0][0]
    if index >= len(trials):
        raise ConfigError([Fault(f"{folder}:{number}", "", f"expected a trial from 0 to {len(trials) - 1}")])
    config = trials[index].config
    planned = cli.make_plan(config, str(folder), "student")
    return Source(str(folder), config, planned.trials[0].chain, config.sampling.model, records.store)


def _of_stage(folder: Path) -> Source:
    """A stage alone knows no experiment: the one that made it is found among the sweeps of its storage."""
    from orchestrator.store import Store

    root, key = folder.absolute().parents[1], folder.absolute().name
    for plan_file in sorted((root / "sweeps").glob("*/*/plan.json")):
        records = cli.records_of(plan_file.parent)
        for trial in records.plan.trials:
            chain = cli.make_plan(trial.config, str(plan_file), "student").trials[0].chain
            for at, stage in enumerate(chain):
                if stage.key != key:
                    continue
                config = trial.config
                if at:
                    steps = config.distill.intervals[at - 1]
                    values = {"sampling.model": "student", "sampling.solver": "euler", "sampling.steps": steps}
                    config = config.override({**values, "sampling.guidance": 1.0})
                return Source(str(folder), config, chain, "student" if at else "teacher", Store(root))
    raise ConfigError([Fault(str(folder), "", "no sweep under this storage has this stage as a teacher or student")])


def _check(args: argparse.Namespace) -> None:
    faults = []
    if args.count < 1:
        faults.append(Fault("--count", "", f"got {args.count}, expected at least 1"))
    if not 0 <= args.seed < 2**63:
        faults.append(Fault("--seed", "", f"got {args.seed}, expected a number from 0 to 2^63 - 1"))
    if args.out.suffix not in (".png", ".npz"):
        faults.append(Fault("--out", "", f"got {args.out}, expected a name that ends in .png or .npz"))
    elif not args.out.absolute().parent.is_dir():
        faults.append(Fault("--out", "", f"got {args.out}, but {args.out.absolute().parent} is no folder"))
    if faults:
        raise ConfigError(faults)


if __name__ == "__main__":
    raise SystemExit(main())

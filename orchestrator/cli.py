"""What the commands share: arguments, exit status, and finding an experiment's plan and folder."""

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from kaccore.files import CorruptFileError
from orchestrator import argument_types, config, invocation, overrides, terminal
from orchestrator.faults import ConfigError, Fault
from orchestrator.places import Place, Where, place_of
from orchestrator.rules import class_faults
from orchestrator.stage_result import DamagedError

if TYPE_CHECKING:  # at run time these, and torch with them, are imported when the input is known to be sound
    from rich.console import Console

    from orchestrator.plan import FactsOf, Plan
    from orchestrator.records import Records
    from orchestrator.search import Known

BAD_INPUT = 2
STORAGE = "runs"  # where experiments that name no other storage have it
LOG_WIDTH = 140


def guarded(command: Callable[[], int]) -> int:
    """`command()`, with the user's faults as one message and exit status 2, an interrupt as 130."""
    terminal.make_plain()
    try:
        return command()
    except DamagedError as e:
        from orchestrator.integrity import remedy

        print(f"error: {e}\n{remedy(e)}" if "\n" not in str(e) else f"errors:\n{e}\n{remedy(e)}", file=sys.stderr)
        return BAD_INPUT
    except (ConfigError, ConnectionError, CorruptFileError) as e:
        print(f"error: {e}" if "\n" not in str(e) else f"errors:\n{e}", file=sys.stderr)
        return BAD_INPUT
    except OSError as e:  # before anything was started: a run deals with its own
        from orchestrator.store import with_remedy

        print(f"error: {with_remedy(e)}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return 130


def leave(status: int) -> NoReturn:
    """End this process. Where it has planned and no more, which takes neither Ray nor MLflow, it ends at once: torch
    takes 0.6 s to be taken down piece by piece."""
    if not {"ray", "mlflow"} & sys.modules.keys():
        with suppress(BrokenPipeError):  # whoever read along has seen enough
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    raise SystemExit(status)


def place(text: str, source: str | None = None) -> Place:
    """The folder or s3:// address that a command line's `text` means; raises ConfigError where it is neither."""
    try:
        return place_of(text)
    except ValueError as e:
        raise ConfigError([Fault(source or text, "", str(e))]) from None


def add_storage(parser: argparse.ArgumentParser, what: str) -> None:
    """`--storage`, of commands that read a store."""
    parser.add_argument("--storage", type=argument_types.path, help=f"{what} (default {STORAGE})")


def storage(args: argparse.Namespace) -> Place:
    """Where the store of `--storage` lies; raises ConfigError where one is named and is not there."""
    root = place(args.storage or STORAGE, "--storage")
    if args.storage:
        check_store(root)
    return root


def check_store(root: Place) -> None:
    """Raise ConfigError where there is no store at `root`, or one that this version cannot read."""
    if not (root / "stages").is_dir() and not (root / "sweeps").is_dir():
        there = "expected a store: a folder with stages/ and sweeps/" if root.is_dir() else "which is not there"
        raise ConfigError([Fault("--storage", "", f"got {root}, {there}")])
    check_layout(root, "--storage")


def add_set(parser: argparse.ArgumentParser, what: str) -> None:
    """`--set`, of commands that take an experiment's file; the texts are `overrides`."""
    how = f"{what}, such as --set path.damping=9.0; may be repeated"
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides", help=how)


def missing(modules: Iterable[str]) -> str:
    """Those of the modules that are not installed, as a text; empty where all are there."""
    return ", ".join(name for name in modules if importlib.util.find_spec(name) is None)


def make_console() -> "Console":
    """Where a run prints: a terminal's own width, and lines long enough for a table in a log."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else LOG_WIDTH)


def run_parser(command: str, about: str) -> argparse.ArgumentParser:
    """The parser of sweep, train, distill and evaluate: no options but where to run and what to print."""
    parser = argparse.ArgumentParser(
        prog=f"python -m orchestrator.{command}",
        description=about,
        epilog="Exit status: 0 all done; 1 some trial failed; 2 bad input, nothing started; 130 interrupted. "
        "Running the same command again resumes: finished stages are found, unfinished ones continue.",
    )
    what = "an experiment, such as experiments/nfe_sweep.yaml"
    parser.add_argument("file", metavar="FILE", type=argument_types.path, help=what)
    add_set(parser, "override one setting")
    parser.add_argument(
        "--only", metavar="KEY=VALUE", action="append", default=[],
        help="run only the trials with this value of a swept setting, or one of a list of them; may be repeated",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print what would run, and run nothing")
    parser.add_argument("--address", help="a Ray cluster to run on, such as auto or ray://head:10001; default: here")
    return parser


def run_command(command: str, what: str, goal: str, argv: list[str] | None) -> int:
    """Parse `argv` and run the plan of its file up to `goal`."""
    args = run_parser(command, what).parse_args(argv)
    return guarded(lambda: _run(args, goal, invocation.typed(command, argv)))


def _run(args: argparse.Namespace, goal: str, again: str) -> int:
    from orchestrator import cluster

    cluster.quieten(args.address)
    experiment = config.load(args.file, args.overrides)
    if goal == "sweep":
        overrides.refuse_swept(experiment, args.file, args.overrides)
    check_storage(experiment, args.file)
    address = cluster.address_of(args.address)
    notes = [] if args.dry_run or address is not None else cluster.check_here(experiment, args.file)
    plan = make_plan(experiment, args.file, goal, dry=args.dry_run)
    only = overrides.chosen(plan, args.only)
    from orchestrator import checks, preflight, runner
    from orchestrator.records import Records
    from orchestrator.store import Store

    console = make_console()
    unused, left = overrides.without_effect(plan, args.file, args.overrides), overrides.leaving_all(plan, args.only)
    for changes in (notes, unused, left):
        for line in changes:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    records = Records(plan, Store(experiment.storage))
    if experiment.sweep is not None and goal == "sweep":
        records.earlier = earlier_points(records, args.file)
    asked = plan.trials if only is None else plan.part(only).trials
    weights = preflight.before_start(asked, records.store, args.file, dry=args.dry_run)
    if args.dry_run:
        runner.print_plan(plan, console, only, preflight.left_to_fetch(weights))
        return 0
    if address is not None:
        cluster.connect(address)
        cluster.check_cluster(experiment, args.file)
        known = {trial.config.data: trial.facts.fingerprint for trial in plan.trials}
        checks.before_start(experiment, args.file, known, weights)
    return runner.run(records, address, console, only, again)


def make_plan(experiment: config.Experiment, source: str, goal: str = "sweep", dry: bool = False) -> "Plan":
    """The plan of an experiment, the data of each trial read for their fingerprint; of a sweep that grows with the
    points that earlier runs have drawn. `dry`: nothing is written or fetched, and data that are not here are planned
    by what is known of them. Raises ConfigError where a trial cannot be run."""
    from orchestrator import plan, search

    search.expand(experiment, source)  # refuse a wrong sweep before anything heavy is imported
    facts_of = facts_by(source, dry)
    planned = plan.make(experiment, facts_of, goal)
    if planned.grows:
        planned = plan.make(experiment, facts_of, goal, _drawn_before(planned))
    read = [t for t in planned.trials if t.facts.data.count is not None]  # of missing files nobody knows the classes
    faults = [fault for t in read for fault in class_faults(t.config, t.facts.data.classes)]
    if faults:
        raise ConfigError(list(dict.fromkeys(replace(fault, source=source) for fault in faults)))
    return planned


def facts_by(source: str, dry: bool = False) -> "FactsOf":
    """What tells the facts of a trial; it raises ConfigError, named after `source`, where the data cannot be read or
    the features do not suit them."""
    from kaccore.features import features_for
    from orchestrator.dataset_info import DatasetInfo, foresee, read
    from orchestrator.plan import Facts

    known: dict[config.Data, DatasetInfo] = {}  # each is read once

    def facts(trial: config.Experiment) -> Facts:
        evaluation = trial.evaluation
        try:
            if trial.data not in known:
                known[trial.data] = foresee(trial.data) if dry else read(trial.data)
            features = features_for(trial.data.name, evaluation.features, evaluation.weights)
            return Facts(known[trial.data], features)
        except (ValueError, OSError) as e:
            raise ConfigError([Fault(source, "data", str(e))]) from None

    return facts


def earlier_points(records: "Records", source: str) -> list["Known"]:
    """What the sweeps in `sweep.learn_from` have measured, as points of this one's space; raises ConfigError where one
    is not there. Trials whose metric has other features, or that lie outside the space, teach nothing."""
    sweep = records.plan.experiment.sweep
    if sweep is None or not sweep.learn_from:
        return []
    from orchestrator.drawing import known_elsewhere

    found: list[Known] = []
    for name in sweep.learn_from:
        folders = (records.store.root / "sweeps").find(name if "/" in name else f"{name}/*")
        folders = [folder for folder in folders if (folder / "plan.json").exists()]
        if not folders:
            there = [p.parent.parent.name for p in (records.store.root / "sweeps").find("*/*/plan.json")]
            what = f"got {name}, expected a sweep of {records.store.root}: {', '.join(dict.fromkeys(there)) or 'none'}"
            raise ConfigError([Fault(source, "sweep.learn_from", what)])
        for folder in folders:
            other = records_of(folder)
            found += known_elsewhere(other, records.plan)
            if other.damaged:  # what is drawn would depend on it
                raise DamagedError(str(other.store.root), other.damaged)
    return found


def _drawn_before(plan: "Plan") -> list[dict[str, Any]]:
    """The points that earlier runs of the same sweep have drawn."""
    noted = place_of(plan.experiment.storage) / "sweeps" / plan.experiment.name / plan.id / "plan.json"
    try:
        return list(json.loads(noted.read_text())["points"])
    except (OSError, ValueError, KeyError, TypeError):
        return []  # the first run, or one that was killed while it began


def check_storage(experiment: config.Experiment, source: str) -> None:
    """Raise ConfigError where `storage` cannot be written; writes nothing that stays."""
    if problem := place_of(experiment.storage).problem():
        raise ConfigError([Fault(source, "storage", f"got {experiment.storage}, {problem}")])
    check_layout(place_of(experiment.storage), source)


def check_layout(root: Place, source: str) -> None:
    """Raise ConfigError where the store was written by a version of this project that this one cannot read."""
    from orchestrator.store import LAYOUT, Store

    try:
        found = Store(root).layout()
    except ConnectionError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ConfigError([Fault(source, "storage", f"got {root}, whose layout.json cannot be read: {e}")]) from None
    if found != LAYOUT:
        what = f"got {root}, a store of layout {found}, expected {LAYOUT}"
        raise ConfigError([Fault(source, "storage", f"{what}: use the version that wrote it, or another folder")])


def records_of(folder: Where, before: "Records | None" = None) -> "Records":
    """The records of a sweep's folder, read from its files alone; raises ConfigError where it is none. `before`: what
    was read of it earlier, whose finished results are not asked for again."""
    from orchestrator import plan_file, yaml_file
    from orchestrator.records import Records
    from orchestrator.store import Store

    folder = place_of(folder)
    noted = folder / "config.yaml"
    try:
        planned = json.loads((folder / "plan.json").read_text())
        experiment = config.parse(yaml_file.load_text(noted.read_text(), str(noted)), str(noted))
    except ConnectionError:
        raise
    except (OSError, ValueError) as e:
        if isinstance(e, ConfigError):
            raise
        raise ConfigError(
            [Fault(str(folder), "", "not a sweep's folder: expected plan.json, as in runs/sweeps/<name>/<id>")]
        ) from None
    try:
        plan = plan_file.of_noted(planned, experiment)
    except ValueError as e:
        what = f"made by another version of this project ({e}): run its experiment again, or use that version"
        raise ConfigError([Fault(str(folder), "", what)]) from None
    except (KeyError, TypeError, AttributeError, IndexError) as e:
        what = f"plan.json is damaged ({type(e).__name__}: {e}): run its experiment again, which writes it anew"
        raise ConfigError([Fault(str(folder), "", what)]) from None
    records = Records(plan, Store(folder.absolute().parents[2]))
    if before is None:
        records.read_endings()
    else:
        records.follow(before)
    return records

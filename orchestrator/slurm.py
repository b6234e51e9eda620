"""`python -m orchestrator.slurm FILE`: a batch script that runs an experiment's sweep on Slurm."""

import argparse
import itertools
import math
import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cluster.slurm import jobs, scheduler, script
from orchestrator.cluster.slurm.script import Allocation
from orchestrator.cluster.slurm.storage import local_storage
from orchestrator.console import argument_types, command_line
from orchestrator.console.conclusion import print_line
from orchestrator.console.overrides import refuse_swept
from orchestrator.fields.faults import ConfigError, Fault, describe
from orchestrator.host.printed import command
from orchestrator.settings import loading
from orchestrator.store.places import place_of
from orchestrator.sweeps.opening import check_storage, make_plan

if TYPE_CHECKING:
    from orchestrator.plan.plan import Plan
    from orchestrator.settings.experiment import Experiment

TASKS = 1000  # of a job array


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = command_line.make_parser(
        "slurm",
        "Write a batch script that runs the sweep of FILE in an allocation of Slurm, and again after "
        "each time limit until all is done. Say what it asks for, and how long the sweep should take.",
    )
    p.add_argument("file", metavar="FILE", type=argument_types.experiment, help="an experiment")
    command_line.add_set(p, "override one setting")
    p.add_argument("--nodes", type=argument_types.count, default=1, help="nodes (default 1)")
    what = "CPUs of each node (default: what one worker needs, times the trials that run at once)"
    p.add_argument("--cpus-per-node", type=argument_types.count, help=what)
    what = "GPUs of each node (default: 1 where cluster.gpus_per_worker asks for one, else 0)"
    p.add_argument("--gpus-per-node", type=argument_types.count, help=what)
    what = "time limit of one allocation, such as 4:00:00 (default) or 90 for minutes"
    p.add_argument("--time", type=argument_types.duration, default=240, help=what)
    p.add_argument("--partition", help="the partition (default: Slurm's)")
    p.add_argument("--account", help="the account that is charged (default: Slurm's)")
    p.add_argument("--qos", help="the quality of service (default: Slurm's)")
    what = (
        "a job array: one task for each value of this swept setting, or each combination of several"
    )
    p.add_argument("--array", metavar="KEY[,KEY]", help=what)
    p.add_argument("--out", type=Path, help="the script (default: NAME.sbatch)")
    either = p.add_mutually_exclusive_group()
    either.add_argument("--submit", action="store_true", help="submit it with sbatch")
    either.add_argument("--dry-run", action="store_true", help="print it, and write nothing")
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    args = parser().parse_args(argv)
    return command_line.guarded(lambda: _slurm(args))


def _slurm(args: argparse.Namespace) -> int:
    reload = partial(loading.load, args.file)
    experiment = reload(args.overrides)
    refuse_swept(experiment, reload, args.overrides)
    check_storage(experiment, args.file)
    plan = make_plan(experiment, args.file, "sweep", dry=True)
    allocation = _allocation(args, experiment)
    parts = list(_parts(plan, args.array)) if args.array else []
    _check(args, experiment, allocation)
    storage = str(place_of(experiment.storage).absolute())  # independent of the folder of a process
    text = script.render(
        experiment.name,
        args.file,
        Path.cwd(),
        storage,
        allocation,
        _sets(args, experiment, storage, allocation),
        parts,
        plan.name,
    )
    if scheduler.available():
        _test(text)
    console = command_line.make_console()
    tasks = f", {len(parts)} tasks" if parts else ""
    say = partial(print_line, console)
    if args.dry_run:
        say(text.rstrip())
    say(f"asks for  {allocation.text()}{tasks}")
    for line in _estimate(plan, allocation, len(parts)):
        say(line)
    if args.dry_run:
        return 0
    out = args.out or Path(f"{experiment.name}.sbatch")
    if out.exists() and "orchestrator.sweep" not in out.read_text(errors="replace"):
        raise ConfigError([Fault(str(out), "--out", "is there already: give another name")])
    try:
        out.write_text(text)
    except OSError as error:
        raise ConfigError([Fault(str(out), "--out", str(error.strerror or error))]) from None
    say(f"script    {out}")
    if not args.submit:
        say(f"submit    sbatch {out}")
        return 0
    try:
        job = scheduler.submit(str(out))
    except scheduler.SlurmError as error:
        raise ConfigError([Fault(str(out), "--submit", str(error))]) from None
    jobs.record(place_of(experiment.storage), job, plan.name)
    say(f"job       {job}: squeue --job {job}; cancel it with scancel {job}")
    where = shlex.quote(storage)
    say(f"status    {command('status', experiment.name)} --storage {where}")
    return 0


def _allocation(args: argparse.Namespace, experiment: "Experiment") -> Allocation:
    cluster, sweep = experiment.cluster, experiment.sweep
    gpus = args.gpus_per_node
    if gpus is None:
        gpus = math.ceil(cluster.gpus_per_worker)
    cpus = args.cpus_per_node
    if cpus is None:
        at_once = (sweep.max_concurrent_trials if sweep else None) or 1
        workers = math.ceil(cluster.max_workers * at_once / args.nodes)
        cpus = max(1, math.ceil(workers * cluster.cpus_per_worker))
    return Allocation(args.nodes, cpus, gpus, args.time, args.partition, args.account, args.qos)


def _sets(
    args: argparse.Namespace, experiment: "Experiment", storage: str, allocation: Allocation
) -> Sequence[str]:
    """The settings of the command, with the store, and the GPUs that were asked for."""
    sets = [text for text in args.overrides if not text.startswith("storage=")]
    sets.append(f"storage={storage}")
    if allocation.gpus and not experiment.cluster.gpus_per_worker:
        sets.append("cluster.gpus_per_worker=1")
    return sets


def _parts(plan: "Plan", keys: str) -> Iterator[list[str]]:
    """The `--only` of each task of a job array."""
    sweep = plan.experiment.sweep
    swept = {} if sweep is None else sweep.space
    names = [name.strip() for name in keys.split(",")]
    for name in names:
        if name not in swept or plan.grows:
            listed = ", ".join(swept) or "none"
            why = (
                "optuna chooses its points while it runs" if plan.grows else f"swept are: {listed}"
            )
            raise ConfigError([Fault("--array", name, f"expected a swept setting: {why}")])
    values = [dict.fromkeys(describe(t.overrides[name]) for t in plan.trials) for name in names]
    found = []
    for combination in itertools.product(*values):
        wanted = dict(zip(names, combination, strict=True))
        if any(all(describe(t.overrides[k]) == v for k, v in wanted.items()) for t in plan.trials):
            found.append([f"{name}={value}" for name, value in wanted.items()])
    if len(found) > TASKS:
        raise ConfigError(
            [Fault("--array", keys, f"has {len(found)} tasks, expected {TASKS} or less")]
        )
    yield from found


def _check(args: argparse.Namespace, experiment: "Experiment", allocation: Allocation) -> None:
    """Raise ConfigError with everything that Slurm or the nodes would refuse."""
    faults = []
    if fault := local_storage(experiment, args.file):
        faults.append(fault)
    needed = experiment.cluster.min_workers * experiment.cluster.cpus_per_worker
    if needed > allocation.nodes * allocation.cpus:
        message = (
            f"{allocation.nodes} x {allocation.cpus} CPUs, but cluster.workers and "
            f"cluster.cpus_per_worker need {needed:g}"
        )
        faults.append(Fault("--cpus-per-node", "", message))
    if scheduler.available():
        try:
            known = scheduler.partitions()
        except scheduler.SlurmError as error:
            raise ConfigError([Fault("slurm", "", f"it does not answer: {error}")]) from None
        faults += [Fault(option, "", text) for option, text in scheduler.faults(allocation, known)]
    elif args.submit:
        faults.append(Fault("--submit", "", "this machine has no sbatch: run it on a login node"))
    if faults:
        raise ConfigError(faults)


def _test(text: str) -> None:
    """Raise ConfigError where Slurm itself would refuse the script `text`."""
    try:
        problem = scheduler.refusal(text)
    except scheduler.SlurmError as error:
        problem = str(error)
    if problem:
        remedy = "correct --account, --qos or --partition; sacctmgr show associations lists yours"
        raise ConfigError([Fault("slurm", "", f"it refuses this job: {problem}: {remedy}")])


def _estimate(plan: "Plan", allocation: Allocation, tasks: int) -> Iterator[str]:
    """How long the sweep should take there, and in how many allocations."""
    if not scheduler.available():
        yield "checked   nothing of Slurm: this machine has no sinfo"
    if any(trial.facts.data.size is None for trial in plan.trials):
        return
    from orchestrator.execution.trials import concurrent_trials
    from orchestrator.store.store import Store
    from orchestrator.work import forecast

    resources = {
        "CPU": float(allocation.nodes * allocation.cpus),
        "GPU": float(allocation.nodes * allocation.gpus),
    }
    at_once = concurrent_trials(plan.experiment, resources) * max(1, tasks)
    found = forecast.forecast(plan, Store(plan.experiment.storage), at_once)
    minutes = math.ceil(found.seconds / 60)
    how = (
        "from steps timed on this machine's CPU"
        if not found.operations
        else "by this CPU's arithmetic"
    )
    gpu = "; a GPU takes less" if allocation.gpus else ""
    yield f"estimate  about {minutes} min, {at_once} trials at a time, {how}{gpu}"
    usable = allocation.minutes - math.ceil(script.SIGNAL_SECONDS / 60)
    if minutes > usable > 0:
        times = math.ceil(minutes / usable)
        yield f"limit     about {times} allocations of {script.clock(allocation.minutes)}, in sequence"


if __name__ == "__main__":
    command_line.exit_process(main())

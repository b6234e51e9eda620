"""`python -m orchestrator.doctor [FILE]`: check a cluster or this machine, and report all faults at
once."""

import argparse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.cluster import connection, local_ray, resources
from orchestrator.console import argument_types, command_line, json_output
from orchestrator.fields.faults import ConfigError, Fault
from orchestrator.settings import loading
from orchestrator.settings.experiment import Experiment
from orchestrator.sweeps import opening

if TYPE_CHECKING:
    from orchestrator.cluster.nodes.node_faults import Node
    from orchestrator.cluster.nodes.report import Report


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = command_line.make_parser(
        "doctor",
        "Check a Ray cluster: shared storage, host names, versions, devices, data, disks, clocks, the "
        "tracking server, and machines that have not joined. Without --address: check this machine, and the limits of "
        "a process on it: CPUs, memory, threads, open files, room for Ray.",
        "Exit status: 0 all is well; 2 there are faults, each with its remedy.",
    )
    what = "an experiment (default: one with default settings)"
    p.add_argument("file", metavar="FILE", type=argument_types.experiment, nargs="?", help=what)
    p.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="override one setting of it",
    )
    p.add_argument("--address", help="a Ray cluster, such as auto or ray://head:10001")
    what = (
        "check Slurm instead, from a login node: the partition, the storage, and what one node sees"
    )
    p.add_argument("--slurm", action="store_true", help=what)
    p.add_argument("--partition", help="the partition of Slurm (default: Slurm's)")
    p.add_argument("--json", action="store_true", help="print it as JSON")
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    p = parser()
    args = p.parse_args(argv)
    if args.overrides and args.file is None:
        p.error("--set overrides a setting of FILE: name one")
    if args.slurm and args.address:
        p.error("--slurm checks Slurm, and --address a Ray cluster: give one of them")
    if args.partition and not args.slurm:
        p.error("--partition is one of Slurm's: give --slurm too")
    return command_line.guarded(lambda: _show_json(args) if args.json else _show(args))


@dataclass
class Examined:
    """What was found: limits of this machine, one a line; a row of facts for each node; faults."""

    limits: list[str] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def _show(args: argparse.Namespace) -> int:
    from rich.table import Table

    console, examined = command_line.make_console(), Examined()
    try:
        _examine(args, examined)
    finally:
        for line in examined.limits:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if examined.nodes:
        table = Table("host", "address", "python", "torch", "ray", "GPUs", "disk free")
        for node in examined.nodes:
            named = [node[name] for name in ("host", "address", "python", "torch", "ray")]
            free = f"{node['disk_free_bytes'] / 1e9:.0f} GB"
            table.add_row(*named, f"{node['gpus']:g}", free)
        console.print(table)
    if examined.faults:
        raise ConfigError(examined.faults)
    console.print("all is well", highlight=False)
    return 0


def _show_json(args: argparse.Namespace) -> int:
    examined = Examined()
    try:
        _examine(args, examined)
    except ConfigError as error:
        examined.faults += error.faults
    json_output.print_json(
        {
            "well": not examined.faults,
            "faults": json_output.of_faults(examined.faults),
            "nodes": examined.nodes,
            "limits": examined.limits,
        }
    )
    return command_line.BAD_INPUT if examined.faults else 0


def _examine(args: argparse.Namespace, examined: Examined) -> None:
    """Add what is found to `examined`. Raises ConfigError if the experiment cannot be read."""
    connection.prepare_environment(args.address)
    source = args.file or "this cluster"
    if args.file:
        experiment = loading.load(args.file, args.overrides)
    else:
        experiment = loading.parse(loading.minimal("doctor"), source)
    opening.check_storage(experiment, source)
    if args.slurm:
        _examine_slurm(experiment, source, args.partition, examined)
        return
    from orchestrator.cluster.nodes import examination, missing_hosts
    from orchestrator.cluster.nodes.tracking_server import tracking_faults
    from orchestrator.plan.expand import expand
    from orchestrator.work import preflight

    trials = [spec.config for spec in expand(experiment, source).trials] or [experiment]
    needed = preflight.weights_needed(trials) if args.file else []
    address = connection.address_of(args.address)
    faults = examined.faults
    if address is None:
        faults += _examine_this_machine(experiment, source, examined)
        if faults:  # Ray cannot start here: check what does not need it
            faults += examination.faults_without_a_cluster(experiment, source)
            faults += preflight.weights_faults(needed, source)
            return
    connection.connect(address)
    try:
        joined = {node.address for node in examination.alive_nodes()}
        faults += missing_hosts.not_joined(joined)
        findings = examination.examine_cluster(experiment, source, weights=needed)
    finally:
        connection.disconnect()
    examined.nodes += [_row(node, report) for node, report in findings.reports.items()]
    faults += [*tracking_faults(experiment, source), *findings.faults]
    faults += preflight.weights_faults(needed, source)
    faults += preflight.unreachable(needed, source)


def _examine_slurm(
    experiment: Experiment, source: str, partition: str | None, examined: Examined
) -> None:
    from orchestrator.cluster.slurm import examination

    findings = examination.examine(experiment, source, partition)
    examined.limits += findings.lines
    examined.nodes += [] if findings.node is None else [_row(*findings.node)]
    examined.faults += findings.faults


def _row(node: "Node", report: "Report") -> dict[str, Any]:
    """The facts of a node for the table."""
    versions = {name: report.versions.get(name, "") for name in ("python", "torch", "ray")}
    gpus = node.gpus or report.gpus
    free = report.free[1]
    named = {"host": node.host, "address": node.address}
    return {**named, **versions, "gpus": gpus, "disk_free_bytes": free}


def _examine_this_machine(experiment: Experiment, source: str, examined: Examined) -> list[Fault]:
    """Note what a run may use of this machine; returns the faults."""
    findings = resources.inspect_this_machine(experiment, source)
    examined.limits += [*local_ray.limits_text(), *findings.warnings]
    return findings.faults


if __name__ == "__main__":
    raise SystemExit(main())

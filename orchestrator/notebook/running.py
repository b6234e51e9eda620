"""Running experiments from Python: `sweep`, `train`, `distill`, `evaluate`, and `experiment`, which
builds one."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from orchestrator.cluster import connection
from orchestrator.console.command_line import make_console
from orchestrator.console.start import Request, start
from orchestrator.fields.faults import ConfigError, Fault, describe
from orchestrator.fields.options import named_as_arguments, setting
from orchestrator.host.printed import command
from orchestrator.notebook.opened import Run
from orchestrator.notebook.plain import plain
from orchestrator.settings import base_file, loading, shipped
from orchestrator.settings.experiment import Experiment
from orchestrator.sweeps.state import state_of

Source = str | os.PathLike[str] | Experiment


def sweep(
    source: Source, set: Mapping[str, Any] | None = None, *, address: str | None = None
) -> Run:
    """Run every trial of an experiment's sweep, and compare them; finished stages are found again.

    `source`: the path of an experiment's file, the name of a shipped experiment, or an Experiment.
    `set`: values for dotted keys, such as {"path.damping": 9.0}. `address`: a Ray cluster, such as
    "auto"; None: the cluster that this process is connected to, else one on this machine.

    Prints the progress. Ctrl-C keeps what is done, and the same call resumes. Raises ValueError with
    the faults of the experiment, ConnectionError if the cluster does not answer. A trial that fails
    is in `results`, with its error; `Run.status` is then "failed"."""
    return _run("sweep", "sweep", source, set, address)


def train(
    source: Source, set: Mapping[str, Any] | None = None, *, address: str | None = None
) -> Run:
    """Train the teacher of an experiment; arguments and errors as for `sweep`."""
    return _run("train", "teacher", source, set, address)


def distill(
    source: Source, set: Mapping[str, Any] | None = None, *, address: str | None = None
) -> Run:
    """Train the teacher and the students of an experiment; arguments and errors as for `sweep`."""
    return _run("distill", "student", source, set, address)


def evaluate(
    source: Source, set: Mapping[str, Any] | None = None, *, address: str | None = None
) -> Run:
    """Train what an experiment samples, and measure it; arguments and errors as for `sweep`."""
    return _run("evaluate", "evaluation", source, set, address)


@named_as_arguments()
def experiment(set: Mapping[str, Any] | None = None, **blocks: Any) -> Experiment:
    """An experiment built in Python: `experiment(name="mine", data={"name": "digits"}, ...)`, with the
    blocks and keys of a file. `base`: a shipped experiment or a file that it builds on. `set`: values
    for dotted keys. Its `to_yaml()` is a file. Raises ValueError with all faults."""
    return loading.build(plain(blocks), _values(set))


@named_as_arguments()
def _run(
    name: str, goal: str, source: Source, set: Mapping[str, Any] | None, address: str | None
) -> Run:
    values = _values(set)
    if not isinstance(source, str | os.PathLike | Experiment):
        expected = "expected the path of a file, the name of a shipped experiment, or an Experiment"
        raise ConfigError([Fault("source", "", f"got {describe(source)}, {expected}")])
    if not isinstance(address, str | None):
        expected = 'expected the address of a Ray cluster, such as "auto"'
        raise ConfigError([Fault("address", "", f"got {describe(address)}, {expected}")])
    connection.prepare_environment(address)
    texts = [f"{key}={_yaml(value)}" for key, value in values.items()]
    if isinstance(source, Experiment):
        chosen = loading.override(source, values, setting)
        reload = partial(_with_texts, source)
        request = Request(chosen, chosen.name, goal, reload, texts, address=address)
    else:
        file = str(_file_of(source))
        words = [file, *(word for text in texts for word in ("--set", text))]
        resume = command(name, *words)
        reload = partial(loading.load, file)
        request = Request(
            reload(texts), file, goal, reload, texts, address=address, resume_command=resume
        )
    _, records = start(request, make_console)
    return Run(records, state_of(records, running_sweeps={}))


def _with_texts(experiment: Experiment, texts: Sequence[str]) -> Experiment:
    """The experiment with these `set` of a call."""
    return loading.override(experiment, dict(loading.assignment(text, "set") for text in texts))


def _file_of(source: str | os.PathLike[str]) -> Path:
    """The file of an experiment that a path or the name of a shipped one means."""
    path = Path(source)
    if path.suffix in base_file.ENDINGS or path.exists():
        return path
    found = shipped.file_of(str(source))
    if found is None:
        expected = f"expected a .yaml file, or one of {shipped.choices(str(source))}"
        raise ConfigError([Fault(str(source), "", expected)])
    return found


def _values(set: Mapping[str, Any] | None) -> dict[str, Any]:
    """The dotted keys of an argument `set`; raises ConfigError if it is none."""
    if set is None:
        return {}
    if not isinstance(set, Mapping) or not all(isinstance(key, str) for key in set):
        expected = 'expected a mapping of dotted keys, such as {"path.damping": 9.0}'
        raise ConfigError([Fault("set", "", f"got {describe(set)}, {expected}")])
    return {key: plain(value) for key, value in set.items()}


def _yaml(value: Any) -> str:
    """A value as `--set` takes it."""
    return yaml.safe_dump([value], default_flow_style=True, width=10**9).strip()[1:-1]

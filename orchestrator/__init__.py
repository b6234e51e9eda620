"""Runs experiments: from a YAML file to trained flows, samples and numbers, on one machine or a Ray
cluster.

From Python: `import orchestrator as kf` has the functions of `orchestrator.notebook`, as the package
`kacflow` has. `kf.sweep` is the module of the command, which can be called."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_FUNCTIONS = {
    "compare": "compare",
    "experiment": "experiment",
    "load": "load",
    "open": "open_run",
}
_COMMANDS = ("sweep", "train", "distill", "evaluate")


class _Command(ModuleType):
    """The module of a command; calling it calls the function of the same name."""

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        function = getattr(import_module("orchestrator.notebook"), self.__name__.partition(".")[2])
        return function(*arguments, **settings)


def callable_command(name: str) -> None:
    """Let the module `name`, that of a command, be called. Run as a program it is unchanged."""
    if name.startswith(f"{__name__}."):
        sys.modules[name].__class__ = _Command


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(import_module("orchestrator.notebook"), _FUNCTIONS[name])
    if name in _COMMANDS:
        return import_module(f"orchestrator.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

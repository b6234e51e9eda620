"""`python -m orchestrator.completion SHELL`: Print the script by which a shell completes `kacflow`, its
commands, their options and files.

    eval "$(kacflow completion bash)"

The script is static: no Python starts when a word is completed. It has the commands, options and
shipped experiments of the version that printed it."""

import argparse
from importlib import import_module
from importlib.metadata import version
from typing import Any

import shtab

from orchestrator.console import argument_types, command_line
from orchestrator.console.commands import ALL, commands
from orchestrator.settings import shipped

SHELLS = ("bash", "zsh", "fish")
# what completes an argument of each type; s3:// addresses and names are typed
COMPLETED: dict[Any, dict[str, Any]] = {
    argument_types.path: shtab.FILE,
    argument_types.file: shtab.FILE,
    argument_types.folder: shtab.DIRECTORY,
    argument_types.experiment: shtab.glob("*.yaml", "*.yml"),
    argument_types.plugin: shtab.glob("*.py"),
}


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = command_line.make_parser(
        "completion",
        "Print the script by which a shell completes kacflow, its commands, their options and files.",
        'In ~/.bashrc: eval "$(kacflow completion bash)". In ~/.zshrc, after compinit: '
        'eval "$(kacflow completion zsh)". For fish: '
        "kacflow completion fish > ~/.config/fish/completions/kacflow.fish",
    )
    p.add_argument("shell", metavar="SHELL", choices=SHELLS, help=" or ".join(SHELLS))
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    args = parser().parse_args(argv)
    return command_line.guarded(lambda: _print(args.shell))


def script(shell: str) -> str:
    """What `shell`, one of SHELLS, is to run."""
    return shtab.complete(whole(), shell)


def whole() -> argparse.ArgumentParser:
    """A parser of `kacflow` with every command, marked with what completes its arguments."""
    p = argparse.ArgumentParser(prog=ALL)
    shown = f"{ALL} {version(ALL)}"
    p.add_argument("-V", "--version", action="version", version=shown, help="print the version")
    names = p.add_subparsers(metavar="COMMAND")
    for name, about in commands().items():
        own = import_module(f"orchestrator.{name}").parser()
        _mark(own)
        names.add_parser(name, help=about, parents=[own], add_help=False)
    return p


def _mark(p: argparse.ArgumentParser) -> None:
    for action in p._actions:
        if action.type is argument_types.shipped:
            action.choices = shipped.names()
        elif action.type in COMPLETED:
            action.complete = COMPLETED[action.type]  # type: ignore[attr-defined]


def _print(shell: str) -> int:
    print(script(shell))
    return 0


if __name__ == "__main__":
    command_line.exit_process(main())

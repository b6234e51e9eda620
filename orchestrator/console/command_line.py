"""What the commands share: arguments, exit statuses, and running an experiment's plan."""

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from kaccore.files import CorruptFileError
from orchestrator.cluster import connection
from orchestrator.console import argument_types
from orchestrator.console.start import Request, start
from orchestrator.fields import plugins
from orchestrator.fields.addresses import no_name
from orchestrator.fields.faults import ConfigError, describe
from orchestrator.host import invocation, terminal
from orchestrator.settings import loading
from orchestrator.store.place import Place
from orchestrator.store.stage_result import DamagedError
from orchestrator.sweeps.opening import STORAGE, check_store, parse_place

if TYPE_CHECKING:
    from rich.console import Console


BAD_INPUT = 2
INTERRUPTED = 130
LOG_WIDTH = 140


def guarded(command: Callable[[], int]) -> int:
    """The exit status of `command()`; a fault of the user is printed and becomes status 2, an
    interrupt 130."""
    terminal.make_plain()
    try:
        return command()
    except DamagedError as e:
        from orchestrator.store.integrity import remedy

        return _bad_input(e, remedy(e))
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ConfigError, ConnectionError, CorruptFileError) as e:
        return _bad_input(e)
    except OSError as e:  # before a run has started: it handles its own errors
        from orchestrator.store.store import with_remedy

        print(f"error: {with_remedy(e)}", file=sys.stderr)
        return BAD_INPUT
    except UnicodeEncodeError as e:  # a file's name with characters that this locale lacks
        problem = no_name(e.object)
        if not problem:
            raise
        print(f"error: {describe(e.object)}: {problem}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as e:
        plugins.note_origin(e)
        if not plugins.origin(e):
            raise
        from orchestrator.store.failures import first_line

        return _bad_input(first_line(e), "correct the plugin, then run the same command again")


def _bad_input(error: Exception | str, remedy: str = "") -> int:
    """Print the error, one line a fault, and the remedy."""
    text = str(error)
    text = f"errors:\n{text}" if "\n" in text else f"error: {text}"
    print(f"{text}\n{remedy}" if remedy else text, file=sys.stderr)
    return BAD_INPUT


def exit_process(status: int) -> NoReturn:
    """End this process. If neither Ray nor MLflow is imported, as after a dry run, end it without
    Python's cleanup: that of torch takes 0.6 s."""
    if not {"ray", "mlflow"} & sys.modules.keys():
        with suppress(BrokenPipeError):  # the reader has closed the pipe
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    raise SystemExit(status)


def make_parser(command: str, about: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """The parser of `command`, without arguments yet; usage lines name it as the user has called it."""
    return argparse.ArgumentParser(
        prog=invocation.program(command), description=about, epilog=epilog
    )


def add_storage(parser: argparse.ArgumentParser, what: str) -> None:
    """`--storage`, of commands that read a store."""
    parser.add_argument("--storage", type=argument_types.folder, help=f"{what} (default {STORAGE})")


def storage(args: argparse.Namespace) -> Place:
    """The place of the store of `--storage`; raises ConfigError where it is given and does not
    exist."""
    root = parse_place(args.storage or STORAGE, "--storage")
    if args.storage:
        check_store(root)
    return root


def add_set(parser: argparse.ArgumentParser, what: str) -> None:
    """`--set`, of commands that take an experiment's file; it is stored as `overrides`."""
    text = f"{what}, such as --set path.damping=9.0; may be repeated"
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides", help=text
    )


def missing_modules(modules: Iterable[str]) -> str:
    """Those of `modules` that are not installed, as a text; empty where all are."""
    return ", ".join(name for name in modules if importlib.util.find_spec(name) is None)


def make_console() -> "Console":
    """The console of a command: as wide as the terminal; wide enough for a table in a log. In a
    notebook, whose output is neither, it prints lines as in a log."""
    from rich.console import Console

    in_notebook = type(sys.stdout).__module__.startswith("ipykernel")
    if in_notebook or not sys.stdout.isatty():
        return Console(width=LOG_WIDTH, force_terminal=False, force_jupyter=False)
    return Console()


def run_parser(command: str, about: str) -> argparse.ArgumentParser:
    """The parser of sweep, train, distill and evaluate."""
    parser = make_parser(
        command,
        about,
        "Exit status: 0 all done; 1 some trial failed; 2 bad input, nothing started; 130 interrupted. "
        "Running the same command again resumes: finished stages are found, unfinished ones continue.",
    )
    what = "an experiment, such as experiments/nfe_sweep.yaml"
    parser.add_argument("file", metavar="FILE", type=argument_types.experiment, help=what)
    add_set(parser, "override one setting")
    parser.add_argument(
        "--only",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="run only the trials with this value of a swept setting, or one of a list of them; may be repeated",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would run, and run nothing"
    )
    parser.add_argument("--json", action="store_true", help="with --dry-run: print it as JSON")
    parser.add_argument(
        "--address",
        help="a Ray cluster to run on, such as auto or ray://head:10001; default: this machine",
    )
    return parser


def run_command(command: str, what: str, goal: str, argv: list[str] | None) -> int:
    """Parse `argv` and run the plan of its file up to `goal`."""
    parser = run_parser(command, what)
    args = parser.parse_args(argv)
    if args.json and not args.dry_run:
        parser.error("--json prints a dry run: give --dry-run too; of a run see status --json")
    return guarded(lambda: _run(args, goal, invocation.typed(command, argv)))


def _run(args: argparse.Namespace, goal: str, resume_command: str) -> int:
    connection.prepare_environment(args.address)
    reload = partial(loading.load, args.file)
    request = Request(
        reload(args.overrides),
        args.file,
        goal,
        reload,
        args.overrides,
        args.only,
        args.address,
        resume_command,
    )
    return start(request, make_console, args.dry_run, args.json)[0]

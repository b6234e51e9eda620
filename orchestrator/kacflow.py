"""`kacflow COMMAND ...`: Run a command of this package; `python -m orchestrator.COMMAND ...` is the same.

Without a command it lists them. No command is imported but the one that runs."""

import runpy
import sys
from importlib.metadata import version

from orchestrator.console.commands import commands
from orchestrator.fields.faults import describe, nearest
from orchestrator.host import invocation

USAGE = "usage: kacflow COMMAND ..., or kacflow --version; kacflow COMMAND --help says more"


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    known = commands()
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, "", *(f"  {name:<11} {what}" for name, what in known.items()), sep="\n")
        return 0
    name, *others = words
    if name in ("-V", "--version"):
        print(f"kacflow {version('kacflow')}")
        return 0
    if name not in known:
        close = nearest(name, list(known))
        hint = f"; did you mean {describe(close)}?" if close else ""
        expected = ", ".join(known)
        print(f"error: got {describe(name)}, expected one of {expected}{hint}", file=sys.stderr)
        return 2
    sys.argv = [invocation.one_name(name), *others]
    try:
        # alter_sys would put the module's file in the place of the name in sys.argv
        runpy.run_module(f"orchestrator.{name}", run_name="__main__", alter_sys=False)
    except SystemExit as e:
        return int(e.code or 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`kacflow COMMAND ...`: Run a command of this package; `python -m orchestrator.COMMAND ...` is the same.

Without a command it lists them. No command is imported but the one that runs."""

import ast
import pkgutil
import runpy
import sys
from importlib.metadata import version
from pathlib import Path

import orchestrator
from orchestrator.fields.faults import describe, nearest

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
    sys.argv = [f"kacflow {name}", *others]
    try:
        runpy.run_module(f"orchestrator.{name}", run_name="__main__", alter_sys=True)
    except SystemExit as e:
        return int(e.code or 0)
    return 0


def commands() -> dict[str, str]:
    """What each command does, by its name: from the docstrings, without importing anything."""
    own = Path(__file__).stem
    names = [m.name for m in pkgutil.iter_modules(orchestrator.__path__) if not m.ispkg]
    folder = Path(__file__).parent
    found = {}
    for name in names:
        if name != own:
            text = ast.get_docstring(ast.parse((folder / f"{name}.py").read_bytes())) or ""
            _, _, what = " ".join(text.split("\n\n")[0].split()).partition("`: ")
            found[name] = what[:1].upper() + what[1:]
    return found


if __name__ == "__main__":
    sys.exit(main())

"""The commands of this package, known without importing one."""

import ast
import pkgutil
from pathlib import Path

import orchestrator

ALL = "kacflow"  # runs the others, and is none of them


def commands() -> dict[str, str]:
    """What each command does, by its name: from the docstrings, without importing anything."""
    names = [m.name for m in pkgutil.iter_modules(orchestrator.__path__) if not m.ispkg]
    folder = Path(__file__).parents[1]
    found = {}
    for name in names:
        if name != ALL:
            text = ast.get_docstring(ast.parse((folder / f"{name}.py").read_bytes())) or ""
            _, _, what = " ".join(text.split("\n\n")[0].split()).partition("`: ")
            found[name] = what[:1].upper() + what[1:]
    return found

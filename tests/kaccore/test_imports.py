import ast
import subprocess
import sys
from pathlib import Path

import pytest

import kaccore

FOLDER = Path(kaccore.__file__).parent
FORBIDDEN = {"ray", "mlflow", "yaml", "plotly", "orchestrator"}
SOURCES = sorted(FOLDER.rglob("*.py"))

IMPORT_ALL = """
import importlib, pkgutil, sys, kaccore
names = [m.name for m in pkgutil.walk_packages(kaccore.__path__, "kaccore.")]
for name in names:
    importlib.import_module(name)
print(*sorted({name.split(".")[0] for name in sys.modules} | set(names)))
"""


def imported(source: Path) -> set[str]:
    """The packages that a file imports anywhere in it, also inside of functions."""
    names = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)  # importlib.import_module("ray")
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_no_module_of_the_core_names_the_experiment_system_or_its_tools(source):
    assert not imported(source) & FORBIDDEN


def test_importing_the_whole_core_loads_none_of_them():
    loaded = set(
        subprocess.run(
            [sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=True
        ).stdout.split()
    )
    modules = {
        "kaccore." + ".".join(p.relative_to(FOLDER).with_suffix("").parts)
        for p in SOURCES
        if p.stem != "__init__"
    }
    assert modules <= loaded  # all of it was imported
    assert not loaded & FORBIDDEN


def test_every_public_name_is_there():
    assert all(hasattr(kaccore, name) for name in kaccore.__all__)

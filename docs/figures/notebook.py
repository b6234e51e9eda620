"""Runs docs/notebook.ipynb in a new folder and writes its outputs into it. Usage:
python docs/figures/notebook.py"""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "notebook.ipynb"


def executed(folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a run in `folder`, without this machine's paths and the times
    of its cells."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            if "text" in output:
                output.text = output.text.replace(sys.executable, "python")
    return notebook


def output_kinds(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """What each cell of code shows: text, or data of which types."""
    return [
        sorted({kind for output in cell.outputs for kind in output.get("data", {"stream": ""})})
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(executed(Path(folder)), NOTEBOOK)

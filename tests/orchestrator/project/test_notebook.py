"""docs/notebook.ipynb: it runs, and the outputs in it are those of such a run."""

import nbformat
import notebook
import pytest


@pytest.mark.system
def test_the_notebook_runs_and_shows_what_it_has_shown(tmp_path):
    committed = nbformat.read(notebook.NOTEBOOK, as_version=4)
    executed = notebook.executed(tmp_path)
    assert notebook.output_kinds(executed) == notebook.output_kinds(committed)
    shown = [
        "".join(str(output.get("data", {}).get("text/plain", "")) for output in cell.outputs)
        for cell in executed.cells
        if cell.cell_type == "code"
    ]
    assert any("1 step: student" in text for text in shown)
    assert any("16 images (8, 8, 1) of student" in text for text in shown)
    assert (tmp_path / "runs" / "mlflow.db").exists()
    text = notebook.NOTEBOOK.read_text()
    assert "Traceback" not in text and str(tmp_path.parent) not in text

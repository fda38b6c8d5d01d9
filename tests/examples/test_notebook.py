"""The notebook of examples/ runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "notebook" / "tagger.ipynb"
pytestmark = pytest.mark.slow


def test_the_notebook_runs(tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = {
        cell.source.strip().splitlines()[-1]: output.get("data", {})
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "execute_result"
    }
    assert "pass" in shown["build"]["text/html"] and "fail" not in shown["build"]["text/html"]
    assert "<svg" in shown["profile"]["text/html"]
    accuracy = shown["float((answers.argmax(1) == kind[5000:]).mean())"]["text/plain"]
    assert float(accuracy) > 0.9
    assert "dB" in shown["trace"]["text/html"]

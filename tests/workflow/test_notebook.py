"""The tutorial of studies/: its committed outputs are whole and of no machine, and it runs."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest

NOTEBOOK = Path(__file__).parents[2] / "studies" / "first_study.ipynb"


@pytest.fixture
def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_it_was_executed_in_order_and_without_an_error(notebook: Any) -> None:
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))


def test_it_names_no_path_of_the_machine_that_ran_it(notebook: Any) -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    for folder in (str(Path.home()), "site-packages", "/tmp/", os.sep + "work"):
        assert folder not in text
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr"]


def test_its_code_is_python_that_imports_resflow_alone(notebook: Any) -> None:
    code = "\n".join(
        line
        for cell in notebook.cells
        if cell.cell_type == "code"
        for line in cell.source.splitlines()
        if not line.startswith("%")
    )
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [name.name for node in imports for name in node.names] == ["resflow"]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_it_runs(notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path / "cache"))
    NotebookClient(notebook, timeout=1500, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "results" / "first_study-full-synthetic" / "report.html").is_file()
    shown = "".join(str(output.get("data", "")) + output.get("text", "") for output in outputs(notebook))
    assert "12 completed" in shown
    assert "Changing shortcut from plain to residual" in shown

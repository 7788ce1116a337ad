"""The guides as notebooks hold the code of their pages, and run."""

import importlib.util
from pathlib import Path

import nbclient
import nbformat
import pytest
from markdown_it import MarkdownIt

_DOCS = Path(__file__).resolve().parents[1] / "docs"


def _load(name: str):
    spec = importlib.util.spec_from_file_location(name, _DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_notebooks = _load("notebooks")


def _read(guide: str) -> nbformat.NotebookNode:
    found = nbformat.reads(_notebooks.notebook(_DOCS / guide), as_version=4)
    nbformat.validate(found)
    return found


def _code(notebook) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("guide", _notebooks.GUIDES)
def test_notebooks_hold_the_code_of_the_page(guide):
    pictures, *cells = (cell.source for cell in _code(_read(guide)))
    page = MarkdownIt("commonmark").parse((_DOCS / guide).read_text("utf-8"))
    assert "source.jpg" in pictures
    assert cells == [token.content.rstrip("\n") for token in page if token.info == "python"]


@pytest.mark.slow
@pytest.mark.parametrize("guide", _notebooks.GUIDES)
def test_notebooks_run(guide, tmp_path):
    notebook = _read(guide)
    client = nbclient.NotebookClient(
        notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    assert all(cell.execution_count for cell in _code(notebook))
    if guide == "matching.md":
        outputs = [output for cell in _code(notebook) for output in cell.outputs]
        assert any("image/png" in output.get("data", {}) for output in outputs)

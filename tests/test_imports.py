"""Data flows one way: no module leads back to itself, and none below the package's front."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import tfdense

FOLDER = Path(tfdense.__file__).parent


def _modules():
    """Returns the path of each module by its name."""
    paths = {}
    for path in FOLDER.rglob("*.py"):
        parts = path.relative_to(FOLDER.parent).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


def _imports(path, modules):
    """Yields what a module imports of the project, wherever it does so."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                yield below if below in modules else node.module


def _graph():
    modules = _modules()
    return {name: {*_imports(path, modules)} for name, path in modules.items()}


def test_modules_do_not_import_in_circles():
    order = list(TopologicalSorter(_graph()).static_order())
    assert {"tfdense", "tfdense.cli", "tfdense.results.match"} <= {*order}


def test_what_the_front_of_the_package_loads_does_not_import_it():
    graph = _graph()
    # Of what it loads on use, with all that this needs, and of the packages these lie in.
    loaded, new = set(), {"tfdense.matcher", "tfdense.inference.settings"}
    while new:
        loaded |= new
        new = {name for loading in new for name in graph[loading]} - loaded
    packages = {name.rsplit(".", 1)[0] for name in loaded if name.count(".") > 1}
    beside = {name for name in graph if name.rsplit(".", 1)[0] in packages}
    assert "tfdense.inference.command" in beside
    assert not [name for name in loaded | beside if "tfdense" in graph[name]]


def test_the_parts_are_listed_and_loaded_on_use():
    assert {*tfdense._PARTS} <= {*dir(tfdense)} and "photometric" in tfdense._PARTS
    for name in tfdense._PARTS:
        assert getattr(tfdense, name).__name__ == f"tfdense.{name}"


@pytest.mark.parametrize("folder", ["bench", "experiments", "export", "tfdense", "web"])
def test_no_function_replaces_another(folder):
    for path in (FOLDER.parent / folder).rglob("*.py"):
        body = ast.parse(path.read_text("utf-8")).body
        names = [x.name for x in body if isinstance(x, ast.FunctionDef | ast.ClassDef)]
        assert len({*names}) == len(names), path

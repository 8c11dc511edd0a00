"""Conventions of this repository that no linter checks."""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.support import ROOT

PRODUCT = ("digits", "pipeline", "backends", "web_app")


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda path: path.stem)
def test_each_test_has_a_one_sentence_docstring(path: Path) -> None:
    """The docstring of every test is one sentence on one line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            docstring = ast.get_docstring(node)
            assert docstring, f"{path.name}: {node.name} has no docstring"
            assert "\n" not in docstring, f"{path.name}: the docstring of {node.name} has several lines"
            assert docstring.endswith("."), f"{path.name}: the docstring of {node.name} is not a sentence"


def test_errors_that_ask_for_an_action_name_it() -> None:
    """An error about usage, something missing or the endpoint has a remedy, or states what was expected."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in PRODUCT
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
        if ast.unparse(node.exc.func).split(".")[-1] in {"UsageError", "MissingError", "EndpointError"}
        if not any(keyword.arg == "remedy" for keyword in node.exc.keywords)
        if "expected" not in ast.unparse(node.exc)
    ]
    assert silent == []


def test_each_package_of_the_wheel_is_typed() -> None:
    """Each package of the wheel has the file py.typed, without which type checkers ignore its annotations."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(packages) == set(PRODUCT)
    assert [name for name in packages if not (ROOT / name / "py.typed").is_file()] == []


# File names that mean the same thing in each folder that has them.
SHARED_NAMES = {"__init__.py", "__main__.py", "backend.py", "predictor.py", "server.py"}


def test_no_file_name_has_two_meanings() -> None:
    """No file name occurs twice in the product, apart from those that mean the same in each folder."""
    names = Counter(path.name for folder in PRODUCT for path in (ROOT / folder).rglob("*.py"))
    assert {name for name, count in names.items() if count > 1} <= SHARED_NAMES


def test_each_unit_test_mirrors_a_module() -> None:
    """tests/unit/FOLDER/test_NAME.py tests FOLDER/NAME.py, or FOLDER/__init__.py if it is named after the folder."""
    strays = []
    for path in (ROOT / "tests" / "unit").rglob("*/**/test_*.py"):
        name, folder = path.stem.removeprefix("test_"), ROOT / path.parent.relative_to(ROOT / "tests" / "unit")
        if not (folder / f"{name}.py").is_file() and name != folder.name:
            strays.append(path.relative_to(ROOT).as_posix())
    assert strays == []

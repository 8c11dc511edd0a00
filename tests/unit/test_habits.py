"""Habits of the house that no linter checks."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from tests.helpers.support import ROOT

PRODUCT = ("digits", "pipeline", "backends", "web_app")


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda path: path.stem)
def test_each_test_says_what_it_proves(path: Path) -> None:
    """Every test's docstring is one sentence on one line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            said = ast.get_docstring(node)
            assert said, f"{path.name}: {node.name} has no docstring"
            assert "\n" not in said, f"{path.name}: {node.name} says more than a sentence"
            assert said.endswith("."), f"{path.name}: {node.name}'s docstring is no sentence"


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


def test_each_package_of_the_wheel_says_that_it_is_typed() -> None:
    """In each package that the wheel takes whole lies py.typed, without which a type checker passes it over."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = told["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(packages) == set(PRODUCT)
    assert [name for name in packages if not (ROOT / name / "py.typed").is_file()] == []


ACTIONABLE = {"UsageError", "MissingError", "EndpointError"}


@pytest.mark.parametrize("folder", PRODUCT)
def test_an_error_that_a_user_can_act_on_says_how(folder: str) -> None:
    """A usage, missing or endpoint error has a remedy, or its message states what was expected."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ACTIONABLE:
                arguments = {keyword.arg for keyword in node.keywords}
                assert "remedy" in arguments or "expected" in ast.unparse(node), f"{path}:{node.lineno}"

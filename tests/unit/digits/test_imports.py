"""Imports without what is not needed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from digits.imports import without, without_init


def test_a_package_is_missing_within_the_block_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import of the package fails within the block and succeeds after it."""
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with without("this"), pytest.raises(ImportError):
        importlib.import_module("this")
    assert importlib.import_module("this")


def test_a_package_that_is_imported_stays_imported() -> None:
    """A package that was imported before can be imported within the block."""
    with without("pytest"):
        assert importlib.import_module("pytest") is pytest
    assert sys.modules["pytest"] is pytest


def test_a_module_is_imported_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the block a module's package is not executed; after it the package can be imported as usual."""
    package = tmp_path / "heavy_package"
    package.mkdir()
    (package / "__init__.py").write_text("executed = True\n")
    (package / "light.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with without_init("heavy_package"):
        assert importlib.import_module("heavy_package.light")
        assert not hasattr(sys.modules["heavy_package"], "executed")
    assert importlib.import_module("heavy_package").executed
    with without_init("heavy_package"), without_init("no_such_package"):
        assert importlib.import_module("heavy_package").executed

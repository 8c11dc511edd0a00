"""Imports without packages that are not needed."""

from __future__ import annotations

import importlib
import sys

import pytest

from digits.imports import without


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

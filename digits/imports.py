"""Imports of large libraries without the parts that are not needed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Make imports of the packages `names` fail in this block, as if they were not installed.

    Packages that are imported already stay so.
    """
    missing = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(missing))  # type: ignore[arg-type] # Python refuses to import a module set to None
    try:
        yield
    finally:
        for name in missing:
            sys.modules.pop(name, None)


@contextmanager
def without_init(package: str) -> Iterator[None]:
    """Make imports of modules of `package` in this block skip the package's own `__init__.py`.

    A package that is imported already stays so.
    """
    spec = None if package in sys.modules else importlib.util.find_spec(package)
    if spec is None:
        yield
        return
    sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules[package]

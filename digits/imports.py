"""Imports of large libraries without packages that they import only if these are installed."""

from __future__ import annotations

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

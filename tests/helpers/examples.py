"""The examples in the docstrings of the contracts."""

from __future__ import annotations

import doctest
from collections.abc import Mapping
from typing import Any


def run_example(contract: type[Any], names: Mapping[str, Any]) -> None:
    """Run the example in the docstring of a class, which uses `names`. It must exist, and give what it shows."""
    (example,) = doctest.DocTestFinder(recurse=False).find(contract, globs=dict(names))
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0

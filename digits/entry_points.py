"""Functions that an installed package offers by name, as entry points."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import TypeVar, cast

from digits.errors import MissingError

Function = TypeVar("Function")


def find_function(variable: str, name: str, own: Mapping[str, Function], group: str) -> Function:
    """Return the function `name` among our `own`, or among the entry points of a group.

    `variable` is the setting that has the name.

    Raises:
        MissingError: there is none, which lists those that there are; or it cannot be loaded.
    """
    if name in own:
        return own[name]
    points = {point.name: point for point in importlib.metadata.entry_points(group=group)}
    if name not in points:
        raise MissingError(f"expected {variable} of {', '.join([*own, *points])}, got {name!r}")
    try:
        return cast(Function, points[name].load())
    except (ImportError, AttributeError) as exc:
        raise MissingError(f"{variable}: {name} cannot be loaded: {exc}", remedy=f"correct {variable}") from exc

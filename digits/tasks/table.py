"""A table of a task file, whose keys are taken one by one, with errors that name the key."""

from __future__ import annotations

import re
from typing import Any

from digits.errors import UsageError

REMEDY = "docs/your-images.md describes each key"


class Table:
    """A table of a task file. Each method removes a key and returns its value, or raises UsageError."""

    def __init__(self, value: Any, where: str, prefix: str) -> None:
        self.where, self._prefix = where, prefix
        if not isinstance(value, dict):
            raise self.error("", "a table", value)
        self._rest = dict(value)

    def error(self, key: str, expected: str, value: Any) -> UsageError:
        """Return the error for a value of a key."""
        text = "nothing" if value is None else repr(value)
        shown = text if len(text) <= 100 else text[:100] + "…"
        name = f"{self._prefix}{key}".rstrip(".")
        return UsageError(f"{self.where}: {name}: expected {expected}, got {shown}", remedy=REMEDY)

    def take(self, key: str, kind: type[Any], default: Any = None) -> Any:
        """Take a value of a type."""
        value = self._rest.pop(key, default)
        if kind is float and type(value) is int and abs(value) < 1 << 53:
            value = float(value)
        if type(value) is not kind:
            names = {dict: "a table", list: "a list", str: "a text", bool: "true or false"}
            raise self.error(key, names.get(kind, "a number"), value)
        return value

    def number(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """Take a whole number in a range."""
        value = self._rest.pop(key, default)
        if type(value) is not int or not low <= value <= high:
            raise self.error(key, f"a whole number from {low} to {high}", value)
        return value

    def choice(self, key: str, choices: tuple[Any, ...], default: Any) -> Any:
        """Take one of several values."""
        value = self._rest.pop(key, default)
        if type(value) is not type(choices[0]) or value not in choices:
            raise self.error(key, f"one of {', '.join(map(str, choices))}", value)
        return value

    def matching(self, key: str, pattern: re.Pattern[str], expected: str) -> str:
        """Take a text that a pattern matches; `expected` describes it."""
        value = self._rest.pop(key, None)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.error(key, expected, value)
        return value

    def finish(self) -> None:
        """Raise UsageError if the table has other keys."""
        for key, value in self._rest.items():
            raise self.error(key, "no key of this name", value)

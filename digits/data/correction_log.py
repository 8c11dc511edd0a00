"""The log of the corrections: which entries the object store holds, by their keys alone. It imports no NumPy.

`corrections` describes the log, and writes and reads the entries.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from digits.files import canonical_json, sha256_of
from digits.store import ObjectStore
from digits.tasks.task import BUILT_IN

REMOVED = "removed"
_NAME = re.compile(r"([0-9a-f]{64})/([1-9][0-9]{0,18})-(0|[1-9][0-9]{0,2}|removed)-([0-9a-f]{16})\.json")


class Entry(NamedTuple):
    """The parts of a key. Entries of one image compare by time, so the greatest one is the newest."""

    image: str
    time: int  # microseconds since 1970
    label: str  # a class or REMOVED
    content: str  # the first 16 hex digits of the content's SHA-256

    @property
    def name(self) -> str:
        """Return the key, without the prefix."""
        return f"{self.image}/{self.time}-{self.label}-{self.content}.json"


def folder(store: ObjectStore) -> str:
    """Return the prefix of the keys of the corrections for the store's task."""
    return "feedback/" if store.task == BUILT_IN else f"feedback/{store.task}/"


def digest(store: ObjectStore) -> str:
    """Return the hex SHA-256 of the images' digests and newest labels. This lists keys and reads no object."""
    return sha256_of(canonical_json(sorted(current_labels(list_entries(store)))))


def list_entries(store: ObjectStore, image: str = "") -> list[Entry]:
    """Return all entries, or those of one image."""
    prefix = folder(store)
    names = [key.removeprefix(prefix) for key in store.keys(f"{prefix}{image}/" if image else prefix)]
    matches = [match.groups() for name in names if (match := _NAME.fullmatch(name))]
    return [Entry(image, int(when), label, content) for image, when, label, content in matches]


def current(entries: Iterable[Entry]) -> list[Entry]:
    """Return the newest entry of each image, without the withdrawn ones, sorted by image."""
    newest = {entry.image: entry for entry in sorted(entries)}
    return [entry for entry in newest.values() if entry.label != REMOVED]


def current_labels(entries: Iterable[Entry]) -> set[tuple[str, str]]:
    """Return (image, label) of the newest entry of each image, without the withdrawn ones."""
    return {(entry.image, entry.label) for entry in current(entries)}

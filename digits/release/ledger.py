"""The promotion ledger: which release is the champion, and how it came to be.

    promotions/digits/<n>.json  one entry a promotion or rollback; each holds the digest of the one before it
    models/detect-digits/<n>/   the champion's SavedModel in TensorFlow Serving's layout

The ledger is the one source of truth for the champion. Its entries are made by `ObjectStore.create`, so two
promotions at once become two entries in a row and neither is lost; MLflow's aliases mirror it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from digits import provenance
from digits.errors import ReleaseError
from digits.files import canonical_json, sha256_of
from digits.release import releases
from digits.store import ObjectStore

SERVING = "models/detect-digits/"
LEDGER = "promotions/digits/"
SERVING_KEPT = 2
LISTED_ATTEMPTS, LISTED_PAUSE = 50, 0.1  # how often, and how many seconds apart, another's entry is looked for
_KEY = re.compile(rf"{LEDGER}\d{{8}}\.json")


@dataclass(frozen=True)
class Entry:
    """One line of the ledger: from number `n` on, `version` is the champion."""

    n: int
    version: str
    action: str  # promote | rollback
    why: str
    previous: str  # the champion to go back to, '' for none
    link: str  # SHA-256 of the entry before, '' for the first
    time: str


def entries(store: ObjectStore) -> list[Entry]:
    """All entries, oldest first, each checked to hold the digest of the one before.

    Raises:
        ReleaseError: the chain is broken; says at which entry.
    """
    found: list[Entry] = []
    link = ""
    for key in _keys(store):
        raw = store.get(key)
        entry = _entry(key, raw)
        if entry.link != link or entry.n != len(found) + 1:
            raise ReleaseError(f"ledger entry {key} does not follow the one before it", remedy="digits verify")
        found.append(entry)
        link = sha256_of(raw)
    return found


def champion(store: ObjectStore) -> str:
    """The version of the champion, '' where there is none. Reads the newest ledger entry alone."""
    entry = _newest(store)
    return entry.version if entry else ""


def previous(store: ObjectStore) -> str:
    """The version that a rollback would bring back, '' for none."""
    entry = _newest(store)
    return entry.previous if entry else ""


def promote(
    store: ObjectStore, version: str, why: str, *, still: Callable[[str], str | None] | None = None
) -> Entry | None:
    """Make `version` the champion. Promoting the champion again changes nothing.

    Args:
        store: where releases and the ledger are.
        version: a published release.
        why: one sentence for the ledger.
        still: called with the current champion before each attempt; returns the sentence for the ledger, or None
            to give up, because another promotion came between and the new champion is not to be replaced.
    """
    releases.load(store, version)
    while True:
        newest = _newest(store)
        current = newest.version if newest else ""
        if newest and current == version:
            return newest
        if still is not None:
            reason = still(current)
            if reason is None:
                return None
            why = reason
        if entry := _append(store, newest, version, "promote", why, current):
            return entry


def rollback(store: ObjectStore, why: str = "rolled back by hand") -> Entry:
    """Bring back the champion before this one. Raises ReleaseError where there was none."""
    while True:
        newest = _newest(store)
        if newest is None or not newest.previous:
            raise ReleaseError("there is no earlier champion to go back to", remedy="digits promote VERSION")
        releases.load(store, newest.previous)
        stack = _stack(entries(store)[: newest.n])
        while stack and stack.pop() != newest.previous:
            continue
        if entry := _append(store, newest, newest.previous, "rollback", why, stack[-1] if stack else ""):
            return entry


def _stack(chain: list[Entry]) -> list[str]:
    """The champions that rollbacks have not taken back, oldest first: where A, B, A were promoted, A comes twice.

    Going back along it ends at the first champion, however often a release came and went.
    """
    stack: list[str] = []
    for entry in chain:
        if entry.action == "rollback":
            while stack and stack[-1] != entry.version:
                stack.pop()
        else:
            stack.append(entry.version)
    return stack


def write_serving_layout(store: ObjectStore) -> str:
    """Copy the champion's SavedModel to `models/detect-digits/<n>/`, n its ledger number. Returns that prefix.

    TensorFlow Serving serves the highest number, so this is what makes its stock runtime follow the champion.
    """
    newest = _newest(store)
    if newest is None:
        raise ReleaseError("there is no champion yet", remedy="digits run")
    prefix = f"{SERVING}{newest.n}/"
    files = releases.load(store, newest.version)["files"]
    # The graph goes last: a version without it is not loaded.
    for name in sorted((n for n in files if n.startswith("saved_model/")), key=lambda n: n.endswith("saved_model.pb")):
        key = prefix + name.removeprefix("saved_model/")
        if not store.exists(key):
            store.put(key, store.get(releases.release_prefix(newest.version) + name, sha256=files[name]))
    kept = {newest.n - i for i in range(SERVING_KEPT)}
    for key in store.keys(SERVING):
        number = key.split("/")[2]
        if number.isdigit() and int(number) < newest.n and int(number) not in kept:
            store.delete(key)
    return prefix


def _keys(store: ObjectStore) -> list[str]:
    """Of the entries, oldest first. What else lies there (a file manager's .DS_Store) is none of ours."""
    return [key for key in store.keys(LEDGER) if _KEY.fullmatch(key)]


def _newest(store: ObjectStore) -> Entry | None:
    keys = _keys(store)
    return _entry(keys[-1], store.get(keys[-1])) if keys else None


def _entry(key: str, raw: bytes) -> Entry:
    try:
        entry = Entry(**json.loads(raw))
        if _key(entry.n) != key:
            raise ValueError(f"it says that it is number {entry.n}")
        return entry
    except (ValueError, TypeError) as exc:
        raise ReleaseError(f"ledger entry {key} is damaged: {exc}", remedy="digits verify") from exc


def _append(
    store: ObjectStore, newest: Entry | None, version: str, action: str, why: str, previous: str
) -> Entry | None:
    """Make the entry after `newest`; None if another's has come there, which is listed by then: it can be gone on from.

    Raises:
        ReleaseError: the entry's name is taken by what is no entry. Without an end to it, this would be tried for ever.
    """
    n = newest.n + 1 if newest else 1
    link = sha256_of(store.get(_key(newest.n))) if newest else ""
    entry = Entry(n, version, action, why, previous, link, provenance.timestamp())
    if store.create(_key(n), canonical_json(asdict(entry))):
        return entry
    for _ in range(LISTED_ATTEMPTS):
        if _key(n) in _keys(store):
            return None
        time.sleep(LISTED_PAUSE)
    raise ReleaseError(
        f"ledger entry {_key(n)} in {store.uri} cannot be made: its name is taken, and no entry is listed under it",
        remedy="see what lies there (a folder, a link that leads nowhere), move it away, and do this again",
    )


def _key(n: int) -> str:
    return f"{LEDGER}{n:08d}.json"

"""The promotion ledger: which release is the champion, and how it became the champion.

    promotions/digits/<n>.json  one entry per promotion or rollback, with the digest of the entry before it

The ledger is the only source of truth for the champion; MLflow's aliases mirror it. An entry is written by
`ObjectStore.create`, so concurrent promotions become consecutive entries and none is lost.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass

from digits import provenance
from digits.errors import ReleaseError
from digits.files import canonical_json, sha256_of
from digits.release import releases
from digits.store import ObjectStore

LEDGER = "promotions/digits/"
LISTING_ATTEMPTS, LISTING_SECONDS = 50, 0.1  # how often to look for another writer's entry, and the pause in between
RESTORE = f"restore {LEDGER} from a backup; or move it away in the store, and digits run begins a new ledger"
_KEY = re.compile(rf"{LEDGER}\d{{8}}\.json")


@dataclass(frozen=True)
class Entry:
    """An entry of the ledger: from number `n` on, `version` is the champion."""

    n: int
    version: str
    action: str  # promote | rollback
    why: str
    previous: str  # the version that a rollback would restore; '' for none
    link: str  # SHA-256 of the entry before this one; '' for the first
    time: str


def entries(store: ObjectStore) -> list[Entry]:
    """Return all entries, oldest first, after checking that each holds the digest of the one before.

    Raises:
        ReleaseError: the chain is broken; names the entry.
    """
    chain: list[Entry] = []
    link = ""
    for key in _keys(store):
        raw = store.get(key)
        entry = _parse(key, raw)
        if entry.link != link or entry.n != len(chain) + 1:
            raise ReleaseError(f"ledger entry {key} does not follow the one before it", remedy=RESTORE)
        chain.append(entry)
        link = sha256_of(raw)
    return chain


def newest(store: ObjectStore) -> Entry | None:
    """Return the newest entry, None if there is none. No other entry is read."""
    keys = _keys(store)
    return _parse(keys[-1], store.get(keys[-1])) if keys else None


def champion(store: ObjectStore) -> str:
    """Return the version of the champion, '' if there is none."""
    entry = newest(store)
    return entry.version if entry else ""


def previous(store: ObjectStore) -> str:
    """Return the version that a rollback would restore, '' if there is none."""
    entry = newest(store)
    return entry.previous if entry else ""


def promote(store: ObjectStore, version: str, why: str) -> Entry:
    """Make `version` the champion; `why` is one sentence for the ledger. Promoting the champion again changes nothing.

    Raises:
        ReleaseError: the release is missing or damaged; the ledger is unchanged.
    """
    releases.load_whole(store, version)
    while True:
        last = newest(store)
        if last and last.version == version:
            return last
        if entry := append(store, last, version, why):
            return entry


def rollback(store: ObjectStore, why: str = "rolled back manually") -> Entry:
    """Make the champion before the present one the champion again. Raises ReleaseError if there is none."""
    while True:
        last = newest(store)
        if last is None or not last.previous:
            raise ReleaseError("there is no earlier champion to go back to", remedy="digits promote VERSION")
        releases.load_whole(store, last.previous)
        versions = _standing_promotions(entries(store)[: last.n])
        while versions and versions.pop() != last.previous:
            continue  # what remains are the promotions before that of the new champion
        previous = versions[-1] if versions else ""
        if entry := append(store, last, last.previous, why, action="rollback", previous=previous):
            return entry


def _standing_promotions(chain: list[Entry]) -> list[str]:
    """Return the versions of the promotions that no rollback has undone, oldest first (after A, B, A: all three).

    Repeated rollbacks therefore end at the first champion.
    """
    versions: list[str] = []
    for entry in chain:
        if entry.action == "rollback":
            while versions and versions[-1] != entry.version:
                versions.pop()
        else:
            versions.append(entry.version)
    return versions


def append(
    store: ObjectStore,
    last: Entry | None,
    version: str,
    why: str,
    *,
    action: str = "promote",
    previous: str | None = None,
) -> Entry | None:
    """Append an entry after `last`. Return None if another writer took the number first; its entry is visible by then.

    `previous` is the version that a rollback would restore, by default the present champion.

    Raises:
        ReleaseError: something that is not an entry has that key; retries would never end.
    """
    if previous is None:
        previous = last.version if last else ""
    n = last.n + 1 if last else 1
    link = sha256_of(store.get(_key(last.n))) if last else ""
    entry = Entry(n, version, action, why, previous, link, provenance.timestamp())
    if store.create(_key(n), canonical_json(asdict(entry))):
        return entry
    for _ in range(LISTING_ATTEMPTS):
        if _key(n) in _keys(store):
            return None
        time.sleep(LISTING_SECONDS)
    raise ReleaseError(
        f"ledger entry {_key(n)} in {store.uri} cannot be written: its name is taken, but it is not listed as an entry",
        remedy="find what has that name (a folder or a broken link), move it away, and repeat the command",
    )


def _keys(store: ObjectStore) -> list[str]:
    """Return the keys of the entries, oldest first, without other files (a file manager's .DS_Store)."""
    return [key for key in store.keys(LEDGER) if _KEY.fullmatch(key)]


def _key(n: int) -> str:
    return f"{LEDGER}{n:08d}.json"


def _parse(key: str, raw: bytes) -> Entry:
    try:
        entry = Entry(**json.loads(raw))
        if _key(entry.n) != key:
            raise ValueError(f"its number is {entry.n}")
        return entry
    except (ValueError, TypeError, RecursionError) as exc:
        raise ReleaseError(f"ledger entry {key} is damaged: {exc}", remedy=RESTORE) from exc

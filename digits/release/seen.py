"""The newest ledger entry of each store that was seen before, so that an older, validly signed ledger is refused.

It is remembered by the process and in the file of `Trust.seen`: {address of the ledger: [number, SHA-256]}.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from digits import homes
from digits.errors import DigitsError, ReleaseError
from digits.files import parse_json, read_own, write_json
from digits.store import ObjectStore

Position = tuple[int, str]  # the number of an entry and its SHA-256

_memory: dict[str, Position] = {}


def is_newest(store: ObjectStore, n: int, digest: str) -> bool:
    """Return whether this process has checked a ledger that ends with this entry."""
    return _memory.get(_address(store)) == (n, digest)


def check(store: ObjectStore, digests: Sequence[str]) -> None:
    """Check that a ledger continues the one that was seen, and remember its end.

    `digests` are the entries' SHA-256 by number; the first stands for no entry.

    Raises:
        ReleaseError: an entry that was seen is missing or differs.
    """
    recorded = _read(store)
    n, digest = max(recorded.get(_address(store), (0, "")), _memory.get(_address(store), (0, "")))
    if len(digests) <= n or (n and digests[n] != digest):
        raise ReleaseError(
            f"the ledger of {store.uri} lacks entry {n} with SHA-256 {digest[:16]}, which was seen before",
            remedy="restore the ledger from a backup; if you replaced the store yourself: "
            f"rm {store.trust.seen or 'its record'}, and restart what serves",
        )
    end = (len(digests) - 1, digests[-1])
    _memory[_address(store)] = end
    if store.trust.seen and recorded.get(_address(store)) != end:
        homes.claim_if_possible(store.trust.seen.parents[1])  # it may be a new home, if the store is elsewhere
        with contextlib.suppress(DigitsError):  # a container may not write there; the process remembers it
            write_json(store.trust.seen, recorded | {_address(store): end})


def forget(store: ObjectStore) -> None:
    """Forget what was seen of a ledger, because this user replaces it."""
    _memory.pop(_address(store), None)
    recorded = _read(store)
    if store.trust.seen and recorded.pop(_address(store), None):
        write_json(store.trust.seen, recorded)


def _address(store: ObjectStore) -> str:
    return f"{store.uri}/promotions/{store.task}"


def _read(store: ObjectStore) -> dict[str, Position]:
    """Return the recorded positions by address. A damaged record is as none: its writer could also have removed it."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        if store.trust.seen:
            return {uri: (int(n), str(digest)) for uri, (n, digest) in parse_json(read_own(store.trust.seen)).items()}
    return {}

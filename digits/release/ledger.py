"""The promotion ledger: which release is the champion, and how it became the champion.

    promotions/TASK/<n>.json             one entry per promotion or rollback, with the digest of the entry before it
    promotions/TASK/<n>.<digest>.sig     its signature, if there is a key; written first, so no entry is ever without

With trusted keys, one of them must have signed the newest entry. It covers the earlier ones by their digests, so they
stay valid when their own key is no longer trusted. A ledger that lacks an entry that was seen before is refused.

The ledger is the only source of truth for the champion; MLflow's aliases mirror it. An entry is written by
`ObjectStore.create`, so concurrent promotions become consecutive entries and none is lost.
"""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from digits import provenance
from digits.errors import ObjectMissing, ReleaseError
from digits.files import canonical_json, parse_json, sha256_of
from digits.release import releases, seen, signatures
from digits.store import ObjectStore

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

LISTING_ATTEMPTS, LISTING_SECONDS = 50, 0.1  # how often to look for another writer's entry, and the pause in between
_NAME = re.compile(r"\d{8}\.json")


@dataclass(frozen=True)
class Entry:
    """An entry of the ledger: from number `n` on, `version` is the champion."""

    n: int
    version: str
    action: str  # gate, promote (manually) or rollback
    why: str
    previous: str  # the version that a rollback would restore; '' for none
    link: str  # SHA-256 of the entry before this one; '' for the first
    time: str


def folder(store: ObjectStore) -> str:
    """Return the folder of the ledger of the store's task, ending in '/'."""
    return f"promotions/{store.task}/"


def restore_remedy(store: ObjectStore) -> str:
    """Return the remedy for a damaged ledger."""
    return (
        f"restore {folder(store)} from a backup; or, with the same --backend and --task, begin a new ledger: "
        "digits promote VERSION --new-ledger"
    )


def entries(store: ObjectStore) -> list[Entry]:
    """Return all entries, oldest first, after checking that each holds the digest of the one before.

    Raises:
        ReleaseError: the chain is broken, lacks an entry that was seen before, or a needed signature; names the entry.
    """
    chain: list[Entry] = []
    links = [""]
    for key in _keys(store):
        raw = store.get(key)
        entry = _parse(store, key, raw)
        if entry.link != links[-1] or entry.n != len(chain) + 1:
            raise ReleaseError(f"ledger entry {key} does not follow the one before it", remedy=restore_remedy(store))
        chain.append(entry)
        links.append(sha256_of(raw))
    if store.trust.keys:
        if chain:
            signer(store, chain[-1].n, links[-1])
        seen.check(store, links)
    return chain


def signer(store: ObjectStore, n: int, digest: str = "") -> str:
    """Return the fingerprint of the trusted key that signed entry `n`. `digest` is its SHA-256, '' if not known yet.

    Raises:
        ReleaseError: no trusted key did.
    """
    digest = digest or sha256_of(store.get(_key(store, n)))
    what, keys = f"ledger entry {_key(store, n)}", signatures.read_keys(store.trust.keys)
    try:
        bundle = store.get(_signature_key(store, n, digest))
    except ObjectMissing:
        raise signatures.missing(what, keys) from None
    signed, by = signatures.read_digests(bundle, keys, what)
    if signed != {".": digest}:
        raise ReleaseError(f"the signature of {what} is for another entry", remedy=restore_remedy(store))
    return by


def newest(store: ObjectStore, *, known: bool = False) -> Entry | None:
    """Return the newest entry, None if there is none. The others are read only if signatures are needed.

    If `known`, they are not read either if this process has found them intact before, for callers that poll.

    Raises:
        ReleaseError: as `entries`.
    """
    keys = _keys(store)
    raw = store.get(keys[-1]) if keys else b""
    if store.trust.keys:
        if not known or not seen.is_newest(store, len(keys), sha256_of(raw)):
            chain = entries(store)
            return chain[-1] if chain else None
        signer(store, len(keys), sha256_of(raw))  # its key may no longer be trusted
    return _parse(store, keys[-1], raw) if keys else None


def champion(store: ObjectStore, *, known: bool = False) -> str:
    """Return the version of the champion, '' if there is none. `known` is as in `newest`."""
    entry = newest(store, known=known)
    return entry.version if entry else ""


def previous(store: ObjectStore) -> str:
    """Return the version that a rollback would restore, '' if there is none."""
    entry = newest(store)
    return entry.previous if entry else ""


def promote(store: ObjectStore, version: str, why: str) -> Entry:
    """Make `version` the champion; `why` is one sentence for the ledger. Promoting the champion again changes nothing.

    Raises:
        ReleaseError: the release or the ledger is damaged, or the release is missing; the ledger is unchanged.
    """
    releases.load_whole(store, version)
    while True:
        last = next(reversed(entries(store)), None)
        if last and last.version == version:
            return last
        if entry := append(store, last, version, why):
            return entry


def set_aside(store: ObjectStore) -> str:
    """Move all entries, damaged ones too, to a folder below the ledger's, so that a new one begins. Return its prefix.

    What this installation has seen of the ledger is forgotten.

    Raises:
        UsageError, MissingError: a new entry could not be signed as needed; the ledger is unchanged.
    """
    signatures.signing_key(store.trust)
    prefix, aside = folder(store), f"{folder(store)}replaced-{time.time_ns()}/"
    for name in reversed([key.removeprefix(prefix) for key in store.keys(prefix)]):
        if "/" not in name:  # else it was set aside before
            store.put(aside + name, store.get(prefix + name))
            store.delete(prefix + name)
    seen.forget(store)
    return aside


def rollback(store: ObjectStore) -> Entry:
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
        if entry := append(store, last, last.previous, "rolled back manually", action="rollback", previous=previous):
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


def references(chain: list[Entry]) -> list[str]:
    """Return the versions of the promotions in effect since the last manual one, itself included, oldest first."""
    standing: list[str] = []
    for entry in chain:
        if entry.action == "rollback":
            while standing and standing[-1] != entry.version:
                standing.pop()
            standing = standing or [entry.version]  # a rollback past a manual promotion is a manual choice, too
        else:
            standing = [*(standing if entry.action == "gate" else []), entry.version]
    return standing


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
    n, link, signing_key = 1, "", signatures.signing_key(store.trust)
    if last:
        n, raw = last.n + 1, store.get(_key(store, last.n))
        link = sha256_of(raw)
        if _parse(store, _key(store, last.n), raw) != last:
            raise ReleaseError(
                f"ledger entry {_key(store, last.n)} changed since it was read", remedy=restore_remedy(store)
            )
    entry = Entry(n, version, action, why, previous, link, provenance.timestamp())
    content = canonical_json(asdict(entry))
    if signing_key:
        store.put(*_signature(store, signing_key, n, content))
    if store.create(_key(store, n), content):
        return entry
    if signing_key:
        store.delete(_signature_key(store, n, sha256_of(content)))
    for _ in range(LISTING_ATTEMPTS):
        if _key(store, n) in _keys(store):
            return None
        time.sleep(LISTING_SECONDS)
    raise ReleaseError(
        f"ledger entry {_key(store, n)} in {store.uri} cannot be written: "
        "its name is taken, but it is not listed as an entry",
        remedy="find what has that name (a folder or a broken link), move it away, and repeat the command",
    )


def sign_newest(store: ObjectStore) -> Entry | None:
    """Sign the newest entry with the store's signing key, after a check of the chain. Return it, None if there is none.

    A store without trusted keys is needed for an entry that none of them has signed.
    """
    chain, key = entries(store), signatures.signing_key(store.trust)
    if not chain or key is None:
        return None
    store.put(*_signature(store, key, chain[-1].n, store.get(_key(store, chain[-1].n))))
    return chain[-1]


def _keys(store: ObjectStore) -> list[str]:
    """Return the keys of the entries, oldest first, without other files (a file manager's .DS_Store)."""
    prefix = folder(store)
    return [key for key in store.keys(prefix) if _NAME.fullmatch(key.removeprefix(prefix))]


def _key(store: ObjectStore, n: int) -> str:
    return f"{folder(store)}{n:08d}.json"


def _signature_key(store: ObjectStore, n: int, digest: str) -> str:
    return f"{folder(store)}{n:08d}.{digest[:16]}.sig"


def _signature(store: ObjectStore, key: ec.EllipticCurvePrivateKey, n: int, content: bytes) -> tuple[str, bytes]:
    """Return the key and the content of an entry's signature."""
    digest = sha256_of(content)
    return _signature_key(store, n, digest), signatures.sign_digests(key, f"{n:08d}.json", {".": digest})


def _parse(store: ObjectStore, key: str, raw: bytes) -> Entry:
    try:
        entry = Entry(**parse_json(raw))
        if type(entry.n) is not int or _key(store, entry.n) != key:
            raise ValueError(f"its number is {entry.n}")
        if not all(isinstance(value, str) for name, value in asdict(entry).items() if name != "n") or not entry.version:
            raise ValueError("expected texts and a version")
        return entry
    except (ValueError, TypeError) as exc:
        raise ReleaseError(f"ledger entry {key} is damaged: {exc}", remedy=restore_remedy(store)) from exc

"""Releases: immutable, complete, checked by digest, and the ledger that says which one is the champion.

    models/digits/<version>/    saved_model/ model.onnx model.keras architecture.json, and written last: manifest.json
    promotions/digits/<n>.json  one entry a promotion or rollback; each holds the digest of the one before it
    models/detect-digits/<n>/   the champion's SavedModel in TensorFlow Serving's layout

A version is the head of the release's digest, which is taken over what the release *is* (weights, data, code,
parameters), not over when or by which run it was made: publishing the same thing twice is publishing it once.
The ledger is the one source of truth for the champion. Its entries are made by `ObjectStore.create`, so two
promotions at once become two entries in a row and neither is lost; MLflow's aliases mirror it.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from digits.errors import DigestMismatch, ObjectMissing, ReleaseError
from digits.files import canonical_json, sha256_of
from digits.store import ObjectStore

MODELS = "models/digits/"
SERVING = "models/detect-digits/"
LEDGER = "promotions/digits/"
MANIFEST = "manifest.json"
SERVING_KEPT = 2

Manifest = dict[str, Any]


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


def identity(*, weights: str, data: dict[str, Any], code: str, parameters: dict[str, Any]) -> str:
    """A release's digest: hex SHA-256 over what makes it what it is."""
    return sha256_of(canonical_json({"weights": weights, "data": data, "code": code, "parameters": parameters}))


def version_of(digest: str) -> str:
    """A release's version: twelve hex digits, all of one length, so that no version is a prefix of another."""
    return digest[:12]


def publish(store: ObjectStore, folder: Path, manifest: Manifest) -> Manifest:
    """Write the release whose files lie in `folder`; the manifest, with their digests added, goes last.

    Returns the stored manifest: the earlier one, unchanged, where this release was published before.
    """
    prefix = prefix_of(manifest["version"])
    if store.exists(prefix + MANIFEST):
        return load(store, manifest["version"])
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        # Each file is written once: where two runs publish the same model at once, theirs differ in time stamps, and
        # neither may change a file whose digest the other has noted.
        store.create(prefix + name, path.read_bytes())
        files[name] = sha256_of(store.get(prefix + name))
    complete = manifest | {"schema": 1, "created": _now(), "files": files}
    store.create(prefix + MANIFEST, json.dumps(complete, indent=2, sort_keys=True).encode())
    return load(store, manifest["version"])


def prefix_of(version: str) -> str:
    """The folder of a release in the store, ending in '/'."""
    return f"{MODELS}{version}/"


def uri_of(store: ObjectStore, version: str) -> str:
    """The address of a release, ending in '/': KServe's initializer would fetch version 10 with version 1 otherwise."""
    return f"{store.uri.rstrip('/')}/{prefix_of(version)}"


def load(store: ObjectStore, version: str) -> Manifest:
    """The manifest of a release. Raises ReleaseError where there is none or it is damaged."""
    try:
        manifest: Manifest = json.loads(store.get(prefix_of(version) + MANIFEST))
        if manifest["version"] != version or version_of(manifest["digest"]) != version:
            raise ValueError("it names another version")
        manifest["created"]
        for part, name in (("files", "model.onnx"), ("metrics", "accuracy"), ("data", "dataset")):
            manifest[part][name]
    except ObjectMissing as exc:
        raise ReleaseError(f"no release {version!r} in {store.uri}", remedy="digits releases") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise ReleaseError(
            f"the manifest of release {version} is damaged: {exc}",
            remedy="restore it from a backup; if it is the champion's, digits promote another release",
        ) from exc
    return manifest


def versions(store: ObjectStore) -> list[Manifest]:
    """The manifests of all complete releases, oldest first."""
    return listed(store)[0]


def listed(store: ObjectStore) -> tuple[list[Manifest], dict[str, str]]:
    """(what `versions` gives, {version: why} of the releases whose manifests are damaged)."""
    intact, refused = [], {}
    for key in store.keys(MODELS):
        version = key.removeprefix(MODELS).removesuffix(f"/{MANIFEST}")
        if key == prefix_of(version) + MANIFEST and "/" not in version:
            try:
                intact.append(load(store, version))
            except ReleaseError as exc:
                refused[version] = exc.message
    return sorted(intact, key=lambda m: (m["created"], m["version"])), refused


def download(store: ObjectStore, version: str, folder: Path, *, only: str = "") -> Manifest:
    """Get the files of a release (or only those whose path starts with `only`) into `folder`, each checked.

    Raises:
        ReleaseError: the release is missing, incomplete, or a file's digest differs.
    """
    manifest = load(store, version)
    for name, sha in manifest["files"].items():
        if name.startswith(only):
            try:
                store.download(prefix_of(version) + name, folder / _safe(name), sha256=sha)
            except (ObjectMissing, DigestMismatch) as exc:
                raise ReleaseError(f"release {version}: {exc}", remedy=f"digits verify {version}") from exc
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return manifest


def check_folder(folder: Path) -> Manifest:
    """The manifest of a release that lies in a local folder, after checking each file that is there.

    Raises:
        ReleaseError: no manifest, a missing model, a link, or a digest that differs.
    """
    try:
        manifest: Manifest = json.loads((folder / MANIFEST).read_text())
        files = manifest["files"]
        files["model.onnx"]
    except FileNotFoundError:
        raise ReleaseError(f"{folder} holds no {MANIFEST}, so it is not a release", remedy="digits releases") from None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ReleaseError(f"the manifest in {folder} is damaged: {exc}") from exc
    whole = folder.resolve()
    for name, expected in files.items():
        path = folder / _safe(name)
        try:
            if path.resolve() != whole / name:
                raise ReleaseError(f"{path} is a link, or in one; a release holds plain files")
            found = sha256_of(path) if path.is_file() else ""
        except (OSError, ValueError) as exc:
            raise ReleaseError(f"{path} cannot be read: {exc}") from exc
        if found and found != expected:
            raise ReleaseError(f"{path} is damaged: expected SHA-256 {expected}, found {found}")
        if not found and name == "model.onnx":
            raise ReleaseError(f"{path} is missing")
    return manifest


def ledger(store: ObjectStore) -> list[Entry]:
    """All entries, oldest first, each checked to hold the digest of the one before.

    Raises:
        ReleaseError: the chain is broken; says at which entry.
    """
    entries: list[Entry] = []
    link = ""
    for key in store.keys(LEDGER):
        raw = store.get(key)
        entry = _entry(key, raw)
        if entry.link != link or entry.n != len(entries) + 1 or _key(entry.n) != key:
            raise ReleaseError(f"ledger entry {key} does not follow the one before it", remedy="digits verify")
        entries.append(entry)
        link = sha256_of(raw)
    return entries


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
    load(store, version)
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
        load(store, newest.previous)
        stack = _stack(ledger(store)[: newest.n])
        while stack and stack.pop() != newest.previous:
            continue
        if entry := _append(store, newest, newest.previous, "rollback", why, stack[-1] if stack else ""):
            return entry


def _stack(entries: list[Entry]) -> list[str]:
    """The champions that rollbacks have not taken back, oldest first: where A, B, A were promoted, A comes twice.

    Going back along it ends at the first champion, however often a release came and went.
    """
    stack: list[str] = []
    for entry in entries:
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
    files = load(store, newest.version)["files"]
    # The graph goes last: a version without it is not loaded.
    for name in sorted((n for n in files if n.startswith("saved_model/")), key=lambda n: n.endswith("saved_model.pb")):
        key = prefix + name.removeprefix("saved_model/")
        if not store.exists(key):
            store.put(key, store.get(prefix_of(newest.version) + name, sha256=files[name]))
    kept = {newest.n - i for i in range(SERVING_KEPT)}
    for key in store.keys(SERVING):
        number = key.split("/")[2]
        if number.isdigit() and int(number) < newest.n and int(number) not in kept:
            store.delete(key)
    return prefix


def _newest(store: ObjectStore) -> Entry | None:
    keys = store.keys(LEDGER)
    return _entry(keys[-1], store.get(keys[-1])) if keys else None


def _entry(key: str, raw: bytes) -> Entry:
    try:
        return Entry(**json.loads(raw))
    except (ValueError, TypeError) as exc:
        raise ReleaseError(f"ledger entry {key} is damaged: {exc}", remedy="digits verify") from exc


def _append(
    store: ObjectStore, newest: Entry | None, version: str, action: str, why: str, previous: str
) -> Entry | None:
    n = newest.n + 1 if newest else 1
    link = sha256_of(store.get(_key(newest.n))) if newest else ""
    entry = Entry(n, version, action, why, previous, link, _now())
    return entry if store.create(_key(n), canonical_json(asdict(entry))) else None


def _key(n: int) -> str:
    return f"{LEDGER}{n:08d}.json"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _safe(name: str) -> str:
    if name.startswith("/") or ".." in name.split("/") or "\\" in name:
        raise ReleaseError(f"the manifest names a file outside its release: {name!r}")
    return name

"""Writing of a release: the files first, the manifest last. Only what is damaged is replaced.

All writers upload in the same order and stop at the first file with other content, so exactly one of several finishes.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from digits import provenance
from digits.errors import ReleaseError
from digits.files import sha256_of
from digits.release.releases import IDENTITY, MANIFEST, Manifest, load, load_whole, release_prefix
from digits.store import ObjectStore

OF_A_RUN = {"created", "mlflow_run", "libraries"}  # parts of a manifest that differ between runs with the same results
OTHER_WRITER_SECONDS = 60.0  # in which another writer, whose files are in the store, must finish


def write_release(store: ObjectStore, folder: Path, manifest: Manifest, logged: Manifest | None = None) -> Manifest:
    """Write the files in `folder` as a release, add their digests to the manifest, and write the manifest last.

    Return the stored manifest. If the release exists already, whole, this is the earlier one, unchanged. What is
    missing or damaged is written again. `logged` is the manifest as it was logged elsewhere, None if it was not: it is
    restored if it describes these files, and a stored manifest that differs from it counts as damaged.

    Raises:
        ReleaseError: a file in the store has other content, and no other writer completes the release.
    """
    version = manifest["version"]
    contents = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    files = {name: sha256_of(content) for name, content in contents.items()}
    # In the types of JSON, so that it can be compared with a stored one.
    new = json.loads(json.dumps({"schema": 1, "created": provenance.timestamp(), **manifest, "files": files}))
    stored = None
    with contextlib.suppress(ReleaseError):
        stored = load(store, version)
        if logged in (None, stored) and all(stored[key] == new[key] for key in IDENTITY):
            return load_whole(store, version)
    # Keep or restore the earlier manifest, if it describes these files and results.
    kept = logged or stored
    chosen = kept if kept and all(kept.get(key) == new[key] for key in new.keys() - OF_A_RUN) else new
    return _write(store, version, contents, json.dumps(chosen, indent=2, sort_keys=True).encode())


def copy_release(source: ObjectStore, target: ObjectStore, version: str) -> Manifest:
    """Copy a release from store to store; check each file and write the manifest last. Return the manifest.

    What is damaged in `target` is written again.

    Raises:
        ReleaseError: the release in `source` is missing or damaged; or a file in `target` has other content, and no
            other writer completes the release.
    """
    with contextlib.suppress(ReleaseError):
        return load_whole(target, version)
    prefix = release_prefix(version)
    names = load_whole(source, version)["files"]
    contents = {name: source.get(prefix + name, sha256=digest) for name, digest in names.items()}
    return _write(target, version, contents, source.get(prefix + MANIFEST))


def _write(store: ObjectStore, version: str, contents: dict[str, bytes], manifest: bytes) -> Manifest:
    """Write the files, then the manifest. If there is a manifest, the release is damaged: replace what differs."""
    prefix = release_prefix(version)
    if store.exists(prefix + MANIFEST):
        for name, content in {**contents, MANIFEST: manifest}.items():
            if not store.exists(prefix + name) or store.get(prefix + name) != content:
                store.put(prefix + name, content)
        return load(store, version)
    for name, content in contents.items():
        if not store.create(prefix + name, content) and (found := store.get(prefix + name)) != content:
            return _wait_for_other_writer(store, version, name, sha256_of(content), sha256_of(found))
    if not store.create(prefix + MANIFEST, manifest) and not store.exists(prefix + MANIFEST):
        store.put(prefix + MANIFEST, manifest)  # something that is no object has its name, such as a named pipe
    return load(store, version)


def _wait_for_other_writer(store: ObjectStore, version: str, name: str, expected: str, actual: str) -> Manifest:
    prefix, deadline = release_prefix(version), time.monotonic() + OTHER_WRITER_SECONDS
    while not store.exists(prefix + MANIFEST):
        if time.monotonic() > deadline:
            raise ReleaseError(
                f"{store.uri} has another {prefix}{name}: expected SHA-256 {expected}, found {actual}; "
                f"no other writer completed the release with it",
                remedy=f"delete {store.uri}/{prefix}, which is incomplete (no manifest), and repeat the command",
            )
        time.sleep(0.1)
    return load(store, version)

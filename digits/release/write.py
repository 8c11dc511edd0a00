"""Writing of a release: the files first, the manifest last. Only what is damaged is replaced.

All writers upload in the same order and stop at the first file with other content, so exactly one of several finishes.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from digits import provenance
from digits.errors import ObjectMissing, ReleaseError
from digits.files import sha256_of
from digits.release.attachments import attach, same_results
from digits.release.releases import ATTACHED, IDENTITY, MANIFEST, SIGNATURE, Manifest, load, load_whole, release_prefix
from digits.store import ObjectStore

OTHER_WRITER_SECONDS = 60.0  # in which another writer, whose files are in the store, must finish


def write_release(store: ObjectStore, folder: Path, manifest: Manifest, logged: Manifest | None = None) -> Manifest:
    """Write the files in `folder` as a release, add their digests to the manifest, and write the manifest last.

    Return the stored manifest. If the release exists already, whole, this is the earlier one, unchanged. What is
    missing or damaged is written again, and so are its documents and signature. `logged` is the manifest as it was
    logged elsewhere, None if it was not: it is restored if it describes these files, and a stored manifest that differs
    from it counts as damaged.

    Raises:
        ReleaseError: a file in the store has other content, and no other writer completes the release.
    """
    version = manifest["version"]
    contents = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    files = {name: sha256_of(content) for name, content in contents.items()}
    # In the types of JSON, so that it can be compared with a stored one.
    new = json.loads(json.dumps({"schema": 1, "created": provenance.timestamp(), **manifest, "files": files}))
    # Asked before the check: if another writer completes the release after it, those files must not be replaced.
    exists, stored = store.exists(release_prefix(store, version) + MANIFEST), None
    with contextlib.suppress(ReleaseError):
        stored = load(store, version)
        intact = logged in (None, stored) and all(stored[key] == new[key] for key in IDENTITY)
        # A signature must not be put on files of the same name that are neither ours nor signed.
        if intact and (not store.trust.signing_key or store.trust.keys or same_results(stored, new)):
            whole = load_whole(store, version)
            attach(store, whole)
            return whole
    # Keep or restore the earlier manifest, if it describes these files and results.
    kept = logged or stored
    chosen = kept if kept and same_results(kept, new) else new
    _write(store, version, contents, json.dumps(chosen, indent=2, sort_keys=True).encode(), replace=exists)
    attach(store, new)
    return load(store, version)


def copy_release(source: ObjectStore, target: ObjectStore, version: str) -> Manifest:
    """Copy a release from store to store; check each file and write the manifest last. Return the manifest.

    What is damaged in `target` is written again.

    Raises:
        ReleaseError: the release in `source` is missing or damaged; or a file in `target` has other content, and no
            other writer completes the release.
    """
    prefix = release_prefix(source, version)
    names = [name for name in (*ATTACHED, SIGNATURE) if source.exists(prefix + name)]
    attached = {name: source.get(prefix + name) for name in names}
    exists = target.exists(prefix + MANIFEST)
    with contextlib.suppress(ReleaseError, ObjectMissing):
        manifest = load_whole(target, version)
        if all(target.get(prefix + name) == content for name, content in attached.items()):
            return manifest
    files = load_whole(source, version)["files"]
    contents = {name: source.get(prefix + name, sha256=digest) for name, digest in files.items()}
    _write(target, version, contents | attached, source.get(prefix + MANIFEST), replace=exists)
    return load(target, version)


def _write(store: ObjectStore, version: str, contents: dict[str, bytes], manifest: bytes, *, replace: bool) -> None:
    """Write the files, then the manifest. If `replace`, the release is damaged: replace what differs."""
    prefix = release_prefix(store, version)
    if replace:
        for name, content in {**contents, MANIFEST: manifest}.items():
            if not store.exists(prefix + name) or store.get(prefix + name) != content:
                store.put(prefix + name, content)
        return
    for name, content in contents.items():
        if not store.create(prefix + name, content) and (found := store.get(prefix + name)) != content:
            _wait_for_other_writer(store, version, name, sha256_of(content), sha256_of(found))
            return
    if not store.create(prefix + MANIFEST, manifest) and not store.exists(prefix + MANIFEST):
        store.put(prefix + MANIFEST, manifest)  # something that is no object has its name, such as a named pipe


def _wait_for_other_writer(store: ObjectStore, version: str, name: str, expected: str, actual: str) -> None:
    prefix, deadline = release_prefix(store, version), time.monotonic() + OTHER_WRITER_SECONDS
    while not store.exists(prefix + (SIGNATURE if store.trust.keys else MANIFEST)):
        if time.monotonic() > deadline:
            raise ReleaseError(
                f"{store.uri} has another {prefix}{name}: expected SHA-256 {expected}, found {actual}; "
                f"no other writer completed the release with it",
                remedy=f"delete {store.uri}/{prefix}, which is incomplete (no manifest), and repeat the command",
            )
        time.sleep(0.1)

"""Writing of a release: the files first, the manifest last. No file is ever replaced.

All writers upload in the same order and stop at the first file with other content, so exactly one of several finishes.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from digits import provenance
from digits.errors import DigestMismatch, ObjectMissing, ReleaseError
from digits.files import sha256_of
from digits.release.releases import MANIFEST, Manifest, load, release_prefix
from digits.store import ObjectStore

OTHER_WRITER_SECONDS = 60.0  # in which another writer, whose files are in the store, must finish


def write_release(store: ObjectStore, folder: Path, manifest: Manifest) -> Manifest:
    """Write the files in `folder` as a release, add their digests to the manifest, and write the manifest last.

    Return the stored manifest. If the release exists already, this is the earlier one, unchanged.

    Raises:
        ReleaseError: a file in the store has other content, and no other writer completes the release.
    """
    version, prefix = manifest["version"], release_prefix(manifest["version"])
    if store.exists(prefix + MANIFEST):
        return load(store, version)
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name, content = path.relative_to(folder).as_posix(), path.read_bytes()
        files[name] = sha256_of(content)
        if foreign := _write_file(store, prefix + name, content, files[name]):
            return _wait_for_other_writer(store, version, name, files[name], foreign)
    complete = manifest | {"schema": 1, "created": provenance.timestamp(), "files": files}
    store.create(prefix + MANIFEST, json.dumps(complete, indent=2, sort_keys=True).encode())
    return load(store, version)


def copy_release(source: ObjectStore, target: ObjectStore, version: str) -> Manifest:
    """Copy a release from store to store; check each file and write the manifest last. Return the manifest.

    Raises:
        ReleaseError: the release in `source` is missing or damaged; or a file in `target` has other content, and no
            other writer completes the release.
    """
    prefix = release_prefix(version)
    if not target.exists(prefix + MANIFEST):
        for name, digest in load(source, version)["files"].items():
            try:
                content = source.get(prefix + name, sha256=digest)
            except (ObjectMissing, DigestMismatch) as exc:
                raise ReleaseError(f"release {version}: {exc}", remedy=f"digits verify {version}") from exc
            if foreign := _write_file(target, prefix + name, content, digest):
                return _wait_for_other_writer(target, version, name, digest, foreign)
        target.create(prefix + MANIFEST, source.get(prefix + MANIFEST))
    return load(target, version)


def _write_file(store: ObjectStore, key: str, content: bytes, digest: str) -> str:
    """Write a file unless it exists. Return the digest of the existing file if its content differs, else ''."""
    if store.create(key, content):
        return ""
    actual = sha256_of(store.get(key))
    return "" if actual == digest else actual


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

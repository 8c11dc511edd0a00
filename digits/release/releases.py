"""Releases: immutable and complete, with a digest of each file.

    models/digits/<version>/    saved_model/ model.onnx model.keras architecture.json, and written last: manifest.json

A version is the start of the release's digest. The digest covers weights, data, code and parameters, but neither the
time nor the run, so the same content always has the same version.
`digits.release.ledger` records which release is the champion.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from digits.errors import DigestMismatch, ObjectMissing, ReleaseError, StoreError
from digits.files import canonical_json, sha256_of
from digits.store import ObjectStore

MODELS = "models/digits/"
MANIFEST = "manifest.json"
IDENTITY = ("weights", "data", "code", "parameters")  # what a release's digest covers
COPY_AGAIN = "copy the release's whole folder from the store again"
RESTORE = "digits run with the options that made it restores it; or digits promote another: digits releases lists them"

Manifest = dict[str, Any]


def identity(*, weights: str, data: dict[str, Any], code: str, parameters: dict[str, Any]) -> str:
    """Return a release's digest, the hex SHA-256 over the arguments."""
    return sha256_of(canonical_json({"weights": weights, "data": data, "code": code, "parameters": parameters}))


def version_from_digest(digest: str) -> str:
    """Return a release's version: twelve hex digits. As all have this length, none is a prefix of another."""
    return digest[:12]


def release_prefix(version: str) -> str:
    """Return the folder of a release in the store, ending in '/'."""
    return f"{MODELS}{version}/"


def release_uri(store: ObjectStore, version: str) -> str:
    """Return a release's address. It ends in '/', because KServe's initializer downloads all keys with that prefix."""
    return f"{store.uri.rstrip('/')}/{release_prefix(version)}"


def load(store: ObjectStore, version: str) -> Manifest:
    """Return the manifest of a release. Raises ReleaseError if the manifest is missing or damaged."""
    try:
        manifest: Manifest = json.loads(store.get(release_prefix(version) + MANIFEST))
        if manifest["version"] != version or version_from_digest(manifest["digest"]) != version:
            raise ValueError("it is for another version")
        manifest["created"]
        for part, name in (("files", "model.onnx"), ("metrics", "accuracy"), ("data", "dataset")):
            manifest[part][name]
    except ObjectMissing as exc:
        raise ReleaseError(f"no release {version!r} in {store.uri}", remedy="digits releases") from exc
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ReleaseError(
            f"the manifest of release {version} is damaged in {store.uri}: {exc}", remedy=RESTORE
        ) from exc
    return manifest


def load_whole(store: ObjectStore, version: str) -> Manifest:
    """Return the manifest of a release after a check of each file's digest.

    Raises:
        ReleaseError: the release is missing or damaged.
    """
    manifest = load(store, version)
    for name, digest in manifest["files"].items():
        try:
            store.get(release_prefix(version) + name, sha256=digest)
        except StoreError as exc:
            raise ReleaseError(f"release {version}: {exc}", remedy=RESTORE) from exc
    return manifest


def list_releases(store: ObjectStore) -> tuple[list[Manifest], dict[str, str]]:
    """Return the manifests of all complete releases, oldest first, and {version: reason} of the damaged ones."""
    manifests, damaged = [], {}
    for key in store.keys(MODELS):
        version = key.removeprefix(MODELS).removesuffix(f"/{MANIFEST}")
        if key == release_prefix(version) + MANIFEST and "/" not in version:
            try:
                manifests.append(load(store, version))
            except ReleaseError as exc:
                damaged[version] = exc.message
    return sorted(manifests, key=lambda m: (m["created"], m["version"])), damaged


def find(store: ObjectStore, start: str) -> str:
    """Return the version that starts with `start`. Raises ReleaseError unless there is exactly one."""
    versions = {key.removeprefix(MODELS).split("/")[0] for key in store.keys(MODELS)}
    matches = sorted(version for version in versions if start and version.startswith(start))
    if start in matches:
        return start
    if len(matches) != 1:
        problem = f"{', '.join(matches)} begin with" if matches else "no release begins with"
        raise ReleaseError(f"{problem} {start!r} in {store.uri}", remedy="digits releases")
    return matches[0]


def download(store: ObjectStore, version: str, folder: Path, *, only: str = "") -> Manifest:
    """Download the files of a release whose path starts with `only` to `folder`, and the manifest; check each digest.

    Raises:
        ReleaseError: the release is missing or damaged.
    """
    manifest = load(store, version)
    for name, digest in manifest["files"].items():
        if name.startswith(only):
            try:
                store.download(release_prefix(version) + name, folder / _check_name(name), sha256=digest)
            except (ObjectMissing, DigestMismatch) as exc:
                raise ReleaseError(f"release {version}: {exc}", remedy=f"digits verify {version}") from exc
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return manifest


def check_folder(folder: Path) -> Manifest:
    """Check the files of a release in a local folder, and return the manifest. Only `model.onnx` may not be missing.

    Raises:
        ReleaseError: there is no manifest or model, a file is a link, or a digest differs.
    """
    try:
        if (folder / MANIFEST).exists() and not (folder / MANIFEST).is_file():  # reading a named pipe would block
            raise ValueError("expected a file")
        manifest: Manifest = json.loads((folder / MANIFEST).read_text())
        files = manifest["files"]
        files["model.onnx"]
    except FileNotFoundError:
        raise ReleaseError(f"{folder} holds no {MANIFEST}, so it is not a release", remedy="digits releases") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ReleaseError(f"the manifest in {folder} is damaged: {exc}", remedy=COPY_AGAIN) from exc
    root = folder.resolve()
    for name, expected in files.items():
        path = folder / _check_name(name)
        try:
            if path.resolve() != root / name:
                raise ReleaseError(f"{path} is a link or below one; a release has plain files only", remedy=COPY_AGAIN)
            actual = sha256_of(path) if path.is_file() else ""
        except (OSError, ValueError) as exc:
            raise ReleaseError(f"{path} cannot be read: {exc}", remedy="allow this user to read it") from exc
        if actual and actual != expected:
            raise ReleaseError(f"{path} is damaged: expected SHA-256 {expected}, found {actual}", remedy=COPY_AGAIN)
        if not actual and name == "model.onnx":
            raise ReleaseError(f"{path} is missing", remedy=COPY_AGAIN)
    return manifest


def _check_name(name: str) -> str:
    if name.startswith("/") or ".." in name.split("/") or "\\" in name:
        raise ReleaseError(f"the manifest names a file outside its release: {name!r}")
    return name

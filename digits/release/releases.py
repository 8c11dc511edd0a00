"""Releases: immutable, complete, checked by digest.

    models/digits/<version>/    saved_model/ model.onnx model.keras architecture.json, and written last: manifest.json

A version is the head of the release's digest, which is taken over what the release *is* (weights, data, code,
parameters), not over when or by which run it was made: publishing the same thing twice is publishing it once.
Which of them is the champion says digits.release.ledger.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from digits import provenance
from digits.errors import DigestMismatch, ObjectMissing, ReleaseError
from digits.files import canonical_json, sha256_of
from digits.store import ObjectStore

MODELS = "models/digits/"
MANIFEST = "manifest.json"
OTHERS_SECONDS = 60.0  # how long another run or copy, whose files lie there, may take to end

ANEW = "copy the release's whole folder from the store again"

Manifest = dict[str, Any]


def identity(*, weights: str, data: dict[str, Any], code: str, parameters: dict[str, Any]) -> str:
    """A release's digest: hex SHA-256 over what makes it what it is."""
    return sha256_of(canonical_json({"weights": weights, "data": data, "code": code, "parameters": parameters}))


def version_from_digest(digest: str) -> str:
    """A release's version: twelve hex digits, all of one length, so that no version is a prefix of another."""
    return digest[:12]


def publish(store: ObjectStore, folder: Path, manifest: Manifest) -> Manifest:
    """Write the release whose files lie in `folder`; the manifest, with their digests added, goes last.

    Returns the stored manifest: the earlier one, unchanged, where this release was published before.

    Raises:
        ReleaseError: a file of another content lies in its place, and no other run completes the release with it.
    """
    prefix = release_prefix(manifest["version"])
    if store.exists(prefix + MANIFEST):
        return load(store, manifest["version"])
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name, content = path.relative_to(folder).as_posix(), path.read_bytes()
        files[name] = sha256_of(content)
        if found := _another(store, prefix + name, content, files[name]):
            return _completed_by_another(store, manifest["version"], name, files[name], found)
    complete = manifest | {"schema": 1, "created": provenance.timestamp(), "files": files}
    store.create(prefix + MANIFEST, json.dumps(complete, indent=2, sort_keys=True).encode())
    return load(store, manifest["version"])


def _another(store: ObjectStore, key: str, content: bytes, expected: str) -> str:
    """Write a release's file where there is none; the digest of what lies there if it is another one, else ''.

    No file is ever replaced, so that none changes behind a manifest. All who write a release take its files in one
    order and stop at the first that is not theirs: of several that do it at once, one gets to the end.
    """
    if store.create(key, content) or (found := sha256_of(store.get(key))) == expected:
        return ""
    return found


def _completed_by_another(store: ObjectStore, version: str, name: str, expected: str, found: str) -> Manifest:
    prefix, deadline = release_prefix(version), time.monotonic() + OTHERS_SECONDS
    while not store.exists(prefix + MANIFEST):
        if time.monotonic() > deadline:
            raise ReleaseError(
                f"{store.uri} holds another {prefix}{name}: expected SHA-256 {expected}, found {found}; "
                f"nobody completed the release with it",
                remedy=f"remove {store.uri}/{prefix} and do this again: without a manifest it is no release",
            )
        time.sleep(0.1)
    return load(store, version)


def copy(source: ObjectStore, target: ObjectStore, version: str) -> Manifest:
    """Copy a release from store to store as it is, each file checked, the manifest last. Returns the manifest.

    Raises:
        ReleaseError: the release is missing in `source`, incomplete, or a file's digest differs; or `target` holds
            another file in its place, and nobody completes the release with that one.
    """
    prefix = release_prefix(version)
    if not target.exists(prefix + MANIFEST):
        for name, sha in load(source, version)["files"].items():
            try:
                content = source.get(prefix + name, sha256=sha)
            except (ObjectMissing, DigestMismatch) as exc:
                raise ReleaseError(f"release {version}: {exc}", remedy=f"digits verify {version}") from exc
            if found := _another(target, prefix + name, content, sha):
                return _completed_by_another(target, version, name, sha, found)
        target.create(prefix + MANIFEST, source.get(prefix + MANIFEST))
    return load(target, version)


def release_prefix(version: str) -> str:
    """The folder of a release in the store, ending in '/'."""
    return f"{MODELS}{version}/"


def release_uri(store: ObjectStore, version: str) -> str:
    """The address of a release, ending in '/': KServe's initializer would fetch version 10 with version 1 otherwise."""
    return f"{store.uri.rstrip('/')}/{release_prefix(version)}"


def load(store: ObjectStore, version: str) -> Manifest:
    """The manifest of a release. Raises ReleaseError where there is none or it is damaged."""
    try:
        manifest: Manifest = json.loads(store.get(release_prefix(version) + MANIFEST))
        if manifest["version"] != version or version_from_digest(manifest["digest"]) != version:
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


def find(store: ObjectStore, begins: str) -> str:
    """The version that `begins` so. Raises ReleaseError where there is none, or more than one."""
    versions = {key.removeprefix(MODELS).split("/")[0] for key in store.keys(MODELS)}
    found = sorted(version for version in versions if begins and version.startswith(begins))
    if begins not in found and len(found) != 1:
        what = f"{', '.join(found)} begin with" if found else "no release begins with"
        raise ReleaseError(f"{what} {begins!r} in {store.uri}", remedy="digits releases")
    return begins if begins in found else found[0]


def listed(store: ObjectStore) -> tuple[list[Manifest], dict[str, str]]:
    """(what `versions` gives, {version: why} of the releases whose manifests are damaged)."""
    intact, refused = [], {}
    for key in store.keys(MODELS):
        version = key.removeprefix(MODELS).removesuffix(f"/{MANIFEST}")
        if key == release_prefix(version) + MANIFEST and "/" not in version:
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
                store.download(release_prefix(version) + name, folder / _safe(name), sha256=sha)
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
        raise ReleaseError(f"the manifest in {folder} is damaged: {exc}", remedy=ANEW) from exc
    whole = folder.resolve()
    for name, expected in files.items():
        path = folder / _safe(name)
        try:
            if path.resolve() != whole / name:
                raise ReleaseError(f"{path} is a link, or in one; a release holds plain files", remedy=ANEW)
            found = sha256_of(path) if path.is_file() else ""
        except (OSError, ValueError) as exc:
            raise ReleaseError(f"{path} cannot be read: {exc}", remedy="allow this user to read it") from exc
        if found and found != expected:
            raise ReleaseError(f"{path} is damaged: expected SHA-256 {expected}, found {found}", remedy=ANEW)
        if not found and name == "model.onnx":
            raise ReleaseError(f"{path} is missing", remedy=ANEW)
    return manifest


def _safe(name: str) -> str:
    if name.startswith("/") or ".." in name.split("/") or "\\" in name:
        raise ReleaseError(f"the manifest names a file outside its release: {name!r}")
    return name

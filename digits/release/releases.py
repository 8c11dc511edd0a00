"""Releases: immutable and complete, with a digest of each file.

    models/TASK/<version>/      saved_model/ model.onnx model.keras architecture.json, and written last: manifest.json
                                then ATTACHED, which describe it, and the SIGNATURE of all files if there is a key

A version is the start of the release's digest. The digest covers weights, data, code and parameters, but neither the
time nor the run, so the same content always has the same version.
`digits.release.ledger` records which release is the champion.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from digits.errors import (
    DigestMismatch,
    ObjectMissing,
    ObjectRefused,
    ReleaseError,
    StoreError,
    UsageError,
    mask_address,
)
from digits.evaluation.threshold import NONE_SURE
from digits.files import canonical_json, parse_json, real_path, sha256_of, write_whole
from digits.release import signatures
from digits.store import ObjectStore
from digits.tasks import task as tasks

MANIFEST = "manifest.json"
SIGNATURE = "model.sig"
PROVENANCE, BOM, CARD = ATTACHED = ("provenance.json", "bom.cdx.json", "model-card.md")
IDENTITY = ("weights", "data", "code", "parameters")  # what a release's digest covers
COPY_AGAIN = "copy the release's whole folder from the store again"
# A run cannot repeat a training with corrections or code that are no longer the same; then it makes another release.
AGAIN = "digits run with the options that made it restores it, or makes another if corrections or digits changed since"
RESTORE = f"{AGAIN}; or digits promote another: digits releases lists them"

Manifest = dict[str, Any]


def identity(*, weights: str, data: dict[str, Any], code: str, parameters: dict[str, Any]) -> str:
    """Return a release's digest, the hex SHA-256 over the arguments."""
    return sha256_of(canonical_json({"weights": weights, "data": data, "code": code, "parameters": parameters}))


def version_from_digest(digest: str) -> str:
    """Return a release's version: twelve hex digits. As all have this length, none is a prefix of another."""
    return digest[:12]


def models_prefix(store: ObjectStore) -> str:
    """Return the folder of all releases of the store's task, ending in '/'."""
    return f"models/{store.task}/"


def release_prefix(store: ObjectStore, version: str) -> str:
    """Return the folder of a release in the store, ending in '/'."""
    return f"{models_prefix(store)}{version}/"


def release_uri(store: ObjectStore, version: str) -> str:
    """Return a release's address. It ends in '/', because KServe's initializer downloads all keys with that prefix."""
    return f"{store.uri.rstrip('/')}/{release_prefix(store, version)}"


def task_of(manifest: Manifest) -> tasks.Task:
    """Return the task that a release is for. Raises ReleaseError if its manifest names none."""
    try:
        text = manifest["task"]
        if not text.startswith("{"):  # `tasks.find` would take it for a name or a file
            raise ValueError("expected the text of a task")
        return tasks.find(text)
    except (UsageError, KeyError, AttributeError, ValueError) as exc:
        raise ReleaseError(
            f"release {manifest.get('version')} has no usable task: {exc!r}",
            remedy="promote or serve another release: digits releases",
        ) from exc


def load(store: ObjectStore, version: str) -> Manifest:
    """Return the manifest of a release.

    Raises:
        ReleaseError: the manifest is missing, damaged, or not signed by a key that the store's readers trust.
    """
    return _load(store, version)[0]


def _load(store: ObjectStore, version: str) -> tuple[Manifest, bytes, dict[str, str]]:
    """Return the manifest of a release, its text, and the signed digests ({} if no signature is needed)."""
    try:
        raw = store.get(release_prefix(store, version) + MANIFEST)
        manifest: Manifest = parse_json(raw)
        if manifest["version"] != version or version_from_digest(manifest["digest"]) != version:
            raise ValueError("it is for another version")
        if (task := task_of(manifest).name) != store.task:  # a signed one that was copied to another task's folder
            raise ValueError(f"it is for the task {task}")
        _check_fields(manifest)
    except ObjectMissing as exc:
        raise ReleaseError(f"no release {version!r} in {store.uri}", remedy=RESTORE) from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ReleaseError(
            f"the manifest of release {version} is damaged in {store.uri}: {exc}", remedy=RESTORE
        ) from exc
    if not store.trust.keys:
        return manifest, raw, {}
    keys = signatures.read_keys(store.trust.keys)
    try:
        bundle = store.get(release_prefix(store, version) + SIGNATURE)
    except ObjectMissing:
        raise signatures.missing(f"release {version}", keys) from None
    signed, _ = signatures.read_digests(bundle, keys, f"release {version}")
    _check_signed(signed, manifest, raw)
    return manifest, raw, signed


def _check_fields(manifest: Manifest) -> None:
    """Check what commands print and the endpoint reports. Raises ValueError, KeyError, TypeError or AttributeError."""
    data = manifest["data"]
    texts = [manifest[name] for name in ("version", "digest", "created", "mlflow_run")]
    for text in (*texts, data["dataset"], data["source"], manifest["files"]["model.onnx"]):
        if not (isinstance(text, str) and text.isprintable()):
            raise ValueError(f"expected a printable text, got {text!r}")
    for name, digest in manifest["files"].items():  # an empty one would not be compared
        if not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
            raise ValueError(f"expected the SHA-256 of {name}, got {digest!r}")
    threshold = manifest.get("calibration", {}).get("threshold")
    for number in (manifest["metrics"]["accuracy"], 0 if threshold is None else threshold):
        if type(number) not in {int, float} or not 0 <= number <= NONE_SURE:
            raise ValueError(f"expected a share from 0 to 1, got {number!r}")


def _check_signed(signed: dict[str, str], manifest: Manifest, raw: bytes) -> None:
    """Raise ReleaseError unless a signature's digests are those of this manifest and of what it lists."""
    for name, digest in {**manifest["files"], MANIFEST: sha256_of(raw)}.items():
        if signed.get(name) != digest:
            raise ReleaseError(
                f"the signature of release {manifest['version']} is for another {name}: "
                f"expected SHA-256 {digest}, found {signed.get(name)}",
                remedy=RESTORE,
            )


def load_whole(store: ObjectStore, version: str) -> Manifest:
    """Return the manifest of a release after a check of each file's digest.

    The digests in a signature are compared also if no keys are trusted.

    Raises:
        ReleaseError: the release is missing or damaged.
    """
    manifest, raw, signed = _load(store, version)
    if not signed:
        with contextlib.suppress(ObjectMissing):
            bundle = store.get(release_prefix(store, version) + SIGNATURE)
            signed = signatures.listed_digests(bundle, f"release {version}")
            _check_signed(signed, manifest, raw)
    for name, digest in (manifest["files"] | signed).items():
        try:
            store.get(release_prefix(store, version) + name, sha256=digest)
        except StoreError as exc:
            raise ReleaseError(f"release {version}: {exc}", remedy=RESTORE) from exc
    return manifest


def check_nothing_else(store: ObjectStore, manifest: Manifest) -> None:
    """Raise ReleaseError if a release's folder has a file that is not of the release. KServe would download it too."""
    prefix = release_prefix(store, manifest["version"])
    known = {prefix + name for name in (*manifest["files"], MANIFEST, SIGNATURE, *ATTACHED)}
    if foreign := [key for key in store.keys(prefix) if key not in known]:
        raise ReleaseError(
            f"release {manifest['version']}: {len(foreign)} files are not in its manifest, such as {foreign[0]}",
            remedy=f"move them out of {store.uri}/{prefix}",
        )


def list_releases(store: ObjectStore) -> tuple[list[Manifest], dict[str, str]]:
    """Return the manifests of all complete releases, oldest first, and {version: reason} of the damaged ones."""
    manifests, damaged = [], {}
    folder = models_prefix(store)
    for key in store.keys(folder):
        version = key.removeprefix(folder).removesuffix(f"/{MANIFEST}")
        if key == release_prefix(store, version) + MANIFEST and "/" not in version:
            try:
                manifests.append(load(store, version))
            except (ReleaseError, ObjectRefused) as exc:
                damaged[version] = exc.message
    return sorted(manifests, key=lambda m: (m["created"], m["version"])), damaged


def find(store: ObjectStore, start: str) -> str:
    """Return the version that starts with `start`. Raises ReleaseError unless there is exactly one."""
    folder = models_prefix(store)
    versions = {key.removeprefix(folder).split("/")[0] for key in store.keys(folder)}
    matches = sorted(version for version in versions if start and version.startswith(start))
    if start in matches:
        return start
    if len(matches) != 1:
        problem = f"{', '.join(matches)} begin with" if matches else "no release begins with"
        raise ReleaseError(f"{problem} {mask_address(start)!r} in {store.uri}", remedy="digits releases")
    return matches[0]


def download(store: ObjectStore, version: str, folder: Path, *, only: str = "") -> Manifest:
    """Download the files of a release whose path starts with `only` to `folder`, and the manifest; check each digest.

    The signature is downloaded if there is one, and with it the files of ATTACHED that it covers, if one is needed.

    Raises:
        ReleaseError: the release is missing, damaged, or not signed by a key that the store's readers trust.
    """
    manifest, raw, signed = _load(store, version)
    files = {name: digest for name, digest in manifest["files"].items() if name.startswith(only)}
    files |= {name: signed[name] for name in ATTACHED if name in signed}
    for name, digest in files.items():
        try:
            store.download(release_prefix(store, version) + name, folder / _check_name(name), sha256=digest)
        except (ObjectMissing, DigestMismatch) as exc:
            raise ReleaseError(f"release {version}: {exc}", remedy=f"digits verify {version}") from exc
    write_whole(folder / MANIFEST, raw)
    with contextlib.suppress(ObjectMissing):
        store.download(release_prefix(store, version) + SIGNATURE, folder / SIGNATURE)
    return manifest


def check_folder(folder: Path, trusted_keys: str = "") -> Manifest:
    """Check the files of a release in a local folder, and return the manifest.

    `model.onnx` and the signed ones of ATTACHED must be there; other files may be missing. `trusted_keys` is as
    DIGITS_TRUSTED_KEYS.

    Raises:
        ReleaseError: there is no manifest or model, a file is a link, a digest differs, or no trusted key signed it.
    """
    required = {"model.onnx"}
    try:
        if (folder / MANIFEST).exists() and not (folder / MANIFEST).is_file():  # reading a named pipe would block
            raise ValueError("expected a file")
        raw = (folder / MANIFEST).read_bytes()
        manifest: Manifest = parse_json(raw)
        _check_fields(manifest)
        files = dict(manifest["files"])
    except FileNotFoundError:
        raise ReleaseError(f"{folder} holds no {MANIFEST}, so it is not a release", remedy="digits releases") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ReleaseError(f"the manifest in {folder} is damaged: {exc}", remedy=COPY_AGAIN) from exc
    if trusted_keys:
        keys = signatures.read_keys(trusted_keys)
        if not (bundle := read_signature(folder)):
            raise signatures.missing(f"the release in {folder}", keys)
        signed, _ = signatures.read_digests(bundle.encode(), keys, f"release {manifest['version']}")
        _check_signed(signed, manifest, raw)
        files |= signed
        required |= signed.keys() & {*ATTACHED, MANIFEST}
    root = real_path(folder)
    for name, expected in files.items():
        path = folder / _check_name(name)
        try:
            if real_path(path) != root / name:
                raise ReleaseError(f"{path} is a link or below one; a release has plain files only", remedy=COPY_AGAIN)
            actual = sha256_of(path) if path.is_file() else ""
        except (OSError, ValueError) as exc:
            raise ReleaseError(f"{path} cannot be read: {exc}", remedy="allow this user to read it") from exc
        if actual and actual != expected:
            raise ReleaseError(f"{path} is damaged: expected SHA-256 {expected}, found {actual}", remedy=COPY_AGAIN)
        if not actual and name in required:
            raise ReleaseError(f"{path} is missing", remedy=COPY_AGAIN)
    return manifest


def read_signature(folder: Path) -> str:
    """Return the text of a release's signature in a folder, '' if there is none. Raises ReleaseError."""
    path = folder / SIGNATURE
    try:
        return path.read_text() if path.is_file() else ""
    except (OSError, ValueError) as exc:
        raise ReleaseError(f"{path} cannot be read: {exc}", remedy=COPY_AGAIN) from exc


def _check_name(name: str) -> str:
    if name.startswith("/") or ".." in name.split("/") or "\\" in name:
        raise ReleaseError(f"the manifest names a file outside its release: {name!r}")
    return name

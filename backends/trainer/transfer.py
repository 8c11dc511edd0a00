"""Folders in the object store, which is not trusted: who reads one knows the digest of its list of files."""

from __future__ import annotations

import os
from pathlib import Path

from digits.files import canonical_json, parse_json, sha256_of
from digits.store import ObjectStore


def put_folder(store: ObjectStore, key: str, folder: Path) -> str:
    """Write the files below `folder` to `key`/…, and then their list to `key`.json. Links are followed.

    Returns:
        The SHA-256 of the list, which has each file's.
    """
    files = {}
    for place, _, names in os.walk(folder, followlinks=True):
        for path in (Path(place, name) for name in names):
            name = path.relative_to(folder).as_posix()
            files[name] = sha256_of(path)
            store.put(f"{key}/{name}", path)
    store.put(f"{key}.json", canonical_json(files))
    return sha256_of(canonical_json(files))


def get_folder(store: ObjectStore, key: str, digest: str, folder: Path) -> None:
    """Write what `put_folder` stored under `key` to `folder`.

    Raises:
        ObjectMissing: it is not there, or not whole.
        DigestMismatch: it is not what had the digest.
    """
    for name, sha256 in parse_json(store.get(f"{key}.json", sha256=digest)).items():
        store.download(f"{key}/{name}", folder / name, sha256=sha256)

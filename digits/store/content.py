"""What both kinds of store check: that a key is plain, and that content is what its digest says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from digits.errors import DigestMismatch, StoreError
from digits.files import sha256_of, whole_file

BLOCK = 1 << 20


def checked_key(key: str, *, folder: bool = False) -> str:
    """`key` if it is a plain relative path, else StoreError: no '..', no empty part, no control character."""
    body = key[:-1] if folder and key.endswith("/") else key
    if folder and key == "":
        return key
    if folder and not key.endswith("/"):
        # Without the slash, a listing of `v1` would also return `v10` (as KServe's initializer does).
        raise StoreError(f"expected a folder ending in '/', got {key!r}")
    parts = body.split("/")
    if any(part in {"", ".", ".."} for part in parts) or "\\" in key or not key.isprintable():
        raise StoreError(f"expected a plain relative key such as models/a/manifest.json, got {key!r}")
    return key


def save(blocks: Iterator[bytes], path: Path, key: str, expected: str) -> None:
    """Write `blocks` to `path`, whole, if their SHA-256 is the expected one (or none is)."""
    found = hashlib.sha256()
    with whole_file(path) as file:
        for block in blocks:
            found.update(block)
            file.write(block)
        _check(found.hexdigest(), key, expected)


def checked(content: bytes, key: str, expected: str) -> bytes:
    """`content` if its SHA-256 is the expected one (or none is)."""
    _check(sha256_of(content) if expected else "", key, expected)
    return content


def _check(found: str, key: str, expected: str) -> None:
    if expected and found != expected:
        raise DigestMismatch(f"{key} is damaged: expected SHA-256 {expected}, found {found}")

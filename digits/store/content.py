"""Checks that all kinds of store share: keys are plain paths, and content has the expected digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from digits.errors import DigestMismatch, ObjectRefused, StoreError, is_printable
from digits.files import sha256_of, whole_file

BLOCK = 1 << 20  # bytes per read or write


def check_key(key: str) -> str:
    """Return `key`. Raises ObjectRefused unless it is a plain relative path: no '..', empty part, control character."""
    parts = key.split("/")
    if any(part in {"", ".", ".."} for part in parts) or "\\" in key or not is_printable(key):
        raise ObjectRefused(f"expected a plain relative key such as models/a/manifest.json, got {key!r}")
    return key


def check_prefix(prefix: str) -> str:
    """Return `prefix`. Raises StoreError unless it is '' or a plain relative path that ends in '/'."""
    if prefix and not prefix.endswith("/"):
        # A listing of the prefix `v1`, without the slash, would include `v10` (as in KServe's initializer).
        raise StoreError(f"expected a folder ending in '/', got {prefix!r}")
    if prefix:
        check_key(prefix[:-1])
    return prefix


def check_digest(content: bytes, key: str, expected: str) -> bytes:
    """Return `content`. Raises DigestMismatch if `expected` is not '' and differs from its SHA-256."""
    if expected:
        _compare(sha256_of(content), key, expected)
    return content


def save(blocks: Iterator[bytes], path: Path, key: str, expected: str) -> None:
    """Write `blocks` to the file `path`. Raises DigestMismatch as `check_digest`, and then leaves no file."""
    digest = hashlib.sha256()
    with whole_file(path) as file:
        for block in blocks:
            digest.update(block)
            file.write(block)
        if expected:
            _compare(digest.hexdigest(), key, expected)


def _compare(actual: str, key: str, expected: str) -> None:
    if actual != expected:
        raise DigestMismatch(f"{key} is damaged: expected SHA-256 {expected}, found {actual}")

"""Objects addressed by URI: a folder (`file://`) or a bucket of an S3 server (`s3://`), behind one interface.

Which kinds there are says `digits.store.schemes`.

Keys are relative, `/`-separated paths. An object appears whole or not at all; `create` succeeds for one
writer only, which is what promotions are built on.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from digits.errors import UsageError
from digits.store.schemes import FORMS, scheme_of

if TYPE_CHECKING:
    from digits.settings import Settings


class ObjectStore(Protocol):
    """What the product needs of an object store."""

    uri: str

    def put(self, key: str, content: bytes | Path) -> None:
        """Write an object, replacing one under the same key."""

    def create(self, key: str, content: bytes) -> bool:
        """Write an object only if there is none under that key. Returns whether this call wrote it."""

    def get(self, key: str, *, sha256: str = "") -> bytes:
        """An object's content. Raises ObjectMissing; DigestMismatch if `sha256` is given and differs."""

    def download(self, key: str, path: Path, *, sha256: str = "") -> None:
        """Write an object's content to `path`, whole. Raises as `get`; leaves nothing behind on failure."""

    def keys(self, prefix: str = "") -> list[str]:
        """The sorted keys inside the folder `prefix` ('' or ending in '/')."""

    def exists(self, key: str) -> bool:
        """Whether there is an object under that key."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""


def open_store(settings: Settings, uri: str = "") -> ObjectStore:
    """The store behind `uri` (default: the settings' own). S3 buckets are made when first written to.

    Raises:
        UsageError: the URI or the S3 settings are incomplete.
    """
    uri = uri or settings.store
    scheme = scheme_of(uri)
    if scheme is None:
        raise UsageError(f"expected a store {FORMS}, got {uri!r}")
    given = settings.environ()
    for name in scheme.needs:
        if not given[name]:
            raise UsageError(f"the store {uri} needs {name}, which is not set", remedy=f"export {name}=…")
    module, _, function = scheme.opener.partition(":")
    try:
        opened: ObjectStore = getattr(importlib.import_module(module), function)(settings, uri)
    except ValueError as exc:
        raise UsageError(
            f"the store {uri} cannot be opened: {exc}",
            remedy=f"check DIGITS_STORE, {', '.join(scheme.variables)}".rstrip(", "),
        ) from None
    return opened

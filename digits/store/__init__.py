"""Object stores behind one interface, addressed by URI: a folder (`file://`) or a bucket of an S3 server (`s3://`).

A kind of store is a module of this package that is named after the scheme of its URIs and defines `SCHEME`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from digits.errors import UsageError, mask_address
from digits.remedies import remedy

if TYPE_CHECKING:
    from digits.settings import Settings

SEEN = "seen/ledger.json"  # in DIGITS_HOME: the newest entry seen of each store's ledger


@dataclass(frozen=True)
class Trust:
    """The keys for the releases and the ledger of a store; see `digits.release.signatures`.

    Attributes:
        keys: file or folder of public keys; only what one of them signed is accepted. '' accepts everything.
        signing_key: file of the private key that signs what is written; '' signs nothing.
        seen: file that records the newest ledger entry that was seen; None for this process's memory alone.
    """

    keys: str = ""
    signing_key: str = ""
    seen: Path | None = None


class ObjectStore(Protocol):
    """A store of objects under relative, `/`-separated keys.

    Readers see an object whole or not at all. Exactly one of several concurrent `create` calls for a key succeeds;
    promotions depend on this.

    >>> store = open_store(settings)
    >>> store.create("notes/1.txt", b"first"), store.create("notes/1.txt", b"second")
    (True, False)
    >>> store.get("notes/1.txt")
    b'first'
    >>> store.keys("notes/")
    ['notes/1.txt']

    Raises:
        StoreUnreachable: the store did not answer (any method).
        StoreError: the store refused the request, or the key is not a plain relative path (any method).
    """

    uri: str
    trust: Trust
    task: str  # the name of the task whose releases, ledger and corrections are used

    def put(self, key: str, content: bytes | Path) -> None:
        """Write an object, given as bytes or as a file; replace an earlier one under that key."""

    def create(self, key: str, content: bytes) -> bool:
        """Write an object if there is none under that key. Return whether this call wrote it."""

    def get(self, key: str, *, sha256: str = "") -> bytes:
        """Return an object's content.

        Raises:
            ObjectMissing: there is no such object.
            DigestMismatch: `sha256` is given and differs.
        """

    def download(self, key: str, path: Path, *, sha256: str = "") -> None:
        """Write an object's content to the file `path`. Raises as `get`, and then leaves no file."""

    def keys(self, prefix: str = "", *, min_age: float | None = None) -> list[str]:
        """Return the sorted keys in the folder `prefix` and its subfolders; '' lists all, others must end in '/'.

        With `min_age` only those of objects that were written at least that many seconds ago.
        """

    def exists(self, key: str) -> bool:
        """Return whether there is an object under that key."""

    def delete(self, key: str) -> None:
        """Delete an object. Do nothing if there is none."""


@dataclass(frozen=True)
class Scheme:
    """A kind of object store. The variables that it reads are settings' environment variables."""

    form: str  # an example of an address, for messages
    open: Callable[[Settings, str], ObjectStore]  # raises ValueError or UsageError if the address is not valid
    remote: bool = True  # whether an address means the same place from a container, a pod and another machine
    required: tuple[str, ...] = ()  # variables that it needs
    optional: tuple[str, ...] = ()  # variables that it reads if they are set
    # {key in the Kubernetes Secret: variable}, for the secret ones; the other variables come from a ConfigMap.
    secrets: Mapping[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> tuple[str, ...]:
        """Return the required and the optional variables."""
        return (*self.required, *self.optional)


def schemes() -> dict[str, Scheme]:
    """Return all kinds of store by the scheme of their addresses. This imports each store's module."""
    modules = {info.name: importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)}
    return {name: module.SCHEME for name, module in modules.items() if hasattr(module, "SCHEME")}


def find_scheme(uri: str) -> Scheme | None:
    """Return the kind of store of an address, None for another address. This imports that store's module only."""
    try:
        name = urlsplit(uri).scheme
    except ValueError:
        return None
    if name not in {info.name for info in pkgutil.iter_modules(__path__)}:
        return None
    scheme: Scheme | None = getattr(importlib.import_module(f"{__name__}.{name}"), "SCHEME", None)
    return scheme


def get_scheme(uri: str) -> Scheme:
    """Return the kind of store of an address. Raises UsageError if it is not the address of a store."""
    scheme = find_scheme(uri)
    if scheme is None:
        shown, forms = mask_address(uri), " or ".join(scheme.form for scheme in schemes().values())
        raise UsageError(f"expected the address of a store, {forms}, got {shown!r}", remedy="correct DIGITS_STORE")
    return scheme


def open_store(settings: Settings, uri: str = "") -> ObjectStore:
    """Open the store at `uri`, by default that of the settings. The first write creates an S3 bucket if needed.

    Raises:
        UsageError: the address is not valid, or a setting that the store needs is not set.
    """
    uri = uri or settings.store
    scheme = get_scheme(uri)
    environ = settings.environ()
    for name in scheme.required:
        if not environ[name]:
            raise UsageError(
                f"the store {mask_address(uri)} needs {name}, which is not set",
                remedy=remedy("variable not set", settings.backend, name=name),
            )
    try:
        store = scheme.open(settings, uri)
    except ValueError as exc:
        raise UsageError(
            f"the store {mask_address(uri)} cannot be opened: {exc}",
            remedy=f"check {', '.join(('DIGITS_STORE', *scheme.variables))}",
        ) from None
    store.trust = Trust(settings.trusted_keys, settings.signing_key, settings.home / SEEN)
    store.task = settings.declaration.name
    return store

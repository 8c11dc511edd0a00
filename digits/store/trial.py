"""A trial of an object store: what a run does with it, with one object that is removed again."""

from __future__ import annotations

import contextlib

from digits.errors import DigitsError, StoreError, StoreUnreachable
from digits.files import sha256_of
from digits.findings import Finding
from digits.store import ObjectStore, get_scheme

KEY = "acceptance/trial"  # always the same, so that at most one remains where deletion is refused
CONTENT = bytes(4 << 20)  # more than a small model, so that a store that is almost full refuses it


def check_writing(store: ObjectStore) -> None:
    """Write an empty object to a remote store and remove it, because keys may allow to read alone.

    The keys of a Kubeflow profile may not delete; the object then stays. A local folder is checked by its permissions.

    Raises:
        StoreError: the store refused the object.
        StoreUnreachable: the store did not answer.
    """
    if get_scheme(store.uri).remote:
        store.put(KEY, b"")
        with contextlib.suppress(DigitsError):
            store.delete(KEY)


def try_store(store: ObjectStore) -> Finding:
    """Write, list, read and delete one object, and check that it is gone.

    The keys of a Kubeflow profile may not delete. The object is then emptied and stays, and `ok` is None.

    Raises:
        StoreError: the store refused something else, or the object is listed after its deletion.
        StoreUnreachable: the store did not answer.
    """
    folder = f"{KEY.rpartition('/')[0]}/"
    try:
        store.put(KEY, CONTENT)
        if KEY not in store.keys(folder):
            raise StoreError(f"{store.uri}: {KEY} was written and is not listed", remedy="check the store's log")
        store.get(KEY, sha256=sha256_of(CONTENT))
    except BaseException:
        with contextlib.suppress(DigitsError):
            store.delete(KEY)
        raise
    done = f"{store.uri}: an object of {len(CONTENT) >> 20} MiB was written, listed and read"
    try:
        store.delete(KEY)
    except StoreUnreachable:
        raise
    except StoreError as exc:
        store.put(KEY, b"")
        return Finding("store", None, f"{done}; {KEY} stays, empty, because it may not be deleted: {exc.message}")
    if KEY in store.keys(folder):
        raise StoreError(f"{store.uri}: {KEY} is still listed after its deletion", remedy=f"delete {store.uri}/{KEY}")
    return Finding("store", True, f"{done}; it was deleted and is not listed any more")

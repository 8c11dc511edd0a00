"""The champion in TensorFlow Serving's layout, for KServe's stock TensorFlow runtime: `models/detect-TASK/<n>/`."""

from __future__ import annotations

from collections.abc import Mapping

from digits.errors import DigestMismatch, ObjectMissing, ReleaseError
from digits.release import ledger, releases
from digits.store import ObjectStore

MAX_VERSIONS = 2


def serving_prefix(store: ObjectStore) -> str:
    """Return the folder of the layout for the store's task, ending in '/'."""
    return f"models/detect-{store.task}/"


def write_serving_layout(store: ObjectStore) -> str:
    """Copy the champion's SavedModel to `models/detect-TASK/<n>/`, and return this prefix. n is its ledger number.

    TensorFlow Serving serves the highest number, so the runtime follows the champion. Only MAX_VERSIONS are kept, and
    none with a higher number, which would be from a ledger that was lost. A damaged copy is written again.
    """
    # Before the ledger is read, so that each entry that a copy belongs to is seen.
    written = store.keys(serving_prefix(store))
    champion = ledger.newest(store)
    if champion is None:
        raise ReleaseError("there is no champion yet", remedy="digits run")
    files = releases.load(store, champion.version)["files"]
    # The graph is copied last, because TensorFlow Serving does not load a version without a graph.
    for key, name in sorted(damaged_copies(store, champion, files).items(), key=lambda item: item[0].endswith(".pb")):
        store.put(key, store.get(releases.release_prefix(store, champion.version) + name, sha256=files[name]))
    for key in written:
        number = key.split("/")[2]
        if number.isdigit() and not champion.n - MAX_VERSIONS < int(number) <= champion.n:
            store.delete(key)
    return f"{serving_prefix(store)}{champion.n}/"


def damaged_copies(store: ObjectStore, champion: ledger.Entry, files: Mapping[str, str]) -> dict[str, str]:
    """Return {key of the copy: name in the release} of the champion's copies that are missing or damaged.

    `files` are the digests in the release's manifest.
    """
    damaged = {}
    for name, digest in files.items():
        if name.startswith("saved_model/"):
            key = f"{serving_prefix(store)}{champion.n}/{name.removeprefix('saved_model/')}"
            try:
                store.get(key, sha256=digest)
            except (ObjectMissing, DigestMismatch):
                damaged[key] = name
    return damaged
